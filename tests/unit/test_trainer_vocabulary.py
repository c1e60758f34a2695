"""Whole distributions in the trainer: whose hidden states, whose gradient, who is refused."""

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from rlkd import GKD, GRPO, MiniLLM, OPDLoss, Trainer
from rlkd.errors import ConfigError
from rlkd.objectives.chunked import Head
from rlkd.teacher.base import TeacherError
from rlkd.teacher.local import LocalTeacher
from tests import accelerate_launch
from tests.parity.test_trl import arguments, reward
from tests.unit.test_trainer import Echo, caught_batches


def make(student, prompts, tmp_path, algorithm, teacher, more=None, **trainer):
    return Trainer(
        student, reward, arguments(tmp_path, **(more or {})), prompts,
        algorithm=algorithm, teacher=teacher, teacher_check="off", **trainer,
    )  # fmt: skip


def plain_loss(student, teacher, inputs, temperature):
    """OPDLoss(reduction='bnpo') by autograd over whole logits of two ordinary forward passes."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    tokens = inputs["completion_ids"].shape[1]
    logq = student(input_ids=ids, attention_mask=mask).logits[:, -tokens - 1 : -1]
    with torch.no_grad():
        logp = teacher(input_ids=ids, attention_mask=mask).logits[:, -tokens - 1 : -1]
    logq, logp = (logq / temperature).log_softmax(-1), (logp / temperature).log_softmax(-1)
    kl_BT = (logq.exp() * (logq - logp)).sum(-1)
    counted = inputs["completion_mask"].bool()
    return kl_BT[counted].sum() / counted.sum()


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


KINDS = {
    "tied": {},
    "untied": {},
    "checkpointing": {"gradient_checkpointing": True},
    "temperature": {"temperature": 0.6},
}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_equal_those_of_whole_logits(kind, student, teacher, prompts, tmp_path):
    """Also with rows of unequal length, padded on both sides, and shared embeddings."""
    model = AutoModelForCausalLM.from_pretrained(student)
    if kind == "untied":
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.1)
    more = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 16} | KINDS[kind]
    algorithm = OPDLoss(reduction="bnpo")
    trainer = make(model, prompts, tmp_path, algorithm, teacher, more)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [dict(prompts[i // 4], prompt="1+" * (i // 4) + "2=") for i in range(16)]
    inputs = trainer._generate_and_score_completions(rows)
    lengths = inputs["completion_mask"].sum(-1)
    assert lengths.min() < lengths.max()
    assert inputs["prompt_mask"].sum(-1).min() < inputs["prompt_mask"].shape[1]

    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    found = gradients(trainer.model)
    trainer.model.zero_grad()
    other = AutoModelForCausalLM.from_pretrained(teacher).eval()
    want = plain_loss(trainer.model, other, inputs, trainer.temperature)
    want.backward()
    torch.testing.assert_close(loss, want, rtol=1e-4, atol=1e-6)
    wanted = gradients(trainer.model)
    assert found.keys() == wanted.keys()
    assert ("lm_head.weight" in wanted) is (kind == "untied")
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)
    assert max(gradient.abs().max() for gradient in wanted.values()) > 1e-2


def test_under_lora_adapters_alone_get_gradients(student, teacher, prompts, tmp_path):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    more = {"max_steps": 6, "learning_rate": 3e-2}
    trainer = make(student, prompts, tmp_path, GKD(), teacher, more, peft_config=lora)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    changed = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("lora_" in name for name in changed)


@pytest.mark.parametrize("algorithm", [GKD(), OPDLoss(), OPDLoss(top_k=3), MiniLLM()], ids=repr)
def test_training_nears_the_teacher(algorithm, student, teacher, prompts, tmp_path):
    more = {"max_steps": 16, "learning_rate": 5e-3}
    trainer = make(student, prompts, tmp_path, algorithm, teacher, more)
    trainer.train()
    seen = [r["teacher/divergence"] for r in trainer.state.log_history if "loss" in r]
    assert len(seen) == 16
    assert sum(seen[-4:]) < 0.8 * sum(seen[:4])


def test_one_pass_of_each_model_gives_all(student, teacher, prompts, tmp_path):
    scorer = LocalTeacher.from_pretrained(teacher)
    trainer = make(student, prompts, tmp_path, GKD(), scorer)
    scorer._verified = True  # its one-off check of the head is a pass of its own
    passes = []
    scorer._backbone.register_forward_hook(lambda *_: passes.append("teacher"))
    seen = caught_batches(trainer)
    backbone = trainer.model.base_model
    forward = backbone.forward

    def counted(*args, **kwargs):
        if torch.is_grad_enabled():  # not the sampling
            passes.append("student")
        return forward(*args, **kwargs)

    backbone.forward = counted
    trainer.train()
    assert len(seen) == passes.count("student") == 4  # two steps of two micro-batches
    assert passes.count("teacher") == 2  # two batches of rollouts
    assert not backbone._forward_hooks


def test_others_keep_no_hidden_states(student, teacher, prompts, tmp_path):
    trainer = Trainer(student, reward, arguments(tmp_path), prompts, algorithm=GRPO(beta=0.0))
    seen = caught_batches(trainer)
    trainer.train()
    assert all(batch.distributions is None for batch in seen)


def test_a_teacher_of_sampled_tokens_only_is_refused(student, prompts, tmp_path):
    wanted = r"GKD compares .* echo \(Echo\) gives log-probabilities of sampled tokens only"
    with pytest.raises(TeacherError, match=wanted):
        make(student, prompts, tmp_path, GKD(), Echo())


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero2", "deepspeed_zero3"])
def test_a_head_in_parts_is_refused(name, student, teacher, prompts, tmp_path, monkeypatch):
    args = arguments(tmp_path)
    for variable, value in accelerate_launch.environment(name).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=r"GKD under (FSDP2|ZeRO-2|ZeRO-3): this cannot work"):
        Trainer("never loaded", reward, args, prompts, algorithm=GKD(), teacher=teacher)


def test_a_head_that_does_not_give_trls_log_probs_is_refused(
    student, teacher, prompts, tmp_path, monkeypatch
):
    trainer = make(student, prompts, tmp_path, GKD(), teacher)
    real = trainer._student_head

    def other(model):
        head = real(model)
        return Head(weight_VH=head.weight_VH, dtype=head.dtype, softcap=1.0)

    monkeypatch.setattr(trainer, "_student_head", other)
    with pytest.raises(RuntimeError, match="differ from TRL's by"):
        trainer.train()


def test_held_out_rows_are_measured_too(student, teacher, prompts, tmp_path):
    more = {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 8}
    trainer = make(
        student, prompts, tmp_path, GKD(), teacher, more, eval_dataset=prompts.select(range(4))
    )
    trainer.train()
    found = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert found
    assert all(row["eval_teacher/divergence"] > 0.0 for row in found)

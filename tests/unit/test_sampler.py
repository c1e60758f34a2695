"""The sampler against the trainer's model: what is logged of a mismatch, what the correction does
with it, and an engine that loses answers."""

import copy
import math

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer

from rlkd import GRPO, RLAD, LocalTeacher, Trainer
from rlkd.batch import TokenBatch
from rlkd.tracking import glossary
from rlkd.training.sampler import sampler_means
from tests.conftest import WORDS
from tests.parity.test_trl import arguments, reward


def by_vllm(args, mode="token_truncate", correction=True, high=3.0):
    """A trainer of these arguments that believes vLLM samples, and whose sampler is transformers;
    its log-probs are the model's own, each lowered by `shift`."""
    args = copy.copy(args)
    args.vllm_importance_sampling_mode = mode
    args.vllm_importance_sampling_correction = correction
    args.vllm_importance_sampling_clip_max = high
    return args


class Shifted(Trainer):
    """Samples with transformers and gives log-probs as vLLM does, off by `shift` nats a token."""

    shift = 0.0
    unknown = False

    def pretend(self):
        self.use_vllm = True
        return self

    def _generate_single_turn(self, prompt_ids, *how, **more):
        self.use_vllm = False
        answers, _ = super()._generate_single_turn(prompt_ids, *how, **more)
        self.use_vllm = True
        return answers, [self._logps(p, a) for p, a in zip(prompt_ids, answers, strict=True)]

    @torch.no_grad()
    def _logps(self, prompt, answer):
        logits = self.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].float()
        logp = (logits / self.temperature).log_softmax(-1)[len(prompt) - 1 : -1]
        chosen = logp.gather(-1, torch.tensor(answer).unsqueeze(-1)).squeeze(-1) - self.shift
        values = chosen.tolist()
        if self.unknown:  # TRL writes None for vLLM's NaN
            values[0] = None
        return values


def trained(student, prompts, tmp_path, *, shift=0.0, unknown=False, more=None, **settings):
    args = by_vllm(arguments(tmp_path, **{"temperature": 0.7, "max_steps": 1} | (more or {})),
                   **settings)  # fmt: skip
    trainer = Shifted(student, reward, args, prompts, algorithm=GRPO(beta=0.0)).pretend()
    trainer.shift, trainer.unknown = shift, unknown
    trainer.train()
    return trainer, trainer.state.log_history[0]


@pytest.mark.parametrize("shift", [0.0, 0.3, -0.5])
@pytest.mark.parametrize("correction", [True, False])
def test_a_shift_is_logged_as_what_it_is(shift, correction, student, prompts, tmp_path):
    """log π/μ is `shift` at every token: k3 is exp(s) − 1 − s."""
    _, logs = trained(student, prompts, tmp_path, shift=shift, correction=correction)
    want = math.exp(shift) - 1 - shift
    assert logs["sampling/kl"] == pytest.approx(want, abs=2e-6)
    assert logs["sampling/unscored"] == 0.0
    for name in logs:
        if name.startswith("sampling/"):
            assert glossary.explain(f"train/{name}") is not None, name
    if not correction:  # TRL compares only where it corrects
        assert "sampling/sampling_logp_difference/mean" not in logs
        return
    assert logs["sampling/sampling_logp_difference/mean"] == pytest.approx(abs(shift), abs=1e-5)
    assert logs["sampling/sampling_logp_difference/max"] == pytest.approx(abs(shift), abs=1e-5)
    ratio = pytest.approx(min(math.exp(shift), 3.0), rel=1e-5)
    assert logs["sampling/importance_sampling_ratio/mean"] == ratio
    assert logs["sampling/left_out"] == 0.0


def test_the_correction_weighs_the_update_as_trls_does(student, prompts, tmp_path):
    """A constant ratio per token scales the gradient by it, cut at its limit."""
    norms = {
        name: trained(student, prompts, tmp_path / name, **settings)[1]["grad_norm"]
        for name, settings in {
            "plain": {},
            "shifted": {"shift": 0.4},
            "cut": {"shift": 0.4, "high": 1.2},
            "masked": {"shift": 0.4, "high": 1.2, "mode": "token_mask"},
            "uncorrected": {"shift": 0.4, "correction": False},
        }.items()
    }
    assert norms["shifted"] == pytest.approx(math.exp(0.4) * norms["plain"], rel=1e-4)
    assert norms["cut"] == pytest.approx(1.2 * norms["plain"], rel=1e-4)
    assert norms["masked"] == 0.0
    assert norms["uncorrected"] == pytest.approx(norms["plain"], rel=1e-4)


def test_answers_that_the_correction_leaves_out_are_counted(student, prompts, tmp_path):
    """0.4 nats a token: answers of more than 2 tokens are beyond a ratio of exp(1)."""
    trainer, logs = trained(
        student, prompts, tmp_path, shift=0.4, mode="sequence_mask", high=math.exp(1.0)
    )
    lengths = [len(ids) for ids in trainer._sampled_ids[1]]
    want = sum(n for n in lengths if n > 2) / sum(lengths)
    assert want > 0.0
    assert logs["sampling/left_out"] == pytest.approx(want)


def test_answers_that_the_correction_weighs_next_to_nothing_are_left_out_too(
    student, prompts, tmp_path
):
    """Seen with a real vLLM whose weights were stale: nothing was masked, and nothing learnt."""
    _, logs = trained(student, prompts, tmp_path, shift=-5.0, mode="sequence_mask")
    assert logs["sampling/importance_sampling_ratio/max"] < 0.01
    assert logs["sampling/left_out"] == 1.0


def test_a_token_that_the_sampler_does_not_score_is_counted_and_not_guessed(
    student, prompts, tmp_path
):
    trainer, logs = trained(student, prompts, tmp_path, shift=0.3, unknown=True)
    lengths = [len(ids) for ids in trainer._sampled_ids[1]]
    assert logs["sampling/unscored"] == pytest.approx(len(lengths) / sum(lengths))
    assert logs["sampling/kl"] == pytest.approx(math.exp(0.3) - 1.3, abs=2e-6)


def test_later_updates_on_a_batch_say_nothing_of_the_sampler(student, prompts, tmp_path):
    """There the student has moved on: that is off-policy, not another sampler."""
    more = {"num_iterations": 2, "max_steps": 2, "gradient_accumulation_steps": 1}
    trainer, first = trained(student, prompts, tmp_path, shift=0.3, more=more)
    assert "sampling/kl" in first
    assert "sampling/kl" not in trainer.state.log_history[1]


def test_a_teacher_and_the_correction_go_together(student, teacher, prompts, tmp_path):
    args = by_vllm(arguments(tmp_path, max_steps=1), mode="sequence_truncate")
    trainer = Shifted(student, reward, args, prompts, algorithm=RLAD(), teacher_check="off",
                      teacher=LocalTeacher.from_pretrained(teacher)).pretend()  # fmt: skip
    trainer.train()
    logs = trainer.state.log_history[0]
    assert logs["sampling/kl"] == pytest.approx(0.0, abs=1e-6)
    assert logs["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-4)


def test_the_estimator_counts_the_students_own_tokens_alone():
    logp_BT = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]])
    batch = TokenBatch(
        logp_BT=logp_BT, old_logp_BT=logp_BT, entropy_BT=logp_BT,
        mask_BT=torch.tensor([[1, 1], [1, 0]]), advantage_BT=torch.zeros(2, 1),
        off_policy_B1=torch.tensor([[False], [True]]),
    )  # fmt: skip
    sampler_BT = torch.tensor([[-1.5, float("nan")], [-9.0, 0.0]])
    means = sampler_means(batch, {"sampling_per_token_logps": sampler_BT})
    kl, number = means["sampling/kl"]
    assert number == 1
    assert kl.item() == pytest.approx(math.exp(0.5) - 1.5)
    assert [value.item() for value in means["sampling/unscored"]] == [1.0, 2.0]
    assert "sampling/left_out" not in means
    assert sampler_means(batch, {}) == {}
    far = sampler_means(batch, {"sampling_per_token_logps": sampler_BT - 1e4})["sampling/kl"]
    assert math.isfinite(far[0].item())


# transformers' continuous batching


def batching(student, prompts, tmp_path, kind=Trainer, **more):
    args = arguments(
        tmp_path, use_transformers_continuous_batching=True,
        transformers_continuous_batching_config={"max_memory_percent": 0.02}, **more,
    )  # fmt: skip
    return kind(student, reward, args, prompts, algorithm=GRPO(beta=0.0))


def test_continuous_batching_writes_what_plain_generation_writes(student, prompts, tmp_path):
    asked = [[4, 12, 5, 14], [3, 14], [2, 3, 4, 5, 12, 6, 14]] * 3
    plain = Trainer(student, reward, arguments(tmp_path), prompts, algorithm=GRPO(beta=0.0))
    paged = batching(student, prompts, tmp_path)
    for trainer in (plain, paged):
        trainer.generation_config.do_sample = False
    want, none = plain._generate_single_turn(asked, None, {}, 1)
    got, also_none = paged._generate_single_turn(asked, None, {}, 1)
    assert none is None
    assert also_none is None
    assert got == want
    assert len({tuple(ids) for ids in want}) == 3


def test_continuous_batching_trains_and_leaves_the_model_as_it_was(student, prompts, tmp_path):
    trainer = batching(student, prompts, tmp_path, learning_rate=0.0, max_steps=2)
    before = AutoModelForCausalLM.from_pretrained(student).eval()
    trainer.train()
    ids = torch.tensor([[4, 12, 5, 14, 7, 8]])
    torch.testing.assert_close(trainer.model.eval()(ids).logits, before(ids).logits)
    logs = trainer.state.log_history[0]
    assert 0 < logs["completions/mean_length"] <= 12
    assert logs["clip_ratio/region_mean"] == 0.0
    assert "sampling/kl" not in logs  # it is the model itself
    assert len(WORDS) > max(map(max, trainer._sampled_ids[1]))


def test_continuous_batching_of_one_seed_writes_the_same(student, prompts, tmp_path):
    ids = []
    for seed in (3, 3, 4):
        trainer = batching(student, prompts, tmp_path, seed=seed, max_steps=1)
        trainer.train()
        ids.append(trainer._sampled_ids[1])
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


@pytest.mark.parametrize(
    ("lose", "answered"),
    [
        (lambda answers: answers[:-1], 7),
        (lambda answers: [[], *answers[1:]], 7),
        (lambda answers: [[5, 6], *answers[1:]], 7),
    ],
    ids=["left out", "empty", "broken off"],
)
def test_an_engine_that_loses_an_answer_ends_the_run(lose, answered, student, prompts, tmp_path):
    trainer = batching(student, prompts, tmp_path)
    whole = [[5, 6, 1]] * 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GRPOTrainer, "_generate_single_turn", lambda *_, **__: (lose(whole), None))
        with pytest.raises(RuntimeError, match=f"answered {answered} of 8 prompts"):
            trainer._generate_single_turn([[4]] * 8, None, {}, 1)
        patch.setattr(GRPOTrainer, "_generate_single_turn", lambda *_, **__: (whole, None))
        assert trainer._generate_single_turn([[4]] * 8, None, {}, 1) == (whole, None)

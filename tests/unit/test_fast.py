"""What `Speed` leaves out changes nothing: whole optimiser steps, and what may not be left out."""

import random
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from rlkd import (
    CISPO,
    DAPO,
    GKD,
    GRPO,
    GSPO,
    KDRL,
    LUFFY,
    RLAD,
    SFTKD,
    TOPD,
    DrGRPO,
    Speed,
    Trainer,
)
from rlkd.algorithms.ceeh import CEEH
from rlkd.algorithms.high_entropy_tokens import HighEntropyTokens
from rlkd.difficulty import prompt_key
from rlkd.traces.book import Trace, Traces

GROUP, MICRO, PIECES = 4, 4, 4
ROWS = MICRO * PIECES

WAYS = {
    "head": Speed(micro_batches="padded", reuse_log_probs=False),
    "trimmed": Speed(answers_only_head=False, reuse_log_probs=False),
    "by_length": replace(Speed.plain(), micro_batches="by_length"),
    "by_tokens": replace(Speed.plain(), micro_batches="by_tokens"),
    "reused": replace(Speed.plain(), reuse_log_probs=True),
    "padding_free": replace(Speed.plain(), padding_free=True),
    "shared": replace(Speed.plain(), padding_free=True, shared_prompts=True),
    "together": Speed(micro_batches="by_tokens", padding_free=True, shared_prompts=True),
    "sorted": Speed(micro_batches="by_tokens"),
}


def reward(completions, **_):
    return [(sum(map(ord, text)) % 7) / 7 for text in completions]


def arguments(folder, **more) -> GRPOConfig:
    settings = {
        "output_dir": str(folder), "per_device_train_batch_size": MICRO, "num_generations": GROUP,
        "gradient_accumulation_steps": PIECES, "max_completion_length": 24, "max_steps": 2,
        "learning_rate": 0.1, "optim": "sgd", "bf16": False, "report_to": "none",
        "logging_steps": 1, "gradient_checkpointing": False, "use_cpu": True,
        "save_strategy": "no", "seed": 3, "disable_tqdm": True, "max_grad_norm": 0.0,
    }  # fmt: skip
    return GRPOConfig(**(settings | more))


def answer(draw: random.Random) -> list[int]:
    """A few long answers, many short ones; one in five is cut off."""
    length = draw.choice([1, 1, 2, 2, 3, 18])
    end = 1 if draw.random() < 0.8 else 5
    return [*(draw.randrange(2, 20) for _ in range(length)), end]


def run(
    folder, student, teacher=None, speed=None, algorithm=None, more=None, score=reward, **extra
):
    """The weights after training on injected answers, and what was logged of each step."""
    draw = random.Random(7)
    rows = [{"prompt": "1+" * (a % 3) + f"{a}+{b}="} for a in range(8) for b in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            GRPOTrainer,
            "_generate_single_turn",
            lambda _, ids, *__, **___: ([answer(draw) for _ in ids], None),
        )
        if teacher is not None:
            extra |= {"teacher": teacher, "teacher_check": "off"}
        trainer = Trainer(
            student, score, arguments(folder, **(more or {})), Dataset.from_list(rows),
            algorithm=algorithm or GRPO(), speed=speed, **extra,
        )  # fmt: skip
        trainer.train()
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return weights, [row for row in trainer.state.log_history if "loss" in row], trainer


def equal(found, wanted, begin):
    """The same updates and the same numbers."""
    moved = max((wanted[0][name] - begin[name]).abs().max() for name in begin)
    assert moved > 1e-2
    for name, value in wanted[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        for name, value in theirs.items():
            if not name.startswith(("time/", "memory/")) and name != "step_time":
                assert mine[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.fixture(scope="module")
def begin(student):
    return AutoModelForCausalLM.from_pretrained(student).state_dict()


SEVERAL = {
    "one step": {},
    "several steps": {"steps_per_generation": 2 * PIECES, "max_steps": 4},
    "several passes": {"num_iterations": 2, "max_steps": 4},
    "both": {"steps_per_generation": 2 * PIECES, "num_iterations": 2, "max_steps": 6},
    "half a step": {"steps_per_generation": PIECES // 2, "generation_batch_size": None},
}


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_gives_the_same_steps(way, several, student, begin, tmp_path):
    more = SEVERAL[several]
    wanted = run(tmp_path / "a", student, speed=Speed.plain(), more=more)
    found = run(tmp_path / "b", student, speed=WAYS[way], more=more)
    equal(found, wanted, begin)


ALGORITHMS = {
    "dapo": (GRPO(reduction="dapo"), {}),
    "dr_grpo": (DrGRPO(), {}),
    "gspo": (GSPO(), {}),
    "cispo": (CISPO(), {}),
    "with reference": (GRPO(beta=0.1), {}),
    "entropy bonus": (GRPO(beta=0.0), {"components": (CEEH(entropy_coefficient=0.1),)}),
    "bnpo": (GRPO(reduction="bnpo"), {}),
    "80/20": (GRPO(beta=0.0), {"components": (HighEntropyTokens(),)}),
}
TAUGHT = {
    "rlad": RLAD(),
    "kdrl": KDRL(teacher_weight=0.3, reduction="grpo"),
    "gkd": GKD(),
    "luffy": LUFFY(off_policy=1),
    "sft_kd": SFTKD(),
}
OF_MICRO_BATCH = ("bnpo", "80/20")


@pytest.mark.parametrize("way", ["trimmed", "sorted", "together"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_reduction_and_component(name, way, student, begin, tmp_path):
    """… but for those that say that they depend on the micro-batch: they are refused."""
    algorithm, extra = ALGORITHMS[name]
    rate = 2.0 if name == "dr_grpo" else 0.1  # its constant makes small gradients
    extra = extra | {"algorithm": algorithm, "more": SEVERAL["both"] | {"learning_rate": rate}}
    if name in OF_MICRO_BATCH and WAYS[way].regroups:
        with pytest.raises(
            ValueError, match=r"depends on which rows share a micro-batch: .*trimmed"
        ):
            run(tmp_path / "a", student, speed=WAYS[way], **extra)
        return
    wanted = run(tmp_path / "a", student, speed=Speed.plain(), **extra)
    equal(run(tmp_path / "b", student, speed=WAYS[way], **extra), wanted, begin)


def traces() -> Traces:
    draw = random.Random(6)
    keys = [prompt_key("1+" * (a % 3) + f"{a}+{b}=") for a in range(8) for b in range(6)]
    return Traces.gather((key, Trace((*answer(draw)[:-1], 1))) for key in keys for _ in "123")


@pytest.mark.parametrize("way", ["trimmed", "sorted", "together"])
@pytest.mark.parametrize("name", TAUGHT)
def test_teachers_whole_distributions_and_traces(name, way, student, teacher, begin, tmp_path):
    algorithm = TAUGHT[name]
    rate = 2.0 if name == "luffy" else 0.1
    extra = {"algorithm": algorithm, "more": SEVERAL["both"] | {"learning_rate": rate}}
    if algorithm.needs_teacher:
        extra["teacher"] = teacher
    if algorithm.needs_traces(GROUP):
        extra["traces"] = traces()
    wanted = run(tmp_path / "a", student, speed=Speed.plain(), **extra)
    equal(run(tmp_path / "b", student, speed=WAYS[way], **extra), wanted, begin)


@pytest.mark.parametrize("kind", ["lora", "checkpointing", "truncated", "tools", "unequal heads"])
def test_students_and_masks(kind, student, begin, tmp_path, monkeypatch):
    extra, more, model = {}, dict(SEVERAL["several steps"]), student
    if kind == "lora":
        torch.manual_seed(0)
        extra["peft_config"] = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
        extra["algorithm"] = GRPO(beta=0.1)  # the reference: adapters off
    elif kind == "checkpointing":
        more["gradient_checkpointing"] = True
    elif kind == "truncated":
        more["mask_truncated_completions"] = True
    elif kind == "tools":
        real = GRPOTrainer._generate

        def generate(self, prompts):
            found = list(real(self, prompts))
            found[2] = [[int(i % 3 > 0) for i in range(len(ids))] for ids in found[1]]
            return tuple(found)

        monkeypatch.setattr(GRPOTrainer, "_generate", generate)
    results = {}
    for way in ("plain", "sorted", "together"):
        torch.manual_seed(5)  # of new adapters
        if kind == "unequal heads":
            model = AutoModelForCausalLM.from_pretrained(student)
            model.config.tie_word_embeddings = False
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.1)
        speed = WAYS.get(way, Speed.plain())
        results[way] = run(tmp_path / way, model, speed=speed, more=more, **extra)
    start = {name: value for name, value in begin.items() if name in results["plain"][0]}
    if kind == "lora":  # the second adapter matrix begins at 0
        start = {n: torch.zeros_like(v) for n, v in results["plain"][0].items() if "lora_B" in n}
    for way in ("sorted", "together"):
        equal(results[way], results["plain"], start)


def right_or_wrong(completions, **_):
    return [float(sum(map(ord, text)) % 3 == 0) for text in completions]


@pytest.mark.parametrize("way", ["trimmed", "sorted", "together"])
def test_dynamic_sampling_and_stored_rollouts(way, student, begin, tmp_path):
    """Groups that were drawn later stand among the others; what is stored of a row is its own."""
    results, stored = {}, {}
    for name, speed in (("plain", Speed.plain()), (way, WAYS[way])):
        batches = []
        results[name] = run(
            tmp_path / name, student, speed=speed, algorithm=DAPO(), score=right_or_wrong,
            more=SEVERAL["both"] | {"mask_truncated_completions": True},
            on_rollouts=batches.append, token_rows=8,
        )  # fmt: skip
        stored[name] = batches
    assert max(row.get("dynamic_sampling/rounds", 0) for row in results["plain"][1]) > 1
    equal(results[way], results["plain"], begin)
    for mine, theirs in zip(stored[way], stored["plain"], strict=True):
        assert mine.completions == theirs.completions
        assert mine.columns.keys() == theirs.columns.keys()
        for name, values in theirs.columns.items():
            for one, other in zip(mine.columns[name], values, strict=True):
                if isinstance(other, list) and other and not isinstance(other[0], str):
                    assert len(one) == len(other)
                    assert [x is None for x in one] == [x is None for x in other], name
                    one, other = ([x or 0.0 for x in v] for v in (one, other))
                assert one == (pytest.approx(other, abs=1e-4) if name != "token_text" else other)


def test_the_default_is_trl_to_a_millionth(student, begin, tmp_path):
    """And it is on."""
    more = SEVERAL["both"]
    wanted = run(tmp_path / "a", student, speed=Speed.plain(), more=more)
    found = run(tmp_path / "b", student, more=more)
    assert found[2].speed == Speed()
    for name, value in wanted[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=2e-6)


# -- what is left out -----------------------------------------------------------------------------


class Forwards:
    """The passes of a trainer's student: gradient or not, rows, columns, states the head read."""

    def __init__(self, trainer):
        self.seen = []
        self.heads = []
        trainer.model.base_model.register_forward_pre_hook(self._see, with_kwargs=True)
        # After the hooks of the passes, which stand before it.
        trainer.model.base_model.register_forward_hook(
            lambda _m, _i, output: self.heads.append(output.last_hidden_state.shape[:2].numel())
        )

    def _see(self, _module, words, named):
        self.seen.append((torch.is_grad_enabled(), named, named["input_ids"].shape))


def passes(folder, student, speed, more=None, **extra):
    """What passes through the student one rollout takes, without the check at the start."""
    found = {}

    class Watched(Trainer):
        def __init__(self, *words, **named):
            super().__init__(*words, **named)
            self._is_checked = True
            found["forwards"] = Forwards(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.unit.test_fast.Trainer", Watched)
        run(folder, student, speed=speed, more=more, **extra)
    return found["forwards"]


@pytest.mark.parametrize(
    ("several", "scored", "plain"),
    [
        ("one step", 0, 0),
        ("several steps", PIECES, 2 * PIECES),
        ("several passes", 0, PIECES),
        ("both", PIECES, 2 * PIECES),
    ],
)
def test_old_log_probs_take_a_pass_only_where_they_must(several, scored, plain, student, tmp_path):
    """Student log-probabilities and entropies are one pass; that of the first update is its old
    policy's too."""
    more = SEVERAL[several] | {"max_steps": 1}
    for speed, wanted in ((Speed(), scored), (Speed.plain(), plain)):
        forwards = passes(tmp_path / str(wanted), student, speed, more)
        learning = [grad for grad, *_ in forwards.seen if grad]
        assert len(learning) == PIECES
        assert len(forwards.seen) - len(learning) == wanted


def test_a_later_pass_sees_the_first_ones_log_probs_as_old(student, tmp_path):
    seen = []

    class Spy(GRPO):
        def loss(self, batch):
            seen.append(batch)
            return super().loss(batch)

    run(tmp_path, student, algorithm=Spy(), more=SEVERAL["several passes"] | {"max_steps": 2})
    for first, second in zip(seen[:PIECES], seen[PIECES:], strict=True):
        assert torch.equal(first.logp_BT.detach(), first.old_logp_BT)
        assert torch.equal(second.old_logp_BT, first.old_logp_BT)
        assert not second.old_logp_BT.requires_grad
        assert (second.logp_BT - second.old_logp_BT).abs().max() > 1e-3


def test_fewer_positions_are_computed(student, tmp_path):
    """Each way computes less than the one before it, and none leaves out a token of an answer."""
    computed, heads = {}, {}
    more = {"max_steps": 1}
    for way in ("plain", "trimmed", "by_length", "sorted", "padding_free", "together"):
        speed = WAYS.get(way, Speed.plain())
        forwards = passes(tmp_path / way, student, speed, more)
        computed[way] = sum(shape.numel() for grad, _, shape in forwards.seen if grad)
        heads[way] = sum(forwards.heads)
        if way == "sorted":
            rows = [shape[0] for *_, shape in forwards.seen]
            assert len(rows) == PIECES
            assert sum(rows) == ROWS
            assert len(set(rows)) > 1
    order = ["plain", "trimmed", "by_length", "sorted", "padding_free", "together"]
    assert [computed[way] for way in order] == sorted(computed.values(), reverse=True)
    assert computed["plain"] > 2 * computed["padding_free"]
    assert computed["together"] < computed["padding_free"]
    assert heads["plain"] == computed["plain"]
    assert heads["sorted"] == heads["together"] < computed["together"]


def test_the_rows_of_an_update_stay_its_rows(student, tmp_path):
    """Rows move between the micro-batches of an optimiser step, never between steps."""
    updates = {}
    for way in ("plain", "sorted"):
        seen = []

        class Spy(GRPO):
            def loss(self, batch, seen=seen):
                seen.append(batch.mask_BT.sum(-1).tolist())
                return super().loss(batch)

        more = SEVERAL["several steps"] | {"max_steps": 2}
        speed = WAYS.get(way, Speed.plain())
        run(tmp_path / way, student, algorithm=Spy(), more=more, speed=speed)
        updates[way] = seen
    steps = {
        way: [sorted(n for part in seen[at : at + PIECES] for n in part) for at in (0, PIECES)]
        for way, seen in updates.items()
    }
    assert steps["plain"] == steps["sorted"]
    assert steps["plain"][0] != steps["plain"][1]
    assert updates["plain"] != updates["sorted"]
    first = updates["sorted"][0]
    assert max(first) == max(steps["sorted"][0])


# -- the door -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed", "more", "message"),
    [
        (WAYS["by_tokens"], {"steps_per_generation": 6, "num_generations": 4},
         r"neither of steps_per_generation \(6\) and gradient_accumulation_steps \(4\)"),
        (WAYS["padding_free"], {"use_transformers_continuous_batching": True},
         "padding_free sets the student's attention, and so does continuous batching"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(speed, more, message, student, prompts, tmp_path):
    with pytest.raises(ValueError, match=message):
        Trainer(student, reward, arguments(tmp_path, **more), prompts, speed=speed)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="micro_batches is 'short'; it is one of padded, trimmed"):
        Speed(micro_batches="short")
    with pytest.raises(ValueError, match="set padding_free too"):
        Speed(shared_prompts=True)
    with pytest.raises(
        ValueError, match="TOPD depends on which rows share a micro-batch: mean and"
    ):
        Speed(micro_batches="by_length").refuse_statistics([TOPD()])


def test_another_attention_is_refused(student, prompts, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(student, attn_implementation="eager")
    with pytest.raises(
        ValueError, match=r"need the attention sdpa or a flash attention, and .*eager"
    ):
        Trainer(model, reward, arguments(tmp_path), prompts, speed=WAYS["padding_free"])


def test_an_architecture_that_does_not_fit_is_refused_or_left_as_it_is(
    student, tmp_path, caplog, monkeypatch
):
    """One whose states depend on where the padding is, as with positions that are learnt."""
    from transformers.models.llama import modeling_llama

    real = modeling_llama.LlamaModel.forward

    def shifted(self, input_ids=None, **named):
        found = real(self, input_ids=input_ids, **named)
        place = torch.arange(input_ids.shape[1]).view(1, -1, 1)
        found.last_hidden_state = found.last_hidden_state * (1.0 + 0.05 * place)
        return found

    monkeypatch.setattr(modeling_llama.LlamaModel, "forward", shifted)
    for way in ("trimmed", "padding_free"):
        with pytest.raises(ValueError, match=r"log-probabilities differ .* Pass Speed.plain\(\)"):
            run(tmp_path / way, student, speed=WAYS[way], more={"max_steps": 1})
    run(tmp_path / "default", student, more={"max_steps": 1})
    assert "all is computed as TRL does" in caplog.text

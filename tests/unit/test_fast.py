"""What `Speed` leaves out changes nothing: whole optimiser steps, and what may not be left out."""

import random
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from rlkd import CISPO, GKD, GRPO, GSPO, KDRL, LUFFY, RLAD, SFTKD, TOPD, DrGRPO, Speed, Trainer
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
    length = draw.choice([1, 1, 2, 2, 3, 4, 18])
    end = 1 if draw.random() < 0.8 else 5
    return [*(draw.randrange(2, 20) for _ in range(length)), end]


def run(folder, student, teacher=None, speed=None, algorithm=None, more=None, **extra):
    """The weights after training on injected answers, and what was logged of each step."""
    from datasets import Dataset

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
            student, reward, arguments(folder, **(more or {})), Dataset.from_list(rows),
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

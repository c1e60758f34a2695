"""Every reward and every environment of the shelves through `rlkd train`, found by looking.

A newcomer on a shelf is run without a line here, if its columns are those of `COLUMNS` or its rows
have an `answer`; otherwise its test fails until it has a case.
"""

import importlib
import importlib.util
import inspect
import json
import math
import pkgutil
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from rlkd import cli
from rlkd.refs import resolve
from rlkd.rewarding.reward import GuardedReward
from tests.conftest import make_model

ROOT = Path(__file__).resolve().parents[2]
INF = math.inf
THOUGHT, SEVEN, MADE = "<think>so</think>", "<answer>7</answer>", "<answer>(3+4)</answer>"
ROLES = "<answer>Zoey is a knight, Liam is a knave</answer>"
PIECES = ["\\boxed{7}", "#7", SEVEN, MADE, ROLES, THOUGHT, "the answer is C. ", "no"]
"""What the student writes, at random, a piece a token: whole answers, so that some are right."""
NAMED = "#aB"
COLUMNS: dict[str, Any] = {"answer": "7", "numbers": [3, 4], "target": 7, "budget": 5}
OF = {"of": "rewards.exact:text"}


@dataclass(frozen=True)
class Case:
    """How a reward is run, and what its values may be."""

    kwargs: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    low: float = 0.0
    high: float = 1.0
    says: tuple[str, ...] = tuple(PIECES)
    tokens: int = 12


KNIGHTS = {"answer": "Zoey is a knight, Liam is a knave"}
CASES = {
    "rewards.answer_span:answer_span": Case({"of": "rewards.choice:accuracy"}, {"answer": "C"}),
    "rewards.choice:accuracy": Case(columns={"answer": "C"}),
    "rewards.arithmetic:accuracy": Case(says=("#7", "no"), tokens=2),
    "rewards.arithmetic:well_formed": Case(says=("#7", "no"), tokens=2),
    "rewards.format:answer_tags": Case(says=(THOUGHT, SEVEN), tokens=2),
    "rewards.format:thinking": Case(says=(THOUGHT, "no"), tokens=2),
    "rewards.controls:permuted": Case({"of": "rewards.exact:text"}),
    "rewards.knights_knaves:accuracy": Case(columns=KNIGHTS),
    "rewards.knights_knaves:graded": Case({}, KNIGHTS, -2.0, 2.0, (THOUGHT, ROLES), 2),
    "rewards.liars:accuracy": Case({}, {"answer": "aB"}, says=(NAMED, "no"), tokens=2),
    "rewards.liars:well_formed": Case(says=(NAMED, "no"), tokens=2),
    "rewards.length:arora_zanette": Case(OF),
    "rewards.length:kimi": Case(OF, low=-0.5, high=0.5),
    "rewards.length:l1_exact": Case(OF, low=-INF),
    "rewards.length:l1_max": Case(OF),
    "rewards.length:shorter_better": Case(OF, low=-INF, high=2.0),
    "rewards.length:soft_overlong": Case({"max_length": 12, "cache": 8}, low=-1.0, high=0.0),
    "rewards.repetition:ngrams": Case({"n": 1}, low=-1.0, high=0.0),
}
UNKNOWN = Case(low=-INF, high=INF)
HERE_ALREADY = {"rewards.math", "rewards.exact", "rewards.format",
                "rewards.countdown"}  # fmt: skip
"""Modules whose rewards need no case: no arguments, and values from 0 to 1."""


def modules(shelf: str) -> list[str]:
    return [f"{shelf}.{info.name}" for info in pkgutil.iter_modules([str(ROOT / shelf)])]


def functions(module: str, first: str) -> list[str]:
    """The module's own public functions whose first parameter has that name; `answers`, which says
    for votes which answers are the same, is no reward."""
    return [
        f"{module}:{name}"
        for name, function in inspect.getmembers(importlib.import_module(module))
        if inspect.isfunction(function)
        and function.__module__ == module
        and not name.startswith("_")
        and name != "answers"
        and next(iter(inspect.signature(function).parameters), None) == first
    ]


REWARDS = [name for module in modules("rewards") for name in functions(module, "completions")]
ROWS = [
    name for module in modules("envs") if module != "envs.prompt"
    for name in functions(module, "split")
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A random student that spells every prompt, one token per character."""
    path = tmp_path_factory.mktemp("speller")
    characters = [c for c in string.printable if c not in "\r\x0b\x0c\t"]
    pieces = [*PIECES, NAMED]
    make_model(path, seed=7, words=["<pad>", "<eos>", *pieces, *characters], pieces=pieces,
               positions=4096)  # fmt: skip
    (path / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    )
    return path


@pytest.fixture
def train(model, tmp_path, monkeypatch):
    """Runs a config of two steps; gives the lines of metrics and what the reward was asked."""
    monkeypatch.chdir(ROOT)
    asked: list[tuple[dict[str, Any], list[float | None]]] = []
    real = GuardedReward.__call__

    def note(self, **given):
        values = real(self, **given)
        asked.append((given, values))
        return values

    monkeypatch.setattr(GuardedReward, "__call__", note)

    def run(reward: dict[str, Any], data: dict[str, Any], case: Case = UNKNOWN):
        tokenizer = AutoTokenizer.from_pretrained(model)
        spoken = {*tokenizer.convert_tokens_to_ids([*case.says, "<eos>"])}
        silent = [token for token in range(len(tokenizer)) if token not in spoken]
        config = {
            "model": {"path": str(model)},
            "algorithm": {"use": "rlkd.algorithms.grpo:GRPO"},
            "data": data,
            "rewards": [{**reward, "name": "it"}],
            "batch": {"prompts_per_step": 4, "group_size": 4, "micro_batch_size": 16},
            "sampling": {"max_completion_length": case.tokens, "temperature": 3.0},
            "optim": {"steps": 2, "learning_rate": 1e-3},
            "eval": {"at_start": False},
            "run": {"name": "x", "dir": str(tmp_path / "runs")},
            "tracking": {"wandb": "disabled"},
            "trl": {"generation_kwargs": {"suppress_tokens": silent}},
        }
        path = tmp_path / "run.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        assert cli.main(["train", str(path)]) == 0
        text = (tmp_path / "runs" / "x" / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()], asked, path

    return run


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_trains(name, train, tmp_path):
    module = name.partition(":")[0]
    case = CASES.get(name) or (Case() if module in HERE_ALREADY else UNKNOWN)
    rows = [{"prompt": f"{i} of 9:", **COLUMNS, **case.columns} for i in range(20)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reward = {"use": name, "kwargs": case.kwargs}
    steps, asked, _ = train(reward, {"train": {"path": str(file)}}, case)
    assert len(steps) == len(asked) == 2
    function = resolve(name)
    seen: set[float] = set()
    for step, (given, values) in zip(steps, asked, strict=True):
        assert values == list(function(**given, **case.kwargs))  # as the worker, so by hand
        assert all(value is not None and case.low <= value <= case.high for value in values)
        assert step["train/rewards/it/mean"] == pytest.approx(sum(values) / 16, abs=1e-5)
        assert step["train/reward"] == pytest.approx(sum(values) / 16, abs=1e-5)
        assert step["train/rewards/it/faults"] == step["train/rewards/left_out"] == 0
        assert math.isfinite(step["train/loss"])
        seen |= set(values)
    if case is not UNKNOWN:
        assert len(seen) > 1, f"no two answers differ for {name}: {seen}"


GSM8K = [{"question": f"How much is {i} and {i}?", "answer": f"{i}+{i}\n#### {2 * i}"}
         for i in range(30)]  # fmt: skip
FOR_ROWS: dict[str, dict[str, Any]] = {
    "envs.arithmetic:rows": {"reward": "rewards.arithmetic:accuracy"},
    "envs.algebra:rows": {"kwargs": {"largest": 9}},
    "envs.countdown:rows": {"reward": "rewards.countdown:accuracy", "audit": ["--gold=solution"]},
    "envs.hub:rows": {"kwargs": {"dataset": "gsm8k", "path": "FILE"}, "one file": True},
    "envs.knights_knaves:rows": {"reward": "rewards.knights_knaves:accuracy"},
    "envs.reasoning_gym:rows": {
        "reward": "envs.reasoning_gym:score", "kwargs": {"task": "leg_counting"},
        "needs": "reasoning_gym", "audit": ["--gold=answer"],
    },
}  # fmt: skip
"""What a function of rows needs beside its size; the reward otherwise is rewards.math:accuracy."""


@pytest.mark.parametrize("name", ROWS)
def test_an_environment_trains(name, train, tmp_path):
    case = FOR_ROWS.get(name, {})
    if "needs" in case and importlib.util.find_spec(case["needs"]) is None:
        pytest.skip(f"{case['needs']} is not installed")
    file = tmp_path / "set.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in GSM8K))
    kwargs = {key: str(file) if value == "FILE" else value
              for key, value in case.get("kwargs", {}).items()}  # fmt: skip
    source = {"use": name, "size": 20, "kwargs": kwargs}
    data = {"train": source, "eval": {**source, "size": 4}}
    if "one file" in case:  # a set with a test part of its own: the local file is either part
        del data["eval"]
    reward = {"use": case.get("reward", "rewards.math:accuracy")}
    lines, asked, path = train(reward, data)
    steps = [line for line in lines if "train/loss" in line]
    assert len(steps) == 2
    rows = resolve(name)("train", 20, **kwargs)
    for step, (given, values) in zip(steps, asked, strict=False):
        assert all(prompt in [row["prompt"] for row in rows] for prompt in given["prompts"])
        assert all(value is not None and 0 <= value <= 1 for value in values)
        assert step["train/rewards/it/faults"] == step["train/rewards/left_out"] == 0
    if "eval" in data:
        assert lines[-1]["eval/rows"] == 4
        assert 0 <= lines[-1]["eval/accuracy"] <= 1
    # Every gold gets full marks and no changed one does; no duplicates, overlap or long prompts.
    assert cli.main(["audit", str(path), *case.get("audit", [])]) == 0


def test_the_shelves_are_looked_through():
    assert {"rewards.math:accuracy", "rewards.length:kimi", "rewards.controls:permuted"} <= {
        *REWARDS
    }
    assert {"envs.arithmetic:rows", "envs.algebra:rows", "envs.calculator:rows"} <= {*ROWS}
    assert {*CASES} <= {*REWARDS}
    assert {*FOR_ROWS} <= {*ROWS}
    with_rewards = {name.partition(":")[0] for name in REWARDS}
    # Without a reward are only those modules that the others read.
    assert {*modules("rewards")} - with_rewards == {
        "rewards.completion", "rewards.expression", "rewards.inner",
    }  # fmt: skip
    assert {*modules("envs")} - {name.partition(":")[0] for name in ROWS} == {"envs.prompt"}

"""Folders as a run leaves them, made without a run."""

import json
import math
import random
from pathlib import Path

from rlkd.tracking.rollouts import Rollouts, spread
from rlkd.tracking.store import RolloutStore

NASTY = (
    "</script><script>window.hacked = 1</script>",
    '<img src="x" onerror="window.hacked = 1">',
    "<!-- <script> javascript:window.hacked=1 ${window.hacked=1} \u2028 \ud83d",
)
"""What a model may write to break a page; the last ends in half a character."""
CONFIG = """\
model: {{path: models/student}}
teacher: {{path: models/teacher, temperature: .inf}}
algorithm: {{use: "rlkd.algorithms.rlad:RLAD", alpha: {alpha}}}
rewards: [{{use: "rewards.math:accuracy"}}, {{use: "rewards.format:boxed", weight: 0.1}}]
optim: {{steps: {steps}, learning_rate: 1.0e-6}}
run: {{name: {name}, dir: runs, seed: {seed}}}
"""


def make(
    folder: Path,
    *,
    steps: int = 12,
    seed: int = 0,
    alpha: float = 0.5,
    rows: int = 16,
    tokens: int = 12,
    metrics: int = 0,
) -> Path:
    """A run with metrics, rollouts, a config and a run.json.

    Args:
        metrics: further metrics per step, to make it as long as a real one.
    """
    dice = random.Random(seed)
    folder.mkdir(parents=True)
    text = CONFIG.format(alpha=alpha, steps=steps, name=folder.name, seed=seed)
    (folder / "config.yaml").write_text(text)
    about = {"rlkd": "0.1.0", "commit": "abc123", "seed": seed, "argv": ["rlkd", "train", "c.yaml"],
             "versions": {"torch": "2.13", "peft": None}, "started": "2026-11-25T10:00:00+0000",
             "device": "GPU <b>0</b>", "processes": 1, "threads": 2}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(steps + 1):
            for line in _lines(step, steps, dice, metrics):
                file.write(json.dumps({"step": step, "seconds": 2.0 * step, **line}) + "\n")
    store = RolloutStore(folder / "rollouts", 0)
    for step in range(1, steps + 1):
        store.write(_batch(step, steps, rows, tokens, dice))
    store.close()
    assert store.errors == 0
    return folder


def _lines(step: int, steps: int, dice: random.Random, more: int):
    done = step / steps
    if step % max(1, steps // 4) == 0:
        yield {"eval/accuracy": 0.4 + 0.5 * done, "eval/length": 30.0 - 10 * done, "eval/rows": 100}
    if step == 0:
        return
    values = {
        "loss": dice.gauss(0, 1), "reward": 0.3 + 0.5 * done + dice.gauss(0, 0.03),
        "completions/mean_length": 25 - 5 * done, "completions/clipped_ratio": 0.1 * (1 - done),
        "entropy": 1 - 0.5 * done, "teacher/gap": 2 - done, "step_time": 1.5,
        "clip_ratio/low_mean": 0.01, "rewards/accuracy/faults": 0.0, "rewards/left_out": 0.0,
        "kl": None, "groups/no_signal": 0.2, "time/step": 1.5, "time/generate": 1.0 - 0.25 * done,
        "time/forward": 0.125, "time/backward": 0.25 + 0.25 * done, "time/other": 0.125,
        "memory/resident": 2 + done, "memory/device_peak": 10.5,
    }  # fmt: skip
    for band, share in (("hard", 0.5 * (1 - done)), ("middle", 0.5), ("easy", 0.5 * done)):
        values |= {f"difficulty/{band}/share": share, f"difficulty/{band}/accuracy": 1 - share}
    values |= {f"rewards/r{i}/mean": dice.gauss(0, 1) for i in range(more)}
    yield {f"train/{name}": value for name, value in values.items()}


def _batch(step: int, steps: int, rows: int, tokens: int, dice: random.Random) -> Rollouts:
    numbers = [max(2, round(dice.gauss(tokens, tokens / 4))) for _ in range(rows)]
    pieces = {row: [f" w{dice.randrange(99)}" for _ in range(numbers[row] - 1)] + ["<eos>"]
              for row in spread(rows, 8)}  # fmt: skip
    if step == steps:
        pieces[0][0], pieces[0][1] = NASTY[0], "\n"
    completions = ["".join(pieces[r]) if r in pieces else " word" * numbers[r] for r in range(rows)]
    if step == steps:
        completions[1] = NASTY[1]
        completions[3] = NASTY[2].encode("utf-8", "replace").decode()
    marks: list[float | None] = [float(dice.random() < step / steps) for _ in range(rows)]
    marks[1], marks[2] = 0.0, None
    batch = Rollouts(step, [f"What is {step} + {row // 4}? {NASTY[1]}" for row in range(rows)],
                     completions)  # fmt: skip
    batch.columns = {
        "policy_version": [step - 1] * rows,
        "tokens": numbers,
        "truncated": [row == 3 for row in range(rows)],
        "advantage": [dice.gauss(0, 1) for _ in range(rows)],
        "band": [("hard", "middle", "easy", "new")[row // 4 % 4] for row in range(rows)],
        "reward": marks,
        "reward/accuracy": marks,
        "reward/boxed": [1.0] * rows,
        "status/accuracy": ["timeout" if mark is None else "ok" for mark in marks],
        "entropy": [0.5] * rows,
        "teacher_gap": [math.inf if row == 4 else 0.25 for row in range(rows)],
    }
    batch.add_pieces(pieces)
    batch.columns["token_teacher_log_ratio"] = [
        [dice.gauss(0, 1.5) for _ in pieces[row]] if row in pieces else None for row in range(rows)
    ]
    batch.columns["token_teacher_log_ratio"][0][0] = -math.inf
    batch.columns["token_entropy"] = [
        [abs(dice.gauss(0, 1)) for _ in pieces[row]] if row in pieces else None
        for row in range(rows)
    ]
    return batch

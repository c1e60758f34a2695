"""kill -9 at any moment loses at most the steps since the last checkpoint, and breaks nothing."""

import json
from pathlib import Path

import pytest

from tests.e2e.killed_runs import POINTS
from tests.e2e.runs import differences
from tests.e2e.test_processes import launch

WORDS = [
    "configs/quickstart_grpo.yaml", "--data.train.size=40", "--data.eval.size=8", "--eval.every=3",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=8",
    "--batch.iterations=2", "--optim.learning_rate=0.002", "--tracking.wandb=disabled",
    "--run.save_every=2", "--run.keep=2",
]  # fmt: skip


def run(folder: Path, kind: str, *more: str, timeout: int) -> list[dict]:
    words = [*WORDS, *more]
    done = launch(1, "-m", "tests.e2e.killed_runs", str(folder), kind, *words, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_killed_at_the_named_points(tmp_path):
    points = {found["point"]: found for found in run(tmp_path, "points", "--optim.steps=8",
                                                     timeout=250)}  # fmt: skip
    assert points.keys() == POINTS.keys()
    for name, found in points.items():
        assert found["codes"] == [-9, 0], name
        assert found["then"] == [6, 8], name
        assert found["temporary"] == ["README.md"], name  # TRL's model card
    assert points["in_a_step"]["left"] == [4, 6]
    assert points["in_a_file"]["left"] == [2, 4]
    assert points["before_the_rename"]["left"] == [2, 4]
    assert points["in_the_rotation"]["left"] == [4, 6]
    # Resumed from steps 6, 4, 4 and 6 they all are the same run.
    first, *others = (tmp_path / name for name in POINTS)
    for other in others:
        assert differences(first, other) == [], other.name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_random_moments(tmp_path):
    attempts = run(tmp_path, "20", "--optim.steps=30", timeout=800)
    assert sum(found["code"] == -9 for found in attempts) == 20
    assert all(found["code"] in (0, -9) for found in attempts)
    for found in attempts[:-1]:
        if found["left"]:
            # A step is logged before it is saved: one killed while it was saved is redone.
            assert found["left"][-1] >= found["seen"] - 2, found
            assert found["left"][-1] >= max(found["before"], default=0), found
    assert any(found["before"] for found in attempts[:-1])
    assert attempts[-1] == {"code": 0}
    assert differences(tmp_path / "timed", tmp_path / "killed") == []

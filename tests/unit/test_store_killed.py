"""kill -9 while rollouts are written: at most the queue's depth is lost, never a durable step, and
after a resume the latest attempt of each step is what is read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlkd.tracking.store import DEPTH
from tests.unit.killed_store import AT, POINTS

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, kind: str) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.killed_store", str(folder), kind],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: dict) -> None:
    """What holds wherever the kill was."""
    assert found["codes"] == [-9, 0]
    durable = [step for step, _ in found["killed"]["durable"]]
    assert durable == list(range(1, len(durable) + 1))
    assert found["handed"] - len(durable) <= DEPTH
    assert found["killed"]["left_out"] == []  # no half file is among those that are read
    steps = [step for step, _ in found["killed"]["rows"]]
    assert set(durable) <= set(steps)
    assert all(steps.count(step) == 4 for step in steps)
    first = found["checkpoint"]
    attempts = [[step, 1 if step <= first else 2] for step in range(1, first + 5)]
    assert found["resumed"]["durable"] == attempts
    assert found["resumed"]["rows"] == [pair for pair in attempts for _ in range(4)]
    assert found["resumed"]["left_out"] == []


def test_killed_at_the_named_points_with_a_full_queue(tmp_path):
    points = {found["point"]: found for found in run(tmp_path, "points")}
    assert points.keys() == POINTS.keys()
    for name, found in points.items():
        check(found)
        assert found["handed"] == AT - 1 + DEPTH, name
        assert found["killed"]["durable"] == [[step, 1] for step in range(1, AT)], name


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path):
    kills = run(tmp_path, "20")
    assert len(kills) == 20
    for found in kills:
        check(found)
    assert len({found["handed"] for found in kills}) > 10

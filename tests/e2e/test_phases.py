"""Who waits for whom, on two processes."""

import json

from rlkd.tracking import glossary
from tests.e2e.slow_rank import SLOW
from tests.e2e.test_processes import launch


def test_a_rank_that_waits_for_a_slow_reward_is_seen_in_sync(student, tmp_path):
    done = launch(2, "tests/e2e/slow_rank.py", student, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    assert len(rows) == 3
    for row in rows:
        # One of two ranks works for that long and the other waits: means over the two.
        assert SLOW / 2 < row["time/reward"] < SLOW / 2 + 0.4
        assert row["time/sync"] > SLOW / 2 - 0.1
        assert row["time/backward"] < SLOW / 2
        parts = {k: v for k, v in row.items() if k.startswith("time/") and k != "time/step"}
        assert abs(sum(parts.values()) - row["time/step"]) < 1e-3
    assert all(
        glossary.explain(f"train/{name}") for name in rows[0] if name.startswith(("time/", "mem"))
    )

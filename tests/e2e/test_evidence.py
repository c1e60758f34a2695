"""scripts/evidence ceeh: trains its arms, keeps what they came to, goes on where it was."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rlkd.compare.records import fingerprint

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "configs" / "evidence" / "ceeh.json"
LAST_LINE = r"length_ratio=(\d+\.\d+) accuracy_delta=([+-]\d+\.\d+) pass16_delta=([+-]\d+\.\d+)"
TINY = [
    "--optim.steps=2", "--data.train.size=24", "--data.train.kwargs={easy: 8}",
    "--data.eval.size=12", "--data.eval.kwargs={easy: 4}",
    "--batch.prompts_per_step=4", "--batch.micro_batch_size=32",
]  # fmt: skip
ARMS = ["none", "penalty", "me", "ea", "me_rlad"]


@pytest.fixture
def script(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "scripts" / "evidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def evidence(*words: str, timeout: int = 280) -> list[str]:
    """The lines that the script printed."""
    line = [sys.executable, "scripts/evidence.py", "ceeh", *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()


@pytest.mark.timeout(600)
def test_a_second_call_runs_only_what_is_missing(tmp_path, script):
    words = ["--out", str(tmp_path), "--seeds", "3", *TINY]
    assert re.fullmatch(LAST_LINE, evidence("--arms", "none", "me", *words)[-1])
    before = json.loads((tmp_path / "ceeh.json").read_text())
    evidence("--arms", *ARMS, *words)
    records = json.loads((tmp_path / "ceeh.json").read_text())
    assert sorted(record["arm"] for record in records) == sorted(ARMS)
    assert [record for record in records if record["arm"] in ("none", "me")] == before
    check(records)
    assert (tmp_path / "ceeh.png").stat().st_size > 10_000
    assert (tmp_path / "ceeh.md").read_text() == script.table(records) + "\n"
    options = script.argparse.Namespace(arms=["me"], seeds=[3], quick=False, out=tmp_path)
    with pytest.raises(SystemExit, match="other settings"):
        script.ceeh(options, [*TINY, "--optim.learning_rate=0.1"])


def check(records: list[dict]) -> None:
    """What every record must hold."""
    for record in records:
        assert {"arm", "seed", "steps", "rollouts", "settings", "command", "commit"} <= set(record)
        assert {"versions", "machine", "date", "seconds", "curve"} <= set(record)
        assert set(record["heldout"]) == {"all", "easy", "hard"}
        for figures in record["heldout"].values():
            assert 0.0 <= figures["accuracy"] <= figures["pass@16"] <= 1.0 + 1e-9
            assert figures["length"] >= 1.0
        counts = {band: figures["problems"] for band, figures in record["heldout"].items()}
        assert counts["all"] == counts["easy"] + counts["hard"]
        assert record["curve"][-1]["step"] == record["steps"]


def made_up(arm: str, seed: int, accuracy: float, length: float, pass16: float) -> dict:
    figures = {"accuracy": accuracy, "length": length, "pass@16": pass16, "problems": 9}
    return {"arm": arm, "seed": seed, "heldout": dict.fromkeys(("all", "easy", "hard"), figures)}


def test_differences_are_paired_by_seed_and_the_ratio_is_of_means(script):
    records = [
        made_up("none", 0, 0.50, 10.0, 0.9), made_up("none", 1, 0.70, 30.0, 0.9),
        made_up("me", 0, 0.54, 8.0, 0.9), made_up("me", 1, 0.72, 12.0, 0.8),
        made_up("me", 2, 0.00, 99.0, 0.0),
    ]  # fmt: skip
    assert script.last_line(records) == (
        "length_ratio=0.5000 accuracy_delta=+0.0300 pass16_delta=-0.0500"
    )
    # sd of 0.04 and 0.02 is 0.0141; over √2 seeds 0.010
    assert "| +0.030 ± 0.010 |" in script.table(records)


def test_what_is_committed_is_whole_and_the_table_is_made_from_it(script):
    records = json.loads(KEPT.read_text())
    check(records)
    for arm in ARMS:
        assert len(script.of_arm(records, arm)) >= 5, arm
    for record in records:
        config = script.config_of(record["arm"], record["seed"], Path("anywhere"), [])
        assert fingerprint(config) == record["settings"], record["arm"]
    assert (KEPT.parent / "ceeh.md").read_text() == script.table(records) + "\n"


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_quick_run_shows_shorter_answers(tmp_path):
    match = re.fullmatch(LAST_LINE, evidence("--quick", "--out", str(tmp_path), timeout=1500)[-1])
    assert match
    assert float(match[1]) < 1.0

"""One rank raises, hangs or is killed: all end within a minute, the first cause is on top, and the
resumed run is the one that nothing happened to."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.failing_ranks import STEP
from tests.e2e.runs import differences
from tests.e2e.test_processes import launch

WORDS = [
    "configs/quickstart.yaml", "--optim.steps=4", "--batch.prompts_per_step=4",
    "--batch.group_size=4", "--batch.micro_batch_size=2", "--data.train.size=40",
    "--data.eval=null", "--eval.every=0", "--tracking.wandb=disabled", "--run.save_every=2",
    "--teacher.check=off", "--optim.learning_rate=0.002",
]  # fmt: skip


def run(folder: Path, ranks: int, faults: list[str], timeout: int) -> dict[str, dict]:
    words = [str(folder), str(ranks), ",".join(["nothing", *faults]), *WORDS]
    done = launch(1, "-m", "tests.e2e.failing_ranks", *words, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    found = {row["fault"]: row for row in rows}
    assert found["nothing"]["codes"] == [0] * ranks
    for fault in faults:
        found[fault]["stderr"] = (folder / f"{fault}.err").read_text()
        at = re.search(r"fault at=([\d.]+)", found[fault]["stderr"])
        assert at is not None, fault
        assert found[fault]["ended"] - float(at[1]) < 60, fault
        assert found[fault]["resumed"] == [0] * ranks, fault
        assert differences(folder / "nothing", folder / fault) == [], fault
    return found


def after_the_fault(found: dict) -> list[str]:
    """What was said from then on, without what libraries say of themselves."""
    lines = found["stderr"].partition("fault at=")[2].splitlines()[1:]
    return [line for line in lines if line.strip() and "Warning: find_unused" not in line]


def check_raise(found: dict, ranks: int) -> None:
    assert found["codes"] == [1] * ranks
    said = after_the_fault(found)
    cause = "LookupError: the fault of the test"
    assert (
        said[0]
        == f"rlkd: rank {ranks - 1} of {ranks} failed first (step {STEP}, backward): {cause}"
    )
    # One traceback, of the rank that failed, before the other ranks' lines.
    assert found["stderr"].count("Traceback") == 1
    traceback = next(i for i, line in enumerate(said) if line.endswith(cause) and i > 0)
    others = [i for i, line in enumerate(said) if re.match(r"rlkd: rank \d ends", line)]
    assert len(others) == ranks - 1
    assert 0 < traceback < min(others)
    assert all("LookupError" in said[i] for i in others)


def check_killed(found: dict, ranks: int) -> None:
    assert found["codes"] == [76] * (ranks - 1) + [-9]
    said = after_the_fault(found)
    assert re.match(r"rlkd: rank \d ends \(exit code 76\): ", said[0])
    assert f"rank {ranks - 1} of {ranks} (pid " in said[0]
    assert "is gone without a word" in said[0]
    assert "Traceback" not in found["stderr"]
    assert "--resume" in found["stderr"]


def check_hung(found: dict, ranks: int, folder: Path) -> None:
    assert found["codes"] == [76] * ranks
    (report,) = folder.glob("hang/stuck-*.txt")
    text = report.read_text()
    odd = f"rank {ranks - 1} (step {STEP}, backward > score)"
    assert text.splitlines()[1].startswith(f"the odd one: {odd}; the others are in a collective")
    assert "time.sleep(1e6)" in text
    assert text.count("\n==== rank") == ranks
    assert text.count("in all_gather") >= ranks - 1
    said = after_the_fault(found)
    assert "has not got on for" in said[0]
    assert odd in said[1]
    assert str(report) in said[2]
    assert "Traceback" not in found["stderr"]


@pytest.mark.timeout(640)
def test_one_of_two_ranks_fails(tmp_path):
    found = run(tmp_path, 2, ["raise", "kill", "hang"], timeout=600)
    check_raise(found["raise"], 2)
    check_killed(found["kill"], 2)
    check_hung(found["hang"], 2, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_of_four_ranks_fails(tmp_path):
    faults = ["raise", "kill", "kill_early", "hang", "hold", "stop"]
    found = run(tmp_path, 4, faults, timeout=850)
    check_raise(found["raise"], 4)
    check_killed(found["kill"], 4)
    check_killed(found["kill_early"], 4)
    check_hung(found["hang"], 4, tmp_path)
    for fault in ("hold", "stop"):  # Python cannot run in that rank
        (report,) = tmp_path.glob(f"{fault}/stuck-*.txt")
        assert "the odd one: rank 3; it does not answer" in report.read_text()
        assert found[fault]["codes"][:3] == [76] * 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["raise", "kill_early", "hang"])
def test_under_torchrun_the_cause_is_on_top_too(fault, tmp_path):
    words = ["-m", "tests.e2e.failing_ranks", str(tmp_path), "one", fault, *WORDS]
    done = launch(4, *words, timeout=300)
    assert done.returncode == 1
    said = after_the_fault({"stderr": done.stderr})
    first = next(line for line in said if not re.match(r"[WE]\d{4} ", line))  # torchrun's own
    if fault == "raise":
        assert "rank 3 of 4 failed first" in first
        assert "LookupError: the fault of the test" in first
    elif fault == "hang":
        assert "has not got on for" in first
    else:
        assert "rank 3 of 4" in first
        assert "is gone without a word" in first
    assert "SIGTERM: saving" not in done.stderr

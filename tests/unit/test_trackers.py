"""The queue before a tracker, metrics.jsonl on a full disk, which tables are due, the door."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlkd.config import ConfigError
from rlkd.config.schema import Tracking
from rlkd.tracking import panels, seeds
from rlkd.tracking.metrics_file import MetricsFile
from rlkd.tracking.rollouts import Rollouts
from rlkd.tracking.tables import TEXT, Due, EvalTables, RolloutTables
from rlkd.tracking.trackers import installed
from rlkd.tracking.trackers.installed import check_trackers
from tests.recorder import recorded

ROOT = Path(__file__).resolve().parents[2]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# -- the queue --------------------------------------------------------------------------------


def test_a_tracker_gets_everything_in_order_in_a_thread_of_its_own(tmp_path):
    log = recorded(tmp_path)
    log.log(1, {"train/loss": 0.5})
    log.log_table(1, "rollouts", ["step", "prompt"], [[1, "2+2"]])
    log.log_points(1, "curves/x", ("step", "a", "b"), [(1, 2.0, 3.0)])
    log.alert("nan (step 1)", "why")
    log.log_folder(2, "model", tmp_path)
    log.close()
    assert log.recorder.calls == [
        ("start", ()),
        ("numbers", (1, {"train/loss": 0.5})),
        ("table", (1, "rollouts", ["step", "prompt"], [[1, "2+2"]])),
        ("chart", (1, "curves/x", ("step", "a", "b"), [(1, 2.0, 3.0)])),
        ("alert", (1, "nan (step 1)", "why")),
        ("folder", (2, "model", tmp_path)),
        ("finish", ()),
    ]
    assert log.recorder.threads == {"Recorder"}


@pytest.mark.parametrize("kind", ["start", "numbers"])
def test_a_tracker_whose_numbers_fail_is_left_out_once(kind, tmp_path, caplog):
    log = recorded(tmp_path, fails={kind})
    for step in (1, 2, 3):
        log.log(step, {"train/loss": 0.5})
        log.recorder.wait()
    log.close()
    assert [found for found, _ in log.recorder.calls].count(kind) == 1
    assert not log.recorder.of("finish")
    assert caplog.text.count("Recorder failed (OSError: 500) and is left out") == 1
    assert "Later: recorder sync" in caplog.text
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["table", "chart", "alert", "folder"])
def test_what_a_tracker_fails_at_is_left_out_and_the_rest_goes_on(kind, tmp_path, caplog):
    log = recorded(tmp_path, fails={kind})
    for step in (1, 2):
        log.log(step, {"train/loss": 0.5})
        log.log_table(step, "rollouts", ["step"], [[step]])
        log.log_points(step, "curves/x", ("step", "a", "b"), [(1, 2.0, 3.0)])
        log.alert("nan", "why")
        log.log_folder(step, "model", tmp_path)
        log.recorder.wait()
    log.close()
    kinds = [found for found, _ in log.recorder.calls]
    want = {name: 2 for name in ("numbers", "table", "chart", "alert", "folder")} | {kind: 1}
    assert {name: kinds.count(name) for name in want} == want
    assert kinds[-1] == "finish"
    assert caplog.text.count("Recorder failed at the ") == 1


def test_a_tracker_that_ends_badly_says_how_the_rest_is_sent(tmp_path, caplog):
    log = recorded(tmp_path, fails={"finish"})
    log.log(1, {"train/loss": 0.5})
    log.close()
    assert "Recorder did not take all (OSError: 500)" in caplog.text
    assert "Later: recorder sync" in caplog.text


def test_a_tracker_that_blocks_costs_the_run_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rlkd.tracking.logger.CLOSE_S", 0.2)
    log = recorded(tmp_path, depth=50, blocks={"numbers"})
    log.log(0, {"train/loss": 0.5})
    assert log.recorder.blocked.wait(30)
    began = time.monotonic()
    for step in range(1, 1000):
        log.log(step, {"train/loss": 0.5})
    log.close()
    assert time.monotonic() - began < 30  # the tracker would take twice as long for one
    assert len(lines(tmp_path)) == 1000
    assert log.recorder.outbox.missed == 949  # one is in work, fifty wait
    assert caplog.text.count("Recorder does not keep up: 50 things wait") == 1
    assert caplog.text.count("Recorder does not answer; 50 things wait for it still") == 1
    assert "Later: recorder sync" in caplog.text
    assert log.recorder.of("abandon") == [()]
    log.recorder.gate.set()


def test_what_was_missed_is_said_at_the_end_too(tmp_path, caplog):
    log = recorded(tmp_path, depth=5, blocks={"numbers"})
    for step in range(20):
        log.log(step, {"train/loss": 0.5})
    log.recorder.gate.set()
    log.close()
    got = [step for step, _ in log.recorder.of("numbers")]
    assert got == sorted(got)
    assert f"missed {20 - len(got)} things" in caplog.text
    assert log.recorder.of("finish") == [()]


# -- metrics.jsonl ----------------------------------------------------------------------------

FULL = """
import json, resource, signal, sys, warnings
from pathlib import Path
from rlkd.tracking.metrics_file import MetricsFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
file = MetricsFile(folder)
file.append(1, {"train/loss": 0.5})
size = file.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))  # part of a line
file.append(2, {"train/loss": 0.25})
file.append(3, {"train/loss": 0.125})
print(file.path.read_bytes().count(b"\\n"), file.path.stat().st_size == size)
state = file.state()
print(len(state["waiting"]))
if sys.argv[2] == "room":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    file.append(4, {"train/loss": 0.0})
if sys.argv[2] == "resumed":
    file._file.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    file = MetricsFile(folder, attempt=2)
    file.restore(state)
file.close()
"""


def on_a_full_disk(folder: Path, how: str) -> subprocess.CompletedProcess:
    """A limit of the kernel on the file's size, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", FULL, str(folder), how], cwd=ROOT, capture_output=True, text=True,
        timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize(("how", "steps"), [("room", [1, 2, 3, 4]), ("resumed", [1, 2, 3])])
def test_lines_that_a_full_disk_refuses_are_written_when_there_is_room(how, steps, tmp_path):
    done = on_a_full_disk(tmp_path, how)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "True", "2"]
    assert done.stderr.count("cannot be written") == 1
    assert [line["step"] for line in lines(tmp_path)] == steps


def test_lines_that_never_find_room_are_said_to_be_lost(tmp_path):
    done = on_a_full_disk(tmp_path, "full")
    assert done.returncode == 0, done.stderr
    assert "no room for its last 2 lines" in done.stderr
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_a_resumed_file_is_cut_back_to_the_checkpoint(tmp_path):
    file = MetricsFile(tmp_path)
    file.append(1, {"a": 1})
    state = file.state()
    file.append(2, {"a": 2})
    file.close()
    again = MetricsFile(tmp_path, attempt=2)
    assert "1 later lines set aside" in again.restore(state)
    again.append(2, {"a": 3})
    again.close()
    assert [(line["step"], line["a"]) for line in lines(tmp_path)] == [(1, 1), (2, 3)]
    aside = tmp_path / "discarded/attempt-1/metrics.jsonl"
    assert json.loads(aside.read_text())["a"] == 2


# -- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 7, 60, 1000])
@pytest.mark.parametrize("most", [0, 1, 2, 50])
def test_tables_are_bounded_and_spread_over_the_steps(steps, most):
    due = Due(1, steps, most)
    at = [step for step in range(1, steps + 1) if due.at(step)]
    assert len(at) == min(most, steps)
    if most:
        assert at[-1] == steps
    if most > 1:
        assert at[0] == 1
        gaps = [b - a for a, b in itertools.pairwise(at)]
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_table_is_due_at_the_next_batch_where_a_batch_serves_several_steps():
    due = Due(1, 100, 5)  # 1, 25, 50, 75 and 100
    assert [step for step in range(1, 101, 4) if due.at(step)] == [1, 25, 53, 77]


def batch(step: int, prompts: int) -> Rollouts:
    return Rollouts(
        step,
        [f"p{i}" for i in range(prompts)],
        ["x" * (TEXT + 5)] * prompts,
        {"tokens": list(range(prompts)), "token_text": [["x"]] * prompts},
    )


def test_rows_of_all_ranks_meet_in_one_table(tmp_path):
    log = recorded(tmp_path)

    def gather(rows):
        return [*rows, *({**row, "prompt": f"other {row['prompt']}"} for row in rows)]

    tables = RolloutTables(log, gather, 2, rows=4, most=2, steps=9)
    for step in range(1, 10):
        tables.see(batch(step, 8))
        tables.on_log(None, None, None)
        tables.on_log(None, None, None)  # once is enough
    log.close()
    got = log.recorder.of("table")
    assert [(step, name) for step, name, _, _ in got] == [(1, "rollouts"), (9, "rollouts")]
    _, _, columns, rows = got[0]
    assert columns == ["step", "prompt", "completion", "tokens"]
    assert [row[1] for row in rows] == ["p0", "p4", "other p0", "other p4"]
    assert [row[3] for row in rows] == [0, 4, 0, 4]
    assert rows[0][2] == "x" * TEXT + " … (5 more characters)"


@pytest.mark.parametrize("off", [{"rows": 0, "most": 5}, {"rows": 5, "most": 0}])
def test_no_tables_are_no_tables(off, tmp_path):
    log = recorded(tmp_path)
    shown = EvalTables(log, lambda rows: rows, 1, **off, steps=3)
    tables = RolloutTables(log, lambda rows: rows, 1, **off, steps=3)
    for step in range(4):
        shown.see(step, [{"prompt": "a"}], lambda i: "b", [{"length": 1.0}])
        tables.see(batch(step, 2))
        tables.on_log(None, None, None)
    log.close()
    assert not log.recorder.of("table")


# -- the door ---------------------------------------------------------------------------------


def test_a_tracker_that_is_not_installed_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as error:
        check_trackers(Tracking(also=["trackio", "tensorboard"]))
    for package in ("wandb", "trackio", "tensorboard"):
        assert f"{package} is asked for, and is not installed" in str(error.value)
        assert f"pip install {package}" in str(error.value)
    check_trackers(Tracking(wandb="disabled"))


def test_an_artifact_that_nobody_keeps_is_an_error():
    with pytest.raises(ConfigError, match="no tracker keeps files"):
        check_trackers(Tracking(wandb="disabled", artifact="model"))
    check_trackers(Tracking(wandb="offline", artifact="model"))


def test_seeds_of_one_experiment_share_a_group():
    def config(**more):
        return {"run": {"name": "a", "seed": 0, "processes": 1}, "tracking": {"wandb": "offline"},
                "algorithm": {"use": "rlkd.algorithms.rlad:RLAD", "alpha": 0.5}} | more  # fmt: skip

    group = seeds.group_of(config())
    assert group.startswith("RLAD-")
    other_seed = config(run={"name": "b", "seed": 7, "processes": 1}, tracking={"wandb": "online"})
    assert seeds.group_of(other_seed) == group
    assert seeds.group_of(config(optim={"steps": 5})) != group
    assert seeds.group_of(config(run={"name": "a", "seed": 0, "processes": 2})) != group


def test_every_name_has_one_section():
    names = ["train/loss", "train/alarms/length", "eval/accuracy", "train/teacher/gap"]
    assert panels.by_section(names) == {
        "Evaluation": ["eval/accuracy"], "Teacher": ["train/teacher/gap"],
        "Optimiser": ["train/loss"], "Other": ["train/alarms/length"],
    }  # fmt: skip

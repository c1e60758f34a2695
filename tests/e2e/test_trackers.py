"""What a run leaves in W&B, trackio and TensorBoard, read back; and W&B failing in every way."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from rlkd import cli
from rlkd.tracking.glossary import GLOSSARY
from rlkd.tracking.logger import RunLogger
from tests import wandb_file
from tests.wandb_server import serving

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4
SMALL = [
    f"--optim.steps={STEPS}", "--data.train.size=100", "--data.eval.size=40", "--eval.every=2",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=8",
    "--tracking.table_rows=6", "--tracking.tables=3",
]  # fmt: skip
INSTALLED = [name for name in ("trackio", "tensorboard") if shutil.which(name, path=str(
    Path(sys.executable).parent))]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with every tracker that is installed here."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.delenv("WANDB_MODE")
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))  # read when trackio is imported
        words = ["train", "configs/ceeh.yaml", *SMALL, f"--run.dir={folder}", "--run.name=seen",
                 f"--tracking.also={json.dumps(INSTALLED)}", "--tracking.artifact=checkpoints",
                 "--run.save_every=2"]  # fmt: skip
        assert cli.main(words) == 0
    return folder / "seen"


@pytest.fixture(scope="module")
def lines(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def tables(run: Path, name: str) -> list[tuple[int, dict]]:
    """(step, columns and data) of each row of W&B's history with that table."""
    rows, _ = wandb_file.read(run / "wandb")
    (files,) = run.glob("wandb/offline-run-*/files")
    return [
        (row["train/step"], json.loads((files / row[f"{name}/path"]).read_text()))
        for row in rows
        if f"{name}/path" in row
    ]


def test_wandb_has_every_number(run, lines):
    rows, _ = wandb_file.read(run / "wandb")
    assert len(lines) == STEPS + 3
    for line in lines:
        values = {key: value for key, value in line.items() if "/" in key}
        found = [row for row in rows if values.items() <= row.items()]
        assert line["step"] in [row["train/step"] for row in found]
    counts = [row["_step"] for row in rows]
    assert counts == sorted(set(counts))


def test_wandb_has_the_config_the_code_and_the_group(run):
    _, config = wandb_file.read(run / "wandb")
    about = json.loads((run / "run.json").read_text())
    assert config["optim"]["steps"] == STEPS
    assert config["tracking"]["tables"] == 3
    code = config["code"]
    assert code["versions"] == about["versions"]
    assert code["rlkd"] == about["rlkd"]
    commit = code["commit"] + "+changes" * code["dirty"] if code["commit"] else None
    assert commit == about["commit"]
    record = next(r.run for r in wandb_file.records(run / "wandb") if r.HasField("run"))
    assert record.project == "rlkd"
    assert record.display_name == "seen"
    assert record.run_group.startswith("RLAD-")
    assert record.job_type == "train"


def test_wandb_has_rows_of_rollouts_each_step_under_its_own_file(run):
    import pyarrow.parquet as pq

    got = tables(run, "rollouts")
    assert [step for step, _ in got] == [1, 2, STEPS]
    for step, table in got:
        stored = pq.read_table(run / f"rollouts/step-{step:06d}-rank0.parquet").to_pylist()
        places = [16 * i // 6 for i in range(6)]
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        assert {row["step"] for row in rows} == {step}
        for row, place in zip(rows, places, strict=True):
            want = {k: v for k, v in stored[place].items() if k in row}
            assert row == pytest.approx(want, abs=1e-9, nan_ok=True)
    assert {"prompt", "completion", "tokens", "reward/accuracy", "status/accuracy", "advantage",
            "entropy", "teacher_gap", "band", "truncated"} <= set(got[0][1]["columns"])  # fmt: skip


def test_wandb_has_the_same_held_out_answers_each_time(run, lines):
    got = tables(run, "eval/answers")
    assert [step for step, _ in got] == [0, 2, STEPS]
    prompts = []
    for step, table in got:
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        assert len(rows) == 6
        assert {row["step"] for row in rows} == {step}
        assert all(row["reward/accuracy"] in (0.0, 1.0) for row in rows)
        assert all(row["completion"] and row["data/answer"] for row in rows)
        prompts.append([row["prompt"] for row in rows])
    assert prompts[0] == prompts[1] == prompts[2]


def test_wandb_has_the_checkpoints_and_the_model_on_request(run):
    found = [r.request.log_artifact.artifact if r.HasField("request") else r.artifact
             for r in wandb_file.records(run / "wandb")]  # fmt: skip
    models = [a for a in found if a.type == "model"]
    assert sorted((a.name.partition("-")[2], max(a.aliases)) for a in models) == [
        ("checkpoint", "step-2"), ("checkpoint", "step-4"), ("model", "step-4"),
    ]  # fmt: skip
    files = {entry.path for a in models for entry in a.manifest.contents}
    assert "model.safetensors" in files


def test_tensorboard_has_every_number_and_row(run, lines):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    for line in lines:
        for name, value in line.items():
            if "/" in name and value is not None:
                at = {event.step: event.value for event in events.Scalars(name)}
                assert at[line["step"]] == pytest.approx(value, rel=1e-6), name
    texts = {
        name: {e.step: e.tensor_proto.string_val[0].decode() for e in events.Tensors(name)}
        for name in events.Tags()["tensors"]
    }
    assert '"steps": 4' in texts["config/text_summary"][0]
    assert '"versions"' in texts["code/text_summary"][0]
    assert list(texts["rollouts/text_summary"]) == [1, 2, STEPS]
    for step, table in tables(run, "rollouts"):
        shown = texts["rollouts/text_summary"][step].splitlines()
        assert len(shown) == 2 + len(table["data"])
        prompt = table["columns"].index("prompt")
        for line, row in zip(shown[2:], table["data"], strict=True):
            assert row[prompt].replace("\n", "<br>") in line


def test_trackio_has_every_number_and_row(run, lines):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    logs = SQLiteStorage.get_logs("rlkd", "seen")
    for line in lines:
        values = {key: value for key, value in line.items() if "/" in key and value is not None}
        assert any(row["step"] == line["step"] and values.items() <= row.items() for row in logs)
    shown = [(row["step"], row["rollouts"]) for row in logs if "rollouts" in row]
    assert [step for step, _ in shown] == [1, 2, STEPS]
    for (_, table), (_, want) in zip(shown, tables(run, "rollouts"), strict=True):
        rows = [[row[column] for column in want["columns"]] for row in table["_value"]]
        assert rows == want["data"]
    config = SQLiteStorage.get_run_config("rlkd", "seen")
    assert config["optim"]["steps"] == STEPS
    assert config["code"]["versions"]["trl"].startswith("1.16")
    assert config["_Group"].startswith("RLAD-")


def test_what_is_not_installed_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, "trackio", None)  # nothing is found under that name
    words = ["train", "configs/quickstart.yaml", f"--run.dir={tmp_path}", "--run.name=x"]
    assert cli.main([*words, "--tracking.also=[trackio]"]) == 2
    assert "pip install trackio" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_saved_view_has_every_metric_under_its_heading(monkeypatch, capsys):
    pytest.importorskip("wandb_workspaces")
    with serving(opens=True) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        assert cli.main(["workspace", "proj", "--view=mine"]) == 0
    (given,) = [q["variables"] for q in server.queries if "upsertView" in q["query"]]
    assert f"{server.url}/me/proj" in capsys.readouterr().out
    assert (given["entityName"], given["projectName"]) == ("me", "proj")
    assert given["displayName"] == "mine"
    section = json.loads(given["spec"])["section"]
    panels = {
        part["name"]: [panel["config"] for panel in part["panels"]]
        for part in section["panelBankConfig"]["sections"]
    }
    titles = [c["chartTitle"] for configs in panels.values() for c in configs if "chartTitle" in c]
    assert sorted(titles) == sorted([*GLOSSARY, "length against accuracy"])
    assert list(panels)[:3] == ["Evaluation", "Answers", "Reward"]
    accuracy = next(c for c in panels["Evaluation"] if c["chartTitle"] == "eval/accuracy")
    assert (accuracy["metrics"], accuracy["xAxis"]) == (["eval/accuracy"], "train/step")
    means = next(c for c in panels["Reward"] if c["chartTitle"] == "train/rewards/*/mean")
    assert re.fullmatch(means["metricRegex"], "train/rewards/accuracy/mean")
    assert not re.fullmatch(means["metricRegex"], "train/rewards/a/faults/mean")
    assert [group["name"] for group in section["runSets"][0]["grouping"]] == ["group"]
    tables = json.dumps(panels["Answers"])
    assert '"rollouts"' in tables
    assert '"eval/answers"' in tables


@pytest.mark.parametrize("key", [True, False])
def test_a_view_that_cannot_be_saved_is_an_error_that_says_why(key, monkeypatch, capsys, tmp_path):
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with serving(opens=False) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert cli.main(["workspace", "proj", "--entity=team"]) == 2
    assert ("did not take the view" if key else "no key for W&B") in capsys.readouterr().err


def test_the_view_is_listed_without_the_network(capsys):
    pytest.importorskip("wandb_workspaces")
    assert cli.main(["workspace", "proj", "--print"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[shown.index("Teacher") + 1] == "  train/teacher/gap"


# -- W&B failing --------------------------------------------------------------------------------

WAYS = {
    "no network": ["W&B cannot be reached (CommError", "recorded offline"],
    "no key": ["W&B cannot be reached (no key", "recorded offline"],
    "500": ["W&B cannot be reached (CommError", "HTTP 500", "recorded offline"],
    "500 once open": ["W&B did not take all (Unsent"],
    "hangs": ["W&B cannot be reached (CommError", "recorded offline"],
    "killed": ["W&B failed (ConnectionResetError"],
    "stopped": ["W&B does not answer"],
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Way -> (folder, finished process), all at the same time: they mostly wait."""
    folder = tmp_path_factory.mktemp("failing")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and k != "NETRC"}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    key = {"WANDB_API_KEY": "0" * 40}
    with ExitStack() as stack:
        broken, later, silent = (
            stack.enter_context(serving(**how)) for how in ({}, {"opens": True}, {"hangs": True})
        )
        more = {
            "no network": {"WANDB_BASE_URL": "http://127.0.0.1:9", **key},
            "no key": {"WANDB_BASE_URL": broken.url},
            "500": {"WANDB_BASE_URL": broken.url, **key},
            "500 once open": {"WANDB_BASE_URL": later.url, **key},
            "hangs": {"WANDB_BASE_URL": silent.url, **key},
        }
        running = {}
        for way in WAYS:
            place = folder / way.replace(" ", "-")
            place.mkdir()
            command = [sys.executable, "tests/e2e/failing_wandb.py", str(place), way]
            running[way] = place, subprocess.Popen(
                command, cwd=ROOT, env=env | more.get(way, {}), text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        found = {}
        for way, (place, process) in running.items():
            try:
                out, err = process.communicate(timeout=200)
            finally:
                process.kill()
            found[way] = place, process.returncode, out, err
    return found


@pytest.mark.parametrize("way", WAYS)
def test_wandb_that_fails_neither_stops_nor_slows_a_run_and_nothing_is_lost(way, failures):
    folder, code, out, err = failures[way]
    assert code == 0, err[-3000:]
    for words in WAYS[way]:
        assert words in err
    told = [line for line in err.splitlines() if line.startswith("W&B ")]
    assert len(told) == 1  # a warning, once
    assert "wandb sync " in told[0]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(300))
    took = json.loads(out)
    assert took["median"] < 0.005
    assert took["close"] < 130
    (place,) = folder.glob(f"wandb/{Path(told[0].partition('wandb sync ')[2]).name}")
    if way in ("killed", "stopped"):  # what wandb's own process had not yet written is lost there
        return
    rows, _, run_id = wandb_file.read_file(next(place.glob("*.wandb")))
    assert run_id == "abcdefgh"
    assert [row["train/step"] for row in rows if "train/loss" in row] == list(range(300))


# -- a full disk --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full_for_a_while_loses_no_line(small_disk, monkeypatch, caplog):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("WANDB_MODE")
    ballast, log = small_disk / "ballast", RunLogger.log

    def fill(self, step, metrics):
        if step == 2 and not ballast.exists():
            time.sleep(1)  # what is on its way to the disk arrives
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while True:  # until there is no space left
                    file.write(b"x" * 512)
        log(self, step, metrics)
        if step == 3:
            ballast.unlink(missing_ok=True)

    monkeypatch.setattr(RunLogger, "log", fill)
    words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={small_disk}"]
    assert cli.main([*words, "--run.name=full"]) == 0
    assert "metrics.jsonl cannot be written" in caplog.text
    lines = [json.loads(line) for line in (small_disk / "full/metrics.jsonl").open()]
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "eval/accuracy" in line] == [0, 2, 4]
    assert (small_disk / "full/model/model.safetensors").is_file()

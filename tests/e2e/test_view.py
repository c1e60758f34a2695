"""A run with CEEH, whole: every number of a band, a record and a chart, made again by slow twins
from the rollouts on disk."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlkd import cli
from rlkd.tracking import glossary
from tests import wandb_file

ROOT = Path(__file__).resolve().parents[2]
STEPS, PROMPTS, GROUP = 6, 4, 4
SMALL = [
    f"--optim.steps={STEPS}", "--data.train.size=10", "--data.eval.size=40", "--eval.every=3",
    f"--batch.prompts_per_step={PROMPTS}", f"--batch.group_size={GROUP}",
    "--batch.micro_batch_size=8", "--run.save_every=4", "--sampling.max_completion_length=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.delenv("WANDB_MODE")
        words = ["train", "configs/ceeh.yaml", *SMALL, f"--run.dir={folder}", "--run.name=seen"]
        assert cli.main(words) == 0
    return folder / "seen"


@pytest.fixture(scope="module")
def lines(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def steps(lines) -> list[dict]:
    return [line for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def rollouts(run) -> list[list[dict]]:
    """Rows of each step, in the order of their groups."""
    files = sorted((run / "rollouts").glob("*.parquet"))
    return [pq.read_table(path).to_pylist() for path in files]


def groups(rows: list[dict]) -> list[list[dict]]:
    return [rows[start : start + GROUP] for start in range(0, len(rows), GROUP)]


def counted(row: dict) -> bool:
    return not row["truncated"] and row["reward/accuracy"] is not None


def right(row: dict) -> bool:
    return counted(row) and row["reward/accuracy"] >= 1.0


def replayed(rollouts):
    """(pass rates, shortest lengths) on record before each step, and the records after the last, by
    the paper's formulas in plain Python."""
    known: dict[str, dict] = {}
    seen = []
    for rows in rollouts:
        rates = {prompt: record["rate"] for prompt, record in known.items()}
        lengths = {prompt: record["shortest"] for prompt, record in known.items()}
        seen.append((rates, lengths))
        by_prompt: dict[str, list[dict]] = {}
        for row in rows:
            by_prompt.setdefault(row["prompt"], []).append(row)
        for prompt, answers in by_prompt.items():
            kept = [row for row in answers if counted(row)]
            if not kept:
                continue
            now = sum(map(right, kept)) / len(kept)
            record = known.setdefault(prompt, {"rate": now, "shortest": math.inf, "visits": 0})
            eta = 0.2 if record["rate"] < now else 0.05
            if record["visits"]:
                record["rate"] = (1 - eta) * record["rate"] + eta * now
            record["visits"] += 1
            record["shortest"] = min(
                [record["shortest"], *(row["tokens"] for row in kept if right(row))]
            )
    return seen, known


def band(rate: float | None) -> str:
    if rate is None:
        return "new"
    return "hard" if rate < 1 / 3 else "easy" if rate > 2 / 3 else "middle"


def test_the_records_are_those_that_the_rollouts_give(run, rollouts):
    _, known = replayed(rollouts)
    table = {row["prompt"]: row for row in pq.read_table(run / "difficulty.parquet").to_pylist()}
    assert len(table) == 10
    assert sum(row["visits"] for row in table.values()) > 10  # some came twice
    for prompt, row in table.items():
        want = known.get(prompt)
        if want is None:
            assert (row["pass_rate"], row["shortest"], row["visits"]) == (None, None, 0)
            continue
        assert row["pass_rate"] == pytest.approx(want["rate"], abs=1e-12)
        assert row["shortest"] == (want["shortest"] if want["shortest"] < math.inf else None)
        assert row["visits"] == want["visits"]


def test_every_band_number_is_that_of_the_rollouts(steps, rollouts):
    seen, _ = replayed(rollouts)
    bands_met = set()
    for line, rows, (rates, lengths) in zip(steps, rollouts, seen, strict=True):
        assert [row["band"] for row in rows] == [band(rates.get(row["prompt"])) for row in rows]
        for name in ("hard", "middle", "easy", "new"):
            mine = [row for row in rows if row["band"] == name]
            got = {
                key.rpartition("/")[2]: value
                for key, value in line.items()
                if key.startswith(f"train/difficulty/{name}/")
            }
            assert got.pop("share") == pytest.approx(len(mine) / len(rows))
            want = twin(mine)
            assert got == pytest.approx(want, abs=1e-5), name
            bands_met |= {name} if mine else set()
        if rates:
            mean = sum(rates.values()) / len(rates)
            assert line["train/difficulty/threshold"] == pytest.approx(mean)
            hard = [row for row in rows if rates.get(row["prompt"], math.inf) < mean]
            assert line["train/difficulty/hard_set"] == pytest.approx(len(hard) / len(rows))
        else:
            assert "train/difficulty/threshold" not in line
            assert line["train/difficulty/hard_set"] == 0
        ratios = [row["tokens"] / lengths[row["prompt"]] for row in rows
                  if right(row) and lengths.get(row["prompt"], math.inf) < math.inf]  # fmt: skip
        below = line.get("train/difficulty/length_ratio/below_1")
        assert below == (
            pytest.approx(sum(r < 1 for r in ratios) / len(ratios)) if ratios else None
        )
        assert line["train/accuracy"] == pytest.approx(
            sum(row["reward/accuracy"] >= 1 for row in rows) / len(rows)
        )
    assert {"new", "easy"} < bands_met


def twin(rows: list[dict]) -> dict[str, float]:
    """What is logged of one band's rollouts, but its share."""
    want = {}
    tokens = sum(row["tokens"] for row in rows)
    if tokens:
        want["entropy"] = sum(row["entropy"] * row["tokens"] for row in rows) / tokens
    kept = [row for row in rows if counted(row)]
    if not kept:
        return want
    want["accuracy"] = sum(map(right, kept)) / len(kept)
    want["length"] = sum(row["tokens"] for row in kept) / len(kept)
    for k in (GROUP // 2, GROUP):
        chances = []
        for group in groups(rows):
            n, c = sum(map(counted, group)), sum(map(right, group))
            if n >= k:
                chances.append(1 - math.comb(n - c, k) / math.comb(n, k))
        if chances:
            want[f"pass@{k}"] = sum(chances) / len(chances)
    return want


def test_every_logged_name_has_an_entry_in_the_glossary_and_every_number_is_one(lines):
    names = {name for line in lines for name in line} - {"step", "seconds"}
    assert not [name for name in names if glossary.explain(name) is None]
    ours = [name for name in names if name.startswith(("train/difficulty/", "train/ceeh/"))]
    assert len(ours) >= 15
    assert {"train/ceeh/entropy_coefficient", "train/ceeh/gate_open", "train/ceeh/length_term",
            "train/reward_shaped"} <= names  # fmt: skip
    assert all(line[name] is not None for line in lines for name in ours if name in line)


def test_the_tracker_has_the_curve_the_bands_and_the_settings(run, lines, steps):
    rows, config = wandb_file.read(run / "wandb")
    assert config["components"][0]["use"] == "rlkd.algorithms.ceeh:CEEH"
    for line in steps:
        values = {key: value for key, value in line.items() if "/" in key}
        assert any(values.items() <= row.items() for row in rows)
    name = "curves/length_accuracy_table"
    tables = [row for row in rows if f"{name}/path" in row]
    # With the checkpoint of step 4, and at the end; the one does not replace the other.
    assert [row["train/step"] for row in tables] == [4, STEPS]
    points = [
        [line["step"], line["eval/length"], line["eval/accuracy"]]
        for line in lines
        if "eval/accuracy" in line
    ]
    assert [point[0] for point in points] == [0, 3, 6]
    (files,) = run.glob("wandb/offline-run-*/files")
    for row, number in zip(tables, (2, 3), strict=True):
        assert row[f"{name}/nrows"] == number
        table = json.loads((files / row[f"{name}/path"]).read_text())
        assert table == {"columns": ["step", "length", "accuracy"], "data": points[:number]}
    chart = config["_wandb/visualize/curves/length_accuracy"]["panel_config"]
    assert chart["fieldSettings"] == {"x": "length", "y": "accuracy"}


def test_the_folder_has_the_picture_and_the_commands_read_it(run, capsys):
    assert (run / "length_accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["difficulty", str(run), "--limit=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"seen, after step {STEPS}")
    assert lines[1].startswith("10 prompts: ")
    assert cli.main(["curves", str(run)]) == 0
    assert capsys.readouterr().out.split() == [str(run / "length_accuracy.png")]

"""rlkd compare: trains what is missing, survives kill -9, names what failed; the walk-through."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlkd.compare import commands, records, table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EVIDENCE = ROOT / "configs" / "evidence"
TABLES = [(ROOT / "README.md", EVIDENCE), (EVIDENCE / "README.md", EVIDENCE / "weak_teacher")]
COMPARE = "configs/evidence/compare"
TINY = [
    "--optim.steps=4", "--data.train.size=40", "--data.eval.size=6",
    "--batch.prompts_per_step=2", "--batch.micro_batch_size=16",
]  # fmt: skip
FIGURES = {"accuracy", "pass@8", "greedy", "length", "entropy", "teacher_gap", "generated_tokens",
           "teacher_rows", "teacher_tokens", "seconds"}  # fmt: skip


def line(*words: str) -> list[str]:
    return [sys.executable, "-m", "rlkd.cli", "compare", *words]


def surroundings(*places: Path) -> dict[str, str]:
    path = os.pathsep.join(map(str, (*places, ROOT)))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def compare(*words: str, code: int = 0, folder: Path = ROOT) -> str:
    """What the command printed; its exit code must be `code`."""
    done = subprocess.run(
        line(*words), cwd=folder, env=surroundings(), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_it_goes_on_after_a_kill_and_tells_what_failed(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("algorithm: {use: 'rlkd.algorithms.rlad:RLAD'}\nteacher: {path: /nowhere}\n")
    words = [f"{COMPARE}/grpo.yaml", f"{COMPARE}/rlad.yaml", str(broken), "--seeds", "1",
             "--tasks", f"{COMPARE}/tasks/arithmetic.yaml", "--out", str(tmp_path),
             "--runs", str(tmp_path / "runs"), *TINY]  # fmt: skip
    caller = subprocess.Popen(
        line(*words, "--jobs", "1"), cwd=ROOT, env=surroundings(), stdout=subprocess.DEVNULL
    )
    path = tmp_path / "results.json"
    end = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < end
        assert caller.poll() is None
        time.sleep(0.05)
    caller.kill()  # the first run is kept; whatever the second had done is not
    caller.wait()
    first = records.read(path)
    assert 1 <= len(first) < 3
    said = compare(*words, code=1)
    assert "3 runs, 1 of them in" in said
    assert re.search(r"failed  broken on arithmetic, seed 0: .*nowhere", said)
    kept = {record["algorithm"]: record for record in records.read(path)}
    assert kept["grpo"] == first[0]
    assert "nowhere" in kept["broken"]["error"]
    check(kept["grpo"])
    check(kept["rlad"])
    assert kept["grpo"]["teacher_tokens"] == 0 < kept["rlad"]["teacher_tokens"]
    assert kept["grpo"]["curve"][0]["accuracy"] == kept["rlad"]["curve"][0]["accuracy"]
    assert (tmp_path / "results.md").read_text() == table.page(records.read(path))
    assert (tmp_path / "runs" / "compare.html").stat().st_size > 20_000
    said = compare(*words[:2], *words[3:], "--optim.learning_rate=0.1", code=2)
    assert "other settings" in said


def check(record: dict) -> None:
    """What every record of a finished run must hold."""
    assert {"algorithm", "task", "seed", "settings", "command", "commit", "versions"} <= set(record)
    assert set(record) >= FIGURES
    curve = record["curve"]
    assert curve[0]["step"] == curve[0]["generated_tokens"] == 0
    assert curve[-1]["step"] == record["steps"]
    assert {name: curve[-1][name] for name in FIGURES} == {name: record[name] for name in FIGURES}
    for before, after in itertools.pairwise(curve):
        assert after["generated_tokens"] >= before["generated_tokens"]
        assert after["seconds"] > before["seconds"]
    # Supervised distillation samples nothing.
    assert (curve[-1]["generated_tokens"] > 0) == (record["algorithm"] != "sft_kd")
    for point in curve:
        assert 0.0 <= point["accuracy"] <= point["pass@8"] <= 1.0
        assert point["length"] >= 1.0
        assert point["entropy"] >= 0.0


@pytest.mark.parametrize(("page", "folder"), TABLES)
def test_a_pages_table_is_made_from_the_results(page, folder):
    found = records.read(folder / "results.json")
    assert found
    _, _, rest = page.read_text(encoding="utf-8").partition(commands.MARKS[0])
    said, _, _ = rest.partition(commands.MARKS[1])
    made = f"{table.main_table(found)}\n\n{table.note()}"
    assert said.strip() == made, f"run: rlkd compare … --table --readme {page.name}"


@pytest.mark.parametrize(("page", "folder"), TABLES)
def test_what_is_committed_is_whole(page, folder):
    found = records.read(folder / "results.json")
    for record in found:
        assert "error" not in record, record
        check(record)
    seeds = {
        len(table.of(found, name, task))
        for name in table.algorithms(found)
        for task in table.tasks(found)
    }
    assert seeds == {5}, "a row that rests on fewer seeds than the others"
    assert (folder / "results.md").read_text(encoding="utf-8") == table.page(found)


def test_tables_against_another_baseline_stand_beside_those_against_grpo(tmp_path):
    shutil.copy(EVIDENCE / "results.json", tmp_path)
    runs = tmp_path / "runs"
    out = ("--out", str(tmp_path), "--runs", str(runs))
    said = compare(f"{COMPARE}/kdrl.yaml", "--table", "--against", "kdrl", *out)
    assert "| `kdrl` | 5 |" in said
    assert not (tmp_path / "results.md").exists()
    assert "Δ: from `kdrl`" in (runs / "results_kdrl.md").read_text(encoding="utf-8")
    assert (runs / "compare_kdrl.html").stat().st_size > 20_000


def test_the_table_goes_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{commands.MARKS[0]}\nold\n{commands.MARKS[1]}\nafter\n")
    commands.put_table(page, "new")
    assert page.read_text() == f"before\n{commands.MARKS[0]}\nnew\n{commands.MARKS[1]}\nafter\n"
    with pytest.raises(commands.ConfigError, match="there is no such file"):
        commands.put_table(tmp_path / "none.md", "new")
    page.write_text("nothing")
    with pytest.raises(commands.ConfigError, match="has no place for the table"):
        commands.put_table(page, "new")


@pytest.mark.timeout(900)
def test_the_walk_through_of_the_readme(tmp_path):
    """Its files in a project of their own, its two commands."""
    blocks = re.findall(r"```(\w+)\n# (my_project/\S+)\n(.*?)```", README, re.DOTALL)
    assert [name for _, name, _ in blocks] == [
        "my_project/pulled.py", "my_project/laws.py", "my_project/pulled.yaml",
    ]  # fmt: skip
    for _, name, text in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for shelf in ("envs", "rewards"):
        (tmp_path / shelf).symlink_to(ROOT / shelf)
    under_laws, side_by_side = re.findall(
        r"^(RLKD_CASES=\S+ .*|.venv/bin/rlkd compare my_project.*)$", README, re.MULTILINE
    )
    cases, _, options = under_laws.partition(" .venv/bin/pytest tests/laws ")
    held = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests/laws"),
         *options.split()],
        cwd=ROOT, env=surroundings(tmp_path) | dict([cases.split("=", 1)]),
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert held.returncode == 0, held.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", held.stdout)[1]) > 20
    words = side_by_side.removeprefix(".venv/bin/rlkd compare ").split()
    said = compare(*words, "--seeds", "1", *TINY, folder=tmp_path)
    kept = json.loads((tmp_path / "runs/pulled/results.json").read_text())
    tasks = {path.stem for path in (ROOT / COMPARE / "tasks").glob("*.yaml")}
    assert {(r["algorithm"], r["task"]) for r in kept} == {
        (algorithm, task) for algorithm in ("grpo", "pulled") for task in tasks
    }
    assert "`pulled`" in said

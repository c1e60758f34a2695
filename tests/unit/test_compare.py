"""A comparison without any training: its jobs, records, tests and tables."""

import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mpmath
import pytest

from rlkd.compare import commands, grid, page, processes, records, table
from rlkd.compare.significance import holm, paired_t
from rlkd.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]
COMPARE = ROOT / "configs" / "evidence" / "compare"


# -- the tests ----------------------------------------------------------------------------------


def test_the_paired_test_gives_the_textbook_value():
    tested = paired_t([1.0, 2.0, 3.0, 4.0, 5.0])
    assert tested.mean == 3.0
    assert tested.standard_error == pytest.approx(2.5**0.5 / 5**0.5)
    assert tested.p == pytest.approx(0.013236, abs=1e-6)


@pytest.mark.parametrize("differences", [[0.3, -0.1, 0.2], [1.0, 1.5, 0.7, 1.1, -0.2, 0.9]])
def test_p_is_the_area_under_students_density(differences):
    n = len(differences)
    t = statistics.mean(differences) / (statistics.stdev(differences) / n**0.5)
    nu = n - 1

    def density(x):
        front = mpmath.gamma((nu + 1) / 2) / (mpmath.sqrt(nu * mpmath.pi) * mpmath.gamma(nu / 2))
        return front * (1 + x * x / nu) ** (-(nu + 1) / 2)

    inside = mpmath.quad(density, [-abs(t), 0, abs(t)])
    assert paired_t(differences).p == pytest.approx(float(1 - inside), abs=1e-9)


def test_what_has_no_spread():
    assert paired_t([0.5]) is None
    assert paired_t([0.0, 0.0]).p == 1.0
    assert paired_t([0.1, 0.1]).p == 0.0


def test_holm_keeps_the_order_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


# -- the records --------------------------------------------------------------------------------


def made_up(algorithm, seed, accuracy, task="sums", **more):
    cost = {"generated_tokens": 1000, "teacher_rows": 0, "teacher_tokens": 0, "seconds": 2.0}
    point = {"step": 4, "accuracy": accuracy, "pass@8": 1.0, "length": 3.0, "entropy": 0.1, **cost}
    record = {"algorithm": algorithm, "task": task, "seed": seed, "settings": "x", "greedy": 0.5}
    return {**record, **point, "curve": [{**point, "step": 0, "seconds": 0}, point], **more}


def test_a_record_takes_the_place_of_its_runs_last_one(tmp_path):
    path = tmp_path / "new" / "results.json"
    records.keep(path, made_up("b", 0, 0.1))
    records.keep(path, made_up("a", 1, 0.2))
    kept = records.keep(path, made_up("b", 0, 0.3))
    assert [(r["algorithm"], r["accuracy"]) for r in kept] == [("a", 0.2), ("b", 0.3)]
    assert records.read(path) == kept
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def keep_some(path, algorithm):
    for seed in range(20):
        records.keep(path, made_up(algorithm, seed, 0.5))


def test_two_programs_do_not_lose_each_others_records(tmp_path):
    path = tmp_path / "results.json"
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=keep_some, args=(path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert len(records.read(path)) == 40


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    before = records.keep(path, made_up("a", 0, 0.1))

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        records.keep(path, made_up("b", 0, 0.1))
    assert records.read(path) == before


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ConfigError, match=r"results\.json"):
        records.read(tmp_path / "results.json")


# -- the grid -----------------------------------------------------------------------------------


def jobs(monkeypatch, algorithms=("grpo", "rlad"), seeds=(0, 1), overrides=()):
    monkeypatch.chdir(ROOT)
    paths = [COMPARE / f"{name}.yaml" for name in algorithms]
    return grid.jobs(paths, [COMPARE / "tasks" / "arithmetic.yaml"], seeds, Path("r"), overrides)


def test_every_algorithm_meets_every_seed_seed_by_seed(monkeypatch):
    found = jobs(monkeypatch)
    assert [job.key for job in found] == [
        (name, "arithmetic", seed) for seed in (0, 1) for name in ("grpo", "rlad")
    ]
    for job in found:
        assert job.config.run.seed == job.config.data.train.seed == job.seed
        assert job.config.data.eval.seed == 0
        assert job.ruler.teacher is not None
    assert found[0].config.teacher is None
    assert len({records.fingerprint(job.config) for job in found}) == 4


def test_the_committed_algorithms_differ_in_nothing_that_is_the_tasks(monkeypatch):
    names = [path.stem for path in sorted(COMPARE.glob("*.yaml"))]
    assert grid.BASELINE in names
    found = jobs(monkeypatch, names, seeds=(0,))
    for job in found:
        job.config.build_algorithm()
        assert job.config.data.train == found[0].config.data.train
        for block in ("model", "sampling", "eval"):
            assert getattr(job.config, block) == getattr(found[0].config, block), job.name


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("optim: {steps: 9}", "optim.steps"),
        ("data: {train: {size: 9}}", "data.train"),
        ("batch: {micro_batch_size: 8, group_size: 4}", "batch.group_size"),
        ("run: {seed: 3}", "run"),
        ("generation: {backend: continuous_batching}", "generation"),
    ],
)
def test_an_algorithm_with_a_budget_of_its_own_is_refused(tmp_path, monkeypatch, text, place):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "own.yaml"
    path.write_text((COMPARE / "grpo.yaml").read_text() + text + "\n")
    with pytest.raises(ConfigError, match=rf"own\.yaml: {place} is set by an algorithm's file"):
        grid.jobs([path], [COMPARE / "tasks" / "arithmetic.yaml"], [0], Path("r"))


def test_what_is_finished_is_not_run_again_what_failed_is(monkeypatch):
    found = jobs(monkeypatch)
    done = made_up("grpo", 0, 0.5, "arithmetic", settings=records.fingerprint(found[0].config))
    broken = grid.failed(found[1], "it broke")
    left = grid.missing(found, [done, broken], False, Path("results.json"))
    assert [job.key for job in left] == [job.key for job in found[1:]]


def test_other_settings_are_refused_or_run_anew(monkeypatch):
    found = jobs(monkeypatch)
    done = [made_up(*job.key[::2], 0.5, "arithmetic") for job in found]
    with pytest.raises(
        ConfigError, match=r"other settings(.|\n)*grpo on arithmetic, seed 0(.|\n)*--redo"
    ):
        grid.missing(found, done, False, Path("results.json"))
    assert grid.missing(found, done, True, Path("results.json")) == found


# -- the processes ------------------------------------------------------------------------------


def work(what):
    print("working")
    if what == "raise":
        raise ValueError("bad luck\nand more")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        sys.exit(4)
    if what == "sleep":
        time.sleep(600)
    return what, os.environ["OMP_NUM_THREADS"]


def test_a_job_that_crashes_takes_nothing_else_down(tmp_path):
    whats = ["raise", "fine", "die", "exit", "also fine"]
    logs = [tmp_path / f"{i}.log" for i in range(len(whats))]
    outcomes = processes.run_all(work, [(what,) for what in whats], logs, 2)
    found = {whats[outcome.number]: outcome for outcome in outcomes}
    assert found["fine"].result == ("fine", "1")
    assert found["also fine"].error is None
    assert found["raise"].error == f"ValueError: bad luck and more (see {logs[0]})"
    assert "killed by signal 9" in found["die"].error
    assert found["exit"].error.startswith("SystemExit: 4")
    assert "bad luck\nand more" in logs[0].read_text()
    assert "working" in logs[2].read_text()


def test_jobs_end_with_their_caller(tmp_path):
    script = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path\n"
        "import waits\n"
        "from rlkd.compare import processes\n"
        "if __name__ == '__main__':\n"
        "    place = sys.argv[2]\n"
        "    list(processes.run_all(waits.wait, [(place,)], [Path(place) / 'log'], 1))\n"
    )
    (tmp_path / "main.py").write_text(script)
    (tmp_path / "waits.py").write_text(
        "import os, pathlib, time\n"
        "def wait(folder):\n"
        "    pathlib.Path(folder, 'pid').write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    caller = subprocess.Popen([sys.executable, tmp_path / "main.py", ROOT, tmp_path])
    pid = tmp_path / "pid"
    until(lambda: pid.exists() and pid.read_text())
    caller.kill()
    caller.wait()
    until(lambda: not alive(int(pid.read_text())))


def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


# -- the tables ---------------------------------------------------------------------------------

GRID = [
    *(made_up("grpo", seed, accuracy) for seed, accuracy in enumerate((0.50, 0.60, 0.70))),
    *(made_up("good", seed, accuracy) for seed, accuracy in enumerate((0.60, 0.72, 0.80))),
    made_up("good", 7, 0.0),
    made_up("bad", 0, 0.1),
    {"algorithm": "bad", "task": "sums", "seed": 1, "settings": "x", "error": "it broke"},
]


def test_differences_are_paired_by_seed_and_a_failure_is_no_hole():
    head, _, *rows = table.main_table(GRID).splitlines()
    assert head.startswith("| algorithm | seeds | sums: accuracy | Δ | p |")
    cells = {row.split("|")[1].strip(): [c.strip() for c in row.split("|")[2:]] for row in rows}
    assert list(cells) == ["`grpo`", "`good`", "`bad`"]
    assert cells["`grpo`"][:4] == ["3", "0.600 ± 0.100", "–", "–"]
    # differences 10, 12, 10 points: mean 10.67, standard error 0.67; seed 7 has no pair
    assert cells["`good`"][:3] == ["4", "0.530 ± 0.363", "+10.7 ± 0.7"]
    assert cells["`good`"][3] == f"{paired_t([0.10, 0.12, 0.10]).p:.3f}"
    assert cells["`bad`"][0] == "1 (1 failed)"
    assert "bad on sums, seed 1: it broke" in table.page(GRID)


def test_over_all_tasks_the_seed_is_the_pair():
    both = [*GRID, *(made_up("grpo", s, 0.2, "logic") for s in range(3)),
            *(made_up("good", s, a, "logic") for s, a in enumerate((0.2, 0.3, 0.1)))]  # fmt: skip
    tested = table.against(both, "good", ["logic", "sums"])
    assert tested.pairs == 3
    assert tested.p == pytest.approx(paired_t([0.05, 0.11, 0.0]).p)
    assert tested.mean == pytest.approx((0.05 + 0.11 + 0.0) / 3)
    assert "Δ over both" in table.main_table(both)


def test_any_algorithm_can_be_the_baseline():
    rows = table.main_table(GRID, "good").splitlines()[2:]
    cells = {row.split("|")[1].strip(): [c.strip() for c in row.split("|")[2:]] for row in rows}
    assert cells["`good`"][2:4] == ["–", "–"]
    assert cells["`grpo`"][2] == "-10.7 ± 0.7"
    assert "from `good`" in table.page(GRID, "good")


def test_an_unknown_baseline_is_refused():
    with pytest.raises(ConfigError, match="'nobody', and no algorithm here is called so: good"):
        commands._baseline("nobody", ["good"], [])
    assert commands._baseline("old", ["good"], [made_up("old", 0, 0.5)]) == "old"


def test_curves_are_means_over_seeds_with_their_spread():
    curves = [GRID[0]["curve"], GRID[2]["curve"]]
    start, end = page.over_seeds(curves, "seconds", "accuracy")
    assert (start[0], end[0]) == (0, 2.0)
    assert end[1] == pytest.approx(0.6)
    assert end[2] == pytest.approx(statistics.stdev([0.5, 0.7]))
    assert page.over_seeds(curves, "seconds", "teacher_gap") == []


def test_the_page_needs_nothing_else(tmp_path):
    page.write(GRID, tmp_path / "new" / "compare.html")
    text = (tmp_path / "new" / "compare.html").read_text()
    assert "data:image/png;base64," in text
    assert "http" not in text
    assert "it broke" in text


def test_records_are_json():
    assert json.loads(json.dumps(GRID)) == GRID

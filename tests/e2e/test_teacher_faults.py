"""A teacher that goes wrong in the middle of a run: it never makes a wrong update, and the run goes
on from its checkpoint when the teacher is mended."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlkd import cli
from rlkd.teacher.local import LocalTeacher
from rlkd.tracking import glossary
from tests.e2e.test_processes import launch
from tests.vllm_double import VLLMDouble

ROOT = Path(__file__).resolve().parents[2]
TINY = "configs/models/tiny_teacher"
SMALL = [
    "--data.train.size=200", "--data.eval=null", "--eval.every=0", "--optim.steps=3",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=8",
    "--run.name=x", "--run.save_every=1", "--run.keep=9", "--tracking.wandb=disabled",
    "--tracking.rollouts_every=0",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def faulty(kind: str, folder: Path, **more) -> str:
    block = {"use": "tests.e2e.faulty_teacher:Faulty", "kind": kind, "at": 2,
             "mended": str(folder / "mended"), "inner": {"path": TINY}}  # fmt: skip
    return f"--teacher={json.dumps(block | more)}"


def served(double: VLLMDouble, **more) -> str:
    block = {"use": "rlkd.teacher.server:ServerTeacher", "url": double.url, "patience": 2.0,
             "timeout": 5.0, "canary_every": 1}  # fmt: skip
    return f"--teacher={json.dumps(block | more)}"


def words(folder: Path, *more: str) -> list[str]:
    return ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={folder}", *more]


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict]:
    path = run / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def steps(run: Path) -> list[dict]:
    return [row for row in lines(run) if "train/loss" in row]


def same_weights(one: Path, other: Path) -> bool:
    mine, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A run in which nothing goes wrong."""
    folder = tmp_path_factory.mktemp("healthy")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert cli.main(words(folder, faulty("none", folder))) == 0
    return folder / "x"


# -- the run stops ---------------------------------------------------------------------------------

SAVED = r"the answer and its scores: .*/x/bad_scores-rank0\.jsonl"
STOPS = {
    "nan": ("gave a log-probability of nan in row", SAVED),
    "inf": ("gave a log-probability of inf in row", SAVED),
    "positive": (r"gave a log-probability of 0\.5 in row", SAVED),
    "ruled_out": (r"rules out every token of an answer \(−inf\), in row", SAVED),
    "short": (r"gave \d+ scores for the \d+ tokens that were sent, in row", SAVED),
    "stale": ("scored other tokens than were sent, in row", SAVED),
    "missing": ("was asked for 16 answers and scored 15", SAVED),
    "permuted": ("scored other tokens than were sent, in row", SAVED),
    "raises": ("failed with RuntimeError: CUDA error: out of luck", r"faulty_teacher\.py, line"),
}


@pytest.mark.parametrize(
    ("kind", "overlap"), [*((kind, "off") for kind in STOPS), ("nan", "on"), ("raises", "on")]
)
def test_a_faulty_teacher_stops_the_run_and_a_mended_one_lets_it_go_on(
    kind, overlap, healthy, tmp_path, capsys
):
    assert cli.main(words(tmp_path, faulty(kind, tmp_path, overlap=overlap))) == 3
    said, run = capsys.readouterr().err, tmp_path / "x"
    message, place = STOPS[kind]
    assert re.search(f"rlkd: stopped in step 2: a faulty teacher {message}", said), said
    assert "none of this step was used" in said
    assert "Traceback" not in said
    assert re.search(place, said)
    kept = lines(run, "bad_scores-rank0.jsonl")
    if kind == "raises":
        assert kept == []
    else:
        assert kept[0]["step"] == 2
        assert re.search(message, kept[0]["reason"])
        assert kept[0]["prompt"]
        assert kept[0]["completion"]
        assert len(kept) == {"missing": 16, "permuted": len(kept)}.get(kind, 1)
        assert ("logp" in kept[0]) == (kind != "missing")
    assert [row["step"] for row in steps(run)] == [1]
    (tmp_path / "mended").touch()
    assert cli.main(["train", str(run), "--resume"]) == 0
    assert [row["step"] for row in steps(run)] == [1, 2, 3]
    assert same_weights(run, healthy)


def test_a_teacher_that_is_wrong_from_the_start_trains_nothing(tmp_path, capsys):
    assert cli.main(words(tmp_path, faulty("nan", tmp_path, at=1))) == 2
    said = capsys.readouterr().err
    assert "teacher: a faulty teacher gave a log-probability of nan" in said
    assert re.search(SAVED, said)
    (line,) = lines(tmp_path / "x", "bad_scores-rank0.jsonl")
    assert (line["step"], line["in_check"]) == (1, True)
    assert steps(tmp_path / "x") == []


def test_a_teacher_that_hangs_ends_with_the_watch_and_the_run_goes_on_later(healthy, tmp_path):
    limits = ["--run.abort_after_s=6", "--run.stacks_after_s=3"]
    teacher = faulty("hangs", tmp_path, overlap="on")
    done = subprocess.run(
        [sys.executable, "-m", "rlkd.cli", *words(tmp_path, teacher, *limits)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 76, done.stderr[-2000:]
    assert "has not got on for" in done.stderr
    assert re.search(r"step 2, .*score > teacher\)", done.stderr), done.stderr
    # Of the teacher's thread. Another step may have looked stuck where the machine is busy.
    reports = [report.read_text() for report in (tmp_path / "x").glob("stuck-step-*.txt")]
    assert any("_hang" in report for report in reports)
    (tmp_path / "mended").touch()
    assert cli.main(["train", str(tmp_path / "x"), "--resume"]) == 0
    assert same_weights(tmp_path / "x", healthy)


# -- the run goes on without the answer ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nan", "inf", "positive", "ruled_out", "short", "stale"])
def test_masked_the_run_goes_on_and_says_how_many(kind, healthy, tmp_path, caplog):
    assert cli.main(words(tmp_path, faulty(kind, tmp_path, on_bad_scores="mask"))) == 0
    run = tmp_path / "x"
    assert [row["train/teacher/masked_rows"] for row in steps(run)] == [0, 1, 1]
    assert not [n for row in steps(run) for n in row if "/" in n and glossary.explain(n) is None]
    assert [row["step"] for row in lines(run, "bad_scores-rank0.jsonl")] == [2, 3]
    assert "step 2: 1 of 16 answers are left out" in caplog.text
    assert not same_weights(run, healthy)
    assert all(row["train/loss"] == row["train/loss"] for row in steps(run))


def test_masked_a_fault_in_the_first_check_is_left_out_of_it(tmp_path, caplog):
    assert cli.main(words(tmp_path, faulty("some", tmp_path, at=1, on_bad_scores="mask"))) == 0
    run = tmp_path / "x"
    masked = sum(row["train/teacher/masked_rows"] for row in steps(run))
    kept = [row["in_check"] for row in lines(run, "bad_scores-rank0.jsonl")]
    assert kept == [True] + [False] * int(masked)  # four answers are long enough to be looked at
    assert masked >= 1
    assert len(steps(run)) == 3
    assert "teacher check: 1 of 4 answers are left out of it" in caplog.text


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("all_nan", "not one of the 16 answers of a batch has sound scores"),
        ("missing", "not one of the 16 answers of a batch has sound scores"),
        ("most_nan", "30 of the last 48 answers had no sound scores, more than 25% of those of 5"),
    ],
)
def test_a_run_that_would_learn_from_next_to_nothing_stops(kind, message, tmp_path, capsys):
    teacher = faulty(kind, tmp_path, on_bad_scores="mask")
    assert cli.main(words(tmp_path, teacher)) == 3
    said = capsys.readouterr().err
    assert message in said
    assert re.search(r"; one of them: a faulty teacher (gave|was asked for 16)", said), said
    assert re.search(r"Look at the answers in .*bad_scores-rank0\.jsonl, mend the teacher", said)
    (tmp_path / "mended").touch()
    assert cli.main(["train", str(tmp_path / "x"), "--resume"]) == 0


def test_on_two_ranks_all_know_of_the_row_that_one_leaves_out(student, teacher, tmp_path):
    """The step's tokens are counted over both, and asking ahead changes no number there either."""

    def ranks(overlap):
        words = (student, teacher, str(tmp_path / overlap), overlap)
        done = launch(2, "tests/e2e/masked_rank.py", *words)
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads((tmp_path / overlap / f"rank-{r}.json").read_text()) for r in (0, 1)]

    first, second = ranks("on")
    assert first["masked"] == second["masked"] == [1, 1]
    for one, other in zip(first["items"], second["items"], strict=True):
        assert one[0] == other[0] == one[1] + other[1]
    assert [first["file"], second["file"]] == [False, True]
    assert first["weights"] == second["weights"]
    assert ranks("off") == [first, second]


# -- a server --------------------------------------------------------------------------------------


@pytest.fixture
def double():
    with VLLMDouble(LocalTeacher.from_pretrained(TINY).model) as served:
        yield served


@pytest.fixture(scope="module")
def well_served(tmp_path_factory):
    """A run whose server stays well."""
    folder = tmp_path_factory.mktemp("served")
    model = LocalTeacher.from_pretrained(str(ROOT / TINY)).model
    with pytest.MonkeyPatch.context() as patch, VLLMDouble(model) as double:
        patch.chdir(ROOT)
        assert cli.main(words(folder, served(double))) == 0
    return folder / "x"


def from_step_2(double: VLLMDouble, run: Path, change):
    """What the server does from the second step on."""

    def misbehave(reply):
        return change(reply) if steps(run) else reply

    double.misbehave = misbehave


def slow(reply):
    time.sleep(6.0)  # and the time-out is 5
    return reply


def other_tokens(reply):
    entries = reply["choices"][0]["prompt_logprobs"]
    entries[-1] = {str(int(next(iter(entries[-1]))) + 1): {"logprob": -1.0}}
    return reply


def one_short(reply):
    reply["choices"][0]["prompt_logprobs"].pop()
    return reply


def refuse_once():
    """The first answer, for its length; the canary has 8 tokens."""
    once = threading.Lock()

    def refuse(reply):
        longer = len(reply["choices"][0]["prompt_logprobs"]) > 8
        return (
            (400, {"message": "longer than max_model_len"})
            if longer and once.acquire(blocking=False)
            else reply
        )

    return refuse


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda reply: 500, "did not answer for 2 seconds: HTTP 500"),
        (lambda reply: None, "did not answer for 2 seconds: RemoteProtocolError"),
        (lambda reply: b"<html>", "did not answer for 2 seconds: no JSON"),
        (slow, "did not answer for 2 seconds: ReadTimeout"),
        (lambda reply: 404, "refuses /v1/completions with HTTP 404"),
        (other_tokens, "scored other tokens than were sent"),
        (one_short, "added or dropped some"),
        (refuse_once(), 'HTTP 400: {"message": "longer than max_model_len"} (the answer and its'),
    ],
    ids=["500", "cut", "html", "hangs", "refuses", "stale", "too few", "too long"],
)
def test_a_server_that_stays_wrong_stops_the_run(
    change, message, double, well_served, tmp_path, capsys
):
    run = tmp_path / "x"
    from_step_2(double, run, change)
    assert cli.main(words(tmp_path, served(double))) == 3
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    double.misbehave = None
    assert cli.main(["train", str(run), "--resume"]) == 0
    assert same_weights(run, well_served)


def test_masked_an_answer_that_a_server_refuses_is_left_out(double, well_served, tmp_path):
    run = tmp_path / "x"
    from_step_2(double, run, refuse_once())
    assert cli.main(words(tmp_path, served(double, on_bad_scores="mask"))) == 0
    assert [row["train/teacher/masked_rows"] for row in steps(run)] == [0, 1, 0]
    (line,) = lines(run, "bad_scores-rank0.jsonl")
    assert "longer than max_model_len" in line["reason"]
    assert not same_weights(run, well_served)


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(double, tmp_path):
    """A first one lets the step end, which it does not here; a second one ends the run at once."""
    run, hanging, done = tmp_path / "x", threading.Event(), threading.Event()

    def hang(reply):
        hanging.set()
        done.wait(200)

    from_step_2(double, run, hang)
    teacher = served(double, timeout=150.0, patience=150.0)
    process = subprocess.Popen(
        [sys.executable, "-m", "rlkd.cli", *words(tmp_path, teacher)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert hanging.wait(120)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        done.set()
    assert process.returncode == -signal.SIGINT, said[-2000:]
    assert "KeyboardInterrupt" in said


def test_what_goes_by_is_asked_for_again(double, well_served, tmp_path):
    """Every fifth request fails once, in one of three ways."""
    count, lock = [0], threading.Lock()

    def sometimes(reply):
        with lock:
            count[0] += 1
            turn = count[0]
        return (500, None, b"{")[turn % 3] if turn % 5 == 0 else reply

    double.misbehave = sometimes
    assert cli.main(words(tmp_path, served(double, patience=60.0))) == 0
    assert same_weights(tmp_path / "x", well_served)


def test_a_server_that_holds_another_model_is_noticed(double, well_served, tmp_path, capsys):
    run, own = tmp_path / "x", double.model
    other = LocalTeacher.from_pretrained("configs/models/tiny_student").model

    def swap(reply):
        double.model = other
        double.misbehave = None
        return reply

    from_step_2(double, run, swap)
    assert cli.main(words(tmp_path, served(double))) == 3
    assert "scores the same tokens otherwise than at the start" in capsys.readouterr().err
    assert cli.main(["train", str(run), "--resume"]) == 3  # nor does a new process take it
    assert "scores the same tokens otherwise than at the start" in capsys.readouterr().err
    double.model = own
    moved = [f"--teacher.{name}" for name in ("patience=59", "canary_every=2")]
    assert cli.main(["train", str(run), "--resume", *moved]) == 0


def test_a_server_that_is_killed_and_started_again_changes_no_number(well_served, tmp_path):
    model = LocalTeacher.from_pretrained(TINY).model
    first = VLLMDouble(model).__enter__()
    again: list[VLLMDouble] = []
    once = threading.Lock()

    def die(reply):
        if once.acquire(blocking=False):
            threading.Thread(target=restart).start()
        # None: the connection is cut.

    def restart():
        first.__exit__()
        time.sleep(1.0)
        again.append(VLLMDouble(model, port=first.port).__enter__())

    from_step_2(first, tmp_path / "x", die)
    try:
        assert cli.main(words(tmp_path, served(first, patience=60.0))) == 0
        assert again[0].requests
        assert [row["step"] for row in steps(tmp_path / "x")] == [1, 2, 3]
        assert same_weights(tmp_path / "x", well_served)
    finally:
        again[0].__exit__()

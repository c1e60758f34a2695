"""Length against accuracy: which points, what picture, and that neither may stop a run."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rlkd import cli
from rlkd.difficulty import Difficulty
from rlkd.tracking import curves
from rlkd.tracking.curves import Curve
from rlkd.tracking.view import RunView
from tests.recorder import recorded

PNG = b"\x89PNG\r\n\x1a\n"


def evaluation(step, length, accuracy):
    return {"step": step, "eval/length": length, "eval/accuracy": accuracy}


def trained(step, length, accuracy):
    return {"step": step, "train/completions/mean_length": length, "train/accuracy": accuracy}


def written(folder, *rows, end=""):
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines + end)
    return folder


def read(folder):
    return curves.read(folder / "metrics.jsonl", folder.name)


def test_evaluations_come_before_training_steps(tmp_path):
    rows = [evaluation(0, 5, 0.5), trained(1, 9, 0.1), trained(2, 9, 0.1), evaluation(2, 4, 0.7)]
    assert read(written(tmp_path / "a", *rows)) == Curve("a", "eval", [0, 2], [5, 4], [0.5, 0.7])


def test_one_evaluation_is_no_curve_where_steps_are(tmp_path):
    rows = [trained(1, 9, 0.1), trained(2, 8, 0.2), evaluation(2, 4, 0.7)]
    assert read(written(tmp_path / "a", *rows)) == Curve("a", "train", [1, 2], [9, 8], [0.1, 0.2])
    assert read(written(tmp_path / "a", *rows[1:])) == Curve("a", "eval", [2], [4], [0.7])


def test_steps_are_joined_in_order_and_the_later_line_counts(tmp_path):
    rows = [evaluation(4, 5, 0.5), evaluation(2, 6, 0.4), evaluation(4, 7, 0.3)]
    got = read(written(tmp_path / "a", *rows, {"step": 3, "eval/length": 1, "eval/accuracy": None},
                       end='{"step": 5, "eval/len'))  # fmt: skip
    assert got == Curve("a", "eval", [2, 4], [6, 7], [0.4, 0.3])


def test_many_steps_become_means_over_windows(tmp_path):
    rows = [trained(step, step, step / 100) for step in range(1, 86)]
    got = read(written(tmp_path / "a", *rows))
    # 85 steps in at most 40 windows: of three.
    assert got.steps == [*range(3, 85, 3), 85]
    assert got.lengths[:2] == [2, 5]
    assert got.lengths[-1] == 85  # a window of one
    assert got.accuracies[1] == pytest.approx(0.05)


def test_nothing_to_draw(tmp_path):
    assert read(written(tmp_path / "a", {"step": 1, "train/loss": 0.5})) is None


def test_thinning_keeps_both_ends():
    whole = Curve("a", "eval", list(range(1000)), [i / 2 for i in range(1000)], [0.5] * 1000)
    some = whole.thinned(7)
    assert some.steps == [0, 166, 333, 500, 666, 832, 999]
    assert some.lengths == [step / 2 for step in some.steps]
    assert len(some.accuracies) == 7
    assert whole.thinned(1000) is whole


def test_the_picture_is_drawn_without_a_display_and_without_pyplot(tmp_path):
    code = (
        "import sys; from pathlib import Path; from rlkd.tracking import curves\n"
        "one = curves.Curve('one', 'eval', [0, 5], [3.0, 4.0], [0.2, 0.9])\n"
        "point = curves.Curve('point', 'train', [7], [3.0], [0.2])\n"
        f"curves.draw([one], Path({str(tmp_path / 'one.png')!r}))\n"
        f"curves.draw([one, point], Path({str(tmp_path / 'two.svg')!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    env = {"MPLBACKEND": "TkAgg", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path),
           "MPLCONFIGDIR": str(tmp_path)}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)
    assert "<svg" in (tmp_path / "two.svg").read_text()
    assert not list(tmp_path.glob(".*.tmp"))


def test_what_the_picture_says(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    drawn = []

    def keep(figure, path, **_):
        drawn.append(figure)
        path.write_bytes(PNG)

    monkeypatch.setattr(Figure, "savefig", keep)
    one = Curve("one", "eval", [0, 5, 9], [3.0, 4.0, 3.5], [0.2, 0.9, 0.8])
    two = Curve("two", "train", [1, 2], [3.0, 5.0], [0.3, 0.4])
    curves.draw([one], tmp_path / "x.png")
    curves.draw([one, two], tmp_path / "x.png")
    (alone,), (both,) = (figure.axes for figure in drawn)
    assert alone.get_title() == "one"
    assert alone.get_xlabel() == "tokens per answer (mean, end token included)"
    assert alone.get_ylabel() == "held-out accuracy (share of greedy answers)"
    assert {text.get_text() for text in alone.texts} == {"step 0", "step 9"}
    assert alone.lines[0].get_xydata().tolist() == [[3.0, 0.2], [4.0, 0.9], [3.5, 0.8]]
    labels = [text.get_text() for text in both.get_legend().get_texts()]
    assert labels == ["one (eval)", "two (train)", "first", "last"]
    low, high = both.get_ylim()
    assert low < 0.2
    assert high > 0.9


# -- the command ------------------------------------------------------------------------------


def test_the_command_draws_one_run_or_several(project, capsys):
    written(project / "a", evaluation(0, 5, 0.5), evaluation(2, 4, 0.7))
    written(project / "b", trained(1, 9, 0.1))
    assert cli.main(["curves", "a"]) == 0
    assert capsys.readouterr().out == "a/length_accuracy.png\n"
    assert (project / "a" / "length_accuracy.png").read_bytes().startswith(PNG)
    assert cli.main(["curves", "a", "b", "--out", "both.PDF"]) == 0
    assert (project / "both.PDF").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b"], "one picture of several runs, where?"),
        (["nowhere"], "nowhere is not there"),
        (["bare"], "bare has no metrics.jsonl"),
        (["empty"], "has no line with length and accuracy"),
        (["a", "--out", "x.bmp"], "--out is x.bmp; it ends in .png, .pdf or .svg"),
        (["a", "--out", "no/x.png"], "there is no folder no for x.png"),
        (["a", "--run.name", "x"], "--run.name is a key of a config"),
    ],
)
def test_errors(words, message, project, capsys):
    written(project / "a", evaluation(0, 5, 0.5))
    written(project / "b", evaluation(0, 5, 0.5))
    written(project / "empty")
    (project / "bare").mkdir()
    assert cli.main(["curves", *words]) == 2
    assert message in capsys.readouterr().err


# -- in a run ---------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    run_logger = recorded(tmp_path)
    yield run_logger
    run_logger.close()


def view(log, tmp_path) -> RunView:
    return RunView(tmp_path, log, Difficulty([1]), lambda: [])


def add(log, steps) -> None:
    for step in steps:
        log.log(step, {"eval/length": 5.0 + step, "eval/accuracy": 0.5})


def charts(log) -> list:
    log.close()
    return log.recorder.of("chart")


def test_charts_come_when_the_points_have_doubled_and_at_the_end(log, tmp_path):
    shown = view(log, tmp_path)
    for step in range(1, 12):
        add(log, [step])
        shown.on_save(None, SimpleNamespace(global_step=step), None)
    shown.on_train_end(None, SimpleNamespace(global_step=11), None)
    shown.on_train_end(None, SimpleNamespace(global_step=11), None)  # nothing new
    got = charts(log)
    assert [step for step, *_ in got] == [1, 2, 4, 8, 11]
    _, name, columns, points = got[-1]
    assert name == "curves/length_accuracy"
    assert columns == ("step", "length", "accuracy")
    assert points == [(step, 5.0 + step, 0.5) for step in range(1, 12)]
    assert (tmp_path / "length_accuracy.png").read_bytes().startswith(PNG)
    assert (tmp_path / "difficulty.parquet").is_file()


def test_a_chart_is_bounded(log, tmp_path):
    add(log, range(500))
    view(log, tmp_path).update(500, is_last=True)
    ((_, _, _, data),) = charts(log)
    assert len(data) == 200
    assert (data[0][0], data[-1][0]) == (0, 499)


def test_a_chart_that_fails_costs_neither_the_run_nor_its_numbers(tmp_path, caplog):
    log = recorded(tmp_path, fails={"chart"})
    shown = view(log, tmp_path)
    for step in (1, 2, 4, 8):
        add(log, [step])
        shown.update(step)
        log.recorder.wait()
    log.close()
    assert len(log.recorder.of("chart")) == 1
    assert caplog.text.count("Recorder failed at the chart curves/length_accuracy") == 1
    assert [step for step, _ in log.recorder.of("numbers")] == [1, 2, 4, 8]
    assert (tmp_path / "length_accuracy.png").is_file()


@pytest.mark.parametrize(
    ("module", "name", "left"),
    [("curves", "draw", "difficulty.parquet"), ("records", "write", "length_accuracy.png")],
)
def test_what_cannot_be_written_is_said_once_and_stops_nothing(
    module, name, left, log, tmp_path, monkeypatch, caplog
):
    calls = []

    def broken(*_, **__):
        calls.append(1)
        raise OSError("disk full")

    monkeypatch.setattr(f"rlkd.tracking.{module}.{name}", broken)
    shown = view(log, tmp_path)
    for step in (1, 2, 3):
        add(log, [step])
        shown.update(step)
    assert len(calls) == 1
    assert caplog.text.count("disk full") == 1
    assert (tmp_path / left).is_file()


def test_looking_draws_no_random_number(log, tmp_path):
    import random

    import numpy
    import torch

    add(log, [1, 2])
    before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    view(log, tmp_path).update(2, is_last=True)
    assert charts(log)
    assert before[0] == random.getstate()
    assert before[1] == numpy.random.get_state()[1].tolist()
    assert torch.equal(before[2], torch.get_rng_state())

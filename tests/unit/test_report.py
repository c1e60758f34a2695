"""What a report is made of: curves, seeds together, chosen rollouts, and a page that is safe."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from rlkd.cli import main
from rlkd.errors import ConfigError
from rlkd.report import build, page, samples, series
from rlkd.tracking import reading
from tests.made_runs import NASTY, make

# -- curves ---------------------------------------------------------------------------------------


def line(step, **values):
    return {"step": step, **{name.replace("_", "/", 1): value for name, value in values.items()}}


def test_a_curve_has_a_point_per_line_that_could_have_it():
    lines = [
        line(0, eval_accuracy=0.5), line(1, train_loss=1.0), line(2, train_loss=None),
        line(3, train_loss=3, train_kl=0.25),
    ]  # fmt: skip
    found = series.curves(lines, most=10)
    assert found["eval/accuracy"] == series.Curve([0], [0.5])
    assert found["train/loss"] == series.Curve([1, 2, 3], [1.0, None, 3.0])
    assert found["train/kl"] == series.Curve([1, 2, 3], [None, None, 0.25])


def test_what_is_never_a_number_is_no_curve():
    lines = [line(1, train_loss=math.nan, train_kl=None, train_word="x", train_flag=True)]
    assert series.curves(lines, most=10) == {}


def test_many_steps_are_means_of_as_many_and_keep_their_range():
    values = [float(v) for v in (1, 2, 3, 9, 0, 3)] + [4.0]
    short = series.shorten(series.Curve(list(range(1, 8)), values), most=3)
    assert short.step == [2, 5, 7]
    assert short.value == [2.0, 4.0, 4.0]
    assert short.low == [1.0, 0.0, 4.0]
    assert short.high == [3.0, 9.0, 4.0]
    gap = series.shorten(series.Curve([1, 2, 3, 4], [None, None, 1.0, None]), most=2)
    assert gap.value == [None, 1.0]
    assert gap.low == [None, 1.0]


def test_seeds_are_a_mean_and_a_standard_deviation_where_all_have_the_step():
    runs = [
        [line(1, train_loss=1.0), line(2, train_loss=4.0), line(3, train_loss=5.0)],
        [line(1, train_loss=3.0), line(2, train_loss=None, train_kl=1.0)],
    ]
    found = series.over_seeds(runs, most=10)
    assert list(found) == ["train/loss"]
    curve = found["train/loss"]
    assert curve.step == [1, 2]
    assert curve.value == [2.0, None]
    assert curve.low == [pytest.approx(2 - math.sqrt(2)), None]
    assert curve.high == [pytest.approx(2 + math.sqrt(2)), None]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.123456, 0.1235), (1234567.0, 1235000), (2.0, 2), (-1e-9, -1e-9)]
)
def test_numbers_are_short(value, shown):
    assert json.dumps(series.brief(value)) == json.dumps(shown)


# -- runs together --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two seeds of one experiment, and another."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        make(folder / "a-s0", seed=0),
        make(folder / "a-s1", seed=1),
        make(folder / "b", alpha=0.3),
    ]


def test_runs_that_differ_only_in_their_seed_are_a_group(runs):
    data = build.collect(runs)
    assert [group["runs"] for group in data["groups"]] == [[0, 1], [2]]
    assert data["groups"][0]["name"] == "a-s"
    assert data["groups"][0]["seeds"] == [0, 1]
    curve = data["groups"][0]["curves"]["train/reward"]
    each = [run["curves"]["train/reward"]["y"][4] for run in data["runs"][:2]]
    assert curve["y"][4] == pytest.approx(sum(each) / 2, rel=1e-3)
    assert curve["lo"][4] < curve["y"][4] < curve["hi"][4]
    assert "curves" not in data["groups"][1]


def test_the_differences_are_those_of_the_configs(runs):
    rows = build.collect(runs)["differences"]
    assert rows == [["algorithm.alpha", "0.5", "0.5", "0.3"], ["run.seed", "0", "1", "0"]]
    assert build.collect(runs[:1])["differences"] == []


def test_every_metric_is_under_one_heading_with_its_glossary_line(runs):
    data = build.collect(runs[:1])
    names = [name for section in data["sections"] for name in section["names"]]
    assert sorted(names) == sorted(data["runs"][0]["curves"])
    assert [section["heading"] for section in data["sections"]][-1] == "Time and progress"
    assert data["glossary"]["train/reward"][0].startswith("weighted sum of the rewards")


def test_runs_without_config_rollouts_or_json_are_shown_as_they_are(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 1, "train/odd/name": 2}\n')
    data = build.collect([tmp_path / "x", tmp_path / "y"])
    assert [group["runs"] for group in data["groups"]] == [[0], [1]]
    assert data["sections"] == [{"heading": "Other", "names": ["train/odd/name"]}]
    assert data["runs"][0]["rollouts"] == []
    assert page.page(data)


def test_what_is_no_run_or_twice_the_same_is_refused(runs, tmp_path, capsys):
    with pytest.raises(ConfigError, match="named twice"):
        build.collect([runs[0], runs[0].parent / "." / runs[0].name])
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "r.pdf")]) == 2
    assert "is an .html file" in capsys.readouterr().err
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "no" / "r.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err


# -- rollouts -------------------------------------------------------------------------------------


def test_rollouts_are_spread_over_the_run_and_fit_the_budget(runs):
    found = reading.rollouts(runs[0])
    everything = samples.choose(found, 10**9)
    assert {row["step"] for row in everything} == set(range(1, 13))
    budget = len(json.dumps(everything, ensure_ascii=False).encode()) // 3
    some = samples.choose(found, budget)
    assert 0 < len(json.dumps(some, ensure_ascii=False).encode()) <= budget
    steps = sorted({row["step"] for row in some})
    assert steps[0] == 1
    assert steps[-1] == 12
    assert max(b - a for a, b in pairwise(steps)) <= 6


def test_of_each_step_there_is_a_wrong_a_truncated_and_an_ungraded_one(runs):
    rows = [row for row in samples.choose(reading.rollouts(runs[0]), 10**9) if row["step"] == 5]
    assert {"wrong", "ungraded"} <= {row["mark"] for row in rows}
    assert any(row["cut"] for row in rows)
    assert any(row["faults"] == {"accuracy": "timeout"} for row in rows)
    assert sum("tokens" in row for row in rows) == 8


def test_tokens_have_an_opinion_each_and_infinity_is_a_number(runs):
    row = samples.choose(reading.rollouts(runs[0]), 10**9)[-1]
    last = [r for r in samples.choose(reading.rollouts(runs[0]), 10**9) if r["step"] == row["step"]]
    assert last[0]["tokens"][0] == NASTY[0]
    assert last[0]["opinion"][0] == -99
    assert all(
        len(r["tokens"]) == len(r["opinion"]) == len(r["doubt"]) for r in last if "tokens" in r
    )


@pytest.mark.parametrize(
    ("steps", "number", "chosen"),
    [([1, 2, 3], 5, [1, 2, 3]), (list(range(1, 101)), 4, [1, 34, 67, 100])],
)
def test_steps_are_even(steps, number, chosen):
    assert samples.evenly(steps, number) == chosen


def test_accuracy_by_length_counts_every_graded_rollout_of_both_ends(runs):
    run = reading.rollouts(runs[0])
    found = samples.accuracy_by_length(run)
    assert found is not None
    assert found["first"]["steps"] == [1, 2]
    assert found["last"]["steps"] == [11, 12]
    assert sum(found["first"]["count"]) == 2 * 15  # one of 16 is ungraded
    rows = run.table(["reward/accuracy"], steps=lambda step: step > 10).to_pylist()
    assert sum(found["last"]["correct"]) == sum((r["reward/accuracy"] or 0) >= 1 for r in rows)


# -- the page -------------------------------------------------------------------------------------


def test_nothing_in_the_data_ends_its_element_and_all_of_it_comes_back():
    data = {"x": [*NASTY[:2], "a\u2028b&<!--", "\ud83d"]}
    text = page.as_json(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"x": [*NASTY[:2], "a\u2028b&<!--", "?"]}


def test_the_page_has_one_script_and_asks_for_nothing(runs):
    text = page.page(build.collect(runs))
    assert text.count("<script>") == text.count("<script") - 1 == 1
    assert "<img" not in text
    ours = re.sub(r'(?s)<script type="application/json".*?</script>', "", text)
    assert len(ours) < 80_000
    assert not re.findall(r"""(?:src|href)=["']?(?!#)[^"'\s>]+|url\(|@import|fetch\(""", ours)
    assert "default-src 'none'" in text
    assert "@@" not in text
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text)


def test_a_run_of_a_thousand_steps_is_below_three_megabytes(tmp_path, capsys):
    run = make(tmp_path / "long", steps=1000, rows=8, tokens=300, metrics=40)
    assert main(["report", str(run), "--out", str(tmp_path / "r.html")]) == 0
    size = (tmp_path / "r.html").stat().st_size
    assert 1e6 < size < 3e6
    assert f"{size / 1e6:.2f} MB" in capsys.readouterr().out

"""Rows that a reward cannot grade: found at loading, listed, and refused past a share."""

import functools
import json

import pytest

from rewards import answer_span, length, math
from rlkd.config import ConfigError
from rlkd.config.judging import Reward
from rlkd.config.schema import Data
from rlkd.grading import cache, check_golds
from rlkd.rewarding.rowcheck import BadRow, bad_rows, report, save

BROKEN = "\\frac{1}{"


class Config:
    """The two blocks of a run that are read."""

    def __init__(self, *rewards: Reward, **data: object) -> None:
        self.rewards = rewards
        self.data = Data.model_validate({"train": {"path": "x.jsonl"}} | data)


MATH = Reward(use="rewards.math:accuracy")


def functions(function=math.accuracy, **kwargs):
    return {"accuracy": functools.partial(function, **kwargs)}


def rows(*golds):
    return [{"prompt": f"{i}?", "answer": gold} for i, gold in enumerate(golds)]


def many(bad: int, of: int = 40):
    return rows(*[BROKEN if i < bad else str(i) for i in range(of)])


def test_every_gold_that_cannot_be_graded_against_is_named_with_its_row_and_reason():
    golds = ["7", "", "x+1", [26], None, BROKEN, "blue", "\\boxed{3}", "9" * 30_000, BROKEN]
    found = check_golds(golds)
    assert sorted(found) == [1, 3, 4, 5, 8, 9]
    assert "empty" in found[1]
    assert found[3] == "the gold is no text but list: [26]"
    assert "NoneType" in found[4]
    assert repr(BROKEN) in found[5]
    assert found[5] == found[9]
    assert len(found[8]) < 200
    scores = math.accuracy(["\\boxed{7}"] * len(golds), golds)
    assert [i for i, score in enumerate(scores) if score is None] == sorted(found)


def test_a_gold_is_parsed_once_and_grading_finds_it_parsed(monkeypatch):
    cache.GOLDS.clear()
    seen = []
    real = math.check_golds.__globals__["check"]
    monkeypatch.setitem(
        math.check_golds.__globals__, "check", lambda gold: (seen.append(gold), real(gold))[1]
    )
    check_golds(["\\frac{3}{7}", "\\frac{3}{7}", "8"])
    math.accuracy(["\\boxed{3/7}", "\\boxed{1}"], ["\\frac{3}{7}", "8"])
    assert seen == ["\\frac{3}{7}", "8"]


def test_bad_rows_are_given_with_their_split_and_said(capsys, tmp_path):
    splits = {"train": many(2), "eval": rows("1", "2", *["3"] * 8, BROKEN)}
    found = bad_rows(Config(MATH), functions(), splits)
    assert [(b.split, b.row, b.reward) for b in found] == [
        ("train", 0, "accuracy"), ("train", 1, "accuracy"), ("eval", 10, "accuracy"),
    ]  # fmt: skip
    report(found)
    said = capsys.readouterr().err
    assert "3 rows cannot be graded" in said
    assert "eval row 10, reward accuracy: the gold is neither" in said
    save(found, tmp_path / "bad")
    written = [json.loads(line) for line in (tmp_path / "bad").read_text().splitlines()]
    assert [BadRow(**row) for row in written] == found


def test_sound_rows_are_passed_over_in_silence(capsys, tmp_path):
    found = bad_rows(Config(MATH), functions(), {"train": many(0), "eval": []})
    report(found)
    save(found, tmp_path / "bad")
    assert found == []
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "bad").exists()


def test_a_long_list_is_cut_and_says_where_the_rest_is(capsys, tmp_path):
    found = bad_rows(Config(MATH, max_bad_share=1), functions(), {"train": many(30)})
    assert len(found) == 30
    report(found, tmp_path / "all")
    said = capsys.readouterr().err
    assert said.count("train row") == 20
    assert f"and 10 more: {tmp_path}/all" in said


@pytest.mark.parametrize(("bad", "share", "ok"), [
    (4, 0.1, True), (5, 0.1, False), (1, 0, False), (39, 1, True), (40, 1, False),
])  # fmt: skip
def test_past_a_share_or_where_all_are_bad_nothing_starts(bad, share, ok):
    config = Config(MATH, max_bad_share=share)
    if ok:
        assert len(bad_rows(config, functions(), {"train": many(bad)})) == bad
        return
    with pytest.raises(ConfigError) as caught:
        bad_rows(config, functions(), {"train": many(bad)})
    text = str(caught.value)
    assert f"data.train: reward 'accuracy' cannot grade {bad} of 40 rows" in text
    assert "row 0: the gold is neither" in text
    assert ("raise data.max_bad_share" in text) == (bad < 40)


@pytest.mark.parametrize("change", [{"optional": True}, {"weight": 0}])
def test_a_reward_that_may_be_missing_stops_nothing(change):
    config = Config(MATH.model_copy(update=change))
    assert len(bad_rows(config, functions(), {"train": many(40)})) == 40


@pytest.mark.parametrize(
    "wrapper", [answer_span.answer_span, length.kimi, length.l1_max, length.shorter_better]
)
def test_a_wrapper_knows_what_the_reward_inside_it_cannot_grade(wrapper):
    of = functools.partial(functions, wrapper)
    found = bad_rows(Config(MATH), of(of="rewards.math:accuracy"), {"train": many(2)})
    assert [b.row for b in found] == [0, 1]
    assert bad_rows(Config(MATH), of(of="rewards.format:box"), {"train": many(2)}) == []


def test_math_verify_that_is_not_installed_is_said_before_training(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="which is not installed"):
        bad_rows(Config(MATH), functions(math_verify=True), {"train": many(0)})


def plain(completions, **columns):
    return [1.0] * len(completions)


def checked(check):
    def reward(completions, **columns):
        return [1.0] * len(completions)

    reward.check_rows = check
    return reward


def test_a_reward_without_a_check_has_none():
    assert bad_rows(Config(MATH), functions(plain), {"train": many(40)}) == []


def test_a_users_check_gets_the_columns_it_names_and_the_kwargs():
    def check(answer, prompts, limit):
        return {i: p for i, (a, p) in enumerate(zip(answer, prompts, strict=True)) if a == limit}

    def strange(completions, limit, **columns):
        return [1.0] * len(completions)

    strange.check_rows = check
    found = bad_rows(Config(MATH), functions(strange, limit="1"), {"train": many(0)})
    assert found == [BadRow("train", 1, "accuracy", "1?")]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda **_: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda **_: {40: "far"}, "gives 40: 'far' for 40 rows"),
        (lambda **_: {-1: "far"}, "gives -1"),
        (lambda **_: {"0": "text"}, "gives '0'"),
        (lambda **_: {0: None}, "gives 0: None"),
        (lambda **_: [0, 1], "TypeError"),
    ],
)
def test_a_check_that_fails_or_talks_nonsense_is_an_error_of_its_author(check, message):
    with pytest.raises(ConfigError) as caught:
        bad_rows(Config(MATH), functions(checked(check)), {"train": many(0)})
    assert message in str(caught.value)

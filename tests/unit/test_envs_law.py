"""What every generated environment keeps: splits that never meet, seeds that decide, reasons."""

import json
from functools import partial

import pytest

from envs import algebra, calculator, countdown, knights_knaves, liars
from envs.prompt import as_prompt, split_of
from rlkd.config.schema import FunctionSource
from rlkd.data import load_rows

SHELF = {
    "algebra": partial(algebra.rows, kinds=["roots", "system"]),
    "calculator": calculator.rows,
    "countdown": countdown.rows,
    "knights_knaves": knights_knaves.rows,
    "liars": liars.rows,
}
N = 40


@pytest.fixture(scope="module", params=SHELF)
def rows(request):
    return SHELF[request.param]


@pytest.fixture(scope="module")
def drawn(rows):
    """Rows of both splits for two seeds."""
    return {(s, seed): rows(s, N, seed=seed) for s in ("train", "heldout") for seed in (0, 1)}


def prompts(found):
    return {json.dumps(row["prompt"]) for row in found}


def test_the_splits_never_meet_whatever_the_seed(drawn):
    train = prompts(drawn["train", 0] + drawn["train", 1])
    heldout = prompts(drawn["heldout", 0] + drawn["heldout", 1])
    assert len(train) > N < len(heldout)
    assert not train & heldout


def test_rows_are_distinct_and_decided_by_the_seed(rows, drawn):
    assert drawn["train", 0] == rows("train", N, seed=0)
    assert drawn["train", 0] != drawn["train", 1]
    assert len(prompts(drawn["train", 0])) == N
    assert rows("train", 5, seed=0) == drawn["train", 0][:5]


def test_rows_are_plain_with_the_same_columns(drawn):
    first = drawn["train", 0][0]
    for row in drawn["train", 0]:
        assert row.keys() == first.keys()
        assert json.loads(json.dumps(row)) == row
        assert isinstance(row["difficulty"], int)
        assert row["difficulty"] >= 1


def test_impossible_requests_stop_with_a_reason(rows):
    with pytest.raises(ValueError, match="split must be one of train, heldout, not 'test'"):
        rows("test", 1)
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        rows("train", 0)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (countdown.rows, {"min_numbers": 1}, "need 2 <= min_numbers <= max_numbers <= 8, not 1"),
        (countdown.rows, {"min_numbers": 5}, "not 5 and 4"),
        (countdown.rows, {"largest": 1}, "need 2 <= largest <= 1000 and largest_target >= 1"),
        (countdown.rows, {"largest_target": 0}, "not 99 and 0"),
        (countdown.rows, {"largest": 2, "max_numbers": 3}, "distinct train problems, not 300: ask"),
        (knights_knaves.rows, {"min_people": 1}, "need 2 <= min_people <= max_people <= 8, not 1"),
        (knights_knaves.rows, {"max_people": 9}, "not 2 and 9"),
        (algebra.rows, {"kinds": ["limit"]}, "kinds must be some of derivative, integral, slope"),
        (algebra.rows, {"kinds": []}, "kinds must be some of"),
        (algebra.rows, {"largest": 1}, "need 2 <= largest <= 50, not 1"),
        (calculator.rows, {"min_terms": 1}, "need 2 <= min_terms <= max_terms <= 20, not 1 and 5"),
        (calculator.rows, {"digits": 0}, "need 1 <= digits <= 12, not 0"),
    ],
)
def test_knobs_out_of_range_stop_with_a_reason(function, options, message):
    with pytest.raises(ValueError, match=message):
        function("train", **{"n": 300, **options})


@pytest.mark.parametrize("function", [algebra.rows, countdown.rows, knights_knaves.rows])
def test_a_chat_holds_the_same_text(function):
    text, chat = (function("train", 3, chat=chat) for chat in (False, True))
    assert [row["prompt"] for row in chat] == [as_prompt(row["prompt"], True) for row in text]
    assert chat[0]["prompt"][0]["role"] == "user"


def test_the_split_is_the_same_on_every_machine():
    assert [split_of(key) for key in ("a", "b", "c", "d", "f")] == [
        "train", "train", "train", "heldout", "heldout",
    ]  # fmt: skip
    assert 0.22 < sum(split_of(str(i)) == "heldout" for i in range(4000)) / 4000 < 0.28


@pytest.mark.parametrize("name", ["algebra", "calculator", "countdown", "knights_knaves"])
def test_a_config_can_name_it(name):
    source = FunctionSource(use=f"envs.{name}:rows", size=4, seed=1)
    assert len(load_rows(source, "train")) == len(load_rows(source, "eval")) == 4

"""Which answers are the same vote: what each reward of the shelf says, and the seam to it."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import (
    answer_span,
    arithmetic,
    choice,
    countdown,
    exact,
    knights_knaves,
    math,
)
from rlkd.errors import ConfigError
from rlkd.evaluation.votes import Voter, count, labels
from rlkd.grading.same import same_answers

THOUGHT = "<think>\\boxed{1}</think>"
PUZZLE = "Zoey is a knight, Oliver is a knave"
# Reward, its columns, the right answer in several ways, a wrong one in several, none at all.
SHELF = [
    (arithmetic.accuracy, {"answer": "6"}, ["#6", "8,4,6#6", "#06 "], ["#7", "1#7"], ["6", "##6"]),
    (
        math.accuracy,
        {"answer": "0.5"},
        ["\\boxed{\\frac12}", "The answer is 0.5.", "#### 1/2", f"{THOUGHT} \\boxed{{0.50}}"],
        ["\\boxed{2}", "\\boxed{\\frac{4}{2}}"],
        ["", "I do not know", "\\boxed{0.5"],
    ),
    (
        choice.accuracy,
        {"answer": "C"},
        ["\\boxed{C}", "the answer is (C)", "<answer>c</answer>"],
        ["option B is correct", "B"],
        ["", "who knows"],
    ),
    (
        exact.text,
        {"answer": "two words"},
        ["<answer>two words</answer>", "two  words", "\\boxed{two\nwords}"],
        ["<answer>three</answer>", "three"],
        ["", "<answer></answer>"],
    ),
    (
        exact.json_value,
        {"answer": '{"a": [1, true], "b": 2}'},
        ['{"b": 2, "a": [1.0, true]}', '<answer>{"a":[1,true],"b":2.00}</answer>'],
        ['{"a": [1, 1], "b": 2}', '{"b": 2, "a": [1.0, 1.00]}'],
        ["", "{", "[1, NaN]"],
    ),
    (
        knights_knaves.accuracy,
        {"answer": PUZZLE},
        [PUZZLE, "Oliver: knave\nzoey is a knight", f"<answer>{PUZZLE}, Max: knave</answer>"],
        ["Zoey is a knave", "zoey: knave"],
        ["", "I give up"],
    ),
    (
        countdown.accuracy,
        {"numbers": [2, 3, 4], "target": 14},
        ["2 + 3 * 4", "<answer>4*3+2 = 14</answer>", "(3*4)+2"],
        ["2*3+4", "4 + 3*2"],
        ["", "fourteen"],
    ),
]  # fmt: skip


def asked(reward, columns, completions):
    voter = Voter.of(functools.partial(reward), "accuracy")
    voter.check(columns)
    return labels(voter, {"prompt": "?", **columns}, completions)


@pytest.mark.parametrize(
    ("reward", "columns", "right", "wrong", "none"),
    SHELF,
    ids=lambda x: getattr(x, "__module__", ""),
)
def test_equal_answers_are_one_vote_and_the_reward_judges_them_alike(
    reward, columns, right, wrong, none
):
    completions = [*right, *wrong, *none]
    found = asked(reward, columns, completions)
    assert len(set(found[: len(right)])) == 1
    assert len(set(found[len(right) : len(right) + len(wrong)])) == 1
    assert found[0] is not None
    assert found[len(right)] not in (None, found[0])
    assert found[len(right) + len(wrong) :] == [None] * len(none)
    repeated = {name: [value] * len(completions) for name, value in columns.items()}
    marks = reward(completions=completions, **repeated)
    assert marks == [1.0] * len(right) + [0.0] * (len(wrong) + len(none))
    assert count(found, marks) == ([len(right), len(wrong)], [1.0, 0.0], len(none), True)


@pytest.mark.parametrize("text", ["\\boxed{", "#" * 50, "=" * 9, "{" * 200, "<answer>", "\x00é"])
@pytest.mark.parametrize("case", SHELF, ids=lambda case: case[0].__module__)
def test_nothing_that_a_model_writes_makes_them_fail(case, text):
    assert len(asked(case[0], case[1], [text, "", text])) == 3


def test_the_rewards_own_options_decide():
    lower = functools.partial(exact.text, ignore_case=True)
    row = {"prompt": "?", "answer": "x"}
    texts = ["Yes", "yes"]
    assert len(set(labels(Voter.of(lower, "r"), row, texts))) == 1
    assert len(set(labels(Voter.of(exact.text, "r"), row, texts))) == 2
    inside = functools.partial(answer_span.answer_span, of="rewards.exact:text")
    cut = labels(Voter.of(inside, "r"), row, ["<think>a</think>yes", "<think>b</think>yes"])
    assert len(set(cut)) == 1
    silent = functools.partial(answer_span.answer_span, of="rewards.format:box")
    assert labels(Voter.of(silent, "r"), row, texts) is None


def test_chats_are_read_too():
    chats = [[{"role": "assistant", "content": text}] for text in ("#6", "#7", "1#6")]
    assert asked(arithmetic.accuracy, {"answer": "6"}, chats) == [6, 7, 6]


# equality as mathematics


def test_the_most_frequent_writing_names_the_answer():
    texts = [
        "\\boxed{0.5}",
        "\\boxed{\\frac12}",
        "\\boxed{\\frac12}",
        "\\boxed{x+1}",
        "\\boxed{1+x}",
    ]
    assert same_answers(texts) == ["\\frac12"] * 3 + ["1+x"] * 2


@given(
    st.permutations(["1/2", "0.5", "2", "\\sqrt{4}", "x", "5", "5\\text{ cm}", "5\\text{ m}", "?"])
)
def test_the_order_of_the_completions_changes_nothing(texts):
    written = [f"\\boxed{{{text}}}" for text in texts]
    found = dict(zip(texts, same_answers(written), strict=True))
    assert found["1/2"] == found["0.5"]
    assert found["2"] == found["\\sqrt{4}"] != found["1/2"]
    assert found == dict(zip(sorted(texts), same_answers(sorted(written)), strict=True))


# the seam


def test_a_reward_without_the_function_has_no_voter():
    assert Voter.of(lambda completions: [], "r") is None


def test_columns_that_it_does_not_ask_for_are_left_out():
    voter = Voter(lambda completions, answer: answer, "mine")
    assert labels(voter, {"prompt": "?", "answer": 3, "more": 4}, ["a", "b"]) == [3, 3]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda completions, **_: [[]] * len(completions), "mine: it fails.*unhashable"),
        (lambda completions, **_: ["x"], "mine: 1 labels for 2 completions"),
        (lambda completions, **_: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_function_that_fails_is_told(function, said):
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        labels(Voter(function, "mine"), {"prompt": "?"}, ["a", "b"])


def test_a_missing_column_is_told_at_the_door():
    with pytest.raises(ConfigError, match="mine: it needs 'gold', and the data has no such column"):
        Voter(lambda completions, gold: [], "mine").check({"answer": 1})


def test_a_reward_that_marks_the_same_answer_differently_is_found():
    assert count(["a", "a", "b"], [1.0, 0.0, 0.0]) == ([2, 1], [0.5, 0.0], 0, False)
    assert count([None, "b"], [1.0, 0.0]) == ([1], [0.0], 1, False)

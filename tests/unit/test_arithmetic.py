"""The quickstart's task: problems are right, splits never meet, rewards survive anything."""

import random
import re
import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.arithmetic import SPLITS, WAYS, easy_and_hard, problem, rows, split_of, written
from rewards.arithmetic import accuracy, well_formed

messages = st.dictionaries(
    st.sampled_from(["role", "content"]), st.one_of(st.none(), st.integers(), st.text())
)
hostile = st.one_of(
    st.text(),
    st.text(alphabet="0123456789#+*=, \n\u0664\u00b2-"),
    st.none(),
    st.integers(),
    st.binary(),
    st.lists(messages),
    st.lists(st.text()),
)


def last_digit(prompt: str) -> int:
    """A second way to the answer: Python works out nested brackets on whole numbers."""
    terms = re.findall(r"\d", prompt)
    operators = re.findall(r"[+*]", prompt)
    nested = "(" * len(operators) + terms[0]
    for operator, term in zip(operators, terms[1:], strict=True):
        nested += f"{operator}{term})"
    return eval(nested) % 10


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_what_python_says(split):
    for row in rows(split, 500, seed=3):
        assert row["answer"] == str(last_digit(row["prompt"]))
        assert row["difficulty"] == len(row["terms"]) == len(row["operators"]) + 1


def test_the_worked_example_of_the_docstring():
    assert written([3, 5, 8, 2], "+*+", [8, 4, 6], "direct") == "#6"
    assert written([3, 5, 8, 2], "+*+", [8, 4, 6], "chain") == "8,4,6#6"
    assert written([3, 5, 8, 2], "+*+", [8, 4, 6], "verbose") == "3+5=8*8=4+2=6#6"


def test_the_splits_never_meet_whatever_the_seed():
    train = {row["prompt"] for seed in range(5) for row in rows("train", 2000, seed)}
    heldout = {row["prompt"] for seed in range(5) for row in rows("heldout", 2000, seed)}
    assert not train & heldout
    assert {split_of(prompt) for prompt in train} == {"train"}
    assert {split_of(prompt) for prompt in heldout} == {"heldout"}


def test_one_problem_in_four_is_held_out():
    draw = random.Random(0)
    share = sum(split_of(problem(draw)["prompt"]) == "heldout" for _ in range(4000)) / 4000
    assert 0.22 < share < 0.28


def test_the_split_is_the_same_on_every_machine():
    assert split_of("1+1      =") == "train"
    assert split_of("1+5      =") == split_of("1*3      =") == "heldout"


def test_prompts_are_all_as_wide_as_five_terms():
    assert {len(row["prompt"]) for row in rows("train", 300)} == {10}
    assert rows("train", 1, min_terms=5)[0]["prompt"].count(" ") == 0


def test_rows_are_distinct_and_decided_by_the_seed():
    first = rows("train", 300, seed=7)
    assert first == rows("train", 300, seed=7)
    assert first != rows("train", 300, seed=8)
    assert len({row["prompt"] for row in first}) == 300


def test_every_length_asked_for_occurs_and_no_other():
    assert {row["difficulty"] for row in rows("train", 300, min_terms=3, max_terms=4)} == {3, 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test", "n": 1}, "split must be one of train, heldout, not 'test'"),
        ({"split": "train", "n": 0}, "n must be at least 1, not 0"),
        (
            {"split": "train", "n": 1, "min_terms": 1},
            "need 2 <= min_terms <= max_terms <= 5, not 1 and 5",
        ),
        ({"split": "train", "n": 1, "min_terms": 4, "max_terms": 3}, "not 4 and 3"),
        ({"split": "train", "n": 1, "max_terms": 6}, "not 2 and 6"),
        (
            {"split": "heldout", "n": 100, "max_terms": 2},
            "found only 40 distinct heldout problems",
        ),
    ],
)
def test_impossible_requests_stop_with_a_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        rows(**arguments)


def test_an_unknown_way_stops_with_the_known_ones():
    with pytest.raises(ValueError, match="way must be one of direct, chain, verbose, not 'silent'"):
        written([1, 2], "+", [3], "silent")


def test_every_way_of_writing_a_right_solution_is_rewarded():
    draw = random.Random(1)
    for way in WAYS:
        drawn = [problem(draw) for _ in range(200)]
        texts = [written(row["terms"], row["operators"], row["results"], way) for row in drawn]
        assert accuracy(texts, [row["answer"] for row in drawn]) == [1.0] * 200
        assert well_formed(texts) == [1.0] * 200


@pytest.mark.parametrize(
    ("completion", "right", "formed"),
    [
        ("#6", 1.0, 1.0),
        ("8,4,6#6\n", 1.0, 1.0),
        ("  8,4,6#6", 1.0, 1.0),
        ("#06", 1.0, 1.0),
        ("#5", 0.0, 1.0),
        ("#66", 0.0, 1.0),
        ("6", 0.0, 0.0),
        ("", 0.0, 0.0),
        ("#", 0.0, 0.0),
        ("#6#6", 0.0, 0.0),
        ("##6", 0.0, 0.0),
        ("#6 or 7", 0.0, 0.0),
        ("#-6", 0.0, 0.0),
        ("#6.0", 0.0, 0.0),
        ("#\u0666", 0.0, 0.0),
        ("#" + "0" * 100_000 + "6", 0.0, 0.0),
        ("#" + "9" * 100_000, 0.0, 0.0),
        (" " * 100_000, 0.0, 0.0),
    ],
)
def test_the_answer_format(completion, right, formed):
    chat = [{"role": "assistant", "content": completion}]
    assert accuracy([completion, chat], ["6", "6"]) == [right, right]
    assert well_formed([completion, chat]) == [formed, formed]


@given(st.lists(hostile, max_size=6))
def test_rewards_never_raise_and_keep_the_order_and_number(completions):
    answers = ["6"] * len(completions)
    right, formed = accuracy(completions, answers), well_formed(completions, answer=answers)
    assert len(right) == len(formed) == len(completions)
    assert all(value in (0.0, 1.0) for value in right + formed)
    assert all(f == 1.0 for r, f in zip(right, formed, strict=True) if r == 1.0)
    again = accuracy(list(reversed(completions)), answers)
    assert list(reversed(again)) == right


def test_rows_that_cannot_be_graded_give_none():
    assert accuracy(["#6"] * 4, [None, "", "six", "6"]) == [None, None, None, 1.0]


def test_a_wrong_number_of_answers_is_the_callers_fault():
    with pytest.raises(ValueError, match="2 completions but 1 answers"):
        accuracy(["#1", "#2"], ["1"])


def test_random_letters_are_neither_right_nor_well_formed():
    draw = random.Random(0)
    gibberish = ["".join(draw.choices(string.ascii_letters, k=20)) for _ in range(100)]
    assert accuracy(gibberish, ["6"] * 100) == well_formed(gibberish) == [0.0] * 100


def test_the_shelves_need_no_torch():
    code = (
        "import sys, envs.arithmetic, rewards.arithmetic; "
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_easy_problems_have_two_terms_and_hard_ones_four_or_five():
    mixed = easy_and_hard("heldout", 30, seed=3, easy=12)
    assert [row["difficulty"] for row in mixed[:12]] == [2] * 12
    assert {row["difficulty"] for row in mixed[12:]} == {4, 5}
    assert len({row["prompt"] for row in mixed}) == 30
    assert all(split_of(row["prompt"]) == "heldout" for row in mixed)
    for easy in (0, 30):
        with pytest.raises(ValueError, match="easy"):
            easy_and_hard("heldout", 30, easy=easy)

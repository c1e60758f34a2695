"""The reward of boxed mathematics, and the task that SmolLM2 learns with it."""

import pytest

from envs import sums
from rewards.math import accuracy, check_rows


def chat(text):
    return [{"role": "assistant", "content": text}]


def test_right_and_wrong_answers_in_order():
    completions = ["17 + 9 = \\boxed{26}", "\\boxed{25}", "so \\boxed{0.5}", "", "26"]
    assert accuracy(completions, ["26", "26", "\\frac{1}{2}", "26", "26"]) == [1, 0, 1, 0, 0]


def test_what_a_tool_returned_is_no_answer():
    box = "\\boxed{26}"
    cut_off = [{"role": "assistant", "content": ""}, {"role": "tool", "content": box}]
    assert accuracy([cut_off, [*cut_off, *chat(box)]], ["26", "26"]) == [0.0, 1.0]


def test_of_a_chat_the_last_message_counts():
    turns = [*chat("\\boxed{1}"), *chat("\\boxed{2}")]
    assert accuracy([turns, chat("\\boxed{1}")], ["2", "2"]) == [1.0, 0.0]


@pytest.mark.parametrize("empty", [[], [{}], chat(None), None, 7, [7]])
def test_what_has_no_text_is_an_empty_answer(empty):
    assert accuracy([empty], ["26"]) == [0.0]


@pytest.mark.parametrize("gold", [None, [26], "", "\\frac{1}{"])
def test_a_row_whose_gold_cannot_be_read_counts_for_nothing(gold):
    assert accuracy(["\\boxed{26}", "\\boxed{26}"], [gold, "26"]) == [None, 1.0]


def test_other_columns_are_ignored_and_lengths_must_match():
    assert accuracy(["\\boxed{5}"], ["5"], problem=["2 + 3"]) == [1.0]
    with pytest.raises(ValueError, match="1 completions but 2 answers"):
        accuracy(["\\boxed{5}"], ["5", "6"])


def test_every_written_solution_of_the_sums_is_right():
    rows = sums.rows("train", 190) + sums.rows("heldout", 70)
    solutions = [chat(sums.written(row["problem"], row["answer"])) for row in rows]
    assert accuracy(solutions, [row["answer"] for row in rows]) == [1.0] * len(rows)


def test_the_splits_of_the_sums_never_meet_and_answers_are_theirs():
    train, heldout = sums.rows("train", 190, seed=1), sums.rows("heldout", 70, seed=2)
    asked = [{row["problem"] for row in part} for part in (train, heldout)]
    assert not asked[0] & asked[1]
    assert [len(part) for part in asked] == [190, 70]
    assert all(eval(row["problem"]) == int(row["answer"]) >= 1 for row in train + heldout)
    assert all(row["prompt"][-1]["content"] == row["problem"] for row in train)
    example = train[0]["prompt"][1]["content"]
    assert example not in asked[0] | asked[1]


def test_the_rows_of_the_sums_are_those_of_the_seed():
    assert sums.rows("train", 9, seed=3) == sums.rows("train", 9, seed=3)
    assert sums.rows("train", 9, seed=3) != sums.rows("train", 9, seed=4)
    assert all("+" in row["problem"] for row in sums.rows("train", 20, operators="+"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test", "n": 1}, "train, heldout"),
        ({"split": "train", "n": 1, "operators": "*"}, "operators"),
        ({"split": "heldout", "n": 10_000}, "raise largest"),
    ],
)
def test_bad_arguments_of_the_sums_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sums.rows(**arguments)


def test_a_gold_that_is_a_number_is_graded_as_it_is_written():
    completions = [r"\boxed{5}", r"\boxed{\frac12}", r"\boxed{6}", r"\boxed{1}"]
    golds = [5, 0.5, 5, True]
    assert accuracy(completions, golds) == [1.0, 1.0, 0.0, None]
    assert set(check_rows(golds)) == {3}

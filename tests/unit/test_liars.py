"""Knights and liars: one solution each, and a chain that leads to it."""

from collections import Counter
from itertools import product

import pytest

from envs import liars
from rewards.liars import accuracy, well_formed

ROWS = liars.rows("train", 400)


def brute_force(prompt: str) -> list[str]:
    """All solutions of a puzzle as its prompt tells it, found without the environment's code."""
    said = [text.strip() for text in prompt.removesuffix("=").split(",") if text.strip()]
    found = []
    for roles in product(*list(zip("ABCD", "abcd", strict=True))[: len(said)]):
        values = {letter: letter in roles for letter in "ABCDabcd"}
        true = [eval(text, values) for text in said]
        if all(role.isupper() == bool(said_so) for role, said_so in zip(roles, true, strict=True)):
            found.append("".join(roles))
    return found


def test_each_puzzle_has_the_one_solution_that_its_row_names():
    for row in ROWS:
        assert brute_force(row["prompt"]) == [row["answer"]], row
        assert row["difficulty"] == len(row["answer"])
    assert set(Counter(row["difficulty"] for row in ROWS)) == {2, 3, 4}


def test_the_example_of_the_docstring():
    assert brute_force("A&c,B|c,B      =") == ["aBC"]
    said = [("and", ("knight", 0), ("knave", 2)), ("or", ("knight", 1), ("knave", 2)),
            ("knight", 1)]  # fmt: skip
    marks = []
    for tried in liars.assignments(3):
        marks.append(liars.mark(said, tried))
        if marks[-1] == "+":
            break
    assert liars.named(tried) == "aBC"
    assert liars.written(marks, "aBC", "chain") == "acab+#aBC"
    assert liars.written(marks, "aBC", "direct") == "#aBC"
    with pytest.raises(ValueError, match="way must be one of direct, chain"):
        liars.written(marks, "aBC", "long")


def test_prompts_are_all_as_wide_as_four_inhabitants():
    assert {len(row["prompt"]) for row in ROWS} == {16}
    assert set("".join(row["prompt"] for row in ROWS)) <= set("abcdABCD&|, =")


def test_the_number_of_inhabitants_has_bounds():
    assert {row["difficulty"] for row in liars.rows("heldout", 30, 1, 3, 3)} == {3}
    with pytest.raises(ValueError, match="2 <= min_people <= max_people <= 4"):
        liars.rows("train", 5, max_people=5)
    with pytest.raises(ValueError, match="raise max_people"):
        liars.rows("train", 130, max_people=2)


def test_an_answer_must_name_all_after_the_one_sign():
    said = ["#aBC", "acab+#aBC ", "##aBC", "aBC", "#aBc", "#aB", "#aBCD", "#aBC x", "", "#"]
    assert accuracy(said, ["aBC"] * 10) == [1.0, 1.0, *[0.0] * 8]
    formed = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert well_formed(said) == formed


@pytest.mark.parametrize("gold", ["", "BA", "aBCDE", None, 3])
def test_a_gold_that_names_nobody_cannot_be_graded(gold):
    assert accuracy(["#aBC"], [gold]) == [None]

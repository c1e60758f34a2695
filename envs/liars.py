"""Knights and liars in a few characters: knights and knaves for a model that reads characters.

A prompt like ``A&c,B|c,B      =`` tells what inhabitants A, B, C (up to D) say, in this order; a
capital letter claims that somebody is a knight, a small one that they are a liar. Here A says "A is
a knight and C is a liar", B says "B is a knight or C is a liar", C says "B is a knight". Knights
always tell the truth and liars never. The answer names all in the same letters: ``aBC``. A puzzle
is kept if exactly one assignment fits; all 2^people are tried, so the uniqueness is proved.

Two ways of writing a solution (``written``); each ends with ``#`` and the answer::

    direct   #aBC
    chain    acab+#aBC

The chain tries the assignments in order, from all knights (``ABC``, ``ABc``, ``AbC``, …) to the one
that fits, and writes for each the first inhabitant whose word does not fit, or ``+``.
"""

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

from envs.knights_knaves import holds, solutions
from envs.prompt import drawn

MOST_PEOPLE = 4
WAYS = ("direct", "chain")
_SIGNS = {"and": "&", "or": "|"}
_WIDTH = 4 * MOST_PEOPLE - 1


def assignments(people: int) -> list[tuple[bool, ...]]:
    """All of them, in the order in which a chain tries them; True is a knight."""
    return list(product((True, False), repeat=people))


def named(knights: Sequence[bool]) -> str:
    """An assignment in letters: ``Abc`` where only the first is a knight."""
    return "".join("Aa Bb Cc Dd".split()[i][not knight] for i, knight in enumerate(knights))


def mark(statements: Sequence[Sequence[Any]], knights: Sequence[bool]) -> str:
    """The first inhabitant whose word does not fit the assignment (a, b, …), or ``+``."""
    for i, said in enumerate(statements):
        if holds(said, knights) != knights[i]:
            return "abcd"[i]
    return "+"


def written(marks: Sequence[str], answer: str, way: str) -> str:
    """A solution with the ``marks``, right or not, written in one of ``WAYS``.

    Raises:
        ValueError: if ``way`` is not one of ``WAYS``.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, not {way!r}")
    return ("".join(marks) if way == "chain" else "") + "#" + answer


def puzzle(draw: random.Random, min_people: int = 2, max_people: int = MOST_PEOPLE) -> dict:
    """One puzzle of either split, as the dictionary that ``rows`` describes, with its
    ``statements`` (as in ``envs.knights_knaves``)."""
    people = draw.randint(min_people, max_people)
    while True:
        statements = [_statement(draw, person, people) for person in range(people)]
        found = solutions(statements)
        if len(found) == 1:
            text = ",".join(f"{_short(said):<3}" for said in statements)
            return {
                "prompt": f"{text:<{_WIDTH}}=",
                "answer": named(found[0]),
                "difficulty": people,
                "statements": statements,
            }


def rows(
    split: str, n: int, seed: int = 0, min_people: int = 2, max_people: int = MOST_PEOPLE
) -> list[dict[str, Any]]:
    """``n`` distinct puzzles of one split, drawn with ``seed``, each with exactly one solution.

    Args:
        split: ``train`` or ``heldout``.
        n: how many rows.
        seed: the same seed gives the same rows in the same order.
        min_people, max_people: 2 to 4; every number in between is as likely, as long as there are
            new puzzles of it.

    Returns:
        Dictionaries with ``prompt`` (``"A&c,B|c,B      ="``), ``answer`` (``"aBC"``) and
        ``difficulty`` (how many people).

    Raises:
        ValueError: if the split is unknown, a number is out of range, or there are not ``n``
        puzzles.
    """
    if not 2 <= min_people <= max_people <= MOST_PEOPLE:
        raise ValueError(
            f"need 2 <= min_people <= max_people <= {MOST_PEOPLE}, "
            f"not {min_people} and {max_people}"
        )

    def problem(draw: random.Random) -> tuple[str, dict[str, Any]]:
        row = puzzle(draw, min_people, max_people)
        del row["statements"]
        return row["prompt"], row

    return drawn(split, n, seed, problem, "ask for fewer rows, or raise max_people")


def _statement(draw: random.Random, speaker: int, people: int) -> tuple[Any, ...]:
    """What one inhabitant says: a claim about another, or two claims joined, about anybody."""

    def claim(person: int) -> tuple[str, int]:
        return draw.choice(("knight", "knave")), person

    kind = draw.choice(("simple", *_SIGNS))
    if kind == "simple":
        return claim(draw.choice([person for person in range(people) if person != speaker]))
    first, second = draw.sample(range(people), 2)
    return kind, claim(first), claim(second)


def _short(statement: Sequence[Any]) -> str:
    kind, *parts = statement
    if kind in _SIGNS:
        return _SIGNS[kind].join(_short(part) for part in parts)
    return "abcd"[parts[0]] if kind == "knave" else "ABCD"[parts[0]]

"""A pocket calculator's last digit: the task of the quickstart.

A problem is a prompt like ``3+5*8+2  =`` (padded to the width of five terms, as on a display, so
that a tiny model finds its place in it). It is worked out strictly from left to right, as a
pocket calculator does it (no precedence), and only the last digit counts: 3+5 is 8, times 8 is
64, so 4, plus 2 is 6. The answer is ``6``. A tiny model that says the answer at once is right on
two terms and little better than a guess on five; one that writes the partial results first is
nearly always right, but its answer is longer. So there is a way of working to choose, and choices
are what reinforcement learning teaches fast.

Three ways of writing a solution (``written``); each ends with ``#`` and the answer::

    direct    #6
    chain     8,4,6#6
    verbose   3+5=8*8=4+2=6#6

Training and held-out problems never meet: a stable hash of the prompt decides the split, the same
for every seed, machine and Python version. One problem in four is held out.
"""

import random
import zlib
from collections.abc import Sequence
from typing import Any

SPLITS = ("train", "heldout")
WAYS = ("direct", "chain", "verbose")
MOST_TERMS = 5
_WIDTH = 2 * MOST_TERMS - 1
_MAX_DRAWS_PER_ROW = 200


def split_of(prompt: str) -> str:
    """The split that a problem belongs to: ``train`` or ``heldout``."""
    return "heldout" if zlib.crc32(prompt.encode()) % 4 == 0 else "train"


def partial_results(terms: Sequence[int], operators: str) -> list[int]:
    """The last digit after each operation, from left to right: ``[8, 4, 6]`` for ``3+5*8+2``."""
    results, value = [], terms[0]
    for operator, term in zip(operators, terms[1:], strict=True):
        value = (value + term if operator == "+" else value * term) % 10
        results.append(value)
    return results


def written(terms: Sequence[int], operators: str, results: Sequence[int], way: str) -> str:
    """A solution with the partial ``results``, right or not, written in one of ``WAYS``.

    Raises:
        ValueError: if ``way`` is not one of ``WAYS``.
    """
    if way == "direct":
        body = ""
    elif way == "chain":
        body = ",".join(str(result) for result in results)
    elif way == "verbose":
        steps = zip(operators, terms[1:], results, strict=True)
        body = str(terms[0]) + "".join(f"{sign}{term}={result}" for sign, term, result in steps)
    else:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, not {way!r}")
    return f"{body}#{results[-1]}"


def problem(draw: random.Random, min_terms: int = 2, max_terms: int = MOST_TERMS) -> dict[str, Any]:
    """One problem of either split, as the dictionary that ``rows`` describes."""
    length = draw.randint(min_terms, max_terms)
    terms = [draw.randint(1, 9) for _ in range(length)]
    operators = "".join(draw.choice("+*") for _ in range(length - 1))
    text = str(terms[0]) + "".join(f"{s}{t}" for s, t in zip(operators, terms[1:], strict=True))
    prompt = f"{text:<{_WIDTH}}="
    results = partial_results(terms, operators)
    return {
        "prompt": prompt,
        "answer": str(results[-1]),
        "terms": terms,
        "operators": operators,
        "results": results,
        "difficulty": length,
    }


def rows(
    split: str, n: int, seed: int = 0, min_terms: int = 2, max_terms: int = MOST_TERMS
) -> list[dict[str, Any]]:
    """``n`` distinct problems of one split, drawn with ``seed``.

    The number of terms is uniform in ``min_terms..max_terms`` as long as there are new problems
    of that length (two terms give 162 problems in both splits together); terms are uniform in
    1..9, operators are ``+`` or ``*`` with equal chance.

    Args:
        split: ``train`` or ``heldout``.
        n: how many rows.
        seed: the same seed gives the same rows in the same order.
        min_terms: fewest terms of a problem, at least 2.
        max_terms: most terms of a problem, at most 5 (the shipped models know no longer ones).

    Returns:
        Dictionaries with ``prompt`` (``"3+5*8+2  ="``), ``answer`` (``"6"``), ``terms``,
        ``operators``, ``results`` (the last digit after each operation) and ``difficulty`` (the
        number of terms).

    Raises:
        ValueError: if the split is unknown, a number is out of range, or there are not ``n``
        problems.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 2 <= min_terms <= max_terms <= MOST_TERMS:
        raise ValueError(
            f"need 2 <= min_terms <= max_terms <= {MOST_TERMS}, not {min_terms} and {max_terms}"
        )
    draw = random.Random(seed)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(_MAX_DRAWS_PER_ROW * n):
        row = problem(draw, min_terms, max_terms)
        if split_of(row["prompt"]) == split:
            found[row["prompt"]] = row
        if len(found) == n:
            return list(found.values())
    raise ValueError(
        f"found only {len(found)} distinct {split} problems of {min_terms} to {max_terms} terms, "
        f"not {n}: ask for fewer rows or raise max_terms"
    )


def easy_and_hard(
    split: str, n: int, seed: int = 0, easy: int | None = None
) -> list[dict[str, Any]]:
    """``easy`` problems of two terms, which a direct answer solves, then others of four and five
    terms, which need their partial results; ``n`` in all, as the dictionaries of ``rows``. Two in
    five are easy where ``easy`` does not say how many.

    Raises:
        ValueError: not 0 < easy < n; otherwise as ``rows``, which has 122 ``train`` and 40
        ``heldout`` problems of two terms.
    """
    easy = 2 * n // 5 if easy is None else easy
    if not 0 < easy < n:
        raise ValueError(f"need 0 < easy < n, not easy = {easy} and n = {n}")
    return rows(split, easy, seed, 2, 2) + rows(split, n - easy, seed, 4, MOST_TERMS)

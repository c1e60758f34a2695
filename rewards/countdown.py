"""Countdown: does the expression make the target out of the given numbers?

For ``envs.countdown``. The expression stands in ``<answer>…</answer>``, in ``\\boxed{…}``, or is
the last line after the thinking block. It may use ``+ - * /`` and brackets, no signs and no other
numbers, and may be followed by ``= target``. Values are exact fractions.
"""

from collections import Counter
from collections.abc import Hashable
from typing import Any

from rewards.completion import answer_of
from rewards.expression import evaluate


def accuracy(
    completions: list,
    numbers: list,
    target: list,
    *,
    use_all: bool = True,
    legal: float = 0.0,
    **columns: Any,
) -> list[float | None]:
    """1.0 where the expression equals ``target`` and uses the ``numbers`` as allowed.

    ``legal`` where it uses them as allowed and gives another value, else 0.0. ``None`` where the
    row's numbers are not a list of whole numbers from 0 on, or its target is no whole number.

    Args:
        numbers: the whole numbers of each row; a number given twice may be used twice.
        target: the whole number to reach.
        use_all: each number must be used exactly once (as in TinyZero); otherwise at most once
            (as on television).
        legal: the value of a legal expression with a wrong result; TinyZero's is 0.1.

    Raises:
        ValueError: if the columns are not as long as the completions (a fault of the caller).
    """
    if not len(completions) == len(numbers) == len(target):
        raise ValueError(
            f"{len(completions)} completions but {len(numbers)} rows of numbers and"
            f" {len(target)} targets"
        )
    return [
        _graded(answer_of(completion), given, goal, use_all, legal)
        for completion, given, goal in zip(completions, numbers, target, strict=True)
    ]


def answers(completions: list, **columns: Any) -> list[Hashable | None]:
    """What is voted on: the value of each expression, the numbers that it uses, and what it is said
    to equal, where that is another value; None where there is no expression. ``accuracy`` carries
    this as its attribute ``answers``.
    """
    found: list[Hashable | None] = []
    for completion in completions:
        expression, right = _parts(answer_of(completion))
        try:
            value, used = evaluate(expression)
        except ValueError:
            found.append(None)
        else:
            said = None if right == str(value) else right
            found.append((value, tuple(sorted(used)), said))
    return found


accuracy.answers = answers  # pyright: ignore[reportFunctionMemberAccess]


def _parts(answer: str) -> tuple[str, str | None]:
    """The expression, and what it is said to equal (None: nothing is said)."""
    line = answer.rsplit("\n", 1)[-1].strip(" $.")
    expression, equals, right = line.partition("=")
    return expression, right.strip() if equals else None


def _graded(answer: str, given: Any, goal: Any, use_all: bool, legal: float) -> float | None:
    if not isinstance(given, list | tuple) or not given or not _whole(goal):
        return None
    if not all(_whole(number) and number >= 0 for number in given):
        return None
    expression, right = _parts(answer)
    try:
        value, used = evaluate(expression)
    except ValueError:
        return 0.0
    if right is not None and right != str(goal):
        return 0.0
    surplus, missing = Counter(used) - Counter(given), Counter(given) - Counter(used)
    if surplus or (use_all and missing):
        return 0.0
    return 1.0 if value == goal else legal


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

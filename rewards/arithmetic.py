"""Rewards for ``envs.arithmetic``: is the answer right, and is it written as one?

**The format.** A completion is well formed if, white space at its ends aside, it holds exactly
one ``#`` and that is followed by one to twelve ASCII digits and nothing else: ``#6``,
``8,4,6#6``. What stands before the ``#`` is free. The number after the ``#`` is the answer;
leading zeros do not matter. A completion that is not well formed is wrong, also when the right
number occurs in it.

Both functions follow the reward law: as many values as completions, in order, each a float or
``None`` ("cannot be graded"), and nothing that a model writes makes them raise. A completion is a
string or a list of chat messages (``[{"role": "assistant", "content": "#6"}]``); anything else,
also a message without text, counts as an empty answer.
"""

import re
from typing import Any

from rewards.completion import text_of

# Twelve digits are more than any sum here needs and few enough to compare at no cost.
_WELL_FORMED = re.compile(r"[^#]*#([0-9]{1,12})\s*", re.ASCII)
_ANSWER = re.compile(r"[0-9]{1,12}", re.ASCII)


def accuracy(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """1.0 where the completion is well formed and its number equals ``answer``, else 0.0.

    ``None`` where the row itself cannot be graded, because its answer is not a string of digits.

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
    """
    if len(answer) != len(completions):
        raise ValueError(f"{len(completions)} completions but {len(answer)} answers")
    return [
        _right(completion, wanted) for completion, wanted in zip(completions, answer, strict=True)
    ]


def answers(completions: list, **columns: Any) -> list[int | None]:
    """The number that each completion gives, None if it is not well formed: what counts as the
    same answer where answers are voted on. ``accuracy`` carries this as its attribute ``answers``.
    """
    return [_number(completion) for completion in completions]


def well_formed(completions: list, **columns: Any) -> list[float | None]:
    """1.0 where the completion is written in the format (right or wrong), else 0.0."""
    return [0.0 if _number(completion) is None else 1.0 for completion in completions]


def _right(completion: Any, wanted: Any) -> float | None:
    if not isinstance(wanted, str) or not _ANSWER.fullmatch(wanted):
        return None
    return 1.0 if _number(completion) == int(wanted) else 0.0


def _number(completion: Any) -> int | None:
    """The answer that a completion gives, or None if it is not well formed."""
    match = _WELL_FORMED.fullmatch(text_of(completion))
    return int(match.group(1)) if match else None


accuracy.answers = answers  # pyright: ignore[reportFunctionMemberAccess]

"""The reward for ``envs.liars``: is everybody named rightly?

A completion is well formed if, white space at its ends aside, it holds exactly one ``#`` and that
is followed by the names of one to four inhabitants and nothing else: ``#aBC``, ``acab+#aBC``. What
stands before the ``#`` is free.
"""

import re
from typing import Any

from rewards.completion import text_of

_NAMES = re.compile(r"[Aa](?:[Bb](?:[Cc][Dd]?)?)?")
_WELL_FORMED = re.compile(rf"[^#]*#({_NAMES.pattern})\s*", re.ASCII)


def accuracy(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """1.0 where the completion is well formed and its names are those of ``answer``, else 0.0.

    ``None`` where the answer of the row names nobody, or not in this way.

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
    """
    if len(answer) != len(completions):
        raise ValueError(f"{len(completions)} completions but {len(answer)} answers")
    return [
        float(_named(completion) == wanted)
        if isinstance(wanted, str) and _NAMES.fullmatch(wanted)
        else None
        for completion, wanted in zip(completions, answer, strict=True)
    ]


def well_formed(completions: list, **columns: Any) -> list[float | None]:
    """1.0 where the completion is written in the format (right or wrong), else 0.0."""
    return [0.0 if _named(completion) is None else 1.0 for completion in completions]


def _named(completion: Any) -> str | None:
    match = _WELL_FORMED.fullmatch(text_of(completion))
    return match.group(1) if match else None

"""Between the engine and the pool: jobs out, verdicts back."""

from __future__ import annotations

from collections.abc import Iterator

from . import pool
from .verdict import NO_WORKER, Verdict

Key = tuple[str, str, str]


def decide(
    keys: list[Key], deadline_s: float, *, second: bool = False
) -> Iterator[tuple[Key, Verdict]]:
    """Verdicts for (gold, answer, other reading) from the workers; failures are statuses.

    second: ask Math-Verify where sympy cannot tell.
    """
    try:
        outcomes = pool.shared().run(keys, deadline_s, second=second)
    except pool.PoolUnavailable as problem:
        outcomes = [("crashed", str(problem), NO_WORKER)] * len(keys)
    for key, (status, reason, method) in zip(keys, outcomes, strict=True):
        yield key, Verdict(1.0 if status == "correct" else 0.0, status, key[1], reason, method)

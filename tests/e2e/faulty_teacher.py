"""What tests/e2e/test_teacher_faults.py names in its configs: a teacher that goes wrong."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from rlkd.teacher.base import Teacher, TokenScores
from rlkd.teacher.wrapping import Wrapping

Scores = list[TokenScores]


def _one(change: Callable[[TokenScores], TokenScores]) -> Callable[[Scores], Scores]:
    """Change one answer, the first of at least two tokens."""

    def changed(scores: Scores) -> Scores:
        place = next(i for i, scored in enumerate(scores) if len(scored.logp) > 1)
        return [*scores[:place], change(scores[place]), *scores[place + 1 :]]

    return changed


def _last(value: float) -> Callable[[Scores], Scores]:
    def change(scored: TokenScores) -> TokenScores:
        logp = scored.logp.clone()
        logp[-1] = value
        return TokenScores(scored.token_ids, logp)

    return _one(change)


def _raise(scores: Scores) -> Scores:
    raise RuntimeError("CUDA error: out of luck")


def _hang(scores: Scores) -> Scores:
    time.sleep(3600)
    return scores


FAULTS: dict[str, Callable[[Scores], Scores]] = {
    "nan": _last(math.nan),
    "inf": _last(math.inf),
    "positive": _last(0.5),
    "ruled_out": _one(lambda s: TokenScores(s.token_ids, s.logp - math.inf)),
    "short": _one(lambda s: TokenScores(s.token_ids, s.logp[:-1])),
    "stale": _one(lambda s: TokenScores(s.token_ids + 1, s.logp)),
    "missing": lambda scores: scores[:-1],
    "permuted": lambda scores: scores[1:] + scores[:1],
    "all_nan": lambda scores: [TokenScores(s.token_ids, s.logp * math.nan) for s in scores],
    "most_nan": lambda scores: [scores[0], *FAULTS["all_nan"](scores[1:])],
    "some": lambda scores: [
        TokenScores(s.token_ids, s.logp * math.nan) if s.token_ids.sum() % 7 == 0 else s
        for s in scores
    ],
    "raises": _raise,
    "hangs": _hang,
    "none": lambda scores: scores,
}


class Faulty(Wrapping):
    """The inner teacher, until it is asked for the scores of one step.

    Args:
        kind: one of FAULTS.
        at: from this optimiser step of the process on, counted from 1.
        mended: a file; where it is there, nothing is wrong.
    """

    def __init__(self, inner: Teacher, kind: str, at: int, mended: str) -> None:
        super().__init__(inner)
        self.name = "a faulty teacher"
        self._change, self._at, self._mended = FAULTS[kind], at, Path(mended)
        self._done = 0

    def after_update(self, step: int) -> None:
        self._done = step
        super().after_update(step)

    def score_rows(self, rows, prompt_ids, completion_ids, temperature):
        scores = super().score_rows(rows, prompt_ids, completion_ids, temperature)
        wrong = self._done + 1 >= self._at and not self._mended.exists()
        return self._change(scores) if wrong else scores

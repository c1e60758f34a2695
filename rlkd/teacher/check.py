"""The self-check at run start: does the teacher score the tokens that it was sent?"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlkd.teacher.base import Teacher, TeacherError, TokenScores
from rlkd.teacher.scores import faults_of

MIN_TOKENS = 4
"""Shorter answers are left out: a shuffled or shifted pair of tokens is often the same pair."""
MIN_MARGIN = 0.5
"""Nats per token by which the answer as written must beat its shifted and shuffled self. Text
that means anything to the teacher beats them by several nats; a misaligned teacher by about 0."""
ALONE = 4
"""Answers that are asked for once more, each alone."""
MAX_APART = 0.3
"""Nats per token by which an answer may score otherwise alone than among others: kernels differ
with what else is in their batch. Those of two different answers differ by more."""

Judge = Callable[
    [Mapping[int, str], Mapping[int, Sequence[int]], Mapping[int, TokenScores]], object
]
"""Gets what cannot be right, the tokens that were sent and what was said, each by row; tells
where it keeps them, or raises."""


class Doubtful(TeacherError):
    """Scores that may be right, and look as those of other tokens would."""


@dataclass(frozen=True)
class AlignmentReport:
    """Mean log-probability per token, nats, of the checked answers."""

    rows: int
    written: float
    shifted: float
    shuffled: float

    def __str__(self) -> str:
        return (
            f"teacher check on {self.rows} answers: {self.written:.2f} nats a token as written, "
            f"{self.shifted:.2f} shifted by one, {self.shuffled:.2f} shuffled"
        )


def stop(
    bad: Mapping[int, str], sent: Mapping[int, Sequence[int]], said: Mapping[int, TokenScores]
) -> None:
    """The Judge that lets nothing pass."""
    raise TeacherError(next(iter(bad.values())))


def check_alignment(
    teacher: Teacher,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    temperature: float,
    max_rows: int = 16,
    rows: Sequence[Mapping[str, Any]] | None = None,
    judge: Judge = stop,
) -> AlignmentReport | None:
    """Score some answers as written, some of them once more alone, all with their tokens shifted by
    one, and shuffled.

    A teacher that reads the wrong positions, the wrong vocabulary or stale requests finds the
    three about equally likely; one that mixes up its rows scores an answer otherwise alone. In all
    of it the tokens scored must be those sent, and every score a number that is at most 0: also
    where no answer with sound scores has MIN_TOKENS different tokens, when nothing else can be said
    (None).

    Args:
        max_rows: answers that are looked at; where none of them has sound scores, as many others,
            until one has.
        judge: decides on scores that cannot be right: it raises, or these rows are left out.

    Raises:
        Doubtful: an answer alone scores more than MAX_APART otherwise; the answers as written do
            not score MIN_MARGIN nats a token above both.
        TeacherError: scores that cannot be right, by the judge; no answer has others, as written
            or with its tokens moved.
    """
    asking = _Asking(teacher, prompt_ids, temperature, rows, judge)
    written = {row: list(answer) for row, answer in enumerate(completion_ids) if len(answer)}
    if not written:
        return None
    telling = {row: ids for row, ids in written.items() if len(set(ids)) >= MIN_TOKENS}
    others = {row: ids for row, ids in written.items() if row not in telling}
    # The telling ones are the long ones, which are those that a limit of length refuses.
    scores = asking.first_sound([*_portions(telling, max_rows), *_portions(others, max_rows)])
    looked_at = {row: telling[row] for row in scores if row in telling}
    if not looked_at:
        return None
    for row in list(scores)[:ALONE]:
        alone = asking.ask({row: looked_at[row]}, among=looked_at)
        if row in alone:
            _compare(teacher.name, row, scores[row], alone[row])
    shuffler = random.Random(0)
    shifted = asking.moved(looked_at, lambda ids: ids[-1:] + ids[:-1])
    shuffled = asking.moved(looked_at, lambda ids: shuffler.sample(ids, len(ids)))
    report = AlignmentReport(
        len(shuffled),
        *(_mean([by_row[row] for row in shuffled]) for by_row in (scores, shifted, shuffled)),
    )
    if not report.written - max(report.shifted, report.shuffled) >= MIN_MARGIN:
        raise Doubtful(
            f"{report}. The student's answers are no likelier to {teacher.name} than their tokens "
            f"in a wrong order (at least {MIN_MARGIN} nats are wanted): it scores other tokens "
            "than it is sent, or the answers mean nothing to it. Check that the teacher knows the "
            "task and the prompt format."
        )
    return report


class _Asking:
    """What is asked in one check, and which rows are left out of it."""

    def __init__(
        self,
        teacher: Teacher,
        prompt_ids: Sequence[Sequence[int]],
        temperature: float,
        rows: Sequence[Mapping[str, Any]] | None,
        judge: Judge,
    ) -> None:
        self._teacher, self._prompt_ids, self._temperature = teacher, prompt_ids, temperature
        self._rows, self._judge = rows if rows is not None else [{}] * len(prompt_ids), judge
        self._left_out: dict[int, str] = {}
        self._kept: object = None

    def first_sound(self, portions: Sequence[Mapping[int, list[int]]]) -> dict[int, TokenScores]:
        """The sound scores, by row, of the first portion that has any.

        Raises:
            TeacherError: the judge says so, or none has.
        """
        for answers in portions:
            if scores := self._sound(answers):
                return scores
        raise self._none_left()

    def ask(
        self, answers: Mapping[int, list[int]], among: Mapping[int, Any]
    ) -> dict[int, TokenScores]:
        """The sound scores, by row.

        Args:
            answers: by row.
            among: the rows that are looked at in all.

        Raises:
            TeacherError: the judge says so, or no row is left.
        """
        scores = self._sound(answers)
        if self._left_out.keys() >= among.keys():
            raise self._none_left()
        return scores

    def _sound(self, answers: Mapping[int, list[int]]) -> dict[int, TokenScores]:
        name, asked = self._teacher.name, list(answers)
        scores = self._teacher.score_rows(
            [self._rows[row] for row in asked],
            [list(self._prompt_ids[row]) for row in asked],
            list(answers.values()),
            self._temperature,
        )
        bad = faults_of(name, scores, list(answers.values()), asked)
        said = dict(zip(asked, scores, strict=True)) if len(scores) == len(asked) else {}
        if bad:
            for row, reason in bad.items():
                self._left_out.setdefault(row, reason)
            self._kept = self._judge(bad, answers, said)
        return {row: said[row] for row in asked if row not in bad}

    def _none_left(self) -> TeacherError:
        where = f" (the answers and their scores: {self._kept})" if self._kept else ""
        reason = next(iter(self._left_out.values()))
        return TeacherError(f"no answer of the teacher check has sound scores: {reason}{where}")

    def moved(
        self, answers: Mapping[int, list[int]], move: Callable[[list[int]], list[int]]
    ) -> dict[int, TokenScores]:
        """The same of the answers with their tokens in another order."""

        def with_end(ids: list[int]) -> list[int]:
            cut = len(ids) - self._teacher.ends_last
            return move(ids[:cut]) + ids[cut:]

        left = {row: ids for row, ids in answers.items() if row not in self._left_out}
        return self.ask({row: with_end(ids) for row, ids in left.items()}, among=left)


def _portions(answers: Mapping[int, list[int]], rows: int) -> list[dict[int, list[int]]]:
    pairs = list(answers.items())
    return [dict(pairs[place : place + rows]) for place in range(0, len(pairs), rows)]


def _mean(scores: Sequence[TokenScores]) -> float:
    return torch.cat([_floored(scored) for scored in scores]).mean().item()


def _compare(name: str, place: int, among: TokenScores, alone: TokenScores) -> None:
    moved = (_floored(among) - _floored(alone)).abs().mean().item()
    if not moved <= MAX_APART:
        raise Doubtful(
            f"{name} scores answer {place} alone otherwise than among others, by {moved:.2f} nats "
            f"a token ({MAX_APART:g} are allowed): it mixes up its rows, remembers an earlier "
            "request, or is not the same each time (dropout?)."
        )


def _floored(scored: TokenScores) -> torch.Tensor:
    # Keeps one impossible token from deciding a mean alone.
    return scored.logp.float().cpu().clamp(min=-20.0)

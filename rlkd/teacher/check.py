"""The self-check at run start: does the teacher score the tokens that it was sent?"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlkd.teacher.base import Teacher, TeacherError, TokenScores, faults_of

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


def check_alignment(
    teacher: Teacher,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    temperature: float,
    max_rows: int = 16,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> AlignmentReport | None:
    """Score some answers as written, some of them once more alone, all with their tokens shifted by
    one, and shuffled.

    A teacher that reads the wrong positions, the wrong vocabulary or stale requests finds the
    three about equally likely; one that mixes up its rows scores an answer otherwise alone. In all
    of it the tokens scored must be those sent, and every score a number that is at most 0: also
    where no answer has MIN_TOKENS different tokens, when nothing else can be said (None).

    Raises:
        Doubtful: an answer alone scores more than MAX_APART otherwise; the answers as written do
            not score MIN_MARGIN nats a token above both.
        TeacherError: scores that cannot be right.
    """
    rows = rows if rows is not None else [{}] * len(prompt_ids)
    written = [
        (list(prompt), list(completion), row)
        for prompt, completion, row in zip(prompt_ids, completion_ids, rows, strict=True)
        if len(completion)
    ]
    telling = [each for each in written if len(set(each[1])) >= MIN_TOKENS]
    looked_at = (telling or written)[:max_rows]

    def ask(answers: Sequence[list[int]], places: Sequence[int]) -> list[TokenScores]:
        asked = [looked_at[place] for place in places]
        scores = teacher.score_rows(
            [row for *_, row in asked], [prompt for prompt, *_ in asked], answers, temperature
        )
        for reason in faults_of(teacher.name, scores, answers).values():
            raise TeacherError(reason)
        return scores

    every = range(len(looked_at))
    as_written = [answer for _, answer, _ in looked_at]
    if not looked_at:
        return None
    scores = ask(as_written, every)
    if not telling:
        return None
    for place in every[:ALONE]:
        _compare(teacher.name, place, scores[place], *ask([as_written[place]], [place]))
    shuffler = random.Random(0)
    report = AlignmentReport(
        len(looked_at),
        written=_mean(scores),
        shifted=_mean(ask([answer[-1:] + answer[:-1] for answer in as_written], every)),
        shuffled=_mean(ask([shuffler.sample(a, len(a)) for a in as_written], every)),
    )
    if not report.written - max(report.shifted, report.shuffled) >= MIN_MARGIN:
        raise Doubtful(
            f"{report}. The student's answers are no likelier to {teacher.name} than their tokens "
            f"in a wrong order (at least {MIN_MARGIN} nats are wanted): it scores other tokens "
            "than it is sent, or the answers mean nothing to it. Check that the teacher knows the "
            "task and the prompt format."
        )
    return report


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

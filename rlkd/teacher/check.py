"""The self-check at run start: does the teacher score the tokens that it was sent?"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlkd.teacher.base import Teacher, TeacherError

MIN_TOKENS = 4
"""Shorter answers are left out: a shuffled or shifted pair of tokens is often the same pair."""
MIN_MARGIN = 0.5
"""Nats per token by which the answer as written must beat its shifted and shuffled self. Text
that means anything to the teacher beats them by several nats; a misaligned teacher by about 0."""


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
    """Score answers as written, with their tokens shifted by one, and shuffled.

    A teacher that reads the wrong positions, the wrong vocabulary or stale requests finds the
    three about equally likely. Returns None where no answer has MIN_TOKENS different tokens.

    Raises:
        TeacherError: the answers as written do not score MIN_MARGIN nats a token above both.
    """
    rows = rows if rows is not None else [{}] * len(prompt_ids)
    looked_at = [
        (list(prompt), list(completion), row)
        for prompt, completion, row in zip(prompt_ids, completion_ids, rows, strict=True)
        if len(completion) >= MIN_TOKENS and len(set(completion)) >= MIN_TOKENS
    ][:max_rows]
    if not looked_at:
        return None
    shuffler = random.Random(0)
    prompts = [prompt for prompt, _, _ in looked_at]
    rows = [row for _, _, row in looked_at]
    variants = {
        "written": [answer for _, answer, _ in looked_at],
        "shifted": [answer[-1:] + answer[:-1] for _, answer, _ in looked_at],
        "shuffled": [shuffler.sample(answer, len(answer)) for _, answer, _ in looked_at],
    }
    means = {}
    for name, answers in variants.items():
        scores = teacher.score_rows(rows, prompts, answers, temperature)
        # A floor keeps one impossible token from deciding the mean alone.
        tokens = torch.cat([scored.logp.float().cpu() for scored in scores]).clamp(min=-20.0)
        means[name] = tokens.mean().item()
    report = AlignmentReport(len(looked_at), **means)
    if not report.written - max(report.shifted, report.shuffled) >= MIN_MARGIN:
        raise TeacherError(
            f"{report}. The student's answers are no likelier to {teacher.name} than their tokens "
            f"in a wrong order (at least {MIN_MARGIN} nats are wanted): it scores other tokens "
            "than it is sent, or the answers mean nothing to it. Check that the teacher knows the "
            "task and the prompt format."
        )
    return report

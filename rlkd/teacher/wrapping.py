"""A teacher around another: what it does not change, the inner one does."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlkd.teacher.base import Student, Teacher, TokenScores, Usage


class Wrapping(Teacher):
    """Abstract: hands everything on to `inner`; a subclass overrides what it changes."""

    def __init__(self, inner: Teacher) -> None:
        self.inner = inner
        self.name = inner.name
        self.temperature = inner.temperature
        self.end_token_ids = inner.end_token_ids
        self.scores_at = inner.scores_at
        self.shares_student = inner.shares_student
        self.computes_here = inner.computes_here
        self.ends_last = inner.ends_last

    @property
    def usage(self) -> Usage | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner teacher's."""
        return self.inner.usage

    def meet(self, student: Student) -> None:
        self.inner.meet(student)

    def prepare(self, device: torch.device) -> None:
        self.inner.prepare(device)

    def check_tokenizer(self, tokenizer: object, model_vocab_size: int) -> None:
        self.inner.check_tokenizer(tokenizer, model_vocab_size)

    def after_update(self, step: int) -> None:
        self.inner.after_update(step)

    def check_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.inner.check_rows(rows)

    def learnt(self) -> Mapping[str, Any]:
        return self.inner.learnt()

    def measures(self) -> Mapping[str, tuple[float, float]]:
        return self.inner.measures()

    def readers(self) -> Mapping[str, Any]:
        return self.inner.readers()

    def give_up(self) -> None:
        self.inner.give_up()

    def close(self) -> None:
        self.inner.close()

    def score(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        return self.score_rows([{}] * len(prompt_ids), prompt_ids, completion_ids, temperature)

    def score_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        return self.inner.score_rows(rows, prompt_ids, completion_ids, temperature)

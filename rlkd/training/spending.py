"""What a run has spent: tokens that the student generated, work that the teacher did."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlkd.teacher.base import Teacher

NAMES = ("spent/generated_tokens", "spent/teacher_rows", "spent/teacher_tokens")


class Spending:
    """Counts over the whole run, of this rank; a piece of a checkpoint."""

    def __init__(self, teacher: Teacher | None) -> None:
        self.generated_tokens = 0
        self._teacher = teacher
        self._before = (0, 0)
        """The teacher's rows and tokens before the run was resumed."""

    def metrics(self, sum_over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The counts of all ranks so far; of a teacher that does not count, nothing."""
        counts = torch.tensor([self.generated_tokens, *self._of_teacher()], dtype=torch.float64)
        counted = self._teacher is None or self._teacher.usage is not None
        totals = sum_over_ranks(counts).tolist()
        return dict(zip(NAMES if counted else NAMES[:1], totals, strict=False))

    def state(self) -> dict[str, Any]:
        return {"generated_tokens": self.generated_tokens, "of_teacher": self._of_teacher()}

    def restore(self, state: dict[str, Any]) -> str:
        self.generated_tokens = state["generated_tokens"]
        self._before = tuple(state["of_teacher"])
        return f"{self.generated_tokens} tokens generated so far"

    def _of_teacher(self) -> tuple[int, int]:
        usage = self._teacher.usage if self._teacher is not None else None
        rows, tokens = (usage.rows, usage.tokens) if usage is not None else (0, 0)
        return self._before[0] + rows, self._before[1] + tokens

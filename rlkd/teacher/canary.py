"""Is a teacher that somebody else holds still the one that a run began with?"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlkd.teacher.base import TeacherError

TOLERANCE = 0.3
"""Nats by which the same tokens may score otherwise later on: bfloat16 kernels differ with what
else is in their batch; another model differs by more."""

_FLOOR = -100.0
"""Nats as which −inf counts, so that two of them are the same score."""


class Canary:
    """A few tokens whose scores may not change in a run, resumed or not. A piece of a checkpoint.

    Args:
        name: the teacher's.
        sing: asks for the scores, (T,), always of the same tokens.
    """

    def __init__(self, name: str, sing: Callable[[], Tensor]) -> None:
        self._name, self._sing = name, sing
        self._first: Tensor | None = None
        self.is_heard = False
        """Has this process asked?"""

    def hear(self) -> None:
        """Ask, if this process has not yet: at the start of a run, and when it is resumed.

        Raises:
            TeacherError: as `look`.
        """
        if not self.is_heard:
            self.look()
            self.is_heard = True

    def look(self) -> None:
        """Ask, and compare with the first time.

        Raises:
            TeacherError: the scores are others, or none.
        """
        now = self._sing().clamp(min=_FLOOR)  # −inf is a score too
        if self._first is None:
            self._first = now
        moved = (now - self._first).abs().max().item()
        if not moved <= TOLERANCE:
            raise TeacherError(
                f"{self._name} scores the same tokens otherwise than at the start of this run (by "
                f"{moved:.2f} nats, {TOLERANCE:g} are allowed): another model, or another setting "
                "of the server, has taken its place. Serve the model that the run began with and "
                "resume, or begin a new run."
            )

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {"logp": None if self._first is None else self._first.tolist()}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        said = state["logp"]
        self._first, self.is_heard = None if said is None else torch.tensor(said), False
        return "compared with the run's own before the next score"

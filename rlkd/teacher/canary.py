"""Is a frozen teacher still the one that a run began with?"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlkd.checkpoints.manifest import CheckpointError
from rlkd.teacher.base import TeacherError

TOLERANCE = 0.3
"""Nats by which the same tokens may score otherwise later on: bfloat16 kernels differ with what
else is in their batch, those of quantised weights from machine to machine; another model differs by
more."""
FLOAT32_TOLERANCE = 0.05
"""The same of float32 weights on this machine or the next, TF32 included: so that a few more
updates of the same model are noticed too."""

_FLOOR = -100.0
"""Nats as which −inf counts: it is a score too, and two of them are the same."""
_NO_NUMBER = 10 * _FLOOR
"""As which NaN does. Whether a teacher may say it is judged elsewhere."""


class Canary:
    """A few tokens whose scores may not change in a run, resumed or not. A piece of a checkpoint.

    Args:
        name: the teacher's.
        sing: asks for the scores, (T,), always of the same tokens.
        blame: what has happened where they change, and what to do: sentences.
        tolerance: nats by which a score may change.
    """

    def __init__(
        self, name: str, sing: Callable[[], Tensor], blame: str, tolerance: float = TOLERANCE
    ) -> None:
        self._name, self._sing, self._blame, self._tolerance = name, sing, blame, tolerance
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
        now = self._sing().float().cpu().clamp(min=_FLOOR).nan_to_num(nan=_NO_NUMBER)
        if self._first is None:
            self._first = now
        same = now.shape == self._first.shape
        moved = (now - self._first).abs().max().item() if same else torch.inf
        if not moved <= self._tolerance:
            raise TeacherError(
                f"{self._name} scores the same tokens otherwise than at the start of this run (by "
                f"{moved:.2f} nats, {self._tolerance:g} are allowed): {self._blame}"
            )

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {"logp": None if self._first is None else self._first.tolist()}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        said = state["logp"]
        self._first, self.is_heard = None if said is None else torch.tensor(said), False
        return "compared with the run's own before the next score"


class OwnCanary(Canary):
    """That of weights which this process holds and never changes: they are asked when the first
    checkpoint is written, and compared where one is restored, before anything else is done."""

    def state(self) -> dict[str, Any]:
        self.hear()
        return super().state()

    def restore(self, state: dict[str, Any]) -> str:
        """Raises:
        CheckpointError: the scores are others.
        """
        super().restore(state)
        try:
            self.hear()
        except TeacherError as error:
            raise CheckpointError(f"teacher: {error}") from error
        return "scores the same tokens as when the run began"


def tokens_of(tokenizer: Any | None, vocabulary: int, number: int) -> list[int]:
    """Tokens spread evenly over those that a model knows, without special ones (an image token
    wants an image): the same each time.

    Args:
        tokenizer: whose they are; None: all of the vocabulary count.
        vocabulary: rows of the head; no larger id can be read.
        number: how many, at most.
    """
    known = range(vocabulary)
    if tokenizer is not None:
        special = set(tokenizer.all_special_ids)
        known = sorted({i for i in tokenizer.get_vocab().values() if i < vocabulary} - special)
    stride = max(1, len(known) // number)
    return list(known[::stride][:number])

"""Weights that a run reads and never trains are loaded from their folder, and are in no checkpoint:
a resumed run must find the same ones there."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from rlkd.checkpoints.manifest import CheckpointError

_SAMPLES = 32
"""Numbers of each weight that are looked at, evenly spread: any training moves nearly all."""


class FrozenWeights:
    """A piece of a checkpoint: what some numbers of every weight that is not trained were.

    They are compared bit by bit. Left out is what another machine may load otherwise, or holds
    elsewhere: quantised weights (their model's norms and embeddings are not), those on a disk, and
    those that DeepSpeed ZeRO-3 has split.

    Args:
        where: what they are loaded from, in words.
        model: gives the model.
        is_whole: none of it is trained, whatever its parameters say.
    """

    per_rank = True
    """Under FSDP each process holds its share."""

    def __init__(
        self, where: str, model: Callable[[], torch.nn.Module], *, is_whole: bool = False
    ) -> None:
        self._where, self._model, self._is_whole = where, model, is_whole
        self._known: dict[str, str] | None = None

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        if self._known is None:
            self._known = {name: _digest(weight) for name, weight in self._frozen()}
        return {"weights": self._known}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        theirs, ours = state["weights"], self.state()["weights"]
        other = sorted(n for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n))
        if other:
            raise CheckpointError(
                f"{self._where} no longer holds the model that the run began with.\n"
                f"  found: {len(other)} of its {len(theirs)} weights are others, like {other[0]}\n"
                "  why: the rest of the run would go by another model\n"
                "  do: put it back and resume, or begin a new run"
            )
        return f"{self._where} holds the {len(ours)} frozen weights that it held"

    def _frozen(self) -> Iterator[tuple[str, Tensor]]:
        for name, weight in self._model().named_parameters():
            here: Any = weight.detach()
            if hasattr(here, "to_local"):  # FSDP's
                here = here.to_local()
            is_plain = type(here) is Tensor and here.is_floating_point() and not here.is_meta
            is_trained = weight.requires_grad and not self._is_whole
            if is_plain and here.numel() and not is_trained:
                yield name, here


def _digest(weight: Tensor) -> str:
    flat = weight.reshape(-1)
    stride = max(1, flat.numel() // _SAMPLES)
    numbers = flat[::stride][:_SAMPLES].cpu().contiguous().view(torch.uint8)
    about = f"{weight.dtype} {tuple(weight.shape)} ".encode()
    return hashlib.blake2b(about + numbers.numpy().tobytes(), digest_size=8).hexdigest()

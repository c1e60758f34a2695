"""A teacher that this process holds and nothing changes: a resumed run must find the same."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlkd.teacher.canary import FLOAT32_TOLERANCE, TOLERANCE, OwnCanary, tokens_of

_TOKENS = 33
"""That are read: one more than are scored."""


class Frozen:
    """Mixin of LocalTeacher: a canary in the run's checkpoints."""

    held_in = ""
    """What its weights are loaded from, in words."""
    _canary: OwnCanary | None = None

    @property
    def _frozen(self) -> Any:
        return self

    def learnt(self) -> Mapping[str, Any]:
        if self._canary is None:
            blame = (
                f"{self.held_in} no longer holds the model that the run began with. Put it back "
                "and resume, or begin a new run."
            )
            self._canary = OwnCanary(self._frozen.name, self._sing, blame, self._tolerance())
        return {"canary": self._canary}

    @torch.no_grad()
    def _sing(self) -> Tensor:
        """Scores of tokens of its own, (T,), at temperature 1."""
        me = self._frozen
        ids = tokens_of(me.tokenizer, len(me.head().weight_VH), _TOKENS)
        with me._ready(), me._uncounted():
            (scored,) = me._forward([0], [(ids[:1], ids[1:])], 1.0, False)
        return scored.logp

    def _tolerance(self) -> float:
        model = self._frozen.model
        is_quantized = getattr(model.config, "quantization_config", None) is not None
        exact = all(weight.dtype == torch.float32 for weight in model.parameters())
        return FLOAT32_TOLERANCE if exact and not is_quantized else TOLERANCE

"""The controller of an entropy coefficient, between the steps of a run."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from rlkd.algorithms.component import Component, Controlled


class EntropyControl(TrainerCallback):
    """Keeps what a `Controlled` component comes to; its rule stands there.

    A hook of the training loop: after each optimiser step the rule is told the mean entropy of
    the step's tokens over all ranks, before a checkpoint of that step is written.

    Args:
        reduce_sum: sums a tensor over the ranks.
    """

    def __init__(self, component: Controlled, reduce_sum: Callable[[Tensor], Tensor]) -> None:
        self._component = component
        self._reduce_sum = reduce_sum
        self._state = component.start()
        self._entropy: float | None = None
        self._sums: list[Tensor] = []

    @property
    def coefficient(self) -> float:
        """For `TokenBatch.entropy_coefficient` of the present step."""
        return self._component.coefficient(self._state, self._entropy)

    def observe(self, total: Tensor, number: Tensor) -> None:
        """Σ entropy and number of the counted tokens of one micro-batch."""
        self._sums.append(torch.stack([total.float(), number.float()]))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        total, number = self._reduce_sum(torch.stack(self._sums).sum(0)).tolist()
        self._sums.clear()
        if number > 0:
            measured = total / number
            self._state, self._entropy = self._component.update(self._state, measured), measured

    def state(self) -> dict[str, Any]:
        """All there is to save, between two steps."""
        return {"state": self._state, "entropy": self._entropy}

    def restore(self, state: dict[str, Any]) -> str:
        """Take up what `state` gave; returns it in words."""
        self._state, self._entropy = state["state"], state["entropy"]
        return f"coefficient {self._state:.3g}"


def control_of(
    components: tuple[Component, ...], reduce_sum: Callable[[Tensor], Tensor]
) -> EntropyControl | None:
    """The controller that the components need; there is at most one, since all set the
    entropy's coefficient."""
    for component in components:
        if isinstance(component, Controlled):
            return EntropyControl(component, reduce_sum)
    return None

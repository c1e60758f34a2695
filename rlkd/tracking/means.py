"""Means over all counted tokens of a logging window: summed locally, reduced once."""

from collections.abc import Callable

import torch
from torch import Tensor


class Means:
    """Sums (Σ value, number) pairs per metric until they are read.

    One reduction over the ranks per logging step, however many metrics and micro-batches: the
    training loop waits for nothing. The result is the mean over all tokens, not the mean of the
    micro-batches' means.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, means: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Add detached (sum, number) pairs of one micro-batch."""
        for name, (total, number) in means.items():
            pair = torch.stack([total.detach().float(), number.detach().float()])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def state(self) -> dict[str, Tensor]:
        """The sums not read yet, for a checkpoint; `restore` takes them."""
        return dict(self._sums)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self._sums = dict(state)

    def pop(self, reduce_sum: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means, over all ranks, and forget them. A metric that counted nothing is left out.

        Args:
            reduce_sum: sums a tensor over the ranks; every rank calls with the same metrics.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        totals = reduce_sum(torch.stack([self._sums[name] for name in names])).cpu()
        self._sums.clear()
        return {
            name: (total / number).item()
            for name, (total, number) in zip(names, totals, strict=True)
            if number > 0
        }

"""What tests/e2e/test_alarms.py names in its configs: losses and rewards that go wrong."""

import os
from dataclasses import dataclass, replace

from rlkd.algorithms.base import LossOutput
from rlkd.algorithms.grpo import GRPO
from rlkd.batch import TokenBatch


@dataclass(frozen=True, kw_only=True)
class Broken(GRPO):
    """GRPO, but for the micro-batches of one optimiser step."""

    beta: float = 0.0
    at: int = 3
    """The step, counted from 1; all steps are told apart by their progress."""
    steps: int = 4
    value: float = float("nan")
    only_the_number: bool = False
    """The loss alone is broken; its gradient is that of GRPO."""

    def loss(self, batch: TokenBatch) -> LossOutput:
        output = super().loss(batch)
        if round(batch.progress * self.steps) + 1 != self.at:
            return output
        broken = output.loss.detach() * self.value if self.only_the_number else None
        loss = output.loss * self.value if broken is None else output.loss + broken
        return replace(output, loss=loss)


def constant(completions, **columns):
    """The same for every answer."""
    return [0.25] * len(completions)


@dataclass(frozen=True, kw_only=True)
class BrokenOnOneRank(Broken):
    """The other rank must leave the update out as well."""

    only_the_number: bool = True

    def loss(self, batch: TokenBatch) -> LossOutput:
        broken = os.environ.get("RANK") == "1"
        return super().loss(batch) if broken else GRPO.loss(self, batch)

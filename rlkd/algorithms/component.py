"""Components: what any algorithm can carry besides its own objective, and how they are joined.

A component may add to the rewards of a group before they become advantages, change a batch before
the algorithm's loss reads it, and add a loss per token. Like an algorithm it holds its settings
and no state.
"""

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlkd.algorithms.base import Algorithm, LossOutput
from rlkd.batch import Groups, TokenBatch
from rlkd.difficulty import Rules
from rlkd.objectives import reduce

Means = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Component:
    """Abstract. A subclass overrides what it needs; what it leaves alone changes nothing."""

    algorithm_defaults: ClassVar[dict[str, Any]] = {}
    """Fields of the algorithm that this paper sets otherwise, where the config does not set them
    itself and the algorithm has them."""

    @property
    def steers(self) -> frozenset[str]:
        """What it takes hold of: two components may not hold the same."""
        return frozenset()

    @property
    def rules(self) -> Rules | None:
        """How the difficulty records must be kept for it; None: it does not care."""
        return None

    @property
    def tells_tokens_apart(self) -> bool:
        """Does `shape_batch` give single tokens of an answer another gradient? An algorithm whose
        ratio is the answer's cannot do that."""
        return False

    @property
    def micro_batch_statistic(self) -> str | None:
        """Why the gradient depends on which rows share a micro-batch; None: it does not."""
        return None

    def shape_rewards(self, groups: Groups) -> Tensor:
        """(N, G): rewards in place of `groups.reward_NG`, NaN where that is NaN."""
        return groups.reward_NG

    def group_measures(self, groups: Groups) -> dict[str, float]:
        """What to log of a batch of groups, by the metric's name."""
        return {}

    def shape_batch(self, batch: TokenBatch) -> TokenBatch:
        """The batch that the algorithm's loss reads."""
        return batch

    def penalty(self, batch: TokenBatch) -> Tensor | None:
        """A further loss per token, (B, T), from the batch before any shaping; None: none. It is
        averaged over all counted tokens of the optimiser step (`TokenBatch.step_tokens`: with
        several steps per rollout, an equal share of the rollout's), whatever the algorithm's
        reduction."""
        return None

    def measures(self, batch: TokenBatch) -> Means:
        """(sum, number) pairs to log, from the batch before any shaping."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Controlled(Component, ABC):
    """Abstract: a component whose coefficient a controller sets anew after each optimiser step,
    from the entropy measured in it."""

    @abstractmethod
    def start(self) -> float:
        """The controller's state before the first step."""

    @abstractmethod
    def update(self, state: float, entropy: float) -> float:
        """Its state after a step whose tokens had the mean entropy `entropy`, nats."""

    @abstractmethod
    def coefficient(self, state: float, entropy: float | None) -> float:
        """What `TokenBatch.entropy_coefficient` holds in the step after that; entropy None: the
        first step, nothing was measured yet."""


@dataclass(frozen=True)
class Composed:
    """An algorithm with its components. Without any it is the algorithm, bit for bit.

    Raises:
        ValueError: two components contradict each other, or one the algorithm.
    """

    algorithm: Algorithm
    components: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        for one, other in itertools.combinations(self.components, 2):
            both = sorted(one.steers & other.steers)
            if both:
                raise ValueError(
                    f"{type(one).__name__} and {type(other).__name__} both set {both[0]}, so "
                    "neither would do what its paper says; keep one of them"
                )
        for component in self.components:
            if component.tells_tokens_apart and self._ratio_level() == "sequence":
                raise ValueError(
                    f"{type(component).__name__} acts on single tokens, and with ratio_level "
                    "'sequence' all tokens of an answer share one ratio and its gradient; set "
                    "ratio_level to 'token', or leave the component out"
                )
        self.rules()

    @property
    def micro_batch_statistic(self) -> str | None:
        """Why the gradient depends on which rows share a micro-batch; None: it does not."""
        parts = (self.algorithm, *self.components)
        found = [p.micro_batch_statistic for p in parts if p.micro_batch_statistic is not None]
        return found[0] if found else None

    def _ratio_level(self) -> str:
        return getattr(self.algorithm, "ratio_level", "token")

    def rules(self) -> Rules:
        """How the difficulty records are kept: as a component needs it, else as CEEH's paper."""
        wanted = [component.rules for component in self.components if component.rules is not None]
        for rules in wanted[1:]:
            if rules != wanted[0]:
                raise ValueError(
                    f"one component wants the difficulty records kept by {wanted[0]}, another by "
                    f"{rules}; there is one set of them: give both the same settings"
                )
        return wanted[0] if wanted else Rules()

    def rewards(self, groups: Groups) -> Tensor:
        """(N, G) shaped rewards; each component adds to what those before it made."""
        for component in self.components:
            groups = replace(groups, reward_NG=component.shape_rewards(groups))
        return groups.reward_NG

    def loss(self, batch: TokenBatch) -> LossOutput:
        """The algorithm's loss of the shaped batch, plus the components' losses."""
        shaped = batch
        for component in self.components:
            shaped = component.shape_batch(shaped)
        output = self.algorithm.loss(shaped)
        loss, means = output.loss, output.means
        for component in self.components:
            penalty_BT = component.penalty(batch)
            if penalty_BT is not None:
                loss = loss + reduce.token_mean_of_step(
                    torch.where(batch.mask_BT.bool(), penalty_BT, 0.0),
                    batch.mask_BT,
                    batch.step_tokens(),
                )
            means = means | component.measures(batch)
        return LossOutput(loss, means)

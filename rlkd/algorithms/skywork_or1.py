"""Adaptive entropy control of Skywork-OR1. arXiv 2505.22312 (the entropy control that RLAD's own
mathematics runs had)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.algorithms.base import require
from rlkd.algorithms.component import Controlled, Means
from rlkd.batch import TokenBatch
from rlkd.objectives.entropy import adaptive_coefficient, entropy_bonus


@dataclass(frozen=True, kw_only=True)
class AdaptiveEntropy(Controlled):
    """An entropy bonus that comes on below a target entropy, and whose coefficient grows while the
    entropy stays there::

        α_{k+1} = clip(α_k + Δ if H_k < H_tgt else α_k − Δ, α_min, α_max)
        loss − α_k 1[H_k < H_tgt] H

    H_k is the exact mean token entropy of the optimiser step before. The official code takes
    −mean log π_old of the batch at hand, a sample's estimate of the same, from a forward pass that
    training on the policy's own first samples does not need otherwise. So the bonus follows one
    step later.
    """

    target: float = 0.2
    """H_tgt, nats per token. (Official scripts.)"""
    step: float = 1e-4
    """Δ. (Official scripts; an example in the paper has 5e-3.)"""
    minimum: float = 0.0
    """α_min. (Official scripts.)"""
    maximum: float = 5e-3
    """α_max. (Official scripts.)"""
    initial: float = 0.0
    """α_0. (Official scripts.)"""

    def __post_init__(self) -> None:
        require(self.target >= 0.0, "target", self, "at least 0 nats")
        require(self.step >= 0.0, "step", self, "at least 0")
        require(self.minimum >= 0.0, "minimum", self, "at least 0")
        require(self.minimum <= self.maximum, "maximum", self, f"at least {self.minimum}")
        inside = self.minimum <= self.initial <= self.maximum
        require(inside, "initial", self, f"in [{self.minimum}, {self.maximum}]")

    @property
    def steers(self) -> frozenset[str]:
        return frozenset({"the entropy"})

    def start(self) -> float:
        return self.initial

    def update(self, state: float, entropy: float) -> float:
        return adaptive_coefficient(
            state, entropy, self.target, self.step, self.minimum, self.maximum
        )

    def coefficient(self, state: float, entropy: float | None) -> float:
        """α_k while the entropy is below the target, else 0; α_0 before anything was measured."""
        return state if entropy is None or entropy < self.target else 0.0

    def penalty(self, batch: TokenBatch) -> Tensor | None:
        if batch.entropy_coefficient == 0.0:
            return None
        return entropy_bonus(batch.entropy_BT, batch.entropy_coefficient)

    def measures(self, batch: TokenBatch) -> Means:
        held_BT = torch.full_like(batch.entropy_BT, batch.entropy_coefficient)
        return {"adaptive_entropy/coefficient": batch.token_sum(held_BT)}

"""Keeping a policy's entropy up. Sources: CEEH (arXiv 2602.22642, Eq. 5 to 8, 11, 12),
entropy advantage (2506.14758), Clip-Cov and KL-Cov (2505.22617), high-entropy tokens
(2506.01939), Skywork-OR1's adaptive coefficient (2505.22312)."""

import math

import torch
from torch import Tensor

ANNEALS = ("cosine", "half_cosine", "constant")


def anneal(progress: float, how: str = "half_cosine") -> float:
    """The factor of an entropy coefficient at t/T = `progress`, in [0, 1].

    * ``cosine``: cos(π t/T), as CEEH Eq. 11 is printed: negative in the second half, where it
      pays for certainty.
    * ``half_cosine``: ½ (1 + cos(π t/T)), its official code: from 1 to 0.
    * ``constant``: 1.
    """
    if how == "cosine":
        return math.cos(math.pi * progress)
    if how == "half_cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if how == "constant":
        return 1.0
    raise ValueError(f"anneal is {how!r}; it is one of {', '.join(ANNEALS)}")


def entropy_bonus(entropy_BT: Tensor, coefficient_B1: Tensor | float) -> Tensor:
    """−λ H(π(·|s_t)): a loss per token, with gradient through the entropy. (CEEH Eq. 5, 6.)"""
    return -coefficient_B1 * entropy_BT


def entropy_advantage(
    advantage_BT: Tensor, entropy_BT: Tensor, alpha: float = 0.4, kappa: float = 2.0
) -> Tensor:
    """A + min(α H^detach, |A| / κ), per token. (2506.14758; CEEH Eq. 7, 8; α and κ from its
    official code.) With κ > 1 the sign of A stays, and A = 0 stays 0."""
    return advantage_BT + torch.minimum(alpha * entropy_BT.detach(), advantage_BT.abs() / kappa)

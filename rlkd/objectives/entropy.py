"""Keeping a policy's entropy up. Sources: CEEH (arXiv 2602.22642, Eq. 5 to 8, 11, 12),
entropy advantage (2506.14758), Clip-Cov and KL-Cov (2505.22617), high-entropy tokens
(2506.01939), Skywork-OR1's adaptive coefficient (2505.22312)."""

import math

import torch
from torch import Tensor

ANNEALS = ("cosine", "half_cosine", "constant")
MEANS = ("tokens", "weighted")


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


def difficulty_factor(
    hard_B1: Tensor,
    mask_BT: Tensor,
    hard_factor: float = 5.0,
    mean: str = "tokens",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """c of λ(x, t) = c λ_0 cos(…), (B, 1), of `dtype`: `hard_factor` on hard prompts, 1 on the
    others. (CEEH Eq. 11: 5.)

    * ``tokens``: as it stands, for a mean over the tokens of the step.
    * ``weighted``: over its own mean on the counted tokens of the micro-batch, so that the mean of
      c H over those is Σ c H / Σ c. (Official code: c is in the mask of a masked mean.) A
      micro-batch whose rows are all hard, or all easy, has c = 1.
    """
    if mean not in MEANS:
        raise ValueError(f"mean is {mean!r}; it is one of {', '.join(MEANS)}")
    factor_B1 = torch.ones_like(hard_B1, dtype=dtype).masked_fill(hard_B1, hard_factor)
    if mean == "tokens":
        return factor_B1
    tokens_B1 = mask_BT.bool().sum(-1, keepdim=True)
    total = (factor_B1 * tokens_B1).sum()
    return torch.where(total > 0, factor_B1 * tokens_B1.sum() / total, factor_B1)


def entropy_advantage(
    advantage_BT: Tensor, entropy_BT: Tensor, alpha: float = 0.4, kappa: float = 2.0
) -> Tensor:
    """A + min(α H^detach, |A| / κ), per token. (2506.14758; CEEH Eq. 7, 8; α and κ from its
    official code.) With κ > 1 the sign of A stays, and A = 0 stays 0."""
    return advantage_BT + torch.minimum(alpha * entropy_BT.detach(), advantage_BT.abs() / kappa)


def adaptive_coefficient(
    coefficient: float,
    entropy: float,
    target: float = 0.2,
    step: float = 1e-4,
    low: float = 0.0,
    high: float = 5e-3,
) -> float:
    """α_{k+1} = clip(α_k + step if H_k < target else α_k − step, low, high). (Skywork-OR1; the
    bounds and < from its official code.)"""
    moved = coefficient + step if entropy < target else coefficient - step
    return min(max(moved, low), high)


def covariance(logp_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Cov(y_i) = (log π(y_i) − mean log π)(A(y_i) − mean A), per token, detached; the means are
    over the counted tokens, and where a token does not count it is 0. (2505.22617, Eq. 10.)

    Its mean is the covariance of log-probability and advantage: what a small step of policy
    gradient takes from the entropy, over the learning rate (§3 there).
    """
    counted_BT = mask_BT.bool()
    number = counted_BT.sum().clamp(min=1)
    centred_BT = []
    for value_BT in (logp_BT.detach(), advantage_BT):
        value_BT = torch.where(counted_BT, value_BT, 0.0)
        centred_BT.append(value_BT - value_BT.sum() / number)
    return torch.where(counted_BT, centred_BT[0] * centred_BT[1], 0.0)


def clip_cov(
    covariance_BT: Tensor,
    mask_BT: Tensor,
    share: float = 2e-4,
    low: float = 1.0,
    high: float = 5.0,
    at_least: int = 1,
) -> Tensor:
    """I_clip, (B, T) booleans: max(⌊share · N⌋, at_least) of the N counted tokens, drawn without
    replacement from those with low ≤ Cov ≤ high; all of these where they are no more.
    (2505.22617, Eq. 11, where `at_least` is 0; its official code has 1.)

    Draws from torch's global CPU generator, and only where there is a choice.
    """
    counted_BT = mask_BT.bool()
    window_BT = (covariance_BT >= low) & (covariance_BT <= high) & counted_BT
    number = max(int(share * int(counted_BT.sum())), at_least)
    index_E = window_BT.flatten().nonzero().squeeze(-1)
    if len(index_E) > number:
        index_E = index_E[torch.randperm(len(index_E))[:number].to(index_E.device)]
    chosen = torch.zeros_like(window_BT).flatten()
    chosen[index_E] = True
    return chosen.view_as(window_BT)


def kl_cov(covariance_BT: Tensor, mask_BT: Tensor, share: float = 2e-3) -> Tensor:
    """I_KL, (B, T) booleans: the max(⌊share · N⌋, 1) of the N counted tokens whose covariance is
    the greatest. (2505.22617, Eq. 13; at least one as in its official code.) Not those at or below
    0, as where no advantage differs: they take nothing from the entropy."""
    counted_BT = mask_BT.bool()
    above_BT = counted_BT & (covariance_BT > 0.0)
    number = min(max(int(share * int(counted_BT.sum())), 1), int(above_BT.sum()))
    index_E = covariance_BT.masked_fill(~above_BT, -torch.inf).flatten().topk(number).indices
    chosen = torch.zeros_like(above_BT).flatten()
    chosen[index_E] = True
    return chosen.view_as(above_BT)


def high_entropy_tokens(entropy_BT: Tensor, mask_BT: Tensor, share: float = 0.2) -> Tensor:
    """I[H_t ≥ τ], (B, T) booleans, τ the (1 − share) quantile of the entropy over the counted
    tokens, linearly interpolated. (2506.01939; as TRL's `top_entropy_quantile`.)"""
    counted_BT = mask_BT.bool()
    counted_E = entropy_BT.detach()[counted_BT]
    if len(counted_E) == 0:
        return counted_BT
    counted_E = counted_E.to(torch.promote_types(counted_E.dtype, torch.float32))
    return (entropy_BT.detach() >= counted_E.quantile(1.0 - share)) & counted_BT

"""How often one of k answers to a prompt is right."""

import torch
from torch import Tensor


def pass_at_k(counted_N: Tensor, correct_N: Tensor, k: int) -> Tensor:
    """pass@k = 1 − C(n − c, k) / C(n, k): the probability that k of a prompt's n answers, drawn
    without replacement, hold one of its c correct ones. Unbiased for the probability that k fresh
    answers do. (Chen et al. 2021, arXiv 2107.03374, Eq. 1.)

    The ratio is ∏_{j<k} (1 − c / (n − j)), summed here as logarithms: no factorial overflows, and
    a small pass rate is not lost beside the 1.

    Args:
        counted_N: n, answers of each prompt.
        correct_N: c, correct ones among them, 0 ≤ c ≤ n.
        k: at least 1.

    Returns:
        (N,) float64 in [0, 1]; NaN where n < k.
    """
    if k < 1:
        raise ValueError(f"k is {k}; pass@k needs at least one answer")
    left_Nk = counted_N.double().unsqueeze(-1) - torch.arange(k, device=counted_N.device)
    # Past n − c wrong answers the next one is right for certain: the logarithm of 0 is meant.
    missed_Nk = (correct_N.double().unsqueeze(-1) / left_Nk.clamp(min=1.0)).clamp(max=1.0)
    rate_N = -torch.expm1(torch.log1p(-missed_Nk).sum(-1))
    return rate_N.masked_fill(counted_N < k, torch.nan)

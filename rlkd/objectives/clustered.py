"""A mean or a ratio over answers, with the standard error that its prompts give it."""

import torch
from torch import Tensor


def ratio_of_sums(numerator_N: Tensor, denominator_N: Tensor) -> tuple[float, float]:
    """r = Σ_i y_i / Σ_i x_i over clusters i, and its standard error

        SE = √( N/(N−1) · Σ_i (y_i − r x_i)² ) / Σ_i x_i.

    Answers to one prompt are alike, so the prompt is what was drawn: y_i and x_i are sums over
    prompt i. With x_i its number of answers r is the mean and SE the cluster-robust one (Miller
    2024, arXiv 2411.00640, section 2.2, here with the factor N/(N−1) for few clusters); with x_i =
    1 it is s/√N; with x_i the tokens it is the linearised error of a ratio (Cochran 1977, Sampling
    Techniques, section 2.11).

    Args:
        numerator_N: y.
        denominator_N: x, at least 0; a prompt with 0 counts for nothing and must have y = 0.

    Returns:
        r, NaN where Σ x is 0; and SE, NaN with fewer than two prompts that count.
    """
    counts_N = denominator_N > 0
    y_M, x_M = numerator_N[counts_N].double(), denominator_N[counts_N].double()
    count, total = len(x_M), x_M.sum()
    if count == 0:
        return float("nan"), float("nan")
    ratio = y_M.sum() / total
    if count == 1:
        return ratio.item(), float("nan")
    spread = (y_M - ratio * x_M).square().sum() * count / (count - 1)
    return ratio.item(), (spread.sqrt() / total).item()


def sums_by_cluster(value_R: Tensor, cluster_R: Tensor) -> Tensor:
    """Σ of the values of each cluster.

    Args:
        value_R: one value per row.
        cluster_R: int64, its cluster, 0 … N − 1.

    Returns:
        (N,) float64.
    """
    size = int(cluster_R.max()) + 1 if len(cluster_R) else 0
    sums_N = torch.zeros(size, dtype=torch.float64)
    return sums_N.index_add_(0, cluster_R, value_R.double())

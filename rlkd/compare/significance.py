"""Is a difference between two algorithms outside the noise of seeds?"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import mpmath


@dataclass(frozen=True)
class Paired:
    """The differences of pairs, and how likely chance alone is to give ones as far from 0."""

    mean: float
    standard_error: float
    p: float
    pairs: int


def paired_t(differences: Sequence[float]) -> Paired | None:
    """Student's paired t-test, two-sided: t = mean / (s / √n), n − 1 degrees of freedom.

    Args:
        differences: one per pair, in any unit. Pairs are independent and their differences normal,
            says the test; with five seeds neither can be checked.

    Returns:
        None for fewer than two pairs. p is 0 where all differences are equal and not 0, and 1
        where all are 0.
    """
    n = len(differences)
    if n < 2:
        return None
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / n**0.5
    if error == 0.0:
        return Paired(mean, 0.0, 0.0 if mean else 1.0, n)
    t, freedom = mean / error, n - 1
    # P(|T| > t) is the regularised incomplete beta function at ν / (ν + t²).
    p = mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True)
    return Paired(mean, error, float(p), n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several comparisons: p-values that keep the chance of any false
    discovery among them, in the same order. (Holm 1979.)"""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected

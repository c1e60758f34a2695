"""How often the answer that most of k votes for is right."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

MOST_ANSWERS = 1000
"""Beyond it a binomial coefficient leaves the range of float64."""


def maj_at_k(size_A: Sequence[int], right_A: Sequence[float], silent: int, k: int) -> float:
    """maj@k = Σ_a P(a wins the vote of k) · right_a: the expected correctness of the answer that
    most of k drawn ones give, over all draws of k of a prompt's n answers without replacement.
    Majority voting is self-consistency (Wang et al. 2022, arXiv 2203.11171); that it is averaged
    over the draws, as pass@k is, makes it unbiased for k fresh answers and independent of their
    order. maj@1 is the mean.

    A tie is broken evenly: each of the answers at the top wins with equal chance, in expectation.
    An answer without a vote (`silent`) is drawn like any other; where all k are silent, the vote
    is wrong.

    Args:
        size_A: votes of each distinct answer, all at least 1.
        right_A: its correctness, in [0, 1].
        silent: answers without a vote; n is Σ size_A + silent.
        k: 1 ≤ k ≤ n.

    Raises:
        ValueError: k is out of range, the lengths differ, or n exceeds `MOST_ANSWERS`.
    """
    if len(size_A) != len(right_A):
        raise ValueError(f"{len(size_A)} sizes but {len(right_A)} values of right")
    n = sum(size_A) + silent
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; maj@k of {n} answers needs 1 ≤ k ≤ {n}")
    order = sorted(range(len(size_A)), key=lambda a: size_A[a])
    wins_AK = vote_winners(tuple(size_A[a] for a in order), silent)
    return sum(wins_AK[i][k].item() * right_A[a] for i, a in enumerate(order))


@functools.lru_cache(maxsize=4096)
def vote_winners(size_A: tuple[int, ...], silent: int) -> Tensor:
    """P(answer a wins the vote of k drawn without replacement), ties broken evenly.

    With m votes for a, every other answer has j ≤ m, and t of them j = m: Σ_m C(c_a, m) Σ_t
    [x^{k−m}] / (1 + t) over C(n, k), where the coefficient is that of the product over the others
    of Σ_{j≤m} C(c, j) x^j, separated by t.

    Args:
        size_A: votes of each distinct answer, at least 1.
        silent: answers that are drawn and vote for nothing.

    Returns:
        (A, n + 1) float64; column k. Column 0 is 0; the others sum to the probability that one
        of the k votes at all.

    Raises:
        ValueError: n exceeds `MOST_ANSWERS`, or a size is below 1.
    """
    n = sum(size_A) + silent
    if n > MOST_ANSWERS or silent < 0 or min(size_A, default=1) < 1:
        raise ValueError(f"{n} answers in groups of {size_A}: at most {MOST_ANSWERS}, each ≥ 1")
    ways_K = _choose(n, n)
    of_size: dict[int, Tensor] = {}
    for a, size in enumerate(size_A):
        if size in of_size:
            continue
        won_K = torch.zeros(n + 1, dtype=torch.float64)
        for m in range(1, size + 1):
            shared_K = _others(size_A[:a] + size_A[a + 1 :], silent, m, n)
            won_K[m:] += _choose(size, size)[m] * shared_K[: n + 1 - m]
        of_size[size] = won_K / ways_K
    return torch.stack([of_size[size] for size in size_A]) if size_A else torch.zeros(0, n + 1)


def _others(size_A: Sequence[int], silent: int, m: int, n: int) -> Tensor:
    """(n + 1,): ways to draw x votes of the others with none above m, each divided by one more
    than the number of answers that have m."""
    ties = min(sum(size >= m for size in size_A), n // m)
    ways_TK = torch.zeros(ties + 1, n + 1, dtype=torch.float64)
    ways_TK[0, : silent + 1] = _choose(silent, silent)
    for size in size_A:
        choose = _choose(size, min(size, m))
        more_TK = torch.zeros_like(ways_TK)
        for j, ways in enumerate(choose.tolist()):
            if j < m:
                more_TK[:, j:] += ways * ways_TK[:, : n + 1 - j]
            else:
                more_TK[1:, j:] += ways * ways_TK[:-1, : n + 1 - j]
        ways_TK = more_TK
    share_T = 1.0 / torch.arange(1, ties + 2, dtype=torch.float64)
    return share_T @ ways_TK


@functools.lru_cache(maxsize=4096)
def _choose(n: int, most: int) -> Tensor:
    """C(n, j) for j = 0 … most."""
    row = [1.0]
    for j in range(most):
        row.append(row[-1] * (n - j) / (j + 1))
    return torch.tensor(row, dtype=torch.float64)

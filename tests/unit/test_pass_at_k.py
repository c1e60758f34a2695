"""pass@k against enumeration, and where factorials would fail."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from rlkd.objectives.pass_at_k import pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_it_is_the_share_of_all_draws_that_hold_a_correct_answer(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        answers = [True] * c + [False] * (n - c)
        draws = [any(draw) for draw in itertools.combinations(answers, k)]
        want = sum(draws) / len(draws)
        got = pass_at_k(torch.tensor([n]), torch.tensor([c]), k)
        assert got.tolist() == pytest.approx([want], rel=1e-14, abs=0), (n, c, k)


def test_hand_worked():
    # n = 4, c = 1: C(3, 2) / C(4, 2) = 3/6. n = 4, c = 3: two wrong ones cannot be drawn.
    counted_N = torch.tensor([4, 4, 4, 1, 0])
    correct_N = torch.tensor([1, 3, 0, 1, 0])
    got_N = pass_at_k(counted_N, correct_N, 2)
    assert got_N.dtype == torch.float64
    torch.testing.assert_close(
        got_N,
        torch.tensor([0.5, 1.0, 0.0, math.nan, math.nan], dtype=torch.float64),
        equal_nan=True,
    )


@pytest.mark.parametrize(("n", "c", "k"), [(10**6, 1, 1), (10**6, 3, 512), (2000, 1990, 1024)])
def test_large_numbers_keep_their_digits(n, c, k):
    want = 1 - Fraction(math.comb(n - c, k), math.comb(n, k)) if n < 10**5 else 1 - math.prod(
        (Fraction(n - k - j, n - j) for j in range(c)), start=Fraction(1)
    )  # fmt: skip
    got = pass_at_k(torch.tensor([n]), torch.tensor([c]), k).item()
    assert got == pytest.approx(float(want), rel=1e-12, abs=0)


def test_it_is_unbiased_for_fresh_answers():
    """The mean over all outcomes of n answers, each right with probability p, is 1 − (1 − p)^k."""
    n, k, p = 6, 4, 0.3
    counts = torch.arange(n + 1)
    rates = pass_at_k(torch.full((n + 1,), n), counts, k).tolist()
    chances = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    mean = sum(chance * rate for chance, rate in zip(chances, rates, strict=True))
    assert mean == pytest.approx(1 - (1 - p) ** k, rel=1e-12)


def test_no_answer_is_no_draw():
    with pytest.raises(ValueError, match="k is 0; pass@k needs at least one answer"):
        pass_at_k(torch.tensor([4]), torch.tensor([1]), 0)

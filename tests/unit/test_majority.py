"""maj@k against every draw, and what must hold of a vote."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkd.objectives.majority import maj_at_k, vote_winners
from tests.reference import evaluation as slow

SIZES = st.lists(st.integers(1, 4), max_size=4)


@st.composite
def polls(draw):
    sizes = draw(SIZES)
    silent = draw(st.integers(0, 3))
    n = sum(sizes) + silent
    if n == 0 or n > 10:
        sizes, silent, n = [2, 1], 1, 4
    right = draw(st.lists(st.integers(0, 1), min_size=len(sizes), max_size=len(sizes)))
    return sizes, right, silent, n


@given(polls())
def test_it_is_the_mean_over_all_draws(poll):
    sizes, right, silent, n = poll
    for k in range(1, n + 1):
        want = slow.maj_at_k(sizes, right, silent, k)
        assert maj_at_k(sizes, right, silent, k) == pytest.approx(want, abs=1e-12), k


@given(polls())
def test_of_one_it_is_the_mean_and_of_two_no_better(poll):
    sizes, right, silent, n = poll
    mean = sum(size * r for size, r in zip(sizes, right, strict=True)) / n
    assert maj_at_k(sizes, right, silent, 1) == pytest.approx(mean, abs=1e-12)
    if n > 1 and not silent:  # a tie is a coin, so the second vote decides nothing
        assert maj_at_k(sizes, right, silent, 2) == pytest.approx(mean, abs=1e-12)


@given(polls())
def test_one_of_the_answers_wins_wherever_one_of_the_drawn_votes(poll):
    sizes, _, silent, n = poll
    wins_AK = vote_winners(tuple(sizes), silent)
    for k in range(1, n + 1):
        nobody = math.comb(silent, k) / math.comb(n, k)
        assert wins_AK[:, k].sum().item() == pytest.approx(1 - nobody, abs=1e-12)


def test_hand_worked():
    # A A B, k = 2: AA wins, two draws AB are ties. k = 3: A. With B right: 1/3, then 0.
    assert maj_at_k([2, 1], [0, 1], 0, 2) == pytest.approx(1 / 3)
    assert maj_at_k([2, 1], [0, 1], 0, 3) == 0.0
    # All votes: three answers have two each, one of them is right.
    assert maj_at_k([2, 2, 2, 1], [1, 0, 0, 0], 0, 7) == pytest.approx(1 / 3)
    # Who says nothing is drawn and votes for nothing.
    assert maj_at_k([1], [1], 3, 2) == pytest.approx(0.5)
    assert maj_at_k([], [], 2, 2) == 0.0


def test_the_order_of_the_answers_does_not_matter():
    forward = maj_at_k([1, 5, 2, 2], [1, 0, 0.5, 0], 1, 6)
    assert maj_at_k([2, 2, 5, 1], [0, 0.5, 0, 1], 1, 6) == pytest.approx(forward, rel=1e-12)


def test_many_answers_keep_their_digits():
    """600 right against 400 wrong: the normal approximation of the hypergeometric vote of 101."""
    n, k, share = 1000, 101, 0.6
    spread = math.sqrt(k * share * (1 - share) * (n - k) / (n - 1))
    want = 0.5 * (1 + math.erf((k * share - k / 2) / spread / math.sqrt(2)))
    assert maj_at_k([600, 400], [1, 0], 0, k) == pytest.approx(want, abs=2e-3)
    exact = sum(math.comb(600, j) * math.comb(400, k - j) for j in range(51, 102))
    assert maj_at_k([600, 400], [1, 0], 0, k) == pytest.approx(exact / math.comb(n, k), rel=1e-12)


@pytest.mark.parametrize(
    ("sizes", "right", "k", "said"),
    [
        ([2], [1], 3, "k is 3; maj@k of 2 answers needs 1 ≤ k ≤ 2"),
        ([2], [1], 0, "k is 0"),
        ([2, 1], [1], 1, "2 sizes but 1 values of right"),
        ([], [], 1, "of 0 answers"),
        ([1001], [1], 1, "at most 1000"),
        ([2, 0], [1, 1], 1, "each ≥ 1"),
    ],
)
def test_what_is_no_vote(sizes, right, k, said):
    with pytest.raises(ValueError, match=said):
        maj_at_k(sizes, right, 0, k)


def test_nobody_votes():
    assert vote_winners((), 3).shape == torch.Size([0, 4])

"""Standard errors by prompt: by hand, against the textbook, and against resampling prompts."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkd.objectives.clustered import ratio_of_sums, sums_by_cluster


def test_hand_worked():
    # Prompt 1: 3 of 4 right, prompt 2: 1 of 2. r = 4/6; residuals 3 − 8/3 = 1/3 and −1/3.
    value, se = ratio_of_sums(torch.tensor([3, 1]), torch.tensor([4, 2]))
    assert value == pytest.approx(2 / 3)
    assert se == pytest.approx(math.sqrt(2 * (1 / 9 + 1 / 9)) / 6)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_with_one_value_each_it_is_the_error_of_the_mean(values):
    value, se = ratio_of_sums(torch.tensor(values).double(), torch.ones(len(values)))
    exact = torch.tensor(values).double().tolist()
    assert value == pytest.approx(statistics.fmean(exact), abs=1e-12)
    want = statistics.stdev(exact) / math.sqrt(len(exact))
    assert se == pytest.approx(want, abs=1e-9)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(1, 5))
def test_the_same_answers_again_are_no_news(correct, times):
    """Answers that only repeat each other narrow no error: what a naive one gets wrong."""
    right = torch.tensor(correct)
    once = ratio_of_sums(right, torch.full_like(right, 4))
    again = ratio_of_sums(times * right, torch.full_like(right, 4 * times))
    assert again == pytest.approx(once, abs=1e-12)


@pytest.mark.parametrize("kind", ["mean", "ratio"])
def test_it_is_what_drawing_other_prompts_would_give(kind):
    draw = torch.Generator().manual_seed(0)
    prompts = 200
    rate_N = torch.rand(prompts, generator=draw)
    right_NG = (torch.rand(prompts, 8, generator=draw) < rate_N[:, None]).double()
    tokens_NG = 5 + 20 * torch.rand(prompts, 8, generator=draw).double() * (2 - right_NG)
    over_N = tokens_NG.sum(-1) if kind == "ratio" else torch.full((prompts,), 8.0)
    _, se = ratio_of_sums(right_NG.sum(-1), over_N)
    index = torch.randint(prompts, (4000, prompts), generator=draw)
    again = right_NG.sum(-1)[index].sum(-1) / over_N.double()[index].sum(-1)
    assert se == pytest.approx(again.std().item(), rel=0.05)
    naive = right_NG.std().item() / math.sqrt(right_NG.numel())
    assert kind == "ratio" or se > 1.5 * naive


def test_a_prompt_without_answers_does_not_count():
    with_it = ratio_of_sums(torch.tensor([3, 0, 1]), torch.tensor([4, 0, 2]))
    assert with_it == ratio_of_sums(torch.tensor([3, 1]), torch.tensor([4, 2]))


def test_too_few_prompts():
    value, se = ratio_of_sums(torch.tensor([3.0]), torch.tensor([4.0]))
    assert value == 0.75
    assert math.isnan(se)
    assert all(math.isnan(x) for x in ratio_of_sums(torch.zeros(2), torch.zeros(2)))


def test_rows_of_a_prompt_are_added_up():
    sums_N = sums_by_cluster(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 0, 1]))
    assert sums_N.tolist() == [2.0, 5.0]

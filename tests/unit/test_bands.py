"""What is logged of each difficulty band: numbers worked by hand, and what is left out."""

import math

import pytest
import torch

from rlkd.algorithms.ceeh import CEEH
from rlkd.algorithms.component import Component, Composed
from rlkd.algorithms.grpo import GRPO
from rlkd.batch import Groups
from rlkd.difficulty import BANDS, prompt_key
from rlkd.tracking import glossary
from rlkd.tracking.bands import band_metrics, band_of, difficulty_metrics, length_ratios
from rlkd.training.grouping import Grouping, row_facts

NAN = math.nan


def groups(history, correct, counted=None, length=None, shortest=None, hard=None) -> Groups:
    correct_NG = torch.tensor(correct, dtype=torch.bool)
    counted_NG = torch.ones_like(correct_NG) if counted is None else torch.tensor(counted).bool()
    number = len(history)
    right_N = (correct_NG & counted_NG).sum(-1).double()
    return Groups(
        key_N=torch.arange(number),
        reward_NG=correct_NG.float(),
        length_NG=torch.tensor(length) if length else torch.full_like(correct_NG, 5).long() * 5,
        correct_NG=correct_NG,
        counted_NG=counted_NG,
        pass_rate_N=right_N / counted_NG.sum(-1),
        history_N=torch.tensor(history, dtype=torch.float64),
        shortest_N=torch.tensor(shortest or [NAN] * number, dtype=torch.float64),
        hard_N=torch.tensor(hard or [False] * number),
    )


def test_the_bounds_belong_to_the_middle():
    third, two_thirds = 1 / 3, 2 / 3
    rates = [0.0, math.nextafter(third, 0), third, 0.5, two_thirds, math.nextafter(two_thirds, 1),
             1.0, NAN]  # fmt: skip
    want = "hard hard middle middle middle easy easy new".split()
    places = band_of(torch.tensor(rates, dtype=torch.float64))
    assert [BANDS[place] for place in places] == want


@pytest.mark.parametrize(("right", "of", "band"), [(2, 6, "middle"), (4, 6, "middle"),
                                                  (1, 3, "middle"), (5, 15, "middle"),
                                                  (6, 9, "middle"), (7, 10, "easy")])  # fmt: skip
def test_rates_that_are_a_bound_are_in_the_middle_however_they_come_about(right, of, band):
    rate_N = torch.tensor([right], dtype=torch.float64) / torch.tensor([of])
    assert BANDS[band_of(rate_N).item()] == band


def test_hand_worked_bands():
    got = band_metrics(
        groups(
            history=[0.1, 0.2, 0.5, NAN],
            correct=[[1, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]],
            # The second group lost its first answer to the length limit.
            counted=[[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]],
            length=[[2, 4, 6, 8], [9, 3, 3, 3], [1, 1, 1, 1], [7, 9, 9, 9]],
        )
    )
    assert got == pytest.approx(
        {
            "hard/share": 0.5,
            "hard/accuracy": 3 / 7,
            "hard/length": (2 + 4 + 6 + 8 + 3 + 3 + 3) / 7,
            # n = 4, c = 1: 1 − C(3,2)/C(4,2) = 1/2; n = 3, c = 2: 1 − C(1,2)/C(3,2) = 1.
            "hard/pass@2": 0.75,
            "hard/pass@4": 1.0,  # of the first group alone
            "middle/share": 0.25,
            "middle/accuracy": 1.0,
            "middle/length": 1.0,
            "middle/pass@2": 1.0,
            "middle/pass@4": 1.0,
            "easy/share": 0.0,
            "new/share": 0.25,
            "new/accuracy": 0.0,
            "new/length": 8.0,
            "new/pass@2": 0.0,
        },
        abs=1e-12,
    )


def test_a_correct_answer_that_does_not_count_is_not_counted():
    got = band_metrics(groups([0.1], [[1, 0, 0, 0]], counted=[[0, 1, 1, 1]]))
    assert got["hard/accuracy"] == got["hard/pass@2"] == 0.0
    assert "hard/pass@4" not in got


def test_nothing_counted_leaves_the_shares():
    got = band_metrics(groups([0.1, 0.9], [[1, 1], [1, 0]], counted=[[0, 0], [0, 0]]))
    assert got == {"hard/share": 0.5, "middle/share": 0.0, "easy/share": 0.5, "new/share": 0.0}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_pass_at_k_for_every_size_of_group(size):
    got = band_metrics(groups([0.5], [[1] + [0] * (size - 1)]))
    want = {k: k / size for k in ((size // 2, size) if size >= 4 else (size,))}
    found = {int(k[12:]): v for k, v in got.items() if k.startswith("middle/pass@")}
    assert found == pytest.approx(want)


def test_length_ratios_by_hand():
    correct = [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    counted = [[1, 1, 1, 1, 1], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    length = [[8, 10, 12, 14, 16], [4, 1, 4, 4, 1], [3, 3, 3, 3, 3]]
    # Ratios: 0.8 1 1.2 1.4 1.6 of the first prompt, 2 2 2 of the second; the third has no record.
    got = length_ratios(groups([0.5] * 3, correct, counted, length, shortest=[10.0, 2.0, NAN]))
    # Sorted 0.8 1.0 1.2 1.4 1.6 2 2 2: place 0.7 (0.94), 3.5 (1.5), 6.3 (2).
    assert got == pytest.approx({"p10": 0.94, "p50": 1.5, "p90": 2.0, "below_1": 1 / 8})
    assert length_ratios(groups([NAN], [[1, 1]])) == {}
    assert length_ratios(groups([0.5], [[0, 0]], shortest=[4.0])) == {}


def test_what_belongs_to_the_whole_batch():
    some = groups([0.1, 0.9, 0.9, NAN], [[1, 0]] * 4, hard=[True, False, False, False])
    got = difficulty_metrics(some, 0.45)
    assert got["difficulty/hard_set"] == 0.25
    assert got["difficulty/threshold"] == 0.45
    assert "difficulty/threshold" not in difficulty_metrics(some, NAN)


# -- through the records, as the trainer calls it ----------------------------------------------


def grouping(*components: Component) -> Grouping:
    return Grouping(Composed(GRPO(beta=0.0), components), ["a", "b", "c"])


def batch(verifiable, lengths=None, cut=None, prompts=("a", "b")):
    """Rewards, verifiable rewards and facts of two groups of four."""
    lengths, cut = lengths or [3] * 8, cut or [False] * 8
    rows = [prompt for prompt in prompts for _ in range(4)]
    value_R = torch.tensor(verifiable)
    facts_R3 = row_facts(rows, lengths, cut)
    return value_R.view(2, 4), value_R, facts_R3


def test_a_second_visit_is_seen_by_the_records_of_the_first():
    keeper = grouping(CEEH())
    first = keeper.shape(*batch([1.0, 1, 1, 1, 0, 0, 0, 0], lengths=[4] * 8))
    assert first.metrics["difficulty/new/share"] == 1.0
    assert first.metrics["accuracy"] == 0.5
    assert "difficulty/threshold" not in first.metrics
    assert first.metrics["difficulty/hard_set"] == 0.0
    second = keeper.shape(*batch([1.0, 1, 1, 0, 1, 0, 0, 0], lengths=[3, 4, 8, 9] * 2))
    assert second.metrics["difficulty/easy/share"] == 0.5  # "a": all right before
    assert second.metrics["difficulty/hard/share"] == 0.5
    assert second.metrics["difficulty/threshold"] == 0.5  # mean of 1 and 0; "c" is not visited
    assert second.metrics["difficulty/hard_set"] == 0.5
    # "b" was never solved: only 3/4, 4/4 and 8/4 of "a".
    assert second.metrics["difficulty/length_ratio/p50"] == pytest.approx(1.0)
    assert second.metrics["difficulty/length_ratio/below_1"] == pytest.approx(1 / 3)
    assert second.known["band"].tolist() == [2] * 4 + [0] * 4
    assert second.known["hard"].tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize(
    ("verifiable", "cut"),
    [
        ([NAN] * 8, [False] * 8),
        ([NAN] * 8, [True] * 8),
        ([1.0] * 8, [True] * 8),
        ([1.0, NAN, NAN, NAN, 0.0, 0.0, NAN, NAN], [False] * 8),
        ([1.0, 0.0, NAN, 1.0, 0.0, 0.0, NAN, NAN], [False, True] * 4),
    ],
)
@pytest.mark.parametrize(
    "components",
    [(), (CEEH(),), (CEEH(variant="official_code"),)],
    ids=["none", "paper", "official_code"],
)
def test_no_number_is_ever_nan_and_each_is_explained(verifiable, cut, components):
    keeper = grouping(*components)
    for _ in range(3):
        metrics = keeper.shape(*batch(verifiable, cut=cut)).metrics
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        assert not [name for name in metrics if glossary.explain(f"train/{name}") is None]
    assert len(metrics) >= 5


def test_an_accuracy_counts_truncated_answers_and_leaves_ungradable_ones_out():
    metrics = grouping().shape(*batch([1.0, 0, NAN, 0, 0, NAN, NAN, NAN], cut=[True] * 8)).metrics
    assert metrics["accuracy"] == 1 / 4
    assert "difficulty/new/accuracy" not in metrics  # of a band, over answers that ended


def test_groups_that_mix_prompts_are_refused():
    value_NG, value_R, facts_R3 = batch([1.0] * 8)
    facts_R3[1, 0] = prompt_key("b")
    with pytest.raises(ValueError, match="rows 4 by 4 are not answers to one prompt"):
        grouping().shape(value_NG, value_R, facts_R3)

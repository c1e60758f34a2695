"""Means over tokens and ranks, the metrics file, the glossary."""

import json
import math

import pytest
import torch

from rlkd.tracking import glossary
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.means import Means


def pair(total, number):
    return torch.tensor(float(total)), torch.tensor(float(number))


def test_the_mean_is_over_all_tokens_and_not_over_microbatches():
    means = Means()
    means.add({"a": pair(10, 1), "b": pair(1, 1)})
    means.add({"a": pair(2, 5), "never": pair(0, 0)})
    # (10 + 2) / (1 + 5), where the mean of means would be (10 + 0.4) / 2.
    assert means.pop(lambda totals: totals) == {"a": 2.0, "b": 1.0}
    assert means.pop(lambda totals: totals) == {}


def test_ranks_are_summed_in_one_reduction():
    means, calls = Means(), []
    means.add({"b": pair(1, 2), "a": pair(3, 4)})

    def reduce_sum(totals):
        calls.append(totals)
        return totals + torch.tensor([[1.0, 1.0], [1.0, 0.0]])  # the other rank's a and b

    assert means.pop(reduce_sum) == pytest.approx({"a": 0.8, "b": 1.0})
    assert len(calls) == 1


def test_metrics_are_lines_of_json_and_what_is_not_finite_is_null(tmp_path):
    log = RunLogger(tmp_path)
    log.log(1, {"train/loss": 0.5, "train/kl": math.nan})
    log.log(2, {"train/loss": math.inf, "train/n": 3})
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["train/loss"] == 0.5
    assert rows[0]["train/kl"] is None
    assert rows[1]["train/loss"] is None
    assert rows[1]["train/n"] == 3


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("train/loss", True),
        ("train/rewards/accuracy/mean", True),
        ("eval/reward/well_formed", True),
        ("train/rewards/mean", False),
        ("train/nonsense", False),
    ],
)
def test_the_glossary_knows_names_and_patterns(name, known):
    assert (glossary.explain(name) is not None) == known

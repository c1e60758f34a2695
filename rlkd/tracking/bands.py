"""What is seen of each difficulty band in one batch of groups. Names: `rlkd.tracking.glossary`.

Nothing here is ever NaN: a figure that nothing was counted for is left out.
"""

import math

import torch
from torch import Tensor

from rlkd.batch import Groups
from rlkd.difficulty import BANDS
from rlkd.objectives.pass_at_k import pass_at_k

LOW, HIGH = 1 / 3, 2 / 3


def band_of(history_N: Tensor) -> Tensor:
    """(N,) places in `BANDS` of historical pass rates: hard below 1/3, middle from 1/3 to 2/3,
    both included, easy above; new where there is none (NaN)."""
    band_N = (history_N >= LOW).long() + (history_N > HIGH).long()
    return band_N.masked_fill(history_N.isnan(), BANDS.index("new"))


def band_metrics(groups: Groups) -> dict[str, float]:
    """The bands' shares of the batch's prompts, and accuracy, pass@k and length of the counted
    answers of each; only the share where a band has none.

    pass@G is over the groups of which every answer counts. Where answers are cut off those are
    seldom the hard ones, so pass@G/2 stands beside it: unbiased from any G/2 counted answers.
    """
    band_N = band_of(groups.history_N).cpu()
    counted_NG, length_NG = groups.counted_NG.cpu(), groups.length_NG.double().cpu()
    right_NG = groups.correct_NG.cpu() & counted_NG
    values: dict[str, float] = {}
    for place, band in enumerate(BANDS):
        of_N = band_N == place
        values[f"{band}/share"] = of_N.double().mean().item()
        counted_MG, right_MG = counted_NG[of_N], right_NG[of_N]
        if not counted_MG.any():
            continue
        values[f"{band}/accuracy"] = right_MG[counted_MG].double().mean().item()
        values[f"{band}/length"] = length_NG[of_N][counted_MG].mean().item()
        for k in _draws(counted_NG.shape[1]):
            rate_M = pass_at_k(counted_MG.sum(-1), right_MG.sum(-1), k)
            if not rate_M.isnan().all():
                values[f"{band}/pass@{k}"] = rate_M.nanmean().item()
    return values


def _draws(size: int) -> list[int]:
    """The k of pass@k for groups of `size`: all of them and half; pass@1 is the accuracy."""
    return [size // 2, size] if size >= 4 else [size]


def length_ratios(groups: Groups) -> dict[str, float]:
    """Deciles of L / L_x over the counted correct answers to prompts with a length on record;
    nothing where there is none."""
    right_NG = groups.correct_NG & groups.counted_NG
    ratio_NG = groups.length_NG.double() / groups.shortest_N.double().unsqueeze(-1)
    ratio = ratio_NG[right_NG & ~ratio_NG.isnan()].cpu()
    if not len(ratio):
        return {}
    marks = torch.tensor([0.1, 0.5, 0.9], dtype=ratio.dtype)
    low, middle, high = ratio.quantile(marks).tolist()
    return {"p10": low, "p50": middle, "p90": high, "below_1": (ratio < 1).double().mean().item()}


def difficulty_metrics(groups: Groups, threshold: float) -> dict[str, float]:
    """All that is logged of one batch of groups, under the names of the glossary.

    Args:
        threshold: as the batch was read by it, before the records learn from it; NaN: none yet.
    """
    values = {f"difficulty/{name}": value for name, value in band_metrics(groups).items()}
    values["difficulty/hard_set"] = groups.hard_N.double().mean().item()
    if not math.isnan(threshold):
        values["difficulty/threshold"] = threshold
    ratios = length_ratios(groups)
    return values | {f"difficulty/length_ratio/{name}": value for name, value in ratios.items()}

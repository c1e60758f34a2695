"""What is seen of each difficulty band in one batch of groups. Names: `rlkd.tracking.glossary`."""

import math

import torch
from torch import Tensor

from rlkd.batch import Groups
from rlkd.difficulty import BANDS

LOW, HIGH = 1 / 3, 2 / 3


def band_of(history_N: Tensor) -> Tensor:
    """(N,) places in `BANDS`, from the historical pass rate before the batch."""
    band_N = torch.bucketize(history_N, torch.tensor([LOW, HIGH], dtype=history_N.dtype))
    return band_N.masked_fill(history_N.isnan(), BANDS.index("new"))


def band_metrics(groups: Groups) -> dict[str, float]:
    """Accuracy, pass@G and length of the counted answers of each band, and the bands' shares.
    Bands without a group (and figures without a counted answer) are left out."""
    band_N = band_of(groups.history_N.cpu())
    right_NG = (groups.correct_NG & groups.counted_NG).cpu()
    counted_NG, length_NG = groups.counted_NG.cpu(), groups.length_NG.double().cpu()
    size = counted_NG.shape[1]
    values: dict[str, float] = {}
    for place, band in enumerate(BANDS):
        of_N = band_N == place
        if not of_N.any():
            continue
        values[f"{band}/share"] = of_N.double().mean().item()
        counted = counted_NG[of_N]
        if not counted.any():
            continue
        values[f"{band}/accuracy"] = right_NG[of_N][counted].double().mean().item()
        # Of groups of which every answer counts: k = G must mean the same for all.
        whole_N = of_N & counted_NG.all(-1)
        if whole_N.any():
            values[f"{band}/pass@{size}"] = right_NG[whole_N].any(-1).double().mean().item()
        values[f"{band}/length"] = length_NG[of_N][counted].mean().item()
    return values


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
    """All that is logged of one batch of groups, under the names of the glossary."""
    values = {f"difficulty/{name}": value for name, value in band_metrics(groups).items()}
    values["difficulty/hard_set"] = groups.hard_N.double().mean().item()
    if not math.isnan(threshold):
        values["difficulty/threshold"] = threshold
    ratios = length_ratios(groups)
    return values | {f"difficulty/length_ratio/{name}": value for name, value in ratios.items()}

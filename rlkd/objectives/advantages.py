"""From rewards to advantages. Sources: GRPO (arXiv 2402.03300 §4.1), Dr. GRPO (2503.20783),
RLAD (2602.22495 Eq. 1: population standard deviation)."""

import torch
from torch import Tensor

SCALES = ("population_std", "sample_std", "none")


def total_reward(reward_RF: Tensor, weight_F: Tensor, optional_F: Tensor) -> Tensor:
    """Σ_f w_f r_f of each row, (R,); NaN where the row cannot be graded.

    A row to which a reward says NaN cannot be graded, whatever the other rewards say. Where that
    reward is optional or has weight 0, it adds nothing instead; rewards that are all optional and
    all silent say nothing about the row.
    """
    optional_F = optional_F | (weight_F == 0)
    none_RF = reward_RF.isnan()
    total_R = (reward_RF.masked_fill(none_RF & optional_F, 0.0) * weight_F).sum(-1)
    silent_R = (none_RF | (weight_F == 0)).all(-1) & none_RF.any(-1)
    return total_R.masked_fill(silent_R, torch.nan)


def group_advantages(reward_NG: Tensor, scale: str = "sample_std", eps: float = 1e-4) -> Tensor:
    """A = (r − mean_G r) / (std_G r + eps), per group; with scale ``none``, A = r − mean_G r.

    Args:
        reward_NG: one row per prompt. NaN means "cannot be graded": it is left out of mean and
            spread, and its advantage is 0.
        scale: ``population_std`` divides the squares by the number n of graded rows,
            ``sample_std`` by n − 1 (0 for a single graded row), ``none`` does not divide.
        eps: added to the standard deviation, in units of reward.

    Returns:
        (N, G), without NaN. A group whose rewards are all equal has only zeros.
    """
    if scale not in SCALES:
        raise ValueError(f"advantage scale is {scale!r}; it is one of {', '.join(SCALES)}")
    graded_NG = ~reward_NG.isnan()
    count_N1 = graded_NG.sum(-1, keepdim=True)
    mean_N1 = reward_NG.nansum(-1, keepdim=True) / count_N1
    # The mean of equal numbers may differ from them in the last bit; over a std of the same size
    # that bit would become an advantage of ±1.
    low_N1, high_N1 = _graded_range(reward_NG)
    centred_NG = (reward_NG - mean_N1).masked_fill((low_N1 == high_N1) & graded_NG, 0.0)
    if scale != "none":
        free_N1 = count_N1 if scale == "population_std" else (count_N1 - 1).clamp(min=1)
        std_N1 = (centred_NG.square().nansum(-1, keepdim=True) / free_N1).sqrt()
        centred_NG = centred_NG / (std_N1 + eps)
    return torch.nan_to_num(centred_NG, nan=0.0)


def has_signal(reward_NG: Tensor) -> Tensor:
    """(N,) booleans: does the group hold two different rewards? Without, no gradient flows."""
    low_N1, high_N1 = _graded_range(reward_NG)
    return ((high_N1 > low_N1) & ~torch.isclose(high_N1, low_N1)).squeeze(-1)


def _graded_range(reward_NG: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest graded reward of each group; (inf, −inf) where none is graded."""
    low_N1 = reward_NG.nan_to_num(nan=torch.inf).amin(-1, keepdim=True)
    high_N1 = reward_NG.nan_to_num(nan=-torch.inf).amax(-1, keepdim=True)
    return low_N1, high_N1

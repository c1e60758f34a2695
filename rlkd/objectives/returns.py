"""What follows a token: discounted sums over the rest of its answer."""

import torch
from torch import Tensor


def discounted_sum(value_BT: Tensor, gamma: float) -> Tensor:
    """Σ_{t'≥t} γ^(t'−t) value_t', (B, T), γ in [0, 1], in log2 T doublings: after k of them each
    place holds the sum over 2^k places. No power of 1/γ, which overflows on long answers."""
    total_BT, shift = value_BT, 1
    while shift < value_BT.shape[1]:
        later_BT = torch.nn.functional.pad(total_BT[:, shift:], (0, shift))
        total_BT = total_BT + gamma**shift * later_BT
        shift *= 2
    return total_BT


def future_return(
    reward_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0, normalised: bool = True
) -> Tensor:
    """R_t = Σ_{t'>t} γ^(t'−t−1) r_t' over the counted tokens after t, without t itself; where
    `normalised`, over Σ_{t'>t} γ^(t'−t−1) of the same tokens. (MiniLLM 2306.08543 §2.2, where γ
    is 1 and R the mean of what follows.) 0 where nothing follows, and on tokens not counted.

    Tokens that do not count (tool output) give nothing and lengthen the distance all the same.
    """
    counted_BT = mask_BT.to(reward_BT.dtype)
    reward_BT = torch.where(mask_BT.bool(), reward_BT, 0.0)

    def after(value_BT: Tensor) -> Tensor:
        return torch.nn.functional.pad(discounted_sum(value_BT, gamma)[:, 1:], (0, 1))

    return_BT = after(reward_BT)
    if normalised:
        weight_BT = after(counted_BT)
        return_BT = torch.where(weight_BT > 0.0, return_BT / weight_BT.clamp(min=1e-30), 0.0)
    return return_BT * counted_BT

"""What a teacher's log-probs of the sampled tokens make of advantages. Everything here is constant
to the gradient: it rests on the policy that sampled, so that several updates on one batch see the
same numbers. Sources: on-policy distillation (Thinking Machines, 2025), KDRL (arXiv 2506.02208),
RLSD (2604.03128), TOP-D (2607.04751).
"""

import math

import torch
from torch import Tensor


def teacher_gap(teacher_logp_BT: Tensor, old_logp_BT: Tensor, bound: float) -> Tensor:
    """d = clamp(log π_T − log π_old, −bound, bound), per token, nats; above 0 where the teacher
    likes the sampled token more than the policy that sampled it did.

    The clamp gives a token that the teacher rules out (−inf) a finite d. E d under π_old is
    −KL(π_old ‖ π_T), but for the clamp.
    """
    return (teacher_logp_BT - old_logp_BT).clamp(-bound, bound)


def proximal_reward(gap_BT: Tensor, alpha: float) -> Tensor:
    """log(α e^d + 1 − α), nats: the gap to a teacher mixed with the student, α π_T + (1 − α) π_old,
    at least log(1 − α) however small π_T is. (TOP-D §3.1.) α = 1: d itself; α = 0: 0."""
    if alpha == 1.0:
        return gap_BT
    if alpha == 0.0:
        return torch.zeros_like(gap_BT)
    return torch.logaddexp(gap_BT + math.log(alpha), torch.full_like(gap_BT, math.log1p(-alpha)))


def with_mean_of_later(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """value_t + the mean of the later counted values of its row, (B, T); the last one alone.
    (TOP-D Eq. 8.) 0 where a token does not count."""
    counted_BT = mask_BT.to(value_BT.dtype)
    value_BT = value_BT * counted_BT
    later_BT = _later(value_BT)
    number_BT = _later(counted_BT)
    return (value_BT + later_BT / number_BT.clamp(min=1.0)) * counted_BT


def standardised(value_BT: Tensor, mask_BT: Tensor, eps: float) -> Tensor:
    """(value − mean) / (std + eps) over all counted tokens of the batch, (B, T), std the
    population's; 0 where a token does not count, and everywhere if all values are equal."""
    counted_BT = mask_BT.bool()
    number = counted_BT.sum()
    mean = torch.where(counted_BT, value_BT, 0.0).sum() / number.clamp(min=1)
    centred_BT = torch.where(counted_BT, value_BT - mean, 0.0)
    std = (centred_BT.square().sum() / number.clamp(min=1)).sqrt()
    low = value_BT.masked_fill(~counted_BT, torch.inf).amin()
    high = value_BT.masked_fill(~counted_BT, -torch.inf).amax()
    # The mean of equal numbers may differ from them in the last bit; over a std of 0 that is much.
    return torch.where(low < high, centred_BT / (std + eps), 0.0)


def evidence_weight(gap_BT: Tensor, advantage_BT: Tensor, bound: float) -> Tensor:
    """clip((π_T/π_old)^sign(A), 1 − bound, 1 + bound), (B, T): how much of a token's advantage the
    teacher bears out (RLSD). More for a good answer's token that it likes and for a
    bad answer's that it does not."""
    return (advantage_BT.sign() * gap_BT).exp().clamp(1.0 - bound, 1.0 + bound)


def _later(value_BT: Tensor) -> Tensor:
    """Σ_{s > t} value_s."""
    return value_BT.flip(-1).cumsum(-1).flip(-1) - value_BT

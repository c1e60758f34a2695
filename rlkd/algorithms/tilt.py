"""Tilt: the teacher's distribution tilted towards what is rewarded. rlkd's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.algorithms.base import require
from rlkd.algorithms.minillm import MiniLLM
from rlkd.batch import TokenBatch


@dataclass(frozen=True, kw_only=True)
class Tilt(MiniLLM):
    """Rewards and the KL to the teacher in one objective, with the whole gradient of the KL::

        J      = E_x E_y~π_S [ A(y) − λ(x) KL(π_S(·|x) ‖ π_T(·|x)) ],  best π ∝ π_T exp(A / λ)
        λ(x)   = λ (1 − Acc(x))^κ
        loss_t = λ(x) KL(π_S(·|s_t) ‖ π_T(·|s_t)) − clipped(ρ_t, A + λ(x) R_t),  ρ_t = π_S/π_old

    The KL of the present token is exact over the vocabulary, and R_t, the mean of log π_T − log
    π_old over the tokens that follow, credits a token with where it leads (MiniLLM's two parts);
    KDRL's sampled k2 has neither. Acc(x) is the share of right answers in the group: where the
    student fails, it is distilled; where it is always right, the teacher is silent and so are the
    rewards. A group of which nothing can be graded counts as failed.
    """

    reward_weight: float = 1.0
    """Weight of the group's advantage A."""
    fade: float = 1.0
    """κ: how the teacher's weight falls with the group's accuracy; 0: it does not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.fade >= 0.0, "fade", self, "at least 0")

    def weight_of_teacher(self, batch: TokenBatch) -> float | Tensor:
        if self.fade == 0.0:
            return self.teacher_weight
        if batch.group_accuracy_B1 is None:
            raise ValueError(
                "Tilt with fade above 0 must know how many answers of a group are correct, and the "
                "batch does not say"
            )
        failed_B1 = 1.0 - batch.group_accuracy_B1.nan_to_num(nan=0.0)
        return self.teacher_weight * torch.pow(failed_B1, self.fade)

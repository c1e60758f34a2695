"""RLSD: RL with verifiable rewards and self-distillation. arXiv 2604.03128."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import require
from rlkd.algorithms.teacher_gap import TokenCredit
from rlkd.batch import TokenBatch
from rlkd.objectives import distillation


@dataclass(frozen=True, kw_only=True)
class RLSD(TokenCredit):
    """The reward gives the direction of each token's step, the teacher its size::

        A_t = A [(1 − λ) + λ clip(e^(sign(A) d_t), 1 − ε_w, 1 + ε_w)],  d = log π_T − log π_old

    No token's advantage changes its sign, and a group without spread teaches nothing. The paper's
    teacher is the student itself, frozen and shown a reference solution; here, as in arXiv
    2609.04108, a teacher model.
    """

    clip_high: float = 0.28
    """ε_high: the ratio is clipped at 1 + clip_high for good tokens (A > 0). (Official config.)"""
    teacher_weight: float = 0.5
    """λ, in [0, 1]; 0: GRPO. (Official config; its code can anneal λ to 0: a schedule.)"""
    weight_bound: float = 0.2
    """ε_w: how far from 1 the teacher's weight may be, in [0, 1]. (Official config.)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.teacher_weight <= 1.0, "teacher_weight", self, "in [0, 1]")
        require(0.0 <= self.weight_bound <= 1.0, "weight_bound", self, "in [0, 1]")

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        if self.teacher_weight == 0.0:
            return batch.advantage_BT
        weight_BT = distillation.evidence_weight(
            self.gap(batch), batch.advantage_BT, self.weight_bound
        )
        return batch.advantage_BT * (1.0 + self.teacher_weight * (weight_BT - 1.0))

"""HDPO: hybrid distillation policy optimization, as arXiv 2609.04108 states it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.algorithms.base import require
from rlkd.algorithms.teacher_gap import TokenCredit
from rlkd.batch import TokenBatch


@dataclass(frozen=True, kw_only=True)
class HDPO(TokenCredit):
    """GRPO, and the teacher where a whole group failed and GRPO has nothing to say::

        A_t = A + 1[no answer of the group is correct] β d_t,  d = log π_T − log π_old

    in PPO's surrogate. That is the form of arXiv 2609.04108 with a teacher model. The original's
    teacher is privileged: the student itself, shown the solution. A group of which nothing can be
    graded has not failed.
    """

    teacher_weight: float = 2e-3
    """β, advantage per nat; 0: GRPO. (2609.04108 writes one β for KDRL and HDPO, and gives KDRL's;
    that it is HDPO's too is our reading.)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.teacher_weight >= 0.0, "teacher_weight", self, "at least 0")

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        if self.teacher_weight == 0.0:
            return batch.advantage_BT
        failed_B1 = self.group_accuracy(batch) == 0.0
        taught_BT = torch.where(failed_B1, self.teacher_weight * self.gap(batch), 0.0)
        return batch.advantage_BT + taught_BT

"""SRPO: sample-routed policy optimization. arXiv 2604.02288, as 2609.04108 states it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.algorithms.base import require
from rlkd.algorithms.teacher_gap import TokenCredit
from rlkd.batch import TokenBatch


@dataclass(frozen=True, kw_only=True)
class SRPO(TokenCredit):
    """Correct answers are reinforced, the others are corrected by the teacher::

        A_t = c A + (1 − c) w d_t,  c = 1 if the answer is correct,  d = log π_T − log π_old

    in PPO's surrogate. That is the form of arXiv 2609.04108 with a teacher model. The original's
    teacher is the student itself, shown a correct answer; it corrects by a divergence over the
    vocabulary, and weights tokens down where that teacher is unsure.

    An answer that cannot be graded is not known to be correct: the teacher corrects it.
    """

    teacher_weight: float = 1.0
    """w, advantage per nat. (2609.04108: 1.) 0: the teacher is not read, and wrong answers teach
    nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.teacher_weight >= 0.0, "teacher_weight", self, "at least 0")

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        correct_B1 = self.correct(batch)
        if self.teacher_weight == 0.0:
            return torch.where(correct_B1, batch.advantage_BT, 0.0)
        return torch.where(correct_B1, batch.advantage_BT, self.teacher_weight * self.gap(batch))

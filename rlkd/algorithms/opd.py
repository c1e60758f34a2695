"""On-policy distillation. Thinking Machines, "On-Policy Distillation" (2025), and its cookbook."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import AdvantageScale, Reduction, require
from rlkd.algorithms.teacher_gap import TokenCredit
from rlkd.batch import TokenBatch
from rlkd.objectives import returns


@dataclass(frozen=True, kw_only=True)
class OPD(TokenCredit):
    """The reverse KL to the teacher as an advantage per token::

        A_t  = w_R A + w_T Σ_{s ≥ t} γ^(s−t) d_s,  d = log π_T − log π_old
        loss = −min(r A_t, clip(r, 1 − ε_low, 1 + ε_high) A_t),  r = π_S/π_old

    averaged over the tokens of the step. With the defaults (w_R = 0, γ = 0) the rewards say nothing
    and A_t = d_t. The cookbook's surrogate is r A_t without a clip: the same at the first update on
    a batch; `clip_low: 1` and a great `clip_high` are that.
    """

    teacher_weight: float = 1.0
    """w_T, advantage per nat. (Cookbook: kl_penalty_coef 1.) 0: the teacher is not read."""
    reward_weight: float = 0.0
    """w_R: weight of the task's advantages. (Cookbook: a reward that is 0.)"""
    discount: float = 0.0
    """γ: how much of the later tokens' gaps a token answers for. (Cookbook: kl_discount_factor
    0, each token for its own.) Positions count, also those of a tool's output."""
    advantage_scale: AdvantageScale = "none"
    reduction: Reduction = "dapo"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.teacher_weight >= 0.0, "teacher_weight", self, "at least 0")
        require(self.reward_weight >= 0.0, "reward_weight", self, "at least 0")
        require(0.0 <= self.discount <= 1.0, "discount", self, "in [0, 1]")

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        rewarded_BT = self.reward_weight * batch.advantage_BT
        if self.teacher_weight == 0.0:
            return rewarded_BT
        taught_BT = returns.discounted_sum(self.gap(batch), self.discount)
        return rewarded_BT + self.teacher_weight * taught_BT

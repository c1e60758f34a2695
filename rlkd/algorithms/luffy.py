"""LUFFY: learning to reason under off-policy guidance. arXiv 2504.14945."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.algorithms.base import AdvantageScale, ClippedPolicyGradient, Reduction, require
from rlkd.batch import TokenBatch
from rlkd.objectives import off_policy, ratios


@dataclass(frozen=True, kw_only=True)
class LUFFY(ClippedPolicyGradient):
    """GRPO on groups of which some answers are the teacher's (Eq. 5 to 7).

    Advantages are those of the joint group. A teacher's token has the surrogate f(π_S) A with
    f(x) = x / (x + γ) and no clip; the student's tokens have PPO's. Group-relative advantages
    without their standard deviation and a sum over tokens over a constant length are the paper's
    (its experiments follow Dr. GRPO). Without traces it is that GRPO bit for bit.
    """

    off_policy: int = 1
    """Answers of each group that the teacher wrote; 0: none."""
    gamma: float = 0.1
    """γ of the shaping f(x) = x / (x + γ), above 0."""
    advantage_scale: AdvantageScale = "none"
    """What divides the centred rewards of a group."""
    reduction: Reduction = "dr_grpo"
    """How the loss of tokens becomes one number; see `rlkd.objectives.reduce`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.off_policy >= 0, "off_policy", self, "at least 0")
        require(self.gamma > 0.0, "gamma", self, "above 0")
        require(self.ratio_level == "token", "ratio_level", self, "'token': f is of one token")

    def off_policy_rows(self, group_size: int) -> int:
        if self.off_policy >= group_size:
            raise ValueError(
                f"off_policy is {self.off_policy} of groups of {group_size}; at least one answer "
                "must be the student's own: raise the group's size, or learn from traces alone "
                "(rlkd.algorithms.sft_kd:SFTKD)"
            )
        return self.off_policy

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        return ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)

    def surrogate(self, log_ratio_BT: Tensor, batch: TokenBatch) -> Tensor:
        if batch.off_policy_B1 is None:
            return super().surrogate(log_ratio_BT, batch)
        # Before exp() and not after it: 0 · inf is NaN, also in a branch that is not taken.
        own_BT = super().surrogate(log_ratio_BT.masked_fill(batch.off_policy_B1, 0.0), batch)
        taught_BT = off_policy.shaped_surrogate(batch.logp_BT, batch.advantage_BT, self.gamma)
        return torch.where(batch.off_policy_B1, taught_BT, own_BT)

    def measures(self, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        if batch.off_policy_B1 is None:
            return {}
        return {"off_policy/logp": batch.token_sum(batch.logp_BT, batch.off_policy_BT())}

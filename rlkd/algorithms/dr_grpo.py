"""Dr. GRPO: GRPO done right. arXiv 2503.20783."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import AdvantageScale, ClippedPolicyGradient, Reduction
from rlkd.batch import TokenBatch
from rlkd.objectives import ratios


@dataclass(frozen=True, kw_only=True)
class DrGRPO(ClippedPolicyGradient):
    """GRPO without its two biases (§3.2)::

        A    = r − mean_G r                            no division by the group's spread
        loss = Σ_i Σ_t −min(r A, clip(r) A) / (rows · L)   L a constant, not each answer's length

    L is the sampler's length limit, as in TRL; it scales the loss and with it the effective
    learning rate. Equal to `GRPO(beta=0, advantage_scale="none", reduction="dr_grpo")`.
    """

    advantage_scale: AdvantageScale = "none"
    reduction: Reduction = "dr_grpo"

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        return ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)

"""RLAD: reinforcement-aware distillation by Trust Region Ratio Distillation. arXiv 2602.22495."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlkd.algorithms.base import AdvantageScale, require_choice
from rlkd.algorithms.teacher_gap import Taught
from rlkd.batch import TokenBatch
from rlkd.objectives import divergences, ratios


@dataclass(frozen=True, kw_only=True)
class RLAD(Taught):
    """GRPO whose likelihood ratio is anchored to a mixture of old policy and teacher (Eq. 3, 4)::

        log r = α (log π_S − log π_old) + (1 − α) clamp(log π_S − log π_T, −1, 1)
        loss  = −min(r A, clip(r, 1 − ε_low, 1 + ε_high) A) + β KL(π_S ‖ π_ref)

    The teacher scores the sampled tokens only. Where a group has no spread in reward A is 0 and
    the teacher says nothing. The defaults are the paper's; what it leaves open is marked.
    """

    alpha: float = 0.5
    """Weight of the old policy; 1 − alpha is the teacher's. 1 is GRPO exactly. (§5: 0.5.)"""
    clamp: Literal["literal", "straight_through", "none"] = "literal"
    """Gradient of the clamp on log π_S − log π_T outside the bound. (Open; App. B says "clamp".)"""
    clamp_bound: float = 1.0
    """Bound of that clamp, nats. (App. B.)"""
    mixture: Literal["geometric", "arithmetic"] = "geometric"
    """How old policy and teacher are mixed. (Eq. 3: geometric.)"""
    eos: Literal["keep", "old_policy", "drop"] = "keep"
    """What the teacher says of the token that ended the answer; a teacher with another end token
    (base student, chat teacher) judges it wrongly. `keep`: as of any token. `old_policy`: alpha
    is 1 there, r = r_GRPO (how we read the mask of arXiv 2609.04108). `drop`: the teacher's
    factor is 1 there, r = r_GRPO^alpha."""
    clip_high: float = 0.28
    advantage_scale: AdvantageScale = "population_std"
    beta: float = 0.0
    """Weight of the reference KL penalty. (In Eq. 4, value not given; its recipe's code has 0.)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(
                f"alpha is {self.alpha}; it is the old policy's weight, in [0, 1] "
                "(1: GRPO, 0: the teacher alone anchors)"
            )
        if not self.clamp_bound > 0.0:
            raise ValueError(f"clamp_bound is {self.clamp_bound} nats; it must be above 0")
        require_choice("clamp", self.clamp, ratios.CLAMPS)
        require_choice("mixture", self.mixture, ratios.MIXTURES)
        require_choice("eos", self.eos, ("keep", "old_policy", "drop"))

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        log_grpo_BT = ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)
        if self.alpha == 1.0:
            return log_grpo_BT
        delta_BT = ratios.clamped_teacher_log_ratio(
            batch.logp_BT, self.teacher_logp(batch), self.clamp_bound, self.clamp
        )
        log_ratio_BT = ratios.trrd_log_ratio(
            batch.logp_BT, batch.old_logp_BT, delta_BT, self.alpha, self.mixture
        )
        if self.eos == "keep":
            return log_ratio_BT
        at_eos_BT = log_grpo_BT if self.eos == "old_policy" else self.alpha * log_grpo_BT
        return torch.where(self.end_tokens(batch, self.eos), at_eos_BT, log_ratio_BT)

    def beyond_bound(self, batch: TokenBatch) -> Tensor:
        gap_BT = divergences.k1(batch.logp_BT.detach(), self.teacher_logp(batch))
        return gap_BT.abs() > self.clamp_bound

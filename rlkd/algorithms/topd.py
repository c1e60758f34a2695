"""TOP-D: trust region policy distillation. arXiv 2607.04751."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rlkd.algorithms.base import Reduction, require, require_choice
from rlkd.algorithms.teacher_gap import TokenCredit
from rlkd.batch import TokenBatch
from rlkd.objectives import distillation


@dataclass(frozen=True, kw_only=True)
class TOPD(TokenCredit):
    """On-policy distillation towards a teacher that is mixed with the student, and so never far::

        r_t  = log(α π_T/π_old + 1 − α) ≥ log(1 − α)
        R_t  = r_t + mean of the later r of the answer
        A_t  = (R_t − mean) / std
        loss = −min(π_S/π_old A_t, clip(π_S/π_old) A_t), averaged over the tokens of the step

    The task's rewards say nothing. One departure: the paper takes mean and std over the tokens of
    each prompt's group; a loss sees shuffled micro-batches and no groups, so they are over the
    tokens of the micro-batch, and the gradient depends on how a batch is split
    (`standardise: none` does not).
    """

    alpha: float = 0.2
    """α: the teacher's weight in the mixture, in [0, 1]; 1 is on-policy distillation, 0 no teacher
    and no gradient. (§5.1: 0.1 or 0.2; 0.1 to 0.3 differ little, §5.3.)"""
    later: Literal["mean", "none"] = "mean"
    """What a token answers for besides its own r: the mean of the later r (Eq. 8), or nothing."""
    standardise: Literal["microbatch", "none"] = "microbatch"
    """Over what R is centred and scaled."""
    reduction: Reduction = "dapo"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.alpha <= 1.0, "alpha", self, "in [0, 1]")
        require_choice("later", self.later, ("mean", "none"))
        require_choice("standardise", self.standardise, ("microbatch", "none"))

    @property
    def micro_batch_statistic(self) -> str | None:
        if self.standardise == "microbatch" and self.alpha > 0.0:
            return "mean and std of the advantages are those of its tokens"
        return super().micro_batch_statistic

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        if self.alpha == 0.0:
            return batch.advantage_BT.new_zeros(batch.logp_BT.shape)
        value_BT = distillation.proximal_reward(self.gap(batch), self.alpha)
        if self.later == "mean":
            value_BT = distillation.with_mean_of_later(value_BT, batch.mask_BT)
        if self.standardise == "none":
            return value_BT
        return distillation.standardised(value_BT, batch.mask_BT, self.advantage_eps)

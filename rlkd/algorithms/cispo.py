"""CISPO: clipped importance-sampling policy optimization. MiniMax-M1, arXiv 2506.13585."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import ClippedPolicyGradient, Reduction, require
from rlkd.batch import TokenBatch
from rlkd.objectives import ratios, surrogates


@dataclass(frozen=True, kw_only=True)
class CISPO(ClippedPolicyGradient):
    """Clips the importance weight and not the update, so that no token loses its gradient
    (Eq. 4, 5)::

        loss = −sg(clip(r, 1 − ε_low, 1 + ε_high)) A log π_S,  r = π_S/π_old, sg: a constant

    averaged over the tokens of the step. The value of the loss says nothing; its gradient is
    −clip(r) A ∇log π_S.
    """

    clip_low: float = 1.0
    """ε_low of the weight; 1: no lower bound. (§3.1: none.)"""
    clip_high: float = 4.0
    """ε_high of the weight, which is at most 1 + clip_high. (§3.1: tuned, value not given; 4 is
    the bound 5 that ScaleRL, arXiv 2510.13786, and TRL recommend.)"""
    reduction: Reduction = "dapo"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ratio_level == "token", "ratio_level", self, "'token': CISPO keeps each token")
        require(self.dual_clip is None, "dual_clip", self, "null: the weight is clipped already")

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        return ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)

    def surrogate(self, log_ratio_BT: Tensor, batch: TokenBatch) -> Tensor:
        return surrogates.clipped_weight_surrogate(
            log_ratio_BT, batch.logp_BT, batch.advantage_BT, self.clip_low, self.clip_high
        )

    def clip_shares(
        self, log_ratio_BT: Tensor, batch: TokenBatch
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The clip takes no token's gradient away: what is logged is where it caps the weight."""
        ratio_BT = log_ratio_BT.detach().exp()
        capped_BT = (ratio_BT < 1.0 - self.clip_low) | (ratio_BT > 1.0 + self.clip_high)
        return {"clip_ratio/capped": batch.token_sum(capped_BT.float())}

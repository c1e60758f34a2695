"""Group Sequence Policy Optimization. arXiv 2507.18071."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import ClippedPolicyGradient, RatioLevel, require
from rlkd.batch import TokenBatch
from rlkd.objectives import ratios


@dataclass(frozen=True, kw_only=True)
class GSPO(ClippedPolicyGradient):
    """One length-normalised ratio per answer, clipped as a whole (Eq. 5, 7)::

        s    = (π_S(y|x) / π_old(y|x))^(1/|y|)
        loss = mean over answers of −min(s A, clip(s, 1 − ε_low, 1 + ε_high) A)

    s moves far less than the ratio of a token, hence the narrow clip. Equal to
    `GRPO(beta=0, clip_low=3e-4, clip_high=4e-4, ratio_level="sequence")`.
    """

    clip_low: float = 3e-4
    """ε_low: s is clipped at 1 − clip_low for bad answers. (§5.1: 3e-4.)"""
    clip_high: float = 4e-4
    """ε_high: s is clipped at 1 + clip_high for good answers. (§5.1: 4e-4.)"""
    ratio_level: RatioLevel = "sequence"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ratio_level == "sequence", "ratio_level", self, "'sequence': that is GSPO")

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        return ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)

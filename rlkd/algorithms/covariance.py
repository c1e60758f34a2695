"""Clip-Cov and KL-Cov: the few tokens that take the most from the entropy. arXiv 2505.22617."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.algorithms.base import require
from rlkd.algorithms.component import Component, Means
from rlkd.batch import TokenBatch
from rlkd.objectives import entropy


@dataclass(frozen=True, kw_only=True)
class _OfCovariance(Component):
    """Abstract. The covariance is over the counted tokens of the micro-batch, as in the official
    code: the gradient depends on how a batch is split."""

    @property
    def steers(self) -> frozenset[str]:
        return frozenset({"the covariance of log-probabilities and advantages"})

    @property
    def micro_batch_statistic(self) -> str | None:
        return "the covariance is about its means, over its tokens"

    def _covariance(self, batch: TokenBatch) -> Tensor:
        return entropy.covariance(batch.logp_BT, batch.advantage_BT, batch.mask_BT)


@dataclass(frozen=True, kw_only=True)
class ClipCov(_OfCovariance):
    """Takes the surrogate's gradient from a few tokens, drawn at random from those whose covariance
    lies in a window (Eq. 10 to 12)::

        Cov(y_i) = (log π(y_i) − mean log π)(A(y_i) − mean A)
        I_clip   = ⌊r N⌋ random tokens with ω_low ≤ Cov ≤ ω_high:  their surrogate is 0

    The algorithm's own clip stays. The official code leaves out of the draw what that clip has
    cut already; here such a token may be drawn, to no effect. (Its scripts have `clip_low` 1 and
    `clip_high` 1, which cuts next to nothing.) Draws from torch's global CPU generator, and only
    where the window holds more tokens than are taken.
    """

    share: float = 2e-4
    """r: tokens that lose their gradient, over all. (§4.)"""
    low: float = 1.0
    """ω_low, nats times advantage. (§4.)"""
    high: float = 5.0
    """ω_high. (§4.)"""
    at_least: int = 1
    """Take this many where r N is below it, as long as the window holds them. (Official code: 1;
    in Eq. 11 none, so that micro-batches of fewer than 1/r = 5000 tokens would have no Clip-Cov.)
    """

    def __post_init__(self) -> None:
        require(0.0 <= self.share <= 1.0, "share", self, "in [0, 1]")
        require(self.low <= self.high, "high", self, f"at least {self.low}")
        require(self.at_least >= 0, "at_least", self, "at least 0")

    @property
    def tells_tokens_apart(self) -> bool:
        return True

    def shape_batch(self, batch: TokenBatch) -> TokenBatch:
        clipped_BT = entropy.clip_cov(
            self._covariance(batch), batch.mask_BT, self.share, self.low, self.high, self.at_least
        )
        return batch.reweighted(~clipped_BT)

    def measures(self, batch: TokenBatch) -> Means:
        cov_BT = self._covariance(batch)
        window_BT = (cov_BT >= self.low) & (cov_BT <= self.high)
        return {
            "clip_cov/covariance": batch.token_sum(cov_BT),
            "clip_cov/in_window": batch.token_sum(window_BT.float()),
        }


@dataclass(frozen=True, kw_only=True)
class KLCov(_OfCovariance):
    """A penalty that holds the tokens with the greatest covariance at the old policy (Eq. 10, 13,
    14)::

        loss + β |log π(y_i) − log π_old(y_i)|  on the share k of greatest Cov

    The paper writes KL(π_old ‖ π); its code takes the absolute difference, and so is this: the
    sampled log π_old − log π would push these tokens up by the same amount wherever they are. At
    the first update on what was just sampled the difference and its gradient are 0: KL-Cov does
    something only where a batch serves several updates. The paper's surrogate is not clipped
    besides; here the algorithm's own clip stays (`clip_low: 1` and a large `clip_high` take it
    off).
    """

    share: float = 2e-3
    """k: tokens under the penalty, over all; at least one. (§4: 2e-3 for 7B, 2e-4 for 32B.)"""
    beta: float = 1.0
    """β, reward per nat. (§4.)"""

    def __post_init__(self) -> None:
        require(0.0 <= self.share <= 1.0, "share", self, "in [0, 1]")
        require(self.beta >= 0.0, "beta", self, "at least 0")

    def penalty(self, batch: TokenBatch) -> Tensor | None:
        if self.beta == 0.0:
            return None
        away_BT = (batch.logp_BT - batch.old_logp_BT).abs()
        return torch.where(self._chosen(batch), self.beta * away_BT, 0.0)

    def measures(self, batch: TokenBatch) -> Means:
        away_BT = (batch.logp_BT.detach() - batch.old_logp_BT).abs()
        return {
            "kl_cov/covariance": batch.token_sum(self._covariance(batch)),
            "kl_cov/abs_log_ratio": batch.token_sum(away_BT, self._chosen(batch)),
        }

    def _chosen(self, batch: TokenBatch) -> Tensor:
        return entropy.kl_cov(self._covariance(batch), batch.mask_BT, self.share)

"""Learning from the tokens of high entropy alone ("beyond the 80/20 rule"). arXiv 2506.01939."""

from dataclasses import dataclass

from rlkd.algorithms.base import require
from rlkd.algorithms.component import Component, Means
from rlkd.batch import TokenBatch
from rlkd.objectives import entropy


@dataclass(frozen=True, kw_only=True)
class HighEntropyTokens(Component):
    """1[H_t ≥ τ_ρ] on the surrogate, τ_ρ such that a share ρ of the tokens is kept. The
    other tokens still count in the algorithm's reduction, and a penalty on them stays.

    τ_ρ is over the counted tokens of this rank's micro-batch, as in the paper's batch 𝓑 cut to
    what one forward pass holds: the gradient depends on how a batch is split. TRL's
    `top_entropy_quantile` gathers the micro-batch over the ranks; on one process the two are
    equal.
    """

    share: float = 0.2
    """ρ: tokens that are learnt from, over all. (20 %.)"""

    def __post_init__(self) -> None:
        require(0.0 < self.share <= 1.0, "share", self, "in (0, 1]")

    @property
    def steers(self) -> frozenset[str]:
        return frozenset({"which tokens are learnt from, by their entropy"})

    @property
    def micro_batch_statistic(self) -> str | None:
        return "the threshold is a quantile of its entropies" if self.share < 1.0 else None

    @property
    def tells_tokens_apart(self) -> bool:
        return True

    def shape_batch(self, batch: TokenBatch) -> TokenBatch:
        kept_BT = entropy.high_entropy_tokens(batch.entropy_BT, batch.mask_BT, self.share)
        return batch.reweighted(kept_BT)

    def measures(self, batch: TokenBatch) -> Means:
        kept_BT = entropy.high_entropy_tokens(batch.entropy_BT, batch.mask_BT, self.share)
        return {
            "high_entropy_tokens/kept": batch.token_sum(kept_BT.float()),
            "high_entropy_tokens/entropy": batch.token_sum(batch.entropy_BT, kept_BT),
        }

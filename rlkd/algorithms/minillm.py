"""MiniLLM: knowledge distillation by the sequence's reverse KL. arXiv 2306.08543."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import Reduction, require
from rlkd.algorithms.distillation import Distillation
from rlkd.batch import TokenBatch
from rlkd.objectives import returns
from rlkd.objectives.vocabulary import Divergence


@dataclass(frozen=True, kw_only=True)
class MiniLLM(Distillation):
    """KL(π_S ‖ π_T) of whole answers, its gradient taken apart at each token (§2.2)::

        r_t  = log π_T(y_t|s_t) − log π_old(y_t|s_t)
        R_t  = Σ_{t'>t} γ^(t'−t−1) r_t' / Σ_{t'>t} γ^(t'−t−1)
        loss = KL(π_S(·|s_t) ‖ π_T(·|s_t)) − min(ρ R_t, clip(ρ, 1 − ε, 1 + ε) R_t),  ρ = π_S/π_old

    The first term is what this token does now, exact over the whole vocabulary instead of on the
    sampled token (single-step decomposition); the second what it leads to. Answers are the
    student's own: the paper's third part, sampling from a mixture with the teacher, is not offered.
    """

    gamma: float = 1.0
    """γ: discount of what is further away, in [0, 1]; 0: the next token only. (Paper: 1.)"""
    length_normalised: bool = True
    """Divide by the sum of the discounts, so that R is a mean and does not grow with the rest of
    the answer. (Paper: yes.)"""
    log_ratio_bound: float = 10.0
    """|r| is at most this, nats: a token that the teacher rules out would make all returns before
    it infinite. (Ours.)"""
    reduction: Reduction = "dapo"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.gamma <= 1.0, "gamma", self, "in [0, 1]")
        require(self.log_ratio_bound > 0.0, "log_ratio_bound", self, "above 0")
        require(
            self.ratio_level == "token",
            "ratio_level",
            self,
            "'token': each token has its own return",
        )

    @property
    def measure(self) -> Divergence:
        return Divergence(kind="reverse_kl")

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        advantage_BT = super().token_advantages(batch)
        if self.teacher_weight == 0.0:
            return advantage_BT
        return advantage_BT + self.teacher_weight * self.future(batch)

    def future(self, batch: TokenBatch) -> Tensor:
        """R, (B, T): the return after each token, without gradient."""
        if batch.teacher_logp_BT is None:
            raise ValueError(
                f"{type(self).__name__} needs the teacher's log-probs of the sampled tokens; the "
                "batch has none"
            )
        bound = self.log_ratio_bound
        reward_BT = (batch.teacher_logp_BT - batch.old_logp_BT).clamp(-bound, bound)
        return returns.future_return(
            reward_BT, batch.mask_BT, self.gamma, normalised=self.length_normalised
        )

    def measures(self, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        means = super().measures(batch)
        if self.teacher_weight > 0.0:
            means["minillm/return"] = batch.token_sum(self.future(batch))
        return means

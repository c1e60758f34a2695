"""What the distillation losses over the whole vocabulary share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlkd.algorithms.base import ClippedPolicyGradient, LossOutput, require
from rlkd.batch import TokenBatch
from rlkd.objectives import divergences, ratios
from rlkd.objectives.vocabulary import Divergence

Kind = Literal["forward_kl", "reverse_kl", "jsd", "skewed_kl", "skewed_reverse_kl"]


@dataclass(frozen=True, kw_only=True)
class Distillation(ClippedPolicyGradient, ABC):
    """Abstract: a divergence D(teacher, student) at every token the student sampled, beside
    GRPO's clipped surrogate on rewards::

        loss = reward_weight · surrogate(A) + teacher_weight · D

    No gradient goes through the sampling. With `teacher_weight` 0 and `reward_weight` 1 it is GRPO
    exactly; with `reward_weight` 0 (the default) rewards train nothing and are only logged.
    """

    needs_teacher: ClassVar[bool] = True
    needs_distribution: ClassVar[bool] = True

    teacher_weight: float = 1.0
    """Weight of the divergence."""
    reward_weight: float = 0.0
    """Weight of the rewards' surrogate; 0 distils only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("teacher_weight", "reward_weight"):
            require(getattr(self, name) >= 0.0, name, self, "at least 0")
        require(
            self.teacher_weight + self.reward_weight > 0.0,
            "teacher_weight",
            self,
            "above 0 where reward_weight is 0, or nothing would be learnt",
        )
        _ = self.measure

    @property
    @abstractmethod
    def measure(self) -> Divergence:
        """The divergence that is lowered."""

    def loss(self, batch: TokenBatch) -> LossOutput:
        if self.teacher_weight > 0.0:
            if batch.distributions is None:
                raise ValueError(
                    f"{type(self).__name__} compares student and teacher over the whole vocabulary;"
                    " the batch holds their log-probs of the sampled tokens only"
                )
            divergence_BT = batch.distributions.divergence(self.measure, batch.mask_BT)
            batch = batch.replace(divergence_BT=divergence_BT)
        return super().loss(batch)

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        return ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        if self.reward_weight == 1.0:
            return batch.advantage_BT
        return self.reward_weight * batch.advantage_BT

    def further_loss(self, batch: TokenBatch) -> Tensor | None:
        if batch.divergence_BT is None:
            return None
        return self.teacher_weight * batch.divergence_BT

    def measures(self, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        means = {}
        if batch.divergence_BT is not None:
            finite_BT = batch.divergence_BT.detach().isfinite()
            means["teacher/divergence"] = batch.token_sum(batch.divergence_BT, finite_BT)
        if batch.teacher_logp_BT is None:
            return means
        gap_BT = divergences.k1(batch.logp_BT.detach(), batch.teacher_logp_BT)
        finite_BT = gap_BT.isfinite()
        means["teacher/gap"] = batch.token_sum(gap_BT, finite_BT)
        means["teacher/impossible_tokens"] = batch.token_sum((~finite_BT).float())
        if batch.is_eos_BT is not None:
            means["teacher/gap_at_eos"] = batch.token_sum(gap_BT, finite_BT & batch.is_eos_BT)
        return means


@dataclass(frozen=True, kw_only=True)
class ChosenDivergence(Distillation, ABC):
    """Abstract: the divergence is a setting."""

    divergence: Kind = "reverse_kl"
    """With p the teacher and q the student: `forward_kl` KL(p ‖ q), `reverse_kl` KL(q ‖ p), `jsd`
    the generalised Jensen-Shannon divergence, `skewed_kl` KL(p ‖ s p + (1−s) q),
    `skewed_reverse_kl` KL(q ‖ s q + (1−s) p) (DistiLLM, arXiv 2402.03898)."""
    jsd_beta: float = 0.5
    """β of `jsd`: β KL(p ‖ m) + (1−β) KL(q ‖ m), m = β p + (1−β) q; 0 is KL(p ‖ q), 1 KL(q ‖ p)."""
    skew: float = 0.1
    """s of the skewed ones. (DistiLLM: 0.1.)"""
    top_k: int | None = None
    """Compare the teacher's k likeliest tokens one by one and all others together. None: all."""

    def __post_init__(self) -> None:
        require(0.0 <= self.jsd_beta <= 1.0, "jsd_beta", self, "in [0, 1]")
        require(0.0 <= self.skew < 1.0, "skew", self, "in [0, 1): at 1 the divergence is 0")
        super().__post_init__()

    @property
    def measure(self) -> Divergence:
        weight = self.jsd_beta if self.divergence == "jsd" else self.skew
        return Divergence(kind=self.divergence, weight=weight, top_k=self.top_k)

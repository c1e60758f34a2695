"""What an algorithm is: rewards to advantages, a TokenBatch to a loss. Nothing else."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlkd.batch import TokenBatch
from rlkd.objectives import advantages, divergences, ratios, reduce, surrogates

AdvantageScale = Literal["population_std", "sample_std", "none"]
Reduction = Literal["grpo", "bnpo", "dapo", "dr_grpo"]
RatioLevel = Literal["token", "sequence"]


@dataclass(frozen=True)
class LossOutput:
    """`loss` is a scalar with gradient, this micro-batch's share of the optimiser step.
    `means` maps a metric's name to (sum, number) of this micro-batch, detached."""

    loss: Tensor
    means: dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """Abstract. An algorithm holds its settings and no state, and knows no framework."""

    needs_teacher: ClassVar[bool] = False
    needs_distribution: ClassVar[bool] = False
    """Does the loss read `TokenBatch.distributions`, the whole vocabulary of both?"""

    beta: float = 0.0
    """Weight of the reference KL penalty; 0 keeps no reference model."""

    def off_policy_rows(self, group_size: int) -> int:
        """How many answers of each group of `group_size` are traces: the teacher wrote them."""
        return 0

    def off_policy_share(self) -> float:
        """Share of the generation batches that hold nothing but traces, 0 to 1."""
        return 0.0

    def needs_traces(self, group_size: int) -> bool:
        """Does it learn from answers that the teacher wrote, at any time?"""
        return self.off_policy_rows(group_size) > 0 or self.off_policy_share() > 0.0

    @property
    def micro_batch_statistic(self) -> str | None:
        """Why the gradient depends on which rows share a micro-batch; None: it does not."""
        if getattr(self, "reduction", None) == "bnpo":
            return "bnpo averages over the tokens of each micro-batch, whatever their number"
        return None

    @abstractmethod
    def advantages(self, reward_NG: Tensor) -> Tensor:
        """Rewards of whole groups, NaN where not gradable, to advantages of the same shape."""

    @abstractmethod
    def loss(self, batch: TokenBatch) -> LossOutput:
        """The loss of one micro-batch, lower is better."""


@dataclass(frozen=True, kw_only=True)
class ClippedPolicyGradient(Algorithm):
    """Abstract: PPO's clipped surrogate on group-relative advantages. A subclass says which
    log-ratio is clipped."""

    clip_low: float = 0.2
    """ε_low: the ratio is clipped at 1 − clip_low for bad tokens (A < 0)."""
    clip_high: float = 0.2
    """ε_high: the ratio is clipped at 1 + clip_high for good tokens (A > 0)."""
    dual_clip: float | None = None
    """Upper bound on the ratio in the unclipped branch (TRL's `delta`), > 1 + clip_high; None: no
    bound."""
    advantage_scale: AdvantageScale = "sample_std"
    """What divides the centred rewards of a group."""
    advantage_eps: float = 1e-4
    """Added to that standard deviation, in units of reward."""
    reduction: Reduction = "grpo"
    """How the loss of tokens becomes one number; see `rlkd.objectives.reduce`."""
    ratio_level: RatioLevel = "token"
    """`sequence` clips one length-normalised ratio per answer (GSPO, arXiv 2507.18071)."""
    kl_correction: bool = True
    """Multiply the reference KL by π_S/π_old, so that its gradient is right off-policy too."""

    def __post_init__(self) -> None:
        require(0.0 <= self.clip_low <= 1.0, "clip_low", self, "in [0, 1]")
        require(self.clip_high >= 0.0, "clip_high", self, "at least 0")
        require(self.beta >= 0.0, "beta", self, "at least 0")
        require(self.advantage_eps >= 0.0, "advantage_eps", self, "at least 0")
        choices = {
            "advantage_scale": advantages.SCALES,
            "reduction": reduce.REDUCTIONS,
            "ratio_level": ("token", "sequence"),
        }
        for name, allowed in choices.items():
            require_choice(name, getattr(self, name), allowed)
        if self.dual_clip is not None:
            bound = 1.0 + self.clip_high
            require(self.dual_clip > bound, "dual_clip", self, f"above {bound}")

    @abstractmethod
    def log_ratio(self, batch: TokenBatch) -> Tensor:
        """The log-ratio that is clipped, (B, T), nats."""

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        """The advantage of each token, (B, 1) or (B, T), without gradient: the group's, which an
        algorithm may shape by what the teacher says of the tokens."""
        return batch.advantage_BT

    def further_loss(self, batch: TokenBatch) -> Tensor | None:
        """A further loss per token, (B, T), added to the surrogate before both are reduced; the
        weights of `batch.weight_BT` do not reach it. None: none."""
        return None

    def measures(self, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """More (sum, number) pairs to log; a subclass adds its own."""
        return {}

    def advantages(self, reward_NG: Tensor) -> Tensor:
        return advantages.group_advantages(reward_NG, self.advantage_scale, self.advantage_eps)

    def loss(self, batch: TokenBatch) -> LossOutput:
        advantage_BT = self.token_advantages(batch)
        if advantage_BT is not batch.advantage_BT:
            batch = batch.replace(advantage_BT=advantage_BT)
        log_ratio_BT = self._at_level(self.log_ratio(batch), batch)
        loss_BT = self.surrogate(log_ratio_BT, batch)
        if batch.weight_BT is not None:
            loss_BT = loss_BT * batch.weight_BT
        further_BT = self.further_loss(batch)
        if further_BT is not None:
            loss_BT = loss_BT + further_BT
        means = {"entropy": batch.token_sum(batch.entropy_BT, batch.on_policy_BT())}
        if self.beta > 0.0:
            kl_BT = self._reference_kl(batch)
            loss_BT = loss_BT + self.beta * kl_BT
            means["kl"] = batch.token_sum(kl_BT)
        means |= self.clip_shares(log_ratio_BT, batch) | self.measures(batch)
        return LossOutput(self._reduce(loss_BT, batch), means)

    def surrogate(self, log_ratio_BT: Tensor, batch: TokenBatch) -> Tensor:
        """The loss per token of the log-ratio, (B, T) or (B, 1): PPO's, clipped on both sides."""
        return surrogates.clipped_surrogate(
            log_ratio_BT, batch.advantage_BT, self.clip_low, self.clip_high, self.dual_clip
        )

    def _at_level(self, log_ratio_BT: Tensor, batch: TokenBatch) -> Tensor:
        if self.ratio_level == "sequence":
            return ratios.sequence_log_ratio(log_ratio_BT, batch.mask_BT)
        return log_ratio_BT

    def _reference_kl(self, batch: TokenBatch) -> Tensor:
        if batch.ref_logp_BT is None:
            raise ValueError(
                f"beta is {self.beta} but the batch holds no reference log-probs: a reference "
                "model must score the answers, or beta must be 0"
            )
        kl_BT = divergences.k3(batch.logp_BT, batch.ref_logp_BT)
        if self.kl_correction:
            log_grpo_BT = ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)
            kl_BT = kl_BT * self._at_level(log_grpo_BT, batch).exp()
        return kl_BT

    def clip_shares(
        self, log_ratio_BT: Tensor, batch: TokenBatch
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """(sum, number) pairs that say what the clip of `surrogate` does."""
        low_BT, high_BT = surrogates.clipped_away(
            log_ratio_BT, batch.advantage_BT, self.clip_low, self.clip_high
        )
        good_BT, bad_BT = batch.advantage_BT > 0, batch.advantage_BT < 0
        own_BT = batch.on_policy_BT()  # what the teacher wrote is not clipped
        if own_BT is not None:
            good_BT, bad_BT = good_BT & own_BT, bad_BT & own_BT
        return {
            "clip_ratio/low_mean": batch.token_sum(low_BT.float(), own_BT),
            "clip_ratio/high_mean": batch.token_sum(high_BT.float(), own_BT),
            "clip_ratio/region_mean": batch.token_sum((low_BT | high_BT).float(), own_BT),
            "clip_ratio/of_good_tokens": batch.token_sum(high_BT.float(), good_BT),
            "clip_ratio/of_bad_tokens": batch.token_sum(low_BT.float(), bad_BT),
        }

    def _reduce(self, loss_BT: Tensor, batch: TokenBatch) -> Tensor:
        # A (B, 1) loss of the sequence level counts once per token of its row.
        loss_BT = loss_BT.expand_as(batch.mask_BT)
        if self.reduction == "grpo":
            return reduce.sequence_mean(loss_BT, batch.mask_BT, batch.accumulation)
        if self.reduction == "bnpo":
            return reduce.token_mean_of_microbatch(loss_BT, batch.mask_BT, batch.accumulation)
        if self.reduction == "dr_grpo":
            return reduce.constant_length_sum(
                loss_BT, batch.mask_BT, batch.length_limit(), batch.accumulation
            )
        return reduce.token_mean_of_step(loss_BT, batch.mask_BT, batch.step_tokens())


def require_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def require(holds: bool, name: str, settings: object, wanted: str) -> None:
    """Raise ValueError unless `holds`, saying what the field `name` of `settings` must be."""
    if not holds:
        raise ValueError(f"{name} is {getattr(settings, name)!r}; it must be {wanted}")

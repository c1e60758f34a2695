"""What algorithms with a teacher's log-probs of the sampled tokens share: reading them, the end
token, the bound on the gap, and what is logged of it."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlkd.algorithms.base import ClippedPolicyGradient, require, require_choice
from rlkd.batch import TokenBatch
from rlkd.objectives import distillation, divergences, ratios


@dataclass(frozen=True, kw_only=True)
class Taught(ClippedPolicyGradient):
    """Abstract: learns from the teacher's log-probs of the sampled tokens."""

    needs_teacher: ClassVar[bool] = True

    @abstractmethod
    def beyond_bound(self, batch: TokenBatch) -> Tensor:
        """(B, T) booleans: where the teacher is further away than the algorithm lets it be."""

    def measures(self, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        if batch.teacher_logp_BT is None:
            return {}
        gap_BT = divergences.k1(batch.logp_BT.detach(), batch.teacher_logp_BT)
        finite_BT = gap_BT.isfinite()
        means = {
            "teacher/gap": batch.token_sum(gap_BT, finite_BT),
            "teacher/beyond_clamp": batch.token_sum(self.beyond_bound(batch).float()),
            "teacher/impossible_tokens": batch.token_sum((~finite_BT).float()),
        }
        if batch.is_eos_BT is not None:
            means["teacher/gap_at_eos"] = batch.token_sum(gap_BT, finite_BT & batch.is_eos_BT)
        return means

    def teacher_logp(self, batch: TokenBatch) -> Tensor:
        """log π_T, (B, T).

        Raises:
            ValueError: the batch has none.
        """
        if batch.teacher_logp_BT is None:
            raise ValueError(
                f"{type(self).__name__} needs the teacher's log-probs of the sampled tokens; the "
                "batch has none"
            )
        return batch.teacher_logp_BT

    def end_tokens(self, batch: TokenBatch, eos: str) -> Tensor:
        """(B, T) booleans: the tokens that ended an answer.

        Raises:
            ValueError: the batch does not say where they are.
        """
        if batch.is_eos_BT is None:
            raise ValueError(f"eos is {eos!r} but the batch does not say where the end tokens are")
        return batch.is_eos_BT


@dataclass(frozen=True, kw_only=True)
class TeacherGap(Taught):
    """Abstract: PPO's surrogate on π_S/π_old, whose advantages or loss hold the teacher's gap
    d = log π_T − log π_old of each sampled token, nats. π_old is the policy that sampled, so d is
    a constant: it does not change over several updates on one batch."""

    gap_bound: float = 20.0
    """|d| is at most this, nats, so that a token that the teacher rules out (−inf) counts with
    −gap_bound. (Ours; the papers have no bound. 20 leaves all but such tokens alone.)"""
    eos: Literal["keep", "drop"] = "keep"
    """What the teacher says of the token that ended the answer; a teacher with another end token
    (base student, chat teacher) judges it wrongly. `keep`: as of any token. `drop`: d is 0 there
    (the mask of arXiv 2609.04108)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gap_bound > 0.0, "gap_bound", self, "above 0 nats")
        require_choice("eos", self.eos, ("keep", "drop"))

    @abstractmethod
    def token_advantages(self, batch: TokenBatch) -> Tensor: ...

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        return ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)

    def gap(self, batch: TokenBatch) -> Tensor:
        """d, (B, T), nats, without gradient."""
        gap_BT = distillation.teacher_gap(
            self.teacher_logp(batch), batch.old_logp_BT, self.gap_bound
        )
        if self.eos == "keep":
            return gap_BT
        return gap_BT.masked_fill(self.end_tokens(batch, self.eos), 0.0)

    def beyond_bound(self, batch: TokenBatch) -> Tensor:
        return (self.teacher_logp(batch) - batch.old_logp_BT).abs() > self.gap_bound

    def correct(self, batch: TokenBatch) -> Tensor:
        """(B, 1) booleans: answers with the verifiable reward's full mark.

        Raises:
            ValueError: the batch does not say which.
        """
        if batch.correct_B1 is None:
            raise ValueError(self._unknown("which answers are correct"))
        return batch.correct_B1

    def group_accuracy(self, batch: TokenBatch) -> Tensor:
        """(B, 1): share of such answers in the row's group, NaN where none is gradable.

        Raises:
            ValueError: the batch does not say.
        """
        if batch.group_accuracy_B1 is None:
            raise ValueError(self._unknown("how many answers of a group are correct"))
        return batch.group_accuracy_B1

    def _unknown(self, what: str) -> str:
        return f"{type(self).__name__} must know {what}, and the batch does not say"


@dataclass(frozen=True, kw_only=True)
class TokenCredit(TeacherGap):
    """Abstract: the gap gives each token an advantage of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.ratio_level == "token",
            "ratio_level",
            self,
            "'token': with one ratio per answer all its tokens would share one advantage",
        )

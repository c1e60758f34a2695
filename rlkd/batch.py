"""TokenBatch: everything a loss may read, Distributions where it reads the whole vocabulary.
Groups: everything that a shaping of rewards may read. The one place where shapes are checked."""

import dataclasses
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from rlkd.objectives.chunked import CHUNK_LOGITS, Head, chunked_divergence
from rlkd.objectives.vocabulary import Divergence


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """One micro-batch of sampled tokens, padded on the right. Log-probabilities are in nats, of
    the distribution at the sampling temperature. See `rlkd.objectives` for the shape legend.

    `old_logp_BT` is the behaviour policy's and is never replaced by anything of the teacher's:
    the reference correction, importance sampling and off-policy masks rest on π_S/π_old.
    """

    logp_BT: Tensor
    """log π_S of each sampled token, with gradient."""
    old_logp_BT: Tensor
    """log π_old, the policy that sampled; equal to logp_BT.detach() on the first update."""
    entropy_BT: Tensor
    """Entropy of π_S at each position, nats, with gradient."""
    mask_BT: Tensor
    """1 where a token counts: written by the model, not padding, not tool output."""
    advantage_BT: Tensor
    """(B, 1), or (B, T) where an algorithm shapes it per token. No gradient."""
    teacher_logp_BT: Tensor | None = None
    """log π_T of each sampled token; None where the algorithm needs no teacher."""
    ref_logp_BT: Tensor | None = None
    """log π_ref of each sampled token; None when beta is 0."""
    is_eos_BT: Tensor | None = None
    """True at the end token that ended an answer; nowhere in a truncated row."""
    weight_BT: Tensor | None = None
    """Factor on each token's surrogate, (B, 1) or (B, T): sampler correction, off-policy mask."""
    hard_B1: Tensor | None = None
    """True where the row's prompt is hard (x ∈ D_h); None where no difficulty is kept."""
    correct_B1: Tensor | None = None
    """True where the answer has the verifiable reward's full mark; None where that is not known."""
    group_accuracy_B1: Tensor | None = None
    """Share of such answers among the gradable ones of the row's group, NaN where none is gradable;
    None where that is not known."""
    off_policy_B1: Tensor | None = None
    """True where the teacher wrote the answer (a trace), and not the student; None: nowhere. There
    too old_logp_BT is the student's, as it was when the batch was drawn: the policy that wrote the
    trace is not known (LUFFY's π_φ := 1 is in its objective, not here)."""

    distributions: "Distributions | None" = None
    """What gives student and teacher over the whole vocabulary; None where only sampled tokens are
    compared."""
    divergence_BT: Tensor | None = None
    """What an algorithm made of these, with gradient; None until then."""

    accumulation: float = 1.0
    """Micro-batches per optimiser step."""
    step_tokens_per_rank: Tensor | None = None
    """Counted tokens of the optimiser step over all ranks / number of ranks (for `dapo`).
    None: this micro-batch is the whole step on one rank."""
    max_completion_length: int | None = None
    """The constant of `dr_grpo`, tokens. None: T."""
    progress: float = 0.0
    """t/T: optimiser steps done over those of the whole run."""
    entropy_coefficient: float = 0.0
    """What a controller that keeps the entropy has come to, for this optimiser step."""

    def __post_init__(self) -> None:
        shape = self.logp_BT.shape
        if len(shape) != 2:
            raise ValueError(f"logp_BT has shape {tuple(shape)}; it must be (B, T)")
        exact = (
            "old_logp_BT",
            "entropy_BT",
            "mask_BT",
            "teacher_logp_BT",
            "ref_logp_BT",
            "is_eos_BT",
            "divergence_BT",
        )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in exact and value is not None and value.shape != shape:
                raise ValueError(
                    f"{field.name} has shape {tuple(value.shape)}, logp_BT {tuple(shape)}; "
                    "each token needs one value"
                )
        for name in ("advantage_BT", "weight_BT"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape) not in {(shape[0], 1), tuple(shape)}:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}; "
                    f"it must be ({shape[0]}, 1) or {tuple(shape)}"
                )
        for name in ("hard_B1", "correct_B1", "group_accuracy_B1", "off_policy_B1"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != (shape[0], 1):
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}; it must be ({shape[0]}, 1)"
                )
        for name in ("old_logp_BT", "advantage_BT", "teacher_logp_BT", "ref_logp_BT", "weight_BT"):
            value = getattr(self, name)
            if value is not None and value.requires_grad:
                raise ValueError(f"{name} carries a gradient; only logp_BT and entropy_BT may")
        if self.distributions is not None:
            self.distributions.check(shape)
        self._blank_masked()

    def _blank_masked(self) -> None:
        """Put 0 where a token does not count: 0 · inf is NaN, in values and in gradients, so a mask
        on the loss alone would let an overflow on padding through."""
        counted_BT = self.mask_BT.bool()
        for name in (f.name for f in fields(self) if f.name.endswith("_BT")):
            value = getattr(self, name)
            if name != "mask_BT" and value is not None and value.shape == counted_BT.shape:
                blank = torch.zeros((), dtype=value.dtype, device=value.device)
                object.__setattr__(self, name, torch.where(counted_BT, value, blank))

    def replace(self, **changes: Any) -> "TokenBatch":
        """The same batch with other values."""
        return dataclasses.replace(self, **changes)

    def reweighted(self, factor_BT: Tensor) -> "TokenBatch":
        """The same batch with `factor_BT`, numbers or booleans, on each token's surrogate besides
        the weights that are there."""
        factor_BT = factor_BT.to(self.logp_BT.dtype)
        if self.weight_BT is not None:
            factor_BT = self.weight_BT * factor_BT
        return self.replace(weight_BT=factor_BT)

    def step_tokens(self) -> Tensor:
        """Counted tokens of the optimiser step per rank, for `dapo`."""
        if self.step_tokens_per_rank is not None:
            return self.step_tokens_per_rank
        return self.mask_BT.sum()

    def length_limit(self) -> int:
        """The constant of `dr_grpo`: tokens."""
        return self.max_completion_length or self.mask_BT.shape[1]

    def off_policy_BT(self) -> Tensor | None:
        """Where the teacher wrote the token, (B, T); None: nowhere."""
        return None if self.off_policy_B1 is None else self.off_policy_B1.expand_as(self.mask_BT)

    def on_policy_BT(self) -> Tensor | None:
        """Where the student wrote the token, (B, T); None: everywhere."""
        return None if self.off_policy_B1 is None else ~self.off_policy_B1.expand_as(self.mask_BT)

    def token_sum(self, value_BT: Tensor, where_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(Σ value, number) over the counted tokens, restricted to `where_BT`: both detached.

        A mean over several micro-batches and ranks is Σ sums / Σ numbers, which an average of
        averages is not.
        """
        keep_BT = self.mask_BT.bool() if where_BT is None else self.mask_BT.bool() & where_BT
        value_BT = value_BT.detach().expand_as(self.mask_BT)
        # where() and not a product: 0 · inf is NaN.
        return torch.where(keep_BT, value_BT, 0.0).sum(), keep_BT.sum()


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """The next-token distributions of student and teacher at every place of a TokenBatch, as hidden
    states and heads: the logits are made where they are needed, some positions at a time."""

    student_BTH: Tensor
    """The student's last hidden states, which its head reads to predict each token. Has a
    gradient."""
    student_head: Head
    teacher_BTH: Tensor
    """The teacher's, in its own dtype and of its own width. No gradient."""
    teacher_head: Head
    temperature: float = 1.0
    """Divides the student's logits."""
    teacher_temperature: float = 1.0
    """Divides the teacher's."""
    chunk_logits: int = CHUNK_LOGITS
    """Numbers in one chunk of logits; see `rlkd.objectives.chunked`."""

    def check(self, shape: torch.Size) -> None:
        """Raise ValueError unless there is a hidden state for each place of a (B, T) batch."""
        for name in ("student_BTH", "teacher_BTH"):
            found = tuple(getattr(self, name).shape)
            if len(found) != 3 or found[:2] != tuple(shape):
                raise ValueError(
                    f"{name} has shape {found}; it must be ({shape[0]}, {shape[1]}, H)"
                )
        if self.teacher_BTH.requires_grad:
            raise ValueError("teacher_BTH carries a gradient; only the student's may")

    def divergence(self, divergence: Divergence, mask_BT: Tensor) -> Tensor:
        """D(teacher, student) at the counted places, (B, T), nats, with gradient in the student's
        hidden states and head; 0 at the others, whose hidden states are not read."""
        counted_BT = mask_BT.bool()
        value_N = chunked_divergence(
            divergence,
            self.student_BTH[counted_BT],
            self.student_head,
            self.teacher_BTH[counted_BT],
            self.teacher_head,
            self.temperature,
            self.teacher_temperature,
            self.chunk_logits,
        )
        return value_N.new_zeros(counted_BT.shape).masked_scatter(counted_BT, value_N)


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The rewards of whole groups, gathered over all ranks, and what was remembered of their
    prompts before them. Lengths in tokens, the end token included."""

    key_N: Tensor
    """Keys of the prompts (`rlkd.difficulty.prompt_key`), int64."""
    reward_NG: Tensor
    """Weighted sums of the rewards; NaN where a row cannot be graded."""
    length_NG: Tensor
    """Tokens of each answer."""
    correct_NG: Tensor
    """Has the answer the verifiable reward's full mark, before any shaping?"""
    counted_NG: Tensor
    """Does the answer count for pass rates and lengths? Truncated and ungradable ones do not."""
    pass_rate_N: Tensor
    """Acc(x): share of correct answers among the counted ones; NaN where none counts."""
    history_N: Tensor
    """Acc_h(x) before this batch; NaN on a first visit."""
    shortest_N: Tensor
    """L_x before this batch; NaN where no correct answer is on record."""
    hard_N: Tensor
    """x ∈ D_h."""

    def __post_init__(self) -> None:
        shape = tuple(self.reward_NG.shape)
        if len(shape) != 2:
            raise ValueError(f"reward_NG has shape {shape}; it must be (N, G)")
        for field in fields(self):
            value, wanted = getattr(self, field.name), shape
            if not field.name.endswith("_NG"):
                wanted = shape[:1]
            if tuple(value.shape) != wanted:
                raise ValueError(f"{field.name} has shape {tuple(value.shape)}, not {wanted}")

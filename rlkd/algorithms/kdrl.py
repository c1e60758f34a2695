"""KDRL: knowledge distillation and reinforcement learning in one loss. arXiv 2506.02208."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlkd.algorithms.base import require, require_choice
from rlkd.algorithms.teacher_gap import TeacherGap
from rlkd.batch import TokenBatch
from rlkd.objectives import divergences

ESTIMATORS = ("k2", "k3", "k1_advantage")
MASKS = ("none", "correct_answers", "solved_groups")


@dataclass(frozen=True, kw_only=True)
class KDRL(TeacherGap):
    """GRPO without reference, and β times an estimate of KL(π_S ‖ π_T) of each sampled token::

        k2, k3:        loss = −min(r A, clip(r) A) + β k(π_S, π_T)        gradient through π_S alone
        k1_advantage:  loss = −min(r A_t, clip(r) A_t),  A_t = A + β d_t,  d = log π_T − log π_old

    The first is the paper's, with k2; the second the form of arXiv 2609.04108. At the first update
    on a batch k2 and k1_advantage have one gradient. k1 = log π_S − log π_T in the loss is refused:
    its gradient is ∇log π_S, and the teacher has dropped out.

    In the loss too log π_T stands within `gap_bound` of log π_old, a constant.
    """

    teacher_weight: float = 2e-3
    """β, loss (or advantage) per nat; 0: GRPO. (2609.04108 A.3. KDRL's annealed variant goes from
    5e-3 to 1e-3 by equal steps: a schedule.)"""
    estimator: Literal["k2", "k3", "k1_advantage"] = "k2"
    """How the KL is estimated. `k2`: its gradient is the reverse KL's, unbiased on policy. `k3`:
    its gradient is the forward KL's (see `rlkd.objectives.divergences`), unbounded above where the
    teacher likes a token much more. `k1_advantage`: k1 as an advantage, never differentiated."""
    mask: Literal["none", "correct_answers", "solved_groups"] = "none"
    """Where the teacher is silent. `correct_answers`: in answers with the verifiable reward's full
    mark (KDRL-mask). `solved_groups`: in all answers to a prompt that the group solved at least
    once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.teacher_weight >= 0.0, "teacher_weight", self, "at least 0")
        if self.estimator == "k1":
            raise ValueError(
                "estimator is 'k1'; differentiated in a loss k1 has the gradient ∇log π_S, without "
                "the teacher. Use 'k1_advantage' (k1 as an advantage) or 'k2'"
            )
        require_choice("estimator", self.estimator, ESTIMATORS)
        require_choice("mask", self.mask, MASKS)
        if self.estimator == "k1_advantage" and self.ratio_level == "sequence":
            raise ValueError(
                "ratio_level is 'sequence', and all tokens of an answer would share one advantage; "
                "with estimator 'k1_advantage' it must be 'token'"
            )

    def token_advantages(self, batch: TokenBatch) -> Tensor:
        if self.teacher_weight == 0.0 or self.estimator != "k1_advantage":
            return batch.advantage_BT
        return batch.advantage_BT + self.teacher_weight * self._heard(self.gap(batch), batch)

    def further_loss(self, batch: TokenBatch) -> Tensor | None:
        if self.teacher_weight == 0.0 or self.estimator == "k1_advantage":
            return None
        estimate = divergences.k2 if self.estimator == "k2" else divergences.k3
        kl_BT = estimate(batch.logp_BT, batch.old_logp_BT + self.gap(batch))
        if self.eos == "drop":  # d = 0 there would hold π_S to π_old
            kl_BT = kl_BT.masked_fill(self.end_tokens(batch, self.eos), 0.0)
        return self.teacher_weight * self._heard(kl_BT, batch)

    def _heard(self, value_BT: Tensor, batch: TokenBatch) -> Tensor:
        """`value_BT`, 0 in the rows where the teacher is silent."""
        if self.mask == "none":
            return value_BT
        if self.mask == "correct_answers":
            silent_B1 = self.correct(batch)
        else:
            silent_B1 = self.group_accuracy(batch) > 0.0
        return torch.where(silent_B1, 0.0, value_BT)

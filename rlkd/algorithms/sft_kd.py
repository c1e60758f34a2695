"""Supervised distillation on the teacher's answers: sequence-level KD, arXiv 1606.07947; with
rejection sampling, arXiv 2308.01825."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.algorithms.base import Algorithm, LossOutput, require
from rlkd.batch import TokenBatch
from rlkd.objectives import reduce


@dataclass(frozen=True, kw_only=True)
class SFTKD(Algorithm):
    """Cross-entropy on answers that the teacher wrote: −log π_S, mean over the tokens of the step.

    The offline baseline. Every row is a trace and the student writes nothing in training. Rewards
    are logged and move nothing: they chose the traces, where those are rejection-sampled.
    """

    def __post_init__(self) -> None:
        require(self.beta == 0.0, "beta", self, "0: cross-entropy has no reference penalty")

    def off_policy_rows(self, group_size: int) -> int:
        return group_size

    def advantages(self, reward_NG: Tensor) -> Tensor:
        return torch.zeros_like(reward_NG)

    def loss(self, batch: TokenBatch) -> LossOutput:
        loss_BT = -batch.logp_BT
        if batch.weight_BT is not None:
            loss_BT = loss_BT * batch.weight_BT
        means = {"off_policy/logp": batch.token_sum(batch.logp_BT)}
        loss = reduce.token_mean_of_step(loss_BT, batch.mask_BT, batch.step_tokens())
        return LossOutput(loss, means)

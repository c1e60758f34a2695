"""DAPO: decoupled clip and dynamic sampling policy optimization. arXiv 2503.14476."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import ClippedPolicyGradient, Reduction
from rlkd.batch import TokenBatch
from rlkd.objectives import ratios


@dataclass(frozen=True, kw_only=True)
class DAPO(ClippedPolicyGradient):
    """GRPO with a higher upper clip, a mean over the tokens of the step, and only groups that have
    something to teach (Eq. 8)::

        J = (1/Σ_i |o_i|) Σ_i Σ_t min(r A, clip(r, 1 − ε_low, 1 + ε_high) A)
            subject to 0 < number of correct answers in the group < G

    The loss alone equals `GRPO(beta=0, clip_high=0.28, reduction="dapo")`. Its fourth part, the
    soft punishment of overlong answers (Eq. 13), is a reward: `rewards.length:soft_overlong`,
    added to the one for the answer.
    """

    clip_high: float = 0.28
    reduction: Reduction = "dapo"
    dynamic_sampling: bool = True
    """Prompts whose answers are all right or all wrong are replaced by others before the update
    (§3.2). The loss does not read it: the trainer samples."""

    def log_ratio(self, batch: TokenBatch) -> Tensor:
        return ratios.importance_log_ratio(batch.logp_BT, batch.old_logp_BT)

"""On-policy distillation as a loss over the whole vocabulary, or over the teacher's top k."""

from dataclasses import dataclass

from rlkd.algorithms.base import Reduction
from rlkd.algorithms.distillation import ChosenDivergence


@dataclass(frozen=True, kw_only=True)
class OPDLoss(ChosenDivergence):
    """The reverse KL to the teacher at each sampled prefix (Thinking Machines, "On-Policy
    Distillation", October 2025), exactly and by its own gradient::

        loss = mean over tokens of KL(π_S(·|s_t) ‖ π_T(·|s_t))

    rather than by a policy gradient on the sampled token's log-ratio: the same expectation at
    discount 0, without the variance of the sample. `top_k` compares the teacher's k likeliest
    tokens and one outcome for all others.
    """

    reduction: Reduction = "dapo"

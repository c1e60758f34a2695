"""GKD: on-policy distillation of language models, generalised. arXiv 2306.13649."""

from dataclasses import dataclass

from rlkd.algorithms.base import require
from rlkd.algorithms.distillation import ChosenDivergence, Kind


@dataclass(frozen=True, kw_only=True)
class GKD(ChosenDivergence):
    """A divergence between teacher p and student q over the whole vocabulary (Eq. 1), at each token
    of the student's own answers, mean over each answer::

        JSD(β) = β KL(p ‖ m) + (1 − β) KL(q ‖ m),   m = β p + (1 − β) q

    With rewards, (1 − α) E[r] − α E[D] is `reward_weight` 1 − α and `teacher_weight` α.
    """

    divergence: Kind = "jsd"
    on_policy_share: float = 1.0
    """λ: share of the rows that the student answers itself; the others would have the teacher's
    answers. (The paper's on-policy GKD: 1; its mixed one: 0.5.)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.on_policy_share == 1.0,
            "on_policy_share",
            self,
            "1: below it some rows would need answers that the teacher wrote, which rlkd cannot "
            "give this algorithm yet",
        )

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
    """λ: share of the generation batches that the student answers itself; the others hold the
    teacher's answers (`data.traces`). (The paper's on-policy GKD: 1; its mixed one: 0.5.)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.on_policy_share <= 1.0, "on_policy_share", self, "in [0, 1]")
        require(
            self.on_policy_share == 1.0 or self.reward_weight == 0.0,
            "reward_weight",
            self,
            "0 with an on_policy_share below 1: the surrogate has no weight for answers that the "
            "student did not sample",
        )

    def off_policy_share(self) -> float:
        return 1.0 - self.on_policy_share

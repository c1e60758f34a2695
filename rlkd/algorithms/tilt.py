"""Tilt: rewards, and the whole gradient of the KL to the teacher. rlkd's own."""

from dataclasses import dataclass

from rlkd.algorithms.minillm import MiniLLM


@dataclass(frozen=True, kw_only=True)
class Tilt(MiniLLM):
    """The teacher's distribution tilted towards what is rewarded::

        J      = E_x E_y~π_S [ A(y) − λ KL(π_S(·|x) ‖ π_T(·|x)) ],  best where π ∝ π_T exp(A / λ)
        R_t    = mean over t' > t of log π_T(y_t'|s_t') − log π_old(y_t'|s_t')
        loss_t = λ KL(π_S(·|s_t) ‖ π_T(·|s_t)) − clipped(π_S/π_old, A + λ R_t)

    KDRL has the same J, and for its KL the sampled k2 of the present token. Here the KL of the
    present token is exact over the vocabulary, and R_t credits a token with where it leads:
    MiniLLM's two parts, the rewards' advantage A beside them. λ is `teacher_weight`; at 0 it is
    GRPO bit for bit.
    """

    teacher_weight: float = 0.25
    """λ. Small enough that a teacher which is often wrong does not hold the student back; with one
    that is nearly always right a larger λ learns faster."""
    reward_weight: float = 1.0
    """Weight of the group's advantage A."""

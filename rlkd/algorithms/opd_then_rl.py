"""OPD-then-RL: first the teacher alone, then the reward alone. arXiv 2609.04108."""

from dataclasses import dataclass
from typing import Any, Literal

from rlkd.algorithms.base import AdvantageScale, Reduction
from rlkd.algorithms.grpo import GRPO
from rlkd.algorithms.opd import OPD
from rlkd.algorithms.schedule import Phase, Schedule, Staged, Until


@dataclass(frozen=True, kw_only=True)
class OPDThenRL(Staged):
    """On-policy distillation up to step S, then GRPO without a teacher::

        A_t = log π_T − log π_old      for step ≤ S
        A_t = (R − mean R) / std R     for step > S

    under one PPO surrogate. In the paper's Table 2 it is ahead of every joint method on logic (80.6
    against 68.9). The optimiser's state goes on across the switch. Other phases, other algorithms:
    `algorithm` and `then` of a config.
    """

    switch: Until = 0.4
    """S: a step (a whole number), a share of the run's steps, or a plateau (a block with
    `plateau: eval/accuracy`, `patience`, …). (Table 2: S = 60, of 150 steps on logic and of 120 on
    mathematics.)"""
    clip_low: float = 0.2
    """ε_low of both phases. (Paper: 0.2, symmetric.)"""
    clip_high: float = 0.2
    """ε_high of both phases."""
    eos: Literal["keep", "drop"] = "drop"
    """What the teacher says of the token that ended the answer; see `OPD.eos`. (The paper masks
    it: its student and its teacher end answers differently.)"""
    advantage_scale: AdvantageScale = "sample_std"
    """What divides the centred rewards of a group in the second phase."""
    reduction: Reduction = "dapo"
    """How the loss of tokens becomes one number, in both phases; verl's token mean."""

    def __post_init__(self) -> None:
        self.schedule()

    def schedule(self) -> Schedule:
        shared: dict[str, Any] = {"clip_low": self.clip_low, "clip_high": self.clip_high}
        first = OPD(**shared, reduction=self.reduction, eos=self.eos)
        second = GRPO(
            **shared, reduction=self.reduction, advantage_scale=self.advantage_scale, beta=0.0
        )
        return Schedule((Phase(algorithm=first, until=self.switch), Phase(algorithm=second)))

"""The entropy bonus with a fixed coefficient. A3C (arXiv 1602.01783), PPO (arXiv 1707.06347)."""

from dataclasses import dataclass

from torch import Tensor

from rlkd.algorithms.base import require
from rlkd.algorithms.component import Component
from rlkd.batch import TokenBatch
from rlkd.objectives import entropy


@dataclass(frozen=True, kw_only=True)
class EntropyBonus(Component):
    """loss − c_2 H(π_S(·|s_t)), the mean over all counted tokens of the optimiser step (PPO
    Eq. 9)."""

    coefficient: float = 0.01
    """c_2, reward per nat. (PPO Table 5; A3C's β is the same. For language models 1e-3 or less is
    usual, as CEEH's λ_0: at 0.01 their entropy can run away.)"""

    def __post_init__(self) -> None:
        require(self.coefficient >= 0.0, "coefficient", self, "at least 0")

    @property
    def steers(self) -> frozenset[str]:
        return frozenset({"the entropy"})

    def penalty(self, batch: TokenBatch) -> Tensor | None:
        if self.coefficient == 0.0:
            return None
        return entropy.entropy_bonus(batch.entropy_BT, self.coefficient)

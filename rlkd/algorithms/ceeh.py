"""CEEH: compress the easy, explore the hard. arXiv 2602.22642 (KDD 2026)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlkd.algorithms.base import require, require_choice
from rlkd.algorithms.component import Component, Means
from rlkd.batch import Groups, TokenBatch
from rlkd.difficulty import Rules
from rlkd.objectives import difficulty, entropy, lengths

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {
        "anneal": "half_cosine",  # the paper's cosine pays for certainty in the second half
        "entropy_mean": "tokens",
        "gate": "above",
        "floored": "term",
        "hard_from": "history",
        "hard_bound": "below",
        "shortest": "minimum",
        "unvisited": "left_out",
        "restart_at_zero": False,
    },
    "official_code": {
        "anneal": "half_cosine",
        "entropy_mean": "weighted",
        "gate": "at_least",
        "floored": "contribution",
        "hard_from": "group",
        "hard_bound": "at_most",
        "shortest": "moving_average",
        "unvisited": "minus_one",
        "restart_at_zero": True,
    },
}
"""What each source says where they differ."""


@dataclass(frozen=True, kw_only=True)
class CEEH(Component):
    """Entropy on prompts that are hard for the present student, and shorter answers where it has
    become better than it used to be::

        D_h   = {x: Acc_h(x) < mean of Acc_h over the prompts}                         (Eq. 16)
        R     = R − β R_len,  R_len = (L − L_x)/L_x  for correct answers, if Acc > Acc_h (13, 14)
        ME:   loss − λ(x, t) H,  λ = λ_0 cos(π t/T), 5 λ_0 cos(π t/T) on D_h           (5, 6, 11)
        EA:   A + min(α H, |A|/κ) on D_h, H detached                                   (7, 8, 12)

    Records are read as they were before the batch. Where paper and official code differ, `variant`
    chooses, and each difference is a field of its own: null there means "as the variant has it".
    Rewards are centred on the group's mean and not divided by its spread (§3.4): the config sets
    the algorithm's `advantage_scale` to `none` unless it is set there.
    """

    algorithm_defaults: ClassVar[dict[str, Any]] = {"advantage_scale": "none"}

    variant: Literal["paper", "official_code"] = "paper"
    """Which source decides where they differ. Default: the paper, since it is what a reader can
    check; which of the two made its tables is not known. Read when the component is made: the
    fields that were null then hold values, and a copy with another variant keeps them."""
    entropy: Literal["me", "ea"] | None = "me"
    """`me`: a bonus on the entropy in the loss; `ea`: entropy shapes the advantages of hard
    prompts; null: neither. (They exclude each other, as in the official code.)"""
    entropy_coefficient: float = 1e-3
    """λ_0 of ME, reward per nat. (Table 4.)"""
    hard_factor: float = 5.0
    """ME's coefficient on hard prompts, in λ_0. (Eq. 11.)"""
    anneal: Literal["cosine", "half_cosine", "constant"] | None = None
    """How ME's coefficient moves over the run. Both variants: `half_cosine`, ½(1 + cos(π t/T)), the
    official code's; the paper's formula, `cosine`, turns negative at half time and would then push
    the entropy down."""
    entropy_mean: Literal["tokens", "weighted"] | None = None
    """Over what ME's bonus is averaged. `tokens` (paper): Σ λ(x) H over the number of tokens.
    `weighted` (code, whose factor sits in the mask of a masked mean): λ_0 Σ c H / Σ c over each
    micro-batch, c = `hard_factor` or 1. The factor is then a share between the prompts of one
    micro-batch: where all are hard, or where it holds one row as in the code's own script, the
    factor does nothing; and the gradient depends on how a batch is split."""
    ea_alpha: float = 0.4
    """α of EA, advantage per nat. (Official code; not in the paper.)"""
    ea_kappa: float = 2.0
    """κ of EA: the shaping is at most |A|/κ. (Official code; not in the paper.)"""
    length_beta: float = 0.1
    """β: weight of the length term; 0: no length reward. (§4: 0.1; 0.2 in Table 3.)"""
    length_floor: float = -0.9
    """Lowest value of what `floored` names. (§3.3.)"""
    floored: Literal["term", "contribution"] | None = None
    """`term` (paper: "the penalty lies in [−0.9, 1)"): (L_x − L)/L_x is floored, then scaled by β;
    `contribution` (code): β (L_x − L)/L_x is floored."""
    gate: Literal["above", "at_least"] | None = None
    """Lengths count where Acc(x) > Acc_h(x) (`above`, paper) or ≥ (`at_least`, code). A prompt's
    first visit passes neither."""
    hard_from: Literal["history", "group"] | None = None
    """Which pass rate makes a prompt hard: the historical one (paper) or the present group's
    (code)."""
    hard_bound: Literal["below", "at_most"] | None = None
    """Hard: rate < threshold (`below`, paper) or ≤ (`at_most`, code)."""
    shortest: Literal["minimum", "moving_average"] | None = None
    """L_x: the shortest correct answer on record (`minimum`, paper) or a moving average of each
    group's shortest, which moves by 0.2 to a shorter one and by 0.05 to a longer (code)."""
    unvisited: Literal["left_out", "minus_one"] | None = None
    """Prompts not visited yet are left out of the threshold (the paper does not say; they have no
    pass rate yet) or count as −1 (code; the threshold is then below 0 early in the first epoch)."""
    restart_at_zero: bool | None = None
    """A visit sets Acc_h to the present rate not only on the first visit, but also while Acc_h is 0
    (code)."""
    rate_up: float = 0.2
    """η while Acc_h(x) < Acc(x). (Eq. 15.)"""
    rate_down: float = 0.05
    """η otherwise. (Eq. 15.)"""

    def __post_init__(self) -> None:
        require_choice("variant", self.variant, tuple(VARIANTS))
        for name, value in VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        choices = {
            "anneal": entropy.ANNEALS,
            "entropy_mean": entropy.MEANS,
            "gate": lengths.GATES,
            "floored": lengths.FLOORS,
            "hard_from": ("history", "group"),
            "hard_bound": difficulty.BOUNDS,
            "shortest": difficulty.SHORTEST,
            "unvisited": difficulty.UNVISITED,
        }
        for name, allowed in choices.items():
            require_choice(name, getattr(self, name), allowed)
        if self.entropy is not None:
            require_choice("entropy", self.entropy, ("me", "ea"))
        require(self.entropy_coefficient >= 0.0, "entropy_coefficient", self, "at least 0")
        require(self.hard_factor >= 0.0, "hard_factor", self, "at least 0")
        require(self.ea_alpha >= 0.0, "ea_alpha", self, "at least 0")
        require(self.ea_kappa > 1.0, "ea_kappa", self, "above 1, or shaping could turn A around")
        require(self.length_beta >= 0.0, "length_beta", self, "at least 0")
        require(self.length_floor <= 0.0, "length_floor", self, "at most 0")
        for name in ("rate_up", "rate_down"):
            require(0.0 <= getattr(self, name) <= 1.0, name, self, "in [0, 1]")
        if self.entropy is None and self.length_beta == 0.0:
            raise ValueError(
                "CEEH with entropy null and length_beta 0 does nothing; leave the component out"
            )

    @property
    def steers(self) -> frozenset[str]:
        held = set()
        if self.entropy is not None:
            held.add("the entropy")
        if self.entropy == "ea":
            held.add("the covariance of log-probabilities and advantages")
        if self.length_beta > 0.0:
            held.add("the length reward")
        return frozenset(held)

    @property
    def micro_batch_statistic(self) -> str | None:
        if self.entropy == "me" and self.entropy_mean == "weighted":
            return "the bonus is a mean weighted by difficulty over its tokens"
        return None

    @property
    def tells_tokens_apart(self) -> bool:
        return self.entropy == "ea"

    @property
    def rules(self) -> Rules:
        return Rules(**{name: getattr(self, name) for name in Rules.__dataclass_fields__})

    def shape_rewards(self, groups: Groups) -> Tensor:
        return groups.reward_NG + self.length_term(groups)

    def group_measures(self, groups: Groups) -> dict[str, float]:
        if self.length_beta == 0.0:
            return {}
        open_N = self._gate(groups)
        term_NG = self.length_term(groups)
        return {
            "ceeh/gate_open": open_N.double().mean().item(),
            "ceeh/length_term": term_NG.double().mean().item(),
        }

    def length_term(self, groups: Groups) -> Tensor:
        """(N, G): −β R_len; 0 for answers that are wrong or do not count and where the gate is
        shut."""
        if self.length_beta == 0.0:
            return torch.zeros_like(groups.reward_NG)
        term_NG = lengths.length_contribution(
            groups.length_NG,
            groups.shortest_N,
            self.length_beta,
            self.length_floor,
            str(self.floored),
        )
        held_NG = groups.correct_NG & groups.counted_NG & self._gate(groups).unsqueeze(-1)
        return torch.where(held_NG, term_NG, 0.0).to(groups.reward_NG.dtype)

    def _gate(self, groups: Groups) -> Tensor:
        return lengths.passes_gate(groups.pass_rate_N, groups.history_N, str(self.gate))

    def shape_batch(self, batch: TokenBatch) -> TokenBatch:
        if self.entropy != "ea":
            return batch
        shaped_BT = entropy.entropy_advantage(
            batch.advantage_BT, batch.entropy_BT, self.ea_alpha, self.ea_kappa
        )
        advantage_BT = torch.where(self._hard(batch), shaped_BT, batch.advantage_BT)
        return batch.replace(advantage_BT=advantage_BT)

    def penalty(self, batch: TokenBatch) -> Tensor | None:
        if self.entropy != "me" or self.entropy_coefficient == 0.0:
            return None
        return entropy.entropy_bonus(batch.entropy_BT, self._coefficient(batch))

    def measures(self, batch: TokenBatch) -> Means:
        if self.entropy != "me":
            return {}
        return {"ceeh/entropy_coefficient": batch.token_sum(self._coefficient(batch))}

    def _coefficient(self, batch: TokenBatch) -> Tensor:
        """λ(x, t), (B, 1)."""
        scale = self.entropy_coefficient * entropy.anneal(batch.progress, str(self.anneal))
        return scale * entropy.difficulty_factor(
            self._hard(batch),
            batch.mask_BT,
            self.hard_factor,
            str(self.entropy_mean),
            batch.entropy_BT.dtype,
        )

    def _hard(self, batch: TokenBatch) -> Tensor:
        if batch.hard_B1 is None:
            raise ValueError("CEEH needs to know which prompts are hard; the batch does not say")
        return batch.hard_B1

"""The algorithms that must pass the laws of `test_laws.py`. A new algorithm: one row more.

A field that excuses a row from a law holds the reason, and the reason is shown by a test.
"""

import os
from dataclasses import dataclass, fields, replace

from rlkd.algorithms.base import Algorithm
from rlkd.algorithms.ceeh import CEEH
from rlkd.algorithms.cispo import CISPO
from rlkd.algorithms.component import Component, Composed
from rlkd.algorithms.covariance import ClipCov, KLCov
from rlkd.algorithms.dapo import DAPO
from rlkd.algorithms.distillation import Distillation
from rlkd.algorithms.dr_grpo import DrGRPO
from rlkd.algorithms.entropy_bonus import EntropyBonus
from rlkd.algorithms.gkd import GKD
from rlkd.algorithms.grpo import GRPO
from rlkd.algorithms.gspo import GSPO
from rlkd.algorithms.hdpo import HDPO
from rlkd.algorithms.high_entropy_tokens import HighEntropyTokens
from rlkd.algorithms.kdrl import KDRL
from rlkd.algorithms.luffy import LUFFY
from rlkd.algorithms.minillm import MiniLLM
from rlkd.algorithms.opd import OPD
from rlkd.algorithms.opd_loss import OPDLoss
from rlkd.algorithms.rlad import RLAD
from rlkd.algorithms.rlsd import RLSD
from rlkd.algorithms.sft_kd import SFTKD
from rlkd.algorithms.skywork_or1 import AdaptiveEntropy
from rlkd.algorithms.srpo import SRPO
from rlkd.algorithms.teacher_gap import TeacherGap
from rlkd.algorithms.topd import TOPD
from rlkd.refs import resolve


@dataclass(frozen=True)
class Case:
    """One algorithm with its settings, and what is claimed of it."""

    name: str
    algorithm: Algorithm | Composed
    base: Algorithm | Composed | None = None
    """What it is, exactly, without its teacher; None where it has none."""
    teacher_off: dict | None = None
    """The fields that take the teacher's weight to 0."""
    unequal_at_equal_teacher: str | None = None
    """Why it differs from its base at the first update though teacher = student."""
    depends_on_split: str | None = None
    """Why the gradient depends on how the global batch is split into micro-batches and ranks."""
    batch_statistic: str | None = None
    """Which statistic of the micro-batch it reads: its gradient depends on the split, but not where
    the micro-batches hold the same rows."""
    not_a_derivative: str | None = None
    """Why its gradient is not the derivative of the number that it returns."""
    needs_finite_teacher: str | None = None
    """Why a token that the teacher holds for impossible (−inf) may not occur."""
    without_surrogate: str | None = None
    """Why the factor on a token's surrogate changes nothing."""
    silent_without_signal: bool = True
    """All advantages 0: no gradient at all."""
    without_traces: Algorithm | None = None
    """What it is, exactly, where no answer is the teacher's; None: it learns from those alone, or
    has no use for them."""
    lowers_teacher_kl: bool | None = None
    """A small step without reward signal lowers KL(π_S ‖ π_T), on the exact expectation over a
    categorical student. None: not claimed."""

    def __str__(self) -> str:
        return self.name

    def without_teacher(self) -> Algorithm | Composed:
        """The algorithm with the teacher's weight at 0."""
        if isinstance(self.algorithm, Composed):
            silenced = replace(self.algorithm.algorithm, **self.teacher_off or {})
            return replace(self.algorithm, algorithm=silenced)
        return replace(self.algorithm, **self.teacher_off or {})


BNPO = "bnpo averages over the tokens of each micro-batch, whatever their number"
DROP = "at the end token r is r_GRPO^alpha, also where teacher and student agree"
STRAIGHT = "straight-through: the value is clamped, the gradient is that of the unclamped"
DETACHED = "the entropy that shapes the advantages is a constant to the gradient"
WEIGHTED = "the bonus is a mean weighted by difficulty over the micro-batch"
MOMENTS = "the covariance is about the means of the micro-batch, and the tokens are its greatest"
QUANTILE = "the threshold is a quantile of the micro-batch's entropies"
CONSTANT = "the importance weight is a constant to the gradient"
SCALED = "mean and std are those of the micro-batch's tokens"
INFINITE = "KL(q ‖ p) is infinite where p is 0 and q is not"
ALONE = "it has no surrogate: the divergence alone is learnt from"
UNCLAMPED = "without the clamp the geometric ratio to an impossible token is infinite"


def grpo(name: str, **settings) -> Case:
    return Case(
        f"grpo {name}",
        GRPO(**settings),
        depends_on_split=BNPO if settings.get("reduction") == "bnpo" else None,
        silent_without_signal=settings.get("beta") == 0.0,
    )


def rlad(name: str, **settings) -> Case:
    """RLAD claims no direction (`lowers_teacher_kl`): where the clip leaves a token alone, the
    step is along A, towards the teacher or away from it (core.md §1.1b)."""
    algorithm = RLAD(**settings)
    shared = {f.name: getattr(algorithm, f.name) for f in fields(GRPO)}
    unclamped = algorithm.clamp == "none" and algorithm.mixture == "geometric"
    return Case(
        f"rlad {name}",
        algorithm,
        base=GRPO(**shared),
        teacher_off={"alpha": 1.0},
        unequal_at_equal_teacher=DROP if algorithm.eos == "drop" else None,
        depends_on_split=BNPO if algorithm.reduction == "bnpo" else None,
        not_a_derivative=STRAIGHT if algorithm.clamp == "straight_through" else None,
        needs_finite_teacher=UNCLAMPED if unclamped else None,
        silent_without_signal=algorithm.beta == 0.0,
    )


def luffy(name: str, **settings) -> Case:
    algorithm = LUFFY(**settings)
    shared = {f.name: getattr(algorithm, f.name) for f in fields(GRPO)}
    return Case(
        f"luffy {name}",
        algorithm,
        without_traces=GRPO(**shared),
        depends_on_split=BNPO if algorithm.reduction == "bnpo" else None,
        silent_without_signal=algorithm.beta == 0.0,
    )


def distilling(name: str, algorithm: Distillation) -> Case:
    """A distillation loss: alone, or beside GRPO's surrogate with a weight of 1."""
    kind = algorithm.measure
    infinite = kind.kind == "reverse_kl" or (kind.kind, kind.weight) == ("jsd", 1.0)
    joint = algorithm.reward_weight == 1.0
    shared = {f.name: getattr(algorithm, f.name) for f in fields(GRPO)}
    alone = algorithm.reward_weight == 0.0 and not isinstance(algorithm, MiniLLM)
    return Case(
        f"{type(algorithm).__name__} {name}",
        algorithm,
        base=GRPO(**shared) if joint else None,
        teacher_off={"teacher_weight": 0.0} if joint else None,
        depends_on_split=BNPO if algorithm.reduction == "bnpo" else None,
        needs_finite_teacher=INFINITE if infinite else None,
        without_surrogate=ALONE if alone else None,
        silent_without_signal=False,
        lowers_teacher_kl=True,
    )


def carrying(name: str, case: Case, *components: Component, **claims) -> Case:
    """A case's algorithm with components; `claims` are what they change of what is claimed."""
    assert isinstance(case.algorithm, Algorithm)
    assert isinstance(case.base, Algorithm | None)
    return replace(
        case,
        name=f"{case.name} + {name}",
        algorithm=Composed(case.algorithm, components),
        base=None if case.base is None else Composed(case.base, components),
        **claims,
    )


PULLS = {"silent_without_signal": False}  # a bonus: it has a gradient without any reward
PLAIN, TOKEN_MEAN = grpo("plain", beta=0.0), Case("DAPO", DAPO())
TAUGHT = rlad("plain")
ME = CEEH(entropy_coefficient=0.05)
EA = CEEH(entropy="ea", ea_alpha=0.4)
LENGTH = CEEH(entropy=None)
CODES = CEEH(variant="official_code", entropy_coefficient=0.05)
# Everything in the window is taken, so that nothing is drawn: the draw has its own tests.
CLIP_COV = ClipCov(share=1.0, low=0.2, high=0.9)
KL_COV = KLCov(share=1 / 3)
OF_MOMENTS = {"batch_statistic": MOMENTS}

CARRYING = [
    carrying("no component", PLAIN),
    carrying("ME", PLAIN, ME, **PULLS),
    carrying("ME", grpo("bnpo", beta=0.0, reduction="bnpo"), ME, **PULLS),
    carrying("ME", TOKEN_MEAN, ME, **PULLS),
    carrying("ME", TAUGHT, ME, **PULLS),
    carrying("ME as printed", TAUGHT, replace(ME, anneal="cosine"), **PULLS),
    carrying("ME, official code", PLAIN, CODES, batch_statistic=WEIGHTED, **PULLS),
    carrying("EA", PLAIN, EA, not_a_derivative=DETACHED),
    carrying("EA", TAUGHT, EA, not_a_derivative=DETACHED),
    carrying("ME", grpo("gspo", beta=0.0, ratio_level="sequence"), ME, **PULLS),
    carrying("length alone", TAUGHT, LENGTH),
    carrying("entropy bonus", PLAIN, EntropyBonus(), **PULLS),
    carrying("adaptive entropy", TAUGHT, AdaptiveEntropy(), **PULLS),
    carrying("length, adaptive entropy", PLAIN, LENGTH, AdaptiveEntropy(), **PULLS),
    carrying("Clip-Cov", PLAIN, CLIP_COV, **OF_MOMENTS),
    carrying("Clip-Cov", TAUGHT, CLIP_COV, **OF_MOMENTS),
    carrying("KL-Cov", PLAIN, KL_COV, **OF_MOMENTS),
    carrying("80/20", TOKEN_MEAN, HighEntropyTokens(share=1 / 3), batch_statistic=QUANTILE),
    carrying("80/20", TAUGHT, HighEntropyTokens(share=1 / 3), batch_statistic=QUANTILE),
    carrying("ME", luffy("plain"), ME, without_traces=None, **PULLS),
    carrying("80/20, ME", TAUGHT, HighEntropyTokens(), ME, batch_statistic=QUANTILE, **PULLS),
]


def taught(algorithm: TeacherGap, name: str = "", **claims) -> Case:
    """Distillation pulls without reward signal too, and lowers the KL to the teacher; the base is
    GRPO with the settings that the two share."""
    shared = {f.name: getattr(algorithm, f.name) for f in fields(GRPO)}
    has_base = claims.pop("has_base", True)
    given = {
        "base": GRPO(**shared) if has_base else None,
        "teacher_off": {"teacher_weight": 0.0} if has_base else None,
        "depends_on_split": BNPO if algorithm.reduction == "bnpo" else None,
        "silent_without_signal": False,
        "lowers_teacher_kl": True,
    }
    title = f"{type(algorithm).__name__} {name}".strip()
    return Case(title, algorithm, **(given | claims))


ONLY_TEACHER = {"has_base": False}
NO_PULL = {"silent_without_signal": True, "lowers_teacher_kl": None}
TAUGHT_BY_GAPS = [
    taught(OPD(), **ONLY_TEACHER),
    taught(OPD(discount=0.6), "discounted", **ONLY_TEACHER),
    taught(OPD(eos="drop", gap_bound=0.5), "bounded, nothing at the end", **ONLY_TEACHER),
    taught(OPD(reward_weight=1.0), "with rewards"),
    taught(OPD(reward_weight=1.0, discount=1.0, reduction="grpo"), "with rewards, sums"),
    taught(KDRL()),
    taught(KDRL(estimator="k3", teacher_weight=0.5), "k3"),
    taught(KDRL(estimator="k1_advantage", teacher_weight=0.5), "k1 as advantage"),
    taught(KDRL(teacher_weight=0.5, eos="drop", gap_bound=0.7), "nothing at the end"),
    taught(KDRL(teacher_weight=0.5, mask="correct_answers"), "mask"),
    taught(KDRL(teacher_weight=0.5, mask="solved_groups", estimator="k1_advantage"), "solved"),
    taught(KDRL(teacher_weight=0.5, ratio_level="sequence"), "sequence"),
    taught(KDRL(teacher_weight=0.5, reduction="bnpo", beta=0.1), "bnpo with reference"),
    taught(SRPO(), **ONLY_TEACHER),
    taught(SRPO(teacher_weight=0.3, eos="drop"), "nothing at the end", **ONLY_TEACHER),
    taught(HDPO(teacher_weight=0.5)),
    taught(HDPO(teacher_weight=0.5, reduction="dr_grpo", eos="drop"), "dr_grpo"),
    taught(RLSD(), **NO_PULL),
    taught(RLSD(teacher_weight=1.0, weight_bound=1.0, eos="drop"), "teacher alone", **NO_PULL),
    taught(TOPD(), **ONLY_TEACHER, batch_statistic=SCALED),
    taught(TOPD(standardise="none"), "not scaled", **ONLY_TEACHER),
    taught(TOPD(standardise="none", later="none", alpha=0.5), "own reward", **ONLY_TEACHER),
    taught(TOPD(standardise="none", later="none", alpha=1.0), "is OPD", **ONLY_TEACHER),
]

REWARDS_ALONE = [
    TOKEN_MEAN,
    Case("DAPO with reference", DAPO(beta=0.1), silent_without_signal=False),
    Case("Dr. GRPO", DrGRPO()),
    Case("GSPO", GSPO()),
    Case("CISPO", CISPO(), not_a_derivative=CONSTANT),
    # At 5 no weight of the toy is cut.
    Case("CISPO, narrow", CISPO(clip_high=0.2, clip_low=0.3), not_a_derivative=CONSTANT),
    Case("CISPO per answer", CISPO(reduction="grpo"), not_a_derivative=CONSTANT),
]

DISTILLING = [
    distilling("as the paper has it", GKD()),
    distilling("forward", GKD(divergence="forward_kl")),
    distilling("reverse", GKD(divergence="reverse_kl")),
    distilling("β 0.1", GKD(jsd_beta=0.1)),
    distilling("bnpo", GKD(reduction="bnpo")),
    distilling("beside rewards", GKD(reward_weight=1.0, teacher_weight=0.5)),
    distilling("beside few rewards", GKD(reward_weight=0.2)),
    distilling("full", OPDLoss()),
    distilling("top 2", OPDLoss(top_k=2)),
    distilling("top 2, forward", OPDLoss(top_k=2, divergence="forward_kl")),
    distilling("skewed", OPDLoss(divergence="skewed_kl")),
    distilling("skewed reverse", OPDLoss(divergence="skewed_reverse_kl")),
    distilling("dr_grpo", OPDLoss(reduction="dr_grpo")),
    distilling(
        "beside rewards",
        OPDLoss(reward_weight=1.0, teacher_weight=0.3, beta=0.1, clip_high=0.28),
    ),
    distilling("as the paper has it", MiniLLM()),
    distilling("discounted sum", MiniLLM(gamma=0.8, length_normalised=False)),
    distilling("beside rewards", MiniLLM(reward_weight=1.0, gamma=0.5)),
]

CASES = [
    *CARRYING,
    *REWARDS_ALONE,
    *TAUGHT_BY_GAPS,
    *DISTILLING,
    grpo("as the paper has it"),
    grpo("without reference", beta=0.0),
    grpo("bnpo", beta=0.0, reduction="bnpo"),
    grpo("dapo", beta=0.0, reduction="dapo", clip_high=0.28),
    grpo("dr_grpo", beta=0.0, reduction="dr_grpo", advantage_scale="none"),
    grpo("gspo", beta=0.0, ratio_level="sequence"),
    grpo("gspo dapo with reference", beta=0.1, ratio_level="sequence", reduction="dapo"),
    grpo("gspo bnpo with reference", beta=0.1, ratio_level="sequence", reduction="bnpo"),
    grpo("reference without correction", beta=0.1, kl_correction=False, reduction="dr_grpo"),
    grpo("dual clip", beta=0.0, dual_clip=1.5),
    rlad("as the paper has it"),
    rlad("bnpo", reduction="bnpo"),
    rlad("dapo", reduction="dapo"),
    rlad("dr_grpo", reduction="dr_grpo"),
    rlad("with reference", beta=0.1),
    rlad("with reference without correction", beta=0.1, kl_correction=False),
    rlad("teacher alone", alpha=0.0),
    rlad("mostly old policy", alpha=0.9),
    rlad("no teacher", alpha=1.0),
    rlad("straight-through", clamp="straight_through", alpha=0.3),
    rlad("unclamped", clamp="none"),
    rlad("narrow clamp", clamp_bound=0.3),
    rlad("arithmetic", mixture="arithmetic"),
    rlad("arithmetic straight-through", mixture="arithmetic", clamp="straight_through"),
    rlad("arithmetic unclamped", mixture="arithmetic", clamp="none", alpha=0.3),
    rlad("arithmetic, teacher alone", mixture="arithmetic", alpha=0.0),
    rlad("old policy at the end", eos="old_policy"),
    rlad("nothing at the end", eos="drop"),
    rlad("arithmetic, nothing at the end", mixture="arithmetic", eos="drop", alpha=0.3),
    rlad("sequence", ratio_level="sequence", reduction="dapo"),
    rlad("sequence, dual clip", ratio_level="sequence", dual_clip=1.5, beta=0.1),
    luffy("as the paper has it"),
    luffy("as the official script", clip_low=1.0, clip_high=1e9),
    luffy("dapo", reduction="dapo", clip_high=0.28, advantage_scale="sample_std"),
    luffy("bnpo", reduction="bnpo"),
    luffy("with reference, dual clip", beta=0.1, dual_clip=1.5, reduction="grpo"),
    luffy("narrow shaping", gamma=1e-3),
    Case("sft-kd", SFTKD(), silent_without_signal=False),
]

# Rows of somebody's own project, as module:name: RLKD_CASES=my_project.laws:CASES
if os.environ.get("RLKD_CASES"):
    CASES += resolve(os.environ["RLKD_CASES"], place="RLKD_CASES")

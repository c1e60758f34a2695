"""Towards the teacher or away from it: the first step with rewards, to first order, on random toys
of one token. `python -m tests.laws.test_directions` prints the table of rlkd/algorithms/README.md;
with a picture's name it also draws its plot.
"""

import math
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rlkd.algorithms.base import Algorithm
from rlkd.algorithms.grpo import GRPO
from rlkd.algorithms.kdrl import KDRL
from rlkd.algorithms.opd import OPD
from rlkd.algorithms.rlad import RLAD
from rlkd.algorithms.rlsd import RLSD
from rlkd.algorithms.srpo import SRPO
from rlkd.algorithms.topd import TOPD
from rlkd.batch import TokenBatch

PLAIN = GRPO(beta=0.0)


@dataclass(frozen=True)
class Toys:
    """N students and teachers over V answers of one token, logits drawn from a standard normal."""

    student_NV: Tensor
    teacher_NV: Tensor
    reward_NV: Tensor
    """1 for a right answer."""

    @classmethod
    def draw(cls, rewards: str, number: int = 2000, size: int = 8) -> "Toys":
        """`rewards`: `random`, each answer is right or wrong by a coin, whatever the teacher says;
        `teacher`, one answer is right, drawn from the teacher."""
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, number, size, generator=generator, dtype=torch.float64)
        student_NV, teacher_NV = logits.log_softmax(-1)
        if rewards == "random":
            reward_NV = torch.randint(2, (number, size), generator=generator).double()
        else:
            right_N1 = torch.multinomial(teacher_NV.exp(), 1, generator=generator)
            reward_NV = torch.zeros_like(student_NV).scatter_(-1, right_N1, 1.0)
        return cls(student_NV, teacher_NV, reward_NV)

    def advantages(self) -> Tensor:
        """(N, V): a group so great that it holds each answer as often as the student gives it."""
        p_NV = self.student_NV.exp()
        centred_NV = self.reward_NV - (p_NV * self.reward_NV).sum(-1, keepdim=True)
        std_N1 = (p_NV * centred_NV.square()).sum(-1, keepdim=True).sqrt()
        return torch.where(std_N1 > 0, centred_NV / std_N1, 0.0)


def weights(algorithm: Algorithm, toys: Toys) -> Tensor:
    """(N, V): what multiplies ∇log π of each answer in the first step, −∂loss/∂log π, from the
    algorithm's own loss."""
    flat = lambda value_NV: value_NV.reshape(-1, 1)  # noqa: E731
    logp_BT = flat(toys.student_NV).clone().requires_grad_()
    accuracy_NV = (toys.student_NV.exp() * toys.reward_NV).sum(-1, keepdim=True)
    batch = TokenBatch(
        logp_BT=logp_BT,
        old_logp_BT=logp_BT.detach(),
        entropy_BT=torch.zeros_like(logp_BT),
        mask_BT=torch.ones_like(logp_BT),
        advantage_BT=flat(toys.advantages()),
        teacher_logp_BT=flat(toys.teacher_NV),
        is_eos_BT=torch.zeros_like(logp_BT, dtype=torch.bool),
        correct_B1=flat(toys.reward_NV) >= 1.0,
        group_accuracy_B1=flat(accuracy_NV.expand_as(toys.student_NV)),
    )
    (gradient_BT,) = torch.autograd.grad(algorithm.loss(batch).loss, logp_BT)
    return -gradient_BT.view_as(toys.student_NV) * logp_BT.numel()


def moves_away(weight_NV: Tensor, toys: Toys) -> float:
    """Share of toys where a step along Σ_v π(v) w(v) ∇log π(v) raises KL(π_S ‖ π_T)."""
    p_NV = toys.student_NV.exp()

    def in_logits(value_NV: Tensor) -> Tensor:  # Σ_v π(v) value(v) ∇log π(v)
        return p_NV * (value_NV - (p_NV * value_NV).sum(-1, keepdim=True))

    change_N = (in_logits(weight_NV) * in_logits(toys.student_NV - toys.teacher_NV)).sum(-1)
    return (change_N > 0).double().mean().item()


def share(algorithm: Algorithm, rewards: str) -> float:
    toys = Toys.draw(rewards)
    return moves_away(weights(algorithm, toys), toys)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_trrd_has_its_analytic_weight(alpha):
    """A e^((1−α)δ) where the clip leaves it, α of that where the clamp holds δ."""
    toys, algorithm = Toys.draw("random"), RLAD(alpha=alpha)
    gap_NV, advantage_NV = toys.student_NV - toys.teacher_NV, toys.advantages()
    log_r_NV = (1 - alpha) * gap_NV.clamp(-1, 1)
    cut_NV = (advantage_NV > 0) & (log_r_NV > math.log(1.28))
    cut_NV |= (advantage_NV < 0) & (log_r_NV < math.log(0.8))
    held_NV = torch.ones_like(gap_NV).masked_fill(gap_NV.abs() > 1, alpha)
    want_NV = (advantage_NV * log_r_NV.exp() * held_NV).masked_fill(cut_NV, 0.0)
    torch.testing.assert_close(weights(algorithm, toys), want_NV, rtol=1e-9, atol=1e-9)


def test_trrd_moves_away_from_the_teacher_in_three_toys_of_ten():
    """Where rewards do not know the teacher GRPO does in half; the teacher's say takes it down, not
    to 0. Distillation without rewards never does."""
    assert share(PLAIN, "random") == pytest.approx(0.5, abs=0.04)
    assert share(RLAD(), "random") == pytest.approx(0.3, abs=0.04)
    assert share(RLAD(alpha=1.0), "random") == share(PLAIN, "random")
    assert share(OPD(), "random") == 0.0
    assert share(KDRL(teacher_weight=100.0), "random") < 0.01


def test_the_clip_is_what_takes_trrd_to_the_teacher_and_the_literal_clamp_what_keeps_it_away():
    """Outside the literal clamp a token's weight has the factor α: at 0.1 the tokens of which the
    teacher is surest count least."""
    unclipped = RLAD(clip_low=1.0, clip_high=1e9)
    assert share(unclipped, "random") == pytest.approx(share(PLAIN, "random"), abs=0.01)
    through = RLAD(alpha=0.1, clamp="straight_through")
    assert share(through, "teacher") < share(PLAIN, "teacher") < share(RLAD(alpha=0.1), "teacher")


def test_rewards_that_the_teacher_knows_move_towards_it():
    for algorithm in (PLAIN, RLAD(), KDRL(), SRPO()):
        assert share(algorithm, "teacher") < 0.6 * share(PLAIN, "random")


def plot(path: str) -> None:
    """Share of toys that move away, over TRRD's α."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    kinds = {
        "TRRD, the paper's clamp": lambda alpha: RLAD(alpha=alpha),
        "TRRD, clamp: straight_through": lambda alpha: RLAD(alpha=alpha, clamp="straight_through"),
        "TRRD, no clip": lambda alpha: RLAD(alpha=alpha, clip_low=1.0, clip_high=1e9),
    }
    alphas = [place / 40 for place in range(1, 41)]
    panels = zip(figure.subplots(1, 2, sharey=True), ("random", "teacher"), strict=True)
    for axes, rewards in panels:
        for name, made in kinds.items():
            axes.plot(alphas, [share(made(alpha), rewards) for alpha in alphas], label=name)
        for name, algorithm, line in (("GRPO", PLAIN, "--"), ("SRPO", SRPO(), ":")):
            axes.axhline(share(algorithm, rewards), color="black", ls=line, lw=1, label=name)
        axes.set_title({"random": "right by a coin", "teacher": "the teacher knows"}[rewards])
        axes.set_xlabel("α (1: GRPO)")
        axes.set_ylim(0, 0.56)
    figure.axes[0].set_ylabel("first steps that raise KL(π_S ‖ π_T)")
    figure.axes[1].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


if __name__ == "__main__":
    for picture in sys.argv[1:]:
        plot(picture)
    ROWS = {
        "GRPO": PLAIN,
        "RLAD, α = 0.9": RLAD(alpha=0.9),
        "RLAD, α = 0.5": RLAD(),
        "RLAD, α = 0.1": RLAD(alpha=0.1),
        "RLAD, α = 0.5, `clamp: straight_through`": RLAD(clamp="straight_through"),
        "RLAD, α = 0.1, `clamp: straight_through`": RLAD(alpha=0.1, clamp="straight_through"),
        "RLAD, α = 0.5, no clip": RLAD(clip_low=1.0, clip_high=1e9),
        "KDRL, β = 0.002": KDRL(),
        "KDRL, β = 0.1": KDRL(teacher_weight=0.1),
        "KDRL, β = 1": KDRL(teacher_weight=1.0),
        "RLSD": RLSD(),
        "SRPO": SRPO(),
        "TOP-D": TOPD(standardise="none"),
        "OPD": OPD(),
    }
    for title, algorithm in ROWS.items():
        found = [share(algorithm, rewards) for rewards in ("random", "teacher")]
        print(f"| {title} | {found[0]:.3f} | {found[1]:.3f} |")

"""The laws of the limits, for every algorithm of `cases.py`: no teacher, a teacher that agrees, one
that holds a token for impossible, extreme log-probs, no signal; and the gradient's meaning."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlkd.algorithms.base import Algorithm, LossOutput
from rlkd.algorithms.grpo import GRPO
from rlkd.batch import TokenBatch
from tests.laws import toy
from tests.laws.cases import CASES, Case
from tests.laws.toy import metrics, outcome, same

every = pytest.mark.parametrize("case", CASES, ids=str)
with_base = pytest.mark.parametrize("case", [c for c in CASES if c.base is not None], ids=str)


@with_base
@pytest.mark.parametrize("off_policy", [0.0, 0.5])
@pytest.mark.parametrize("teacher", ["given", "impossible", "absent"])
def test_without_the_teachers_weight_it_is_its_base_bit_for_bit(case, off_policy, teacher):
    dtype = torch.float32 if off_policy else torch.float64
    theta, fixed = toy.student(0, dtype), toy.rollouts(0, dtype, off_policy)
    batch = toy.token_batch(theta, fixed)
    if teacher == "impossible":
        nothing = torch.full_like(fixed.teacher_BTV, -math.inf)
        batch = replace(
            batch,
            teacher_logp_BT=torch.full_like(batch.logp_BT, -math.inf).detach(),
            distributions=toy.distributions(theta.expand_as(nothing), nothing),
        )
    elif teacher == "absent":
        batch = replace(batch, teacher_logp_BT=None, distributions=None)
    assert case.base is not None
    silenced = case.without_teacher()
    same(outcome(silenced, theta, batch), outcome(case.base, theta, batch), 0.0)
    found, wanted = metrics(silenced.loss(batch)), metrics(case.base.loss(batch))
    assert {name: found[name] for name in wanted} == wanted


def at_equal_teacher(case: Case, dtype: torch.dtype) -> tuple[tuple, tuple]:
    theta, fixed = toy.student(0, dtype), toy.rollouts(0, dtype, off_policy=0.0)
    logp = toy.logps(theta, fixed.token_BT).detach()
    fixed = replace(fixed, teacher_BTV=theta.detach().expand_as(fixed.teacher_BTV))
    batch = toy.token_batch(theta, fixed, teacher_logp_BT=logp, old_logp_BT=logp)
    assert case.base is not None
    return outcome(case.algorithm, theta, batch), outcome(case.base, theta, batch)


@with_base
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_teacher_that_equals_the_student_changes_nothing_at_the_first_update(case, dtype):
    """To the last bits only: alpha g + (1 − alpha) g is rounded, and so is logaddexp."""
    found, wanted = at_equal_teacher(case, dtype)
    if case.unequal_at_equal_teacher is None:
        same(found, wanted, 4 * torch.finfo(dtype).eps)
    else:
        same(found[:1], wanted[:1], 4 * torch.finfo(dtype).eps)
        assert not torch.allclose(found[1], wanted[1], rtol=1e-3), case.unequal_at_equal_teacher


def extreme(case: Case, teacher: list[float], advantage: float) -> tuple[LossOutput, Tensor]:
    """First update on tokens between certain and all but impossible, float32; the gradient in
    their log-probs and in the logits."""
    logp = torch.tensor([[0.0, -1e-7, -50.0, -1e4, -1e4]], requires_grad=True)
    logits, teacher_logits = (of_two(values) for values in (logp.detach()[0].tolist(), teacher))
    logits.requires_grad_()
    distributions = toy.distributions(logits, teacher_logits.nan_to_num(neginf=0.0))
    impossible = torch.tensor([min(0.0, *(t for t in teacher if t == -math.inf), 0.0), 0.0])
    distributions = replace(
        distributions, teacher_head=replace(distributions.teacher_head, bias_V=impossible)
    )
    batch = TokenBatch(
        logp_BT=logp,
        old_logp_BT=logp.detach(),
        entropy_BT=torch.zeros(1, 5),
        mask_BT=torch.ones(1, 5),
        advantage_BT=torch.tensor([[advantage]]),
        teacher_logp_BT=torch.tensor([teacher]),
        distributions=distributions,
        ref_logp_BT=logp.detach() + torch.tensor([-20.0, 20.0, 5.0, -5.0, 0.0]),
        is_eos_BT=torch.tensor([[False, False, False, False, True]]),
        hard_B1=torch.tensor([[True]]),
        correct_B1=torch.tensor([[advantage > 0.0]]),
        group_accuracy_B1=torch.tensor([[0.5 * (advantage > 0.0)]]),
        progress=toy.PROGRESS,
        entropy_coefficient=toy.ENTROPY_COEFFICIENT,
    )
    output = case.algorithm.loss(batch)
    leaves = (logp, logits)
    gradients = torch.autograd.grad(output.loss, leaves, materialize_grads=True)
    return output, torch.cat([gradient.flatten() for gradient in gradients])


def of_two(logps: list[float]) -> Tensor:
    """Logits of a vocabulary of two, (1, T, 2), where the first token, the sampled one, has about
    these log-probabilities."""
    return torch.tensor([[[x, 0.0 if x < -1.0 else -1e4] for x in logps]])


@every
@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_the_loss_is_finite_with_extreme_log_probs(case: Case, advantage: float):
    apart = 40.0 if case.needs_finite_teacher else 1e4
    for teacher in ([-apart, 0.0, -50.0 - apart, -1e4 + apart, -1e4 - apart], [0.0] * 5):
        if case.needs_finite_teacher:
            teacher = [
                max(t, s - 40) for t, s in zip(teacher, [0, 0, -50, -1e4, -1e4], strict=True)
            ]
        output, gradient = extreme(case, teacher, advantage)
        assert output.loss.isfinite()
        assert gradient.isfinite().all()
        assert all(math.isfinite(x) for x in metrics(output).values())


@every
@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_a_token_that_the_teacher_holds_for_impossible(case: Case, advantage: float):
    output, gradient = extreme(case, [-math.inf] * 5, advantage)
    assert all(math.isfinite(x) for x in metrics(output).values())
    finite = bool(output.loss.isfinite()) and bool(gradient.isfinite().all())
    if case.needs_finite_teacher is None:
        assert finite
    else:
        assert not finite, case.needs_finite_teacher


@every
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_is_the_derivative_of_the_loss(case: Case, seed: int):
    """Central differences along three random directions, float64."""
    theta, fixed = toy.student(seed), toy.rollouts(seed)
    _, gradient = outcome(case.algorithm, theta, toy.token_batch(theta, fixed))

    def loss(theta_TV: Tensor) -> float:
        return float(case.algorithm.loss(toy.token_batch(theta_TV.detach(), fixed)).loss)

    step, agreed = 1e-6, True
    for way in torch.randn(3, *theta.shape, generator=torch.Generator().manual_seed(seed)).double():
        slope = (loss(theta + step * way) - loss(theta - step * way)) / (2 * step)
        agreed &= slope == pytest.approx(float((gradient * way).sum()), rel=1e-6, abs=1e-8)
    assert agreed is (case.not_a_derivative is None), case.not_a_derivative


@every
def test_without_signal(case: Case):
    """All advantages 0: no gradient, where the row says so; else a pull that is not rewards'."""
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed, advantage_BT=torch.zeros_like(fixed.advantage_BT))
    _, gradient = outcome(case.algorithm, theta, batch)
    assert bool((gradient == 0).all()) is case.silent_without_signal


def step_towards_teacher(algorithm: Algorithm, rate: float = 1e-2) -> tuple[float, float]:
    """KL(π_S ‖ π_T) before and after one step without reward signal. Eight rows whose token counts
    are 8 π_S exactly: the gradient is the exact expectation over the student's samples."""
    counts = torch.tensor([4, 2, 1, 1])
    theta = (counts / 8).double().log().unsqueeze(0).requires_grad_()
    teacher = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).log()
    token_BT = torch.arange(4).repeat_interleave(counts).unsqueeze(-1)
    logp_BT = toy.logps(theta, token_BT)
    batch = TokenBatch(
        logp_BT=logp_BT,
        old_logp_BT=logp_BT.detach(),
        entropy_BT=torch.zeros_like(logp_BT),
        mask_BT=torch.ones_like(logp_BT),
        advantage_BT=algorithm.advantages(torch.ones(1, 8, dtype=torch.float64)).T,
        teacher_logp_BT=toy.logps(teacher, token_BT),
        ref_logp_BT=logp_BT.detach(),
        is_eos_BT=torch.zeros_like(logp_BT, dtype=torch.bool),
        correct_B1=torch.zeros(8, 1, dtype=torch.bool),  # the group failed
        group_accuracy_B1=torch.zeros(8, 1, dtype=torch.float64),
        distributions=toy.distributions(theta.expand(8, 1, -1), teacher.expand(8, 1, -1)),
    )
    (gradient,) = torch.autograd.grad(algorithm.loss(batch).loss, theta)
    moved = theta - rate * gradient
    return toy.kl_to_teacher(theta, teacher), toy.kl_to_teacher(moved, teacher)


class Towards(GRPO):
    """The law's own example: the score-function gradient of the reverse KL, which must pass, and
    with `sign` −1 one that must not."""

    sign = 1.0

    def loss(self, batch: TokenBatch) -> LossOutput:
        assert batch.teacher_logp_BT is not None
        gap_BT = (batch.logp_BT - batch.teacher_logp_BT).detach()
        return LossOutput(self.sign * (gap_BT * batch.logp_BT).mean(), {})


class Away(Towards):
    sign = -1.0


DIRECTED = [c for c in CASES if c.lowers_teacher_kl is not None]
OWN = [
    Case("an example that does", Towards(), lowers_teacher_kl=True),
    Case("an example that does not", Away(), lowers_teacher_kl=False),
]


@pytest.mark.parametrize("case", DIRECTED + OWN, ids=str)
def test_the_direction_of_a_step_without_signal(case: Case):
    assert isinstance(case.algorithm, Algorithm)
    before, after = step_towards_teacher(case.algorithm)
    assert (after < before) is case.lowers_teacher_kl

"""The laws of answers that the teacher wrote (`off_policy_B1`)."""

import math
from dataclasses import replace

import pytest
import torch

from rlkd.algorithms.base import ClippedPolicyGradient
from rlkd.algorithms.component import Composed
from rlkd.algorithms.luffy import LUFFY
from rlkd.algorithms.sft_kd import SFTKD
from rlkd.batch import TokenBatch
from tests.laws import toy
from tests.laws.cases import CASES, Case
from tests.laws.toy import metrics, outcome, same

every = pytest.mark.parametrize("case", CASES, ids=str)
JOINT = [c for c in CASES if c.without_traces is not None]
# With a reference its penalty is corrected by π_S/π_old, on every row alike.
PURE = [
    c
    for c in CASES
    if (c.without_traces is not None or c.algorithm == SFTKD())
    and getattr(c.algorithm, "beta", 0.0) == 0.0
]


@pytest.mark.parametrize("case", JOINT, ids=str)
@pytest.mark.parametrize("off_policy", [0.0, 0.5])
@pytest.mark.parametrize("marks", ["absent", "all False"])
def test_without_traces_it_is_its_base_bit_for_bit(case: Case, off_policy: float, marks: str):
    dtype = torch.float32 if off_policy else torch.float64
    theta, fixed = toy.student(0, dtype), toy.rollouts(0, dtype, off_policy)
    none = None if marks == "absent" else torch.zeros_like(fixed.off_policy_B1)
    batch = toy.token_batch(theta, fixed, off_policy_B1=none)
    assert case.without_traces is not None
    same(outcome(case.algorithm, theta, batch), outcome(case.without_traces, theta, batch), 0.0)
    found, wanted = (metrics(a.loss(batch)) for a in (case.algorithm, case.without_traces))
    assert {name: found[name] for name in wanted} == wanted
    reward_NG = torch.tensor([[1.0, 0.0, 0.5, math.nan]])
    both = [a.advantages(reward_NG) for a in (case.algorithm, case.without_traces)]
    assert torch.equal(*both)


@pytest.mark.parametrize("case", JOINT, ids=str)
def test_with_traces_it_is_not_its_base(case: Case):
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed)
    assert case.without_traces is not None
    found, wanted = (outcome(a, theta, batch)[1] for a in (case.algorithm, case.without_traces))
    assert not torch.allclose(found, wanted, rtol=1e-2)


@pytest.mark.parametrize("case", PURE, ids=str)
def test_what_the_old_policy_thought_of_a_trace_is_irrelevant(case: Case):
    """Its ratio is to π_φ; only a reference penalty's correction reads π_S/π_old there."""
    theta, fixed = toy.student(), toy.rollouts()
    other = torch.where(fixed.off_policy_B1, -7.0, fixed.old_logp_BT)
    assert not torch.equal(other, fixed.old_logp_BT)
    batches = [toy.token_batch(theta, fixed, old_logp_BT=old) for old in (fixed.old_logp_BT, other)]
    found, wanted = (outcome(case.algorithm, theta, batch) for batch in batches)
    same(found, wanted, 0.0)
    assert metrics(case.algorithm.loss(batches[0])) == metrics(case.algorithm.loss(batches[1]))


@every
def test_entropy_and_clip_shares_are_of_the_students_own_tokens(case: Case):
    inner = case.algorithm.algorithm if isinstance(case.algorithm, Composed) else case.algorithm
    if not isinstance(inner, ClippedPolicyGradient):
        assert "entropy" not in inner.loss(toy.token_batch(toy.student(), toy.rollouts())).means
        return
    theta, fixed = toy.student(), toy.rollouts()
    means = inner.loss(toy.token_batch(theta, fixed)).means
    own = int((fixed.mask_BT * ~fixed.off_policy_B1).sum())
    assert own < fixed.mask_BT.sum()
    shares = {"clip_ratio/region_mean", "clip_ratio/low_mean"} & means.keys()
    assert shares or "clip_ratio/capped" in means
    for name in ("entropy", *shares):
        assert int(means[name][1]) == own, name


@pytest.mark.parametrize("case", PURE, ids=str)
@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_traces_that_the_student_holds_for_impossible_are_finite(case: Case, advantage: float):
    logp = torch.tensor([[0.0, -1e-7, -50.0, -1e4, -1e4]], requires_grad=True)
    batch = TokenBatch(
        logp_BT=logp,
        old_logp_BT=logp.detach() - 1e4,  # exp of the ratio would overflow
        entropy_BT=torch.zeros(1, 5),
        mask_BT=torch.ones(1, 5),
        advantage_BT=torch.tensor([[advantage]]),
        off_policy_B1=torch.tensor([[True]]),
    )
    output = case.algorithm.loss(batch)
    (gradient,) = torch.autograd.grad(output.loss, logp)
    assert output.loss.isfinite()
    assert gradient.isfinite().all()
    assert all(math.isfinite(x) for x in metrics(output).values())


@pytest.mark.parametrize("algorithm", [SFTKD(), LUFFY()], ids=["sft-kd", "luffy"])
def test_a_step_on_the_teachers_answers_lowers_the_forward_kl(algorithm):
    """On the exact expectation over π_T: rows whose token counts are 8 π_T, all of them good."""
    counts = torch.tensor([1, 1, 2, 4])
    teacher = (counts / 8).double().log().unsqueeze(0)
    theta = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).log().requires_grad_()
    token_BT = torch.arange(4).repeat_interleave(counts).unsqueeze(-1)
    logp_BT = toy.logps(theta, token_BT)
    batch = TokenBatch(
        logp_BT=logp_BT,
        old_logp_BT=logp_BT.detach(),
        entropy_BT=torch.zeros_like(logp_BT),
        mask_BT=torch.ones_like(logp_BT),
        advantage_BT=torch.ones(8, 1, dtype=torch.float64),
        off_policy_B1=torch.ones(8, 1, dtype=torch.bool),
    )
    (gradient,) = torch.autograd.grad(algorithm.loss(batch).loss, theta)
    before, after = (
        toy.kl_to_teacher(teacher, at.detach()) for at in (theta, theta - 1e-2 * gradient)
    )
    assert after < before


def test_a_mark_for_each_row_is_wanted():
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed)
    with pytest.raises(ValueError, match="off_policy_B1 has shape"):
        replace(batch, off_policy_B1=fixed.off_policy_B1.squeeze(1))

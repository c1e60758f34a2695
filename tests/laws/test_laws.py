"""The laws that every algorithm keeps, or says in `cases.py` why not: what padding, masks,
order and split may do, and what a loss may do to its batch. Limits: `test_limits.py`."""

import math
import pickle
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from rlkd.batch import TokenBatch
from rlkd.tracking import glossary
from tests.laws import toy
from tests.laws.cases import CASES, Case
from tests.laws.toy import metrics, outcome, same

every = pytest.mark.parametrize("case", CASES, ids=str)
PER_TOKEN = [
    f.name for f in fields(TokenBatch) if f.name.endswith("_BT") and f.name != "divergence_BT"
]
HUGE = [1e300, -1e300, math.inf, -math.inf, math.nan]


def padded(batch: TokenBatch, garbage: Tensor, columns: int = 5) -> TokenBatch:
    """Masked columns on the right, holding `garbage` in every field that has a value per token."""
    changes = {}
    for name in PER_TOKEN:
        value = getattr(batch, name)
        if value is not None and value.shape == batch.mask_BT.shape:
            if name == "mask_BT":
                extra = torch.zeros(len(value), columns)
            else:
                extra = garbage if name in ("logp_BT", "entropy_BT") else garbage.detach().flip(-1)
            changes[name] = torch.cat([value, extra.expand(len(value), -1).to(value.dtype)], -1)
    assert batch.distributions is not None
    hidden = {}
    for name, extra in (("student_BTH", garbage), ("teacher_BTH", garbage.detach().flip(-1))):
        value = getattr(batch.distributions, name)
        extra_BTH = extra[:, None].expand(len(value), -1, value.shape[-1]).to(value.dtype)
        hidden[name] = torch.cat([value, extra_BTH], 1)
    changes["distributions"] = replace(batch.distributions, **hidden)
    return replace(batch, **changes)


@every
@pytest.mark.parametrize("huge", [False, True], ids=["plausible", "huge"])
def test_padding_changes_nothing(case: Case, huge: bool):
    theta, fixed = toy.student(), toy.rollouts()
    advantage = fixed.advantage_BT * torch.linspace(0.5, 1.5, fixed.mask_BT.shape[1])
    batch = toy.token_batch(theta, fixed, advantage_BT=advantage)
    values = HUGE if huge else [-1.0, -30.0, 0.0, -0.1, -5.0]
    garbage = torch.tensor(values, dtype=batch.logp_BT.dtype, requires_grad=True)
    wide = padded(batch, garbage)
    same(outcome(case.algorithm, theta, wide), outcome(case.algorithm, theta, batch), 1e-12)
    found, wanted = case.algorithm.loss(wide), case.algorithm.loss(batch)
    assert metrics(found) == pytest.approx(metrics(wanted))
    (gradient,) = torch.autograd.grad(found.loss, garbage)
    assert gradient.tolist() == [0.0] * len(values)


@every
@pytest.mark.parametrize("value", [-2.0, -1e300, math.inf, math.nan])
def test_masked_tokens_get_no_gradient_and_change_nothing(case: Case, value: float):
    """Also in the middle of a row, as tool output is."""
    theta, fixed = toy.student(), toy.rollouts()
    tool = torch.zeros_like(fixed.mask_BT, dtype=torch.bool)
    tool[:, 1::3] = True
    mask = fixed.mask_BT.masked_fill(tool, 0.0)
    batch = toy.token_batch(theta, fixed, mask_BT=mask)
    wanted = case.algorithm.loss(batch)
    changes = {}
    for name in ("logp_BT", "old_logp_BT", "teacher_logp_BT", "ref_logp_BT", "weight_BT"):
        changes[name] = getattr(batch, name).detach().masked_fill(mask == 0, value)
    changes["is_eos_BT"] = fixed.is_eos_BT | (mask == 0)
    changes["logp_BT"].requires_grad_()
    changes["entropy_BT"] = batch.entropy_BT.detach().masked_fill(mask == 0, value).requires_grad_()
    assert batch.distributions is not None
    hidden = {
        name: getattr(batch.distributions, name).detach().masked_fill(mask[..., None] == 0, value)
        for name in ("student_BTH", "teacher_BTH")
    }
    hidden["student_BTH"].requires_grad_()
    changes["distributions"] = replace(batch.distributions, **hidden)
    found = case.algorithm.loss(replace(batch, **changes))
    assert found.loss == wanted.loss
    assert metrics(found) == metrics(wanted)
    leaves = (changes["logp_BT"], changes["entropy_BT"], hidden["student_BTH"])
    for gradient in torch.autograd.grad(found.loss, leaves, materialize_grads=True):
        assert (gradient[mask == 0] == 0).all()
        assert gradient.isfinite().all()


@every
@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_the_masks_type_is_irrelevant(case: Case, kind: torch.dtype):
    theta, fixed = toy.student(), toy.rollouts()
    wanted = outcome(case.algorithm, theta, toy.token_batch(theta, fixed))
    batch = toy.token_batch(theta, fixed, mask_BT=fixed.mask_BT.to(kind))
    same(outcome(case.algorithm, theta, batch), wanted, 1e-12)


@every
def test_the_order_of_rows_is_irrelevant(case: Case):
    theta, fixed = toy.student(), toy.rollouts()
    order = torch.tensor([3, 7, 0, 5, 1, 6, 4, 2])
    found = outcome(case.algorithm, theta, toy.token_batch(theta, fixed.rows(order)))
    same(found, outcome(case.algorithm, theta, toy.token_batch(theta, fixed)), 1e-12)


def split(case: Case, ranks: int, accumulation: int, **changes) -> tuple:
    """Loss, gradient and metrics of one optimiser step whose rows are dealt out to `ranks`
    processes and, on each, to `accumulation` equal micro-batches; gradients are averaged over
    processes, as DDP does, and summed over micro-batches."""
    theta, fixed = toy.student(), replace(toy.rollouts(), **changes)
    tokens_per_rank = fixed.mask_BT.sum() / ranks
    loss, gradient, sums = torch.zeros(()), torch.zeros_like(theta), {}
    for rows in torch.arange(len(fixed.mask_BT)).chunk(ranks * accumulation):
        batch = toy.token_batch(
            theta,
            fixed.rows(rows),
            accumulation=float(accumulation),
            step_tokens_per_rank=tokens_per_rank,
        )
        share = outcome(case.algorithm, theta, batch)
        loss, gradient = loss + share[0] / ranks, gradient + share[1] / ranks
        for name, value in metrics(case.algorithm.loss(batch)).items():
            sums[name] = sums.get(name, 0.0) + value
    return (loss, gradient), sums


SPLITS = [(1, 2), (1, 8), (2, 1), (2, 2), (4, 1)]  # (ranks, micro-batches on each)


def depends(case: Case) -> bool:
    return bool(case.depends_on_split or case.batch_statistic)


@pytest.mark.parametrize("case", [c for c in CASES if not depends(c)], ids=str)
def test_any_split_of_the_global_batch_gives_the_same_step(case: Case):
    whole, sums = split(case, 1, 1)
    assert whole[1].abs().sum() > 0.01
    for ranks, accumulation in SPLITS:
        found, found_sums = split(case, ranks, accumulation)
        same(found, whole, 1e-9)
        assert found_sums == pytest.approx(sums), "Σ sums / Σ numbers depends on the split"


@pytest.mark.parametrize("case", [c for c in CASES if c.depends_on_split is not None], ids=str)
def test_the_listed_exceptions_do_depend_on_the_split(case: Case):
    """… and on nothing else: with equally many tokens in every row they do not."""
    ones = torch.ones_like(toy.rollouts().mask_BT)
    whole, sums = split(case, 1, 1)
    full, _ = split(case, 1, 1, mask_BT=ones)
    for ranks, accumulation in SPLITS:
        found, found_sums = split(case, ranks, accumulation)
        assert not torch.allclose(found[1], whole[1], rtol=1e-3), case.depends_on_split
        assert found_sums == pytest.approx(sums)
        same(split(case, ranks, accumulation, mask_BT=ones)[0], full, 1e-9)


@every
def test_what_depends_on_the_micro_batch_says_so(case: Case):
    """`micro_batch_statistic` is what keeps the trainer from regrouping rows."""
    assert (case.algorithm.micro_batch_statistic is not None) == depends(case)


def twice(fixed: toy.Rollouts) -> toy.Rollouts:
    return fixed.rows(torch.arange(len(fixed.mask_BT)).repeat(2))


@pytest.mark.parametrize("case", [c for c in CASES if c.batch_statistic], ids=str)
def test_batch_statistics_do_depend_on_the_split(case: Case):
    """… and on nothing else: two micro-batches that hold the same rows have the statistic of the
    whole."""
    whole = split(case, 1, 1)[0][1]
    found = [split(case, *way)[0][1] for way in SPLITS]
    assert not all(torch.allclose(x, whole, rtol=1e-3) for x in found), case.batch_statistic
    assert whole.abs().sum() > 0.01
    theta, fixed = toy.student(), twice(toy.rollouts())
    tokens, rows = fixed.mask_BT.sum(), torch.arange(len(fixed.mask_BT))
    whole = outcome(case.algorithm, theta, toy.token_batch(theta, fixed))
    halves = [
        toy.token_batch(theta, fixed.rows(half), accumulation=2.0, step_tokens_per_rank=tokens)
        for half in rows.chunk(2)
    ]
    parts = [outcome(case.algorithm, theta, half) for half in halves]
    same((parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]), whole, 1e-12)


def test_without_step_tokens_the_micro_batch_is_the_whole_step():
    """`dapo` divides by the batch's own tokens where the step's are not given."""
    case = next(c for c in CASES if c.name == "grpo dapo")
    theta, fixed = toy.student(), toy.rollouts()
    found = outcome(case.algorithm, theta, toy.token_batch(theta, fixed))
    same(found, split(case, 1, 1)[0], 1e-12)


@every
def test_weights_multiply_the_surrogate(case: Case):
    """Factor 1 is bit for bit no factor; the loss is linear in the weight of any token."""
    theta, fixed = toy.student(), toy.rollouts()
    ones = torch.ones_like(fixed.weight_BT)
    plain = outcome(case.algorithm, theta, toy.token_batch(theta, fixed, weight_BT=None))
    for weight in (ones, ones[:, :1]):
        batch = toy.token_batch(theta, fixed, weight_BT=weight)
        same(outcome(case.algorithm, theta, batch), plain, 0.0)
    at = [
        outcome(case.algorithm, theta, toy.token_batch(theta, fixed, weight_BT=fixed.weight_BT * w))
        for w in (0.0, 1.0, 2.0)
    ]
    same(
        (at[2][0] - at[1][0], at[2][1] - at[1][1]),
        (at[1][0] - at[0][0], at[1][1] - at[0][1]),
        1e-12,
    )
    changes = not torch.allclose(at[1][1], at[0][1])
    assert changes is (case.without_surrogate is None), case.without_surrogate


@every
def test_it_holds_no_state_and_changes_no_input(case: Case):
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed)
    before = {n: getattr(batch, n).detach().clone() for n in PER_TOKEN}
    first, second = case.algorithm.loss(batch), case.algorithm.loss(batch)
    assert first.loss == second.loss
    assert metrics(first) == metrics(second)
    assert all(torch.equal(getattr(batch, n), value) for n, value in before.items())
    assert not any(t.requires_grad for pair in first.means.values() for t in pair)
    assert all(n >= 0 for _, n in first.means.values())
    assert pickle.loads(pickle.dumps(case.algorithm)) == case.algorithm
    assert hash(case.algorithm) == hash(replace(case.algorithm))


@every
def test_every_measure_is_in_the_glossary(case: Case):
    theta, fixed = toy.student(), toy.rollouts()
    for name in case.algorithm.loss(toy.token_batch(theta, fixed)).means:
        assert glossary.explain(f"train/{name}") is not None, name

"""The objectives of answers that the teacher wrote: by hand, by twins, by finite differences."""

import dataclasses
import math

import pytest
import torch

from rlkd.algorithms.luffy import LUFFY
from rlkd.algorithms.sft_kd import SFTKD
from rlkd.objectives.off_policy import shaped_importance, shaped_surrogate
from tests.laws import toy
from tests.reference import off_policy as twins
from tests.reference.losses import TwinBatch


def test_the_shaping_by_hand():
    """γ = 0.1: f(0.1) = 1/2, f(0.4) = 4/5, f(1) = 10/11; f → 0 at an impossible token."""
    logp = torch.tensor([[0.1, 0.4, 1.0, 0.0]], dtype=torch.float64).log()
    found = shaped_importance(logp, 0.1)
    assert found.tolist() == [pytest.approx([0.5, 0.8, 10 / 11, 0.0], abs=1e-15)]
    bad = shaped_surrogate(logp, torch.tensor([[-2.0]], dtype=torch.float64), 0.1)
    assert bad.tolist() == [pytest.approx([1.0, 1.6, 20 / 11, 0.0], abs=1e-15)]


def test_the_gradient_of_the_shaping_by_hand():
    """d(−f A)/d log π = −A π γ / (π + γ)²: at π = γ a quarter, its greatest; at π = 1 10/121."""
    logp = torch.tensor([[0.1, 1.0, 0.001]], dtype=torch.float64).log().requires_grad_()
    shaped_surrogate(logp, torch.ones(1, 1, dtype=torch.float64), 0.1).sum().backward()
    assert logp.grad is not None
    want = [-0.25, -10 / 121, -0.001 * 0.1 / 0.101**2]
    assert logp.grad.tolist() == [pytest.approx(want, rel=1e-12)]


def test_it_is_the_derivative():
    logp = torch.linspace(-6, 0, 7, dtype=torch.float64).unsqueeze(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: shaped_importance(x, 0.1), logp)


def twin_batch(batch) -> TwinBatch:
    return TwinBatch(
        logp=batch.logp_BT.tolist(), old=batch.old_logp_BT.tolist(), mask=batch.mask_BT.tolist(),
        advantage=batch.advantage_BT.tolist(), weight=batch.weight_BT.tolist(),
        max_length=toy.MAX_LENGTH,
    )  # fmt: skip


@pytest.mark.parametrize(
    "algorithm",
    [LUFFY(), LUFFY(gamma=0.5, reduction="dapo", clip_high=0.28), LUFFY(dual_clip=1.5)],
    ids=["paper", "dapo", "dual clip"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_luffy_equals_its_slow_twin(algorithm, seed):
    fixed = toy.rollouts(seed)
    batch = toy.token_batch(toy.student(seed), fixed)
    marks = fixed.off_policy_B1.squeeze(1).tolist()
    want = twins.luffy_loss(twin_batch(batch), marks, **dataclasses.asdict(algorithm))
    assert float(algorithm.loss(batch).loss.detach()) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cross_entropy_equals_its_slow_twin(seed):
    batch = toy.token_batch(toy.student(seed), toy.rollouts(seed))
    want = twins.cross_entropy(twin_batch(batch))
    assert float(SFTKD().loss(batch).loss.detach()) == pytest.approx(want, rel=1e-12)


def test_cross_entropy_by_hand():
    """Three counted tokens of probability 1/2, 1/4, 1/8: (1 + 2 + 3)/3 ln 2; no reward."""
    logp = torch.tensor([[0.5, 0.25], [0.125, 1.0]], dtype=torch.float64).log().requires_grad_()
    batch = toy.TokenBatch(
        logp_BT=logp, old_logp_BT=logp.detach(), entropy_BT=torch.zeros_like(logp),
        mask_BT=torch.tensor([[1, 1], [1, 0]]), advantage_BT=torch.tensor([[-3.0], [9.0]]),
    )  # fmt: skip
    loss = SFTKD().loss(batch).loss
    assert float(loss.detach()) == pytest.approx(2 * math.log(2))
    loss.backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == [pytest.approx([-1 / 3, -1 / 3]), pytest.approx([-1 / 3, 0])]
    assert SFTKD().advantages(torch.tensor([[1.0, math.nan]])).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 0.0}, "gamma is 0.0; it must be above 0"),
        ({"off_policy": -1}, "off_policy is -1; it must be at least 0"),
        ({"ratio_level": "sequence"}, "ratio_level is 'sequence'; it must be 'token'"),
    ],
)
def test_luffy_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        LUFFY(**settings)


def test_which_rows_are_traces():
    assert LUFFY().off_policy_rows(8) == 1
    assert SFTKD().off_policy_rows(8) == 8
    assert not LUFFY(off_policy=0).needs_traces(8)
    with pytest.raises(ValueError, match="off_policy is 8 of groups of 8; at least one"):
        LUFFY(off_policy=8).off_policy_rows(8)
    with pytest.raises(ValueError, match=r"beta is 0\.1; it must be 0"):
        SFTKD(beta=0.1)

"""Rewards beside the exact KL to the teacher: what it is made of, and its best policy."""

import pytest
import torch

from rlkd import GRPO, OPDLoss
from rlkd.batch import TokenBatch
from tests.laws import toy


def beside(weight):
    return OPDLoss(reward_weight=1.0, teacher_weight=weight)


def gradient(algorithm, **changes):
    theta = toy.student()
    loss = algorithm.loss(toy.token_batch(theta, toy.rollouts(), **changes)).loss
    return torch.autograd.grad(loss, theta)[0]


def test_it_is_grpo_and_the_loss_in_one_update():
    grpo = GRPO(beta=0.0, reduction="dapo")
    assert torch.equal(gradient(beside(0.0)), gradient(grpo))
    both = gradient(grpo) + 0.25 * gradient(OPDLoss())
    torch.testing.assert_close(gradient(beside(0.25)), both)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_teacher_tilted_by_the_rewards_is_where_its_gradient_is_zero(weight):
    """Answers of one token from four, each weighted by its probability: at π ∝ π_T exp(A/λ) with a
    baseline under which A has mean 0 the expected gradient vanishes, and at the teacher not."""
    teacher = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).log()
    reward = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    tilted = teacher + reward / weight

    def expected_gradient(logits):
        theta = logits.clone().requires_grad_()
        logp = theta.log_softmax(-1)
        advantage = reward - (logp.exp() * reward).sum().detach()
        total = torch.zeros_like(theta)
        for token in range(4):
            batch = TokenBatch(
                logp_BT=logp[token].view(1, 1),
                old_logp_BT=logp[token].detach().view(1, 1),
                entropy_BT=torch.zeros(1, 1, dtype=torch.float64),
                mask_BT=torch.ones(1, 1, dtype=torch.float64),
                advantage_BT=advantage[token].view(1, 1),
                teacher_logp_BT=teacher[token].view(1, 1),
                distributions=toy.distributions(theta[None, None], teacher[None, None]),
            )
            loss = beside(weight).loss(batch).loss
            grad = torch.autograd.grad(loss, theta, retain_graph=True)[0]
            total += logp[token].exp().detach() * grad
        return total

    torch.testing.assert_close(
        expected_gradient(tilted), torch.zeros(4).double(), atol=1e-9, rtol=0
    )
    assert expected_gradient(teacher).abs().max() > 0.05

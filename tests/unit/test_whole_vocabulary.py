"""Distillation losses: settings, MiniLLM's return, what the parts of a loss are."""

import math

import pytest
import torch

from rlkd import GKD, GRPO, MiniLLM, OPDLoss
from rlkd.batch import TokenBatch
from rlkd.objectives.returns import discounted_sum, future_return
from tests.laws import toy
from tests.reference import vocabulary as twin


def test_the_defaults_are_the_papers():
    assert (GKD().measure.kind, GKD().measure.weight, GKD().reduction) == ("jsd", 0.5, "grpo")
    assert GKD().on_policy_share == 1.0
    assert (OPDLoss().measure.kind, OPDLoss().measure.top_k) == ("reverse_kl", None)
    assert MiniLLM().measure.kind == "reverse_kl"
    assert (MiniLLM().gamma, MiniLLM().clip_low, MiniLLM().clip_high) == (1.0, 0.2, 0.2)
    for kind in (GKD, OPDLoss, MiniLLM):
        assert kind().reward_weight == 0.0
        assert kind.needs_distribution
    assert not GRPO.needs_distribution


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (GKD, {"on_policy_share": 0.5}, "on_policy_share is 0.5; it must be 1: below it some rows"),
        (GKD, {"divergence": "kl"}, "divergence is 'kl'; it must be one of forward_kl"),
        (GKD, {"jsd_beta": 1.5}, "jsd_beta is 1.5; it must be in"),
        (OPDLoss, {"skew": 1.0}, "skew is 1.0; it must be in"),
        (OPDLoss, {"top_k": 0}, "top_k is 0"),
        (OPDLoss, {"teacher_weight": -1.0}, "teacher_weight is -1.0; it must be at least 0"),
        (OPDLoss, {"teacher_weight": 0.0}, "nothing would be learnt"),
        (MiniLLM, {"gamma": 1.1}, "gamma is 1.1; it must be in"),
        (MiniLLM, {"log_ratio_bound": 0.0}, "log_ratio_bound is 0.0; it must be above 0"),
        (MiniLLM, {"ratio_level": "sequence"}, "each token has its own return"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_a_batch_of_sampled_tokens_only_is_refused():
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed, distributions=None)
    with pytest.raises(ValueError, match="GKD compares student and teacher over the whole vocab"):
        GKD().loss(batch)
    with pytest.raises(ValueError, match="MiniLLM needs the teacher's log-probs of the sampled"):
        MiniLLM().loss(toy.token_batch(theta, fixed, teacher_logp_BT=None))


@pytest.mark.parametrize("algorithm", [GKD(), OPDLoss(), OPDLoss(top_k=2)], ids=str)
def test_the_loss_is_the_mean_of_the_twins_divergence(algorithm):
    theta, fixed = toy.student(), toy.rollouts()
    output = algorithm.loss(toy.token_batch(theta, fixed))
    measure, rows = algorithm.measure, []
    for mask, teacher_TV in zip(fixed.mask_BT.tolist(), fixed.teacher_BTV.tolist(), strict=True):
        rows.append(
            [
                twin.of_logits(p, q, measure.kind, measure.weight, measure.top_k)
                for m, p, q in zip(mask, teacher_TV, theta.tolist(), strict=True)
                if m
            ]
        )
    every = [value for row in rows for value in row]
    if algorithm.reduction == "grpo":  # rows weigh alike; one without tokens is a 0
        want = sum(sum(row) / max(1, len(row)) for row in rows) / len(rows)
    else:
        want = sum(every) / len(every)
    assert float(output.loss) == pytest.approx(want, rel=1e-12)
    total, number = output.means["teacher/divergence"]
    assert float(total / number) == pytest.approx(sum(every) / len(every), rel=1e-12)


def test_both_weights_scale_their_part():
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed)

    def loss(**weights):
        return float(GKD(**weights).loss(batch).loss)

    rewards, teacher = loss(reward_weight=1.0, teacher_weight=0.0), loss()
    joint = loss(reward_weight=0.3, teacher_weight=0.7)
    assert joint == pytest.approx(0.3 * rewards + 0.7 * teacher, rel=1e-12)


# -- MiniLLM --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("length", [1, 2, 7, 64, 100])
def test_a_discounted_sum_is_its_recursion(gamma, length):
    value = torch.randn(2, length, generator=torch.Generator().manual_seed(0)).double()
    found, later = discounted_sum(value, gamma), torch.zeros(2).double()
    for t in reversed(range(length)):
        later = value[:, t] + gamma * later
        torch.testing.assert_close(found[:, t], later)


def test_a_long_answer_does_not_overflow():
    assert discounted_sum(torch.ones(1, 20_000), 0.5)[0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("normalised", [True, False])
def test_the_return_is_the_slow_twins(gamma, normalised):
    generator = torch.Generator().manual_seed(1)
    reward = torch.randn(3, 9, generator=generator).double()
    mask = torch.tensor([[1] * 9, [1, 1, 0, 0, 1, 1, 0, 0, 0], [0] * 9]).double()
    reward[1, 2], reward[1, 8] = math.nan, math.inf  # not counted
    found = future_return(reward, mask, gamma, normalised)
    for row in range(3):
        rewards = [x if math.isfinite(x) else 0.0 for x in reward[row].tolist()]
        want = twin.future_return(rewards, mask[row].tolist(), gamma, normalised)
        assert found[row].tolist() == pytest.approx(want)


def test_a_return_by_hand():
    """Of (1, 2, 4): what follows the first token is 2 and 4, the second 4, the last nothing."""
    reward, mask = torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3)
    assert future_return(reward, mask).tolist() == [[3.0, 4.0, 0.0]]
    assert future_return(reward, mask, 0.5, normalised=False).tolist() == [[4.0, 4.0, 0.0]]
    halved = future_return(reward, mask, 0.5)[0].tolist()
    assert halved == pytest.approx([(2 + 0.5 * 4) / 1.5, 4.0, 0.0])


def exact_gradient(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """∇ KL of whole answers of two tokens from two: by enumeration."""
    logp, other = logits.log_softmax(-1), teacher.log_softmax(-1)
    first, second = logp[0], logp[1:]  # second[y]: after y came first
    joint = first[:, None] + second
    gap = joint - (other[0][:, None] + other[1:])
    return torch.autograd.grad((joint.exp() * gap).sum(), logits)[0]


def test_the_two_parts_add_up_to_the_gradient_of_the_sequences_kl():
    """§2.2, on all answers of two tokens, each weighted by its probability: exact step plus return,
    γ = 1, not normalised, is the gradient of KL(π_S ‖ π_T) over answers."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 2, generator=generator).double().requires_grad_()
    teacher = torch.randn(3, 2, generator=generator).double()
    algorithm = MiniLLM(length_normalised=False, reduction="dr_grpo")
    answers = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    total = torch.zeros_like(logits)
    for answer in answers:
        places = torch.stack([torch.tensor(0), 1 + answer[0]])
        student_TV, teacher_TV = logits[places], teacher[places]
        logp = student_TV.log_softmax(-1).gather(-1, answer[:, None]).T
        batch = TokenBatch(
            logp_BT=logp,
            old_logp_BT=logp.detach(),
            entropy_BT=torch.zeros_like(logp),
            mask_BT=torch.ones_like(logp),
            advantage_BT=torch.zeros(1, 1).double(),
            teacher_logp_BT=teacher_TV.log_softmax(-1).gather(-1, answer[:, None]).T,
            distributions=toy.distributions(student_TV[None], teacher_TV[None]),
        )
        loss = 2.0 * algorithm.loss(batch).loss  # dr_grpo divides by the length limit, 2
        total += logp.sum().exp().detach() * torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(total, exact_gradient(logits, teacher))


def test_a_token_that_the_teacher_rules_out_costs_its_predecessors_a_bounded_return():
    theta, fixed = toy.student(), toy.rollouts()
    teacher_logp = fixed.teacher_logp_BT.clone()
    teacher_logp[0, 5] = -math.inf
    batch = toy.token_batch(theta, fixed, teacher_logp_BT=teacher_logp)
    found = MiniLLM(log_ratio_bound=4.0, length_normalised=False, gamma=0.0).future(batch)
    assert found[0, 4] == -4.0
    assert found.isfinite().all()

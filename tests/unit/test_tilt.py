"""Tilt, rlkd's own objective: by hand, at its limits, and its gradient by enumeration."""

import math

import pytest
import torch

from rlkd import GRPO, MiniLLM, Tilt
from tests.laws import toy


def gradient(algorithm, **changes):
    theta = toy.student()
    loss = algorithm.loss(toy.token_batch(theta, toy.rollouts(), **changes)).loss
    return torch.autograd.grad(loss, theta)[0]


def accuracy(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_the_teachers_weight_falls_with_the_groups_accuracy():
    batch = toy.token_batch(
        toy.student(), toy.rollouts(), group_accuracy_B1=accuracy(0, 0, 0.5, 0.5, 0.75, 0.75, 1, 1)
    )
    weight_B1 = Tilt(teacher_weight=2.0, fade=2.0).weight_of_teacher(batch)
    assert isinstance(weight_B1, torch.Tensor)
    assert weight_B1[:, 0].tolist() == [2.0, 2.0, 0.5, 0.5, 0.125, 0.125, 0.0, 0.0]
    assert Tilt(teacher_weight=2.0, fade=0.0).weight_of_teacher(batch) == 2.0


def test_a_group_that_nothing_can_be_graded_of_has_failed():
    unknown = accuracy(*[math.nan] * 8)
    batch = toy.token_batch(toy.student(), toy.rollouts(), group_accuracy_B1=unknown)
    assert (torch.as_tensor(Tilt().weight_of_teacher(batch)) == 1.0).all()


def test_without_fading_it_is_minillm_beside_rewards_bit_for_bit():
    assert torch.equal(gradient(Tilt(fade=0.0)), gradient(MiniLLM(reward_weight=1.0)))


def test_where_all_is_right_it_is_grpo_and_where_all_is_wrong_it_is_not_faded():
    solved, failed = accuracy(*[1.0] * 8), accuracy(*[0.0] * 8)
    grpo = GRPO(beta=0.0, reduction="dapo")
    torch.testing.assert_close(gradient(Tilt(), group_accuracy_B1=solved), gradient(grpo))
    found = gradient(Tilt(fade=3.0), group_accuracy_B1=failed)
    torch.testing.assert_close(found, gradient(MiniLLM(reward_weight=1.0)))


@pytest.mark.parametrize("fade", [-0.1, -3.0])
def test_a_weight_that_grows_with_success_is_refused(fade):
    with pytest.raises(ValueError, match=r"fade is -[0-9.]+; it must be at least 0"):
        Tilt(fade=fade)


def test_it_must_know_the_groups():
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed, group_accuracy_B1=None)
    with pytest.raises(ValueError, match="how many answers of a group are correct"):
        Tilt().loss(batch)
    Tilt(fade=0.0).loss(batch)

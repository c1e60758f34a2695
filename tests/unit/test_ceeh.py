"""CEEH: its rewards, its entropy in the loss and in the advantages, its two variants, and how a
component stands beside others. Records: test_difficulty.py."""

import ast
import inspect
import itertools
import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlkd import CEEH, GRPO, RLAD
from rlkd.algorithms.base import Algorithm
from rlkd.algorithms.ceeh import VARIANTS
from rlkd.algorithms.component import Component, Composed
from rlkd.algorithms.covariance import ClipCov, KLCov
from rlkd.algorithms.entropy_bonus import EntropyBonus
from rlkd.algorithms.high_entropy_tokens import HighEntropyTokens
from rlkd.algorithms.skywork_or1 import AdaptiveEntropy
from rlkd.batch import Groups, TokenBatch
from rlkd.difficulty import Rules
from tests.laws import toy
from tests.reference import difficulty as twins
from tests.reference import entropy as entropy_twins
from tests.reference.difficulty import Answer, Record

NAN = math.nan
PAPER, CODE = CEEH(), CEEH(variant="official_code")


def group(
    rows: list[Answer], history: float | None, shortest: float | None, hard: bool = False
) -> Groups:
    """One group of which the records say this; reward 1 or 0, NaN where a row does not count."""
    correct, counted = torch.tensor([[a.correct for a in rows]]), [[a.counted for a in rows]]
    as_row = lambda x: torch.tensor([NAN if x is None else x], dtype=torch.float64)  # noqa: E731
    return Groups(
        key_N=torch.tensor([1]),
        reward_NG=correct.float().masked_fill(~torch.tensor(counted), NAN),
        length_NG=torch.tensor([[a.length for a in rows]]),
        correct_NG=correct,
        counted_NG=torch.tensor(counted),
        pass_rate_N=as_row(twins.acc(rows)),
        history_N=as_row(history),
        shortest_N=as_row(shortest),
        hard_N=torch.tensor([hard]),
    )


def rows(*facts: tuple[int, int]) -> list[Answer]:
    return [Answer(length, bool(correct)) for length, correct in facts]


def rewards(component: Component, groups: Groups) -> list[float]:
    return component.shape_rewards(groups)[0].tolist()


# --- rewards ------------------------------------------------------------------------------------

# 3 of 4 correct: Acc .75.
MIXED = rows((20, 1), (40, 1), (440, 1), (10, 0))


@pytest.mark.parametrize(
    ("history", "shortest", "paper", "code"),
    [
        # open: (40 − 20)/40 = .5, 0, (40 − 440)/40 = −10: times .1; floored at −.9 before or after
        (0.5, 40.0, [1.05, 1.0, 0.91, 0.0], [1.05, 1.0, 0.1, 0.0]),
        # as good as before: open for ≥ alone
        (0.75, 40.0, [1.0, 1.0, 1.0, 0.0], [1.05, 1.0, 0.1, 0.0]),
        # worse than before: shut
        (0.8, 40.0, [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
        # a first visit passes no gate, even if a length were known
        (None, None, [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
        (None, 40.0, [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
        # never solved before: no length to be held to
        (0.0, None, [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
    ],
)
def test_rewards_by_hand(history, shortest, paper, code):
    assert rewards(PAPER, group(MIXED, history, shortest)) == pytest.approx(paper)
    assert rewards(CODE, group(MIXED, history, shortest)) == pytest.approx(code)


def test_all_correct_is_shortened_once_it_is_no_more_than_before_in_the_code_alone():
    found = group(rows((30, 1), (10, 1)), 1.0, 20.0)  # (20 − 30)/20 = −.5, (20 − 10)/20 = .5
    assert rewards(PAPER, found) == [1.0, 1.0]
    assert rewards(CODE, found) == pytest.approx([0.95, 1.05])


def test_a_group_of_one_gets_a_length_term_and_no_advantage():
    shaped = PAPER.shape_rewards(group(rows((30, 1)), 0.5, 20.0))
    assert shaped.tolist() == [[pytest.approx(0.95)]]
    assert GRPO(advantage_scale="none").advantages(shaped).tolist() == [[0.0]]


def test_rows_that_do_not_count_keep_their_reward():
    cut = [Answer(20, True, counted=False), Answer(20, True), Answer(80, True), Answer(1, False)]
    found = group(cut, 0.5, 40.0)  # Acc 2/3 > .5
    found = replace(found, reward_NG=torch.tensor([[NAN, 1.0, 1.0, 0.0]]))
    assert rewards(PAPER, found) == pytest.approx([NAN, 1.05, 0.91, 0.0], nan_ok=True)
    found = replace(found, reward_NG=torch.tensor([[0.3, 1.0, 1.0, 0.0]]))
    assert rewards(PAPER, found)[0] == pytest.approx(0.3)


def test_it_adds_to_whatever_reward_there_is_and_keeps_its_type():
    found = group(MIXED, 0.5, 40.0)
    for dtype in (torch.float32, torch.float64):
        other = replace(found, reward_NG=torch.tensor([[2.0, 3.0, 4.0, -1.0]], dtype=dtype))
        shaped = PAPER.shape_rewards(other)
        assert shaped.dtype == dtype
        assert shaped[0].tolist() == pytest.approx([2.05, 3.0, 3.91, -1.0])


ANSWER = st.builds(Answer, st.integers(1, 60), st.booleans(), st.booleans())


@given(
    st.lists(ANSWER, min_size=1, max_size=6),
    st.none() | st.floats(0.0, 1.0),
    st.none() | st.floats(1.0, 60.0),
    st.sampled_from(["paper", "official_code"]),
    st.sampled_from([0.05, 0.1, 1.0]),
)
def test_rewards_equal_their_twin(answers, history, shortest, variant, beta):
    component = CEEH(variant=variant, length_beta=beta)
    found = component.length_term(group(answers, history, shortest))[0].tolist()
    floored, gate = str(component.floored), str(component.gate)
    record = Record(history, shortest)
    wanted = twins.length_term(record, answers, beta, -0.9, floored, gate)
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    low = -0.9 * beta if floored == "term" else -0.9
    assert all(low - 1e-6 <= x < beta for x in found)
    for term, answer in zip(found, answers, strict=True):
        assert term == 0.0 or (answer.correct and answer.counted)


@given(st.lists(ANSWER, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_a_group_is_irrelevant(answers, rng):
    order = rng.sample(range(len(answers)), len(answers))
    straight = CODE.length_term(group(answers, 0.3, 20.0))[0]
    mixed = CODE.length_term(group([answers[i] for i in order], 0.3, 20.0))[0]
    assert torch.equal(mixed, straight[torch.tensor(order)])


def test_without_a_length_reward_rewards_are_untouched():
    found = group(MIXED, 0.5, 40.0)
    assert torch.equal(CEEH(length_beta=0.0).shape_rewards(found), found.reward_NG)


def test_rewards_of_components_add_up():
    class Plus(Component):
        def shape_rewards(self, groups: Groups) -> Tensor:
            return groups.reward_NG * 2

    found = Composed(GRPO(), (Plus(), PAPER)).rewards(group(MIXED, 0.5, 40.0))
    assert found[0].tolist() == pytest.approx([2.05, 2.0, 1.91, 0.0])


# --- entropy in the loss: ME --------------------------------------------------------------------

ENTROPY = [[1.0, 2.0], [3.0, 0.7]]
MASK = [[1.0, 1.0], [1.0, 0.0]]


def entropy_batch(**changes) -> TokenBatch:
    """Tokens that a GRPO loss says nothing about (A = 0), with entropies of 1, 2 and 3 nats on
    one hard and one easy row."""
    logp = torch.full((2, 2), -1.0, dtype=torch.float64, requires_grad=True)
    values: dict[str, Any] = {
        "logp_BT": logp,
        "old_logp_BT": logp.detach(),
        "entropy_BT": torch.tensor(ENTROPY, dtype=torch.float64, requires_grad=True),
        "mask_BT": torch.tensor(MASK, dtype=torch.float64),
        "advantage_BT": torch.zeros(2, 1, dtype=torch.float64),
        "hard_B1": torch.tensor([[True], [False]]),
    }
    return TokenBatch(**(values | changes))


def loss_of(component: Component, **changes) -> float:
    return Composed(GRPO(beta=0.0), (component,)).loss(entropy_batch(**changes)).loss.item()


@pytest.mark.parametrize(
    ("settings", "progress", "wanted"),
    [
        # start: 5e-3 · (1 + 2) + 1e-3 · 3 = .018 over three tokens
        ({}, 0.0, -0.006),
        ({}, 0.5, -0.003),  # ½(1 + cos π/2) = ½
        ({}, 1.0, 0.0),
        ({"anneal": "cosine"}, 0.0, -0.006),
        ({"anneal": "cosine"}, 0.5, 0.0),
        ({"anneal": "cosine"}, 1.0, 0.006),  # cos π = −1: it pays for certainty
        ({"anneal": "constant"}, 0.9, -0.006),
        ({"hard_factor": 1.0}, 0.0, -0.002),  # 1e-3 · 6 / 3
        ({"entropy_coefficient": 0.0}, 0.0, 0.0),
        # weights 5, 5, 1: (5 · 1 + 5 · 2 + 1 · 3)/11 = 18/11
        ({"variant": "official_code"}, 0.0, -1e-3 * 18 / 11),
        ({"entropy_mean": "weighted"}, 0.5, -5e-4 * 18 / 11),
    ],
)
def test_me_by_hand(settings, progress, wanted):
    assert loss_of(CEEH(**settings), progress=progress) == pytest.approx(wanted, abs=1e-15)


def test_me_is_averaged_over_the_tokens_of_the_step_and_not_of_the_micro_batch():
    tokens = torch.tensor(30.0, dtype=torch.float64)
    found = loss_of(CEEH(), step_tokens_per_rank=tokens, accumulation=10.0)
    assert found == pytest.approx(-0.018 / 30)
    weighted = loss_of(CEEH(entropy_mean="weighted"), step_tokens_per_rank=tokens)
    assert weighted == pytest.approx(-1e-3 * 18 / 11 * 3 / 30)  # its tokens' share of the step


@pytest.mark.parametrize("hard", [True, False])
def test_in_the_codes_mean_a_factor_that_all_rows_share_does_nothing(hard):
    """In its own script a micro-batch is one row."""
    every = torch.tensor([[hard], [hard]])
    found = loss_of(CODE, hard_B1=every)
    assert found == pytest.approx(-1e-3 * 6 / 3)
    assert loss_of(PAPER, hard_B1=every) == pytest.approx(-(5e-3 if hard else 1e-3) * 6 / 3)


def test_a_micro_batch_without_tokens():
    for component in (PAPER, CODE, EntropyBonus()):
        assert loss_of(component, mask_BT=torch.zeros(2, 2, dtype=torch.float64)) == 0.0


def test_mes_gradient_goes_through_the_entropy_to_the_logits():
    """Against central differences of the plain twin, from logits."""
    logits = [[0.3, -1.2, 2.0], [0.0, 0.5, -0.5], [1.0, 1.1, -3.0]]
    mask, hard, settings = [[1.0], [1.0], [1.0]], [True, False, True], (0.02, 5.0, 0.75)

    def twin(values: list[list[float]]) -> float:
        entropies = [[entropy_twins.softmax_entropy(row)] for row in values]
        return entropy_twins.me_loss(entropies, mask, hard, *settings)

    leaf = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    logp = torch.log_softmax(leaf, -1)
    batch = entropy_batch(
        logp_BT=logp[:, :1],
        old_logp_BT=logp[:, :1].detach(),
        entropy_BT=-(logp.exp() * logp).sum(-1, keepdim=True),
        mask_BT=torch.tensor(mask),
        advantage_BT=torch.zeros(3, 1),
        hard_B1=torch.tensor(hard)[:, None],
        progress=1 / 3,  # ½(1 + cos π/3) = .75
    )
    found = Composed(GRPO(beta=0.0), (CEEH(entropy_coefficient=0.02),)).loss(batch).loss
    assert found.item() == pytest.approx(twin(logits))
    (gradient,) = torch.autograd.grad(found, leaf)
    for b, row in enumerate(logits):
        for v in range(len(row)):
            moved = [[list(r) for r in logits] for _ in range(2)]
            moved[0][b][v] += 1e-5
            moved[1][b][v] -= 1e-5
            slope = (twin(moved[0]) - twin(moved[1])) / 2e-5
            assert gradient[b, v].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)


@given(
    st.lists(st.lists(st.floats(0.0, 5.0), min_size=3, max_size=3), min_size=1, max_size=4),
    st.data(),
)
def test_me_equals_its_twin(entropy, data):
    number = len(entropy)
    hard = data.draw(st.lists(st.booleans(), min_size=number, max_size=number))
    mask = [[1.0, float(data.draw(st.booleans())), 0.0] for _ in range(number)]
    mean = data.draw(st.sampled_from(["tokens", "weighted"]))
    factor = data.draw(st.sampled_from([0.0, 0.5, 5.0])) if mean == "tokens" else 5.0
    component = CEEH(entropy_mean=mean, hard_factor=factor, entropy_coefficient=0.5)
    zeros = torch.zeros(number, 3, dtype=torch.float64)
    found = loss_of(
        component,
        logp_BT=zeros,
        old_logp_BT=zeros,
        entropy_BT=torch.tensor(entropy, dtype=torch.float64),
        mask_BT=torch.tensor(mask),
        advantage_BT=zeros,
        hard_B1=torch.tensor(hard)[:, None],
        progress=0.5,
    )
    wanted = entropy_twins.me_loss(entropy, mask, hard, 0.5, factor, 0.5, mean)
    assert found == pytest.approx(wanted, rel=1e-6)


# --- entropy in the advantages: EA --------------------------------------------------------------


def shaped(component: CEEH, advantage: list[list[float]], **changes) -> list[list[float]]:
    batch = entropy_batch(advantage_BT=torch.tensor(advantage, dtype=torch.float64), **changes)
    return component.shape_batch(batch).advantage_BT.tolist()


EA = CEEH(entropy="ea")


def test_ea_by_hand():
    # α H = .4, .8; |A|/κ = ½: + .4, + ½; the second row is easy
    assert shaped(EA, [[1.0], [1.0]])[0] == pytest.approx([1.4, 1.5])
    assert shaped(EA, [[1.0], [1.0]])[1][0] == 1.0
    # bad tokens are pushed down less: −1 + .4, −1 + ½
    assert shaped(EA, [[-1.0], [1.0]])[0] == pytest.approx([-0.6, -0.5])
    assert shaped(EA, [[0.0], [0.0]]) == [[0.0, 0.0], [0.0, 0.0]]
    other = CEEH(entropy="ea", ea_alpha=0.1, ea_kappa=4.0)  # .1, .2; ¼
    assert shaped(other, [[1.0], [1.0]])[0] == pytest.approx([1.1, 1.2])


def test_eas_entropy_carries_no_gradient():
    batch = entropy_batch(advantage_BT=torch.ones(2, 1, dtype=torch.float64))
    output = Composed(GRPO(beta=0.0), (EA,)).loss(batch)
    assert not EA.shape_batch(batch).advantage_BT.requires_grad
    leaves = (batch.logp_BT, batch.entropy_BT)
    gradient = torch.autograd.grad(output.loss, leaves, allow_unused=True, materialize_grads=True)
    # rows of 2 and 1 tokens, sequence means over 2 rows: −A/4, −A/4; −A/2
    torch.testing.assert_close(
        gradient[0], torch.tensor([[-0.35, -0.375], [-0.5, 0.0]], dtype=torch.float64)
    )
    assert (gradient[1] == 0).all()


@given(
    st.floats(-3.0, 3.0),
    st.floats(0.0, 20.0),
    st.booleans(),
    st.floats(0.0, 5.0),
    st.floats(1.01, 9.0),
)
def test_ea_keeps_the_sign_and_acts_on_hard_prompts_with_a_signal_alone(a, h, hard, alpha, kappa):
    component = CEEH(entropy="ea", ea_alpha=alpha, ea_kappa=kappa)
    entropy = torch.tensor([[h, h], [h, h]], dtype=torch.float64)
    every = torch.tensor([[hard], [hard]])
    found = shaped(component, [[a], [a]], entropy_BT=entropy, hard_B1=every)[0][0]
    assert found == pytest.approx(entropy_twins.shaped_advantage(a, h, hard, alpha, kappa))
    assert math.copysign(1, found) == math.copysign(1, a) or found == a == 0
    assert found >= a
    if not hard or a == 0.0:
        assert found == a


# --- the component ------------------------------------------------------------------------------


def test_the_variants_name_every_difference_and_each_is_a_field_of_its_own():
    assert VARIANTS["paper"].keys() == VARIANTS["official_code"].keys()
    for name, value in VARIANTS["official_code"].items():
        assert getattr(PAPER, name) == VARIANTS["paper"][name]
        assert getattr(CODE, name) == value
        mixed = CEEH(**{name: value})
        for other in VARIANTS["paper"]:
            wanted = value if other == name else VARIANTS["paper"][other]
            assert getattr(mixed, other) == wanted


def test_the_records_are_kept_by_its_fields():
    assert PAPER.rules == Rules() == Composed(GRPO(), (PAPER,)).rules()
    wanted = Rules(
        restart_at_zero=True,
        shortest="moving_average",
        unvisited="minus_one",
        hard_from="group",
        hard_bound="at_most",
    )
    assert (
        CODE.rules
        == wanted
        == Composed(GRPO(), (EntropyBonus(), replace(CODE, entropy=None))).rules()
    )
    assert CEEH(rate_up=0.5, rate_down=0.1).rules == Rules(rate_up=0.5, rate_down=0.1)
    assert Composed(GRPO()).rules() == Rules()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "code"}, "variant is 'code'; it must be one of paper, official_code"),
        ({"entropy": "max"}, "entropy is 'max'; it must be one of me, ea"),
        ({"entropy_mean": "all"}, "entropy_mean is 'all'; it must be one of tokens, weighted"),
        ({"anneal": "linear"}, "anneal is 'linear'; it must be one of cosine"),
        ({"gate": ">"}, "gate is '>'"),
        ({"floored": "both"}, "floored is 'both'"),
        ({"hard_from": "batch"}, "hard_from is 'batch'"),
        ({"hard_bound": "<"}, "hard_bound is '<'"),
        ({"shortest": "mean"}, "shortest is 'mean'"),
        ({"unvisited": "zero"}, "unvisited is 'zero'"),
        ({"entropy_coefficient": -1.0}, "entropy_coefficient is -1.0; it must be at least 0"),
        ({"hard_factor": -1.0}, "hard_factor is -1.0"),
        ({"ea_alpha": -1.0}, "ea_alpha is -1.0"),
        ({"ea_kappa": 1.0}, "ea_kappa is 1.0; it must be above 1, or shaping could turn A around"),
        ({"length_beta": -0.1}, "length_beta is -0.1"),
        ({"length_floor": 0.1}, "length_floor is 0.1; it must be at most 0"),
        ({"rate_up": 1.5}, r"rate_up is 1.5; it must be in \[0, 1\]"),
        ({"rate_down": -0.5}, "rate_down is -0.5"),
        ({"entropy": None, "length_beta": 0.0}, "does nothing; leave the component out"),
    ],
)
def test_the_door(settings, message):
    with pytest.raises(ValueError, match=message):
        CEEH(**settings)


@pytest.mark.parametrize("kind", ["me", "ea"])
def test_a_batch_that_does_not_say_what_is_hard_is_an_error(kind):
    with pytest.raises(ValueError, match="needs to know which prompts are hard"):
        loss_of(CEEH(entropy=kind), hard_B1=None)
    assert loss_of(CEEH(entropy=None), hard_B1=None) == 0.0


# --- beside other components --------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", [GRPO(beta=0.1), RLAD(reduction="dapo")], ids=["grpo", "rlad"]
)
def test_without_components_it_is_the_algorithm_bit_for_bit(algorithm: Algorithm):
    theta, fixed = toy.student(), toy.rollouts()
    batch = toy.token_batch(theta, fixed)
    alone, composed = algorithm.loss(batch), Composed(algorithm).loss(batch)
    assert composed.loss == alone.loss
    assert composed.means.keys() == alone.means.keys()
    for found, wanted in zip(
        torch.autograd.grad(composed.loss, theta, retain_graph=True),
        torch.autograd.grad(alone.loss, theta),
        strict=True,
    ):
        assert torch.equal(found, wanted)


ME, LENGTH = CEEH(length_beta=0.0), CEEH(entropy=None)
BONUSES = [ME, EntropyBonus(), AdaptiveEntropy()]


@pytest.mark.parametrize(
    ("one", "other", "held"),
    [
        *[(x, y, "the entropy") for i, x in enumerate(BONUSES) for y in BONUSES[i:]],
        *[(bonus, EA, "the entropy") for bonus in BONUSES],
        (ClipCov(), KLCov(), "the covariance of log-probabilities and advantages"),
        (EA, ClipCov(), "the covariance of log-probabilities and advantages"),
        (KLCov(), EA, "the covariance of log-probabilities and advantages"),
        (HighEntropyTokens(), HighEntropyTokens(share=0.1), "which tokens are learnt from"),
        (LENGTH, CEEH(entropy=None, length_beta=0.2), "the length reward"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Component) else "",
)
def test_components_that_contradict_each_other_are_an_error(one, other, held):
    names = f"{type(one).__name__} and {type(other).__name__}"
    with pytest.raises(ValueError, match=f"{names} both set {held}.*; keep one of them"):
        Composed(GRPO(), (one, Component(), other))


@pytest.mark.parametrize(
    "components",
    [
        (LENGTH, AdaptiveEntropy()),
        (LENGTH, EntropyBonus()),
        (CEEH(),),
        (HighEntropyTokens(),),  # with DAPO's clip_high
        (ClipCov(), LENGTH),
        (KLCov(), EntropyBonus()),
        (HighEntropyTokens(), ClipCov()),
        (HighEntropyTokens(), AdaptiveEntropy()),
        (HighEntropyTokens(), EA),
        (LENGTH, ME),
    ],
    ids=lambda value: "+".join(type(c).__name__ for c in value),
)
def test_components_that_do_not_are_allowed(components):
    Composed(GRPO(clip_high=0.28, reduction="dapo"), components)


@pytest.mark.parametrize("component", [EA, ClipCov(), HighEntropyTokens()], ids=repr)
def test_what_acts_on_single_tokens_is_an_error_beside_a_ratio_of_the_sequence(component):
    with pytest.raises(ValueError, match="acts on single tokens, and with ratio_level 'sequence'"):
        Composed(RLAD(ratio_level="sequence"), (LENGTH, component) if component != EA else (EA,))
    Composed(RLAD(), (component,))


@pytest.mark.parametrize("component", [LENGTH, ME, KLCov(), EntropyBonus()], ids=repr)
def test_what_does_not_is_allowed(component):
    Composed(GRPO(ratio_level="sequence"), (component,))


def test_two_components_that_want_the_records_kept_differently_are_an_error():
    with pytest.raises(ValueError, match=r"kept by .*rate_up=0.2.*, another by .*rate_up=0.5"):
        Composed(GRPO(), (LENGTH, CEEH(length_beta=0.0, rate_up=0.5)))


def test_the_order_of_components_is_irrelevant_to_the_loss():
    batch = toy.token_batch(toy.student(), toy.rollouts())
    some = (HighEntropyTokens(share=0.5), ClipCov(share=1.0, low=0.1), CEEH())
    wanted = Composed(GRPO(beta=0.0), some).loss(batch).loss
    for order in ((1, 0, 2), (2, 1, 0), (2, 0, 1)):
        mixed = tuple(some[i] for i in order)
        found = Composed(GRPO(beta=0.0), mixed).loss(batch).loss
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


class Counts(Component):
    """A penalty that a masked token would make infinite, of the weight that it is shown."""

    def penalty(self, batch: TokenBatch) -> Tensor:
        weight = 1.0 if batch.weight_BT is None else batch.weight_BT
        return weight / batch.entropy_BT

    def measures(self, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        return {"weighted": batch.token_sum(torch.tensor(float(batch.weight_BT is not None)))}


def test_a_components_loss_on_a_masked_token_is_nothing_whatever_it_is():
    assert loss_of(Counts()) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


@pytest.mark.parametrize("place", [0, 1])
def test_losses_and_measures_are_of_the_batch_before_any_shaping(place):
    some = [HighEntropyTokens()]
    some.insert(place, Counts())  # type: ignore[arg-type]
    output = Composed(GRPO(beta=0.0), tuple(some)).loss(entropy_batch())
    assert output.loss.item() == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert [x.item() for x in output.means["weighted"]] == [0.0, 3]


def test_every_field_is_documented():
    """The schema and the reference are made of these."""
    for kind in (CEEH, EntropyBonus, AdaptiveEntropy, ClipCov, KLCov, HighEntropyTokens):
        body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
        documented = {
            ast.unparse(field.target)
            for field, doc in itertools.pairwise(body)
            if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
        }
        assert {f.name for f in fields(kind)} <= documented

"""What keeps the entropy up besides CEEH, against numbers worked by hand and slow twins: the fixed
bonus, the adaptive coefficient, Clip-Cov, KL-Cov, high-entropy tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlkd import GRPO
from rlkd.algorithms.component import Component, Composed
from rlkd.algorithms.covariance import ClipCov, KLCov
from rlkd.algorithms.entropy_bonus import EntropyBonus
from rlkd.algorithms.high_entropy_tokens import HighEntropyTokens
from rlkd.algorithms.skywork_or1 import AdaptiveEntropy
from rlkd.batch import TokenBatch
from rlkd.objectives import entropy
from tests.laws import toy
from tests.reference import entropy as twins

D = torch.float64


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=D)


def batch_of(logp, advantage, mask=None, old=None, **more) -> TokenBatch:
    logp_BT = tensor(logp).requires_grad_()
    return TokenBatch(
        logp_BT=logp_BT,
        old_logp_BT=logp_BT.detach() if old is None else tensor(old),
        entropy_BT=more.pop("entropy_BT", torch.ones_like(logp_BT)),
        mask_BT=torch.ones_like(logp_BT).detach() if mask is None else tensor(mask),
        advantage_BT=tensor(advantage),
        **more,
    )


def loss_and_gradient(component: Component, batch: TokenBatch, **settings) -> tuple[float, Tensor]:
    settings = {"beta": 0.0, "reduction": "dapo"} | settings
    loss = Composed(GRPO(**settings), (component,)).loss(batch).loss
    return loss.item(), torch.autograd.grad(loss, batch.logp_BT)[0]


# --- a fixed bonus, an adaptive one -------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "half", "full"),
    [(0.0, 1.0, 1.0), (1 / 3, 0.75, 0.5), (0.5, 0.5, 0.0), (2 / 3, 0.25, -0.5), (1.0, 0.0, -1.0)],
)
def test_anneal_by_hand(progress, half, full):
    assert entropy.anneal(progress) == pytest.approx(half, abs=1e-15)
    assert entropy.anneal(progress, "cosine") == pytest.approx(full, abs=1e-15)
    assert entropy.anneal(progress, "constant") == 1.0


@pytest.mark.parametrize("mean", entropy.MEANS)
def test_the_factor_of_a_micro_batch_without_tokens_is_a_number(mean):
    hard, none = torch.tensor([[True], [False]]), torch.zeros(2, 3)
    assert entropy.difficulty_factor(hard, none, 5.0, mean).tolist() == [[5.0], [1.0]]


def test_the_bonus_by_hand():
    more = {"entropy_BT": tensor([[1.0, 2.0], [6.0, 9.0]])}
    batch = batch_of([[-1.0, -1.0]] * 2, [[0.0], [0.0]], [[1, 1], [1, 0]], **more)
    assert loss_and_gradient(EntropyBonus(), batch)[0] == pytest.approx(-0.01 * 9 / 3)
    loss = loss_and_gradient(EntropyBonus(coefficient=0.5), batch, reduction="grpo")[0]
    assert loss == pytest.approx(-0.5 * 9 / 3), "whatever the algorithm's reduction"
    assert EntropyBonus(coefficient=0.0).penalty(batch) is None


def test_the_adaptive_coefficient_by_hand():
    rule = AdaptiveEntropy()
    state = rule.start()
    assert (state, rule.coefficient(state, None)) == (0.0, 0.0)
    for measured, wanted, in_force in [
        (0.1, 1e-4, 1e-4),  # below .2: up, and on
        (0.19, 2e-4, 2e-4),
        (0.2, 1e-4, 0.0),  # at the target: down, and off
        (0.3, 0.0, 0.0),
        (0.3, 0.0, 0.0),  # not below 0
        (0.0, 1e-4, 1e-4),
    ]:
        state = rule.update(state, measured)
        assert state == pytest.approx(wanted, abs=1e-18)
        assert rule.coefficient(state, measured) == pytest.approx(in_force, abs=1e-18)
    for _ in range(100):
        state = rule.update(state, 0.0)
    assert state == 5e-3


@given(st.lists(st.floats(0.0, 1.0), max_size=40), st.floats(0.0, 0.3))
def test_the_adaptive_coefficient_stays_in_its_range_and_moves_one_step(measured, target):
    rule = AdaptiveEntropy(target=target, minimum=1e-3, maximum=2e-3, initial=1.5e-3)
    state = rule.start()
    assert rule.coefficient(state, None) == 1.5e-3
    for value in measured:
        moved = rule.update(state, value)
        assert 1e-3 <= moved <= 2e-3
        assert abs(moved - state) <= 1e-4 + 1e-12
        assert (moved >= state) if value < target else (moved <= state)
        assert rule.coefficient(moved, value) == (moved if value < target else 0.0)
        state = moved


def test_the_adaptive_coefficient_reaches_the_loss_through_the_batch():
    more = {"entropy_BT": tensor([[1.0, 3.0]]), "entropy_coefficient": 0.25}
    batch = batch_of([[-1.0, -1.0]], [[0.0]], **more)
    assert loss_and_gradient(AdaptiveEntropy(), batch)[0] == pytest.approx(-0.25 * 2)
    total, number = AdaptiveEntropy().measures(batch)["adaptive_entropy/coefficient"]
    assert (total / number).item() == 0.25
    assert AdaptiveEntropy().penalty(batch.replace(entropy_coefficient=0.0)) is None


# --- covariance ---------------------------------------------------------------------------------


def test_covariance_by_hand():
    # log π: −1, −3, mean −2; A: 1, −1, mean 0: (1)(1), (−1)(−1)
    found = entropy.covariance(tensor([[-1.0, -3.0]]), tensor([[1.0, -1.0]]), tensor([[1, 1]]))
    assert found.tolist() == [[1.0, 1.0]]
    # The means are over the counted tokens of both rows, each token once: log π −1, −2, −6, mean
    # −3; A 2, 2, −1, mean 1: 2 · 1, 1 · 1, −3 · −2
    logp, mask = tensor([[-1.0, -2.0], [-6.0, 50.0]]), tensor([[1, 1], [1, 0]])
    found = entropy.covariance(logp, tensor([[2.0], [-1.0]]), mask)
    assert found.tolist() == [[2.0, 1.0], [6.0, 0.0]]
    none = entropy.covariance(logp, tensor([[2.0], [-1.0]]), torch.zeros(2, 2))
    assert none.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def random_batch(seed: int, rows: int = 6, tokens: int = 8) -> TokenBatch:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=D)  # noqa: E731
    logp = draw(rows, tokens) - 2
    return TokenBatch(
        logp_BT=logp.requires_grad_(),
        old_logp_BT=logp.detach() + 0.3 * draw(rows, tokens),
        entropy_BT=draw(rows, tokens).abs(),
        mask_BT=(draw(rows, tokens) > -0.8).to(D),
        advantage_BT=draw(rows, 1),
    )


def as_set(chosen_BT: Tensor) -> set[tuple[int, int]]:
    return {(b, t) for b, t in chosen_BT.nonzero().tolist()}


@given(st.integers(0, 999), st.sampled_from([0.0, 1e-3, 0.1, 0.25, 0.5, 1.0]))
def test_covariance_kl_cov_and_80_20_equal_their_twins(seed, share):
    batch = random_batch(seed)
    mask, shape = batch.mask_BT.tolist(), batch.logp_BT.shape
    advantage = batch.advantage_BT.expand(shape)
    cov_BT = entropy.covariance(batch.logp_BT, batch.advantage_BT, batch.mask_BT)
    wanted = twins.covariances(batch.logp_BT.tolist(), advantage.tolist(), mask)
    for (b, t), value in wanted.items():
        assert cov_BT[b, t].item() == pytest.approx(value, abs=1e-12)
    chosen = entropy.kl_cov(cov_BT, batch.mask_BT, share)
    assert as_set(chosen) == twins.kl_cov_tokens(wanted, share)
    if share > 0:
        kept = entropy.high_entropy_tokens(batch.entropy_BT, batch.mask_BT, share)
        assert as_set(kept) == twins.high_entropy(batch.entropy_BT.tolist(), mask, share)


# --- Clip-Cov -----------------------------------------------------------------------------------

COV = tensor([[0.0, 0.5, 1.0, 2.0, 5.0, 7.0, 3.0, 3.0]])
ALL, NOT_THE_LAST = torch.ones(1, 8), tensor([[1, 1, 1, 1, 1, 1, 1, 0]])


def test_clip_cov_takes_only_from_the_window_bounds_included():
    assert as_set(entropy.clip_cov(COV, ALL, 1.0)) == {(0, t) for t in (2, 3, 4, 6, 7)}
    assert as_set(entropy.clip_cov(COV, NOT_THE_LAST, 1.0)) == {(0, t) for t in (2, 3, 4, 6)}


@pytest.mark.parametrize(
    ("share", "at_least", "number"),
    [
        (2e-4, 1, 1),  # ⌊8 · 2e-4⌋ = 0, at least one
        (2e-4, 0, 0),  # as the paper has it
        (0.25, 1, 2),
        (0.49, 0, 3),  # ⌊3.92⌋
        (0.0, 4, 4),
        (0.0, 99, 5),  # no more than the window holds
    ],
)
def test_how_many_clip_cov_takes(share, at_least, number):
    found = entropy.clip_cov(COV, ALL, share, at_least=at_least)
    assert len(as_set(found)) == number
    assert as_set(found) <= {(0, t) for t in (2, 3, 4, 6, 7)}


def test_clip_cov_draws_evenly_and_follows_the_global_seed():
    counts = torch.zeros(8)
    torch.manual_seed(0)
    for _ in range(2000):
        counts += entropy.clip_cov(COV, ALL, 0.25)[0]
    # two of five places, 2000 times: 800 ± 22 each
    assert (counts[[2, 3, 4, 6, 7]] - 800).abs().max() < 110
    assert counts[[0, 1, 5]].sum() == 0
    draws = []
    for seed in (1, 1, 2, 3, 4):
        torch.manual_seed(seed)
        draws.append(as_set(entropy.clip_cov(COV, ALL, 0.25)))
    assert draws[0] == draws[1]
    assert len(set(map(frozenset, draws))) > 1


def test_padding_does_not_change_what_is_drawn():
    cov, mask = COV.repeat(3, 1), ALL.repeat(3, 1)
    wide = torch.nn.functional.pad(cov, (0, 4), value=2.0), torch.nn.functional.pad(mask, (0, 4))
    for seed in range(5):
        torch.manual_seed(seed)
        found = entropy.clip_cov(cov, mask, 0.2)
        torch.manual_seed(seed)
        assert as_set(entropy.clip_cov(*wide, 0.2)) == as_set(found)
        assert len(as_set(found)) == 4


@pytest.mark.parametrize(
    ("cov", "mask", "share"),
    [(COV * 0, ALL, 0.25), (COV, ALL * 0, 0.25), (COV, ALL, 1.0)],
    ids=["none in the window", "no token", "all in the window are taken"],
)
def test_clip_cov_draws_nothing_where_there_is_no_choice(cov, mask, share):
    before = torch.get_rng_state()
    entropy.clip_cov(cov, mask, share)
    assert torch.equal(torch.get_rng_state(), before)
    entropy.clip_cov(COV, ALL, 0.25)
    assert not torch.equal(torch.get_rng_state(), before)


def test_clip_covs_tokens_get_no_gradient_and_the_others_theirs():
    # Cov: log π −1, −3, −2, mean −2; A 2, −2, 0, mean 0: 2, 2, 0
    batch = batch_of([[-1.0], [-3.0], [-2.0]], [[2.0], [-2.0], [0.0]])
    plain = loss_and_gradient(Component(), batch)
    assert plain[1].tolist() == [[pytest.approx(-2 / 3)], [pytest.approx(2 / 3)], [0.0]]
    loss, gradient = loss_and_gradient(ClipCov(share=1.0), batch)
    assert (loss, gradient.tolist()) == (0.0, [[0.0], [0.0], [0.0]])
    for seed in range(4):
        torch.manual_seed(seed)
        _, gradient = loss_and_gradient(ClipCov(), batch)  # one of the two
        assert sorted(gradient.flatten().abs().tolist()) == [0.0, 0.0, pytest.approx(2 / 3)]


def test_the_papers_clip_cov_takes_no_token_of_a_small_micro_batch():
    batch = batch_of([[-1.0], [-3.0], [-2.0]], [[2.0], [-2.0], [0.0]])
    _, gradient = loss_and_gradient(ClipCov(at_least=0), batch)
    assert torch.equal(gradient, loss_and_gradient(Component(), batch)[1])


def test_clip_cov_keeps_the_weights_that_are_there():
    weight = tensor([[3.0], [5.0], [7.0]])
    batch = batch_of([[-1.0], [-3.0], [-2.0]], [[2.0], [-2.0], [0.5]], weight_BT=weight)
    # mean A 1/6: Cov 11/6, 13/6, 0
    shaped = ClipCov(share=1.0, low=2.0).shape_batch(batch)
    assert shaped.weight_BT is not None
    assert shaped.weight_BT.tolist() == [[3.0], [0.0], [7.0]]
    in_window = ClipCov(low=2.0).measures(batch)["clip_cov/in_window"]
    assert [x.item() for x in in_window] == [1.0, 3.0]


# --- KL-Cov -------------------------------------------------------------------------------------


def test_kl_cov_by_hand():
    # Cov: log π −1, −3, −4, −4, mean −3; A 2, −2, 1, −1, mean 0: 4, 0, −1, 1
    logp, old = [[-1.0, -3.0, -4.0, -4.0]], [[-1.1, -2.8, -4.0, -3.7]]
    batch = batch_of(logp, [[2.0, -2.0, 1.0, -1.0]], old=old)
    free = {"clip_low": 1.0, "clip_high": 9.0}
    plain = loss_and_gradient(Component(), batch, **free)
    # ⌊4 · .5⌋ = 2 tokens, the first and the last: .1 and .3 away from the old policy
    loss, gradient = loss_and_gradient(KLCov(share=0.5), batch, **free)
    assert loss - plain[0] == pytest.approx((0.1 + 0.3) / 4)
    # it pulls them back: +β sign(log π − log π_old)/N
    assert (gradient - plain[1])[0].tolist() == pytest.approx([0.25, 0.0, 0.0, -0.25])
    loss, _ = loss_and_gradient(KLCov(share=1e-9, beta=3.0), batch, **free)  # at least one
    assert loss - plain[0] == pytest.approx(3 * 0.1 / 4)
    total, number = KLCov(share=0.5).measures(batch)["kl_cov/abs_log_ratio"]
    assert (total.item(), number.item()) == (pytest.approx(0.4), 2)


def test_kl_cov_leaves_tokens_alone_that_take_nothing_from_the_entropy():
    cov = tensor([[0.0, -1.0, 3.0, 9.0]])
    assert as_set(entropy.kl_cov(cov, tensor([[1, 1, 1, 0]]), 1.0)) == {(0, 2)}
    assert as_set(entropy.kl_cov(cov * 0, torch.ones(1, 4), 1.0)) == set()
    assert as_set(entropy.kl_cov(cov, torch.zeros(1, 4), 1.0)) == set()


def test_kl_cov_does_nothing_at_the_first_update():
    """log π = log π_old: neither a value nor a gradient; on training that takes one update from
    each batch it never does anything."""
    theta, fixed = toy.student(), toy.rollouts(off_policy=0.0)
    logp = toy.logps(theta, fixed.token_BT)
    batch = toy.token_batch(theta, fixed, logp_BT=logp, old_logp_BT=logp.detach())
    found = toy.outcome(Composed(GRPO(beta=0.0), (KLCov(share=0.5),)), theta, batch)
    toy.same(found, toy.outcome(GRPO(beta=0.0), theta, batch), 0.0)


# --- high-entropy tokens ------------------------------------------------------------------------


def test_high_entropy_tokens_by_hand():
    ten = tensor([[1.0, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
    # the .8 quantile of 1 … 10 is at place .8 · 9 = 7.2: 8.2
    assert as_set(entropy.high_entropy_tokens(ten, torch.ones(2, 5))) == {(1, 3), (1, 4)}
    # without the 10: place .8 · 8 = 6.4 of 1 … 9: 7.4
    mask = tensor([[1] * 5, [1, 1, 1, 1, 0]])
    assert as_set(entropy.high_entropy_tokens(ten, mask)) == {(1, 2), (1, 3)}
    assert entropy.high_entropy_tokens(ten, torch.ones(2, 5), 1.0).all()
    assert entropy.high_entropy_tokens(ten * 0, torch.ones(2, 5)).all(), "ties are kept"
    assert not entropy.high_entropy_tokens(ten, torch.zeros(2, 5)).any()


def test_the_other_tokens_still_count_in_the_mean():
    more = {"entropy_BT": tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])}
    batch = batch_of([[-1.0] * 5], [[1.0]], **more)
    loss, gradient = loss_and_gradient(HighEntropyTokens(), batch)
    assert loss == pytest.approx(-1 / 5)
    assert gradient[0].tolist() == pytest.approx([0, 0, 0, 0, -1 / 5])
    _, gradient = loss_and_gradient(HighEntropyTokens(share=0.4), batch)
    assert gradient[0].tolist() == pytest.approx([0, 0, 0, -1 / 5, -1 / 5])
    total, number = HighEntropyTokens().measures(batch)["high_entropy_tokens/kept"]
    assert (total.item(), number.item()) == (1.0, 5)
    assert [
        x.item() for x in HighEntropyTokens().measures(batch)["high_entropy_tokens/entropy"]
    ] == [
        pytest.approx(0.5),
        1,
    ]


@given(st.integers(0, 99), st.sampled_from([0.1, 0.2, 0.5, 0.8]))
def test_the_share_that_is_kept(seed, share):
    batch = random_batch(seed)
    kept = entropy.high_entropy_tokens(batch.entropy_BT, batch.mask_BT, share)
    number = int(batch.mask_BT.sum())
    assert abs(int(kept.sum()) - share * number) <= 1
    assert not kept[batch.mask_BT == 0].any()
    if kept.any() and not kept[batch.mask_BT == 1].all():
        rest = (batch.mask_BT == 1) & ~kept
        assert batch.entropy_BT[kept].min() > batch.entropy_BT[rest].max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types(dtype):
    batch = random_batch(1)
    kept = entropy.high_entropy_tokens(batch.entropy_BT.to(dtype), batch.mask_BT)
    assert 0 < int(kept.sum()) < 0.4 * int(batch.mask_BT.sum())


# --- the door -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyBonus(coefficient=-1.0), "coefficient is -1.0; it must be at least 0"),
        (lambda: AdaptiveEntropy(target=-0.1), "target is -0.1; it must be at least 0 nats"),
        (lambda: AdaptiveEntropy(step=-1.0), "step is -1.0"),
        (lambda: AdaptiveEntropy(minimum=-1.0), "minimum is -1.0"),
        (lambda: AdaptiveEntropy(minimum=0.1), "maximum is 0.005; it must be at least 0.1"),
        (lambda: AdaptiveEntropy(initial=0.1), r"initial is 0.1; it must be in \[0.0, 0.005\]"),
        (lambda: ClipCov(share=1.5), r"share is 1.5; it must be in \[0, 1\]"),
        (lambda: ClipCov(low=9.0), "high is 5.0; it must be at least 9.0"),
        (lambda: ClipCov(at_least=-1), "at_least is -1"),
        (lambda: KLCov(share=-0.1), "share is -0.1"),
        (lambda: KLCov(beta=-1.0), "beta is -1.0"),
        (lambda: HighEntropyTokens(share=0.0), r"share is 0.0; it must be in \(0, 1\]"),
        (lambda: entropy.anneal(0.5, "linear"), "anneal is 'linear'; it is one of cosine"),
        (
            lambda: entropy.difficulty_factor(torch.ones(1, 1) > 0, torch.ones(1, 1), 5.0, "all"),
            "mean is 'all'; it is one of tokens, weighted",
        ),
    ],
)
def test_the_door(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_twin_entropy_is_the_entropy():
    assert twins.softmax_entropy([0.0] * 4) == pytest.approx(math.log(4))

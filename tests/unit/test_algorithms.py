"""GRPO and RLAD against their slow twins, against hand-worked numbers, and at the door."""

import math
import random
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkd import GRPO, RLAD
from rlkd.batch import TokenBatch
from tests.reference.losses import TwinBatch, policy_gradient, policy_loss


def draw_batch(seed: int, rows: int = 3, tokens: int = 4) -> TwinBatch:
    """Off-policy tokens, a teacher on both sides of the clamp, ragged masks, an end token each."""
    rng = random.Random(seed)
    table = lambda low, high: [  # noqa: E731
        [rng.uniform(low, high) for _ in range(tokens)] for _ in range(rows)
    ]
    logp = table(-3.0, -0.1)
    lengths = [rng.randint(1, tokens) for _ in range(rows)]
    return TwinBatch(
        logp=logp,
        old=[[v + rng.uniform(-0.4, 0.4) for v in row] for row in logp],
        mask=[[float(t < n) for t in range(tokens)] for n in lengths],
        advantage=[[rng.choice([-1.3, -0.4, 0.0, 0.6, 1.7])] for _ in range(rows)],
        teacher=[[v + rng.uniform(-2.0, 2.0) for v in row] for row in logp],
        ref=[[v + rng.uniform(-0.5, 0.5) for v in row] for row in logp],
        eos=[[t == n - 1 for t in range(tokens)] for n in lengths],
        weight=table(0.0, 1.5),
        accumulation=2.0,
        step_tokens=11.0,
        max_length=9,
    )


def as_tensors(twin: TwinBatch) -> TokenBatch:
    tensor = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
    return TokenBatch(
        logp_BT=tensor(twin.logp).requires_grad_(),
        old_logp_BT=tensor(twin.old),
        entropy_BT=torch.ones(len(twin.logp), len(twin.logp[0]), dtype=torch.float64),
        mask_BT=tensor(twin.mask),
        advantage_BT=tensor(twin.advantage),
        teacher_logp_BT=None if twin.teacher is None else tensor(twin.teacher),
        ref_logp_BT=None if twin.ref is None else tensor(twin.ref),
        is_eos_BT=None if twin.eos is None else torch.tensor(twin.eos),
        weight_BT=None if twin.weight is None else tensor(twin.weight),
        accumulation=twin.accumulation,
        step_tokens_per_rank=None if twin.step_tokens is None else tensor(twin.step_tokens),
        max_completion_length=twin.max_length,
    )


COMMON = {
    # Not 0: with alpha 0 and eos "drop" a ratio is 1 exactly, and the clip has a kink there.
    "clip_low": st.sampled_from([0.05, 0.1, 0.2]),
    "clip_high": st.sampled_from([0.1, 0.28]),
    "dual_clip": st.sampled_from([None, 1.5]),
    "reduction": st.sampled_from(["grpo", "bnpo", "dapo", "dr_grpo"]),
    "ratio_level": st.sampled_from(["token", "sequence"]),
    "beta": st.sampled_from([0.0, 0.3]),
    "kl_correction": st.booleans(),
}
OF_RLAD = {
    "alpha": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    "clamp": st.sampled_from(["literal", "straight_through", "none"]),
    "clamp_bound": st.sampled_from([0.5, 1.0]),
    "mixture": st.sampled_from(["geometric", "arithmetic"]),
    "eos": st.sampled_from(["keep", "old_policy", "drop"]),
}


def equals_its_twin(algorithm, seed: int) -> None:
    twin = draw_batch(seed)
    batch = as_tensors(twin)
    loss = algorithm.loss(batch).loss
    (gradient_BT,) = torch.autograd.grad(loss, batch.logp_BT)
    fields = asdict(algorithm)
    assert loss.item() == pytest.approx(policy_loss(twin, **fields), rel=1e-9, abs=1e-12)
    want = torch.tensor(policy_gradient(twin, **fields), dtype=torch.float64)
    torch.testing.assert_close(gradient_BT, want, rtol=1e-5, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(fields=st.fixed_dictionaries(COMMON), seed=st.integers(0, 10_000))
def test_grpo_equals_its_slow_twin_in_loss_and_gradient(fields, seed):
    equals_its_twin(GRPO(**fields), seed)


@settings(max_examples=120, deadline=None)
@given(fields=st.fixed_dictionaries(COMMON | OF_RLAD), seed=st.integers(0, 10_000))
def test_rlad_equals_its_slow_twin_in_loss_and_gradient(fields, seed):
    equals_its_twin(RLAD(**fields), seed)


# -- by hand --------------------------------------------------------------------------------------


def two_by_three(teacher_gap, advantages, old_gap=0.0, **more) -> TokenBatch:
    """log π_S = −1 everywhere; log π_T = −1 − gap; log π_old = −1 − old_gap."""
    gap_BT = torch.tensor(teacher_gap, dtype=torch.float64)
    fields = {
        "logp_BT": torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True),
        "old_logp_BT": torch.full((2, 3), -1.0 - old_gap, dtype=torch.float64),
        "entropy_BT": torch.full((2, 3), 0.5, dtype=torch.float64),
        "mask_BT": torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64),
        "advantage_BT": torch.tensor(advantages, dtype=torch.float64).unsqueeze(-1),
        "teacher_logp_BT": -1.0 - gap_BT,
    }
    return TokenBatch(**(fields | more))


def test_grpo_by_hand():
    # r = e^0.1 = 1.10517 on every token, nothing clipped at 0.2. Row means: −2 r and +1 r; mean
    # over the two rows: −r/2. The gradient is the same, spread over 3 and over 2 tokens.
    batch = two_by_three([[0.0] * 3] * 2, [2.0, -1.0], old_gap=0.1)
    loss = GRPO(beta=0.0).loss(batch).loss
    r = math.exp(0.1)
    assert loss.item() == pytest.approx(-r / 2)
    (gradient,) = torch.autograd.grad(loss, batch.logp_BT)
    want = [[-2 * r / 6] * 3, [r / 4, r / 4, 0.0]]
    torch.testing.assert_close(gradient, torch.tensor(want, dtype=torch.float64))


def test_rlad_by_hand():
    # On-policy, α = 0.5: log r = δ/2 with δ clamped to [−1, 1].
    # Good row, A = 2: δ = 0.4 → r = e^0.2 = 1.2214 kept; δ = 0.6 → e^0.3 = 1.3499 > 1.28, cut to
    # 1.28 without gradient; δ = −3 → −1 → e^−0.5 = 0.6065 kept, the clamp leaves α of the gradient.
    # Bad row, A = −1: δ = 3 → 1 → e^0.5 = 1.6487 kept (A < 0 has no upper clip), again α of the
    # gradient; δ = −0.6 → e^−0.3 = 0.7408 < 0.8, cut. The third token is padding.
    batch = two_by_three([[0.4, 0.6, -3.0], [3.0, -0.6, 9.0]], [2.0, -1.0])
    loss = RLAD().loss(batch).loss
    good = -2 * (math.exp(0.2) + 1.28 + math.exp(-0.5)) / 3
    bad = (math.exp(0.5) + 0.8) / 2
    assert loss.item() == pytest.approx((good + bad) / 2)
    (gradient,) = torch.autograd.grad(loss, batch.logp_BT)
    want = [
        [-2 * math.exp(0.2) / 6, 0.0, -2 * 0.5 * math.exp(-0.5) / 6],
        [0.5 * math.exp(0.5) / 4, 0.0, 0.0],
    ]
    torch.testing.assert_close(gradient, torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_the_first_updates_weight_is_the_analytic_one(alpha):
    """core: A e^((1−α)δ) inside the clip, 0 outside, times α where the literal clamp holds δ."""
    gaps = torch.linspace(-2.0, 2.0, 81, dtype=torch.float64)
    gaps = gaps[(gaps.abs() - 1.0).abs() > 1e-9]  # at the bound itself both one-sided rules hold
    for advantage in (1.5, -0.7):
        count = len(gaps)
        batch = TokenBatch(
            logp_BT=torch.full((count, 1), -1.0, dtype=torch.float64, requires_grad=True),
            old_logp_BT=torch.full((count, 1), -1.0, dtype=torch.float64),
            entropy_BT=torch.zeros(count, 1, dtype=torch.float64),
            mask_BT=torch.ones(count, 1, dtype=torch.float64),
            advantage_BT=torch.full((count, 1), advantage, dtype=torch.float64),
            teacher_logp_BT=(-1.0 - gaps).unsqueeze(-1),
        )
        loss = RLAD(alpha=alpha).loss(batch).loss
        (gradient,) = torch.autograd.grad(loss, batch.logp_BT)
        for gap, got in zip(gaps.tolist(), (-gradient * count).flatten().tolist(), strict=True):
            delta = max(-1.0, min(1.0, gap))
            log_r = (1 - alpha) * delta
            cut = log_r > math.log(1.28) if advantage > 0 else log_r < math.log(0.8)
            weight = 0.0 if cut else advantage * math.exp(log_r)
            assert got == pytest.approx(weight * (alpha if abs(gap) > 1 else 1.0), abs=1e-12), gap


def test_straight_through_has_the_unclamped_gradient():
    batch = two_by_three([[0.4, 0.2, -3.0], [3.0, 0.1, 9.0]], [2.0, -1.0])
    loss = RLAD(clamp="straight_through").loss(batch).loss
    (gradient,) = torch.autograd.grad(loss, batch.logp_BT)
    assert gradient[0, 2].item() == pytest.approx(-2 * math.exp(-0.5) / 6)  # r whole, not α r
    assert gradient[1, 0].item() == pytest.approx(math.exp(0.5) / 4)


def test_the_clamp_follows_the_student_at_every_update():
    """With the teacher far away δ stays at the bound however far the student has moved."""
    near = two_by_three([[5.0] * 3] * 2, [1.0, 1.0])
    moved = replace(near, logp_BT=(near.logp_BT.detach() + 0.2).requires_grad_())
    ratios = [RLAD().log_ratio(batch)[0, 0].item() for batch in (near, moved)]
    assert ratios == pytest.approx([0.5, 0.5 * 0.2 + 0.5])


def test_what_is_measured_by_hand():
    # Good row (A = 2): gaps 0.4, 0.6, −3; bad row (A = −1): gaps 3, −0.6 and padding. See above
    # for which are cut: one good of three, one bad of two. End tokens: the last of each row.
    ends = torch.tensor([[False, False, True], [False, True, False]])
    batch = two_by_three([[0.4, 0.6, -3.0], [3.0, -0.6, 9.0]], [2.0, -1.0], is_eos_BT=ends)
    means = {name: tuple(float(v) for v in pair) for name, pair in RLAD().loss(batch).means.items()}
    want = {
        "entropy": (2.5, 5),
        "clip_ratio/low_mean": (1, 5),
        "clip_ratio/high_mean": (1, 5),
        "clip_ratio/region_mean": (2, 5),
        "clip_ratio/of_good_tokens": (1, 3),
        "clip_ratio/of_bad_tokens": (1, 2),
        "teacher/gap": (0.4 + 0.6 - 3 + 3 - 0.6, 5),
        "teacher/beyond_clamp": (2, 5),
        "teacher/impossible_tokens": (0, 5),
        "teacher/gap_at_eos": (-3.6, 2),
    }
    assert means.keys() == want.keys()
    for name, pair in want.items():
        assert means[name] == pytest.approx(pair), name


def test_a_token_that_the_teacher_rules_out_is_counted_and_left_out_of_the_gap():
    batch = two_by_three([[0.5, math.inf, 0.5], [0.5, 0.5, 9.0]], [2.0, -1.0])
    means = RLAD().loss(batch).means
    assert [float(v) for v in means["teacher/impossible_tokens"]] == [1, 5]
    assert [float(v) for v in means["teacher/gap"]] == pytest.approx([2.0, 4])
    assert [float(v) for v in means["teacher/beyond_clamp"]] == [1, 5]


def test_the_gap_is_of_the_present_student_and_not_of_the_one_that_sampled():
    batch = two_by_three([[0.5] * 3] * 2, [2.0, -1.0], old_gap=0.3)
    assert [float(v) for v in RLAD().loss(batch).means["teacher/gap"]] == pytest.approx([2.5, 5])


def test_advantages_use_the_algorithms_scale():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    # Mean 0.5; population standard deviation 0.5, sample sqrt(1/3).
    assert RLAD(advantage_eps=0.0).advantages(rewards)[0, 0].item() == pytest.approx(1.0)
    sample = GRPO(advantage_eps=0.0).advantages(rewards)[0, 0].item()
    assert sample == pytest.approx(0.5 * math.sqrt(3))
    assert GRPO(advantage_scale="none").advantages(rewards)[0, 0].item() == 0.5


# -- the papers' settings, and the door -----------------------------------------------------------


def test_the_defaults_are_the_papers():
    grpo = GRPO()
    assert (grpo.beta, grpo.clip_low, grpo.clip_high, grpo.reduction) == (0.04, 0.2, 0.2, "grpo")
    rlad = RLAD()
    for shared in (grpo, rlad):  # TRL's, where the papers say nothing
        assert (shared.dual_clip, shared.ratio_level) == (None, "token")
        assert (shared.kl_correction, shared.advantage_eps) == (True, 1e-4)
    assert (grpo.advantage_scale, rlad.eos) == ("sample_std", "keep")
    assert (rlad.alpha, rlad.clip_low, rlad.clip_high) == (0.5, 0.2, 0.28)
    assert (rlad.clamp, rlad.clamp_bound, rlad.mixture) == ("literal", 1.0, "geometric")
    assert (rlad.advantage_scale, rlad.reduction, rlad.beta) == ("population_std", "grpo", 0.0)
    assert rlad.needs_teacher
    assert not grpo.needs_teacher


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GRPO(clip_low=1.5), r"clip_low is 1.5; it must be in \[0, 1\]"),
        (lambda: GRPO(clip_high=-0.1), "clip_high is -0.1; it must be at least 0"),
        (lambda: GRPO(beta=-1.0), "beta is -1.0; it must be at least 0"),
        (lambda: GRPO(advantage_eps=-1.0), "advantage_eps is -1.0; it must be at least 0"),
        (lambda: GRPO(dual_clip=1.1), "dual_clip is 1.1; it must be above 1.2"),
        (lambda: GRPO(reduction="mean"), "reduction is 'mean'; it must be one of grpo, bnpo"),
        (lambda: GRPO(ratio_level="x"), "ratio_level is 'x'; it must be one of token, sequence"),
        (lambda: GRPO(advantage_scale="std"), "advantage_scale is 'std'; .* population_std"),
        (lambda: RLAD(alpha=1.5), r"alpha is 1.5; it is the old policy's weight, in \[0, 1\]"),
        (lambda: RLAD(clamp_bound=0.0), "clamp_bound is 0.0 nats; it must be above 0"),
        (lambda: RLAD(clamp_bound=math.nan), "clamp_bound is nan nats; it must be above 0"),
        (lambda: RLAD(clamp="soft"), "clamp is 'soft'; it must be one of literal"),
        (lambda: RLAD(mixture="harmonic"), "mixture is 'harmonic'; it must be one of geometric"),
        (lambda: RLAD(eos="mask"), "eos is 'mask'; it must be one of keep, old_policy, drop"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_a_batch_lacks_is_said():
    batch = two_by_three([[0.0] * 3] * 2, [1.0, -1.0])
    with pytest.raises(ValueError, match=r"beta is 0.1 but the batch holds no reference log-probs"):
        GRPO(beta=0.1).loss(batch)
    with pytest.raises(ValueError, match="RLAD needs the teacher's log-probs"):
        RLAD().loss(replace(batch, teacher_logp_BT=None))
    with pytest.raises(ValueError, match="eos is 'drop' but the batch does not say where"):
        RLAD(eos="drop").loss(batch)

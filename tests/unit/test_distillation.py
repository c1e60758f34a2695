"""Dr. GRPO, DAPO, GSPO, CISPO and the algorithms on the teacher's gap: against their slow twins,
against hand-worked numbers, and at the door. What all share is in `tests/laws`."""

import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkd import CISPO, DAPO, GRPO, GSPO, HDPO, KDRL, OPD, RLSD, SRPO, TOPD, DrGRPO
from rlkd.batch import TokenBatch
from rlkd.objectives import distillation, divergences, returns
from tests.reference import distilled
from tests.reference.losses import TwinBatch, cispo_loss, policy_gradient, policy_loss
from tests.unit.test_algorithms import COMMON, as_tensors, draw_batch, two_by_three

D = torch.float64


def drawn(seed: int) -> tuple[TwinBatch, TokenBatch]:
    """The rows of `draw_batch`, with one answer of three correct."""
    accuracy = [0.5, 0.0, math.nan]
    twin = replace(draw_batch(seed), correct=[True, False, False], accuracy=accuracy)
    assert twin.correct is not None
    batch = as_tensors(twin).replace(
        correct_B1=torch.tensor(twin.correct).unsqueeze(1),
        group_accuracy_B1=torch.tensor(accuracy, dtype=D).unsqueeze(1),
    )
    return twin, batch


def equals_its_twin(algorithm, loss_of, seed: int) -> None:
    twin, batch = drawn(seed)
    loss, fields = algorithm.loss(batch).loss, asdict(algorithm)
    (gradient_BT,) = torch.autograd.grad(loss, batch.logp_BT)
    assert loss.item() == pytest.approx(loss_of(twin, **fields), rel=1e-9, abs=1e-12)
    want = torch.tensor(policy_gradient(twin, loss_of, **fields), dtype=D)
    torch.testing.assert_close(gradient_BT, want, rtol=1e-5, atol=1e-7)


TOKEN_LEVEL = COMMON | {"ratio_level": st.just("token")}
GAP = {"gap_bound": st.sampled_from([0.6, 20.0]), "eos": st.sampled_from(["keep", "drop"])}
WEIGHT = {"teacher_weight": st.sampled_from([0.0, 0.3, 1.0])}
TWINS = {
    OPD: (distilled.opd, WEIGHT | {
        "reward_weight": st.sampled_from([0.0, 0.5, 1.0]),
        "discount": st.sampled_from([0.0, 0.7, 1.0]),
    }),
    KDRL: (distilled.kdrl, WEIGHT | {
        "estimator": st.sampled_from(["k2", "k3", "k1_advantage"]),
        "mask": st.sampled_from(["none", "correct_answers", "solved_groups"]),
    }),
    SRPO: (distilled.srpo, WEIGHT),
    HDPO: (distilled.hdpo, WEIGHT),
    RLSD: (distilled.rlsd, WEIGHT | {"weight_bound": st.sampled_from([0.2, 1.0])}),
    TOPD: (distilled.topd, {
        "alpha": st.sampled_from([0.2, 0.7, 1.0]),
        "later": st.sampled_from(["mean", "none"]),
        "standardise": st.sampled_from(["microbatch", "none"]),
    }),
}  # fmt: skip


@pytest.mark.parametrize("kind", TWINS, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_it_equals_its_slow_twin_in_loss_and_gradient(kind, data, seed):
    twin, own = TWINS[kind]
    fields = data.draw(st.fixed_dictionaries(TOKEN_LEVEL | GAP | own))
    equals_its_twin(kind(**fields), twin, seed)


@settings(max_examples=40, deadline=None)
@given(
    fields=st.fixed_dictionaries(
        TOKEN_LEVEL | {"clip_low": st.sampled_from([0.1, 1.0]), "dual_clip": st.none()}
    ),
    seed=st.integers(0, 10_000),
)
def test_cispo_equals_its_slow_twin_in_loss_and_gradient(fields, seed):
    equals_its_twin(CISPO(**fields), cispo_loss, seed)


@pytest.mark.parametrize("algorithm", [DrGRPO(), DAPO(), GSPO()], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_grpos_relatives_equal_its_slow_twin(algorithm, seed):
    equals_its_twin(algorithm, policy_loss, seed)


@pytest.mark.parametrize(
    ("algorithm", "settings_of_grpo"),
    [
        (DrGRPO(), {"advantage_scale": "none", "reduction": "dr_grpo"}),
        (DAPO(), {"clip_high": 0.28, "reduction": "dapo"}),
        (GSPO(), {"clip_low": 3e-4, "clip_high": 4e-4, "ratio_level": "sequence"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_grpos_relatives_are_settings_of_it_bit_for_bit(algorithm, settings_of_grpo):
    grpo = GRPO(beta=0.0, **settings_of_grpo)
    rewards_NG = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    assert torch.equal(algorithm.advantages(rewards_NG), grpo.advantages(rewards_NG))
    for seed in range(5):
        _, batch = drawn(seed)
        losses = [a.loss(batch).loss for a in (algorithm, grpo)]
        grads = [torch.autograd.grad(loss, batch.logp_BT)[0] for loss in losses]
        assert losses[0] == losses[1]
        assert torch.equal(grads[0], grads[1])


# -- by hand --------------------------------------------------------------------------------------


def gradient(algorithm, batch: TokenBatch) -> torch.Tensor:
    """−∂loss/∂log π times the number of counted tokens (`dapo`: the token's own weight)."""
    (grad,) = torch.autograd.grad(algorithm.loss(batch).loss, batch.logp_BT)
    return -grad * batch.mask_BT.sum()


def table(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=D)


# log π_S = −1, log π_T = −1 − gap: d = −gap. Five counted tokens, the end tokens last in each row.
GAPS = [[0.4, -0.6, 3.0], [-2.0, math.inf, 9.0]]
ENDS = torch.tensor([[False, False, True], [False, True, False]])
ROWS = {
    "is_eos_BT": ENDS,
    "correct_B1": torch.tensor([[True], [False]]),
    "group_accuracy_B1": torch.tensor([[0.5], [0.0]]),
}
MEAN = {"reduction": "dapo"}


@pytest.mark.parametrize(
    ("algorithm", "weights"),
    [
        (OPD(), [[-0.4, 0.6, -3.0], [2.0, -20.0, 0]]),
        (OPD(eos="drop", gap_bound=1.0), [[-0.4, 0.6, 0], [1.0, 0, 0]]),
        (OPD(teacher_weight=0.5, reward_weight=2.0), [[3.8, 4.3, 2.5], [-1.0, -12.0, 0]]),
        # γ = ½: the last token −3, then 0.6 − 1.5 = −0.9, then −0.4 − 0.45 = −0.85.
        (OPD(discount=0.5, gap_bound=4.0), [[-0.85, -0.9, -3.0], [0.0, -4.0, 0]]),
        (KDRL(teacher_weight=0.1, **MEAN), [[1.96, 2.06, 1.7], [-0.8, -3.0, 0]]),
        (KDRL(teacher_weight=0.1, estimator="k1_advantage", **MEAN),
         [[1.96, 2.06, 1.7], [-0.8, -3.0, 0]]),
        (KDRL(teacher_weight=0.1, mask="correct_answers", **MEAN), [[2, 2, 2], [-0.8, -3.0, 0]]),
        (KDRL(teacher_weight=0.1, mask="solved_groups", **MEAN), [[2, 2, 2], [-0.8, -3.0, 0]]),
        (KDRL(teacher_weight=0.1, eos="drop", **MEAN), [[1.96, 2.06, 2], [-0.8, -1, 0]]),
        # k3's weight: −β (1 − e^d).
        (KDRL(teacher_weight=0.1, estimator="k3", gap_bound=4.0, **MEAN),
         [[2 - 0.1 * (1 - math.exp(d)) for d in (-0.4, 0.6, -3.0)],
          [-1 - 0.1 * (1 - math.exp(2.0)), -1 - 0.1 * (1 - math.exp(-4.0)), 0]]),
        (SRPO(**MEAN), [[2, 2, 2], [2.0, -20.0, 0]]),
        (SRPO(teacher_weight=0.5, eos="drop", **MEAN), [[2, 2, 2], [1.0, 0, 0]]),
        (HDPO(teacher_weight=0.1, **MEAN), [[2, 2, 2], [-0.8, -3.0, 0]]),
        # λ = ½, ε_w = 0.2. Good row: e^−0.4 = 0.67 → 0.8, so 2 · 0.9; e^0.6 → 1.2, so 2 · 1.1.
        # Bad row: e^−2 → 0.8 and e^20 → 1.2.
        (RLSD(**MEAN), [[1.8, 2.2, 1.8], [-0.9, -1.1, 0]]),
        (RLSD(weight_bound=1.0, teacher_weight=1.0, **MEAN),
         [[2 * math.exp(-0.4), 2 * math.exp(0.6), 2 * math.exp(-3)], [-math.exp(-2), -2, 0]]),
        (TOPD(alpha=0.5, later="none", standardise="none"),
         [[math.log(0.5 * math.exp(d) + 0.5) for d in (-0.4, 0.6, -3.0)],
          [math.log(0.5 * math.exp(2.0) + 0.5), math.log(0.5), 0]]),
        # α = 1: r = d. The first token answers for (0.6 − 3)/2 besides, the second for −3.
        (TOPD(alpha=1.0, standardise="none"), [[-1.6, -2.4, -3.0], [-18.0, -20.0, 0]]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)  # fmt: skip
def test_the_weight_of_each_token_by_hand(algorithm, weights):
    batch = two_by_three(GAPS, [2.0, -1.0], **ROWS)
    torch.testing.assert_close(gradient(algorithm, batch), table(weights), rtol=1e-8, atol=1e-8)


def test_topd_scales_over_the_tokens_of_the_microbatch():
    # α = 1, own reward, bound 2: d = −0.4, 0.6, −2 and 2, −2. Mean −0.36; the squares are
    # 0.0016 + 0.9216 + 2.6896 + 5.5696 + 2.6896 = 11.872, over 5: 2.3744.
    batch = two_by_three(GAPS, [2.0, -1.0], **ROWS)
    algorithm = TOPD(alpha=1.0, later="none", gap_bound=2.0, advantage_eps=0.0)
    want = (table([[-0.4, 0.6, -2.0], [2.0, -2.0, 0.0]]) + 0.36) / math.sqrt(2.3744)
    want[1, 2] = 0.0
    torch.testing.assert_close(gradient(algorithm, batch), want)
    equal = two_by_three([[0.7] * 3] * 2, [2.0, -1.0], **ROWS)
    assert (gradient(algorithm, equal) == 0).all()


def test_topd_without_mixture_and_scale_is_opd():
    batch = two_by_three(GAPS, [2.0, -1.0], **ROWS)
    topd = TOPD(alpha=1.0, later="none", standardise="none")
    assert torch.equal(topd.token_advantages(batch), OPD().token_advantages(batch))
    assert (TOPD(alpha=0.0).token_advantages(batch.replace(teacher_logp_BT=None)) == 0).all()


def test_cispo_by_hand():
    # r = e^0.1 = 1.105 on every token, capped at 1.05: the weight 1.05 · A, and no gradient lost.
    batch = two_by_three([[0.0] * 3] * 2, [2.0, -1.0], old_gap=0.1)
    want = table([[2.1] * 3, [-1.05, -1.05, 0]])
    torch.testing.assert_close(gradient(CISPO(clip_high=0.05), batch), want)
    # The value is −1.05 · A · log π_S, log π_S = −1: (3 · 2.1 − 2 · 1.05) / 5.
    output = CISPO(clip_high=0.05).loss(batch)
    assert output.loss.item() == pytest.approx(4.2 / 5)
    assert [float(v) for v in output.means["clip_ratio/capped"]] == [5, 5]
    # Far below 1 there is no lower bound: r = e^−2 stays.
    far = two_by_three([[0.0] * 3] * 2, [2.0, -1.0], old_gap=-2.0)
    low = math.exp(-2.0)
    want = table([[2 * low] * 3, [-low, -low, 0]])
    torch.testing.assert_close(gradient(CISPO(), far), want)
    means = CISPO(clip_high=0.05).loss(far).means
    assert [float(v) for v in means["clip_ratio/capped"]] == [0, 5]


def test_the_gap_stays_what_it_was_while_the_student_moves():
    """On the second update r changes and the advantage does not; k2 follows the student."""
    first = two_by_three([[0.4] * 3] * 2, [2.0, -1.0], **ROWS)
    moved = first.replace(logp_BT=(first.logp_BT.detach() + 0.05).requires_grad_())
    r = math.exp(0.05)
    torch.testing.assert_close(gradient(OPD(), moved), r * gradient(OPD(), first))
    k2 = KDRL(teacher_weight=0.1, reduction="dapo")
    want = table([[2 * r - 0.045] * 3, [-r - 0.045, -r - 0.045, 0]])
    torch.testing.assert_close(gradient(k2, moved), want)


def test_an_answer_that_cannot_be_graded():
    """SRPO has the teacher correct it; a group without a gradable answer has not failed (HDPO)."""
    ungraded = ROWS | {"group_accuracy_B1": torch.tensor([[math.nan], [math.nan]])}
    batch = two_by_three(GAPS, [0.0, 0.0], **ungraded)
    assert (gradient(HDPO(reduction="dapo"), batch) == 0).all()
    assert gradient(SRPO(reduction="dapo"), batch)[1, 0].item() == pytest.approx(2.0)


def test_what_is_measured_of_the_gap():
    batch = two_by_three(GAPS, [2.0, -1.0], **ROWS)
    means = {
        k: [float(v) for v in pair] for k, pair in OPD(gap_bound=2.5).loss(batch).means.items()
    }
    assert means["teacher/gap"] == pytest.approx([0.4 - 0.6 + 3.0 - 2.0, 4])
    assert means["teacher/gap_at_eos"] == pytest.approx([3.0, 1])
    assert means["teacher/beyond_clamp"] == [2, 5]
    assert means["teacher/impossible_tokens"] == [1, 5]


def test_k2_is_half_a_square_and_its_gradient_is_the_gap():
    logp = torch.tensor([[-1.0, -2.0]], dtype=D, requires_grad=True)
    other = torch.tensor([[-1.5, -0.5]], dtype=D)
    value = divergences.k2(logp, other)
    torch.testing.assert_close(value, table([[0.125, 1.125]]))
    (grad,) = torch.autograd.grad(value.sum(), logp)
    torch.testing.assert_close(grad, table([[0.5, -1.5]]))
    assert (divergences.k2(other, other) == 0).all()


def test_the_gradients_of_the_estimators_are_what_the_module_says():
    """Exact expectation over a categorical student: k1's is 0, k2's that of KL(π ‖ q), k3's that of
    KL(q ‖ π)."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(6, generator=generator, dtype=D, requires_grad=True)
    other = torch.randn(6, generator=generator, dtype=D).log_softmax(-1)

    def of(function) -> torch.Tensor:
        logp = theta.log_softmax(-1)
        value = (logp.exp().detach() * function(logp, other)).sum()
        return torch.autograd.grad(value, theta)[0]

    logp = theta.log_softmax(-1)
    (reverse,) = torch.autograd.grad((logp.exp() * (logp - other)).sum(), theta)
    logp = theta.log_softmax(-1)
    (forward,) = torch.autograd.grad((other.exp() * (other - logp)).sum(), theta)
    torch.testing.assert_close(of(divergences.k1), torch.zeros_like(theta), rtol=0, atol=1e-14)
    torch.testing.assert_close(of(divergences.k2), reverse)
    torch.testing.assert_close(of(divergences.k3), forward)
    assert not torch.allclose(reverse, forward, rtol=1e-2)


@given(
    rows=st.lists(st.lists(st.floats(-5, 5), min_size=7, max_size=7), min_size=1, max_size=3),
    discount=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
def test_discounted_sums_equal_the_loop(rows, discount):
    want = []
    for row in rows:
        total, out = 0.0, []
        for value in reversed(row):
            total = value + discount * total
            out.append(total)
        want.append(out[::-1])
    found = returns.discounted_sum(table(rows), discount)
    torch.testing.assert_close(found, table(want), rtol=1e-9, atol=1e-9)


def test_a_tools_tokens_are_in_no_mean_of_later_ones():
    value, mask = table([[1.0, 100.0, 3.0, 5.0]]), table([[1.0, 0.0, 1.0, 1.0]])
    found = distillation.with_mean_of_later(value, mask)
    torch.testing.assert_close(found, table([[1 + 4.0, 0, 3 + 5.0, 5.0]]))


# -- the papers' settings, and the door -----------------------------------------------------------


def test_the_defaults_are_the_papers():
    assert (DrGRPO().advantage_scale, DrGRPO().reduction, DrGRPO().beta) == ("none", "dr_grpo", 0.0)
    dapo = DAPO()
    assert (dapo.clip_low, dapo.clip_high, dapo.reduction, dapo.beta) == (0.2, 0.28, "dapo", 0.0)
    assert dapo.dynamic_sampling
    assert (GSPO().clip_low, GSPO().clip_high, GSPO().reduction) == (3e-4, 4e-4, "grpo")
    assert (CISPO().clip_low, CISPO().clip_high, CISPO().reduction) == (1.0, 4.0, "dapo")
    opd = OPD()
    assert (opd.teacher_weight, opd.reward_weight, opd.discount) == (1.0, 0.0, 0.0)
    kdrl = KDRL()
    assert (kdrl.teacher_weight, kdrl.estimator, kdrl.mask) == (2e-3, "k2", "none")
    assert (SRPO().teacher_weight, HDPO().teacher_weight) == (1.0, 2e-3)
    assert (RLSD().teacher_weight, RLSD().weight_bound, RLSD().clip_high) == (0.5, 0.2, 0.28)
    assert (TOPD().alpha, TOPD().later, TOPD().standardise) == (0.2, "mean", "microbatch")
    for one in (opd, kdrl, SRPO(), HDPO(), RLSD(), TOPD()):
        assert one.needs_teacher
        assert (one.gap_bound, one.eos, one.beta) == (20.0, "keep", 0.0)
    assert not any(one.needs_teacher for one in (DrGRPO(), dapo, GSPO(), CISPO()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GSPO(ratio_level="token"), "ratio_level is 'token'; it must be 'sequence'"),
        (lambda: CISPO(ratio_level="sequence"), "ratio_level is 'sequence'; it must be 'token'"),
        (lambda: CISPO(dual_clip=9.0), "dual_clip is 9.0; it must be null"),
        (lambda: OPD(ratio_level="sequence"), "ratio_level is 'sequence'; it must be 'token'"),
        (lambda: OPD(discount=1.5), r"discount is 1.5; it must be in \[0, 1\]"),
        (lambda: OPD(gap_bound=0.0), "gap_bound is 0.0; it must be above 0 nats"),
        (lambda: OPD(reward_weight=-1.0), "reward_weight is -1.0; it must be at least 0"),
        (lambda: OPD(teacher_weight=-1.0), "teacher_weight is -1.0; it must be at least 0"),
        (lambda: OPD(eos="old_policy"), "eos is 'old_policy'; it must be one of keep, drop"),
        (lambda: KDRL(estimator="k1"), "differentiated in a loss k1 has the gradient"),
        (lambda: KDRL(estimator="k4"), "estimator is 'k4'; it must be one of k2, k3"),
        (lambda: KDRL(mask="wrong"), "mask is 'wrong'; it must be one of none, correct_answers"),
        (lambda: KDRL(teacher_weight=-1.0), "teacher_weight is -1.0; it must be at least 0"),
        (lambda: KDRL(estimator="k1_advantage", ratio_level="sequence"), "would share one advanta"),
        (lambda: SRPO(teacher_weight=-1.0), "teacher_weight is -1.0; it must be at least 0"),
        (lambda: HDPO(teacher_weight=-1.0), "teacher_weight is -1.0; it must be at least 0"),
        (lambda: RLSD(teacher_weight=1.1), r"teacher_weight is 1.1; it must be in \[0, 1\]"),
        (lambda: RLSD(weight_bound=1.1), r"weight_bound is 1.1; it must be in \[0, 1\]"),
        (lambda: TOPD(alpha=1.1), r"alpha is 1.1; it must be in \[0, 1\]"),
        (lambda: TOPD(later="sum"), "later is 'sum'; it must be one of mean, none"),
        (lambda: TOPD(standardise="group"), "standardise is 'group'; it must be one of microbatch"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_a_batch_lacks_is_said():
    batch = two_by_three(GAPS, [2.0, -1.0])
    with pytest.raises(ValueError, match="OPD needs the teacher's log-probs"):
        OPD().loss(batch.replace(teacher_logp_BT=None))
    with pytest.raises(ValueError, match="eos is 'drop' but the batch does not say where"):
        OPD(eos="drop").loss(batch)
    with pytest.raises(ValueError, match="SRPO must know which answers are correct, and the batch"):
        SRPO().loss(batch)
    with pytest.raises(ValueError, match="HDPO must know how many answers of a group are correct"):
        HDPO().loss(batch)
    with pytest.raises(ValueError, match="KDRL must know which answers are correct"):
        KDRL(mask="correct_answers").loss(batch)

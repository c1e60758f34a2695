"""Divergences over the vocabulary: values, gradients, chunks, memory."""

import math
from dataclasses import replace

import pytest
import torch

from rlkd.objectives import vocabulary
from rlkd.objectives.chunked import Head, chunked_divergence
from rlkd.objectives.vocabulary import Divergence
from tests.reference import vocabulary as twin
from tests.unit.test_logprobs import LargestTensor

ALL = [
    Divergence(kind="forward_kl"),
    Divergence(kind="reverse_kl"),
    *[Divergence(kind="jsd", weight=beta) for beta in (0.0, 0.1, 0.5, 0.9, 1.0)],
    *[Divergence(kind="skewed_kl", weight=skew) for skew in (0.0, 0.1, 0.7)],
    *[Divergence(kind="skewed_reverse_kl", weight=skew) for skew in (0.0, 0.1, 0.7)],
]
TOP = [
    replace(ALL[place], top_k=k) for place, k in ((0, 1), (1, 3), (1, 6), (4, 3), (8, 6), (11, 50))
]
every = pytest.mark.parametrize("divergence", ALL + TOP, ids=str)
V = 7


def logits(seed: int, n: int = 4, dtype=torch.float64, scale: float = 2.0):
    generator = torch.Generator().manual_seed(seed)
    pair = scale * torch.randn(2, n, V, generator=generator, dtype=torch.float64).to(dtype)
    return pair[0], pair[1]


@every
def test_values_are_those_of_the_slow_twin(divergence):
    teacher_NV, student_NV = logits(0)
    found = divergence.value(teacher_NV.log_softmax(-1), student_NV.log_softmax(-1))
    for n, value in enumerate(found.tolist()):
        want = twin.of_logits(
            teacher_NV[n].tolist(), student_NV[n].tolist(),
            divergence.kind, divergence.weight, divergence.top_k,
        )  # fmt: skip
        assert value == pytest.approx(want, rel=1e-12)


@every
def test_the_gradient_is_the_derivative_of_the_slow_twin(divergence):
    """Central differences of plain Python floats, each logit by itself."""
    teacher_NV, student_NV = logits(1, n=2)
    found = divergence.gradient(teacher_NV.log_softmax(-1), student_NV.log_softmax(-1))
    for n in range(2):
        for j in range(V):
            at = []
            for step in (1e-5, -1e-5):
                moved = student_NV[n].tolist()
                moved[j] += step
                at.append(
                    twin.of_logits(
                        teacher_NV[n].tolist(), moved,
                        divergence.kind, divergence.weight, divergence.top_k,
                    )
                )  # fmt: skip
            assert float(found[n, j]) == pytest.approx((at[0] - at[1]) / 2e-5, rel=1e-5, abs=1e-9)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_distributions_are_at_0_exactly(divergence, dtype):
    logp_NV = logits(2, n=50, dtype=dtype, scale=5.0)[0].log_softmax(-1)
    assert divergence.value(logp_NV, logp_NV.clone()).tolist() == [0.0] * 50
    gradient = divergence.gradient(logp_NV, logp_NV.clone())
    assert gradient.abs().max() < 4 * torch.finfo(dtype).eps


@every
@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_it_is_never_below_0_and_a_gradient_sums_to_0(divergence, scale):
    """The softmax does not see a constant added to all logits."""
    teacher_NV, student_NV = logits(5, n=200, scale=scale)
    logp_NV, logq_NV = teacher_NV.log_softmax(-1), student_NV.log_softmax(-1)
    value_N = divergence.value(logp_NV, logq_NV)
    assert (value_N >= -1e-14).all()
    gradient_NV = divergence.gradient(logp_NV, logq_NV)
    assert gradient_NV.sum(-1).abs().max() < 1e-12 * max(1.0, float(gradient_NV.abs().max()))


@pytest.mark.parametrize("divergence", ALL, ids=str)
def test_a_tail_never_adds_and_all_tokens_are_the_whole(divergence):
    """The data-processing inequality, and its end."""
    pair = [x.log_softmax(-1) for x in logits(3, n=100)]
    whole = divergence.value(*pair)
    for k in range(1, V):
        assert (replace(divergence, top_k=k).value(*pair) <= whole + 1e-12).all()
    # All but one token: the tail is that one.
    torch.testing.assert_close(replace(divergence, top_k=V - 1).value(*pair), whole)
    assert torch.equal(replace(divergence, top_k=V).value(*pair), whole)


def test_a_student_that_differs_within_the_tail_only_is_at_0():
    teacher = torch.tensor([[4.0, 3.0, 0.0, -1.0, -2.0, 0.5, 0.2]], dtype=torch.float64)
    student = teacher[:, [0, 1, 6, 2, 3, 4, 5]]
    divergence = Divergence(kind="reverse_kl", top_k=2)
    value = divergence.value(teacher.log_softmax(-1), student.log_softmax(-1))
    assert float(value) == pytest.approx(0.0, abs=1e-15)
    assert float(Divergence(kind="reverse_kl").value(teacher.log_softmax(-1), student)) > 0.01


def test_known_values():
    """By hand: p = (1/2, 1/2), q = (1/4, 3/4)."""
    logp, logq = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    half_log_4_3 = 0.5 * math.log(4 / 3)
    assert float(vocabulary.forward_kl(logp, logq)) == pytest.approx(half_log_4_3)
    reverse = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert float(vocabulary.reverse_kl(logp, logq)) == pytest.approx(reverse)
    # m = (3/8, 5/8)
    of_p = 0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5)
    of_q = 0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5)
    assert float(vocabulary.jsd(logp, logq, 0.5)) == pytest.approx(0.5 * of_p + 0.5 * of_q)
    assert float(vocabulary.skewed_kl(logp, logq, 0.5)) == pytest.approx(of_p)
    assert float(vocabulary.skewed_reverse_kl(logp, logq, 0.5)) == pytest.approx(of_q)


def test_near_its_ends_the_jsd_is_its_limit_times_the_weight():
    """So the value at β = 0 and 1 is not the one beside it: the scale jumps there."""
    logp, logq = (x.log_softmax(-1) for x in logits(4))
    for beta, limit in ((1e-6, vocabulary.forward_kl), (1 - 1e-6, vocabulary.reverse_kl)):
        scaled = vocabulary.jsd(logp, logq, beta) / min(beta, 1 - beta)
        torch.testing.assert_close(scaled, limit(logp, logq), rtol=1e-3, atol=0)


FINITE = [d for d in ALL if (d.kind, d.weight) not in {("jsd", 1.0), ("skewed_reverse_kl", 0.0)}]


@pytest.mark.parametrize("divergence", FINITE, ids=str)
def test_a_token_that_the_teacher_holds_for_impossible(divergence):
    logp = torch.tensor([[0.5, 0.5, 0.0]]).log()
    logq = torch.tensor([[0.2, 0.3, 0.5]]).log()
    value, gradient = divergence.value(logp, logq), divergence.gradient(logp, logq)
    if divergence.kind == "reverse_kl":
        assert value.isposinf().all()
    else:
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient[0, 2] > 0.0  # down


@pytest.mark.parametrize("divergence", ALL, ids=str)
@pytest.mark.parametrize("apart", [1e2, 1e4])
def test_extreme_logits_stay_finite(divergence, apart):
    teacher = torch.tensor([[0.0, apart, -apart]]).log_softmax(-1)
    student = torch.tensor([[apart, 0.0, -apart]]).log_softmax(-1)
    assert divergence.value(teacher, student).isfinite().all()
    assert divergence.gradient(teacher, student).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "kl"}, "divergence is 'kl'; it must be one of forward_kl, reverse_kl, jsd"),
        ({"kind": "jsd", "weight": 1.5}, "the weight of jsd is 1.5"),
        ({"kind": "skewed_kl", "weight": 1.0}, "it is 0 for every student"),
        ({"kind": "jsd", "top_k": 0}, "top_k is 0; it must be at least 1"),
    ],
    ids=str,
)
def test_what_is_no_divergence_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Divergence(**settings)


# -- in chunks ------------------------------------------------------------------------------------


def heads(n=9, v_s=11, v_t=11, dtype=torch.float64, softcap=None, scale=1.0, bias=True):
    """Hidden states and heads of a student (with gradient) and of a wider teacher."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    student = [noise(n, 4), noise(v_s, 4), noise(v_s) if bias else None]
    student = [x if x is None else x.requires_grad_() for x in student]
    changes = {"softcap": softcap, "logit_scale": scale}
    teacher = Head(weight_VH=noise(v_t, 6), bias_V=noise(v_t), **changes)
    return student, Head(weight_VH=student[1], bias_V=student[2], **changes), noise(n, 6), teacher


def plain(divergence, hidden_NH, head, temperature, rows):
    """Autograd over whole logits, and the value by the formulas' own functions."""
    logits_NV = torch.nn.functional.linear(hidden_NH, head.weight_VH, head.bias_V)
    logits_NV = logits_NV * head.logit_scale
    if head.softcap is not None:
        logits_NV = head.softcap * torch.tanh(logits_NV / head.softcap)
    return (logits_NV[:, :rows] / temperature).log_softmax(-1)


@pytest.mark.parametrize("divergence", ALL + TOP, ids=str)
@pytest.mark.parametrize(("chunk", "softcap"), [(1, None), (25, 2.0), (10**6, None)])
def test_chunks_equal_plain_autograd_over_whole_logits(divergence, chunk, softcap):
    leaves, student, teacher_NH, teacher = heads(softcap=softcap, scale=1.7)
    weight_N = torch.linspace(-1.0, 2.0, 9, dtype=torch.float64)
    found_N = chunked_divergence(
        divergence, leaves[0], student, teacher_NH, teacher, 0.7, 1.3, chunk_logits=chunk
    )
    logq_NV = plain(divergence, leaves[0], student, 0.7, 11)
    want_N = divergence.value(plain(divergence, teacher_NH, teacher, 1.3, 11), logq_NV)
    torch.testing.assert_close(found_N, want_N, rtol=1e-10, atol=1e-12)
    found = torch.autograd.grad((weight_N * found_N).sum(), leaves)
    want = torch.autograd.grad((weight_N * want_N).sum(), leaves)
    for x, y in zip(found, want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12)
        assert y.abs().max() > 1e-3


@pytest.mark.parametrize(("v_s", "v_t"), [(11, 14), (14, 11)])
def test_heads_of_different_height_are_compared_on_the_common_tokens(v_s, v_t):
    leaves, student, teacher_NH, teacher = heads(v_s=v_s, v_t=v_t)
    divergence = Divergence(kind="jsd")
    found_N = chunked_divergence(divergence, leaves[0], student, teacher_NH, teacher)
    logq_NV = plain(divergence, leaves[0], student, 1.0, 11)
    want_N = divergence.value(plain(divergence, teacher_NH, teacher, 1.0, 11), logq_NV)
    torch.testing.assert_close(found_N, want_N)
    found = torch.autograd.grad(found_N.sum(), leaves)
    for x, y in zip(found, torch.autograd.grad(want_N.sum(), leaves), strict=True):
        torch.testing.assert_close(x, y)
    assert (found[1][11:] == 0).all()


def test_only_what_asks_for_a_gradient_gets_one():
    leaves, student, teacher_NH, teacher = heads()
    frozen = replace(student, weight_VH=leaves[1].detach(), bias_V=leaves[2].detach())
    value_N = chunked_divergence(
        Divergence(kind="jsd"), leaves[0], frozen, teacher_NH.requires_grad_(), teacher
    )
    value_N.sum().backward()
    assert leaves[0].grad is not None
    assert leaves[1].grad is None
    assert teacher_NH.grad is None


def test_no_positions_give_no_value_and_a_gradient_of_0():
    leaves, student, teacher_NH, teacher = heads(n=0)
    value_N = chunked_divergence(Divergence(kind="jsd"), leaves[0], student, teacher_NH, teacher)
    assert value_N.shape == (0,)
    value_N.sum().backward()
    assert leaves[1].grad.abs().max() == 0.0


def test_a_head_without_bias_and_inputs_that_are_left_alone():
    leaves, student, teacher_NH, teacher = heads(bias=False, softcap=2.0, scale=0.5)
    before = [x.detach().clone() for x in (leaves[0], leaves[1], teacher_NH, teacher.weight_VH)]
    value_N = chunked_divergence(
        Divergence(kind="reverse_kl", top_k=3), leaves[0], student, teacher_NH, teacher, 0.5
    )
    value_N.sum().backward()
    for x, y in zip((leaves[0], leaves[1], teacher_NH, teacher.weight_VH), before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weights_gradient_is_summed_in_float32(dtype):
    """Chunks of one token each, all alike: a bfloat16 sum would stop growing at 64."""
    hidden = torch.ones(500, 1)
    weight = torch.tensor([[1.0], [0.0]], requires_grad=True)
    head = Head(weight_VH=weight, dtype=dtype)
    teacher = Head(weight_VH=torch.tensor([[0.0], [0.0]]))
    value_N = chunked_divergence(
        Divergence(kind="forward_kl"), hidden, head, hidden, teacher, chunk_logits=1
    )
    value_N.sum().backward()
    one = torch.sigmoid(torch.tensor(1.0)) - 0.5
    assert float(weight.grad[0]) == pytest.approx(500 * float(one), rel=1e-2)


@pytest.mark.parametrize("setting", ["temperature", "teacher_temperature", "chunk_logits"])
def test_what_must_be_above_0(setting):
    leaves, student, teacher_NH, teacher = heads()
    with pytest.raises(ValueError, match="each must be above 0"):
        chunked_divergence(
            Divergence(kind="jsd"), leaves[0], student, teacher_NH, teacher, **{setting: 0}
        )


def whole_batch(divergence, n, v, chunk):
    """A forward and a backward pass over N positions."""
    hidden_NH = torch.randn(n, 8, requires_grad=True)
    weight_VH = torch.randn(v, 8, requires_grad=True)
    teacher = Head(weight_VH=torch.randn(v, 8))
    chunked_divergence(
        divergence, hidden_NH, Head(weight_VH=weight_VH), torch.randn(n, 8), teacher,
        chunk_logits=chunk * v,
    ).sum().backward()  # fmt: skip


@pytest.mark.parametrize("divergence", [ALL[1], ALL[4], TOP[3]], ids=str)
def test_no_tensor_is_larger_than_one_chunk_of_logits(divergence):
    with LargestTensor() as seen:
        whole_batch(divergence, 256, 1000, 16)
    assert seen.numel == 16 * 1000
    with LargestTensor() as seen:  # the recorder sees what it is to forbid
        whole_batch(divergence, 256, 1000, 256)
    assert seen.numel == 256 * 1000


@pytest.mark.parametrize("divergence", [*ALL[:2], ALL[4], ALL[8], ALL[11], TOP[3]], ids=str)
def test_the_peak_is_a_few_chunks_and_far_below_the_whole(divergence):
    """… of the forward and the backward pass, also what operations allocate inside."""
    n, v, chunk = 512, 2000, 8
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        whole_batch(divergence, n, v, chunk)
    now = peak = 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    assert peak < 8 * chunk * v * 4 + 300_000
    assert peak < n * v * 4 / 3

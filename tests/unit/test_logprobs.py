"""`objectives.logprobs.sampled_logprobs`: equal to log_softmax + gather, without its memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlkd.objectives.logprobs import sampled_logprobs
from tests.reference import twins


def head(n: int, hidden: int, v: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden_NH = torch.randn(n, hidden, generator=generator)
    weight_VH, bias_V = torch.randn(v, hidden, generator=generator), torch.randn(v)
    return hidden_NH, weight_VH, bias_V, torch.randint(v, (n,), generator=generator)


def test_by_hand():
    # logits (0, ln 3): probabilities 1/4, 3/4; at temperature 1/2 (0, ln 9): 1/10, 9/10
    hidden, weight = torch.ones(2, 1), torch.tensor([[0.0], [math.log(3)]])
    found = sampled_logprobs(hidden, weight, None, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([0.25, 0.75]).log())
    found = sampled_logprobs(hidden, weight, None, torch.tensor([0, 1]), temperature=0.5)
    torch.testing.assert_close(found, torch.tensor([0.1, 0.9]).log())


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 9),
    hidden=st.integers(1, 4),
    v=st.integers(1, 7),
    seed=st.integers(0, 99),
    bias=st.booleans(),
    temperature=st.sampled_from([1.0, 0.3, 2.0]),
    scale=st.sampled_from([1.0, 0.25]),
    softcap=st.sampled_from([None, 2.0]),
    chunk=st.sampled_from([1, 3, 4, 1024]),
)
def test_equals_its_twin(n, hidden, v, seed, bias, temperature, scale, softcap, chunk):
    hidden_NH, weight_VH, bias_V, token_N = head(n, hidden, v, seed)
    found = sampled_logprobs(
        hidden_NH, weight_VH, bias_V if bias else None, token_N, temperature, chunk, scale, softcap
    )
    assert found.dtype is torch.float32
    wanted = [
        twins.sampled_logprob(
            h, weight_VH.tolist(), bias_V.tolist() if bias else None, t, temperature, scale, softcap
        )
        for h, t in zip(hidden_NH.tolist(), token_N.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_equals_log_softmax_and_gather(chunk, temperature):
    hidden_NH, weight_VH, bias_V, token_N = head(64, 16, 101)
    logits_NV = torch.nn.functional.linear(hidden_NH, weight_VH, bias_V) / temperature
    wanted = logits_NV.log_softmax(-1).gather(-1, token_N[:, None])[:, 0]
    found = sampled_logprobs(hidden_NH, weight_VH, bias_V, token_N, temperature, chunk)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_bfloat16_head_is_as_exact_as_its_logits():
    """The product runs in bfloat16 (8 bits: 0.4 % of a logit), what follows in float32."""
    hidden_NH, weight_VH, _, token_N = head(40, 16, 101)
    found = sampled_logprobs(hidden_NH, weight_VH.bfloat16(), None, token_N, 0.7, 16)
    logits_NV = (hidden_NH.bfloat16() @ weight_VH.bfloat16().T).float() / 0.7
    wanted = logits_NV.log_softmax(-1).gather(-1, token_N[:, None])[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    exact = sampled_logprobs(hidden_NH, weight_VH, None, token_N, 0.7)
    assert found.dtype is torch.float32
    assert 1e-4 < (found - exact).abs().max() < 0.008 * logits_NV.abs().max() + 0.02


def test_logits_beyond_the_range_of_exp():
    # e^200 is no float32: logits (200, 0, −200), log-probs (0, −200, −400)
    weight = torch.tensor([[200.0], [0.0], [-200.0]])
    found = sampled_logprobs(torch.ones(3, 1), weight, None, torch.arange(3))
    assert found.tolist() == [0.0, -200.0, -400.0]
    assert sampled_logprobs(-torch.ones(1, 1), weight, None, torch.tensor([2])).tolist() == [0.0]


def test_no_positions_and_no_gradient():
    hidden_NH, weight_VH, bias_V, token_N = head(0, 4, 5)
    assert sampled_logprobs(hidden_NH, weight_VH, bias_V, token_N).shape == (0,)
    hidden_NH, weight_VH, bias_V, token_N = head(3, 4, 5)
    found = sampled_logprobs(hidden_NH.requires_grad_(), weight_VH, bias_V, token_N)
    assert not found.requires_grad


def test_inputs_are_left_alone():
    """The logits are overwritten in place; a head that returns its input must not be."""
    hidden_NH, weight_VH, bias_V, token_N = head(6, 4, 5)
    before = [x.clone() for x in (hidden_NH, weight_VH, bias_V, token_N)]
    sampled_logprobs(hidden_NH, weight_VH, bias_V, token_N, 0.5, 2, 3.0, 1.0)
    for x, y in zip((hidden_NH, weight_VH, bias_V, token_N), before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_holds_at_least_one_position(chunk):
    hidden_NH, weight_VH, bias_V, token_N = head(6, 4, 5)
    with pytest.raises(ValueError, match=f"chunk_tokens is {chunk}; at least one position"):
        sampled_logprobs(hidden_NH, weight_VH, bias_V, token_N, chunk_tokens=chunk)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_no_tensor_is_larger_than_one_chunk_of_logits(dtype, softcap):
    chunk, v = 8, 1000
    hidden_NH, weight_VH, bias_V, token_N = head(64, 4, v)
    weight_VH, bias_V = weight_VH.to(dtype), bias_V.to(dtype)
    with LargestTensor() as seen:
        sampled_logprobs(hidden_NH, weight_VH, bias_V, token_N, 0.7, chunk, 2.0, softcap)
    assert seen.numel == chunk * v
    with LargestTensor() as seen:  # the recorder sees what it is to forbid
        (hidden_NH @ weight_VH.float().T).log_softmax(-1)
    assert seen.numel == 64 * v


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_the_peak_is_four_bytes_a_logit_or_six_with_a_bfloat16_head(dtype, softcap):
    """Also what logsumexp allocates inside, which the dispatcher does not see."""
    chunk, v = 64, 5000
    hidden_NH, weight_VH, _, token_N = head(2 * chunk, 4, v)
    weight_VH = weight_VH.to(dtype)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        sampled_logprobs(hidden_NH, weight_VH, None, token_N, 0.7, chunk, 2.0, softcap)
    now = peak = 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    want = 4 if dtype == torch.float32 else 6
    assert want - 0.1 < peak / (chunk * v) < want + 0.1

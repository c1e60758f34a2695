"""A divergence at many positions straight from hidden states: never a (B, T, V) tensor.

The logits of `chunk_logits` // V positions exist at a time, in the forward pass and, made once
more, in the backward pass; what is kept between the two are the hidden states.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlkd.objectives.vocabulary import Divergence

CHUNK_LOGITS = 2**24
"""Numbers in one chunk of logits: 64 MiB in float32. About six such tensors exist at the peak."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """From hidden states to logits: z = W h + b, times `logit_scale`, then
    `softcap · tanh(z / softcap)` where the model caps its logits."""

    weight_VH: Tensor
    bias_V: Tensor | None = None
    logit_scale: float = 1.0
    softcap: float | None = None
    dtype: torch.dtype | None = None
    """Of the product; None: the weight's. All else runs in float32 (float64 for such weights)."""

    @property
    def rows(self) -> int:
        """V: the tokens that the head tells apart, padding rows included."""
        return self.weight_VH.shape[0]

    def first(self, rows: int) -> "Head":
        """The head of the first `rows` tokens, in the product's dtype. A softmax of its logits is
        the distribution renormalised over these."""
        dtype = self.dtype or self.weight_VH.dtype
        bias_V = None if self.bias_V is None else self.bias_V.detach()[:rows].to(dtype)
        weight_VH = self.weight_VH.detach()[:rows].to(dtype)
        return Head(
            weight_VH=weight_VH, bias_V=bias_V, logit_scale=self.logit_scale, softcap=self.softcap
        )

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """(N, V), float32 or float64. No gradient: see `_Chunked`."""
        weight_VH = self.weight_VH
        logits_NV = torch.nn.functional.linear(
            hidden_NH.to(weight_VH.dtype), weight_VH, self.bias_V
        )
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        if self.logit_scale != 1.0:
            logits_NV = logits_NV.mul_(self.logit_scale)
        if self.softcap is not None:
            logits_NV = logits_NV.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits_NV

    def before(self, gradient_NV: Tensor, logits_NV: Tensor) -> Tensor:
        """From ∂/∂logits to ∂/∂(W h + b), in place."""
        if self.softcap is not None:
            gradient_NV *= 1.0 - (logits_NV / self.softcap).square_()
        if self.logit_scale != 1.0:
            gradient_NV *= self.logit_scale
        return gradient_NV


def chunked_divergence(
    divergence: Divergence,
    student_NH: Tensor,
    student: Head,
    teacher_NH: Tensor,
    teacher: Head,
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    chunk_logits: int = CHUNK_LOGITS,
) -> Tensor:
    """D(p, q) at each of N positions, (N,), with gradient in the student's hidden states and in
    its head. The hidden sizes of the two may differ.

    Where the heads have different numbers of rows, both distributions are renormalised over the
    tokens that both have, the first min(V_S, V_T): what stands beyond is padding, or tokens that
    the other cannot say.

    Gradients of the head are summed over chunks in float32.

    Raises:
        ValueError: a temperature or `chunk_logits` is not above 0.
    """
    if temperature <= 0.0 or teacher_temperature <= 0.0 or chunk_logits < 1:
        raise ValueError(
            f"temperatures {temperature} and {teacher_temperature}, chunk_logits {chunk_logits}: "
            "each must be above 0"
        )
    inputs = (student_NH, student.weight_VH, student.bias_V)
    constants = (teacher_NH.detach(), student, teacher, divergence)
    return _Chunked.apply(*inputs, *constants, temperature, teacher_temperature, chunk_logits)


class _Chunked(torch.autograd.Function):
    """The forward pass keeps hidden states only; the backward pass makes each chunk's logits once
    more and turns them into gradients by `Divergence.gradient`."""

    @staticmethod
    def forward(
        ctx: Any,
        student_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        teacher_NH: Tensor,
        student: Head,
        teacher: Head,
        divergence: Divergence,
        temperature: float,
        teacher_temperature: float,
        chunk_logits: int,
    ) -> Tensor:
        # Saved, though the heads hold them too: autograd tells if they are changed in between.
        ctx.save_for_backward(student_NH, teacher_NH, weight_VH, bias_V)
        ctx.settings = (student, teacher, divergence, temperature, teacher_temperature)
        ctx.chunk = max(1, chunk_logits // min(student.rows, teacher.rows))
        rows = min(student.rows, teacher.rows)
        student, teacher = student.first(rows), teacher.first(rows)
        kind = torch.promote_types(student_NH.dtype, torch.float32)
        value_N = torch.empty(len(student_NH), dtype=kind, device=student_NH.device)
        for start in range(0, len(student_NH), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logq_CV = student.logits(student_NH[part]).div_(temperature).log_softmax(-1)
            logp_CV = _teacher(teacher, teacher_NH[part], teacher_temperature, logq_CV)
            value_N[part] = divergence.value(logp_CV, logq_CV)
            del logq_CV, logp_CV  # or they would live on beside the next chunk's
        return value_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple:  # pyright: ignore[reportIncompatibleMethodOverride]
        student_NH, teacher_NH, weight_VH, bias_V = ctx.saved_tensors
        whole, teacher, divergence, temperature, teacher_temperature = ctx.settings
        rows = min(whole.rows, teacher.rows)
        student, teacher = whole.first(rows), teacher.first(rows)
        wanted = ctx.needs_input_grad
        kind = torch.promote_types(student.weight_VH.dtype, torch.float32)
        hidden_grad_NH = torch.zeros_like(student_NH, dtype=kind)
        weight_grad_VH = torch.zeros_like(weight_VH, dtype=kind) if wanted[1] else None
        bias_grad_V = torch.zeros_like(bias_V, dtype=kind) if wanted[2] else None
        for start in range(0, len(student_NH), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits_CV = student.logits(student_NH[part])
            logq_CV = (logits_CV / temperature).log_softmax(-1)
            logp_CV = _teacher(teacher, teacher_NH[part], teacher_temperature, logq_CV)
            grad_CV = divergence.gradient(logp_CV, logq_CV)
            del logq_CV, logp_CV
            grad_CV *= (grad_N[part] / temperature).unsqueeze(-1)
            grad_CV = student.before(grad_CV, logits_CV).to(student.weight_VH.dtype)
            del logits_CV
            hidden_grad_NH[part] = grad_CV @ student.weight_VH
            if weight_grad_VH is not None:
                hidden_CH = student_NH[part].to(grad_CV.dtype)
                _add_product(weight_grad_VH[:rows], grad_CV.T, hidden_CH)
            if bias_grad_V is not None:
                bias_grad_V[:rows] += grad_CV.sum(0, dtype=kind)
            del grad_CV
        return (
            hidden_grad_NH.to(student_NH.dtype),
            None if weight_grad_VH is None else weight_grad_VH.to(weight_VH.dtype),
            None if bias_grad_V is None else bias_grad_V.to(bias_V.dtype),
            *[None] * 7,
        )


def _teacher(head: Head, hidden_CH: Tensor, temperature: float, like_CV: Tensor) -> Tensor:
    logits_CV = head.logits(hidden_CH).div_(temperature)
    return logits_CV.log_softmax(-1).to(like_CV.dtype)


def _add_product(total_VH: Tensor, left_VC: Tensor, right_CH: Tensor) -> None:
    """total += left @ right; a bfloat16 product is added to a float32 total."""
    if left_VC.dtype == total_VH.dtype:
        total_VH.addmm_(left_VC, right_CH)
    else:
        total_VH += left_VC @ right_CH

"""Divergences between teacher p and student q over the whole vocabulary, with their gradients.

Each formula has two functions. One gives the value D(p, q), nats, from log p and log q, (…, V) to
(…). The other, `…_slope`, gives s = ∂D/∂log q as if every log q_j were free, (…, V). Through the
student's softmax q = softmax(z) the gradient in the logits is then

    ∂D/∂z_j = s_j − q_j Σ_i s_i                                          (`through_softmax`)

and p is a constant. Values are 0 where p = q exactly, at least 0 up to rounding, and finite where
a probability is 0, but for KL(q ‖ p) where p_j = 0 < q_j, which is infinite.

Sources: GKD arXiv 2306.13649 (Eq. 1), DistiLLM arXiv 2402.03898 (skewed divergences).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("forward_kl", "reverse_kl", "jsd", "skewed_kl", "skewed_reverse_kl")


def forward_kl(logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p (log p − log q): the student covers all that the teacher may say."""
    return _weighted(logp_NV, logp_NV - logq_NV).sum(-1)


def forward_kl_slope(logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
    """−p. In the logits: q − p, that of cross-entropy with the teacher's probabilities."""
    return -logp_NV.exp()


def reverse_kl(logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
    """KL(q ‖ p) = Σ q (log q − log p): the student keeps to what the teacher holds for likely."""
    return forward_kl(logq_NV, logp_NV)


def reverse_kl_slope(logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
    """q (log q − log p + 1). In the logits: q (log q − log p − KL(q ‖ p))."""
    return _weighted(logq_NV, logq_NV - logp_NV + 1.0)


def skewed_kl(logp_NV: Tensor, logq_NV: Tensor, skew: float) -> Tensor:
    """KL(p ‖ m), m = skew · p + (1 − skew) q. (DistiLLM Eq. 4: SKL; skew 0 is KL(p ‖ q).)"""
    return forward_kl(logp_NV, log_mixture(logp_NV, logq_NV, skew))


def skewed_kl_slope(logp_NV: Tensor, logq_NV: Tensor, skew: float) -> Tensor:
    """−(1 − skew) p q / m: bounded, however small q is."""
    logm_NV = log_mixture(logp_NV, logq_NV, skew)
    return (skew - 1.0) * _weighted(logp_NV, (logq_NV - logm_NV).exp())


def skewed_reverse_kl(logp_NV: Tensor, logq_NV: Tensor, skew: float) -> Tensor:
    """KL(q ‖ m), m = (1 − skew) p + skew · q. (DistiLLM: SRKL; skew 0 is KL(q ‖ p).)"""
    return forward_kl(logq_NV, log_mixture(logp_NV, logq_NV, 1.0 - skew))


def skewed_reverse_kl_slope(logp_NV: Tensor, logq_NV: Tensor, skew: float) -> Tensor:
    """q (log q − log m + 1 − skew · q / m)."""
    if skew == 0.0:  # q / m is infinite where the teacher's probability is 0
        return reverse_kl_slope(logp_NV, logq_NV)
    gap_NV = logq_NV - log_mixture(logp_NV, logq_NV, 1.0 - skew)
    return _weighted(logq_NV, gap_NV + 1.0 - skew * gap_NV.exp())


def jsd(logp_NV: Tensor, logq_NV: Tensor, beta: float) -> Tensor:
    """β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q. (GKD Eq. 1.)

    At β = 0 and 1 it would be 0 whatever p and q are; its limits divided by β and by 1 − β are
    KL(p ‖ q) and KL(q ‖ p), and these stand there, as in TRL's `generalized_jsd_loss`. So the
    scale jumps: at small β the value is about β KL(p ‖ q).
    """
    if beta in (0.0, 1.0):
        return forward_kl(logp_NV, logq_NV) if beta == 0.0 else reverse_kl(logp_NV, logq_NV)
    logm_NV = log_mixture(logp_NV, logq_NV, beta)
    of_p_NV = _weighted(logp_NV, logp_NV - logm_NV).mul_(beta)
    of_q_NV = _weighted(logq_NV, logq_NV - logm_NV).mul_(1.0 - beta)
    return of_p_NV.add_(of_q_NV).sum(-1)


def jsd_slope(logp_NV: Tensor, logq_NV: Tensor, beta: float) -> Tensor:
    """(1 − β) q (log q − log m): what the weights of both terms have in common cancels."""
    if beta in (0.0, 1.0):
        slope = forward_kl_slope if beta == 0.0 else reverse_kl_slope
        return slope(logp_NV, logq_NV)
    logm_NV = log_mixture(logp_NV, logq_NV, beta)
    return (1.0 - beta) * _weighted(logq_NV, logq_NV - logm_NV)


def log_mixture(logp_NV: Tensor, logq_NV: Tensor, weight: float) -> Tensor:
    """log(weight · p + (1 − weight) q), weight in [0, 1]; exactly log q where p = q.

    log max(p, q) + log1p(w (min/max − 1)), with w the weight of the smaller one.
    """
    if weight in (0.0, 1.0):
        return logq_NV if weight == 0.0 else logp_NV
    gap_NV = logq_NV - logp_NV
    of_smaller_NV = torch.full_like(gap_NV, 1.0 - weight).masked_fill_(gap_NV > 0.0, weight)
    shrunk_NV = (of_smaller_NV * gap_NV.abs().neg().expm1()).log1p()
    return shrunk_NV + torch.maximum(logp_NV, logq_NV)


def through_softmax(slope_NV: Tensor, logq_NV: Tensor) -> Tensor:
    """s_j − q_j Σ_i s_i: from ∂D/∂log q to ∂D/∂z where log q = log softmax(z)."""
    return slope_NV - logq_NV.exp().mul_(slope_NV.sum(-1, keepdim=True))


def with_tail(logp_NV: Tensor, top_NK: Tensor) -> tuple[Tensor, Tensor]:
    """log p of the tokens `top_NK` and of all others together, (N, K + 1); and log p of the others
    as a distribution of their own, (N, V), −inf at `top_NK`."""
    rest_NV = logp_NV.scatter(-1, top_NK, -math.inf)
    tail_N1 = rest_NV.logsumexp(-1, keepdim=True)
    return torch.cat([logp_NV.gather(-1, top_NK), tail_N1], -1), rest_NV - tail_N1


def _weighted(logw_NV: Tensor, value_NV: Tensor) -> Tensor:
    """w · value, 0 where w is 0, also where value is infinite there."""
    return value_NV.masked_fill(logw_NV == -math.inf, 0.0).mul_(logw_NV.exp())


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Which divergence is meant: one of KINDS, with its parameter."""

    kind: str
    weight: float = 0.5
    """β of `jsd`, the skew of the skewed ones; the others have none."""
    top_k: int | None = None
    """The teacher's k likeliest tokens one by one and all others as one outcome, the tail. The
    divergence is then that of two distributions over k + 1 outcomes: at most the whole one (the
    data-processing inequality), and 0 for students that differ from the teacher within the tail
    only. None: the whole vocabulary."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"divergence is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(f"the weight of {self.kind} is {self.weight}; it must be in [0, 1]")
        if self.kind.startswith("skewed") and self.weight == 1.0:
            raise ValueError(f"the skew of {self.kind} is 1, where it is 0 for every student")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1 (None: all tokens)")

    def value(self, logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
        """D(p, q), (N,), nats."""
        if self.top_k is not None and self.top_k < logp_NV.shape[-1]:
            top_NK = logp_NV.topk(self.top_k, sorted=False).indices
            return self._value(with_tail(logp_NV, top_NK)[0], with_tail(logq_NV, top_NK)[0])
        return self._value(logp_NV, logq_NV)

    def gradient(self, logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
        """∂D/∂z, (N, V), of logits with log q = log softmax(z).

        With a tail the slope of each outcome goes to its tokens; the tail's, to each of its tokens
        in the proportion of its probability within the tail.
        """
        if self.top_k is None or self.top_k >= logp_NV.shape[-1]:
            return through_softmax(self._slope(logp_NV, logq_NV), logq_NV)
        top_NK = logp_NV.topk(self.top_k, sorted=False).indices
        logp_NO, _ = with_tail(logp_NV, top_NK)
        logq_NO, in_tail_NV = with_tail(logq_NV, top_NK)
        slope_NO = self._slope(logp_NO, logq_NO)
        slope_NV = in_tail_NV.exp_().mul_(slope_NO[..., -1:])
        return through_softmax(slope_NV.scatter_(-1, top_NK, slope_NO[..., :-1]), logq_NV)

    def _value(self, logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
        if self.kind == "forward_kl":
            return forward_kl(logp_NV, logq_NV)
        if self.kind == "reverse_kl":
            return reverse_kl(logp_NV, logq_NV)
        formula = {"jsd": jsd, "skewed_kl": skewed_kl, "skewed_reverse_kl": skewed_reverse_kl}
        return formula[self.kind](logp_NV, logq_NV, self.weight)

    def _slope(self, logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
        if self.kind == "forward_kl":
            return forward_kl_slope(logp_NV, logq_NV)
        if self.kind == "reverse_kl":
            return reverse_kl_slope(logp_NV, logq_NV)
        formula = {
            "jsd": jsd_slope,
            "skewed_kl": skewed_kl_slope,
            "skewed_reverse_kl": skewed_reverse_kl_slope,
        }
        return formula[self.kind](logp_NV, logq_NV, self.weight)

"""Clipped policy-gradient surrogates of a log-ratio. Sources: PPO (arXiv 1707.06347, Eq. 7),
DAPO's decoupled clip (arXiv 2503.14476, Eq. 8), dual clip (arXiv 1912.09729, Eq. 5), CISPO's
clipped weight (arXiv 2506.13585, Eq. 4, 5)."""

from torch import Tensor, min


def clipped_surrogate(
    log_ratio_BT: Tensor,
    advantage_BT: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Tensor:
    """−min(r A, clip(r, 1 − clip_low, 1 + clip_high) A): a loss per token, lower is better.

    Args:
        log_ratio_BT: log r, (B, T); or (B, 1) for one ratio per sequence.
        advantage_BT: A, (B, 1) or (B, T); carries no gradient.
        dual_clip: upper bound on r in the unclipped branch (TRL's `delta`), > 1 + clip_high;
            bounds the step on bad tokens (A < 0) that the old policy found unlikely.
    """
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1.0 - clip_low, 1.0 + clip_high)
    if dual_clip is not None:
        ratio_BT = ratio_BT.clamp(max=dual_clip)
    return -min(ratio_BT * advantage_BT, clipped_BT * advantage_BT)


def clipped_weight_surrogate(
    log_ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """−sg(clip(r, 1 − clip_low, 1 + clip_high)) A log π, CISPO's loss per token, (B, T).

    The weight is a constant to the gradient (sg), which is −clip(r) A ∇log π for every token. It is
    not the derivative of the value, in which r moves too.

    Args:
        log_ratio_BT: log r; its gradient is dropped.
        logp_BT: log π, with gradient.
        advantage_BT: A, (B, 1) or (B, T); carries no gradient.
    """
    weight_BT = log_ratio_BT.detach().exp().clamp(1.0 - clip_low, 1.0 + clip_high)
    return -weight_BT * advantage_BT * logp_BT


def clipped_away(
    log_ratio_BT: Tensor, advantage_BT: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Where the clip removes the whole gradient: (low, high), booleans of the broadcast shape.

    low: A < 0 and r < 1 − clip_low. high: A > 0 and r > 1 + clip_high. A token with A = 0 has no
    gradient to remove and is in neither.
    """
    ratio_BT = log_ratio_BT.detach().exp()
    low_BT = (ratio_BT < 1.0 - clip_low) & (advantage_BT < 0)
    high_BT = (ratio_BT > 1.0 + clip_high) & (advantage_BT > 0)
    return low_BT, high_BT

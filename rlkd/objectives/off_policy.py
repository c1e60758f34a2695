"""Surrogates for tokens that another policy wrote. Source: LUFFY (arXiv 2504.14945, Eq. 5 to 7)."""

import math

from torch import Tensor


def shaped_importance(logp_BT: Tensor, gamma: float) -> Tensor:
    """f(r) = r / (r + γ) of r = π_S / π_φ with π_φ := 1, the policy that wrote the tokens.

    f'(r) = γ / (r + γ)²: 1/γ at r = 0, so that a token which the student finds unlikely keeps a
    gradient; with f(r) = r its gradient would vanish with it.

    Args:
        logp_BT: log π_S of each token, (B, T), nats, with gradient. −inf gives 0 and no gradient.
        gamma: γ > 0.

    Returns:
        (B, T), in [0, 1 / (1 + γ)].
    """
    return (logp_BT - math.log(gamma)).sigmoid()  # r / (r + γ) = 1 / (1 + e^(log γ − log r))


def shaped_surrogate(logp_BT: Tensor, advantage_BT: Tensor, gamma: float) -> Tensor:
    """−f(π_S) A: a loss per token, lower is better; never clipped.

    Args:
        logp_BT, gamma: see `shaped_importance`.
        advantage_BT: A, (B, 1) or (B, T); carries no gradient.
    """
    return -shaped_importance(logp_BT, gamma) * advantage_BT

"""Single-sample estimators of a KL divergence from log-probabilities of sampled tokens.

Source: Schulman, "Approximating KL divergence" (2020). With y ~ π they estimate KL(π ‖ q) in
nats: k1 = log π − log q (unbiased, high variance), k2 = ½ (log π − log q)² (biased, ≥ 0),
k3 = q/π − 1 − log(q/π) (unbiased, ≥ 0).

Value and gradient are two matters. With y ~ π held fixed, as in a loss, the gradients are::

    k1:  ∇log π                      expectation 0: q has dropped out
    k2:  (log π − log q) ∇log π      expectation ∇KL(π ‖ q), exactly
    k3:  (1 − q/π) ∇log π            expectation ∇KL(q ‖ π), the other direction
"""

from torch import Tensor


def k1(logp_BT: Tensor, other_logp_BT: Tensor) -> Tensor:
    """log π − log q. A measure, not a loss: its gradient through π drops q altogether."""
    return logp_BT - other_logp_BT


def k2(logp_BT: Tensor, other_logp_BT: Tensor) -> Tensor:
    """½ (log π − log q)², with gradient through both. As a value it is biased (by the third order
    in log π − log q); its gradient through π is that of KL(π ‖ q), unbiased on policy. KDRL's
    default (arXiv 2506.02208)."""
    return 0.5 * (logp_BT - other_logp_BT).square()


def k3(logp_BT: Tensor, other_logp_BT: Tensor) -> Tensor:
    """q/π − 1 − log(q/π), with gradient through both. GRPO's reference penalty (Eq. 4)."""
    log_q_over_pi_BT = other_logp_BT - logp_BT
    return log_q_over_pi_BT.exp() - log_q_over_pi_BT - 1.0

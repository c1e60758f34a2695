"""The slow twins of what keeps the entropy up, token by token in plain Python floats. CEEH arXiv
2602.22642 (Eq. 5 to 8, 11, 12), Clip-Cov and KL-Cov 2505.22617 (Eq. 10 to 14), 80/20 2506.01939,
Skywork-OR1 2505.22312."""

import math

from tests.reference.twins import Row

Table = list[Row]


def softmax_entropy(logits: Row) -> float:
    top = max(logits)
    weights = [math.exp(z - top) for z in logits]
    return -math.fsum(w / sum(weights) * math.log(w / sum(weights)) for w in weights)


def me_loss(
    entropy: Table,
    mask: Table,
    hard: list[bool],
    coefficient: float,
    factor: float,
    anneal: float,
    mean: str = "tokens",
    step_tokens: float | None = None,
) -> float:
    """−λ(x, t) H over the tokens of the step, or the official code's weighted mean times the
    micro-batch's share of them."""
    counted = [
        (h, factor if is_hard else 1.0)
        for row, marks, is_hard in zip(entropy, mask, hard, strict=True)
        for h, m in zip(row, marks, strict=True)
        if m
    ]
    tokens = len(counted) if step_tokens is None else step_tokens
    total = math.fsum(c * h for h, c in counted)
    if mean == "weighted":
        total = total / math.fsum(c for _, c in counted) * len(counted)
    return -coefficient * anneal * total / tokens


def shaped_advantage(advantage: float, entropy: float, hard: bool, alpha: float, kappa: float):
    return advantage + min(alpha * entropy, abs(advantage) / kappa) if hard else advantage


def _counted(mask: Table) -> list[tuple[int, int]]:
    return [(b, t) for b, row in enumerate(mask) for t, m in enumerate(row) if m]


def covariances(logp: Table, advantage: Table, mask: Table) -> dict[tuple[int, int], float]:
    at = _counted(mask)
    mean_logp = math.fsum(logp[b][t] for b, t in at) / len(at)
    mean_a = math.fsum(advantage[b][t] for b, t in at) / len(at)
    return {(b, t): (logp[b][t] - mean_logp) * (advantage[b][t] - mean_a) for b, t in at}


def kl_cov_tokens(cov: dict[tuple[int, int], float], share: float) -> set[tuple[int, int]]:
    number = max(math.floor(share * len(cov)), 1)
    ranked = sorted(cov, key=lambda place: -cov[place])[:number]
    return {place for place in ranked if cov[place] > 0}


def high_entropy(entropy: Table, mask: Table, share: float) -> set[tuple[int, int]]:
    """Those at or above the linearly interpolated (1 − share) quantile."""
    at = _counted(mask)
    ordered = sorted(entropy[b][t] for b, t in at)
    position = (1 - share) * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    bound = ordered[low] + (position - low) * (ordered[high] - ordered[low])
    return {(b, t) for b, t in at if entropy[b][t] >= bound - 1e-12}

"""Slow twins of the off-policy objectives: LUFFY (arXiv 2504.14945, Eq. 5 to 7), cross-entropy."""

import math

from tests.reference import twins
from tests.reference.losses import TwinBatch, _at, _grpo_ratio


def shaped(probability: float, gamma: float) -> float:
    """f(x) = x / (x + γ)."""
    return probability / (probability + gamma)


def luffy_loss(batch: TwinBatch, traces: list[bool], **settings) -> float:
    """−f(π) A on a trace, PPO's surrogate on an answer of the student's; without reference."""
    losses = []
    for b, row in enumerate(batch.logp):
        out = []
        for t, logp in enumerate(row):
            advantage = _at(batch.advantage, b, t, 0.0)
            if traces[b]:
                loss = -shaped(math.exp(logp), settings["gamma"]) * advantage
            else:
                loss = twins.clipped_surrogate(
                    _grpo_ratio(batch, b, t),
                    advantage,
                    settings["clip_low"],
                    settings["clip_high"],
                    settings["dual_clip"],
                )
            out.append(loss * _at(batch.weight, b, t, 1.0))
        losses.append(out)
    counted = float(sum(sum(1 for m in row if m) for row in batch.mask))
    return twins.reduce(
        losses, batch.mask, settings["reduction"], 1.0, batch.max_length or 1, counted
    )


def cross_entropy(batch: TwinBatch) -> float:
    """Mean of −log π over the counted tokens."""
    counted = [
        -logp * _at(batch.weight, b, t, 1.0)
        for b, row in enumerate(batch.logp)
        for t, logp in enumerate(row)
        if batch.mask[b][t]
    ]
    return math.fsum(counted) / len(counted)

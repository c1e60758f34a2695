"""The slow twin of the whole loss of GRPO and of RLAD: per token, in plain Python floats. Those of
the other algorithms (`distilled.py`, CISPO here) put their own parts into it.

Takes the algorithm's fields as keyword arguments (`dataclasses.asdict`), so that it shares no
code with it. RLAD Eq. 4; GRPO (2402.03300) Eq. 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tests.reference import twins
from tests.reference.twins import Row


@dataclass
class TwinBatch:
    """A TokenBatch as lists. `logp_now` is the present log π_S, which `logp` leaves when a test
    takes finite differences; it matters for the straight-through clamp alone."""

    logp: list[Row]
    old: list[Row]
    mask: list[Row]
    advantage: list[Row]
    teacher: list[Row] | None = None
    ref: list[Row] | None = None
    eos: list[list[bool]] | None = None
    weight: list[Row] | None = None
    logp_now: list[Row] | None = None
    correct: list[bool] | None = None
    accuracy: Row | None = None
    accumulation: float = 1.0
    step_tokens: float | None = None
    max_length: int | None = None


def _at(values: list[Row] | None, b: int, t: int, otherwise: float) -> float:
    """A (B, 1) list stands for every token of its row."""
    if values is None:
        return otherwise
    return values[b][t] if len(values[b]) > 1 else values[b][0]


def _grpo_ratio(batch: TwinBatch, b: int, t: int) -> float:
    return math.exp(batch.logp[b][t]) / math.exp(batch.old[b][t])


def _ratio(batch: TwinBatch, b: int, t: int, settings: dict) -> float:
    """The ratio that is clipped, of one token."""
    alpha = settings.get("alpha", 1.0)
    if alpha == 1.0:
        return _grpo_ratio(batch, b, t)
    if settings["eos"] != "keep" and batch.eos is not None and batch.eos[b][t]:
        power = 1.0 if settings["eos"] == "old_policy" else alpha
        return _grpo_ratio(batch, b, t) ** power
    assert batch.teacher is not None
    to_teacher = twins.teacher_ratio(
        batch.logp[b][t],
        batch.teacher[b][t],
        settings["clamp_bound"],
        settings["clamp"],
        None if batch.logp_now is None else batch.logp_now[b][t],
    )
    return twins.trrd_ratio(
        batch.logp[b][t], batch.old[b][t], to_teacher, alpha, settings["mixture"]
    )


PerToken = Callable[[TwinBatch, int, int], float]


def policy_loss(
    batch: TwinBatch,
    surrogate: PerToken | None = None,
    further: PerToken | None = None,
    **settings,
) -> float:
    """−surrogate · weight + further + β k3 (· π_S/π_old), reduced. `surrogate` stands in for PPO's
    loss of a token."""
    losses: list[Row] = []
    for b, row in enumerate(batch.logp):
        tokens = range(len(row))
        ratios = [_ratio(batch, b, t, settings) for t in tokens]
        importance = [_grpo_ratio(batch, b, t) for t in tokens]
        if settings["ratio_level"] == "sequence":
            ratios = [twins.sequence_ratio(ratios, batch.mask[b])] * len(row)
            importance = [twins.sequence_ratio(importance, batch.mask[b])] * len(row)
        out = []
        for t in tokens:
            if surrogate is not None:
                loss = surrogate(batch, b, t)
            else:
                loss = twins.clipped_surrogate(
                    ratios[t],
                    _at(batch.advantage, b, t, 0.0),
                    settings["clip_low"],
                    settings["clip_high"],
                    settings["dual_clip"],
                )
            loss *= _at(batch.weight, b, t, 1.0)
            if further is not None:
                loss += further(batch, b, t)
            if settings["beta"] > 0:
                assert batch.ref is not None
                penalty = twins.k3(batch.logp[b][t], batch.ref[b][t])
                loss += (
                    settings["beta"]
                    * penalty
                    * (importance[t] if settings["kl_correction"] else 1.0)
                )
            out.append(loss)
        losses.append(out)
    counted = float(sum(sum(1 for m in row if m) for row in batch.mask))
    return twins.reduce(
        losses,
        batch.mask,
        settings["reduction"],
        batch.accumulation,
        batch.max_length or len(batch.logp[0]),
        counted if batch.step_tokens is None else batch.step_tokens,
    )


def cispo_loss(batch: TwinBatch, **settings) -> float:
    """CISPO, 2506.13585 Eq. 4 and 5. The weight is that of `logp_now`, which stays where it is."""

    def surrogate(batch: TwinBatch, b: int, t: int) -> float:
        now = batch.logp if batch.logp_now is None else batch.logp_now
        ratio = math.exp(now[b][t]) / math.exp(batch.old[b][t])
        weight = min(max(ratio, 1.0 - settings["clip_low"]), 1.0 + settings["clip_high"])
        return -weight * _at(batch.advantage, b, t, 0.0) * batch.logp[b][t]

    return policy_loss(batch, surrogate, **settings)


def policy_gradient(
    batch: TwinBatch, loss: Callable[..., float] = policy_loss, step: float = 1e-6, **settings
) -> list[Row]:
    """d loss / d logp by central differences of the twin."""
    here = [list(row) for row in batch.logp]
    gradient = []
    for b, row in enumerate(here):
        out = []
        for t in range(len(row)):
            values = []
            for sign in (1.0, -1.0):
                moved = [list(r) for r in here]
                moved[b][t] += sign * step
                shifted = TwinBatch(**{**vars(batch), "logp": moved, "logp_now": here})
                values.append(loss(shifted, **settings))
            out.append((values[0] - values[1]) / (2 * step))
        gradient.append(out)
    return gradient

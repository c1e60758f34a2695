"""Slow twins of the algorithms that rest on the teacher's gap: per token, in plain Python floats.

Each takes the algorithm's fields as keyword arguments and shares no code with it. Sources: the
cookbook of Thinking Machines (OPD), 2506.02208 (KDRL), 2609.04108 (KDRL as advantage, SRPO, HDPO),
2604.03128 (RLSD), 2607.04751 (TOP-D).
"""

import math
import statistics
from dataclasses import replace

from tests.reference.losses import TwinBatch, policy_loss
from tests.reference.twins import Row


def gap(batch: TwinBatch, b: int, t: int, settings: dict) -> float:
    """d: the logarithm of π_T/π_old, held between ±bound; 0 at an end token that is dropped."""
    assert batch.teacher is not None
    if settings["eos"] == "drop" and batch.eos is not None and batch.eos[b][t]:
        return 0.0
    ratio = math.exp(batch.teacher[b][t]) / math.exp(batch.old[b][t])
    bound = settings["gap_bound"]
    return math.log(min(max(ratio, math.exp(-bound)), math.exp(bound)))


def counted(batch: TwinBatch, b: int) -> list[int]:
    return [t for t, m in enumerate(batch.mask[b]) if m]


def with_advantages(batch: TwinBatch, value) -> TwinBatch:
    """The batch with value(b, t, A) as the advantage of each counted token."""
    rows = []
    for b, row in enumerate(batch.logp):
        live = counted(batch, b)
        rows.append(
            [value(b, t, batch.advantage[b][0]) if t in live else 0.0 for t in range(len(row))]
        )
    return replace(batch, advantage=rows)


def opd(batch: TwinBatch, **settings) -> float:
    def advantage(b: int, t: int, given: float) -> float:
        later = [s for s in counted(batch, b) if s >= t]
        taught = sum(
            (settings["discount"] ** (s - t) if s > t else 1.0) * gap(batch, b, s, settings)
            for s in later
        )
        return settings["reward_weight"] * given + settings["teacher_weight"] * taught

    return policy_loss(with_advantages(batch, advantage), **settings)


def kdrl(batch: TwinBatch, **settings) -> float:
    def weight(b: int) -> float:
        assert batch.correct is not None
        assert batch.accuracy is not None
        silent = {
            "none": False,
            "correct_answers": batch.correct[b],
            "solved_groups": batch.accuracy[b] > 0,
        }[settings["mask"]]
        return 0.0 if silent else settings["teacher_weight"]

    def penalty(batch: TwinBatch, b: int, t: int) -> float:
        assert batch.eos is not None
        if settings["eos"] == "drop" and batch.eos[b][t]:
            return 0.0
        teacher = math.exp(batch.old[b][t]) * math.exp(gap(batch, b, t, settings))
        ratio = teacher / math.exp(batch.logp[b][t])
        log_ratio = math.log(ratio)
        k = {"k2": log_ratio**2 / 2, "k3": ratio - 1 - log_ratio}[settings["estimator"]]
        return weight(b) * k

    if settings["estimator"] == "k1_advantage":
        taught = with_advantages(
            batch, lambda b, t, given: given + weight(b) * gap(batch, b, t, settings)
        )
        return policy_loss(taught, **settings)
    return policy_loss(batch, further=penalty, **settings)


def srpo(batch: TwinBatch, **settings) -> float:
    def advantage(b: int, t: int, given: float) -> float:
        assert batch.correct is not None
        if batch.correct[b]:
            return given
        return settings["teacher_weight"] * gap(batch, b, t, settings)

    return policy_loss(with_advantages(batch, advantage), **settings)


def hdpo(batch: TwinBatch, **settings) -> float:
    def advantage(b: int, t: int, given: float) -> float:
        assert batch.accuracy is not None
        if batch.accuracy[b] != 0.0:  # NaN too
            return given
        return given + settings["teacher_weight"] * gap(batch, b, t, settings)

    return policy_loss(with_advantages(batch, advantage), **settings)


def rlsd(batch: TwinBatch, **settings) -> float:
    def advantage(b: int, t: int, given: float) -> float:
        ratio = math.exp(gap(batch, b, t, settings))
        evidence = ratio if given > 0 else 1 / ratio if given < 0 else 1.0
        bound, share = settings["weight_bound"], settings["teacher_weight"]
        return given * ((1 - share) + share * min(max(evidence, 1 - bound), 1 + bound))

    return policy_loss(with_advantages(batch, advantage), **settings)


def topd(batch: TwinBatch, *, alpha: float, **settings) -> float:
    def reward(b: int, t: int) -> float:
        return math.log(alpha * math.exp(gap(batch, b, t, settings)) + 1 - alpha)

    def returned(b: int, t: int) -> float:
        later: Row = [reward(b, s) for s in counted(batch, b) if s > t]
        if settings["later"] == "none" or not later:
            return reward(b, t)
        return reward(b, t) + statistics.fmean(later)

    values = [returned(b, t) for b in range(len(batch.logp)) for t in counted(batch, b)]
    mean, spread = 0.0, 1.0
    if settings["standardise"] == "microbatch":
        mean = statistics.fmean(values)
        spread = statistics.pstdev(values) + settings["advantage_eps"]
    taught = with_advantages(batch, lambda b, t, _: (returned(b, t) - mean) / spread)
    return policy_loss(taught, **settings)

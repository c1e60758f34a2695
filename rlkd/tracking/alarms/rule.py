"""A rule: from what a step logged to whether an alarm is due."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar


class Level(Enum):
    """How a step looks to a rule. Between GOOD and BAD nothing changes: an alarm that is on stays
    on, one that is off stays off."""

    GOOD = "good"
    BETWEEN = "between"
    BAD = "bad"


@dataclass(frozen=True)
class Seen:
    """What a rule may look at."""

    step: int
    """Optimiser steps done."""
    now: Mapping[str, float | None]
    """What the step logged, as the trainer names it (`reward`, `teacher/gap`)."""
    start: Mapping[str, float] = field(default_factory=dict)
    """The run's own start: mean of each metric over its first values; only what has enough."""
    limit: int | None = None
    """Most tokens of an answer."""
    verifiable: str | None = None
    """The reward whose full mark, 1, counts as correct."""

    def get(self, name: str) -> float | None:
        """The step's value; None where it logged none, or no finite number."""
        value = self.now.get(name)
        return value if value is not None and math.isfinite(value) else None

    def pair(self, name: str) -> tuple[float, float] | None:
        """(the step's value, the start's), where there are both."""
        value, start = self.get(name), self.start.get(name)
        return (value, start) if value is not None and start is not None else None

    def family(self, head: str, tail: str) -> dict[str, float]:
        """NAME -> value of what is called `head`NAME`tail`, NAME without a slash."""
        values = {
            name[len(head) : len(name) - len(tail)]: self.get(name)
            for name in self.now
            if name.startswith(head) and name.endswith(tail)
        }
        return {name: v for name, v in values.items() if v is not None and "/" not in name}


@dataclass(frozen=True)
class Message:
    """An alarm in words."""

    what: str
    """What was seen, with numbers."""
    why: str
    """The likely cause, or what it means."""
    do: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.what}\n  why: {self.why}\n  do: {self.do}"


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Abstract: judges steps one by one and keeps nothing itself.

    Steps about which it cannot say anything (no rollouts were sampled, the metric is not logged)
    count for nothing.
    """

    name: ClassVar[str]
    """Of the metric `train/alarms/NAME`."""
    told_by: ClassVar[tuple[str, ...]] = ()
    """Rules whose alarm says it already: while one of them is on, this one is not raised."""

    after: int = 3
    """Bad steps in a row that raise the alarm: one odd batch is no trouble."""
    clear: int = 3
    """Good steps in a row that clear it: it does not flicker."""

    @abstractmethod
    def level(self, seen: Seen) -> Level | None:
        """How the step looks; None: nothing can be said."""

    @abstractmethod
    def message(self, seen: Seen) -> Message:
        """The words for a step that is bad."""


def high(value: float | None, bad: float, good: float) -> Level | None:
    """BAD from `bad` upwards, GOOD up to `good`; None where there is no value."""
    if value is None:
        return None
    if value >= bad:
        return Level.BAD
    return Level.GOOD if value <= good else Level.BETWEEN


def low(value: float | None, bad: float, good: float) -> Level | None:
    """BAD from `bad` downwards, GOOD from `good` upwards; None where there is no value."""
    return high(None if value is None else -value, -bad, -good)


def percent(share: float) -> str:
    """0.973 -> 97 %; never 100 % or 0 % of what is not all or nothing."""
    rounded = round(100 * share)
    if rounded == 100 and share < 1:
        return "over 99 %"
    return "under 1 %" if rounded == 0 and share > 0 else f"{rounded} %"

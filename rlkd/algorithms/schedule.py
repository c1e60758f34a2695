"""Objectives that change while a run goes on: coefficients that move, one algorithm after another.

A schedule holds its settings and no state; which phase a run is in, and since when, is kept by
`rlkd.training.scheduling`. Steps are optimiser steps, counted from 0: "at step t" is with t steps
done.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rlkd.algorithms.base import Algorithm, require, require_choice
from rlkd.algorithms.component import Component, Composed, Controlled

Shape = Literal["linear", "cosine", "geometric"]
SHAPES = ("linear", "cosine", "geometric")


@dataclass(frozen=True, kw_only=True)
class Anneal:
    """How a number moves, from the value that its field has at the start of the phase::

    x     = clip((t/T − a) / (b − a), 0, 1)      T steps of the phase, (a, b) = over
    value = start + (to − start) x               linear
          = to + (start − to) (1 + cos π x)/2    cosine
          = start^(1 − x) to^x                   geometric, both above 0
    value = max(start − per_step t, to)          per_step (KDRL; min and + where `to` is higher)
    """

    to: float
    """The value at the end. Beside it, in a config: `from`, the value at the start; without it
    the field's default."""
    shape: Shape = "linear"
    """The path from the start to the end; `geometric` divides by the same factor every step."""
    over: tuple[float, float] = (0.0, 1.0)
    """From which to which share of the phase's steps it moves. The phase of a plateau, whose end
    is not known, counts as if it went on to its `at_latest`, or to the end of the run."""
    per_step: float | None = None
    """Moves by so much every optimiser step, until `to`, in place of `over`: KDRL's
    β_t = max(β_init − δ t, β_min), arXiv 2506.02208."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.to), "to", self, "finite")
        require_choice("shape", self.shape, SHAPES)
        low, high = self.over
        require(0.0 <= low < high <= 1.0, "over", self, "two shares in [0, 1], the lower first")
        if self.per_step is None:
            return
        require(self.per_step > 0.0, "per_step", self, "above 0 (`to` says in which direction)")
        if self.shape != "linear" or self.over != (0.0, 1.0):
            raise ValueError(
                f"per_step is {self.per_step}, beside shape or over: both say when the end is "
                "reached; keep one of them"
            )

    def value(self, start: float, step: int, length: int) -> float:
        """The value at a step.

        Args:
            start: the value at step 0.
            step: optimiser steps of the phase that are done.
            length: optimiser steps of the phase, above 0.
        """
        if self.per_step is not None:
            moved = self.per_step * step
            down = self.to < start
            return max(start - moved, self.to) if down else min(start + moved, self.to)
        low, high = self.over
        x = min(max((step / length - low) / (high - low), 0.0), 1.0)
        if x in (0.0, 1.0):  # the ends to the last bit
            return self.to if x else start
        if self.shape == "linear":
            return start + (self.to - start) * x
        if self.shape == "cosine":
            return self.to + (start - self.to) * 0.5 * (1.0 + math.cos(math.pi * x))
        return start ** (1.0 - x) * self.to**x


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """The end of a phase: a logged number has not improved for a while."""

    plateau: str
    """The number, by its logged name: `eval/accuracy`, `train/reward`, …"""
    best: Literal["highest", "lowest"] = "highest"
    """Which value of it is the best."""
    patience: int = 3
    """So many values in a row without a new best end the phase: evaluations, or logged steps."""
    window: int = 1
    """Each value is the mean of so many of the last ones: single steps are noisy."""
    at_latest: int | float | None = None
    """The phase ends then in any case: a step (a whole number) or a share of the run's steps; null:
    it may last to the end of the run."""

    def __post_init__(self) -> None:
        named = self.plateau.startswith(("eval/", "train/"))
        require(named, "plateau", self, "the name of a logged number: eval/… or train/…")
        require_choice("best", self.best, ("highest", "lowest"))
        require(self.patience > 0, "patience", self, "at least 1")
        require(self.window > 0, "window", self, "at least 1")
        _check_place(self.at_latest, "at_latest")


Until = int | float | Plateau
"""When a phase ends: after so many steps of the run (a whole number), at a share of them, or at a
plateau."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One algorithm for a part of a run.

    Raises:
        ValueError: a field that moves is none of the algorithm's or no number, or the algorithm
            refuses its end value.
    """

    algorithm: Algorithm
    """As it is at the first step of the phase."""
    anneal: Mapping[str, Anneal] = field(default_factory=dict)
    """The fields that move."""
    until: Until | None = None
    """None: to the end of the run."""

    def __post_init__(self) -> None:
        if not isinstance(self.until, Plateau):
            _check_place(self.until, "until")
        moved(self.algorithm, self.anneal, 1, 1)

    @property
    def ends(self) -> tuple[Algorithm, Algorithm]:
        """The algorithm at the first step, and with every field at its end value."""
        return self.algorithm, replaced(self.algorithm, {n: a.to for n, a in self.anneal.items()})

    def last_step(self, steps: int) -> int | None:
        """After how many of the run's `steps` steps it ends at the latest; None: with the run."""
        until = self.until.at_latest if isinstance(self.until, Plateau) else self.until
        if until is None:
            return None
        return until if isinstance(until, int) else round(until * steps)


@dataclass(frozen=True)
class Schedule:
    """The phases of a run, in their order, and the components' fields that move over all of it.

    Raises:
        ValueError: a phase but the last has no end, or the last has one.
    """

    phases: tuple[Phase, ...]
    components: tuple[Mapping[str, Anneal], ...] = ()
    """For each of the run's components the fields that move; empty: none."""

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("a schedule has at least one phase")
        *before, last = self.phases
        for phase in before:
            if phase.until is None:
                raise ValueError(
                    f"{name_of(phase)} is followed by {name_of(last)} and has no `until`: the "
                    "later phase would never begin; say after which step, share or plateau it does"
                )
        if last.until is not None:
            raise ValueError(
                f"until is {last.until!r} but nothing follows {name_of(last)}; a last phase goes "
                "on to the end of the run (optim.steps)"
            )

    @property
    def title(self) -> str:
        return ", then ".join(map(name_of, self.phases))

    @property
    def moves(self) -> bool:
        """Is the objective at one step another than at another?"""
        anneals = [phase.anneal for phase in self.phases]
        return len(self.phases) > 1 or any(anneals) or any(self.components)

    @property
    def needs_teacher(self) -> bool:
        """Does any phase learn from a teacher?"""
        return any(phase.algorithm.needs_teacher for phase in self.phases)

    def needs_traces(self, group_size: int) -> bool:
        """Does any phase learn from answers that the teacher wrote?"""
        return any(phase.algorithm.needs_traces(group_size) for phase in self.phases)

    def most_traces(self, group_size: int) -> int:
        """The most answers of a group that are traces in any phase."""
        return max(phase.algorithm.off_policy_rows(group_size) for phase in self.phases)

    @property
    def beta(self) -> float:
        """The largest weight of the reference KL; 0 keeps no reference model."""
        return max(end.beta for phase in self.phases for end in phase.ends)

    def check(self, components: Sequence[Component]) -> None:
        """Can every phase carry these components, at the start and at the end of what moves?

        Raises:
            ValueError: one cannot, or a component's moving field is no field that may move.
        """
        ends = tuple(components)
        for place, anneal in enumerate(self.components):
            if anneal and isinstance(ends[place], Controlled):
                raise ValueError(
                    f"{type(ends[place]).__name__} has a controller that sets its coefficient "
                    f"after each step; {', '.join(anneal)} cannot move by a schedule too"
                )
            moved(ends[place], anneal, 1, 1)
            end = replaced(ends[place], {name: each.to for name, each in anneal.items()})
            if (end.rules, end.steers) != (ends[place].rules, ends[place].steers):
                raise ValueError(
                    f"{type(end).__name__}: {', '.join(anneal)} would change how the difficulty "
                    "records are kept, or what the component takes hold of; these stay for a run"
                )
            ends = (*ends[:place], end, *ends[place + 1 :])
        for phase in self.phases:
            first, last = phase.ends
            Composed(first, tuple(components))
            Composed(last, ends)

    def check_steps(self, steps: int) -> None:
        """Does every phase begin within a run of so many steps, after the one before?

        Raises:
            ValueError: one does not.
        """
        begins = 0
        for phase, following in zip(self.phases[:-1], self.phases[1:], strict=True):
            ends = phase.last_step(steps)
            if ends is None:
                continue
            if not begins < ends < steps:
                raise ValueError(
                    f"{name_of(phase)} would end after step {ends} and {name_of(following)} begin "
                    f"then, but the phase itself begins after step {begins} and the run has "
                    f"{steps} steps: one of the two would have none; until counts from the start "
                    "of the run, as a step (a whole number) or a share of the run below 1"
                )
            begins = ends


@dataclass(frozen=True, kw_only=True)
class Staged(ABC):
    """Abstract: a published method that is a schedule. Its dataclass holds the settings."""

    @abstractmethod
    def schedule(self) -> Schedule:
        """The phases that its settings describe."""


def schedule_of(objective: Algorithm | Staged | Schedule) -> Schedule:
    """What is given as a run's objective, as a schedule; an algorithm is its one phase."""
    if isinstance(objective, Schedule):
        return objective
    if isinstance(objective, Staged):
        return objective.schedule()
    return Schedule((Phase(algorithm=objective),))


def moved(settings: Any, anneal: Mapping[str, Anneal], step: int, length: int) -> Any:
    """An algorithm or a component as it is at a step; see `Anneal.value`.

    Raises:
        ValueError: a moving field is none of its own, or no number, or its value is refused.
    """
    if not anneal:
        return settings
    names = {item.name for item in dataclasses.fields(settings) if item.init}
    values = {}
    for name, how in anneal.items():
        start = getattr(settings, name) if name in names else None
        if isinstance(start, bool) or not isinstance(start, (int, float)):
            raise ValueError(
                f"{name} of {type(settings).__name__} cannot move from {start!r} to {how.to}: "
                "only a field that is a number can"
            )
        if _is_whole(settings, name):
            raise ValueError(f"{name} of {type(settings).__name__} is a whole number; it stays")
        if how.shape == "geometric" and not (start > 0.0 and how.to > 0.0):
            raise ValueError(
                f"{name} moves from {start} to {how.to} by a factor (shape: geometric): both must "
                "be above 0"
            )
        values[name] = how.value(start, step, length)
    return replaced(settings, values)


def replaced(settings: Any, values: Mapping[str, float]) -> Any:
    """`dataclasses.replace`, whose refusal says that the value is one of a schedule."""
    try:
        return dataclasses.replace(settings, **values) if values else settings
    except ValueError as error:
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise ValueError(f"{error} (the schedule comes to {shown})") from error


def name_of(phase: Phase) -> str:
    return type(phase.algorithm).__name__


def _is_whole(settings: Any, name: str) -> bool:
    kinds = {item.name: item.type for item in dataclasses.fields(settings)}
    return kinds[name] in (int, "int")


def _check_place(until: int | float | None, name: str) -> None:
    """A step or a share of the run."""
    if until is None:
        return
    step = isinstance(until, int) and not isinstance(until, bool) and until > 0
    share = isinstance(until, float) and 0.0 < until < 1.0
    if not (step or share):
        raise ValueError(
            f"{name} is {until!r}; it must be a step of the run (a whole number above 0), or a "
            "share of the run's steps (above 0.0 and below 1.0)"
        )

"""Where a run stands in its schedule: the phase, since when, and what its plateau has seen."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.algorithms.component import Component, Composed
from rlkd.algorithms.schedule import Phase, Plateau, Schedule, moved, name_of
from rlkd.tracking.best import BestWatch

logger = logging.getLogger(__name__)


class ScheduleRun(TrainerCallback):
    """Gives the objective of each step. A hook of the training loop, and a piece of a checkpoint.

    A phase begins with the first rollouts that are drawn after the one before has ended: the
    answers, their advantages and the teacher's scores of one generation batch are of one
    algorithm, through all the steps that the batch serves. What is annealed moves every step.

    Args:
        agree: one rank's entry for all: what is logged of a step may differ between ranks in the
            last bit.

    Raises:
        ValueError: the schedule's phases and the components do not fit.
    """

    def __init__(
        self,
        schedule: Schedule,
        components: Sequence[Component],
        agree: Callable[[list[Any]], list[Any]],
    ) -> None:
        schedule.check(components)
        self.schedule = schedule
        self._components = tuple(components)
        self._agree = agree
        self._begun = [0]
        self._begin_watch()
        self._of: tuple[int, int] | None = None
        self.objective = Composed(schedule.phases[0].algorithm, self._components)
        """Of the step that `follow` was last asked for."""

    @property
    def number(self) -> int:
        """Of the phase, from 0."""
        return len(self._begun) - 1

    @property
    def phase(self) -> Phase:
        return self.schedule.phases[self.number]

    @property
    def beta(self) -> float:
        """The largest reference weight of the phase: 0 asks the reference model for nothing."""
        return max(end.beta for end in self.phase.ends)

    def follow(self, step: int, steps: int, *, drawing: bool) -> Composed:
        """The objective with `step` of `steps` optimiser steps done.

        Args:
            drawing: new rollouts are about to be drawn: the time at which a phase may begin.
        """
        while drawing and self._is_over(step, steps):
            self._begun.append(step)
            self._begin_watch()
            logger.info("step %d: phase %d, %s", step + 1, self.number + 1, name_of(self.phase))
        if self._of != (self.number, step):
            self._of = (self.number, step)
            began = self._begun[-1]
            length = max(1, (self.phase.last_step(steps) or steps) - began)
            algorithm = moved(self.phase.algorithm, self.phase.anneal, step - began, length)
            self.objective = Composed(algorithm, self._carried(step, steps))
        return self.objective

    def _carried(self, step: int, steps: int) -> tuple[Component, ...]:
        anneals = self.schedule.components or ({},) * len(self._components)
        return tuple(
            moved(component, anneal, step, max(1, steps))
            for component, anneal in zip(self._components, anneals, strict=True)
        )

    def _is_over(self, step: int, steps: int) -> bool:
        if self.number + 1 == len(self.schedule.phases):
            return False
        last = self.phase.last_step(steps)
        return self._has_plateau or (last is not None and step >= last)

    def measures(self) -> dict[str, float]:
        """What is in force, to be logged: the phase, counted from 1, and what moves."""
        found = {"schedule/phase": float(self.number + 1)} if len(self.schedule.phases) > 1 else {}
        for name in self.phase.anneal:
            found[f"schedule/{name}"] = float(getattr(self.objective.algorithm, name))
        for anneal, component in zip(
            self.schedule.components, self.objective.components, strict=False
        ):
            for name in anneal:
                found[f"schedule/{type(component).__name__}.{name}"] = float(
                    getattr(component, name)
                )
        return found

    # -- plateaus -----------------------------------------------------------------------------

    def _begin_watch(self) -> None:
        until, self._has_plateau = self.phase.until, False
        self._seen: list[float] = []
        self._watch, self._window = None, 1
        if isinstance(until, Plateau):
            self._window = until.window
            self._watch = BestWatch(until.plateau, until.best == "highest", until.patience)

    def see(self, step: int, values: Mapping[str, float | None]) -> None:
        """Take note of logged numbers, by their full names; the same on every rank."""
        value = values.get(self._watch.metric) if self._watch is not None else None
        if value is None or self._watch is None or step == 0:
            return
        self._seen = [*self._seen, value][-self._window :]
        if len(self._seen) == self._window:
            self._watch.add(step, {self._watch.metric: sum(self._seen) / self._window})
            self._has_plateau = self._has_plateau or self._watch.exhausted

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        self.schedule.check_steps(state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """See TrainerCallback. Comes before the checkpoint of the step, which then knows of it."""
        if self._watch is None or not self._watch.metric.startswith("train/"):
            return
        if logs is None or "loss" not in logs:  # the trainer's closing summary
            return
        name = self._watch.metric
        self.see(state.global_step, {name: self._agree([logs.get(name.removeprefix("train/"))])[0]})

    # -- a piece of a checkpoint --------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        watch = self._watch.state() if self._watch is not None else None
        return {
            "begun": list(self._begun),
            "watch": watch,
            "seen": list(self._seen),
            "has_plateau": self._has_plateau,
        }

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        self._begun, self._of = list(state["begun"]), None
        self._begin_watch()
        self._seen, self._has_plateau = list(state["seen"]), state["has_plateau"]
        if self._watch is not None and state["watch"] is not None:
            self._watch.restore(state["watch"])
        return (
            f"phase {self.number + 1} of {len(self.schedule.phases)}, {name_of(self.phase)},"
            f" begun after step {self._begun[-1]}"
        )

"""Hooks into transformers' training loop: what is logged, printed and evaluated when."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.tracking.alarms.watch import Alarms
from rlkd.tracking.best import BestWatch
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.progress import Progress
from rlkd.tracking.store import RolloutStore


class LogCallback(TrainerCallback):
    """Hands what the trainer logs to the RunLogger, beside the alarms that are on, and shows it.

    Args:
        progress: None: nothing is shown but alarms.
    """

    def __init__(
        self, run_logger: RunLogger, alarms: Alarms, progress: Progress | None = None
    ) -> None:
        self._logger = run_logger
        self._alarms = alarms
        self._progress = progress

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = logs or {}
        if "loss" not in logs:  # the trainer's closing summary
            return
        logged = logs | self._alarms.see(state.global_step, logs)
        self._logger.log(state.global_step, {f"train/{key}": v for key, v in logged.items()})
        if self._progress is not None:
            self._progress.show(state.global_step, state.max_steps, logs, self._alarms.last)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.close()


class StoreCallback(TrainerCallback):
    """Adds the batches that some rank could not store to what is logged, where there are any.

    Args:
        store: this rank's.
        gather: collects a list's entries from all ranks.
    """

    def __init__(self, store: RolloutStore, gather: Callable[[list[int]], list[int]]) -> None:
        self._store, self._gather = store, gather

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """See TrainerCallback; the callbacks after this one see what it adds."""
        errors = sum(self._gather([self._store.errors]))
        if errors and logs is not None:
            logs["tracking/errors"] = float(errors)


class ArtifactCallback(TrainerCallback):
    """Has the trackers keep each checkpoint as it is saved. For the first rank."""

    def __init__(self, run_logger: RunLogger) -> None:
        self._logger = run_logger

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self._logger.log_folder(state.global_step, "checkpoint", folder)


class EvalCallback(TrainerCallback):
    """Calls `evaluate(step)` before the first step, every `every` steps and after the last.

    A piece of a checkpoint: a resumed run neither repeats an evaluation nor forgets one.

    Args:
        evaluate: gives the values of one evaluation (`eval/…`), the same on every rank.
        skip: asked after the last step: true leaves that evaluation out (the run was stopped).
        watch: compares evaluations; a new best one saves a checkpoint, and one after which its
            patience is exhausted ends the training.
    """

    def __init__(
        self,
        evaluate: Callable[[int], dict[str, float]],
        every: int,
        at_start: bool,
        *,
        skip: Callable[[], bool] = lambda: False,
        watch: BestWatch | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._every = every
        self._at_start = at_start
        self._skip = skip
        self._watch = watch
        self._last_step = -1
        self.history: list[dict[str, float]] = []

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        watch = self._watch.state() if self._watch is not None else None
        return {"history": self.history, "last_step": self._last_step, "watch": watch}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        self.history, self._last_step = state["history"], state["last_step"]
        self._at_start = False  # the run has started long ago
        said = f"{len(self.history)} evaluations"
        if self._watch is not None and state["watch"] is not None:
            self._watch.restore(state["watch"])
            if self._watch.best is not None:
                best = self._watch.best
                said += f", best {best.metric} {best.value:.4g} at step {best.step}"
        return said

    def has_ended(self, state: dict[str, Any]) -> bool:
        """Was the patience exhausted when `state` was given? The training loop, resumed from
        there, would first take a step more."""
        if self._watch is None or state["watch"] is None:
            return False
        then = dataclasses.replace(self._watch)
        then.restore(state["watch"])
        return then.exhausted

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        if self._at_start:
            self._run(state.global_step, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback. Comes before the checkpoint of the step, which then knows of it."""
        step = state.global_step
        due = self._every and step % self._every == 0
        if due or (step >= state.max_steps and self._watch is not None):
            self._run(step, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        if not self._skip():
            self._run(state.global_step, control)

    def _run(self, step: int, control: TrainerControl) -> None:
        if step == self._last_step:
            return
        self._last_step = step
        values = self._evaluate(step)
        self.history.append({"step": step, **values})
        if self._watch is None:
            return
        if self._watch.add(step, values):
            control.should_save = True
        if self._watch.exhausted:
            control.should_training_stop = True

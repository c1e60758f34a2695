"""Hooks into transformers' training loop: what is logged, printed and evaluated when."""

import sys
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.tracking.logger import RunLogger
from rlkd.tracking.store import RolloutStore

_SHOWN = {
    "reward": "reward",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "truncated",
    "entropy": "entropy",
    "teacher/gap": "gap",
    "groups/no_signal": "no signal",
}


class LogCallback(TrainerCallback):
    """Hands what the trainer logs to the RunLogger and prints a line of it."""

    def __init__(self, run_logger: RunLogger) -> None:
        self._logger = run_logger

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
        self._logger.log(state.global_step, {f"train/{key}": value for key, value in logs.items()})
        # None: a mean over no rows (no reward could grade one).
        shown = [
            f"{name} {logs[key]:.3f}" for key, name in _SHOWN.items() if logs.get(key) is not None
        ]
        line = "  ".join([f"step {state.global_step}/{state.max_steps}", *shown])
        print(line, file=sys.stderr, flush=True)


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


class EvalCallback(TrainerCallback):
    """Calls `evaluate(step)` before the first step, every `every` steps and after the last."""

    def __init__(
        self, evaluate: Callable[[int], dict[str, float]], every: int, at_start: bool
    ) -> None:
        self._evaluate = evaluate
        self._every = every
        self._at_start = at_start
        self._last_step = -1
        self.history: list[dict[str, float]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._at_start:
            self._run(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._every and state.global_step % self._every == 0:
            self._run(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._run(state.global_step)

    def _run(self, step: int) -> None:
        if step == self._last_step:
            return
        self._last_step = step
        self.history.append({"step": step, **self._evaluate(step)})

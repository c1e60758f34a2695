"""A run that is told to stop saves a whole checkpoint first, at the same step on all ranks."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.training.stopped import BY_HAND, REQUEUE, Stopped

_CODES = {signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE, signal.SIGINT: BY_HAND}


class StopSignals(TrainerCallback):
    """SIGTERM, SIGUSR1 (SLURM's warning) and a first Ctrl-C: save after this step, then stop.

    A second Ctrl-C interrupts at once. One rank's signal stops all: they compare notes after each
    step. The last callback: a run that ends at this step by itself is not stopped, it is finished.

    Args:
        agree: the largest of all ranks' integers, on every rank.
        is_lost: can the step not be ended any more, because another rank is gone? Then a launcher
            ends the others, and the signal changes nothing.
    """

    def __init__(
        self, agree: Callable[[int], int], is_lost: Callable[[], bool] = lambda: False
    ) -> None:
        self._agree = agree
        self._is_lost = is_lost
        self._received = 0
        self._before: dict[signal.Signals, Any] = {}
        self.exit_code = 0
        """Why the training was stopped, REQUEUE or BY_HAND; 0: it was not."""
        self.step = 0
        """After which step."""

    def __enter__(self) -> "StopSignals":
        for number in _CODES:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT and self._is_lost():
            return
        self._received = max(self._received, _CODES[signal.Signals(number)])
        name = signal.Signals(number).name
        again = ""
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            again = "; once more stops at once, without saving"
        print(f"{name}: saving after this step, then stopping{again}", file=sys.stderr, flush=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        code = self._agree(self._received)
        if code and not control.should_training_stop:
            self.exit_code, self.step = code, state.global_step
            control.should_save = True
            control.should_training_stop = True

    def raise_if_stopped(self, folder: Path) -> None:
        """Raises Stopped if a signal stopped the training."""
        if self.exit_code:
            raise Stopped(
                f"stopped by a signal after step {self.step} (exit code {self.exit_code})\n"
                f"  saved: {folder}/checkpoints/checkpoint-{self.step}\n"
                f"  do: rlkd train {folder} --resume (launched as before)",
                self.exit_code,
            )

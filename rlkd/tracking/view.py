"""What a run's folder shows besides its numbers: the difficulty records and the picture of length
against accuracy, renewed with each checkpoint and at the end."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.difficulty import Difficulty
from rlkd.tracking import curves, records
from rlkd.tracking.logger import RunLogger

logger = logging.getLogger(__name__)

MOST_POINTS = 200
"""Of the tracker's chart."""


class RunView(TrainerCallback):
    """Renews what there is to look at. For the first rank, and after the callback that evaluates.

    What cannot be written is said once and left out: it is made from numbers that are on disk, and
    a run is worth more than its picture.

    Args:
        folder: the run's.
        prompts: gives the prompts whose text is known.
    """

    def __init__(
        self,
        folder: Path,
        run_logger: RunLogger,
        difficulty: Difficulty,
        prompts: Callable[[], Iterable[Any]],
    ) -> None:
        self._folder = folder
        self._logger = run_logger
        self._difficulty = difficulty
        self._prompts = prompts
        self._charted = 0
        self._failed: set[str] = set()

    def update(self, step: int, *, is_last: bool = False) -> None:
        """Write difficulty.parquet and length_accuracy.png as of `step`; the tracker gets the chart
        when it has twice the points of the one before, and at the end: together at most three times
        the last one."""
        self._try("the difficulty records", lambda: self._write_records(step))
        self._try("the picture of length against accuracy", lambda: self._draw(step, is_last))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.update(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.update(state.global_step, is_last=True)

    def _write_records(self, step: int) -> None:
        records.write(self._folder, self._difficulty, self._prompts(), step)

    def _draw(self, step: int, is_last: bool) -> None:
        curve = curves.read(self._folder / "metrics.jsonl", self._folder.name)
        if curve is None:
            return
        curves.draw([curve], self._folder / curves.NAME)
        number = len(curve.steps)
        if number >= 2 * self._charted or (is_last and number > self._charted):
            self._charted = number
            kept = curve.thinned(MOST_POINTS)
            points = list(zip(kept.steps, kept.lengths, kept.accuracies, strict=True))
            self._logger.log_points(
                step, "curves/length_accuracy", ("step", "length", "accuracy"), points
            )

    def _try(self, what: str, write: Callable[[], None]) -> None:
        if what in self._failed:
            return
        try:
            write()
        except Exception as error:
            self._failed.add(what)
            logger.warning(
                "%s could not be written (%s: %s) and are left out from here on; the run goes on",
                what,
                type(error).__name__,
                error,
            )

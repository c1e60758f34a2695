"""Where a run's numbers go: its own metrics.jsonl first, the trackers second."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlkd.tracking.metrics_file import MetricsFile
from rlkd.tracking.trackers.outbox import Outbox, close_all

CLOSE_S = 90.0
"""How long a run that has ended waits for its trackers, all together."""


class RunLogger:
    """Appends to metrics.jsonl and hands the same to the trackers. One per run: the first rank's.

    No call waits for a tracker, and none of a tracker's failures ends or slows a run: see Outbox.

    Args:
        folder: the run's.
        trackers: queues to them.
        attempt: 1, and one more each time the run is resumed.
    """

    def __init__(self, folder: Path, trackers: Sequence[Outbox] = (), attempt: int = 1) -> None:
        self.file = MetricsFile(folder, attempt)
        self.trackers = list(trackers)
        self._step = 0

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Write one line of metrics; numbers that are not finite become null.

        Args:
            step: optimiser steps done.
            metrics: names with their prefix (train/…, eval/…) to numbers.
        """
        self.file.append(step, {key: _json_number(value) for key, value in metrics.items()})
        self._step = step
        values = dict(metrics)
        for outbox in self.trackers:
            outbox.put("numbers", "numbers", lambda tracker: tracker.log(step, values))

    def log_table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Give the trackers rows of text and numbers; they add to those of earlier steps."""
        for outbox in self.trackers:
            outbox.put(
                "table", f"the table {name}", lambda t: t.log_table(step, name, columns, rows)
            )

    def log_points(
        self, step: int, name: str, columns: Sequence[str], points: Sequence[Sequence[float]]
    ) -> None:
        """Give the trackers a table with a chart of its second column (x) against its third.

        Each call adds to the history; what was logged before stays.
        """
        for outbox in self.trackers:
            outbox.put(
                "chart", f"the chart {name}", lambda t: t.log_chart(step, name, columns, points)
            )

    def alert(self, title: str, text: str) -> None:
        """Give the trackers an alert, which W&B mails or posts as the account says."""
        step = self._step
        for outbox in self.trackers:
            outbox.put("alert", f"the alert {title!r}", lambda t: t.alert(step, title, text))

    def log_folder(self, step: int, name: str, folder: Path) -> None:
        """Have the trackers keep a model's folder."""
        for outbox in self.trackers:
            outbox.put("folder", f"the artifact {name}", lambda t: t.log_folder(step, name, folder))

    def close(self) -> None:
        """Close the file, hand over what waits, and end the trackers' runs."""
        self.file.close()
        close_all(self.trackers, CLOSE_S)


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

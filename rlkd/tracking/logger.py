"""Where a run's numbers go: its own metrics.jsonl first, the tracker second."""

import json
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlkd.checkpoints.manifest import CheckpointError, sync

logger = logging.getLogger(__name__)


class RunLogger:
    """Appends to metrics.jsonl and, where asked for, to a W&B run. One per run: the first rank's.

    A tracker that fails says so once and is left alone: the numbers are on disk already.

    A piece of a checkpoint. A resumed run's metrics.jsonl is cut back to the checkpoint, so that
    each step has one line; the lines of the discarded attempt go to
    discarded/attempt-N/metrics.jsonl. W&B takes nothing back: there, offline, the run has one file
    per attempt under the same id, and the steps trained twice are twice in the charts.

    Args:
        folder: the run's.
        config: the resolved config, for the tracker.
        wandb_mode: offline (files in the run's folder, for `wandb sync`), online, disabled.
        run_id: of the W&B run: the same one goes on; None: a new one.
        attempt: 1, and one more each time the run is resumed.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        project: str,
        config: dict[str, Any],
        wandb_mode: str,
        run_id: str | None = None,
        attempt: int = 1,
    ) -> None:
        self._folder = folder
        self._attempt = attempt
        # W&B's own count of rows must go on above where the last attempt's file ends. Charts are
        # rows too; there are fewer of them than lines.
        self._row = 2 * _lines_of_all_attempts(folder)
        self._path = folder / "metrics.jsonl"
        self._file = self._path.open("a", encoding="utf-8")
        self._started = time.time()
        self._tracker: Any = None
        self._charts_work = True
        self._alerts_work = True
        if wandb_mode != "disabled":
            self._tracker = self._start_wandb(name, project, config, wandb_mode, run_id)

    def _start_wandb(
        self, name: str, project: str, config: dict[str, Any], mode: str, run_id: str | None
    ) -> Any:
        try:
            import wandb

            # The log of a run that trains for a day does not belong in the terminal.
            os.environ.setdefault("WANDB_SILENT", "true")
            again = "allow" if mode == "online" and self._attempt > 1 else None
            tracker = wandb.init(
                project=project, name=name, dir=str(self._folder), config=config,
                mode=mode, id=run_id, resume=again,  # type: ignore[arg-type]
            )  # fmt: skip
            tracker.define_metric("train/step")
            tracker.define_metric("*", step_metric="train/step")
            return tracker
        except Exception as error:
            self._give_up(error)
            return None

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Write one line of metrics; numbers that are not finite become null.

        Args:
            step: optimiser steps done.
            metrics: names with their prefix (train/…, eval/…) to numbers.
        """
        values = {key: _json_number(value) for key, value in metrics.items()}
        seconds = round(time.time() - self._started, 3)
        self._file.write(json.dumps({"step": step, "seconds": seconds, **values}) + "\n")
        self._file.flush()
        if self._tracker is not None:
            try:
                self._tracker.log({"train/step": step, **metrics}, step=self._row)
            except Exception as error:
                self._give_up(error)
        self._row += 1

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece: how far metrics.jsonl was, and the clock."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"bytes": self._path.stat().st_size, "seconds": time.time() - self._started}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        written, wanted = self._path.read_bytes(), state["bytes"]
        if len(written) < wanted:
            raise CheckpointError(
                f"{self._path} has {len(written)} bytes, and had {wanted} when the checkpoint was"
                " written: lines are missing.\n  do: put the file back as it was"
            )
        lines = written[wanted:].count(b"\n")
        if written[wanted:]:
            aside = discarded(self._folder, self._attempt) / "metrics.jsonl"
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(written[wanted:])
            sync(aside)
        self._file.close()
        os.truncate(self._path, wanted)
        self._file = self._path.open("a", encoding="utf-8")
        self._started = time.time() - state["seconds"]
        return f"{wanted} bytes of metrics.jsonl" + (
            f"; {lines} later lines set aside" * bool(lines)
        )

    def log_points(
        self, step: int, name: str, columns: Sequence[str], points: Sequence[Sequence[float]]
    ) -> None:
        """Give the tracker a table with a chart of its second column (x) against its third.

        Points and no line: W&B's line joins points in the order of x. Each call adds to the
        history; what was logged before stays. A chart that fails says so once, is left out from
        there on, and costs no number.
        """
        if self._tracker is None or not self._charts_work:
            return
        try:
            import wandb
            import wandb.plot

            table = wandb.Table(columns=list(columns), data=[list(point) for point in points])
            title = f"{columns[2]} against {columns[1]}"
            chart = wandb.plot.scatter(table, columns[1], columns[2], title)
            self._tracker.log({"train/step": step, name: chart}, step=self._row)
            self._row += 1
        except Exception as error:
            self._charts_work = False
            logger.warning(
                "W&B failed at the chart %s (%s: %s), which is left out from here on; the run and "
                "its numbers go on",
                name,
                type(error).__name__,
                error,
            )

    def alert(self, title: str, text: str) -> None:
        """Give the tracker an alert, which it mails or posts as the account says.

        An alert that fails says so once; the run, its numbers and its charts go on.
        """
        if self._tracker is None or not self._alerts_work:
            return
        try:
            self._tracker.alert(title=title, text=text, level="WARN")
        except Exception as error:
            self._alerts_work = False
            logger.warning(
                "W&B failed at the alert %r (%s: %s): alerts are left out from here on and "
                "stand in alarms.jsonl",
                title,
                type(error).__name__,
                error,
            )

    def close(self) -> None:
        """Close the file and end the tracker's run."""
        self._file.close()
        if self._tracker is not None:
            try:
                self._tracker.finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._tracker = None
        logger.warning(
            "W&B failed (%s: %s) and is left out from here on; the run goes on, and every number "
            "is in %s",
            type(error).__name__,
            error,
            self._file.name,
        )


def discarded(folder: Path, attempt: int) -> Path:
    """Where attempt number `attempt` puts what the one before it wrote after the checkpoint."""
    return folder / "discarded" / f"attempt-{attempt - 1}"


def _lines_of_all_attempts(folder: Path) -> int:
    files = [folder / "metrics.jsonl", *folder.glob("discarded/*/metrics.jsonl")]
    return sum(path.read_bytes().count(b"\n") for path in files if path.is_file())


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""metrics.jsonl: whole lines, in order, whatever the disk does."""

import json
import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from rlkd.checkpoints.manifest import CheckpointError, sync

logger = logging.getLogger(__name__)


class MetricsFile:
    """Appends lines of JSON to a run's metrics.jsonl.

    Lines that the disk refuses (it is full) wait in memory and are written, in their order, with
    the first later line that finds room; that is said once. A line is in the file whole or not at
    all.

    A piece of a checkpoint. A resumed run's file is cut back to the checkpoint, so that each step
    has one line; the lines of the discarded attempt go to discarded/attempt-N/metrics.jsonl.

    Args:
        folder: the run's.
        attempt: 1, and one more each time the run is resumed.
    """

    def __init__(self, folder: Path, attempt: int = 1) -> None:
        self._folder = folder
        self._attempt = attempt
        self.path = folder / "metrics.jsonl"
        self._file = self.path.open("ab", buffering=0)
        self._size = self.path.stat().st_size
        self._waiting: deque[bytes] = deque()
        self._told = False
        self._started = time.time()

    def append(self, step: int, values: dict[str, Any]) -> None:
        """Write a line: step, seconds since the run began, and the values."""
        seconds = round(time.time() - self._started, 3)
        line = json.dumps({"step": step, "seconds": seconds, **values})
        self._waiting.append(line.encode() + b"\n")
        self._write()

    def _write(self) -> None:
        while self._waiting:
            line = self._waiting[0]
            try:
                written = self._file.write(line)
                if written != len(line):
                    raise OSError(f"{written} of {len(line)} bytes were written: no space left")
            except OSError as error:
                os.truncate(self.path, self._size)  # no part of a line
                if not self._told:
                    self._told = True
                    logger.warning(
                        "%s cannot be written (%s). The run goes on; its lines wait in memory until"
                        " there is room", self.path, error,
                    )  # fmt: skip
                return
            self._size += len(line)
            self._waiting.popleft()

    def close(self) -> None:
        """Write what waits, if there is room now, and close the file."""
        self._write()
        self._file.close()
        if self._waiting:
            logger.warning(
                "%s: the disk had no room for its last %d lines, which are lost there",
                self.path, len(self._waiting),
            )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece: how far the file was, what waited, and the clock."""
        self._write()
        os.fsync(self._file.fileno())
        waiting = [line.decode() for line in self._waiting]
        return {"bytes": self._size, "waiting": waiting, "seconds": time.time() - self._started}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        written, wanted = self.path.read_bytes(), state["bytes"]
        if len(written) < wanted:
            raise CheckpointError(
                f"{self.path} has {len(written)} bytes, and had {wanted} when the checkpoint was"
                " written: lines are missing.\n  do: put the file back as it was"
            )
        lines = written[wanted:].count(b"\n")
        if written[wanted:]:
            aside = discarded(self._folder, self._attempt) / "metrics.jsonl"
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(written[wanted:])
            sync(aside)
        os.truncate(self.path, wanted)
        self._size = wanted
        self._waiting = deque(line.encode() for line in state.get("waiting", []))
        self._write()
        self._started = time.time() - state["seconds"]
        return f"{wanted} bytes of metrics.jsonl" + (
            f"; {lines} later lines set aside" * bool(lines)
        )


def discarded(folder: Path, attempt: int) -> Path:
    """Where attempt number `attempt` puts what the one before it wrote after the checkpoint."""
    return folder / "discarded" / f"attempt-{attempt - 1}"

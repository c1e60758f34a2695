"""Rollouts on disk: one parquet file per generation batch and rank, written in the background."""

import json
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlkd.tracking.columns import MANIFEST, type_of
from rlkd.tracking.rollouts import Rollouts

logger = logging.getLogger(__name__)

DEPTH = 2
"""Batches that may be handed over and not yet on disk: what a kill can lose."""
_CLOSE_S = 120.0


class RolloutStore:
    """Writes `<folder>/step-000012-rank0.parquet`: a file appears whole or not at all, and when it
    is there, a line of manifest.jsonl says so.

    Everything is written by one thread. At most `DEPTH` batches wait for it; with more, `write`
    waits: nothing is left out. What goes wrong is told once and counted, and ends nothing.

    Args:
        rank: this process's.
        every: store one batch per so many optimiser steps.
    """

    attempt = 1

    def __init__(self, folder: Path, rank: int, every: int = 1) -> None:
        self.folder = folder
        self.rank = rank
        self.every = every
        self.errors = 0
        """Batches that could not be written."""
        self._open: deque[Rollouts] = deque()  # the first of them may be on its way to the disk
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._last: Rollouts | None = None

    def write(self, rollouts: Rollouts) -> None:
        """Have one batch stored; batches between two multiples of `every` steps are left out."""
        if (rollouts.step - 1) % self.every == 0:
            self._hand_over(rollouts)

    def keep(self, rollouts: Rollouts) -> Path | None:
        """Have one batch stored whatever `every` is, and wait for it.

        Returns:
            Its file; None where it could not be written.
        """
        if rollouts is not self._last:
            self._hand_over(rollouts)
        self._wait()
        path = self._path(rollouts)
        return path if path.is_file() else None

    def _hand_over(self, rollouts: Rollouts) -> None:
        self._last = rollouts
        with self._changed:
            self._changed.wait_for(lambda: len(self._open) < DEPTH)
            self._open.append(rollouts)
            if self._thread is None or not self._thread.is_alive():
                self._closing = False
                # A daemon: an interpreter that ends in the middle does not wait for a dead disk.
                self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is written."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is None:
            return
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            logger.warning(
                "rollouts: the disk of %s does not answer; the last %d batches of rank %d are not"
                " waited for any longer (%g s)",
                self.folder, len(self._open), self.rank, _CLOSE_S,
            )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece: what a checkpoint has learnt from is on the disk
        before it."""
        self._wait()
        return {"errors": self.errors}

    def _wait(self) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: not self._open, _CLOSE_S):
                logger.warning("rollouts: the disk of %s does not answer", self.folder)

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        self.errors = state["errors"]
        return f"{self.errors} batches that could not be written"

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._open or self._closing)
                if not self._open:
                    return
                rollouts = self._open[0]
            try:
                self._store(rollouts)
            except Exception as error:
                self._fail(f"{type(error).__name__}: {error}")
            with self._changed:
                self._open.popleft()
                self._changed.notify_all()

    def _fail(self, reason: str) -> None:
        self.errors += 1
        if self.errors == 1:
            logger.warning(
                "rollouts: a batch of rank %d could not be written to %s (%s). The run goes on"
                " without it; later ones are tried, and those that fail are counted as"
                " train/tracking/errors.",
                self.rank, self.folder, reason,
            )  # fmt: skip

    def _store(self, rollouts: Rollouts) -> None:
        # Not before the first write: until then the folder is the first rank's to check.
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = len(rollouts.prompts)
        path = self._path(rollouts)
        write_whole(self._table(rollouts, rows), path)
        line = {"step": rollouts.step, "rank": self.rank, "attempt": self.attempt, "rows": rows}
        text = json.dumps({**line, "file": path.name}) + "\n"
        # One write to a file opened for appending: lines of several ranks do not mix.
        with (self.folder / MANIFEST).open("ab", buffering=0) as file:
            file.write(text.encode())

    def _path(self, rollouts: Rollouts) -> Path:
        return self.folder / f"step-{rollouts.step:06d}-rank{self.rank}.parquet"

    def _table(self, rollouts: Rollouts, rows: int) -> pa.Table:
        columns: dict[str, list[Any]] = {
            "step": [rollouts.step] * rows,
            "rank": [self.rank] * rows,
            "attempt": [self.attempt] * rows,
            "prompt": [prompt_text(prompt) for prompt in rollouts.prompts],
            "completion": rollouts.completions,
            **rollouts.columns,
        }
        return pa.table({name: pa.array(v, type_of(name)) for name, v in columns.items()})


def write_whole(table: pa.Table, path: Path) -> None:
    """A parquet file that appears whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    try:
        pq.write_table(table, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def prompt_text(prompt: Any) -> str:
    """Text as it is, chat messages as JSON."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def discard_after(folder: Path, step: int, aside: Path) -> int:
    """Move the files of batches first learnt from after `step` to `aside`, and take them out of the
    manifest; returns how many."""
    files = [path for path in folder.glob("step-*-rank*.parquet") if _step_of(path) > step]
    for path in files:
        aside.mkdir(parents=True, exist_ok=True)
        os.replace(path, aside / path.name)
    manifest = folder / MANIFEST
    if manifest.is_file():
        lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        unfinished = manifest.with_suffix(".tmp")
        unfinished.write_text("".join(kept), encoding="utf-8")
        os.replace(unfinished, manifest)
    return len(files)


def _step_of(path: Path) -> int:
    return int(path.name.split("-")[1])

"""Writing a checkpoint so that it appears whole, and deleting the old ones."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlkd.checkpoints import manifest
from rlkd.checkpoints.manifest import Best, CheckpointError
from rlkd.checkpoints.pieces import Pieces


class CheckpointWriter:
    """Gives transformers a folder to write a checkpoint into, completes it, and renames it.

    All in the folder of the checkpoints, N optimiser steps: `unfinished-N/` is being written;
    `checkpoint-N/` appears by one rename, after every byte of it is on the disk; `removed-N/` is
    being deleted. Whatever the moment of a kill, a `checkpoint-N` with its manifest is whole.

    Args:
        accelerator: of the trainer; all ranks must see the same folder.
        pieces: what is written beside transformers' files.
        keep: how many of the newest stay; None: all.
    """

    def __init__(self, accelerator: Any, pieces: Pieces, keep: int | None) -> None:
        self._accelerator = accelerator
        self._pieces = pieces
        self._keep = keep
        self.best: Callable[[], Best | None] = lambda: None
        """The best evaluation so far; its checkpoint is kept too."""
        self.target: str | None = None
        """Where transformers shall put its checkpoint folder, while one is being written."""

    @contextmanager
    def writing(self, folder: Path, step: int) -> Iterator[None]:
        """Around the call that writes `<target>/checkpoint-<step>`; every rank enters it."""
        unfinished = folder / f"unfinished-{step}"
        if self._accelerator.is_main_process:
            clear_leftovers(folder)
            unfinished.mkdir(parents=True)
        self._accelerator.wait_for_everyone()
        written = unfinished / f"checkpoint-{step}"
        self.target = str(unfinished)
        try:
            yield
        finally:
            self.target = None
        self._pieces.save(written, self._accelerator.process_index)
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            best, processes = self.best(), self._accelerator.num_processes
            manifest.write(written, step, processes, self._pieces.writers, best)
            _publish(written, folder / f"checkpoint-{step}")
            unfinished.rmdir()
            rotate(folder, step, self._keep, best.step if best is not None else None)
        self._accelerator.wait_for_everyone()  # nobody goes on, or ends, before it is whole


def _publish(written: Path, final: Path) -> None:
    if final.exists():  # a damaged one, or another run's
        old = final.with_name(final.name.replace("checkpoint-", "replaced-"))
        final.rename(old)
    written.rename(final)
    manifest.sync(final.parent)


def clear_leftovers(folder: Path) -> None:
    """Delete what a kill left half written or half deleted; put back what it left renamed."""
    for old in folder.glob("replaced-*"):
        final = old.with_name(old.name.replace("replaced-", "checkpoint-"))
        if not final.exists():
            old.rename(final)
    for prefix in ("unfinished-", "removed-", "replaced-"):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path)


def rotate(folder: Path, written: int, keep: int | None, best: int | None) -> None:
    """Delete checkpoints older than the newest `keep` whole ones, but the best.

    Args:
        written: the step of the one just written, which is whole; newer ones are left alone.
        keep: None deletes nothing.
        best: step of the best checkpoint, if any.
    """
    if keep is None:
        return
    older = {step: path for step, path in manifest.candidates(folder).items() if step < written}
    whole = sorted((step for step, path in older.items() if _is_whole(path)), reverse=True)
    kept = {*whole[: keep - 1], best}
    for step, path in older.items():
        if step not in kept:
            removed = path.with_name(f"removed-{step}")  # a half-deleted one has no name of its own
            path.rename(removed)
            shutil.rmtree(removed)


def _is_whole(path: Path) -> bool:
    try:
        manifest.read(path)
    except CheckpointError:
        return False
    return True

"""Rollouts on disk: one parquet file per generation batch and rank."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlkd.tracking.rollouts import Rollouts


class RolloutStore:
    """Writes `<folder>/step-000012-rank0.parquet`: a file appears whole or not at all.

    Columns: step, rank, attempt (1, and one more each time the run is resumed: the one that wrote
    the file, which replaces an earlier one's), prompt (chat messages as JSON), completion, and
    those of `Rollouts`.
    """

    attempt = 1

    def __init__(self, folder: Path, rank: int, every: int = 1) -> None:
        self.folder = folder
        self.rank = rank
        self.every = every

    def write(self, rollouts: Rollouts) -> None:
        """Store one batch; batches between two multiples of `every` steps are left out."""
        if (rollouts.step - 1) % self.every == 0:
            self.keep(rollouts)

    def keep(self, rollouts: Rollouts) -> Path:
        """Store one batch, whatever `every` is; returns its file. A newer one replaces it."""
        prompts = [prompt_text(prompt) for prompt in rollouts.prompts]
        rows = len(prompts)
        # Not before the first write: until then the folder is the first rank's to check.
        self.folder.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                "step": [rollouts.step] * rows,
                "rank": [self.rank] * rows,
                "attempt": [self.attempt] * rows,
                "prompt": prompts,
                "completion": rollouts.completions,
                **rollouts.columns,
            }
        )
        path = self.folder / f"step-{rollouts.step:06d}-rank{self.rank}.parquet"
        write_whole(table, path)
        return path


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
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def discard_after(folder: Path, step: int, aside: Path) -> int:
    """Move the files of batches first learnt from after `step` to `aside`; returns how many."""
    files = [path for path in folder.glob("step-*-rank*.parquet") if _step_of(path) > step]
    for path in files:
        aside.mkdir(parents=True, exist_ok=True)
        os.replace(path, aside / path.name)
    return len(files)


def _step_of(path: Path) -> int:
    return int(path.name.split("-")[1])

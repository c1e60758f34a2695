"""The difficulty records in a run's folder: `difficulty.parquet`.

Columns, one row per prompt: key (int64), prompt (text; chat messages as JSON; null where it is not
known), pass_rate (historical, null: not visited), shortest (tokens of the shortest correct answer
on record, null: never solved), visits. What resumes a run is in its checkpoints; this file is to
be read.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rlkd.difficulty import Difficulty, Rules, prompt_key
from rlkd.errors import ConfigError
from rlkd.tracking.store import prompt_text, write_whole

NAME = "difficulty.parquet"
_ABOUT = b"rlkd"


def write(folder: Path, difficulty: Difficulty, prompts: Iterable[Any], step: int) -> None:
    """Write the records as they stand; the file appears whole or not at all.

    Args:
        folder: the run's.
        prompts: those whose text is known, in any order.
        step: optimiser steps done.
    """
    text_of = {prompt_key(prompt): prompt_text(prompt) for prompt in prompts}
    columns = difficulty.table()
    texts = [text_of.get(key) for key in columns["key"].tolist()]
    arrays = {
        name: pa.array(value_D.numpy(), from_pandas=True)  # NaN becomes null
        for name, value_D in columns.items()
    }
    key = {"key": arrays.pop("key")}
    about = {"step": step, "threshold": difficulty.threshold(), "rules": asdict(difficulty.rules)}
    table = pa.table(key | {"prompt": pa.array(texts, pa.string())} | arrays)
    write_whole(table.replace_schema_metadata({_ABOUT: json.dumps(about)}), folder / NAME)


@dataclass(frozen=True)
class Records:
    """What `write` wrote; D prompts."""

    step: int
    threshold: float
    """As `Difficulty.threshold`; NaN: no prompt was visited."""
    rules: Rules
    prompts: list[str | None]
    pass_rate_D: Tensor
    shortest_D: Tensor
    visits_D: Tensor


def read(run: Path) -> Records:
    """The records of a run's folder.

    Raises:
        ConfigError: no such run; a run without records; a file that cannot be read.
    """
    if not run.is_dir():
        raise ConfigError(f"there is no folder {run}\n  do: name a run's folder, like runs/NAME")
    path = run / NAME
    if not path.is_file():
        kind = "run" if (run / "config.yaml").is_file() else "folder"
        raise ConfigError(
            f"the {kind} {run} has no {NAME}\n"
            "  expected: a run writes it with each checkpoint (run.save_every) and at its end\n"
            "  do: wait for the first checkpoint, or name another run"
        )
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[_ABOUT])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ConfigError(
            f"{path} is not a file of difficulty records\n  found: {type(error).__name__}: {error}"
        ) from error
    column = {name: table[name].to_numpy() for name in ("pass_rate", "shortest", "visits")}
    return Records(
        step=about["step"],
        threshold=about["threshold"],
        rules=Rules(**about["rules"]),
        prompts=table["prompt"].to_pylist(),
        pass_rate_D=torch.tensor(column["pass_rate"], dtype=torch.float64),
        shortest_D=torch.tensor(column["shortest"], dtype=torch.float64),
        visits_D=torch.tensor(column["visits"]),
    )

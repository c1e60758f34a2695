"""Reading what a run wrote: its metrics and its rollouts, whatever version wrote them.

Where a run was resumed and wrote a step twice, the latest attempt's is what is read.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from rlkd.errors import ConfigError
from rlkd.tracking.columns import MANIFEST, type_of

_STEP_FILE = re.compile(r"step-(\d+)-rank(\d+)\.parquet")


def check_run(folder: Path) -> None:
    """Raises ConfigError where `folder` is not a run's."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; give a run's folder, like runs/NAME")
    if not (folder / "metrics.jsonl").is_file() and not (folder / "rollouts").is_dir():
        inside = sorted(p.parent.name for p in folder.glob("*/metrics.jsonl"))
        hint = f"\n  do: give one of the runs in it: {', '.join(inside[:8])}" if inside else ""
        raise ConfigError(
            f"{folder} is not a run: it has neither metrics.jsonl nor rollouts/{hint}"
        )


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one per step and kind (training, evaluation), by step; [] where
    the run has none. A line that a kill cut short is left out."""
    path = folder / "metrics.jsonl"
    lines: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in _json_lines(path):
        if not isinstance(line.get("step"), int):
            continue
        key = (line["step"], any(name.startswith("eval/") for name in line))
        old = lines.get(key)
        if old is None or line.get("attempt", 1) >= old.get("attempt", 1):
            lines[key] = line
    return [lines[key] for key in sorted(lines)]


def manifest(folder: Path) -> list[dict[str, Any]]:
    """What manifest.jsonl says of the run's step files: one entry per step and rank, the latest.
    Files that a resume has set aside are not among them."""
    inside = folder / "rollouts"
    found = {(e["step"], e["rank"]): e for e in _json_lines(inside / MANIFEST)}
    return [found[key] for key in sorted(found) if (inside / found[key]["file"]).is_file()]


def _json_lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(text)


@dataclass(frozen=True)
class _File:
    path: Path
    step: int
    attempt: int
    rows: int
    schema: pa.Schema


@dataclass
class RolloutFiles:
    """The rollouts of a run as one table that is not in memory.

    Columns that some files lack (an older version wrote them) are null there.
    """

    files: list[_File]
    schema: pa.Schema
    left_out: list[str] = field(default_factory=list)
    """Files that cannot be read, with the reason."""

    @property
    def steps(self) -> list[int]:
        """The steps that have rollouts, ascending."""
        return sorted({file.step for file in self.files})

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def rewards(self) -> list[str]:
        """Names of the rewards, the verifiable one first."""
        names = [n.removeprefix("reward/") for n in self.schema.names if n.startswith("reward/")]
        return [name for name in names if name != "shaped"]

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        steps: Callable[[int], bool] | None = None,
    ) -> Iterable[pa.RecordBatch]:
        """The rows that pass, a batch at a time; files of other steps are not opened.

        Args:
            columns: those wanted; None: all. Unknown ones are left out.
            where: a filter over columns of `schema`.
            steps: which steps.
        """
        chosen = [f for f in self.files if steps is None or steps(f.step)]
        if not chosen:
            return
        wanted = None if columns is None else [c for c in columns if c in self.schema.names]
        dataset = ds.dataset([str(f.path) for f in chosen], schema=self.schema, format="parquet")
        yield from dataset.to_batches(columns=wanted, filter=where)

    def table(
        self,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        steps: Callable[[int], bool] | None = None,
    ) -> pa.Table:
        """As `scan`, all in memory."""
        names = self.schema.names if columns is None else columns
        schema = pa.schema([self.schema.field(n) for n in names if n in self.schema.names])
        return pa.Table.from_batches(self.scan(columns, where, steps), schema)

    def first(
        self,
        limit: int,
        sort: str | None = None,
        *,
        descending: bool = True,
        where: pc.Expression | None = None,
        steps: Callable[[int], bool] | None = None,
    ) -> tuple[list[dict[str, Any]], int]:
        """The first `limit` rows that pass, sorted by a column (null last; None: as stored), and
        how many pass in all. Never more in memory than a batch and the best so far."""
        kept = self.schema.empty_table()
        passed = 0
        order = "descending" if descending else "ascending"
        for batch in self.scan(where=where, steps=steps):
            passed += len(batch)
            if sort is None and len(kept) >= limit:
                continue
            both = pa.concat_tables([kept, pa.Table.from_batches([batch])])
            if sort is not None and len(both) > 1:
                both = both.sort_by([(sort, order)])
            kept = both.slice(0, limit).combine_chunks()
        return kept.to_pylist(), passed


def rollouts(folder: Path) -> RolloutFiles:
    """The rollouts of a run.

    Raises:
        ConfigError: it stored none.
    """
    files, left_out = [], []
    for path in sorted((folder / "rollouts").glob("step-*.parquet")):
        match = _STEP_FILE.fullmatch(path.name)
        if match is None:
            continue
        try:
            found = pq.ParquetFile(path)
            files.append(
                _File(path, int(match[1]), _attempt(found), found.metadata.num_rows,
                      found.schema_arrow)
            )  # fmt: skip
        except (pa.ArrowInvalid, OSError) as error:
            left_out.append(f"{path.name}: {str(error).splitlines()[0]}")
    if not files:
        why = f"; unreadable: {left_out[0]}" if left_out else ""
        raise ConfigError(
            f"{folder} has no stored rollouts{why}.\n"
            "  note: tracking.rollouts_every stores them; 0 stores none"
        )
    latest: dict[int, int] = {}
    for file in files:
        latest[file.step] = max(latest.get(file.step, 0), file.attempt)
    files = [file for file in files if file.attempt == latest[file.step]]
    return RolloutFiles(files, _schema(files), left_out)


def _attempt(file: pq.ParquetFile) -> int:
    """The attempt that wrote a file: the same in all its rows. 1 where it does not say."""
    names = file.schema_arrow.names
    if "attempt" not in names or file.metadata.num_row_groups == 0:
        return 1
    statistics = file.metadata.row_group(0).column(names.index("attempt")).statistics
    return int(statistics.max) if statistics is not None and statistics.has_min_max else 1


def _schema(files: list[_File]) -> pa.Schema:
    """All columns of all files, in the order of the newest step's, each with its present type."""
    different = {id(f.schema): f.schema for f in reversed(files)}
    schemas: list[pa.Schema] = []
    for schema in different.values():
        if not any(schema.equals(known) for known in schemas):
            schemas.append(schema)
    merged = pa.unify_schemas(
        [pa.schema([pa.field(f.name, type_of(f.name) or f.type) for f in s]) for s in schemas],
        promote_options="permissive",
    )
    return merged.remove_metadata()

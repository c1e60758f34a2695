"""The file of results: a JSON list with one record per run. Standard library only.

A record's `algorithm`, `task` and `seed` say which run it is, `settings` is a fingerprint of its
config. A run that failed has `error` instead of figures, and is tried again the next time.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlkd.config import ConfigError, RunConfig

Record = dict[str, Any]
Key = tuple[str, str, int]


def key_of(record: Record) -> Key:
    """Which run a record is of: algorithm, task, seed."""
    return record["algorithm"], record["task"], record["seed"]


def fingerprint(config: RunConfig) -> str:
    """A hash of all that files and overrides set, but the run's name and folder."""
    unnamed = {"run": {"name", "dir"}}
    settings = config.model_dump(mode="json", exclude=unnamed, exclude_unset=True)
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def read(path: Path) -> list[Record]:
    """The records of a file; none where there is no file.

    Raises:
        ConfigError: the file is no list of records.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as records: {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ConfigError(
            f"{path} holds no list of records.\n  do: name another --out, or move that file away"
        )
    return records


def keep(path: Path, record: Record, key: Callable[[Record], Any] = key_of) -> list[Record]:
    """Put `record` into the file, in the place of one with the same key; returns all, sorted by it.

    The file is replaced by a whole new one, so that a kill at any moment leaves the old or the
    new; two programs that keep at once do not lose each other's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        records = [other for other in read(path) if key(other) != key(record)]
        records = sorted([*records, record], key=key)
        lines = ",\n ".join(json.dumps(one) for one in records)
        write_whole(path, f"[{lines}]\n")
    return records


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One program at a time; the lock is the folder's own, so that no further file is needed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

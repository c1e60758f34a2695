"""Is a cache's file still the one that a run was scored with?"""

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlkd.checkpoints.manifest import CheckpointError

_ENTRIES = 32


class CacheFile:
    """A piece of a checkpoint: some entries of the file, spread evenly over it. An entry is never
    changed or taken out, so that all of them are there for as long as it is the same file, however
    many came after them.

    Args:
        path: of the file, as the message shows it.
        database: gives the open file.
    """

    per_rank = True
    """Machines have files of their own under one path."""

    def __init__(self, path: Path, database: Callable[[], sqlite3.Connection]) -> None:
        self._path, self._database = path, database

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        database = self._database()
        ((last,),) = database.execute("SELECT coalesce(max(rowid), 0) FROM scores").fetchall()
        places = sorted({1 + last * n // _ENTRIES for n in range(_ENTRIES)}) if last else []
        found = {}
        for place in places:
            key, logp = database.execute(
                "SELECT key, logp FROM scores WHERE rowid >= ? ORDER BY rowid LIMIT 1", (place,)
            ).fetchone()
            found[key.hex()] = _digest(logp)
        return {"entries": found}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        lost = changed = 0
        for key, digest in state["entries"].items():
            row = self._database().execute(
                "SELECT logp FROM scores WHERE key = ?", (bytes.fromhex(key),)
            ).fetchone()  # fmt: skip
            lost += row is None
            changed += row is not None and _digest(row[0]) != digest
        looked_at = len(state["entries"])
        if lost or changed:
            raise CheckpointError(
                f"teacher: {self._path} is not the cache that the run was scored with.\n"
                f"  found: of {looked_at} entries that it had, {lost} are gone and {changed} hold"
                " other scores\n"
                "  why: the rest of the run would learn from another file's scores\n"
                "  do: put the file back and resume, or begin a new run"
            )
        return f"the {looked_at} entries of the cache that were looked at are as they were"


def _digest(logp: bytes) -> str:
    return hashlib.blake2b(logp, digest_size=16).hexdigest()

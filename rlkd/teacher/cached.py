"""Scores kept on disk: of fixed answers (traces, a file of solutions), scored once."""

import contextlib
import hashlib
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlkd.teacher.base import Teacher, TeacherError, TokenScores
from rlkd.teacher.cache_file import CacheFile
from rlkd.teacher.scores import fault_of
from rlkd.teacher.wrapping import Wrapping

_WAIT = 60.0
"""Seconds to wait for another process that writes."""


class Cached(Wrapping):
    """Looks an answer up before it asks the inner teacher, and remembers what that one says.

    One SQLite file, shared by the processes of a machine. A score is found under prompt tokens,
    answer tokens, temperature, the row's columns that the inner teacher may read, and `of`.

    Args:
        inner: who scores what is not there.
        path: the file; made where there is none.
        of: what the scores are of: a name and version of the teacher. A file of another one is
            refused.
        offline: never ask the inner teacher: an answer that is not there is an error.

    Raises:
        TeacherError: the file is no such cache, or one of another teacher.
    """

    def __init__(self, inner: Teacher, path: str, of: str, offline: bool = False) -> None:
        super().__init__(inner)
        if inner.shares_student:
            raise ValueError(
                f"{inner.name} changes with the student: what it said before is stale, and a cache "
                "would go on saying it"
            )
        self.path, self.of, self.offline = Path(path), of, offline
        self.name = f"{inner.name}, cached in {path}"
        self.hits, self.misses = 0, 0
        self._database: sqlite3.Connection | None = None
        self._closed = False
        self._file = CacheFile(self.path, self._opened)
        if self.path.exists():
            self._check()
        elif offline:
            raise ValueError(
                f"offline is true and there is no file {path}: nothing could be looked up. Name "
                "the file that an earlier run wrote, or set offline to false"
            )

    def _check(self) -> None:
        """What is there is such a cache, or an empty file, which becomes one."""
        if self.path.is_dir():
            raise TeacherError(f"{self.path} is a folder, and a cache is one file in one")
        try:
            database = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", timeout=_WAIT, uri=True
            )
            with contextlib.closing(database):
                found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                tables = [name for (name,) in found]
                if tables and "about" not in tables:
                    raise TeacherError(
                        f"{self.path} is a database of something else (its tables: "
                        f"{', '.join(tables[:8])}), no cache of scores. Give the cache another "
                        "path."
                    )
                of = database.execute("SELECT of FROM about").fetchall() if tables else []
        except sqlite3.DatabaseError as error:
            raise TeacherError(
                f"{self.path} cannot be used as a cache: {error}. Give the cache another path."
            ) from error
        for (name,) in of:
            self._check_same(name)

    def _check_same(self, of: str) -> None:
        if of != self.of:
            raise TeacherError(
                f"{self.path} holds scores of {of!r}, and this teacher is {self.of!r}: they would "
                "be another model's opinion. Give the cache another path."
            )

    def _open(self) -> sqlite3.Connection:
        """Made when the first score is asked for: making a Cached writes nothing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS about (of TEXT UNIQUE)")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, logp BLOB)"
                )
                database.execute(
                    "INSERT INTO about SELECT ? WHERE NOT EXISTS (SELECT 1 FROM about)", (self.of,)
                )
            ((of,),) = database.execute("SELECT of FROM about").fetchall()
        except (sqlite3.DatabaseError, OSError) as error:
            raise TeacherError(f"{self.path} cannot be used as a cache: {error}") from error
        self._check_same(of)
        return database

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise TeacherError(f"{self.name} is closed")
        if self._database is None:
            self._database = self._open()
        return self._database

    def learnt(self) -> Mapping[str, Any]:
        inner = {f"cached_{word}": piece for word, piece in self.inner.learnt().items()}
        return {"cache": self._file, **inner}

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._closed = True
        super().close()

    def score_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        keys = [
            _key(row, prompt, answer, temperature)
            for row, prompt, answer in zip(rows, prompt_ids, completion_ids, strict=True)
        ]
        found = self._look_up(keys, completion_ids)
        missing = [place for place, scores in enumerate(found) if scores is None]
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        if missing and self.offline:
            place = missing[0]
            raise TeacherError(
                f"{self.name}: {len(missing)} of {len(keys)} answers are not in the cache (the "
                f"first: row {place}, tokens {list(completion_ids[place])[:16]}…) and offline is "
                "true. A cache serves fixed answers; fresh ones need a teacher."
            )
        if missing:

            def of(values: Sequence[Any]) -> list[Any]:
                return [values[place] for place in missing]

            fresh = self.inner.score_rows(of(rows), of(prompt_ids), of(completion_ids), temperature)
            self._remember(of(keys), of(completion_ids), fresh)
            for place, scores in zip(missing, fresh, strict=True):
                found[place] = scores
        return [scores for scores in found if scores is not None]

    def _look_up(
        self, keys: Sequence[bytes], completion_ids: Sequence[Sequence[int]]
    ) -> list[TokenScores | None]:
        database = self._opened()
        found: list[TokenScores | None] = []
        for key, sent in zip(keys, completion_ids, strict=True):
            kept = database.execute("SELECT logp FROM scores WHERE key = ?", (key,))
            row = kept.fetchone()
            if row is None:
                found.append(None)
                continue
            logp = torch.from_numpy(np.frombuffer(row[0], dtype="<f4").copy())
            if len(logp) != len(sent):
                raise TeacherError(
                    f"{self.path} is damaged: {len(logp)} scores for an answer of {len(sent)}"
                )
            found.append(TokenScores(torch.tensor(list(sent), dtype=torch.int64), logp))
        return found

    def _remember(
        self,
        keys: Sequence[bytes],
        completion_ids: Sequence[Sequence[int]],
        fresh: Sequence[TokenScores],
    ) -> None:
        """Keep what is sound; what is not, whoever asked will refuse."""
        if len(fresh) != len(keys) or self._database is None:
            raise TeacherError(f"{self.inner.name} was asked for {len(keys)}, scored {len(fresh)}")
        sound = [
            (key, scores.logp.float().cpu().numpy().astype("<f4").tobytes())
            for key, sent, scores in zip(keys, completion_ids, fresh, strict=True)
            if fault_of(self.inner.name, scores, sent, "") is None
        ]
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", sound)


def _key(
    row: Mapping[str, Any], prompt: Sequence[int], answer: Sequence[int], temperature: float
) -> bytes:
    """Names what was asked. Of the row all counts that is written as it is meant: what a template
    can show."""
    hashed = hashlib.blake2b(digest_size=16)
    shown = sorted((k, v) for k, v in row.items() if isinstance(v, (str, int, float, bool)))
    lists = sorted((k, repr(v)) for k, v in row.items() if _is_plain(v) and (k, v) not in shown)
    hashed.update(repr((float(temperature), shown, len(prompt))).encode())
    hashed.update(repr(lists).encode() if lists else b"")
    hashed.update(array("q", prompt).tobytes() + array("q", answer).tobytes())
    return hashed.digest()


def _is_plain(value: Any) -> bool:
    """Text, numbers, None, and lists and dictionaries of them."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, str | int | float | bool)

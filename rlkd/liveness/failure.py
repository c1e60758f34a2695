"""The first failure of a run of several processes: one, whoever finds others later."""

import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rlkd.liveness import heartbeat


@dataclass(frozen=True)
class Failure:
    """Why a run ends before it is done."""

    rank: int
    """The rank that failed."""
    told_by: int
    """The rank that found it."""
    what: str
    """In one line: what, where."""
    exit_code: int
    """That the other ranks end with."""
    details: str = ""
    """A traceback."""


def path_of(folder: Path, session: str) -> Path:
    """Where the first failure of a session stands; `folder` is the run's."""
    return folder / heartbeat.FOLDER / f"first-failure-{session}.json"


def claim(folder: Path, session: str, failure: Failure) -> Failure:
    """Write it down, if it is the first; returns the one that is."""
    path = path_of(folder, session)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(asdict(failure), indent=1) + "\n")
    except FileExistsError:
        for _ in range(10):
            first = read(folder, session)
            if first is not None:
                return first
            time.sleep(0.05)  # it is being written
    return failure


def read(folder: Path, session: str) -> Failure | None:
    """The first failure so far."""
    found = heartbeat.load(path_of(folder, session))
    return Failure(**found) if found is not None else None


def of_exception(error: BaseException) -> str:
    """In one line."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_BROKEN_LINE = re.compile(
    r"gloo|nccl|c10d|connection (was )?(closed|reset|refused)|broken pipe|socket|collective",
    re.IGNORECASE,
)


def may_be_anothers(error: BaseException) -> bool:
    """Does it look like what a collective raises when another rank is gone?"""
    return isinstance(error, RuntimeError | ConnectionError) and bool(
        _BROKEN_LINE.search(str(error))
    )

"""What each rank says of itself, in a file of its own; and whether a process is still there."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = "heartbeats"


@dataclass(frozen=True)
class Heartbeat:
    """One rank, at one moment."""

    session: str
    """Of this launch: what another one left in the folder is not read."""
    rank: int
    host: str
    """Machine and, where containers share one, the space in which `pid` means something."""
    pid: int
    born: str
    """The process's start by the system's count: a later process with the same pid is another."""
    step: int
    """The optimiser step in work, counted from 1; 0: none yet."""
    phase: str
    """Phases, outermost first: `score > reward`."""
    silent_s: float
    """Seconds since the main thread was last seen to get on."""
    at: float
    """When this was written (time.time)."""
    ended: bool = False
    """The rank is done; that its process is gone is no failure."""

    @property
    def place(self) -> str:
        """For a person."""
        return f"step {self.step}, {self.phase or 'between phases'}"


def path_of(folder: Path, rank: int) -> Path:
    """The file of a rank; `folder` is the run's."""
    return folder / FOLDER / f"rank-{rank}.json"


def write(folder: Path, beat: Heartbeat) -> None:
    """Put the file in the place of the one before, whole."""
    replace(path_of(folder, beat.rank), asdict(beat))


def read(folder: Path, rank: int, session: str) -> Heartbeat | None:
    """The last of a rank; None: it has none in this session."""
    found = load(path_of(folder, rank))
    if found is None or found.get("session") != session:
        return None
    return Heartbeat(**found)


def replace(path: Path, content: dict[str, Any]) -> None:
    """Write JSON to a file that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def load(path: Path) -> dict[str, Any] | None:
    """The JSON of a file; None: there is none, or it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def own(session: str, rank: int, *, step: int, phase: str, silent_s: float) -> Heartbeat:
    """Of this process, now."""
    pid = os.getpid()
    return Heartbeat(session, rank, host(), pid, born(pid), step, phase, silent_s, time.time())


def host() -> str:
    """See Heartbeat."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{platform.node()} {space}".strip()


def born(pid: int) -> str:
    """See Heartbeat; empty where /proc does not tell."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def is_gone(beat: Heartbeat) -> bool:
    """Has its process ended? Only of a process of this host can that be said; else False."""
    if beat.host != host():
        return False
    try:
        os.kill(beat.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    fields = _stat(beat.pid)
    if not fields:
        return False
    # Z, X: dead, and its parent has not asked yet.
    return fields[0] in "ZX" or (beat.born != "" and fields[19] != beat.born)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the third field on: its name, the second, may hold blanks."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()

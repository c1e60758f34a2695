"""Which checkpoints are whole: a manifest, written last, names every file of one with its hash.

Standard library only: the command line reads manifests without loading torch.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlkd.errors import ConfigError

NAME = "manifest.json"
FORMAT = 1


class CheckpointError(ConfigError):
    """A checkpoint, or a piece of one, is missing or damaged. Printed alone, as ConfigError is."""


@dataclass(frozen=True)
class File:
    """One file of a checkpoint."""

    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class Best:
    """The best held-out evaluation so far."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds."""

    step: int
    """Optimiser steps done."""
    processes: int
    """Ranks that wrote it, and that it can be continued on."""
    pieces: dict[str, str]
    """Name of each piece (`rlkd.checkpoints.pieces`) to who wrote it: "main" or "rank" (each)."""
    files: dict[str, File]
    """Path inside the checkpoint to size and hash; the manifest itself is not listed."""
    best: Best | None = None
    """The best evaluation when it was written, where checkpoints are compared."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint."""

    path: Path
    manifest: Manifest

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.manifest.step


def write(
    folder: Path, step: int, processes: int, pieces: dict[str, str], best: Best | None
) -> None:
    """Write the manifest of all files under `folder`; everything is on the disk when it returns."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME):
        sync(path)
        files[path.relative_to(folder).as_posix()] = File(path.stat().st_size, _sha256(path))
    for inner in (p for p in folder.rglob("*") if p.is_dir()):
        sync(inner)
    manifest = Manifest(step, processes, pieces, files, best)
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")
    sync(folder / NAME)
    sync(folder)


def read(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, if every file of its manifest is there with the right size.

    Raises:
        CheckpointError: it is not whole; the message says what is missing.
    """
    try:
        manifest = _parse(json.loads((folder / NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {NAME}: it was not written to its end") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/{NAME} cannot be read: {error!r}") from error
    for name, file in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{folder} lacks {name}")
        if path.stat().st_size != file.size:
            raise CheckpointError(
                f"{path} is damaged: {path.stat().st_size} bytes, {file.size} were written"
            )
    return Checkpoint(folder, manifest)


def verify(folder: Path) -> Checkpoint:
    """`read`, and every byte compared with its hash (reads the whole checkpoint).

    Raises:
        CheckpointError: it is not whole, or a file has changed.
    """
    checkpoint = read(folder)
    for name, file in checkpoint.manifest.files.items():
        if _sha256(folder / name) != file.sha256:
            raise CheckpointError(f"{folder / name} is damaged: its content has changed")
    return checkpoint


def candidates(folder: Path) -> dict[int, Path]:
    """Step to folder of all that calls itself a checkpoint, whole or not."""
    found = dict(_numbered(folder, "replaced-"))  # only where a kill came between two renames
    return found | dict(_numbered(folder, "checkpoint-"))


def newest(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The whole checkpoint with the most steps; newer ones that are damaged are told to `warn`."""
    for _, path in sorted(candidates(folder).items(), reverse=True):
        try:
            return verify(path)
        except CheckpointError as error:
            warn(f"left out: {error}")
    return None


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _numbered(folder: Path, prefix: str) -> Iterator[tuple[int, Path]]:
    for path in folder.glob(f"{prefix}*"):
        number = path.name.removeprefix(prefix)
        if number.isdecimal() and path.is_dir():
            yield int(number), path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(tree: dict[str, Any]) -> Manifest:
    if tree["format"] != FORMAT:
        raise ValueError(f"format {tree['format']}, this rlkd reads {FORMAT}")
    files = {name: File(**file) for name, file in tree["files"].items()}
    best = Best(**tree["best"]) if tree["best"] is not None else None
    return Manifest(tree["step"], tree["processes"], tree["pieces"], files, best)

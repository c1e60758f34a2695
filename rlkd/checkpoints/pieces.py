"""The pieces of a run's state that a checkpoint holds beside transformers' own files."""

import pickle
from pathlib import Path
from typing import Any, Protocol

import torch

from rlkd.checkpoints.manifest import Checkpoint, CheckpointError, sync


class Piece(Protocol):
    """Something that a resumed run must find as it was."""

    def state(self) -> Any:
        """All of it, in dictionaries, lists, tuples, tensors, numbers, text, None: no own classes.

        Read at once: it may refer to what training will change.
        """
        ...

    def restore(self, state: Any) -> str:
        """Become what `state` describes; tensors come on the CPU.

        Called on every rank after weights, optimiser and the trainer's step count are restored
        and before anything is evaluated or drawn. Returns a few words for `--resume` to print.

        Raises:
            CheckpointError: the state does not fit this run.
        """
        ...


class Pieces:
    """The registry: what is added is saved in every checkpoint and demanded of one to resume from.

    Every rank adds the same names, in any order, before `train()`.
    """

    def __init__(self) -> None:
        self._pieces: dict[str, tuple[Piece | None, bool]] = {}
        self._unneeded: tuple[str, ...] = ()

    def add(self, name: str, piece: Piece | None, *, per_rank: bool = False) -> None:
        """Save and restore `piece` from here on.

        Args:
            name: letters, digits, `_`; its file is pieces/NAME.pt or pieces/NAME-rankR.pt.
            piece: None on a rank that has none of its own (only with per_rank=False, and not on
                the main rank).
            per_rank: False: the main rank's state is written, and every rank restores it. True:
                every rank writes and restores its own.

        Raises:
            ValueError: the name is taken, or no name for a file.
        """
        if name in self._pieces or not name.isidentifier():
            raise ValueError(f"{name!r}: a piece's name is a word that no other piece has")
        self._pieces[name] = (piece, per_rank)

    def do_without(self, prefix: str) -> None:
        """Leave the pieces of a checkpoint whose names begin so: this run has nobody for them."""
        self._unneeded += (prefix,)

    @property
    def writers(self) -> dict[str, str]:
        """Name to who writes it, "main" or "rank": what the manifest lists."""
        return {name: "rank" if each else "main" for name, (_, each) in self._pieces.items()}

    def save(self, folder: Path, rank: int) -> None:
        """Write this rank's share into `folder`/pieces. Every rank calls it."""
        folder = folder / "pieces"
        folder.mkdir(exist_ok=True)
        for name, (piece, per_rank) in self._pieces.items():
            if piece is not None and (per_rank or rank == 0):
                path = folder / _file(name, per_rank, rank)
                torch.save(piece.state(), path)
                sync(path)

    def restore(self, checkpoint: Checkpoint, rank: int) -> dict[str, str]:
        """Restore all pieces on this rank; returns what each says of itself.

        Raises:
            CheckpointError: a piece is in the checkpoint and not in this run, or the other way
                round; one cannot be read or does not fit.
        """
        self.check(checkpoint)
        said = {}
        for name, (piece, _) in self._pieces.items():
            if piece is not None:
                said[name] = piece.restore(self.read(checkpoint, name, rank))
        return said

    def read(self, checkpoint: Checkpoint, name: str, rank: int) -> Any:
        """The state of one piece, as this rank restores it.

        Raises:
            CheckpointError: it cannot be read.
        """
        path = checkpoint.path / "pieces" / _file(name, self._pieces[name][1], rank)
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error

    def check(self, checkpoint: Checkpoint) -> None:
        """Are the pieces of the checkpoint those of this run?

        Raises:
            CheckpointError: they are not.
        """
        theirs, ours = checkpoint.manifest.pieces, self.writers
        for name in sorted(theirs.keys() ^ ours.keys()):
            if name not in ours and name.startswith(self._unneeded):
                continue
            has, lacks = ("this run", checkpoint.path) if name in ours else ("it", "this run")
            raise CheckpointError(
                f"{checkpoint.path} cannot be resumed from: piece {name!r} is missing.\n"
                f"  found: {has} has it and {lacks} has not\n"
                "  do: resume with the code that wrote it, or start a new run"
            )
        for name, writer in ours.items():
            if theirs[name] != writer:
                raise CheckpointError(
                    f"{checkpoint.path} cannot be resumed from: piece {name!r} was written by"
                    f" {theirs[name]} and this run expects {writer}"
                )


def _file(name: str, per_rank: bool, rank: int) -> str:
    return f"{name}-rank{rank}.pt" if per_rank else f"{name}.pt"

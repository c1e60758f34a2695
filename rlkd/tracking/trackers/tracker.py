"""What a tracker is told of a run, and what it is asked to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunInfo:
    """What a tracker knows of a run from its start."""

    folder: Path
    name: str
    project: str
    group: str
    """The same for runs that differ only in their seed."""
    job_type: str = "train"
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved config."""
    code: Mapping[str, Any] = field(default_factory=dict)
    """Commit, whether files differed from it, and the versions of what ran."""
    run_id: str | None = None
    """Of the tracker's run: a resumed run keeps it; None: a new one."""
    attempt: int = 1
    """1, and one more each time the run is resumed."""
    step: int = 0
    """Optimiser steps that were done before this attempt."""


class Tracker(Protocol):
    """One tracker's run. Every method may block, and may raise: `Outbox` calls them in a thread of
    its own, one after the other, and leaves out what fails."""

    name: str
    """As a person calls it."""

    def start(self) -> None:
        """Open the run."""
        ...

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers of optimiser step `step`, under their full names (train/…, eval/…)."""
        ...

    def log_table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Rows of text and numbers (None: none) that belong to a step. What an earlier step gave
        under the same name stays."""
        ...

    def log_chart(
        self, step: int, name: str, columns: Sequence[str], points: Sequence[Sequence[float]]
    ) -> None:
        """Points, their second column (x) against their third."""
        ...

    def alert(self, step: int, title: str, text: str) -> None:
        """Something that a person should hear of now."""
        ...

    def log_folder(self, step: int, name: str, folder: Path) -> None:
        """A model's folder, kept as an artifact."""
        ...

    def finish(self) -> None:
        """Send what is left and close the run.

        Raises:
            Unsent: it did not all arrive.
        """
        ...

    def abandon(self) -> None:
        """Let go of a run that hangs, so that the interpreter can end. Called from another thread,
        while a call of this tracker has not returned."""
        ...

    def send_later(self) -> str:
        """Words for a person: how what was not sent is sent later."""
        ...


class Unsent(Exception):
    """A tracker ended without sending all that it was given."""

"""TensorBoard: event files in the run's folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlkd.tracking.trackers.tracker import RunInfo


class TensorBoardTracker:
    """Event files under `tensorboard/` of the run's folder: numbers as scalars, tables, charts,
    config and alerts as text.

    A resumed run hides the scalars of the steps that it trains again; its text has both.
    """

    name = "TensorBoard"

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._writer: Any = None

    def start(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = self._info.step + 1 if self._info.attempt > 1 else None
        self._writer = SummaryWriter(str(self._info.folder / "tensorboard"), purge_step=purge)
        about = {"group": self._info.group, "job_type": self._info.job_type,
                 "code": dict(self._info.code), "config": dict(self._info.config)}  # fmt: skip
        for name, value in about.items():
            text = value if isinstance(value, str) else json.dumps(value, indent=2, default=str)
            # Markdown: four blanks make it a block of code.
            lines = "\n".join(f"    {line}" for line in text.splitlines())
            self._writer.add_text(name, lines, self._info.step)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)

    def log_table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        self._writer.add_text(name, text, step)

    def log_chart(
        self, step: int, name: str, columns: Sequence[str], points: Sequence[Sequence[float]]
    ) -> None:
        self.log_table(step, name, columns, points)

    def alert(self, step: int, title: str, text: str) -> None:
        self._writer.add_text("alerts", f"**{title}** {text}", step)

    def log_folder(self, step: int, name: str, folder: Path) -> None:
        """TensorBoard keeps no files: where the folder is."""
        self._writer.add_text("models", f"{name}: `{folder}`", step)

    def finish(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        """Its threads are daemons: they end with the interpreter."""

    def send_later(self) -> str:
        return f"What it has: tensorboard --logdir {self._info.folder.parent}"


def _cell(value: Any) -> str:
    """A value in a Markdown table, on one line."""
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>")

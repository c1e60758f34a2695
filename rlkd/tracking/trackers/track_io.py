"""trackio."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlkd.tracking.trackers.tracker import RunInfo


class TrackioTracker:
    """A run of trackio, in trackio's own folder (TRACKIO_DIR), which its dashboard reads:
    `trackio show --project PROJECT`.

    A resumed run goes on under its name; the steps trained twice are there twice.
    """

    name = "trackio"

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._run: Any = None

    def start(self) -> None:
        import trackio

        info = self._info
        about = {"job_type": info.job_type, "code": dict(info.code)}
        self._run = trackio.init(
            project=info.project, name=info.name, group=info.group,
            config={**info.config, **about}, resume="allow" if info.attempt > 1 else "never",
            embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        known = {name: value for name, value in values.items() if _is_number(value)}
        self._run.log(known, step=step)

    def log_table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        import trackio

        table = trackio.Table(columns=list(columns), data=[list(row) for row in rows])
        self._run.log({name: table}, step=step)

    def log_chart(
        self, step: int, name: str, columns: Sequence[str], points: Sequence[Sequence[float]]
    ) -> None:
        self.log_table(step, name, columns, points)

    def alert(self, step: int, title: str, text: str) -> None:
        self._run.alert(title, text, step=step)

    def log_folder(self, step: int, name: str, folder: Path) -> None:
        import trackio

        artifact = trackio.Artifact(f"{self._info.name}-{name}", type="model")
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact, aliases=[f"step-{step}"])

    def finish(self) -> None:
        self._run.finish()

    def abandon(self) -> None:
        """Its threads are daemons: they end with the interpreter."""

    def send_later(self) -> str:
        return f"What it has: trackio show --project {self._info.project}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

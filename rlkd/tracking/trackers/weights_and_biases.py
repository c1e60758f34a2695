"""Weights & Biases."""

import logging
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from rlkd.tracking.trackers.tracker import RunInfo, Unsent

logger = logging.getLogger(__name__)

HOST = "api.wandb.ai"
INIT_S = 30.0
"""How long an online run may take to open before it is recorded offline."""
FINISH_S = 60.0
"""How long an online run may take to send what is left; the rest stays in its folder."""
_DATA_DIRS: list[str] = []
"""What this process has set WANDB_DATA_DIR to: a second run of the process has its own."""


class WandbTracker:
    """A W&B run. Its files are in the run's folder in every mode, and `wandb sync` sends them.

    An online run that cannot be opened (no network, no key, a server in trouble) is recorded
    offline, and said so. W&B takes nothing back: a resumed run has, offline, one file per attempt
    under the same id, and the steps trained twice are twice in the charts.

    Tables are incremental: each step adds its rows under its own file and row of the history.

    Args:
        mode: offline or online.
        first_row: W&B's own count of rows must go on above where the last attempt's file ends.
    """

    name = "W&B"

    def __init__(self, info: RunInfo, mode: str, first_row: int = 0) -> None:
        self._info = info
        self._mode = mode
        self._row = first_row
        self._run: Any = None
        self._tables: dict[str, Any] = {}

    def start(self) -> None:
        # The log of a run that trains for a day does not belong in the terminal; and what waits to
        # be sent belongs with the run.
        os.environ.setdefault("WANDB_SILENT", "true")
        if os.environ.get("WANDB_DATA_DIR") in (None, *_DATA_DIRS):
            _DATA_DIRS.append(str(self._info.folder / "wandb" / "data"))
            os.environ["WANDB_DATA_DIR"] = _DATA_DIRS[-1]
        if self._mode == "online":
            reason = self._open_online()
            if reason is None:
                return
            logger.warning(
                "W&B cannot be reached (%s): the run is recorded offline. %s",
                reason, self.send_later(),
            )  # fmt: skip
            self._mode = "offline"
            self._forget()
        self._run = self._open("offline")

    def _open_online(self) -> str | None:
        """Why it did not open; None: it did."""
        if login() is None:  # wandb would ask for a key in the terminal
            return "no key: WANDB_API_KEY or `wandb login`"
        try:
            self._run = self._open("online")
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return None

    def _forget(self) -> None:
        """wandb's own process holds the id of a run that did not open."""
        import wandb

        wandb.teardown()

    def _open(self, mode: Any) -> Any:
        import wandb

        info = self._info
        settings = wandb.Settings(
            init_timeout=INIT_S, finish_timeout=FINISH_S, finish_timeout_raises=True
        )
        run = wandb.init(
            project=info.project, name=info.name, group=info.group, job_type=info.job_type,
            dir=str(info.folder), config={**info.config, "code": dict(info.code)}, mode=mode,
            id=info.run_id, resume="allow" if mode == "online" and info.attempt > 1 else None,
            settings=settings,
        )  # fmt: skip
        run.define_metric("train/step")
        run.define_metric("*", step_metric="train/step")
        return run

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({"train/step": step, **values}, step=self._row)
        self._row += 1

    def log_table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        import wandb

        if name not in self._tables:
            self._tables[name] = wandb.Table(
                columns=list(columns), log_mode="INCREMENTAL", allow_mixed_types=True
            )
        table = self._tables[name]
        for row in rows:  # its columns are those of the first time
            found = dict(zip(columns, row, strict=True))
            table.add_data(*(found.get(column) for column in table.columns))
        self.log(step, {name: table})

    def log_chart(
        self, step: int, name: str, columns: Sequence[str], points: Sequence[Sequence[float]]
    ) -> None:
        """Points and no line: W&B's line joins points in the order of x."""
        import wandb
        import wandb.plot

        table = wandb.Table(columns=list(columns), data=[list(point) for point in points])
        title = f"{columns[2]} against {columns[1]}"
        self.log(step, {name: wandb.plot.scatter(table, columns[1], columns[2], title)})

    def alert(self, step: int, title: str, text: str) -> None:
        self._run.alert(title=title, text=text, level="WARN")

    def log_folder(self, step: int, name: str, folder: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{self._run.id}-{name}", type="model", metadata={"step": step})
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact, aliases=[f"step-{step}"])

    def finish(self) -> None:
        try:
            self._run.finish()
        except TimeoutError as error:
            raise Unsent(f"not all was sent within {FINISH_S:g} s") from error

    def abandon(self) -> None:
        """End wandb's own process: where it hangs, the interpreter would wait for it for ever."""
        for child in psutil.Process().children(recursive=True):
            if "wandb-core" in child.name():
                child.kill()

    def send_later(self) -> str:
        files = Path(self._run.dir).parent if self._run is not None else None
        place = files or self._info.folder / "wandb" / "offline-run-*"
        return f"To send what is there: wandb sync {place}"


def login(env: Mapping[str, str] | None = None) -> str | None:
    """Where a key would come from; the key itself is not read out. None: there is none.

    Args:
        env: None: this process's environment.
    """
    env = os.environ if env is None else env
    for variable in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if env.get(variable):
            return variable
    file = Path(env.get("NETRC", str(Path(env.get("HOME", "~")).expanduser() / ".netrc")))
    host = env.get("WANDB_BASE_URL", f"https://{HOST}").rpartition("://")[2].strip("/")
    try:
        return str(file) if host in netrc.netrc(file).hosts else None
    except (OSError, netrc.NetrcParseError):
        return None

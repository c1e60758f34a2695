"""A tracker that keeps what it is given, and fails or blocks where it is told to."""

import threading
import time
from collections.abc import Collection
from pathlib import Path

from rlkd.tracking.logger import RunLogger
from rlkd.tracking.trackers.outbox import DEPTH, Outbox


class Recorder:
    """Keeps (kind, arguments) of each call.

    Args:
        fails: kinds that raise, after they were kept.
        blocks: kinds that wait until `gate` is set; `blocked` says that one does.
    """

    name = "Recorder"

    def __init__(self, fails: Collection[str] = (), blocks: Collection[str] = ()):
        self.calls: list[tuple] = []
        self.gate, self.blocked = threading.Event(), threading.Event()
        self._fails, self._blocks = fails, blocks
        self.threads: set[str] = set()

    def _take(self, kind, *arguments):
        self.threads.add(threading.current_thread().name)
        if kind in self._blocks:
            self.blocked.set()
            self.gate.wait(60)
        self.calls.append((kind, arguments))
        if kind in self._fails:
            raise OSError("500")

    def start(self):
        self._take("start")

    def log(self, step, values):
        self._take("numbers", step, values)

    def log_table(self, step, name, columns, rows):
        self._take("table", step, name, columns, rows)

    def log_chart(self, step, name, columns, points):
        self._take("chart", step, name, columns, points)

    def alert(self, step, title, text):
        self._take("alert", step, title, text)

    def log_folder(self, step, name, folder):
        self._take("folder", step, name, folder)

    def finish(self):
        self._take("finish")

    def abandon(self):
        self.calls.append(("abandon", ()))

    def send_later(self):
        return "Later: recorder sync"

    def of(self, kind: str) -> list[tuple]:
        return [arguments for found, arguments in self.calls if found == kind]

    def wait(self) -> None:
        """Until the queue is empty, or nobody works at it any more."""
        done, until = threading.Event(), time.monotonic() + 10
        self.outbox.put("numbers", "a mark", lambda _: done.set())
        while not done.wait(0.01) and time.monotonic() < until:
            if not self.outbox._thread.is_alive():
                return


def recorded(folder: Path, *, depth: int = DEPTH, **how) -> RunLogger:
    """A run's logger whose one tracker is a Recorder: `.recorder`."""
    recorder = Recorder(**how)
    recorder.outbox = Outbox(recorder, str(folder / "metrics.jsonl"), depth=depth)
    log = RunLogger(folder, [recorder.outbox])
    log.recorder = recorder
    return log

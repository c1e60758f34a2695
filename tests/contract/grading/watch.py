"""Memory of processes, and how long other threads of this one stand still."""

import threading
import time
from pathlib import Path

from rlkd.grading import pool


def resident_kb(pid: int | str = "self") -> int:
    """Memory that a process has in RAM, in kB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(p) for p in path.read_text().split()] if path.exists() else []


class Watch:
    """A thread that measures how long other threads of this process stand still.

    Of each gap only the part counts in which this process was computing: what the machine gave to
    other programs is no stall of ours. It also weighs the grader's workers.
    """

    def __init__(self) -> None:
        self.worst_s, self.worker_kb, self.stop = 0.0, 0, False
        self.item = ""
        self.stalls: dict[str, float] = {}
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        wall, spent, count = time.perf_counter(), time.process_time(), 0
        while not self.stop:
            time.sleep(0.001)
            now, used = time.perf_counter(), time.process_time()
            gap = min(now - wall, used - spent)
            self.worst_s = max(self.worst_s, gap)
            self.stalls[self.item] = max(self.stalls.get(self.item, 0.0), gap)
            count += 1
            if count % 50 == 0:
                self._weigh()
                now, used = time.perf_counter(), time.process_time()
            wall, spent = now, used

    def _weigh(self) -> None:
        template = pool.shared().template
        for pid in children(template.process.pid) if template is not None else ():
            try:
                self.worker_kb = max(self.worker_kb, resident_kb(pid))
            except (OSError, IndexError, ValueError):
                continue

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.thread.join()

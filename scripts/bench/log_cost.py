"""What logging costs a training step: metrics.jsonl, alarms, the terminal's line, the trackers.

Runs a config and measures, per optimiser step, the processor time that the training loop spends in
it, the wall-clock time of the same, and the processor time of the trackers' threads, which compete
with the loop for Python's lock. Processor time is not stretched by a busy machine. The first step
is left out: it opens what later steps use.

Last line: medians over the steps in milliseconds, the share of a step's processor time, and ok=yes
where loop and trackers together stay under 2 % of a step or 10 ms, whichever is more.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("WANDB_MODE", None)
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rlkd import cli
from rlkd.tracking.callback import LogCallback, StoreCallback
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.tables import RolloutTables


class Costs:
    """Sums of what is spent inside wrapped methods, closed at each step."""

    def __init__(self) -> None:
        self.loop_ms: list[float] = []
        self.wall_ms: list[float] = []
        self.trackers_ms: list[float] = []
        self.step_ms: list[float] = []
        self._cpu = self._wall = 0.0
        self._depth = 0
        self._seen = {"step": 0.0, "trackers": 0.0}
        self._loggers: list[RunLogger] = []

    def wrap(self, owner: type, name: str) -> None:
        """Count what the loop's thread spends in a method; what it calls is counted once."""
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(this: Any, *words: Any, **named: Any) -> Any:
            if isinstance(this, RunLogger) and this not in self._loggers:
                self._loggers.append(this)
            self._depth += 1
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return inner(this, *words, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self._cpu += time.thread_time() - cpu
                    self._wall += time.perf_counter() - wall

        setattr(owner, name, timed)

    def step(self) -> None:
        """A step has ended."""
        now = {
            "step": time.process_time(),
            "trackers": sum(o.seconds for log in self._loggers for o in log.trackers),
        }
        since = {name: 1e3 * (value - self._seen[name]) for name, value in now.items()}
        self.loop_ms.append(1e3 * self._cpu)
        self.wall_ms.append(1e3 * self._wall)
        self.trackers_ms.append(since["trackers"])
        self.step_ms.append(since["step"])
        self._cpu = self._wall = 0.0
        self._seen = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="configs/quickstart.yaml")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--also", default="[]", help="tracking.also; W&B is always there, offline")
    settings, more = parser.parse_known_args()
    costs = Costs()
    for owner, names in (
        (LogCallback, ["on_log"]), (StoreCallback, ["on_log"]), (RolloutTables, ["on_log", "see"]),
        (RunLogger, ["log", "log_table", "log_points", "alert"]),
    ):  # fmt: skip
        for name in names:
            costs.wrap(owner, name)
    logged = LogCallback.on_log

    def on_log(this: Any, *words: Any, **named: Any) -> None:
        logged(this, *words, **named)
        if "loss" in (named.get("logs") or {}):
            costs.step()

    setattr(LogCallback, "on_log", on_log)  # noqa: B010 (its own parameters are the parent's)
    with tempfile.TemporaryDirectory() as folder:
        words = [f"--optim.steps={settings.steps}", f"--run.dir={folder}", "--run.name=bench",
                 "--eval.every=0", f"--tracking.also={settings.also}"]  # fmt: skip
        if cli.main(["train", settings.config, *words, *more]):
            raise SystemExit(1)
    report(costs)


def report(costs: Costs) -> None:
    """Print every figure's median and largest, and the line that is read."""
    rows = {"loop": costs.loop_ms, "loop, wall clock": costs.wall_ms,
            "trackers": costs.trackers_ms, "step": costs.step_ms}  # fmt: skip
    for name, values in rows.items():
        kept = values[1:] or values
        print(f"{name:>18}: median {statistics.median(kept):9.3f} ms, most {max(kept):9.3f} ms,"
              f" mean {statistics.fmean(kept):9.3f} ms")  # fmt: skip
    both = [a + b for a, b in zip(costs.loop_ms, costs.trackers_ms, strict=True)]
    cost, step = (statistics.median(v[1:] or v) for v in (both, costs.step_ms))
    loop = statistics.median(costs.loop_ms[1:] or costs.loop_ms)
    print(
        f"loop_ms={loop:.2f} with_trackers_ms={cost:.2f} step_ms={step:.1f}"
        f" share={cost / step:.4f} ok={'yes' if cost <= max(10.0, 0.02 * step) else 'no'}"
    )


if __name__ == "__main__":
    main()

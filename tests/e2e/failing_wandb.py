"""A run's numbers while W&B fails: `failing_wandb.py FOLDER HOW`. Prints how long it took."""

import json
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from rlkd.tracking import logger
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.trackers import weights_and_biases
from rlkd.tracking.trackers.outbox import Outbox
from rlkd.tracking.trackers.tracker import RunInfo

STEPS = 300


def service(number: int) -> None:
    """Send a signal to wandb's own process, which writes and sends for us."""
    for child in psutil.Process().children(recursive=True):
        if "wandb-core" in child.name():
            child.send_signal(number)


def main() -> None:
    folder, how = Path(sys.argv[1]), sys.argv[2]
    weights_and_biases.INIT_S = weights_and_biases.FINISH_S = 4.0
    logger.CLOSE_S = 120.0 if how != "stopped" else 4.0
    mode = "offline" if how in ("killed", "stopped") else "online"
    info = RunInfo(folder, "x", "p", "g", run_id="abcdefgh")
    tracker = weights_and_biases.WandbTracker(info, mode)
    log = RunLogger(folder, [Outbox(tracker, str(folder / "metrics.jsonl"))])
    calls, opened = [], threading.Event()
    log.trackers[0].put("numbers", "a mark", lambda _: opened.set())
    for step in range(STEPS):
        if step == 100 and mode == "offline":
            opened.wait(60)
            service(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        began = time.perf_counter()
        log.log(step, {"train/loss": 1.0 / (step + 1)})
        calls.append(time.perf_counter() - began)
    began = time.perf_counter()
    log.close()
    closed = time.perf_counter() - began
    print(json.dumps({"median": sorted(calls)[STEPS // 2], "total": sum(calls), "close": closed}))


if __name__ == "__main__":
    main()

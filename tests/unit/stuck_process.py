"""Launched by test_liveness.py: one rank alone under a watch. Arguments: the run's folder, and what
the main thread does for five seconds, which is more than its limit: sleep, hold, work."""

import ctypes
import sys
import time
from pathlib import Path

from rlkd.liveness import watch
from rlkd.liveness.watch import Watch
from rlkd.training.phases import Phases


def do(what: str, phases: Phases) -> None:
    until = time.monotonic() + 5.0
    with phases("reward"):
        if what == "sleep":
            time.sleep(60)  # in C, as in a collective
        elif what == "hold":
            ctypes.PyDLL(None).sleep(60)  # in C, and no other thread of Python runs
        while time.monotonic() < until:
            time.sleep(0.2)
            phases.beat()


if __name__ == "__main__":
    folder, wanted = sys.argv[1:]
    watch.MARGIN_S = 1.0
    progress = Phases()
    limits = {"stacks_after_s": 0.8, "abort_after_s": 2.0, "tick_s": 0.1}
    with Watch(Path(folder), 0, 1, progress, "session", **limits):
        do(wanted, progress)
    print("done")

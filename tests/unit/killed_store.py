"""Launched by test_store_killed.py: processes that write rollouts and are killed (SIGKILL), each a
fork of this one, so that what is slow to import is imported once.

Arguments: a folder, then `points` or a number of random kills. Prints a line of JSON for each.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rlkd.tracking import reading, store
from rlkd.tracking.rollouts import Rollouts

AT = 3
"""The step at which the named points are."""
STEPS = 5000
"""More than are written before a random kill."""


def batch(step: int) -> Rollouts:
    return Rollouts(step, ["1+1="] * 4, ["2<eos>"] * 4, {"tokens": [2] * 4})


def handed_over(run: Path) -> int:
    path = run / "handed"
    return len(path.read_text().splitlines()) if path.exists() else 0


def die(run: Path) -> None:
    """With the queue as full as it gets: the next batch waits for room."""
    while handed_over(run) < AT - 1 + store.DEPTH:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_file(run: Path) -> None:
    real = store.pq.write_table

    def write_table(table, path, **more):
        real(table, path, **more)
        if f"{AT:06d}" in path.name:
            os.truncate(path, path.stat().st_size // 2)
            die(run)

    store.pq.write_table = write_table


def before_the_manifest_line(run: Path) -> None:
    real = store.write_whole

    def write_whole(table, path):
        real(table, path)
        if f"{AT:06d}" in path.name:
            die(run)

    store.write_whole = write_whole


def in_the_manifest_line(run: Path) -> None:
    real = store.json.dumps

    class Half:
        """json, but for the manifest's line of that step: half of it is written before the kill."""

        @staticmethod
        def dumps(line, **more):
            text = real(line, **more)
            if line["step"] == AT:
                with (run / "rollouts" / store.MANIFEST).open("ab", buffering=0) as file:
                    file.write(text[: len(text) // 2].encode())
                die(run)
            return text

    store.json = Half


POINTS: dict[str, Callable[[Path], None]] = {
    point.__name__: point for point in (in_the_file, before_the_manifest_line, in_the_manifest_line)
}


def attempt(
    run: Path, first: int, last: int, number: int, patch=None, seconds: float | None = None
) -> int:
    """A child that writes those steps; its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            if patch is not None:
                patch(run)
            writer = store.RolloutStore(run / "rollouts", 0)
            writer.attempt = number
            for step in range(first, last + 1):
                writer.write(batch(step))
                with (run / "handed").open("ab", buffering=0) as file:
                    file.write(b"%d\n" % step)
            writer.close()
            os._exit(0)
        finally:
            os._exit(99)
    if seconds is not None:
        while handed_over(run) <= store.DEPTH:  # from then on a step is durable
            time.sleep(0.001)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def seen(run: Path) -> dict:
    """What the readers make of the folder."""
    found = reading.rollouts(run)
    rows = found.table(["step", "attempt"]).to_pylist()
    return {
        "durable": [[entry["step"], entry["attempt"]] for entry in reading.manifest(run)],
        "rows": [[row["step"], row["attempt"]] for row in rows],
        "left_out": found.left_out,
    }


def killed(run: Path, patch=None, seconds: float | None = None) -> dict:
    """One that is killed, and what is there before and after it is resumed from the step before
    the last durable one, as from a checkpoint."""
    run.mkdir(parents=True)
    last = AT + 3 if seconds is None else STEPS
    code = attempt(run, 1, last, 1, patch, seconds)
    handed, found = handed_over(run), seen(run)
    checkpoint = found["durable"][-1][0] - 1
    store.discard_after(run / "rollouts", checkpoint, run / "discarded")
    again = attempt(run, checkpoint + 1, checkpoint + 4, 2)
    return {"codes": [code, again], "handed": handed, "checkpoint": checkpoint,
            "killed": found, "resumed": seen(run)}  # fmt: skip


if __name__ == "__main__":
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    if kind == "points":
        for name, point in POINTS.items():
            print(json.dumps({"point": name, **killed(folder / name, point)}), flush=True)
    else:
        draw = random.Random(0)
        for number in range(int(kind)):
            moment = draw.uniform(0.05, 0.6)
            print(json.dumps(killed(folder / str(number), seconds=moment)), flush=True)

"""Launched by test_liveness.py: runs of several ranks, whose last one fails in the third step.

Arguments: a folder, the number of ranks, the faults with commas between them, and the words of
`rlkd train`. Each run has no launcher that would end the other ranks: they are forks of this
process, which has loaded torch, and it only waits. Prints a line of JSON for each run; its stderr
is in FAULT.err.

With `one` for the number it is one rank of torchrun's.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch  # noqa: F401

import rlkd.run  # noqa: F401  loaded once, before the forks
from rlkd.cli import main
from rlkd.liveness import watch
from rlkd.trainer import Trainer

STEP = 3
PLACES = {
    "nothing": "",
    "raise": "_compute_loss",  # the others wait for its gradients, in C++
    "kill": "_compute_loss",
    "kill_early": "_generate",  # the others wait in a gather
    "hang": "_calculate_rewards",
    "hold": "_compute_loss",
    "stop": "_generate",
}
"""Fault -> the method of the trainer in which it happens."""

SHORT = ["--run.stacks_after_s=10", "--run.abort_after_s=22"]
"""For the faults that only silence tells of; the others are seen at once."""
SILENT = ("hang", "hold", "stop")


def fail(how: str) -> None:
    print(f"\nfault at={time.time()}", file=sys.stderr, flush=True)
    if how == "raise":
        raise LookupError("the fault of the test")
    if how.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(1e6)  # C code, without Python's lock
    if how == "hold":
        while True:
            ctypes.PyDLL(None).sleep(10_000)  # C code that keeps Python's lock
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)


def patch(how: str) -> None:
    real = getattr(Trainer, PLACES[how])

    def failing(self, *args, **kwargs):
        last = self.accelerator.process_index == self.accelerator.num_processes - 1
        if last and self.state.global_step == STEP - 1:
            fail(how)
        return real(self, *args, **kwargs)

    setattr(Trainer, PLACES[how], failing)
    watch.MARGIN_S = 3.0


def rank_of_many(rank: int, ranks: int, port: int, words: list[str], how: str) -> int:
    """The pid of a fork that is one rank."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        if how != "nothing":
            patch(how)
        code = main(["train", *words])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stderr.flush()
    os._exit(code)


def run(ranks: int, words: list[str], how: str, errors: Path) -> list[int]:
    """The exit codes of the ranks."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    kept = os.dup(2)
    with errors.open("ab") as file:
        os.dup2(file.fileno(), 2)
        pids = [rank_of_many(rank, ranks, port, words, how) for rank in range(ranks)]
        os.dup2(kept, 2)
    os.close(kept)
    codes = {}
    while len(codes) < ranks:
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if how == "stop" and len(codes) == ranks - 1:
            os.kill(pids[-1], signal.SIGKILL)  # a stopped process ends no other way
    return [codes[pid] for pid in pids]


def main_of_many(folder: Path, ranks: int, faults: list[str], words: list[str]) -> None:
    for how in faults:
        errors = folder / f"{how}.err"
        start = [*words, f"--run.dir={folder}", f"--run.name={how}"]
        start += SHORT if how in SILENT else []
        found = {"fault": how, "codes": run(ranks, start, how, errors), "ended": time.time()}
        if how != "nothing":
            again = [str(folder / how), "--resume", "--run.abort_after_s=0"]
            found["resumed"] = run(ranks, again, "nothing", folder / f"{how}.resumed.err")
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    target, number, wanted, *rest = sys.argv[1:]
    if number == "one":
        patch(wanted)
        rest += SHORT if wanted in SILENT else []
        sys.exit(main(["train", *rest, f"--run.dir={target}", f"--run.name={wanted}"]))
    main_of_many(Path(target), int(number), wanted.split(","), rest)

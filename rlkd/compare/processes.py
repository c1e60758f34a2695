"""Jobs in processes of their own, as many at once as the machine has room.

torch and TRL are imported once, in a server process that is forked for each job before it has
computed anything. A job that crashes, is killed or raises takes nothing else down. Jobs whose
caller dies end with it.
"""

import contextlib
import multiprocessing
import os
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_MOST_CHARACTERS = 300


@dataclass
class Outcome:
    """How a job ended: with a `result`, or with words on why there is none."""

    number: int
    """Its place in the list of jobs."""
    result: Any = None
    error: str | None = None


@dataclass
class _Running:
    number: int
    process: BaseProcess
    answer: Connection


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    work: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    logs: Sequence[Path],
    at_once: int,
    preload: Sequence[str] = (),
) -> Iterator[Outcome]:
    """`work(*job)` for every job, each in its own process with one thread of computation; outcomes
    as they come.

    Args:
        work: a function of a module; what it takes and returns is pickled.
        logs: a file for what each job prints.
        preload: modules that the server imports before it is forked.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Connection, _Running] = {}
    with _one_thread():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    number, job = waiting.pop()
                    started = _start(context, work, number, job, logs[number])
                    running[started.answer] = started
                for ready in wait(list(running)):
                    yield _outcome(running.pop(ready), logs)  # type: ignore[arg-type]
        finally:
            for left in running.values():
                left.process.kill()
                left.process.join()


def _start(context: Any, work: Any, number: int, job: tuple[Any, ...], log: Path) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_child, args=(work, job, theirs, log))
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    return _Running(number, process, ours)


def _child(work: Any, job: tuple[Any, ...], answer: Connection, log: Path) -> None:
    _end_with_caller()
    with log.open("w", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        try:
            answer.send((work(*job), None))
        except BaseException as error:
            traceback.print_exc()
            answer.send((None, f"{type(error).__name__}: {error}"))
    # Threads and exit hooks of libraries have nothing left to do, and may hang.
    os._exit(0)


def _end_with_caller() -> None:
    caller = multiprocessing.parent_process()
    if caller is None:
        return

    def watch() -> None:
        wait([caller.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _outcome(ended: _Running, logs: Sequence[Path]) -> Outcome:
    try:
        result, error = ended.answer.recv()
    except EOFError:
        ended.process.join()
        code = ended.process.exitcode
        how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
        result, error = None, f"its process {how}"
    ended.process.join()
    if error is not None:
        told = textwrap.shorten(error, _MOST_CHARACTERS, placeholder=" …")
        error = f"{told} (see {logs[ended.number]})"
    return Outcome(ended.number, result, error)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """What the server process, which starts inside, finds in its environment."""
    wanted = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

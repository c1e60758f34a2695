"""A worker process as the caller sees it, and the template that forks and kills workers."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .template import PID
from .worker_protocol import HEADER, MAX_FRAME

START_LIMIT_S = 20.0
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from rlkd.grading.template import main; main(int(sys.argv[1]))"
)


class PoolUnavailable(RuntimeError):
    """No worker process could be started."""


@dataclass(eq=False)
class Worker:
    """One worker process as the caller sees it."""

    pid: int
    sock: socket.socket
    second: bool = False
    ready: bool = False
    begun: bool = False
    done: int = 0
    peak_kb: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    jobs: deque[int] = field(default_factory=deque)
    since: float = 0.0


class Template:
    """The process that forks workers and kills them for us.

    second: whether it has loaded Math-Verify, so that its workers can give a second opinion.
    """

    def __init__(self) -> None:
        self.second = False
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parents[2])
        path = [root, *(p for p in sys.path if p and p != root)]
        environment = {"SYMPY_GROUND_TYPES": "python", "MPMATH_NOGMPY": "1", "LC_ALL": "C.UTF-8"}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno()), json.dumps(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as problem:
            ours.close()
            raise PoolUnavailable(f"the worker template did not start: {problem}") from problem
        finally:
            theirs.close()
        self.control = ours
        self.control.settimeout(START_LIMIT_S)

    def fork(self) -> Worker:
        try:
            self.control.sendall(b"F")
            data, descriptors, _, _ = socket.recv_fds(self.control, PID.size, 1)
        except OSError as problem:
            raise PoolUnavailable(f"the worker template does not answer: {problem}") from problem
        if len(data) != PID.size or not descriptors:
            raise PoolUnavailable("the worker template ended")
        return Worker(PID.unpack(data)[0], socket.socket(fileno=descriptors[0]), self.second)

    def load_second(self) -> None:
        """Workers that are forked from now on have Math-Verify (about half a second, once)."""
        if self.second:
            return
        try:
            self.control.sendall(b"M")
            if self.control.recv(1) != b"m":
                raise PoolUnavailable("the worker template ended while it loaded Math-Verify")
        except OSError as problem:
            raise PoolUnavailable(f"the worker template does not answer: {problem}") from problem
        self.second = True

    def kill(self, pid: int) -> None:
        try:
            self.control.sendall(b"K" + PID.pack(pid))
            if self.control.recv(1) != b"k":
                raise PoolUnavailable("the worker template ended")
        except OSError as problem:
            raise PoolUnavailable(f"the worker template does not answer: {problem}") from problem

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)

    def abandon(self) -> None:
        """In a forked child: drop our copies; the processes belong to the parent."""
        self.control.close()
        self.process.returncode = 0


def speaks(worker: Worker) -> bool:
    """Whether an idle worker's socket can be read: it is closed, for there is nothing to say."""
    poll = select.poll()
    poll.register(worker.sock, select.POLLIN)
    return bool(poll.poll(0))


def await_ready(worker: Worker) -> None:
    poll = select.poll()
    poll.register(worker.sock, select.POLLIN)
    limit = time.monotonic() + START_LIMIT_S
    while not worker.ready and time.monotonic() < limit:
        if poll.poll(200):
            for message in receive(worker) or ():
                worker.ready = worker.ready or message == ["ready"]


def receive(worker: Worker) -> list[Any] | None:
    """Messages that have arrived; None where the worker is gone or talks nonsense."""
    try:
        data = worker.sock.recv(1 << 16)
    except OSError:
        return None
    if not data:
        return None
    worker.buffer += data
    messages = []
    while len(worker.buffer) >= HEADER.size:
        size = HEADER.unpack_from(worker.buffer)[0]
        if size > MAX_FRAME:
            return None
        if len(worker.buffer) < HEADER.size + size:
            break
        try:
            messages.append(json.loads(bytes(worker.buffer[HEADER.size : HEADER.size + size])))
        except ValueError:
            return None
        del worker.buffer[: HEADER.size + size]
    return messages

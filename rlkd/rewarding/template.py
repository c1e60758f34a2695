"""The clean process that imports a reward function once and forks the workers that call it.

A new interpreter is executed for it, so the trainer may have any threads, CUDA contexts and signal
handlers. It has one thread and answers two commands on its socket: `F` forks a worker and sends its
pid and one end of a socket, `K` kills the worker whose pid follows, with what that has started.
When the trainer goes away the socket closes, and the template and all workers end.
"""

import contextlib
import ctypes
import functools
import json
import os
import random
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from rlkd.refs import resolve
from rlkd.rewarding import worker
from rlkd.rewarding.frames import PID, exactly, send

_PR_SET_PDEATHSIG = 1


def main(descriptor: int, spec: dict[str, Any]) -> None:
    """Serve until the trainer closes the socket.

    Args:
        descriptor: the template's end of the socket.
        spec: `use` and `kwargs` of the reward, `memory_kb` of a worker, `seed` of its randomness;
            for the trainer's side `most` workers at a time and `start_s`, seconds to get ready.
    """
    control = socket.socket(fileno=descriptor)
    try:
        function = load(spec)
    except BaseException as error:
        send(control, json.dumps(f"{type(error).__name__}: {error}"[:2000]).encode())
        return
    children: set[int] = set()
    with contextlib.suppress(ConnectionError):  # a trainer that ended without reading an answer
        send(control, b"null")
        _obey(control, function, spec, children)
    for pid in children:
        _end(pid)
    os._exit(0)  # a thread that the user's module started does not keep it


def _obey(
    control: socket.socket, function: Callable[..., Any], spec: dict[str, Any], children: set[int]
) -> None:
    while True:
        command = control.recv(1)
        if command == b"F":
            children.add(_fork(control, function, spec))
        elif command == b"K":
            data = exactly(control, PID.size)
            if data is None:
                return
            pid = PID.unpack(data)[0]
            if pid in children:
                children.discard(pid)
                _end(pid)
            control.sendall(b"k")
        else:
            return


def load(spec: dict[str, Any]) -> Callable[..., Any]:
    """The reward function with its arguments fixed. Imports its module.

    A function may have an attribute `prepare`, called once with the same arguments: what it loads
    is there in every worker, and is not on the time of a call.
    """
    function = resolve(spec["use"], want_callable=True)
    if hasattr(function, "prepare"):
        function.prepare(**spec["kwargs"])
    return functools.partial(function, **spec["kwargs"])


def _seed(seed: int) -> None:
    """Random numbers that do not vary from run to run; Python seeds anew in every fork."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _end(pid: int) -> None:
    """Kill an unreaped child and its process group: the pid cannot be another process's by now."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _fork(control: socket.socket, function: Callable[..., Any], spec: dict[str, Any]) -> int:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            _die_with_parent()
            control.close()
            ours.close()
            _limit(spec["memory_kb"])
            _seed(spec["seed"])
            worker.serve(theirs, function)
        finally:
            os._exit(0)
    theirs.close()
    socket.send_fds(control, [PID.pack(pid)], [ours.fileno()])
    ours.close()
    return pid


def _die_with_parent() -> None:
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return  # not Linux; the closed socket still ends a worker that is not in a call
    if os.getppid() != parent:
        os._exit(0)


def _limit(memory_kb: int) -> None:
    """No core dumps; private memory limited; the first that the system ends when it runs out."""
    for name, value in (("RLIMIT_CORE", 0), ("RLIMIT_DATA", memory_kb * 1024)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")

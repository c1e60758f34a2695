"""The clean process from which workers are forked: one thread, sympy loaded, no inherited state.

It is started by executing a new interpreter, so the caller may have any threads, CUDA contexts or
signal handlers. It answers three commands on its socket: ``F`` forks a worker and sends back its
pid and one end of its socket; ``K`` kills the worker whose pid follows; ``M`` loads Math-Verify for
all workers that are forked from then on. When the caller goes away the socket closes, and the
template and all workers end.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct
import sys

MEMORY_BYTES = 1 << 30
_PR_SET_PDEATHSIG = 1
PID = struct.Struct("<i")


def main(descriptor: int) -> None:
    """Serve until the caller closes the socket. Runs in a process of its own."""
    control = socket.socket(fileno=descriptor)
    from . import worker  # loads sympy once, for all workers

    worker.prepare()
    children: set[int] = set()
    while True:
        command = control.recv(1)
        if not command:
            break
        if command == b"F":
            children.add(_fork(control, worker.serve))
        elif command == b"K":
            pid = PID.unpack(_exactly(control, PID.size))[0]
            if pid in children:
                children.discard(pid)
                _end(pid)
            control.sendall(b"k")
        elif command == b"M":
            from . import second_opinion

            second_opinion.load()  # where that fails this process ends, and the caller sees it
            control.sendall(b"m")
    for pid in children:
        _end(pid)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data


def _end(pid: int) -> None:
    """Kill an unreaped child of ours: its pid cannot have been given to another process."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _fork(control: socket.socket, serve) -> int:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            _die_with_parent()
            number = theirs.detach()
            os.dup2(number, 3)
            os.closerange(4, 256)
            _limit()
            serve(socket.socket(fileno=3))
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
        return
    if os.getppid() != parent:
        os._exit(0)


def _limit() -> None:
    """What a worker may use: 1 GB of address space, 16 descriptors, no files, no core dump."""
    for name, value in (
        ("RLIMIT_AS", MEMORY_BYTES),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NOFILE", 16),
        ("RLIMIT_NPROC", 0),
        ("RLIMIT_CPU", 900),
    ):
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (OSError, ValueError, AttributeError):
            continue  # the kill from outside still holds


if __name__ == "__main__":
    main(int(sys.argv[1]))

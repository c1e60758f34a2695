"""The trainer's side of a reward's worker processes: start, call, wait with a deadline, kill.

No signal handler, no timer and no thread: the caller waits on sockets, from whatever thread it is
in. A worker that has not answered in time, or holds too much memory, is ended with SIGKILL.
"""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from rlkd.rewarding.attempt import Attempt, NoWorker, Worker
from rlkd.rewarding.calling import Reply
from rlkd.rewarding.frames import PID, receive

START_LIMIT_S = 120.0
"""Most seconds that importing the user's module may take."""
MOST_WORKERS = 8
"""Workers at a time while guilty rows are searched; fewer where they need much memory."""
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from rlkd.rewarding.template import main; main(int(sys.argv[1]), json.loads(sys.argv[3]))"
)


class Template:
    """The clean process that has imported the reward and forks workers; see `template`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        here = os.getcwd()
        path = [here, *(p or here for p in sys.path if p != here)]
        descriptor = str(theirs.fileno())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, descriptor, json.dumps(path), json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the trainer, which then ends this
            )
        except OSError as problem:
            ours.close()
            raise NoWorker(f"no process could be started: {problem}") from problem
        finally:
            theirs.close()
        self._control = ours
        self._start_s = spec.get("start_s", START_LIMIT_S)
        self._control.settimeout(self._start_s)
        self._ready = False

    def fork(self) -> Worker:
        """A new worker. Raises NoWorker."""
        if not self._ready:
            self._await_import()
        try:
            self._control.sendall(b"F")
            data, descriptors, _, _ = socket.recv_fds(self._control, PID.size, 1)
        except OSError as problem:
            raise NoWorker(f"the process that starts workers is silent: {problem}") from problem
        if len(data) != PID.size or not descriptors:
            raise NoWorker("the process that starts workers has ended")
        return Worker(PID.unpack(data)[0], socket.socket(fileno=descriptors[0]))

    def _await_import(self) -> None:
        try:
            data = receive(self._control)
        except TimeoutError as problem:
            raise NoWorker(f"its module was not imported in {self._start_s:g} s") from problem
        except OSError as problem:
            raise NoWorker(f"its module was not imported: {problem}") from problem
        complaint = json.loads(data) if data else "the process ended"
        if complaint is not None:
            raise NoWorker(f"its module cannot be imported in a worker: {complaint}")
        self._ready = True

    def kill(self, worker: Worker) -> None:
        """End a worker and what it has started, and wait until it is gone. Raises NoWorker."""
        worker.sock.close()
        try:
            self._control.sendall(b"K" + PID.pack(worker.pid))
            if self._control.recv(1) != b"k":
                raise NoWorker("the process that starts workers has ended")
        except OSError as problem:
            raise NoWorker(f"the process that starts workers is silent: {problem}") from problem

    def close(self) -> None:
        """End it; its workers end with it."""
        self._control.close()
        if self._ready:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=2)  # it ends its workers, then itself
                return
        self._process.kill()
        self._process.wait()

    def abandon(self) -> None:
        """In a forked child: the processes are the parent's."""
        self._control.close()
        self._process.returncode = 0


class Workers:
    """The processes that call one reward. Not for two threads at once; see `GuardedReward`.

    Args:
        spec: see `template.main`; must be plain JSON.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._template: Template | None = None
        self._idle: list[Worker] = []
        self._usual_kb = 0
        _ALIVE.add(self)

    def start(self) -> None:
        """Begin to import the reward; returns at once."""
        if self._template is None:
            with contextlib.suppress(NoWorker):  # said again, with the rows, at the first call
                self._template = Template(self._spec)

    def attempt(
        self, requests: Sequence[Callable[[], bytes]], limit_s: float, until: float
    ) -> list[Reply]:
        """The replies to some calls, in order; never raises on what the reward does.

        Args:
            requests: make the pickled calls.
            limit_s: seconds from dispatch after which a call's worker is killed.
            until: time.monotonic() after which no call is begun and all that run are ended.
        """
        run = Attempt(self, requests, limit_s, until)
        try:
            return run.go()
        except NoWorker as problem:
            self._drop_template()
            lost = Reply("crashed", reason=str(problem), kind="no worker")
            return [reply or lost for reply in run.replies]
        finally:
            run.release()

    @property
    def memory_kb(self) -> int:
        """Memory at which a worker is ended."""
        return self._spec["memory_kb"]

    @property
    def most(self) -> int:
        """How many workers together stay within the memory of one."""
        most = self._spec.get("most", MOST_WORKERS)
        return max(1, min(most, self.memory_kb // max(self._usual_kb, 1)))

    def note_peak(self, peak_kb: int) -> None:
        """Remember what a call that went well needs."""
        self._usual_kb = max(self._usual_kb, peak_kb)

    def take(self) -> Worker:
        """An idle worker, or a new one. Raises NoWorker."""
        if self._idle:
            return self._idle.pop()
        try:
            if self._template is None:
                self._template = Template(self._spec)
            return self._template.fork()
        except BaseException:
            # Also where the caller was interrupted within an exchange: the socket is out of step.
            self._drop_template()
            raise

    def give(self, worker: Worker) -> None:
        """Keep one idle worker; the others were for a search."""
        if self._idle:
            self.end(worker)
        else:
            self._idle.append(worker)

    def end(self, worker: Worker) -> None:
        """Kill a worker."""
        if self._template is None:
            worker.sock.close()
            return
        try:
            self._template.kill(worker)
        except BaseException as problem:
            self._drop_template()
            if not isinstance(problem, NoWorker):
                raise

    def _drop_template(self) -> None:
        if self._template is not None:
            self._template.close()
            self._template = None
        for worker in self._idle:
            worker.sock.close()
        self._idle.clear()

    def close(self) -> None:
        """End all processes; the next call would start new ones."""
        self._drop_template()

    def abandon(self) -> None:
        """In a forked child: start anew."""
        for worker in self._idle:
            worker.sock.close()
        self._idle = []
        if self._template is not None:
            self._template.abandon()
            self._template = None


_ALIVE: "weakref.WeakSet[Workers]" = weakref.WeakSet()


def _in_child() -> None:
    for workers in list(_ALIVE):
        workers.abandon()


def _close_all() -> None:
    for workers in list(_ALIVE):
        workers.close()


os.register_at_fork(after_in_child=_in_child)
atexit.register(_close_all)

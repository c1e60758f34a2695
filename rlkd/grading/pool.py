"""Long-lived, killable worker processes, shared by everything in one process.

No signal handler is installed and no thread is used: the caller waits on sockets, and an item that
has not answered ``deadline_s`` after a worker began it is ended with SIGKILL. What was queued
behind it goes back to the queue; it has not been started, so its time has not been spent.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .template import PID
from .verdict import STATUSES
from .worker_protocol import HEADER, MAX_FRAME

START_LIMIT_S = 20.0
RECYCLE_ITEMS = 2_000
RECYCLE_KB = 300_000
KILL_KB = 1_000_000
BATCH = 8
#: Workers that may die in one call before every death is held against the item at hand.
MAX_DEATHS = 20
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from rlkd.grading.template import main; main(int(sys.argv[1]))"
)

#: status, reason, method
Outcome = tuple[str, str, str]
#: gold, answer, other reading
Job = tuple[str, str, str]


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


class Pool:
    """A fixed number of workers; any number of threads may call :meth:`run` at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Condition()
        self.template: Template | None = None
        self.idle: list[Worker] = []
        self.out = 0
        self.waiting = 0
        self.kills = 0

    # -- taking and giving workers ---------------------------------------------------------

    def _take(self, *, block: bool, second: bool = False) -> Worker | None:
        with self.lock:
            while not self.idle and self.out >= self.size:
                if not block:
                    return None
                self.waiting += 1
                self.lock.wait()
                self.waiting -= 1
            self.out += 1
            while self.idle:
                worker = self.idle.pop()
                if not _speaks(worker) and (worker.second or not second):
                    return worker
                self._end(worker)  # it died while idle, or cannot give a second opinion
            try:
                return self._new(second)
            except BaseException:
                # an interrupted exchange leaves the socket out of step: start over
                self._drop_template()
                self.out -= 1
                self.lock.notify()
                raise

    def _new(self, second: bool) -> Worker:
        for attempt in (0, 1):
            if self.template is None:
                self.template = Template()
            try:
                if second:
                    self.template.load_second()
                return self.template.fork()
            except PoolUnavailable:
                self._drop_template()
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def _drop_template(self) -> None:
        """All workers die with their template."""
        if self.template is not None:
            self.template.close()
            self.template = None
        for worker in self.idle:
            worker.sock.close()
        self.idle.clear()

    def _give(self, worker: Worker) -> None:
        with self.lock:
            self.out -= 1
            if worker.done >= RECYCLE_ITEMS or worker.peak_kb > RECYCLE_KB:
                self._end(worker)
            else:
                self.idle.append(worker)
            self.lock.notify()

    def _end(self, worker: Worker) -> None:
        worker.sock.close()
        if self.template is not None:
            try:
                self.template.kill(worker.pid)
            except PoolUnavailable:
                self._drop_template()

    def _kill(self, worker: Worker) -> None:
        with self.lock:
            self.kills += 1
            self.out -= 1
            self._end(worker)
            self.lock.notify()

    # -- running -----------------------------------------------------------------------------

    def run(self, jobs: list[Job], deadline_s: float, *, second: bool = False) -> list[Outcome]:
        """Outcomes of the jobs, in order. Raises PoolUnavailable where no worker starts.

        second: ask Math-Verify where sympy cannot tell.
        """
        run = _Run(self, jobs, deadline_s, second)
        try:
            run.go()
        finally:
            run.release()
        return [o if o is not None else ("crashed", "lost", "pool") for o in run.outcomes]

    def warm(self) -> None:
        """Start the workers now and wait until they are ready."""
        workers = []
        while len(workers) < self.size and (worker := self._take(block=False)) is not None:
            workers.append(worker)
        for worker in workers:
            _await_ready(worker)
            self._give(worker)

    def close(self) -> None:
        with self.lock:
            self._drop_template()

    def abandon(self) -> None:
        self.lock = threading.Condition()
        for worker in self.idle:
            worker.sock.close()
        self.idle, self.out, self.waiting = [], 0, 0
        if self.template is not None:
            self.template.abandon()
            self.template = None


def _speaks(worker: Worker) -> bool:
    """Whether an idle worker's socket can be read: it is closed, for there is nothing to say."""
    poll = select.poll()
    poll.register(worker.sock, select.POLLIN)
    return bool(poll.poll(0))


def _await_ready(worker: Worker) -> None:
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


class _Run:
    """One call of :meth:`Pool.run`: the queue, the workers in hand, the outcomes."""

    def __init__(self, pool: Pool, jobs: list[Job], deadline_s: float, second: bool) -> None:
        self.pool, self.jobs, self.deadline, self.second = pool, jobs, deadline_s, second
        self.queue: deque[int] = deque(range(len(jobs)))
        self.outcomes: list[Outcome | None] = [None] * len(jobs)
        self.crashes: dict[int, int] = {}
        self.hands: dict[int, Worker] = {}
        self.deaths = 0
        self.left = len(jobs)

    def go(self) -> None:
        while self.left:
            self._hire()
            for worker in list(self.hands.values()):
                self._feed(worker)
            self._wait()
            self._expire()

    def _hire(self) -> None:
        wanted = min(len(self.queue), self.pool.size - len(self.hands))
        while wanted > 0:
            worker = self.pool._take(block=not self.hands, second=self.second)
            if worker is None:
                return
            worker.since = time.monotonic()
            self.hands[worker.sock.fileno()] = worker
            wanted -= 1

    def _feed(self, worker: Worker) -> None:
        if worker.jobs or not worker.ready:
            return
        if not self.queue or (self.pool.waiting and len(self.hands) > 1):
            self._let_go(worker)
            return
        share = max(1, min(BATCH, len(self.queue) // (2 * max(1, len(self.hands)))))
        batch = [self.queue.popleft() for _ in range(share)]
        data = json.dumps([[n, *self.jobs[n], self.second] for n in batch]).encode()
        worker.jobs.extend(batch)
        try:
            worker.sock.sendall(HEADER.pack(len(data)) + data)
        except OSError:
            self._gone(worker)
            return
        worker.since = time.monotonic()

    def _let_go(self, worker: Worker) -> None:
        self.hands.pop(worker.sock.fileno(), None)
        self.pool._give(worker)

    def _wait(self) -> None:
        if not self.hands:
            return
        poll = select.poll()
        for descriptor in self.hands:
            poll.register(descriptor, select.POLLIN)
        now = time.monotonic()
        ends = [
            w.since + (self.deadline if w.ready else START_LIMIT_S) for w in self.hands.values()
        ]
        # a memory check every 100 ms where the address-space limit is not enforced by the system
        pause = max(0.0, min(min(ends) - now, 0.1))
        for descriptor, _ in poll.poll(int(pause * 1000) + 1):
            worker = self.hands.get(descriptor)
            if worker is None:
                continue
            messages = receive(worker)
            if messages is None:
                self._gone(worker)
                continue
            for message in messages:
                self._message(worker, message)

    def _message(self, worker: Worker, message: Any) -> None:
        if message == ["ready"]:
            worker.ready = True
            worker.since = time.monotonic()
            return
        if not isinstance(message, list) or not worker.jobs:
            return
        if len(message) == 1:
            worker.begun = worker.begun or message[0] == worker.jobs[0]
            return
        if len(message) != 5:
            return
        number, status, reason, method, peak = message
        if number != worker.jobs[0] or status not in STATUSES or not isinstance(peak, int):
            return
        worker.jobs.popleft()
        worker.begun = False
        worker.done += 1
        worker.peak_kb = peak
        worker.since = time.monotonic()
        self._settle(number, (status, str(reason), str(method)))

    def _settle(self, number: int, outcome: Outcome) -> None:
        if self.outcomes[number] is None:
            self.outcomes[number] = outcome
            self.left -= 1

    def _expire(self) -> None:
        now = time.monotonic()
        for worker in list(self.hands.values()):
            if worker.ready and worker.jobs and _resident_kb(worker.pid) > KILL_KB:
                self._stop(worker, ("resource", "more than 1 GB of memory", "pool"))
            elif worker.ready and worker.jobs and now - worker.since >= self.deadline:
                reason = f"no answer within {self.deadline:g} s"
                self._stop(worker, ("timeout", reason, "pool"))
            elif not worker.ready and now - worker.since >= START_LIMIT_S:
                self._gone(worker)

    def _stop(self, worker: Worker, outcome: Outcome) -> None:
        """End a worker over the item that it is on; the rest of its batch is queued again."""
        self._settle(worker.jobs.popleft(), outcome)
        self._requeue(worker)

    def _requeue(self, worker: Worker) -> None:
        self.queue.extendleft(reversed(worker.jobs))
        worker.jobs.clear()
        self.hands.pop(worker.sock.fileno(), None)
        self.pool._kill(worker)

    def _gone(self, worker: Worker) -> None:
        """A worker died by itself: its item gets one more try, then counts as crashed.

        A death before the worker began on an item is not held against the item.
        """
        self.deaths += 1
        if worker.jobs and not worker.begun and self.deaths <= MAX_DEATHS:
            pass
        elif worker.jobs:
            number = worker.jobs.popleft()
            self.crashes[number] = self.crashes.get(number, 0) + 1
            if self.crashes[number] > 1:
                self._settle(number, ("crashed", "the worker died twice on this item", "pool"))
            else:
                self.queue.append(number)
        elif not worker.ready:
            self.crashes[-1] = self.crashes.get(-1, 0) + 1
            if self.crashes[-1] > 3:
                self.hands.pop(worker.sock.fileno(), None)
                self.pool._kill(worker)
                raise PoolUnavailable("workers end before they are ready")
        self._requeue(worker)

    def release(self) -> None:
        """Give workers back; one that is still busy (the caller was interrupted) is ended."""
        for worker in list(self.hands.values()):
            self.hands.pop(worker.sock.fileno(), None)
            if worker.jobs or not worker.ready:
                self.pool._kill(worker)
            else:
                self.pool._give(worker)


def _resident_kb(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * 4
    except (OSError, ValueError, IndexError):
        return 0


_POOL: Pool | None = None
_POOL_LOCK = threading.Lock()


def shared() -> Pool:
    """The pool of this process, made at the first use (also after a fork)."""
    global _POOL
    with _POOL_LOCK:
        if _POOL is None:
            wish = os.environ.get("RLKD_GRADING_WORKERS", "")
            count = int(wish) if wish.isdigit() and int(wish) > 0 else min(8, os.cpu_count() or 1)
            _POOL = Pool(count)
        return _POOL


def warm_up() -> None:
    """Start the workers of this process and wait until they are ready (about half a second)."""
    shared().warm()


def close() -> None:
    """End the workers of this process. The next use starts new ones."""
    global _POOL
    with _POOL_LOCK:
        if _POOL is not None:
            _POOL.close()
            _POOL = None


def _in_child() -> None:
    global _POOL, _POOL_LOCK
    _POOL_LOCK = threading.Lock()
    if _POOL is not None:
        _POOL.abandon()
        _POOL = None


os.register_at_fork(after_in_child=_in_child)
atexit.register(close)

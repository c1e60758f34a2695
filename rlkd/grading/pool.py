"""Long-lived, killable worker processes, shared by everything in one process.

No signal handler is installed and no thread is used: the caller waits on sockets, and an item that
has not answered ``deadline_s`` after a worker began it is ended with SIGKILL. What was queued
behind it goes back to the queue; it has not been started, so its time has not been spent.
"""

from __future__ import annotations

import atexit
import os
import threading

from .pool_run import Job, Outcome, Run
from .processes import PoolUnavailable, Template, Worker, await_ready, speaks

RECYCLE_ITEMS = 2_000
RECYCLE_KB = 300_000


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

    def take(self, *, block: bool, second: bool = False) -> Worker | None:
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
                if not speaks(worker) and (worker.second or not second):
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

    def give(self, worker: Worker) -> None:
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

    def kill(self, worker: Worker) -> None:
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
        run = Run(self, jobs, deadline_s, second)
        try:
            run.go()
        finally:
            run.release()
        return [o if o is not None else ("crashed", "lost", "pool") for o in run.outcomes]

    def warm(self) -> None:
        """Start the workers now and wait until they are ready."""
        workers = []
        while len(workers) < self.size and (worker := self.take(block=False)) is not None:
            workers.append(worker)
        for worker in workers:
            await_ready(worker)
            self.give(worker)

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

"""One call of the pool: the queue, the workers in hand, the deadlines, the outcomes."""

from __future__ import annotations

import json
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from .processes import START_LIMIT_S, PoolUnavailable, Worker, receive
from .verdict import STATUSES
from .worker_protocol import HEADER

if TYPE_CHECKING:
    from .pool import Pool

KILL_KB = 1_000_000
BATCH = 8
#: Workers that may die in one call before every death is held against the item at hand.
MAX_DEATHS = 20

#: status, reason, method
Outcome = tuple[str, str, str]
#: gold, answer, other reading
Job = tuple[str, str, str]


class Run:
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
            worker = self.pool.take(block=not self.hands, second=self.second)
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
        self.pool.give(worker)

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
        self.pool.kill(worker)

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
                self.pool.kill(worker)
                raise PoolUnavailable("workers end before they are ready")
        self._requeue(worker)

    def release(self) -> None:
        """Give workers back; one that is still busy (the caller was interrupted) is ended."""
        for worker in list(self.hands.values()):
            self.hands.pop(worker.sock.fileno(), None)
            if worker.jobs or not worker.ready:
                self.pool.kill(worker)
            else:
                self.pool.give(worker)


def _resident_kb(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * 4
    except (OSError, ValueError, IndexError):
        return 0

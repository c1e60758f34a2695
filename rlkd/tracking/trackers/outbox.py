"""The queue between a run and one tracker: training never waits for it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from rlkd.tracking.trackers.tracker import Tracker

logger = logging.getLogger(__name__)

DEPTH = 2000
"""Things that may wait; a tracker that blocks longer misses what comes then."""
_KINDS = {"numbers": "numbers", "table": "tables", "chart": "charts", "alert": "alerts",
          "folder": "artifacts"}  # fmt: skip


class Outbox:
    """Hands things to one tracker, in order, in a thread of its own.

    A kind of thing (numbers, tables, charts, alerts, artifacts) that the tracker fails at is left
    out from there on, and said once; where numbers fail the whole tracker is left out. What comes
    while DEPTH things wait is counted and left out. None of it costs the run anything: what a
    tracker gets is in the run's folder first.

    Args:
        tracker: opened and closed by that thread.
        numbers: file that every number is in, for what is said.
        depth: things that may wait.
    """

    def __init__(self, tracker: Tracker, numbers: str, *, depth: int = DEPTH) -> None:
        self._tracker = tracker
        self._numbers = numbers
        self._depth = depth
        self._waiting: deque[tuple[str, str, Callable[[Tracker], None]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._abandoned = False
        self._given_up = False
        self._failed: set[str] = set()
        self.missed = 0
        """Things that came while the queue was full."""
        self.seconds = 0.0
        """CPU time that its thread has used."""
        # A daemon: an interpreter that ends does not wait for a tracker that hangs.
        self._thread = threading.Thread(target=self._run, name=tracker.name, daemon=True)
        self._thread.start()

    def put(self, kind: str, what: str, call: Callable[[Tracker], None]) -> None:
        """Have `call` done; returns at once.

        Args:
            kind: numbers, table, chart, alert or folder.
            what: its name, for what is said where it fails.
        """
        with self._changed:
            if self._given_up or kind in self._failed:
                return
            if len(self._waiting) < self._depth:
                self._waiting.append((kind, what, call))
                self._changed.notify()
                return
            self.missed += 1
            if self.missed > 1:
                return
        logger.warning(
            "%s does not keep up: %d things wait, and what comes meanwhile is left out there. The"
            " run goes on, and every number is in %s",
            self._tracker.name, self._depth, self._numbers,
        )  # fmt: skip

    def close(self, until: float) -> None:
        """Wait until all is handed over and the tracker has finished, but not longer than `until`
        (time.monotonic()); what is not sent is said."""
        self.end()
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self._warn_of_rest(f"does not answer; {len(self._waiting)} things wait for it still")
            self._abandoned = True
            self._tracker.abandon()
        elif self.missed:
            self._warn_of_rest(f"missed {self.missed} things while it did not keep up")

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            if self._try("numbers", "the start", lambda tracker: tracker.start()):
                self._hand_over()
        finally:
            self.seconds = time.thread_time()

    def _hand_over(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    break
                kind, what, call = self._waiting.popleft()
            if kind not in self._failed:
                self._try(kind, what, call)
            if self._given_up or self._abandoned:
                return
            self.seconds = time.thread_time()
        try:
            self._tracker.finish()
        except Exception as error:
            if not self._abandoned:  # else it is said
                self._warn_of_rest(f"did not take all ({_said(error)})")

    def _try(self, kind: str, what: str, call: Callable[[Tracker], None]) -> bool:
        try:
            call(self._tracker)
            return True
        except Exception as error:
            if self._abandoned:
                return False
            with self._changed:
                self._failed.add(kind)
                self._given_up = kind == "numbers"
                if self._given_up:
                    self._waiting.clear()
            name, said = self._tracker.name, _said(error)
            if not self._given_up:
                logger.warning(
                    "%s failed at %s (%s): %s are left out there from here on; the run and its"
                    " numbers go on", name, what, said, _KINDS[kind],
                )  # fmt: skip
                return False
            logger.warning(
                "%s failed (%s) and is left out from here on; the run goes on, and every number is"
                " in %s. %s", name, said, self._numbers, self._tracker.send_later(),
            )  # fmt: skip
            return False

    def _warn_of_rest(self, what: str) -> None:
        logger.warning(
            "%s %s. Every number is in %s. %s",
            self._tracker.name, what, self._numbers, self._tracker.send_later(),
        )  # fmt: skip


def close_all(outboxes: Sequence[Outbox], seconds: float) -> None:
    """Close all of them at once, within so many seconds together."""
    until = time.monotonic() + seconds
    for outbox in outboxes:
        outbox.end()
    for outbox in outboxes:
        outbox.close(until)


def _said(error: Exception) -> str:
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first}"

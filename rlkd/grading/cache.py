"""What was already parsed and decided. Time-outs are remembered too: one kill per bad answer."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any, Generic, TypeVar

from .verdict import NO_WORKER, Verdict

K = TypeVar("K")
V = TypeVar("V")
Key = tuple[str, str, str, bool]


class Recent(Generic[K, V]):
    """A dictionary that forgets what was used longest ago. Safe to use from several threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        with self.lock:
            value = self.entries.get(key)
            if value is not None:
                self.entries.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        with self.lock:
            self.entries[key] = value
            self.entries.move_to_end(key)
            while len(self.entries) > self.size:
                self.entries.popitem(last=False)

    def clear(self) -> None:
        with self.lock:
            self.entries.clear()


class VerdictCache:
    """Verdicts by (gold, answer, other reading, whether Math-Verify was to be asked).

    A time-out holds for deadlines up to its own.
    """

    def __init__(self, size: int = 200_000) -> None:
        self.recent: Recent[Key, tuple[Verdict, float]] = Recent(size)

    def get(self, key: Key, deadline_s: float) -> Verdict | None:
        found = self.recent.get(key)
        if found is None or (found[0].status == "timeout" and deadline_s > found[1]):
            return None
        return found[0]

    def put(self, key: Key, verdict: Verdict, deadline_s: float) -> None:
        if sum(map(len, key[:3])) <= 20_000 and verdict.method != NO_WORKER:
            self.recent.put(key, (verdict, deadline_s))

    def clear(self) -> None:
        self.recent.clear()


GOLDS: Recent[str, Any] = Recent(50_000)
VERDICTS = VerdictCache()


def _fresh_locks() -> None:
    """A forked child must not inherit a lock that another thread of the parent held."""
    GOLDS.lock = threading.Lock()
    VERDICTS.recent.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_locks)

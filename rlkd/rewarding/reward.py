"""A reward function that always answers: a value or None per row, and a status that says why."""

import asyncio
import functools
import logging
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from rlkd.rewarding.calling import Reply, call, is_async, synchronous
from rlkd.rewarding.search import Settled, settle
from rlkd.rewarding.workers import Workers

logger = logging.getLogger(__name__)

_HELPERS = ("log_metric", "log_extra", "trainer_state", "environments")
"""What TRL gives beside the rows; a worker gets stand-ins for the first two, a snapshot of the
state, and no environments."""
_SHOWN = 300


class GuardedReward:
    """Calls a reward function as TRL does; nothing that the function does ends the run.

    Rows of which the function makes a fault get None; how many, `take_faults` tells. The first
    fault of each kind is shown as a warning. Calls from several threads are made one after another.

    Args:
        function: the function with its arguments fixed.
        name: its name in the metrics.
        deadline_s: wall seconds of a call; a call that fails takes three times that at the most,
            while the rows that did it are found.
        workers: the processes that call it; None: it is called here, without a deadline.
        optional: a None of it counts as 0 and leaves the row in.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        deadline_s: float = 30.0,
        workers: Workers | None = None,
        optional: bool = False,
    ) -> None:
        self.__name__ = name
        self.deadline_s = deadline_s
        self.optional = optional
        self._function = function
        self._workers = workers
        self._lock = threading.Lock()
        self._faults: Counter[str] = Counter()
        self.last_faults: list[int] = []
        """The rows of the last call on which the function failed."""
        self.last_statuses: list[str] = []
        """What came of each row in the last call: `ok` or the fault."""
        self._told: set[tuple[str, str]] = set()
        if workers is None and is_async(function):
            self._function = synchronous(function, _own_loop())

    def __call__(self, **given: Any) -> list[float | None]:
        """One value per completion, in order; arguments as TRL gives them.

        Raises:
            KeyboardInterrupt: whatever the function does otherwise is a status.
        """
        rows = len(given["completions"])
        if rows == 0:
            return []
        with self._lock:
            attempt = self._here if self._workers is None else self._in_workers
            settled = settle(rows, functools.partial(attempt, given, rows), self.deadline_s)
            self._count(settled, given)
        _write_logs(settled, given, rows)
        return settled.values

    def take_faults(self) -> dict[str, int]:
        """Since the last time: `rows` seen, rows per fault, `repeats` of failed calls."""
        with self._lock:
            faults, self._faults = self._faults, Counter()
        return dict(faults)

    def start(self) -> None:
        """Begin to start the worker; returns at once."""
        if self._workers is not None:
            self._workers.start()

    def close(self) -> None:
        """End the worker; another call would start it again."""
        if self._workers is not None:
            self._workers.close()

    def _in_workers(
        self,
        given: dict[str, Any],
        rows: int,
        parts: Sequence[list[int]],
        limit_s: float,
        until: float,
    ) -> list[Reply]:
        assert self._workers is not None
        plain = {name: value for name, value in given.items() if name not in _HELPERS}
        if "trainer_state" in given:
            plain["trainer_state"] = _snapshot(given["trainer_state"])
        helpers = [name for name in _HELPERS[:2] if name in given]
        requests = [
            functools.partial(_request, plain, rows, part, helpers)
            for part in parts
        ]  # fmt: skip
        return self._workers.attempt(requests, limit_s, until)

    def _here(
        self,
        given: dict[str, Any],
        rows: int,
        parts: Sequence[list[int]],
        limit_s: float,
        until: float,
    ) -> list[Reply]:
        replies = []
        for number, part in enumerate(parts):
            if number and time.monotonic() >= until:
                reason = "not reached within the time for finding the rows that fail"
                replies.append(Reply("timeout", reason=reason, kind="timeout"))
                continue
            logs: list[tuple[str, str, Any]] = []
            write: dict[str, Any] = {
                "log_metric": lambda name, value, logs=logs: logs.append(("metric", name, value)),
                "log_extra": lambda name, values, logs=logs: logs.append(
                    ("extra", name, list(values))
                ),
            }
            arguments = _part(given, rows, part) | {k: v for k, v in write.items() if k in given}
            reply = call(self._function, arguments, len(part))
            reply.logs = logs
            replies.append(reply)
        return replies

    def _count(self, settled: Settled, given: dict[str, Any]) -> None:
        self.last_faults = sorted(settled.faults)
        self.last_statuses = settled.statuses
        self._faults["rows"] += len(settled.values)
        self._faults["repeats"] += settled.repeats
        for row, fault in settled.faults.items():
            status = settled.statuses[row]
            self._faults[status] += 1
            if (status, fault.kind) not in self._told:
                self._told.add((status, fault.kind))
                self._warn(row, status, fault, settled, given)
        if settled.repeats and not settled.faults and ("", "repeat") not in self._told:
            self._told.add(("", "repeat"))
            logger.warning(
                "reward %s: a call failed, and went well when it was repeated; all rows have"
                " their values. It is counted as rewards/%s/repeats.",
                self.__name__, self.__name__,
            )  # fmt: skip

    def _warn(
        self, row: int, status: str, fault: Reply, settled: Settled, given: dict[str, Any]
    ) -> None:
        alike = sum(other.kind == fault.kind for other in settled.faults.values())
        logger.warning(
            "reward %s: %s on %d of %d rows, which get no value: %s\n"
            "  prompt: %s\n  completion: %s\n"
            "  Later faults of this kind are counted (rewards/%s/faults/%s), not shown.",
            self.__name__, status, alike, len(settled.values), fault.reason,
            _cut(_row(given, "prompts", row)), _cut(_row(given, "completions", row)),
            self.__name__, status,
        )  # fmt: skip


def _request(plain: dict[str, Any], rows: int, part: list[int], helpers: list[str]) -> bytes:
    given = _part(plain, rows, part)
    return pickle.dumps((len(part), given, helpers), pickle.HIGHEST_PROTOCOL)


def _part(given: dict[str, Any], rows: int, part: list[int]) -> dict[str, Any]:
    """The arguments for some rows: lists with one entry per row are cut, the rest stays."""
    if len(part) == rows:
        return dict(given)
    return {
        name: [value[row] for row in part] if isinstance(value, list) and len(value) == rows
        else value
        for name, value in given.items()
    }  # fmt: skip


def _snapshot(state: Any) -> Any:
    """The plain numbers and texts of TRL's trainer_state (global_step, max_steps, epoch, …)."""
    if state is None:
        return None
    plain = (int, float, str, bool, type(None))
    return SimpleNamespace(**{k: v for k, v in vars(state).items() if isinstance(v, plain)})


def _write_logs(settled: Settled, given: dict[str, Any], rows: int) -> None:
    """Hand on what the function wanted logged, of the call that the values are from."""
    for kind, name, value in settled.reply.logs if settled.reply else ():
        if kind == "metric" and "log_metric" in given:
            given["log_metric"](name, value)
        elif kind == "extra" and "log_extra" in given and len(value) == len(settled.rows):
            column: list[Any] = [None] * rows
            for row, entry in zip(settled.rows, value, strict=True):
                column[row] = entry
            given["log_extra"](name, column)


def _row(given: dict[str, Any], name: str, row: int) -> Any:
    return given[name][row] if name in given else ""


def _cut(text: Any) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ({len(shown)} characters)"


def _own_loop() -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own, kept: the caller's thread may have one running."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="rlkd-reward", daemon=True).start()
    return loop

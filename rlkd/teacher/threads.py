"""Threads that nobody waits for at the end of the process.

Those of concurrent.futures are joined when the interpreter ends, however long what they wait for is
silent: Ctrl-C beside a server that hangs would hang too.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any


class Threads:
    """At most `size` daemon threads, started as they are needed, that do what is submitted.

    Args:
        name: what their names begin with.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._waiting: queue.SimpleQueue[tuple[Future, Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Have it called as soon as a thread is free.

        Raises:
            RuntimeError: they are closed.
        """
        if self._closed:
            raise RuntimeError(f"the threads {self._name!r} are closed")
        future: Future = Future()
        self._waiting.put((future, lambda: function(*args)))
        if len(self._threads) < self._size:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def _work(self) -> None:
        while (given := self._waiting.get()) is not None:
            future, function = given
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del given, future, function  # or the last answer would live until the next one

    def close(self, within_s: float = 0.0) -> bool:
        """Take nothing more, and end the threads as soon as they are free; may be called twice.

        Args:
            within_s: wait so long for them.

        Returns:
            Have all ended?
        """
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._waiting.put(None)
        for thread in self._threads:
            thread.join(within_s)
        return not any(thread.is_alive() for thread in self._threads)


def result_of(future: Future, look: Callable[[], Any], every_s: float) -> Any:
    """The future's result, or what it raised. Until it is there `look` is called every so many
    seconds; what that raises ends the waiting."""
    while not future.done():
        look()
        wait([future], timeout=every_s)
    return future.result()

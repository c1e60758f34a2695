"""Where the seconds of an optimiser step go: a stopwatch that counts no second twice.

A rank is in one phase at a time. A phase inside another one interrupts it: what `reward` takes is
not in `score`, from which rewards are called, and all phases of a step add up to the whole. Not so
inside an evaluation or a checkpoint, which are counted whole and are no part of a step.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

STEP = (
    "generate", "reward", "score", "teacher", "forward", "backward", "optimizer", "sync", "log",
    "other",
)  # fmt: skip
"""The phases of a step; `other`: what no phase claims."""
BETWEEN = ("evaluation", "save")
"""What lies between two steps: counted whole, whatever phases are inside."""
_FOLD = 512

P = ParamSpec("P")
R = TypeVar("R")


class WallClock:
    """Seconds of this process."""

    def now(self) -> Any:
        return time.perf_counter()

    def between(self, start: Any, end: Any) -> float:
        return end - start


class CudaClock:
    """Seconds of the GPU's own queue, from events in the current stream.

    Kernels run after the call that starts them: by the wall clock a forward pass would take no
    time, and whatever first waits for its result all of it. Where Python works while the queue is
    empty, the queue's time goes on as Python's does.
    """

    def now(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        end.synchronize()
        return start.elapsed_time(end) / 1e3


class Phases:
    """A stopwatch of this process, and the place where it says what it is doing.

    `with phases("reward"): …`, on the thread that made it; on another one nothing is counted.

    Args:
        device: where the model is; None: not on a GPU.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        cuda = device is not None and device.type == "cuda"
        self._clock: WallClock | CudaClock = CudaClock() if cuda else WallClock()
        self._thread = threading.get_ident()
        self._stack: list[str] = []
        self._seconds: dict[str, float] = {}
        self._marks: list[tuple[str, Any]] = []  # a phase, and when it was left or interrupted
        self._start = self._clock.now()
        self._failed_in: tuple[int, tuple[str, ...]] = (0, ())
        self.step = 0
        """The optimiser step in work, counted from 1."""
        self.last_beat = time.monotonic()
        """When this process was last seen to get on (time.monotonic)."""

    @property
    def path(self) -> tuple[str, ...]:
        """The phases that the process is in, outermost first. For any thread."""
        return tuple(self._stack)

    def where_raised(self, error: BaseException) -> tuple[str, ...]:
        """The phases that the exception came from, outermost first."""
        return self._failed_in[1] if self._failed_in[0] == id(error) else self.path

    def beat(self) -> None:
        """Note that the process gets on."""
        self.last_beat = time.monotonic()

    def begin(self) -> None:
        """Forget what was counted."""
        self._seconds, self._marks = {}, []
        self._start = self._clock.now()
        self.beat()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """What happens inside is of this phase, unless a phase inside it claims it."""
        if threading.get_ident() != self._thread:
            yield
            return
        self.enter(name)
        try:
            yield
        except BaseException as error:
            if self._failed_in[0] != id(error):  # the innermost phase sees it first
                self._failed_in = (id(error), self.path)
            raise
        finally:
            self.leave()

    def enter(self, name: str) -> None:
        """Begin a phase; where `with` cannot be used."""
        self._lap()
        self._stack.append(name)

    def leave(self) -> None:
        """End the phase that was begun last."""
        self._lap()
        self._stack.pop()

    def take(self) -> dict[str, float]:
        """Seconds of each phase in STEP and BETWEEN since the last time."""
        self._lap()
        self._fold()
        taken, self._seconds = self._seconds, {}
        return {name: taken.get(name, 0.0) for name in (*STEP, *BETWEEN)}

    def _lap(self) -> None:
        whole = [name for name in self._stack if name in BETWEEN]
        name = whole[0] if whole else self._stack[-1] if self._stack else "other"
        self._marks.append((name, self._clock.now()))
        if len(self._marks) >= _FOLD:
            self._fold()
        self.beat()

    def _fold(self) -> None:
        for name, mark in self._marks:
            seconds = self._clock.between(self._start, mark)
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds
            self._start = mark
        self._marks.clear()


def in_phase(
    name: str,
) -> Callable[[Callable[Concatenate[Any, P], R]], Callable[Concatenate[Any, P], R]]:
    """Decorates a method of an object that has `phases`: its time is of this phase."""

    def decorate(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
        @functools.wraps(method)
        def timed(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with self.phases(name):
                return method(self, *args, **kwargs)

        return timed

    return decorate

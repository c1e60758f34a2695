"""What a person sees of a run while it trains: a live panel in a terminal, lines elsewhere."""

import logging
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlkd.training.phases import STEP

SHOWN = {
    "reward": "reward",
    "accuracy": "accuracy",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "truncated",
    "entropy": "entropy",
    "teacher/gap": "gap",
    "groups/no_signal": "no signal",
    "schedule/phase": "phase",
    "off_policy/logp": "log p of traces",
}
"""Logged name -> the word for it."""
_MEMORY = ("memory/device_peak", "memory/resident")
"""GiB; the first that is logged."""
_LAST = 20
"""Logged steps that the time left is estimated from."""
_BAR = 20

Logs = Mapping[str, Any]


class Progress(Protocol):
    """One way to show a run. For the first rank."""

    def show(self, step: int, steps: int, logs: Logs, alarm: str | None) -> None:
        """Show a step.

        Args:
            step: optimiser steps done, of `steps`.
            logs: what the trainer logged, without a prefix.
            alarm: the last one, in a line.
        """
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class Eta:
    """Seconds left, from the last steps' wall clock: evaluations and checkpoints are in it."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque(maxlen=_LAST + 1)

    def left(self, step: int, steps: int, now: float) -> float | None:
        """None before the second step."""
        self._seen.append((step, now))
        (first, then) = self._seen[0]
        return (now - then) / (step - first) * (steps - step) if step > first else None


class Lines:
    """A line per step on stderr."""

    def __init__(self) -> None:
        self._eta = Eta()

    def show(self, step: int, steps: int, logs: Logs, alarm: str | None) -> None:
        """See Progress; alarms have lines of their own."""
        left = self._eta.left(step, steps, time.monotonic())
        shown = [f"{name} {text}" for name, text in _numbers(logs)]
        phases = _phases(logs)
        whole = sum(phases.values())
        if whole > 0:
            longest = max(phases, key=lambda name: phases[name])
            shown.append(f"{longest} {100 * phases[longest] / whole:.0f}% of {whole:.3g} s")
        if left is not None and step < steps:
            shown.append(f"eta {duration(left)}")
        print("  ".join([f"step {step}/{steps}", *shown]), file=sys.stderr, flush=True)

    def close(self) -> None:
        """See Progress."""


class LivePanel:
    """A panel that stays at the bottom; what is printed meanwhile runs above it.

    It is drawn after each print and when a step is logged, by no thread of its own. Of steps that
    follow each other faster than `every` seconds not each is drawn: drawing takes 3 ms.
    """

    def __init__(self, console: Console | None = None, every: float = 1.0) -> None:
        self._console = console or Console(stderr=True, force_terminal=True)
        self._eta = Eta()
        self._live: Live | None = None
        self._every, self._drawn_at = every, -every
        self._alarm: str | None = None
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    def show(self, step: int, steps: int, logs: Logs, alarm: str | None) -> None:
        """See Progress."""
        now = time.monotonic()
        drawn = draw(step, steps, logs, alarm, self._eta.left(step, steps, now))
        due = now - self._drawn_at >= self._every or alarm != self._alarm or step >= steps
        if self._live is None:
            self._open(drawn)
        else:
            self._live.update(drawn, refresh=due)
        if due:
            self._drawn_at, self._alarm = now, alarm

    def _open(self, drawn: Panel) -> None:
        # stdout may be a file: what is printed there stays there.
        out, before = sys.stdout.isatty(), sys.stderr
        self._live = Live(
            drawn, console=self._console, auto_refresh=False, redirect_stdout=out,
            vertical_overflow="crop",
        )  # fmt: skip
        self._live.start(refresh=True)
        # A log handler keeps the stream that it was made with, and would write into the panel.
        for handler in _handlers():
            if handler.stream in (before, sys.__stderr__):
                self._handlers.append((handler, handler.setStream(sys.stderr)))

    def close(self) -> None:
        """See Progress; the last step's panel stays to be read."""
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()
        if self._live is not None:
            self._live.stop()
            self._live = None


def _handlers() -> list[logging.StreamHandler[Any]]:
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = [h for one in loggers if isinstance(one, logging.Logger) for h in one.handlers]
    return [handler for handler in found if isinstance(handler, logging.StreamHandler)]


def draw(step: int, steps: int, logs: Logs, alarm: str | None, left: float | None) -> Panel:
    """The panel of one step; `left`: seconds to the end."""
    done = ProgressBar(total=max(steps, 1), completed=step, width=_BAR)
    memory = next((logs[name] for name in _MEMORY if logs.get(name) is not None), None)
    facts = [f"step {step}/{steps}"]
    if left is not None:
        facts.append(f"eta {duration(left)}")
    if memory is not None:
        facts.append(f"memory {memory:.2f} GiB")
    head = Table.grid(padding=(0, 2))
    head.add_row(done, "  ".join(facts))
    numbers = Text("  ").join(
        Text.assemble((f"{name} ", "dim"), (text, "bold")) for name, text in _numbers(logs)
    )
    parts: list[Any] = [head, numbers, _bars(_phases(logs))]
    if alarm is not None:
        parts.append(Text(f"last alarm: {alarm}", style="yellow"))
    return Panel(Group(*parts), title="rlkd", title_align="left", border_style="dim")


def _bars(phases: dict[str, float]) -> Table:
    """A line for each phase, the longest first; the short ones together."""
    whole, table = sum(phases.values()), Table.grid(padding=(0, 1))
    ordered = sorted(phases.items(), key=lambda pair: -pair[1])
    large = [pair for pair in ordered if pair[1] >= 0.03 * whole]
    small = whole - sum(seconds for _, seconds in large)
    if small > 0:
        large.append(("the rest", small))
    for name, seconds in large:
        bar = "█" * max(1, round(_BAR * seconds / whole)) if seconds else ""
        table.add_row(name, Text(f"{seconds:.3f} s", justify="right"), Text(bar, style="cyan"))
    return table


def _numbers(logs: Logs) -> list[tuple[str, str]]:
    # None: a mean over no rows (no reward could grade one).
    return [(word, f"{logs[key]:.3f}") for key, word in SHOWN.items() if logs.get(key) is not None]


def _phases(logs: Logs) -> dict[str, float]:
    """Seconds of the step's phases that took any."""
    return {name: logs[f"time/{name}"] for name in STEP if logs.get(f"time/{name}")}


def duration(seconds: float) -> str:
    """42s, 3m07s, 2h05m, 3d04h."""
    whole = round(seconds)
    for size, part, large, small in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"),
                                     (60, 1, "m", "s")):  # fmt: skip
        if whole >= size:
            return f"{whole // size}{large}{whole % size // part:02d}{small}"
    return f"{whole}s"


def choose(kind: Literal["auto", "panel", "lines", "none"]) -> Progress | None:
    """The way that `tracking.progress` names; auto: a panel where stderr is a terminal."""
    if kind == "auto":
        console = Console(stderr=True)
        kind = "panel" if console.is_terminal and not console.is_dumb_terminal else "lines"
    return {"panel": LivePanel, "lines": Lines}[kind]() if kind != "none" else None

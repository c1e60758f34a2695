"""Running the rules over a run: when an alarm is raised and cleared, and who is told."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlkd.tracking.alarms.rule import Level, Message, Rule, Seen

FILE = "alarms.jsonl"
START = 5
"""Values of a metric that make up the run's own start."""


@dataclass
class _Count:
    """Where one rule stands."""

    bad: int = 0
    good: int = 0
    since: int | None = None
    """The step at which the alarm was raised; None: it is off."""


class Alarms:
    """All rules over a run, once per alarm until it has cleared. For the first rank.

    Told are the terminal (stderr), `alarms.jsonl` in the run's folder and the tracker. What cannot
    be written there is left out: a run is worth more than its alarms. A piece of a checkpoint.

    Args:
        folder: the run's.
        rules: in the order in which they are told.
        alert: takes title and text to the tracker.
        limit: most tokens of an answer.
        verifiable: name of the reward whose full mark, 1, counts as correct.
        attempt: 1, and one more each time the run is resumed; each line of alarms.jsonl has it.
    """

    def __init__(
        self,
        folder: Path,
        rules: Sequence[Rule],
        alert: Callable[[str, str], None] = lambda title, text: None,
        *,
        limit: int | None = None,
        verifiable: str | None = None,
        attempt: int = 1,
    ) -> None:
        self._path = folder / FILE
        self._rules = rules
        self._alert = alert
        self._limit = limit
        self._verifiable = verifiable
        self._attempt = attempt
        self._counts = {rule.name: _Count() for rule in rules}
        self._starts: dict[str, tuple[float, int]] = {}
        self.last: str | None = None
        """The alarm that was told last, in a line."""

    @property
    def on(self) -> list[str]:
        """The alarms that are on."""
        return [name for name, count in self._counts.items() if count.since is not None]

    def see(self, step: int, logs: Mapping[str, Any]) -> dict[str, float]:
        """Judge one step; tells what is new.

        Args:
            step: optimiser steps done.
            logs: what the trainer logged, without a prefix.

        Returns:
            `alarms/NAME` -> 1 for each alarm that is on.
        """
        numbers = {
            name: float(value) if isinstance(value, int | float) else None
            for name, value in logs.items()
        }
        start = {name: total / n for name, (total, n) in self._starts.items() if n >= START}
        seen = Seen(step, numbers, start, self._limit, self._verifiable)
        for rule in self._rules:
            self._judge(rule, seen)
        self._learn_start(seen)
        return {f"alarms/{name}": 1.0 for name in self.on}

    def _judge(self, rule: Rule, seen: Seen) -> None:
        count, level = self._counts[rule.name], rule.level(seen)
        if level is None:
            return
        count.bad = count.bad + 1 if level is Level.BAD else 0
        count.good = count.good + 1 if level is Level.GOOD else 0
        if count.since is not None and count.good >= rule.clear:
            steps, count.since = seen.step - count.since, None
            self._tell_clear(rule.name, seen.step, steps)
        told = any(name in rule.told_by for name in self.on)
        if count.since is None and count.bad >= rule.after and not told:
            count.since = seen.step
            self.tell(rule.name, seen.step, rule.message(seen))

    def _learn_start(self, seen: Seen) -> None:
        for name in seen.now:
            value = seen.get(name)
            total, n = self._starts.get(name, (0.0, 0))
            if value is not None and n < START:
                self._starts[name] = (total + value, n + 1)

    def tell(self, name: str, step: int, message: Message, kind: str = "on") -> None:
        """Tell of an alarm (`kind` on), of the first batch (`warning`, `refused`), or of what ended
        the run (`stopped`). The terminal hears of the last two as the error that follows."""
        title = "ALARM" if kind == "on" else "WARNING"
        self.last = f"{name} (step {step}): {message.what}"
        if kind not in ("refused", "stopped"):
            print(f"{title} {name} (step {step}): {message}", file=sys.stderr, flush=True)
        self._write({"step": step, "alarm": name, "kind": kind, **asdict(message)})
        self._alert(f"{name} (step {step})", str(message))

    def _tell_clear(self, name: str, step: int, steps: int) -> None:
        text = f"alarm {name} is over (step {step}); it was on for {steps} steps"
        self.last = text.removeprefix("alarm ")
        print(text, file=sys.stderr, flush=True)
        self._write({"step": step, "alarm": name, "kind": "off", "steps": steps})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"attempt": self._attempt, **line}) + "\n")
        except OSError as error:
            print(f"warning: {self._path} cannot be written: {error}", file=sys.stderr, flush=True)

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        counts = {name: asdict(count) for name, count in self._counts.items()}
        return {"counts": counts, "starts": {n: list(pair) for n, pair in self._starts.items()}}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece. A rule that is new since then begins anew."""
        for name, count in state["counts"].items():
            if name in self._counts:
                self._counts[name] = _Count(**count)
        self._starts = {name: (pair[0], pair[1]) for name, pair in state["starts"].items()}
        return f"on: {', '.join(self.on)}" if self.on else "none is on"

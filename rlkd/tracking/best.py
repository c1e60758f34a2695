"""Which held-out evaluation was the best, and for how many none has been better."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlkd.checkpoints.manifest import Best


@dataclass
class BestWatch:
    """Compares evaluations by one metric. A tie is not better: the earlier one stays.

    An evaluation before the first step is not compared: nothing was trained yet, and no checkpoint
    could be kept.

    Args:
        metric: a logged name, `eval/accuracy`.
        highest: is a higher value better?
        patience: evaluations in a row without a better value after which `exhausted` is true; 0:
            never.
    """

    metric: str
    highest: bool = True
    patience: int = 0
    best: Best | None = None
    since: int = 0
    """Evaluations since the best one."""

    def add(self, step: int, values: Mapping[str, float]) -> bool:
        """Note an evaluation; is it the best so far? One without the metric is not better."""
        if step == 0:
            return False
        value = values.get(self.metric)
        sign = 1.0 if self.highest else -1.0
        if value is not None and (self.best is None or sign * (value - self.best.value) > 0):
            self.best, self.since = Best(step, self.metric, value), 0
            return True
        self.since += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Is it time to stop?"""
        return 0 < self.patience <= self.since

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {"best": asdict(self.best) if self.best else None, "since": self.since}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.best = Best(**state["best"]) if state["best"] else None
        self.since = state["since"]

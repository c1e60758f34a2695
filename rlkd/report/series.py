"""Lines of metrics as curves: short enough for a page, seeds put together."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Line = dict[str, Any]


@dataclass
class Curve:
    """One metric over steps; None where it was not logged.

    low, high: the range that a point stands for (of the steps in its bucket, or ± one standard
    deviation over seeds); None where a point is one value.
    """

    step: list[int]
    value: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON, four significant digits."""
        found: dict[str, Any] = {"x": self.step, "y": _short(self.value)}
        if self.low is not None and self.high is not None:
            found |= {"lo": _short(self.low), "hi": _short(self.high)}
        return found


def curves(lines: Sequence[Line], most: int) -> dict[str, Curve]:
    """Every metric of a run, at most `most` points each."""
    found: dict[str, Curve] = {}
    for kind in ("train/", "eval/"):
        of_kind = [line for line in lines if any(name.startswith(kind) for name in line)]
        names = sorted({n for line in of_kind for n in line if n.startswith(kind)})
        steps = [line["step"] for line in of_kind]
        for name in names:
            values = [_number(line.get(name)) for line in of_kind]
            if any(value is not None for value in values):
                found[name] = shorten(Curve(steps, values), most)
    return found


def over_seeds(runs: Sequence[Sequence[Line]], most: int) -> dict[str, Curve]:
    """Mean ± one standard deviation (n − 1) over the runs, at the steps that all of them have."""
    full = [curves(lines, most=2**62) for lines in runs]
    found: dict[str, Curve] = {}
    for name in full[0]:
        if not all(name in run for run in full):
            continue
        by_step = [dict(zip(run[name].step, run[name].value, strict=True)) for run in full]
        shared = [step for step in full[0][name].step if all(step in run for run in by_step)]
        mean: list[float | None] = []
        low: list[float | None] = []
        high: list[float | None] = []
        for step in shared:
            values = [run[step] for run in by_step]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                known = []
            middle = statistics.fmean(known) if known else None
            spread = statistics.stdev(known) if known else 0.0
            mean.append(middle)
            low.append(None if middle is None else middle - spread)
            high.append(None if middle is None else middle + spread)
        if any(value is not None for value in mean):
            found[name] = shorten(Curve(shared, mean, low, high), most)
    return found


def shorten(curve: Curve, most: int) -> Curve:
    """At most `most` points: each the mean of as many steps in a row, at the middle one. The range
    of a point is that of its steps, so that no spike is lost; of a range, the means of its ends."""
    size = math.ceil(len(curve.step) / most)
    if size <= 1:
        return curve
    short = Curve([], [], [], [])
    assert short.low is not None
    assert short.high is not None
    for start in range(0, len(curve.step), size):
        part = slice(start, start + size)
        steps, values = curve.step[part], _known(curve.value[part])
        short.step.append(steps[len(steps) // 2])
        short.value.append(statistics.fmean(values) if values else None)
        if curve.low is not None and curve.high is not None:
            lows, highs = _known(curve.low[part]), _known(curve.high[part])
            short.low.append(statistics.fmean(lows) if lows else None)
            short.high.append(statistics.fmean(highs) if highs else None)
        else:
            short.low.append(min(values, default=None))
            short.high.append(max(values, default=None))
    return short


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else brief(value) for value in values]


def brief(value: float, digits: int = 4) -> float | int:
    """Rounded to so many significant digits; whole where it is."""
    number = float(f"{value:.{digits}g}")
    return int(number) if number.is_integer() and abs(number) < 1e15 else number

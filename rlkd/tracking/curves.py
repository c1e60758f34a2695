"""Length against accuracy over a run: read from its metrics.jsonl, drawn as a picture."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "length_accuracy.png"
FORMATS = ("png", "pdf", "svg")
_KEYS = {
    "eval": ("eval/length", "eval/accuracy"),
    "train": ("train/completions/mean_length", "train/accuracy"),
}
_WINDOWS = 40  # a step's rollouts are few: a curve of single steps would be a cloud


@dataclass(frozen=True)
class Curve:
    """Where a run went, in the order of its steps."""

    name: str
    source: str
    """eval: greedy answers to held-out rows; train: the rollouts, means over windows of steps."""
    steps: list[int]
    lengths: list[float]
    """Mean tokens of the answers, end token included."""
    accuracies: list[float]
    """Shares of answers that are right."""

    def thinned(self, most: int) -> "Curve":
        """At most so many points, evenly spaced, first and last among them."""
        number = len(self.steps)
        if number <= most:
            return self
        kept = [round(i * (number - 1) / (most - 1)) for i in range(most)]
        return Curve(
            self.name,
            self.source,
            [self.steps[i] for i in kept],
            [self.lengths[i] for i in kept],
            [self.accuracies[i] for i in kept],
        )


def read(metrics: Path, name: str) -> Curve | None:
    """The curve in a metrics.jsonl: of the evaluations, or of the training steps where there are
    not two evaluations. None where there is nothing to draw.

    Of a step that stands there twice (a resumed run) the later line counts; a last line that was
    not written to its end is left out.
    """
    seen: dict[str, dict[int, tuple[float, float]]] = {source: {} for source in _KEYS}
    with metrics.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            for source, (length, accuracy) in _KEYS.items():
                if row.get(length) is not None and row.get(accuracy) is not None:
                    seen[source][row["step"]] = (row[length], row[accuracy])
    if len(seen["eval"]) < 2 and len(seen["train"]) > len(seen["eval"]):
        return _windowed(name, seen["train"])
    return _curve(name, "eval", seen["eval"]) if seen["eval"] else None


def _curve(name: str, source: str, points: dict[int, tuple[float, float]]) -> Curve:
    steps = sorted(points)
    return Curve(name, source, steps, [points[s][0] for s in steps], [points[s][1] for s in steps])


def _windowed(name: str, points: dict[int, tuple[float, float]]) -> Curve:
    steps = sorted(points)
    size = -(-len(steps) // _WINDOWS)
    means: dict[int, tuple[float, float]] = {}
    for start in range(0, len(steps), size):
        window = steps[start : start + size]
        length = sum(points[step][0] for step in window) / len(window)
        accuracy = sum(points[step][1] for step in window) / len(window)
        means[window[-1]] = (length, accuracy)
    return _curve(name, "train", means)


def draw(curves: Sequence[Curve], path: Path) -> None:
    """One picture of all curves; its format is that of the name (png, pdf, svg).

    The file appears whole or not at all. No display and no global state of matplotlib is used.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    sources = {curve.source for curve in curves}
    for number, curve in enumerate(curves):
        _add(axes, curve, f"C{number % 10}", len(sources) > 1)
    _frame(axes, curves)
    axes.set_xlabel("tokens per answer (mean, end token included)")
    axes.set_ylabel(_accuracy_label(sources))
    if len(curves) == 1:
        axes.set_title(curves[0].name)
        _name_ends(axes, curves[0])
    else:
        axes.scatter([], [], marker="o", color="white", edgecolor="black", s=60, label="first")
        axes.scatter([], [], marker="o", color="black", s=60, label="last")
        axes.legend(fontsize="small", framealpha=0.7)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(unfinished, dpi=140, format=path.suffix[1:].lower())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _add(axes: Any, curve: Curve, colour: str, say_source: bool) -> None:
    label = curve.name + (f" ({curve.source})" if say_source else "")
    axes.plot(curve.lengths, curve.accuracies, color=colour, linewidth=1.4, marker=".", label=label)
    for place, face in ((0, "white"), (-1, colour)):
        axes.scatter(
            curve.lengths[place], curve.accuracies[place],
            s=70, color=face, edgecolor=colour, linewidth=1.6, zorder=3,
        )  # fmt: skip


def _name_ends(axes: Any, curve: Curve) -> None:
    """Write the steps beside the first and the last point, on the side away from the other."""
    right = curve.lengths[-1] >= curve.lengths[0]
    for place, outward in ((0, not right), (-1, right)):
        axes.annotate(
            f"step {curve.steps[place]}",
            (curve.lengths[place], curve.accuracies[place]),
            xytext=(9 if outward else -9, -4), textcoords="offset points",
            ha="left" if outward else "right", va="top", fontsize="small",
        )  # fmt: skip


def _frame(axes: Any, curves: Sequence[Curve]) -> None:
    """Room around the points, and never so close that noise looks like a change."""
    lengths = [length for curve in curves for length in curve.lengths]
    accuracies = [accuracy for curve in curves for accuracy in curve.accuracies]
    for values, least, limit in ((lengths, 2.0, axes.set_xlim), (accuracies, 0.1, axes.set_ylim)):
        low, high = min(values), max(values)
        room = max(0.15 * (high - low), (least - (high - low)) / 2)
        limit(low - room, high + room)
    axes.grid(alpha=0.3)


def _accuracy_label(sources: set[str]) -> str:
    labels = {
        "eval": "held-out accuracy (share of greedy answers)",
        "train": "accuracy of the rollouts (share)",
    }
    return labels[sources.pop()] if len(sources) == 1 else "accuracy (share of answers)"

"""One HTML file with the tables and the curves of a comparison; it needs no network."""

import base64
import html
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlkd.compare import table
from rlkd.compare.grid import BASELINE
from rlkd.compare.records import Record, write_whole

AGAINST = {
    "step": ("optimiser steps", 1.0),
    "generated_tokens": ("generated tokens, thousands", 1e-3),
    "seconds": ("seconds of training", 1.0),
}
PANELS = {
    "accuracy": "accuracy (mean@8, held out)",
    "pass@8": "pass@8",
    "length": "tokens per answer",
    "entropy": "entropy, nats a token",
    "teacher_gap": "teacher gap, nats a token",
}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1400px;padding:0 1em}
table{border-collapse:collapse;font-size:13px}td,th{padding:.2em .6em;border-bottom:1px solid #ccc;
text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}
img{max-width:100%}"""


def write(records: Sequence[Record], path: Path, baseline: str = BASELINE) -> None:
    """The page of these records; it appears whole or not at all."""
    parts = ["<h1>The comparison</h1>", f"<p>{html.escape(table.note(baseline))}</p>"]
    parts.append(_html_table(table.main_table(records, baseline)))
    for task in table.tasks(records):
        parts += [f"<h2>{html.escape(task)}</h2>", _html_table(table.task_table(records, task))]
        picture = base64.b64encode(draw(records, task)).decode()
        told = f"curves of {html.escape(task)}"
        parts.append(f'<img alt="{told}" src="data:image/png;base64,{picture}">')
    parts += [f"<p>failed: {html.escape(line)}</p>" for line in table.failures(records)]
    head = f'<!doctype html><meta charset="utf-8"><title>Comparison</title><style>{_STYLE}</style>'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join([head, *parts]) + "\n")


def draw(records: Sequence[Record], task: str) -> bytes:
    """A PNG: a row per figure, a column per cost; means over seeds, shaded ± one standard
    deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 3.3 * len(PANELS)), layout="constrained")
    axes = figure.subplots(len(PANELS), len(AGAINST), squeeze=False)
    names = sorted({record["algorithm"] for record in records})
    for number, name in enumerate(names):
        curves = [run["curve"] for run in table.of(records, name, task).values()]
        look = {"color": f"C{number % 10}", "linestyle": ("-", "--", ":")[number // 10 % 3]}
        for row, value in enumerate(PANELS):
            for column, (cost, (_, factor)) in enumerate(AGAINST.items()):
                points = over_seeds(curves, cost, value)
                if not points:
                    continue
                x = [factor * point[0] for point in points]
                mean = [point[1] for point in points]
                axes[row][column].plot(x, mean, label=name, linewidth=1.5, **look)
                low = [point[1] - point[2] for point in points]
                high = [point[1] + point[2] for point in points]
                axes[row][column].fill_between(x, low, high, color=look["color"], alpha=0.1)
    _frame(axes)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8)
    file = io.BytesIO()
    figure.savefig(file, dpi=90, format="png")
    return file.getvalue()


def over_seeds(
    curves: Sequence[Sequence[dict[str, Any]]], cost: str, value: str
) -> list[tuple[float, float, float]]:
    """Per point of the curves: mean cost, mean value, standard deviation of the value (0 for one
    seed). Only as far as all seeds have the value."""
    points = []
    for same in zip(*curves, strict=False):
        if not all(value in point for point in same):
            break
        values = [point[value] for point in same]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        points.append((statistics.mean(p[cost] for p in same), statistics.mean(values), spread))
    return points


def _frame(axes: Any) -> None:
    for row, title in enumerate(PANELS.values()):
        for column, (words, _) in enumerate(AGAINST.values()):
            axes[row][column].grid(alpha=0.3)
            axes[row][column].set(xlabel=words, ylabel=title)


def _html_table(markdown: str) -> str:
    heads, _, *rows = [
        [html.escape(cell.strip(" `")) for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
    ]
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in heads) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "".join(lines) + "</table>"

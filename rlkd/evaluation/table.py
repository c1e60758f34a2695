"""An evaluation as a table for people."""

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlkd.evaluation.result import Evaluation

_SHARES = ("pass@", "mean@", "maj@", "truncated")
_MEANING = {
    "pass@": "one of k answers is correct",
    "mean@": "share of correct answers",
    "maj@": "the answer that most of k give is correct",
    "length": "tokens per answer",
    "length/correct": "tokens per correct answer",
    "length/wrong": "tokens per wrong answer",
    "truncated": "cut off by the length limit",
    "correct_per_1k_tokens": "correct answers per 1,000 tokens",
    "answers/distinct": "different final answers to a row",
    "ead/all": "distinct n-grams over what their number makes likely",
    "ead/correct": "the same of the correct answers",
    "vendi/all": "effective number of different answers",
    "vendi/correct": "the same of the correct answers",
    "distance/all": "mean cosine distance of two answers",
    "distance/correct": "the same of two correct answers",
}


def show(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print what was measured how, the measures with their standard errors, and the notes."""
    console = console or Console(highlight=False)
    console.print(Text(_head(evaluation)), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("± SE", justify="right", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for name, measure in evaluation.measures.items():
        digits = 4 if name.startswith((*_SHARES, "ead/", "distance/")) else 2
        table.add_row(
            name,
            _shown(measure.value, digits),
            _shown(measure.se, digits),
            str(measure.rows),
            _meaning(name),
        )
    console.print(table)
    for name, count in evaluation.faults.items():
        console.print(Text(f"{name}: {count:g}"), soft_wrap=True)
    for note in evaluation.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def _head(evaluation: Evaluation) -> str:
    how, about = evaluation.settings, evaluation.about
    kind = (
        "greedy"
        if how.greedy
        else f"{how.samples} samples, temperature {how.temperature:g}, top_p {how.top_p:g},"
        f" top_k {how.top_k}, seed {how.seed}"
    )
    return (
        f"{about['model']}: {len(evaluation.rows)} rows, {kind}, at most"
        f" {how.max_completion_length} tokens; {about['tokens']} tokens in {about['seconds']:.0f} s"
    )


def _meaning(name: str) -> str:
    if name in _MEANING:
        return _MEANING[name]
    start = name.partition("@")[0] + "@"
    return _MEANING.get(start, "")


def _shown(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def lines(evaluation: Evaluation) -> list[str]:
    """The plain numbers of a greedy evaluation, one `name=value` a line, for scripts."""
    return [
        f"{name}={value:.4f}" if isinstance(value, float) else f"{name}={value}"
        for name, value in evaluation.summary.items()
    ]

"""`rlkd difficulty RUN`: the difficulty records as a person reads them."""

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from rlkd.difficulty import BANDS
from rlkd.tracking.bands import band_of
from rlkd.tracking.records import Records

SORTS = ("pass_rate", "shortest", "visits")
_MEANING = {
    "hard": "pass rate below 1/3",
    "middle": "from 1/3 to 2/3",
    "easy": "above 2/3",
    "new": "not visited yet",
}


def order(records: Records, sort: str, easiest: bool, band: str | None) -> list[int]:
    """Rows of the records in the order in which they are shown.

    Args:
        sort: pass_rate: lowest first; shortest: longest first; visits: most first. Ties are broken
            by the others, in this order. Prompts without a value come last.
        easiest: the other way round.
        band: only those of one band.
    """
    sign = -1.0 if easiest else 1.0
    worst_first = {
        "pass_rate": sign * records.pass_rate_D,
        "shortest": -sign * records.shortest_D,
        "visits": -sign * records.visits_D.double(),
    }
    kept = torch.arange(len(records.visits_D))
    if band is not None:
        kept = kept[band_of(records.pass_rate_D) == BANDS.index(band)]
    # Stable sorts, the least important first.
    for name in sorted(SORTS, key=lambda name: (name != sort, SORTS.index(name)), reverse=True):
        value_K = worst_first[name][kept].nan_to_num(nan=math.inf)
        kept = kept[value_K.argsort(stable=True)]
    return kept.tolist()


def show(
    run: Path,
    records: Records,
    *,
    limit: int,
    sort: str = "pass_rate",
    easiest: bool = False,
    band: str | None = None,
    console: Console | None = None,
) -> None:
    """Print counts, bands, the threshold and `limit` prompts; plain where not to a terminal."""
    console = console or Console(highlight=False)
    band_D = band_of(records.pass_rate_D)
    console.print(Text(f"{run}, after step {records.step}"), soft_wrap=True)
    console.print(_counts(records), soft_wrap=True)
    console.print(_bands(band_D, console))
    rows = order(records, sort, easiest, band)
    chosen = f"{band} prompts" if band else "prompts"
    if not rows:
        console.print(f"no {chosen}")
        return
    first = {
        "pass_rate": ("lowest pass rate", "highest pass rate"),
        "shortest": ("longest", "shortest"),
        "visits": ("most visits", "fewest visits"),
    }[sort][easiest]
    console.print(f"{min(limit, len(rows))} of {len(rows)} {chosen}, {first} first")
    console.print(_prompts(records, band_D, rows[:limit], console))


def _counts(records: Records) -> Text:
    total = len(records.visits_D)
    visited = int((records.visits_D > 0).sum())
    solved = int((~records.shortest_D.isnan()).sum())
    lines = [f"{total} prompts: {visited} visited, {solved} solved at least once"]
    if not math.isnan(records.threshold):
        below = int((records.pass_rate_D < records.threshold).sum())
        lines.append(
            f"threshold (mean pass rate) {records.threshold:.3f}: {below} prompts below it"
        )
    return Text("\n".join(lines))


def _bands(band_D: Tensor, console: Console) -> Table:
    table = _table(console)
    for name, side in (("band", "left"), ("prompts", "right"), ("share", "right"), ("", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for place, band in enumerate(BANDS):
        number = int((band_D == place).sum())
        share = f"{number / len(band_D):.3f}" if len(band_D) else "-"
        table.add_row(band, str(number), share, _MEANING[band])
    return table


def _prompts(records: Records, band_D: Tensor, rows: Sequence[int], console: Console) -> Table:
    table = _table(console)
    for name in ("pass_rate", "shortest", "visits"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("band", no_wrap=True)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        rate, tokens = records.pass_rate_D[row].item(), records.shortest_D[row].item()
        table.add_row(
            "-" if math.isnan(rate) else f"{rate:.3f}",
            "-" if math.isnan(tokens) else f"{tokens:g}",
            str(records.visits_D[row].item()),
            BANDS[int(band_D[row])],
            Text(one_line(records.prompts[row])),
        )
    return table


def _table(console: Console) -> Table:
    style = box.SIMPLE_HEAD if console.is_terminal else None
    return Table(box=style, pad_edge=False, header_style="bold" if style else "")


def one_line(prompt: str | None) -> str:
    """A prompt on one line: what was said last in a chat; nothing that moves a cursor."""
    if prompt is None:
        return "(not known)"
    if prompt.startswith("[{"):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a text that looks like a chat
            prompt = str(json.loads(prompt)[-1]["content"])
    words = " ".join(prompt.split())
    return "".join(letter if letter.isprintable() else "�" for letter in words)

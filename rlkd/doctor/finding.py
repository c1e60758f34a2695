"""What was found, how bad it is, and what to do; and how that is printed."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

Level = Literal["ok", "warning", "problem"]
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_WIDTH = 80
_INDENT = 11


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    """ok; warning: a run may suffer; problem: a run would fail, or be wrong."""
    found: str
    """What was found; further lines are kept as they are (the messages of ConfigErrors)."""
    advice: str = ""
    """What to do."""


def show(sections: Sequence[tuple[str, Sequence[Finding]]], console: Console | None = None) -> None:
    """Print them; at most 80 columns where words can be wrapped, colours on a terminal only."""
    console = console or Console(highlight=False)
    for title, findings in sections:
        console.print(Text(title, style="bold"), soft_wrap=True)
        for finding in findings:
            for number, line in enumerate(_lines(finding)):
                text = Text(line)
                if number == 0:
                    text.stylize(_STYLES[finding.level], 2, 2 + len(finding.level))
                console.print(text, soft_wrap=True)


def _lines(finding: Finding) -> list[str]:
    pad = " " * _INDENT
    texts = [(line, "") for line in finding.found.splitlines()]
    if finding.advice:
        texts += [(line, "do: " * (i == 0)) for i, line in enumerate(finding.advice.splitlines())]
    lines: list[str] = []
    for text, mark in texts:
        inner = pad + " " * (len(text) - len(text.lstrip()))
        lines += textwrap.wrap(
            mark + text.strip(), _WIDTH, initial_indent=inner, subsequent_indent=inner,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return [f"  {finding.level:<{_INDENT - 2}}{lines[0][_INDENT:]}", *lines[1:]]

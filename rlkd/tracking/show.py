"""Rollouts as a person reads them in a terminal."""

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

LIKED, DISLIKED = "blue", "dark_orange"
"""Background of tokens that the teacher finds likelier, or less likely, than the student does."""
_STRONG = 1.0
"""nats from which a token is coloured."""
_PLAIN_WIDTH = 80
_HARD_SPACE = "\N{NO-BREAK SPACE}"


def prompt_text(prompt: str | None) -> str:
    """A stored prompt for people: chat messages as `role: content`, one under the other."""
    if not prompt or not prompt.lstrip().startswith("[{"):
        return prompt or ""
    try:
        messages = json.loads(prompt)
        return "\n".join(f"{m['role']}: {m['content']}" for m in messages)
    except (json.JSONDecodeError, KeyError, TypeError):
        return prompt


def mark(row: dict[str, Any], verifiable: str | None) -> str:
    """`correct`, `wrong` or `ungraded`, and whether the answer was cut off."""
    value = row.get(f"reward/{verifiable}")
    word = "ungraded" if value is None else "correct" if value >= 1.0 else "wrong"
    return f"{word}, truncated" if row.get("truncated") else word


def facts(row: dict[str, Any]) -> list[str]:
    """What is known of a rollout, in short words."""
    found = [f"{row['tokens']} tokens"] if row.get("tokens") is not None else []
    for name, value in row.items():
        if name.startswith("reward/"):
            found.append(f"{name.removeprefix('reward/')} {_number(value)}")
        elif name.startswith("status/") and value not in (None, "ok"):
            found.append(f"{name.removeprefix('status/')} {value}")
    for name, word in (
        ("advantage", "advantage"), ("band", "band"), ("teacher_gap", "gap"),
        ("entropy", "entropy"),
    ):  # fmt: skip
        if row.get(name) is not None:
            value = row[name]
            found.append(f"{word} {value if isinstance(value, str) else _number(value)}")
    return found


def show(rows: Sequence[dict[str, Any]], verifiable: str | None) -> None:
    """Print them: panels with colours in a terminal, plain paragraphs of 80 columns otherwise."""
    console = Console()
    for row in rows:
        title = f"step {row['step']}  rank {row.get('rank', 0)}  {mark(row, verifiable)}"
        if console.is_terminal:
            console.print(_panel(row, title))
        else:
            print("\n".join(_paragraph(row, title)), end="\n\n")
    if console.is_terminal and any(row.get("token_teacher_log_ratio") for row in rows):
        legend = Text("the teacher finds a token  ")
        legend.append(" likelier ", f"white on {LIKED}")
        legend.append("  ")
        legend.append(" less likely ", f"black on {DISLIKED}")
        legend.append(f"  than the student does, by {_STRONG:g} nat or more")
        console.print(legend)
    sys.stdout.flush()


def _panel(row: dict[str, Any], title: str) -> Panel:
    body = Text()
    body.append(prompt_text(row.get("prompt")).rstrip() + "\n\n", "dim")
    body.append_text(_completion(row))
    body.append("\n\n" + " · ".join(facts(row)), "cyan")
    word = title.split("  ")[-1]
    style = "green" if word == "correct" else "red" if word == "wrong" else "yellow"
    return Panel(body, title=Text(title), border_style=style, title_align="left")


def _completion(row: dict[str, Any]) -> Text:
    pieces, ratios = row.get("token_text"), row.get("token_teacher_log_ratio")
    if not pieces or not ratios:
        return Text(row["completion"])
    text = Text()
    for piece, ratio in zip(pieces, ratios, strict=True):
        style = ""
        if ratio is not None and abs(ratio) >= _STRONG:
            style = f"white on {LIKED}" if ratio > 0 else f"black on {DISLIKED}"
        text.append(piece, style)
    text.append(row["completion"][len(text.plain) :])
    return text


def _paragraph(row: dict[str, Any], title: str) -> list[str]:
    # No line ends inside a fact.
    joined = " · ".join(fact.replace(" ", _HARD_SPACE) for fact in facts(row))
    wrapped = textwrap.wrap(
        joined, _PLAIN_WIDTH - 2, initial_indent="  ", subsequent_indent="  ",
        break_long_words=False,
    )  # fmt: skip
    lines = [title, *(line.replace(_HARD_SPACE, " ") for line in wrapped)]
    for word, text in (("prompt", prompt_text(row.get("prompt"))), ("answer", row["completion"])):
        lines.append(f"  {word}:")
        for line in text.splitlines() or [""]:
            lines += textwrap.wrap(
                line, _PLAIN_WIDTH - 2, initial_indent="    ", subsequent_indent="    ",
                drop_whitespace=False, replace_whitespace=False,
            )  # fmt: skip
    return lines


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"

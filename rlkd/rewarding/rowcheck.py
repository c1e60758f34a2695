"""Rows that a reward can never grade (a broken gold answer), found when the data is loaded.

A reward function may carry a function `check_rows` as an attribute. It is called once per split,
like the reward but without completions: every column of the data as a list, and the reward's
kwargs. It gives the index of each row that cannot be graded, and why. Which column is the gold, and
what a good gold is, only the reward knows.
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlkd.config import ConfigError, RunConfig
from rlkd.data import Row

FILE = "bad_rows.jsonl"
"""What a run calls the file of all of them, in its folder."""
_SHOWN = 20


@dataclass(frozen=True)
class BadRow:
    """A row that a reward cannot grade."""

    split: str
    """`train` or `eval`, the block of `data`."""
    row: int
    """Its index in the split, from 0."""
    reward: str
    """The reward's name in the metrics."""
    reason: str


def bad_rows(
    config: RunConfig,
    functions: Mapping[str, Callable[..., Any]],
    splits: Mapping[str, list[Row]],
) -> list[BadRow]:
    """The rows that a reward of the config says it cannot grade.

    They stay in the data: their reward is None, so that they count for nothing (or, with an
    optional reward, that reward adds nothing to them).

    Args:
        functions: what `rlkd.door.build_rewards` gives.
        splits: prepared rows by the block of `data` that they come from.

    Raises:
        ConfigError: a reward that is not optional cannot grade more than `data.max_bad_share` of a
            split, or none of it; a `check_rows` fails or gives anything but indices and reasons.
    """
    found: list[BadRow] = []
    for reward in config.rewards:
        function = functions[reward.label]
        for split, rows in splits.items():
            problems = _ask(function, reward.label, rows)
            found += [BadRow(split, row, reward.label, why) for row, why in problems.items()]
            counts = bool(reward.weight) and not reward.optional
            too_many = len(problems) > config.data.max_bad_share * len(rows)
            if counts and problems and (too_many or len(problems) == len(rows)):
                raise ConfigError(_refusal(config, reward.label, split, len(rows), problems))
    return found


def report(bad: list[BadRow], more: Path | None = None) -> None:
    """Say on standard error which rows were found: the first twenty, and how many more.

    Args:
        more: where all of them will be written (see `save`).
    """
    if not bad:
        return
    lines = [f"{len(bad)} rows cannot be graded; their reward is None and they count for nothing:"]
    lines += [f"  {b.split} row {b.row}, reward {b.reward}: {b.reason}" for b in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  and {len(bad) - _SHOWN} more" + (f": {more}" if more else ""))
    print("\n".join(lines), file=sys.stderr, flush=True)


def save(bad: list[BadRow], path: Path) -> None:
    """Write them all, one JSON object a line; no file where there are none."""
    if bad:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(asdict(b)) + "\n" for b in bad), encoding="utf-8")


def _ask(function: Callable[..., Any], name: str, rows: list[Row]) -> dict[int, str]:
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    plain = function.func if isinstance(function, functools.partial) else function
    check = getattr(plain, "check_rows", None)
    if check is None or not rows:
        return {}
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "prompt"}
    given = {**columns, "prompts": [row["prompt"] for row in rows], **fixed}
    parameters = inspect.signature(check).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        given = {p.name: given[p.name] for p in parameters if p.name in given}
    try:
        found = dict(check(**given))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"reward {name!r}: its check_rows fails on the data.\n"
            f"  found: {type(error).__name__}: {error}\n"
            "  why: it says before any training which rows the reward cannot grade\n"
            f"  do: fix check_rows in {getattr(check, '__module__', '?')}, or what it complains of"
        ) from error
    for row, why in found.items():
        if not isinstance(row, int) or not 0 <= row < len(rows) or not isinstance(why, str):
            raise ConfigError(
                f"reward {name!r}: its check_rows gives {row!r}: {why!r} for {len(rows)} rows.\n"
                "  expected: the index of each row that cannot be graded, and why, as text"
            )
    return dict(sorted(found.items()))


def _refusal(
    config: RunConfig, reward: str, split: str, rows: int, problems: Mapping[int, str]
) -> str:
    share = len(problems) / rows
    shown = list(problems.items())[:_SHOWN]
    listed = "\n".join(f"    row {row}: {why}" for row, why in shown)
    more = f"\n    and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
    do = "fix these golds, or name the column that holds them (data.columns)"
    if len(problems) < rows:
        do += f"; to go on without them, raise data.max_bad_share above {share:.3g}"
    return (
        f"data.{split}: reward {reward!r} cannot grade {len(problems)} of {rows} rows.\n"
        f"  found:\n{listed}{more}\n"
        "  why: a row without a reward teaches nothing; so many are a broken or wrong column\n"
        f"  allowed: data.max_bad_share is {config.data.max_bad_share:g}\n"
        f"  do: {do}"
    )

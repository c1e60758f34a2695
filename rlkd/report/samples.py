"""The rollouts that a report shows: few enough for a page, spread over the run."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from rlkd.report.series import brief
from rlkd.tracking.reading import RolloutFiles
from rlkd.tracking.show import prompt_text

STEPS = 48
PER_STEP = 8
MOST_TOKENS = 800
MOST_CHARACTERS = 3000
_NUMBERS = ("advantage", "teacher_gap", "entropy", "teacher_logp")
_FAR = 99.0
"""nats: stands for an infinite difference of log-probabilities."""
BINS = 8


def choose(run: RolloutFiles, budget: int) -> list[dict[str, Any]]:
    """Rollouts of at most `STEPS` evenly spread steps, in at most `budget` bytes of JSON; those
    with tokens first, and of each step a wrong, a truncated and an ungraded one if it has any.

    A step that no longer fits is left out whole; which steps come first does not depend on the
    budget's size, so that what is shown stays spread over the run.
    """
    verifiable = run.rewards[0] if run.rewards else None
    chosen: list[dict[str, Any]] = []
    for step in _spread_order(evenly(run.steps, STEPS)):
        rows = run.table(steps=lambda s, step=step: s == step).to_pylist()
        found = [_plain(row, verifiable) for row in _of_step(rows, verifiable)]
        size = len(json.dumps(found, ensure_ascii=False).encode())
        if size > budget:
            break
        budget -= size
        chosen += found
    return sorted(chosen, key=lambda row: row["step"])


def evenly(steps: Sequence[int], number: int) -> list[int]:
    """At most `number` of the steps, the first and the last among them."""
    if len(steps) <= number:
        return list(steps)
    places = [round(i * (len(steps) - 1) / (number - 1)) for i in range(number)]
    return [steps[place] for place in places]


def _spread_order(steps: list[int]) -> list[int]:
    """First, last, middle, quarters, …"""
    order, gap = [], len(steps)
    places = [0, len(steps) - 1]
    while gap > 1:
        gap = math.ceil(gap / 2)
        places += range(gap, len(steps), gap)
    for place in places:
        if steps[place] not in order:
            order.append(steps[place])
    return order


def _of_step(rows: list[dict[str, Any]], verifiable: str | None) -> list[dict[str, Any]]:
    with_tokens = [row for row in rows if row.get("token_text") is not None]
    kept = with_tokens or [rows[place] for place in _places(len(rows), PER_STEP)]
    kept = [kept[place] for place in _places(len(kept), PER_STEP)]
    name = f"reward/{verifiable}"
    for wanted in (
        lambda row: row.get(name) is not None and row[name] < 1,
        lambda row: row.get(name) is None,
        lambda row: bool(row.get("truncated")),
    ):
        if not any(map(wanted, kept)):
            kept += [row for row in rows if wanted(row)][:1]
    return kept


def _places(rows: int, number: int) -> list[int]:
    number = min(rows, number)
    return [rows * place // number for place in range(number)]


def _plain(row: dict[str, Any], verifiable: str | None) -> dict[str, Any]:
    """A row as the page reads it."""
    value = row.get(f"reward/{verifiable}")
    mark = "ungraded" if value is None else "correct" if value >= 1.0 else "wrong"
    prompt = prompt_text(row.get("prompt"))
    found: dict[str, Any] = {
        "step": row["step"],
        "mark": mark,
        "cut": bool(row.get("truncated")),
        "band": row.get("band"),
        "n": row.get("tokens"),
        "prompt": prompt[:MOST_CHARACTERS],
        "rewards": {
            key.removeprefix("reward/"): None if v is None else brief(v)
            for key, v in row.items()
            if key.startswith("reward/")
        },
        "faults": {
            key.removeprefix("status/"): v
            for key, v in row.items()
            if key.startswith("status/") and v not in (None, "ok")
        },
    }
    for name in _NUMBERS:
        if row.get(name) is not None:
            found[name] = _finite(row[name])
    pieces = row.get("token_text")
    if pieces is None:
        found["text"] = row["completion"][:MOST_CHARACTERS]
        found["short"] = len(row["completion"]) > MOST_CHARACTERS
        return found
    found["tokens"] = pieces[:MOST_TOKENS]
    found["short"] = len(pieces) > MOST_TOKENS
    for key, name in (("opinion", "token_teacher_log_ratio"), ("doubt", "token_entropy")):
        values = row.get(name)
        if values is not None:
            found[key] = [None if v is None else _finite(v) for v in values[:MOST_TOKENS]]
    return found


def _finite(value: float) -> float | int:
    if math.isnan(value):
        return 0
    return brief(max(-_FAR, min(_FAR, value)), 3)


def accuracy_by_length(run: RolloutFiles) -> dict[str, Any] | None:
    """Share of correct answers by length, in the first and in the last fifth of the steps; None
    without rewards or lengths."""
    if not run.rewards or "tokens" not in run.schema.names or len(run.steps) < 2:
        return None
    name = f"reward/{run.rewards[0]}"
    number = max(1, len(run.steps) // 5)
    parts = {"first": run.steps[:number], "last": run.steps[-number:]}
    tables = {
        part: run.table(["tokens", name], pc.field(name).is_valid(), steps=set(steps).__contains__)
        for part, steps in parts.items()
    }
    lengths = np.concatenate([table["tokens"].to_numpy() for table in tables.values()])
    if not len(lengths):
        return None
    low, high = np.quantile(lengths, [0.01, 0.99]).astype(int)
    width = max(1, math.ceil((high + 1 - low) / BINS))
    # What is shorter or longer still is counted in the first and the last.
    edges = np.arange(low, high + 1 + width, width)
    found: dict[str, Any] = {"edges": edges.tolist(), "reward": run.rewards[0]}
    for part, table in tables.items():
        place = np.clip(np.digitize(table["tokens"].to_numpy(), edges) - 1, 0, len(edges) - 2)
        right = table[name].to_numpy() >= 1.0
        counts = np.bincount(place, minlength=len(edges) - 1)
        rights = np.bincount(place, weights=right, minlength=len(edges) - 1)
        found[part] = {
            "steps": [parts[part][0], parts[part][-1]],
            "count": counts.tolist(),
            "correct": rights.astype(int).tolist(),
        }
    return found

"""Which runs are seeds of one experiment."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NO_DIFFERENCE = ("run.name", "run.dir", "run.seed", "tracking.")
"""Beginnings of the keys in which seeds of the same experiment may differ."""


def group_of(config: Mapping[str, Any]) -> str:
    """A name that runs share whose configs differ in nothing but seed, name and tracking: the
    algorithm and a hash of the rest.

    Args:
        config: resolved, as JSON has it.
    """
    told = {k: v for k, v in _flat(config) if not k.startswith(NO_DIFFERENCE)}
    text = json.dumps(told, sort_keys=True, default=str)
    algorithm = str(told.get("algorithm.use", "")).rpartition(":")[2] or "run"
    return f"{algorithm}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _flat(value: Any, place: str = "") -> list[tuple[str, Any]]:
    """Dotted key -> value, for every leaf of dictionaries and lists."""
    if isinstance(value, Mapping) and value:
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{place}{key}.")]
    if isinstance(value, list) and value:
        return [pair for i, inner in enumerate(value) for pair in _flat(inner, f"{place}{i}.")]
    return [(place.removesuffix("."), value)]

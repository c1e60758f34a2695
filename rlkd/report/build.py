"""Everything that a report shows, as plain data."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlkd import __version__
from rlkd.config import yaml12
from rlkd.errors import ConfigError
from rlkd.report import samples, series
from rlkd.tracking import glossary, reading
from rlkd.tracking.panels import by_section
from rlkd.tracking.seeds import NO_DIFFERENCE

POINTS = 400
"""Of a curve, for a single run; several runs, and groups of seeds, share twice as many."""
ROLLOUT_BYTES = 1_400_000
"""Of the rollouts of all runs together."""


def collect(folders: Sequence[Path]) -> dict[str, Any]:
    """The data of a report.

    Raises:
        ConfigError: a folder is not a run, or is named twice.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ConfigError("rlkd report: a run is named twice")
    for folder in folders:
        reading.check_run(folder)
    lines = [reading.metrics(folder) for folder in folders]
    configs = [_config(folder) for folder in folders]
    names = _names(resolved)
    groups = _same_but_seed(configs)
    drawn = len(folders) + sum(len(members) > 1 for members in groups)
    points = max(60, min(POINTS, 2 * POINTS // drawn))
    runs = []
    for folder, name, config, its_lines in zip(folders, names, configs, lines, strict=True):
        texts = {key: _shown(value) for key, value in config.items()}
        runs.append({"name": name, "config": texts, "about": _about(folder)})
        runs[-1] |= _rollouts(folder, ROLLOUT_BYTES // len(folders))
        runs[-1]["curves"] = _plain(series.curves(its_lines, points))
    shown = []
    for members in groups:
        group: dict[str, Any] = {"runs": members, "name": names[members[0]]}
        if len(members) > 1:
            seeds = [configs[i].get("run.seed") for i in members]
            group["name"] = _common(names, members)
            group["seeds"] = seeds
            group["curves"] = _plain(series.over_seeds([lines[i] for i in members], points))
        shown.append(group)
    logged = sorted({name for run in runs for name in run["curves"]})
    return {
        "rlkd": __version__,
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "runs": runs,
        "groups": shown,
        "sections": [{"heading": h, "names": names} for h, names in by_section(logged).items()],
        "glossary": {name: list(glossary.explain(name) or ("", "")) for name in logged},
        "differences": _differences(configs),
    }


def _rollouts(folder: Path, budget: int) -> dict[str, Any]:
    if not any((folder / "rollouts").glob("step-*.parquet")):
        return {"rollouts": [], "stored": 0, "lengths": None}
    run = reading.rollouts(folder)
    return {
        "rollouts": samples.choose(run, budget),
        "stored": run.rows,
        "lengths": samples.accuracy_by_length(run),
    }


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    return dict(_flat(yaml12.parse(path.read_text(encoding="utf-8"), str(path))))


def _flat(value: Any, place: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{place}{key}.")]
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        return [pair for i, inner in enumerate(value) for pair in _flat(inner, f"{place}{i}.")]
    return [(place.removesuffix("."), value)]


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {"folder": str(folder)}
    return {"folder": str(folder), **about}


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    for parts in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("the folders differ")


def _common(names: Sequence[str], members: Sequence[int]) -> str:
    """What the names of a group begin with alike, at least a letter; otherwise the first name."""
    first = names[members[0]]
    length = 0
    while all(names[i][: length + 1] == first[: length + 1] for i in members):
        length += 1
        if length >= len(first):
            break
    return first[:length].rstrip("-_. 0123456789") or first


def _same_but_seed(configs: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Runs in groups whose configs differ in nothing but seed, name and tracking."""
    groups: dict[str, list[int]] = {}
    for number, config in enumerate(configs):
        told = {k: v for k, v in config.items() if not k.startswith(NO_DIFFERENCE)}
        # Of a run without a config nothing is known: it is alone.
        key = json.dumps(told, sort_keys=True, default=str) if config else f"alone {number}"
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _differences(configs: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Rows of a key and each run's value (None where it has none), where they are not all equal."""
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = []
    for key in keys:
        values = [_shown(config[key]) if key in config else None for config in configs]
        if len(set(values)) > 1 and key not in ("run.name", "run.dir"):
            rows.append([key, *values])
    return rows


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _plain(curves: dict[str, series.Curve]) -> dict[str, Any]:
    return {name: curve.plain() for name, curve in curves.items()}

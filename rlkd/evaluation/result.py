"""What an evaluation found, as values, as JSON and in a file."""

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlkd.evaluation.settings import Settings

FOLDER = "evaluations"
"""In a run's folder: one JSON file per evaluation."""


@dataclass(frozen=True)
class Measure:
    """A mean over rows or answers."""

    value: float
    """NaN where nothing could be counted."""
    se: float
    """Standard error, clustered by prompt; NaN with fewer than two prompts."""
    rows: int
    """Rows that count."""


@dataclass(frozen=True)
class Evaluation:
    """A model on rows: the measures, what they are made of, and how they came about."""

    measures: dict[str, Measure]
    """By name; `rlkd.evaluation.measures` says what each is."""
    rows: list[dict[str, Any]]
    """One per row, in their order, for paired comparisons: `prompt` (12 hex digits of its hash),
    `counted` answers that the verifiable reward graded, `correct` ones, `tokens` of all answers,
    `majority` (maj@n of the row; null without votes)."""
    settings: Settings
    """How the answers were drawn."""
    about: dict[str, Any]
    """model, data, reward, commit, versions, device, seconds, date, …"""
    faults: dict[str, float] = field(default_factory=dict)
    """Rows of which a reward made a fault, where there were any."""
    notes: list[str] = field(default_factory=list)
    """What a reader must know: a measure that is missing, and why."""

    @property
    def summary(self) -> dict[str, float]:
        """The few plain numbers of an evaluation during training, by the same names."""
        names = {"pass@1": "accuracy", "length": "length", "truncated": "truncated"}
        names |= {key: key for key in self.measures if key.startswith("reward/")}
        found = {
            new: self.measures[old].value
            for old, new in names.items()
            if old in self.measures and not math.isnan(self.measures[old].value)
        }
        return {"rows": len(self.rows), **found, **self.faults}

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON holds it; NaN becomes null."""
        return {
            "about": self.about,
            "settings": asdict(self.settings)
            | {"ks": list(self.settings.ks), "greedy": self.settings.greedy}
            | {"rows": len(self.rows)},
            "measures": {
                name: {"value": _number(m.value), "se": _number(m.se), "rows": m.rows}
                for name, m in self.measures.items()
            },
            "faults": self.faults,
            "notes": self.notes,
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Evaluation":
        """What `to_json` gave."""
        settings = {k: v for k, v in found["settings"].items() if k not in ("greedy", "rows")}
        return cls(
            measures={
                name: Measure(_nan(m["value"]), _nan(m["se"]), m["rows"])
                for name, m in found["measures"].items()
            },
            rows=found["rows"],
            settings=Settings(**{**settings, "ks": tuple(settings["ks"])}),
            about=found["about"],
            faults=found["faults"],
            notes=found["notes"],
        )

    def save(self, path: Path) -> None:
        """Write it to `path`, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, path)

    @property
    def file_name(self) -> str:
        """A name that says how the answers were drawn, and differs where model, data or anything
        else of that does: the same evaluation overwrites itself and no other."""
        names = ("model", "data", "reward", "answers", "embedder")
        said = asdict(self.settings) | {name: self.about.get(name) for name in names}
        text = json.dumps(said, sort_keys=True, default=str)
        tag = hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
        kind = "greedy" if self.settings.greedy else f"samples{self.settings.samples}"
        return f"{kind}-{tag}.json"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value

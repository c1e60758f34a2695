"""What two runs' folders must have in common for one to be the other, bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

TIMES = ("seconds", "train/step_time", "step_time", "total_flos", "_current_train_step_time")
MEASURED = ("time/", "memory/", "overlap/", "train/time/", "train/memory/", "train/overlap/")


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def newest(run: Path) -> Path:
    """The folder of the checkpoint with the most steps."""
    return max(run.glob("checkpoints/checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))


def differences(one: Path, other: Path) -> list[str]:
    """Where they differ: weights, optimiser, scheduler, random numbers, rollouts drawn, metrics."""
    found = []
    last, same = newest(one), newest(other)
    if last.name != same.name:
        return [f"{last.name} and {same.name}"]
    for path in sorted(last.rglob("*.safetensors")) + sorted(
        (one / "model").rglob("*.safetensors")
    ):
        twin = other / path.relative_to(one)
        found += _unlike(load_file(path), load_file(twin), str(path.relative_to(one)))
    pieces = [
        path
        for name in ("carried-*", "difficulty.pt", "entropy_control.pt")
        for path in last.glob(f"pieces/{name}")
    ]
    for path in sorted([*last.glob("*.pt"), *last.glob("*.pth"), *pieces]):
        twin = same / path.relative_to(last)
        trees = [torch.load(p, weights_only=False) for p in (path, twin)]
        found += _unlike(*trees, path.name)
    states = [json.loads((p / "trainer_state.json").read_text()) for p in (last, same)]
    found += _unlike(*states, "trainer_state")
    found += _unlike(lines(one), lines(other), "metrics")
    tables = [
        {p.name: pq.read_table(p).drop_columns(["attempt"]).to_pydict() for p in sorted(files)}
        for files in (one.glob("rollouts/*.parquet"), other.glob("rollouts/*.parquet"))
    ]
    return found + _unlike(*tables, "rollouts")


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _is_measured(key: Any) -> bool:
    """Is it of the machine, and never the same twice?"""
    return str(key) in TIMES or str(key).startswith(MEASURED)


def _unlike(one: Any, other: Any, place: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        one, other = ({k: v for k, v in d.items() if not _is_measured(k)} for d in (one, other))
        if one.keys() != other.keys():
            return [f"{place}: keys {sorted(map(str, one.keys() ^ other.keys()))}"]
        inner = [(f"{place}.{k}", one[k], other[k]) for k in one]
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return [f"{place}: {len(one)} and {len(other)} items"]
        inner = [(f"{place}.{i}", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other) else [place]
    elif isinstance(one, torch.Tensor):
        same = one.shape == other.shape and one.dtype == other.dtype
        # By their bytes: NaN, of which the difficulty records have many, is not equal to itself.
        return [] if same and _bytes(one) == _bytes(other) else [place]
    else:
        both_nan = one != one and other != other
        return [] if one == other or both_nan else [f"{place}: {one!r} and {other!r}"]
    return [text for where, a, b in inner for text in _unlike(a, b, where)]

"""One run of a comparison: trained, measured at points on the way, told as a record."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlkd import run
from rlkd.checkpoints import manifest
from rlkd.compare.grid import Job
from rlkd.compare.measuring import SAMPLES, Figures, Ruler
from rlkd.compare.records import Record, fingerprint
from rlkd.config import RunConfig

POINTS = 2
"""Measured students on the way: after each half of the steps; and the one at the start. A point
costs about a tenth of a run."""


def run_job(job: Job, points: int = POINTS) -> Record:
    """Train anew, measure, and tell.

    What a killed call left of this run is thrown away: no number of it was kept.

    Args:
        points: students to measure on the way, the last among them.
    """
    folder = job.config.folder
    if folder.exists():
        shutil.rmtree(folder)
    every = max(1, job.config.optim.steps // points)
    config = _with_points(job.config, every)
    started, started_cpu = time.time(), time.process_time()
    run.train(config)
    trained, trained_cpu = time.time(), time.process_time()
    ruler = Ruler.of(job.ruler)
    curve = curve_of(folder, config, ruler.measure)
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    last = curve[-1]
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {
        "algorithm": job.algorithm,
        "task": job.task,
        "seed": job.seed,
        **{name: value for name, value in last.items() if name != "step"},
        "problems": len(ruler.rows),
        "samples": SAMPLES,
        "steps": config.optim.steps,
        "wall": {
            "train": round(trained - started, 1),
            "train_cpu": round(trained_cpu - started_cpu, 1),
            "measure": round(time.time() - trained, 1),
            "measure_cpu": round(time.process_time() - trained_cpu, 1),
        },
        "settings": fingerprint(job.config),
        "command": job.command,
        "commit": about["commit"],
        "versions": {"rlkd": about["rlkd"], "python": about["python"], **about["versions"]},
        "machine": f"{about['device']}, {os.cpu_count()} cores, {about['threads']} thread(s) a run",
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "curve": curve,
    }


def curve_of(
    folder: Path, config: RunConfig, measure: Callable[[Path | str], Figures]
) -> list[Figures]:
    """The student at the start, at each checkpoint and at the end, with what it had cost by then.

    Args:
        measure: a model's folder to its figures.
    """
    spent = _spent(folder / "metrics.jsonl")
    models: dict[int, Path | str] = {0: config.model.path}
    models |= manifest.candidates(folder / "checkpoints")
    models[max(spent)] = folder / "model"
    nothing = dict.fromkeys(next(iter(spent.values())), 0)
    points = []
    for step in sorted(models):
        figures = {name: round(value, 5) for name, value in measure(models[step]).items()}
        points.append({"step": step, **figures, **(spent[step] if step else nothing)})
    return points


def _spent(metrics: Path) -> dict[int, dict[str, float]]:
    """Step to what all steps up to it have cost."""
    found: dict[int, dict[str, float]] = {}
    seconds = 0.0
    with metrics.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if "train/step_time" not in row:
                continue
            seconds += row["train/step_time"]
            found[row["step"]] = {
                "generated_tokens": round(row["train/spent/generated_tokens"]),
                "teacher_rows": round(row["train/spent/teacher_rows"]),
                "teacher_tokens": round(row["train/spent/teacher_tokens"]),
                "seconds": round(seconds, 2),
            }
    return found


def _with_points(config: RunConfig, every: int) -> RunConfig:
    """The config of a run that keeps a checkpoint at each point and evaluates nothing itself."""
    kept: dict[str, Any] = {"save_every": every, "keep": config.optim.steps // every + 1}
    return config.model_copy(
        update={
            "run": config.run.model_copy(update=kept),
            "eval": config.eval.model_copy(update={"every": 0, "at_start": False}),
        }
    )

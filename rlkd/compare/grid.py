"""Which runs a comparison consists of: every algorithm on every task with every seed.

An algorithm is a YAML file with an `algorithm:` block and whatever else it departs in (its
components, `teacher: null`, a learning rate); a task is the config of a run without an algorithm.
The algorithm's file is laid over the task's as a file over its `base:`. What makes runs comparable
is the task's alone: an algorithm's file that sets it is refused.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkd import config as configs
from rlkd.compare.records import Key, Record, fingerprint, key_of
from rlkd.config import ConfigError, RunConfig

BASELINE = "grpo"
"""The algorithm (the name of its file) that the others are tested against."""
SAME = {
    "model": None,
    "data": ("train", "eval", "prompt_column", "columns"),
    "environment": None,
    "sampling": None,
    "generation": None,
    "eval": None,
    "batch": ("prompts_per_step", "group_size", "steps_per_rollout", "iterations"),
    "optim": ("steps",),
    "run": None,
}
"""Blocks, or keys of a block, that only the task sets: equal students, problems and rollouts."""


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    algorithm: str
    task: str
    seed: int
    config: RunConfig
    ruler: RunConfig
    """What all students of the task are measured by: its rows, rewards, teacher and sampling, as
    they are without the algorithm's departures."""
    command: str
    """Does this run anew."""

    @property
    def key(self) -> Key:
        return self.algorithm, self.task, self.seed

    @property
    def name(self) -> str:
        return f"{self.algorithm} on {self.task}, seed {self.seed}"


def jobs(
    algorithms: Sequence[Path],
    tasks: Sequence[Path],
    seeds: Sequence[int],
    folder: Path,
    overrides: Sequence[str] = (),
) -> list[Job]:
    """All runs, seed by seed, so that a grid that is stopped has whole seeds.

    Args:
        algorithms, tasks: YAML files; a run is named after them.
        folder: of the runs.
        overrides: words that set keys of every run.

    Raises:
        ConfigError: two files of one name; a file that cannot be read; a config that is wrong; an
            algorithm that sets what only the task may.
    """
    for files in (algorithms, tasks):
        stems = [path.stem for path in files]
        for stem in stems:
            if stems.count(stem) > 1:
                raise ConfigError(f"rlkd compare: two files are called {stem}.yaml; rename one")
    for path in algorithms:
        _refuse_own_budget(path)
    found = []
    for seed in seeds:
        for algorithm in algorithms:
            for task in tasks:
                name = f"{algorithm.stem}-{task.stem}-seed{seed}"
                words = [f"--run.dir={folder}", f"--run.name={name}", f"--run.seed={seed}"]
                if _draws_its_rows(task):
                    words.append(f"--data.train.seed={seed}")
                config = configs.load(algorithm, [*words, *overrides], under=task)
                ruler = configs.overlay(
                    configs.read(task) | {"algorithm": {"use": "rlkd.algorithms.grpo:GRPO"}},
                    [*words, *overrides],
                    str(task),
                )
                # Elsewhere: in the records' own folder it is done already.
                again = f"--seed {seed} --out runs/again --runs runs/again"
                command = ["rlkd compare", str(algorithm), "--tasks", str(task), again, *overrides]
                found.append(Job(algorithm.stem, task.stem, seed, config, ruler, " ".join(command)))
    return found


def missing(found: Sequence[Job], records: Sequence[Record], redo: bool, where: Path) -> list[Job]:
    """The jobs without a record, or whose run failed.

    Args:
        redo: run those anew whose record is of other settings.
        where: the records' file, for the message.

    Raises:
        ConfigError: a record is of other settings than the job's, and `redo` is false.
    """
    known = {key_of(record): record for record in records if "error" not in record}
    stale = [
        job
        for job in found
        if job.key in known and known[job.key]["settings"] != fingerprint(job.config)
    ]
    if stale and not redo:
        names = "\n".join(f"  {job.name}" for job in stale[:6])
        more = f"\n  and {len(stale) - 6} more" if len(stale) > 6 else ""
        raise ConfigError(
            f"{where} holds runs with other settings than the configs' now; both in one table would"
            f" compare nothing:\n{names}{more}\n  do: add --redo to run these anew, or name another"
            " --out"
        )
    left = [job for job in found if job.key not in known or job in stale]
    _check_budget(left, list(known.values()), where)
    return left


def _check_budget(left: Sequence[Job], records: Sequence[Record], where: Path) -> None:
    """Refuse runs of other steps or problems than those of the same task that stand there."""
    for job in left:
        source = job.ruler.data.eval
        mine = {"steps": job.config.optim.steps, "problems": source.size if source else None}
        for record in records:
            if record["task"] != job.task or record["algorithm"] == job.algorithm:
                continue
            other = {name: record.get(name) for name in mine}
            if None not in (*mine.values(), *other.values()) and mine != other:
                raise ConfigError(
                    f"{where} holds {record['algorithm']} on {job.task} with {other}, and"
                    f" {job.name} would run with {mine}: in one table that compares nothing.\n"
                    "  do: name another --out, or run them alike"
                )


def work(job: Job) -> Record:
    """Run a job in this process. Loads torch and TRL."""
    from rlkd.compare import one

    return one.run_job(job)


def failed(job: Job, why: str) -> Record:
    """The record of a run that ended without figures."""
    return {
        "algorithm": job.algorithm,
        "task": job.task,
        "seed": job.seed,
        "error": why,
        "settings": fingerprint(job.config),
        "command": job.command,
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def _refuse_own_budget(path: Path) -> None:
    tree = configs.read(path)
    for block, keys in SAME.items():
        given = tree.get(block)
        if given is None:
            continue
        own = [block] if keys is None else [f"{block}.{key}" for key in keys if key in given]
        if own:
            raise ConfigError(
                f"{path}: {own[0]} is set by an algorithm's file.\n"
                f"  found: {_value(tree, own[0])}\n"
                "  note: students, problems and rollouts are the task's, or a comparison would be"
                " one of budgets\n"
                f"  do: set {own[0]} in the task's file, or on the command line for all"
            )


def _draws_its_rows(task: Path) -> bool:
    return "use" in configs.read(task).get("data", {}).get("train", {})


def _value(tree: dict[str, Any], place: str) -> Any:
    value: Any = tree
    for part in place.split("."):
        value = value[part]
    return value

"""Going on with a run: what must be as it was, what was left behind, and a report of it all."""

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkd import config as configs
from rlkd import folder as folders
from rlkd.checkpoints import carried, manifest
from rlkd.checkpoints.manifest import Checkpoint, CheckpointError
from rlkd.config import ConfigError, RunConfig
from rlkd.config.teacher import places_of_teachers, teacher_classes
from rlkd.tracking.metrics_file import discarded
from rlkd.tracking.store import discard_after
from rlkd.training import bad_scores

FREE = (
    "run.name", "run.dir", "run.save_every", "run.keep", "run.processes", "run.on_nan",
    "run.first_batch", "run.stacks_after_s", "run.abort_after_s",
    "eval.every", "eval.at_start", "eval.batch_size", "eval.patience", "tracking",
    "rewards.*.deadline_s", "rewards.*.memory_gb", "rewards.*.max_fault_share",
    "generation.server_url", "generation.server_wait_s", "generation.group_port",
    "generation.memory_share", "generation.sleep",
)  # fmt: skip
"""Keys that a resumed run may change: they touch neither what is learnt nor what is measured."""
FREE_OF_TEACHERS = ("chunk_tokens", "check", "overlap", "on_bad_scores")
"""The same in the block of the teacher, and in those of the teachers inside it."""
FREE_OF_SERVERS = ("url", "timeout", "patience", "concurrency", "canary_every", "api_key_env")
"""And in that of one behind a server, which may move: its canary is in the checkpoint."""


@dataclass(frozen=True)
class Resumption:
    """What a resumed run goes on with."""

    step: int
    """Optimiser steps done: those of the checkpoint."""
    attempt: int
    """2 the first time that the run is resumed, and so on."""
    wandb_id: str
    checkpoint: str
    """The checkpoint's folder."""


def check_config(config: RunConfig, force_steps: bool) -> str | None:
    """Is it the run in its folder, and is there something left to do?

    Args:
        config: what the run shall go on with; its folder is the run's.
        force_steps: accept another `optim.steps`.

    Returns:
        None, or how the run ended, where it is finished.

    Raises:
        ConfigError: there is no such run; keys differ that matter; it is finished and its model
            is gone.
    """
    old = _config_of(config.folder)
    differing = _differences(configs.resolved(old), configs.resolved(config))
    steps = differing.pop("optim.steps", None)
    problems = [f"  {key}: {was!r} -> {now!r}" for key, (was, now) in differing.items()]
    if problems:
        raise ConfigError(
            f"{config.folder} cannot be resumed with another config.\n" + "\n".join(problems) + "\n"
            "  why: it would be neither the run that was begun nor the new one\n"
            f"  do: rlkd train {config.folder} --resume takes the run's own config; or start a new"
            " run"
        )
    if steps is not None and not force_steps:
        raise ConfigError(
            f"optim.steps: {config.folder} was begun for {steps[0]} steps and shall now take"
            f" {steps[1]}.\n"
            "  why: a schedule of the learning rate spans all steps, so that the steps already"
            " taken would not be those of the longer or shorter run\n"
            "  do: add --force-steps to go on regardless"
        )
    ended = folders.read(config.folder).get("ended") or {}
    if ended.get("why") in folders.FINISHED and steps is None:
        how = f"{ended['why']}, {ended['step']} of {config.optim.steps}"
        if not (config.folder / "model").is_dir():
            raise ConfigError(
                f"{config.folder} is finished ({how}), and its model/ is gone.\n"
                f"  do: rlkd export {config.folder} OUT writes the model of its newest checkpoint"
            )
        return how
    return None


def choose(config: RunConfig, processes: int) -> Resumption:
    """The newest whole checkpoint of the run; the main rank's choice holds for all.

    Raises:
        ConfigError: there is none, or so many processes cannot continue it.
    """
    folder = config.folder / "checkpoints"
    checkpoint = manifest.newest(folder, lambda text: print(f"warning: {text}", file=sys.stderr))
    if checkpoint is None:
        raise ConfigError(
            f"{config.folder}: there is nothing to resume.\n"
            f"  found: no whole checkpoint in {folder}"
            + (" (run.save_every is 0)" if not config.run.save_every else "")
            + f"\n  do: move {config.folder} away and start the run again"
        )
    carried.check_usable(checkpoint, processes)
    if checkpoint.step > config.optim.steps:
        raise ConfigError(
            f"optim.steps is {config.optim.steps}, and {checkpoint.path} has taken"
            f" {checkpoint.step} steps already; nothing can be taken back"
        )
    about = folders.read(config.folder)
    attempt = len(about["resumed"]) + 2
    return Resumption(checkpoint.step, attempt, about["wandb_id"], str(checkpoint.path))


def set_aside(config: RunConfig, resumption: Resumption) -> dict[str, str]:
    """Move away what the attempt before wrote after the checkpoint; says what, if anything.

    The rollouts of later steps and their answers without sound scores, and a final model;
    metrics.jsonl is cut by its logger.
    """
    aside = discarded(config.folder, resumption.attempt)
    moved = []
    rollouts = discard_after(config.folder / "rollouts", resumption.step, aside / "rollouts")
    if rollouts:
        moved.append(f"{rollouts} files of rollouts")
    lines = bad_scores.discard_after(config.folder, resumption.step, aside)
    if lines:
        moved.append(f"{lines} lines of bad_scores-rank*.jsonl")
    if (config.folder / "model").exists():
        aside.mkdir(parents=True, exist_ok=True)
        (config.folder / "model").rename(aside / "model")
        moved.append("model/")
    return {"set aside": f"{', '.join(moved)}, to {aside}"} if moved else {}


def announce(trainer: Any, config: RunConfig, resumption: Resumption) -> None:
    """Have the main rank print what was restored, once it is, and call `set_aside`."""

    def on_resumed(checkpoint: Checkpoint, said: dict[str, str]) -> None:
        if not trainer.accelerator.is_main_process:
            return
        more = set_aside(config, resumption)
        if config.tracking.wandb != "disabled":
            more["W&B run"] = resumption.wandb_id
        print(report(trainer, checkpoint, said | more), file=sys.stderr, flush=True)

    trainer.on_resumed = on_resumed


class Rows:
    """A piece: the run goes on with the rows that it began with.

    Args:
        rows: the lists of rows, training first.
    """

    def __init__(self, *rows: Sequence[dict[str, Any]] | None) -> None:
        self._state = {
            "number": [len(part or []) for part in rows],
            "sha256": [_hash(part or []) for part in rows],
        }

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return self._state

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        if state != self._state:
            raise CheckpointError(
                "data: the rows are not those that the run began with.\n"
                f"  found: {self._state['number']} training and held-out rows; there were"
                f" {state['number']}\n"
                "  why: the place in the data, and the evaluations so far, would mean nothing\n"
                "  do: bring the old data (or its function) back, or start a new run"
            )
        return f"{self._state['number'][0]} training rows, the same as before"


def report(trainer: Any, checkpoint: Checkpoint, said: dict[str, str]) -> str:
    """What was restored, a line each.

    Args:
        trainer: with everything restored.
        said: what the pieces said of themselves, and further lines.
    """
    rate = trainer.lr_scheduler.get_last_lr()[0] if trainer.lr_scheduler is not None else None
    tensors = sum(isinstance(value, dict) for value in _optimizer_state(trainer).values())
    processes = checkpoint.manifest.processes
    lines = {
        "step": f"{checkpoint.step} of {trainer.args.max_steps}",
        "optimiser": f"state of {tensors} tensors",
        "scheduler": "not needed any more" if rate is None else f"next learning rate {rate:.3g}",
        "rng": f"python, numpy and torch of {processes} process{'es' if processes > 1 else ''}",
        **said,
    }
    width = max(map(len, lines)) + 2
    body = "\n".join(f"  {name:<{width}}{text}" for name, text in lines.items())
    return f"resumed from {checkpoint.path}, which is whole\n{body}"


def _optimizer_state(trainer: Any) -> dict[Any, Any]:
    """By tensor; of DeepSpeed's flattened ones on this rank."""
    optimizer = trainer.optimizer
    while hasattr(optimizer, "optimizer"):  # accelerate's and DeepSpeed's stand around torch's
        optimizer = optimizer.optimizer
    return optimizer.state if optimizer is not None else {}


def _config_of(folder: Path) -> RunConfig:
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(
            f"{folder}: there is nothing to resume.\n  found: no config.yaml of a run in it\n"
            "  do: check run.name and run.dir, or leave --resume out to start the run"
        )
    return configs.load(path)


def _differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    was, now = (_flat(config.model_dump(mode="json")) for config in (old, new))
    keys = sorted(was.keys() | now.keys())
    differing = {key: (was.get(key), now.get(key)) for key in keys if was.get(key) != now.get(key)}
    free = [*FREE, *_free_of_teachers(old, new)]
    return {key: values for key, values in differing.items() if not _is_free(key, free)}


def _free_of_teachers(old: RunConfig, new: RunConfig) -> list[str]:
    # By what is a block: a teacher may be called url, and have a weight by that name.
    from rlkd.teacher.server import ServerTeacher

    was, now = (
        dict(zip(places_of_teachers(config.teacher), teacher_classes(config.teacher), strict=True))
        if config.teacher is not None
        else {}
        for config in (old, new)
    )
    both = was.keys() & now.keys()
    served = [p for p in both if all(issubclass(k[p], ServerTeacher) for k in (was, now))]
    return [f"{place}.{name}" for place in both for name in FREE_OF_TEACHERS] + [
        f"{place}.{name}" for place in served for name in FREE_OF_SERVERS
    ]


def _is_free(key: str, frees: Iterable[str]) -> bool:
    parts = key.split(".")
    for free in frees:
        wanted = free.split(".")
        head = parts[: len(wanted)]
        if len(head) == len(wanted) and all(
            w in ("*", p) for w, p in zip(wanted, head, strict=True)
        ):
            return True
    return False


def _flat(tree: Any, place: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        pairs = tree.items()
    elif isinstance(tree, list) and tree:
        pairs = enumerate(tree)
    else:
        return {place: tree}
    flat = {}
    for key, value in pairs:
        flat |= _flat(value, f"{place}.{key}" if place else str(key))
    return flat


def _hash(rows: Sequence[dict[str, Any]]) -> str:
    text = json.dumps(list(rows), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()

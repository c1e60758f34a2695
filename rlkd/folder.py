"""A run's folder: what it was started with, each time, and how it ended."""

import json
import os
import platform
import secrets
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from rlkd import __version__
from rlkd import config as configs
from rlkd.checkpoints import manifest
from rlkd.config import ConfigError, RunConfig
from rlkd.launch import Launch

_PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "wandb")

FINISHED = ("all steps", "early stop")
"""The `why` of a run.json whose run has nothing left to do."""


def start(config: RunConfig, launch: Launch) -> dict[str, Any]:
    """Write config.yaml (resolved) and run.json of a new run; returns what run.json says."""
    config.folder.mkdir(parents=True, exist_ok=True)
    text = configs.dump(configs.resolved(config))
    (config.folder / "config.yaml").write_text(text, encoding="utf-8")
    about = _about(config, launch) | {"wandb_id": secrets.token_hex(4), "resumed": []}
    _write(config.folder, about)
    return about


def go_on(config: RunConfig, launch: Launch, step: int) -> dict[str, Any]:
    """Note in run.json, under `resumed`, that the run goes on from `step`; returns all of it.

    config.yaml becomes what the run goes on with.
    """
    about = read(config.folder)
    about.pop("ended", None)
    about["resumed"] = [*about["resumed"], {"from_step": step, **_about(config, launch)}]
    text = configs.dump(configs.resolved(config))
    _replace(config.folder / "config.yaml", text)
    _write(config.folder, about)
    return about


def code(about: dict[str, Any]) -> dict[str, Any]:
    """What ran, for a tracker: of run.json, the last attempt's commit, whether tracked files
    differed from it (None: no git), and the versions."""
    last = about["resumed"][-1] if about["resumed"] else about
    commit, changes, _ = (last["commit"] or "").partition("+changes")
    kept = ("rlkd", "python", "versions", "processes", "device")
    return {
        "commit": commit or None,
        "dirty": bool(changes) if commit else None,
        **{name: last[name] for name in kept},
    }


def end(folder: Path, why: str, step: int) -> None:
    """Note in run.json how the run ended: all steps, early stop, signal, faults or nan."""
    about = read(folder)
    about["ended"] = {"why": why, "step": step, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    _write(folder, about)


def save_model(trainer: Any, folder: Path) -> None:
    """Write the final model to `folder`/model; like a checkpoint it appears whole or not at all.

    Args:
        trainer: of transformers; every rank calls.
    """
    unfinished = folder / "model.unfinished"
    trainer.save_model(str(unfinished))
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        for path in unfinished.rglob("*"):
            manifest.sync(path)
        unfinished.rename(folder / "model")
        manifest.sync(folder)


def read(folder: Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        ConfigError: there is none, or it is no JSON.
    """
    path = folder / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _write(folder: Path, about: dict[str, Any]) -> None:
    _replace(folder / "run.json", json.dumps(about, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    manifest.sync(unfinished)
    os.replace(unfinished, path)


def software() -> dict[str, Any]:
    """What runs here, and on what: versions, commit, device."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    return {
        "rlkd": __version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "argv": sys.argv,
        "device": device or platform.machine(),
        "threads": torch.get_num_threads(),
        "host": platform.node(),
    }


def _about(config: RunConfig, launch: Launch) -> dict[str, Any]:
    return software() | {
        "seed": config.run.seed,
        "processes": launch.world_size,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "pid": os.getpid(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the working directory, with `+changes` where it has uncommitted ones."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changes.strip() else "")

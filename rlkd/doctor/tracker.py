"""Weights & Biases: what a run would do, without asking the network."""

import os
from collections.abc import Mapping
from importlib import metadata

from rlkd.doctor.finding import Finding
from rlkd.tracking.trackers.weights_and_biases import login as source_of_key


def look(mode: str, env: Mapping[str, str] | None = None) -> list[Finding]:
    """Can runs be tracked as the config says?

    Args:
        mode: `tracking.wandb`: offline, online or disabled.
        env: None: this process's environment.
    """
    env = dict(os.environ) if env is None else env
    if mode == "disabled":
        return [Finding("ok", "W&B is switched off (tracking.wandb)")]
    try:
        version = metadata.version("wandb")
    except metadata.PackageNotFoundError:
        return [
            Finding("problem", f"tracking.wandb is {mode}, wandb is missing", "pip install wandb")
        ]
    said = env.get("WANDB_MODE")
    found = []
    if said is not None and said != mode:
        found.append(
            Finding(
                "warning",
                f"WANDB_MODE is {said}, but the config's tracking.wandb is {mode}, which counts",
                f"--tracking.wandb {said}, if that is what you want",
            )
        )
    login = source_of_key(env)
    if mode == "online" and login is None:
        found.append(
            Finding(
                "problem",
                f"wandb {version} is to be online, and there is no key (WANDB_API_KEY, netrc)",
                "wandb login, or --tracking.wandb offline and wandb sync later",
            )
        )
    elif mode == "online":
        found.append(Finding("ok", f"wandb {version}, online, a key from {login} (not tried)"))
    else:
        key = f"a key from {login}" if login else "not logged in, which only wandb sync needs"
        found.append(Finding("ok", f"wandb {version}, offline: files in the run's folder; {key}"))
    return found

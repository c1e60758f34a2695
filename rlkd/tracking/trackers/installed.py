"""Which trackers a config asks for, and whether they are here. Loads none of them."""

import importlib.util

from rlkd.config.schema import Tracking
from rlkd.errors import together


def check_trackers(tracking: Tracking) -> None:
    """Every tracker that the config asks for is installed.

    Raises:
        ConfigError: one is not; or a model is to be kept by W&B, which is off.
    """
    problems = []
    wanted = {name: "tracking.also" for name in tracking.also}
    if tracking.wandb != "disabled":
        wanted["wandb"] = "tracking.wandb"
    for package, place in wanted.items():
        if importlib.util.find_spec(package) is None:
            problems.append(
                f"{place}: {package} is asked for, and is not installed.\n"
                f"  do: pip install {package} (or 'rlkd[trackers]'), or leave it out"
            )
    if tracking.artifact != "none" and tracking.wandb == "disabled" and "trackio" not in wanted:
        problems.append(
            f"tracking.artifact is {tracking.artifact}, and no tracker keeps files: W&B is disabled"
            " and trackio is not in tracking.also.\n"
            "  do: --tracking.wandb offline, or --tracking.artifact none"
        )
    if problems:
        raise together(problems, "tracking")

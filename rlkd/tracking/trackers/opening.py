"""The trackers that a run has, opened when its folder is there."""

from pathlib import Path
from typing import Any

from rlkd import config as configs
from rlkd import folder as folders
from rlkd.config import RunConfig
from rlkd.config.schema import Tracking
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.seeds import group_of
from rlkd.tracking.trackers.outbox import Outbox
from rlkd.tracking.trackers.tensor_board import TensorBoardTracker
from rlkd.tracking.trackers.track_io import TrackioTracker
from rlkd.tracking.trackers.tracker import RunInfo, Tracker
from rlkd.tracking.trackers.weights_and_biases import WandbTracker


def open_trackers(tracking: Tracking, info: RunInfo, numbers: Path) -> list[Outbox]:
    """A queue to each tracker that the config asks for; none of them is waited for.

    Args:
        numbers: the run's metrics.jsonl.
    """
    trackers: list[Tracker] = []
    if tracking.wandb != "disabled":
        # Every line of metrics is at most three rows there: tables and charts are rows too, and
        # there are fewer of either than lines. One line may be missing after a kill.
        first = 3 * (_lines_of_all_attempts(info.folder) + 1) if info.attempt > 1 else 0
        trackers.append(WandbTracker(info, tracking.wandb, first))
    others = {"trackio": TrackioTracker, "tensorboard": TensorBoardTracker}
    trackers += [others[name](info) for name in dict.fromkeys(tracking.also)]
    return [Outbox(tracker, str(numbers)) for tracker in trackers]


def open_logger(config: RunConfig, about: dict[str, Any], attempt: int, step: int) -> RunLogger:
    """The run's metrics.jsonl and its trackers.

    Args:
        about: what run.json says.
        attempt: 1, and one more each time the run is resumed.
        step: optimiser steps that were done before this attempt.
    """
    tracking = config.tracking
    resolved = configs.resolved(config).model_dump(mode="json")
    info = RunInfo(
        config.folder, config.run.name, tracking.project, tracking.group or group_of(resolved),
        tracking.job_type, resolved, folders.code(about), about["wandb_id"], attempt, step,
    )  # fmt: skip
    outboxes = open_trackers(tracking, info, config.folder / "metrics.jsonl")
    return RunLogger(config.folder, outboxes, attempt)


def _lines_of_all_attempts(folder: Path) -> int:
    files = [folder / "metrics.jsonl", *folder.glob("discarded/*/metrics.jsonl")]
    return sum(path.read_bytes().count(b"\n") for path in files if path.is_file())

"""Who watches a run: its first batch, every step's numbers, every update; and what may end it."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlkd.config import ConfigError, RunConfig
from rlkd.geometry import geometry
from rlkd.launch import Launch
from rlkd.liveness.watch import Watch, beat_on_forward
from rlkd.resume import Resumption
from rlkd.rewarding.setup import FaultStop
from rlkd.teacher.base import TeacherError
from rlkd.tracking import progress
from rlkd.tracking.alarms import RULES
from rlkd.tracking.alarms.first_batch import FirstBatch
from rlkd.tracking.alarms.watch import Alarms
from rlkd.tracking.callback import LogCallback
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.store import RolloutStore
from rlkd.trainer import Trainer
from rlkd.training.finite import NotFiniteStop
from rlkd.training.stopped import Broken
from rlkd.training.stopping import StopSignals


@dataclass(frozen=True)
class Stops:
    """What may end the training before its last step."""

    faults: FaultStop
    signals: StopSignals
    unsound: NotFiniteStop


def watch(
    trainer: Trainer,
    config: RunConfig,
    launch: Launch,
    logger: RunLogger | None,
    resumption: Resumption | None,
    store: RolloutStore,
) -> NotFiniteStop:
    """Have all three looked at; callbacks that come later see their steps after this one's.

    Args:
        store: keeps rollouts that a person must see.
    """
    alarms = None
    if logger is not None:
        alarms = Alarms(
            config.folder, RULES, logger.alert, limit=config.sampling.max_completion_length,
            verifiable=config.rewards[0].label, attempt=store.attempt,
        )  # fmt: skip
        shown = progress.choose(config.tracking.progress)
        trainer.add_callback(LogCallback(logger, alarms, shown))
    trainer.pieces.add("alarms", alarms)

    def keep() -> Path | None:
        return store.keep(trainer.last_rollouts) if trainer.last_rollouts is not None else None

    trainer.on_batch = FirstBatch(
        config.run.first_batch if resumption is None else "off",
        store.keep,
        (lambda name, message, kind: alarms.tell(name, 0, message, kind)) if alarms else None,
        world_size=launch.world_size,
        expected=geometry(config.batch, launch.world_size).rows_per_generation // launch.world_size,
        limit=config.sampling.max_completion_length,
        cut_is_masked=bool(config.trl.get("mask_truncated_completions")),
    )
    unsound = NotFiniteStop(config, keep, alarms)
    trainer.on_not_finite = unsound.left_out
    trainer.add_callback(unsound)
    return unsound


def alive(trainer: Trainer, config: RunConfig, launch: Launch) -> Watch:
    """Who sees whether this rank gets on, and ends it where it cannot; every rank calls."""
    session = trainer.gather_rows([secrets.token_hex(4)])[0]
    if not trainer.args.torch_compile:  # a compiled model would be compiled with it
        model = trainer.accelerator.unwrap_model(trainer.model)
        beat_on_forward(model, trainer.phases)
    return Watch(
        config.folder, launch.rank, launch.world_size, trainer.phases, session,
        stacks_after_s=config.run.stacks_after_s, abort_after_s=config.run.abort_after_s,
    )  # fmt: skip


def run(trainer: Trainer, resumption: Resumption | None, unsound: NotFiniteStop) -> None:
    """Train.

    Raises:
        ConfigError: the teacher fails before anything is learnt.
        Broken: it fails later.
    """
    try:
        trainer.train(resumption.checkpoint if resumption is not None else None)
    except TeacherError as error:
        if trainer.state.global_step == 0:  # the check at the start, or not one good score
            raise ConfigError(f"teacher: {error}") from error
        raise Broken(unsound.of_teacher(error, trainer.state.global_step)) from error
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, LogCallback):
                callback.close()


def why_ended(
    trainer: Trainer, stops: Stops
) -> Literal["signal", "faults", "nan", "all steps", "early stop"]:
    """Why the training ended, for run.json."""
    if stops.signals.exit_code:
        return "signal"
    if stops.faults.complaint is not None:
        return "faults"
    if stops.unsound.stopped:
        return "nan"
    done = trainer.state.global_step >= trainer.args.max_steps
    return "all steps" if done else "early stop"

"""What the trainer carries from one step to the next and transformers' checkpoints leave out.

The other half of the seam to TRL (rlkd/trainer.py): it reads and writes attributes of TRL's
trainer, by name, and imports nothing of it. Two traps of TRL 1.16 and transformers 5.23 lie here.
A resumed GRPOTrainer has forgotten the rollouts drawn and not used yet, and that it is in the
middle of them: it would draw new ones. And its sampler shuffles every epoch with one generator,
which a resumed run starts anew: in its second epoch it would give the rows of the first.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import send_to_device
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.checkpoints import manifest
from rlkd.checkpoints.manifest import Checkpoint, CheckpointError
from rlkd.tracking.rollouts import Rollouts

_LOSS_WINDOW = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged")


class Carried:
    """A piece: the rollouts in use, the place in them, metrics not logged yet, the shuffling.

    Args:
        trainer: a rlkd.trainer.Trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state(self) -> dict[str, Any]:
        """See Piece."""
        trainer = self._trainer
        rollouts = trainer._open_rollouts
        return {
            "microbatches": trainer._step,
            "buffered": trainer._buffered_inputs,
            "open_rollouts": dataclasses.asdict(rollouts) if rollouts is not None else None,
            "metrics": {mode: dict(values) for mode, values in trainer._metrics.items()},
            "means": {mode: means.state() for mode, means in trainer._means.items()},
            "logs": _plain_logs(trainer._logs),
            "loss_window": {name: getattr(trainer, name) for name in _LOSS_WINDOW},
            "teacher_check": trainer._teacher_check,
            "rows": _sampled_rows(trainer._sampler),
        }

    def restore(self, state: dict[str, Any]) -> str:
        """See Piece."""
        trainer = self._trainer
        device = trainer.accelerator.device
        trainer._step = state["microbatches"]
        trainer._buffered_inputs = send_to_device(state["buffered"], device)
        rollouts = state["open_rollouts"]
        trainer._open_rollouts = Rollouts(**rollouts) if rollouts is not None else None
        for mode, values in state["metrics"].items():
            trainer._metrics[mode].update(values)
        for mode, means in state["means"].items():
            trainer._means[mode].restore(send_to_device(means, device))
        _restore_logs(trainer._logs, state["logs"])
        for name, value in state["loss_window"].items():
            setattr(trainer, name, send_to_device(value, device))
        trainer._teacher_check = state["teacher_check"]
        epochs = _replay_shuffles(trainer._sampler, state["rows"], trainer.state.epoch)
        return f"in epoch {epochs + 1}; {self._describe_rollouts()}"

    def _describe_rollouts(self) -> str:
        trainer = self._trainer
        args = trainer.args
        place = trainer._step % (args.steps_per_generation * trainer.num_iterations)
        if place == 0 or trainer._buffered_inputs is None:
            return "no rollouts were open"
        whole = args.steps_per_generation * trainer.num_iterations
        rows = sum(len(part["completion_ids"]) for part in trainer._buffered_inputs)
        return (
            f"{rows} rollouts a process were drawn and are in use: micro-batch {place} of {whole}"
        )


class RestoreCallback(TrainerCallback):
    """Restores the pieces of a checkpoint before the first step after it. The first callback."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.checkpoint: Checkpoint | None = None
        """What the training that begins next resumes from."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        checkpoint, self.checkpoint = self.checkpoint, None
        if checkpoint is None:
            return
        # transformers takes the checkpoint's intervals for those of this run's arguments.
        state.compute_steps(args, state.max_steps)
        rank = self._trainer.accelerator.process_index
        said = self._trainer.pieces.restore(checkpoint, rank)
        if self._trainer.on_resumed is not None:
            self._trainer.on_resumed(checkpoint, said)


def find(trainer: Any, wanted: str | bool | None, warn: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint that `train(resume_from_checkpoint=wanted)` means, if this run can use it.

    Raises:
        CheckpointError: there is none, it is not whole, or this run cannot continue it.
    """
    if not wanted:
        return None
    main = trainer.accelerator.is_main_process
    if wanted is not True:
        path = Path(cast(str, wanted))
    else:
        folder = Path(trainer.args.output_dir)
        newest = manifest.newest(folder, warn) if main else None
        path = trainer.gather_rows([newest.path if newest is not None else None])[0]
        if path is None:
            raise CheckpointError(f"{folder} holds no whole checkpoint to resume from")
    # One rank reads every byte; the others look whether the files are there.
    chosen = manifest.verify(path) if main else manifest.read(path)
    check_usable(chosen, trainer.accelerator.num_processes)
    check_spread(chosen, trainer.is_fsdp_enabled, trainer.is_deepspeed_enabled)
    trainer.pieces.check(chosen)
    return chosen


def check_spread(checkpoint: Checkpoint, fsdp: bool, deepspeed: bool) -> None:
    """Are the weights and the optimiser in it spread over processes as this launch spreads them?

    Raises:
        CheckpointError: they are not.
    """
    names = checkpoint.manifest.files
    written = "DDP or one process"
    if any(name.startswith("pytorch_model_fsdp") for name in names):
        written = "FSDP"
    elif any(name.startswith("global_step") for name in names):
        written = "DeepSpeed"
    here = "FSDP" if fsdp else "DeepSpeed" if deepspeed else "DDP or one process"
    if written != here:
        raise CheckpointError(
            f"{checkpoint.path} was written under {written}, and this launch is {here}.\n"
            "  why: the optimiser's states are kept otherwise there\n"
            "  do: launch as before; rlkd export takes its weights out for a new run"
        )


def check_usable(checkpoint: Checkpoint, processes: int) -> None:
    """Can so many processes continue it?

    Raises:
        CheckpointError: other processes wrote it, or transformers' own part is not there.
    """
    found = checkpoint.manifest
    if found.processes != processes:
        raise CheckpointError(
            f"{checkpoint.path} was written by {found.processes} process(es) and this launch has"
            f" {processes}.\n"
            "  why: each rank continues its own random numbers and its own rollouts\n"
            f"  do: launch as before, torchrun --nproc_per_node {found.processes} …"
        )
    ranks = [f"rng_state_{rank}.pth" for rank in range(processes)]
    for what, names in {
        "the trainer's state": ["trainer_state.json"],
        "the scheduler": ["scheduler.pt"],
        "the random numbers of each rank": ranks if processes > 1 else ["rng_state.pth"],
    }.items():
        for name in names:
            if name not in found.files:
                raise CheckpointError(
                    f"{checkpoint.path} cannot be resumed from: it was written without {what}"
                    f" ({name}), so that it holds a model only"
                )
    if not any(name.startswith(("optimizer", "global_step")) for name in found.files):
        raise CheckpointError(
            f"{checkpoint.path} cannot be resumed from: it was written without the optimiser"
        )


def _sampled_rows(sampler: Any) -> int | None:
    return getattr(sampler, "num_samples", None)


def _replay_shuffles(sampler: Any, rows: int | None, epoch: float) -> int:
    """Bring the sampler's generator to where the epoch in progress began; returns its number."""
    if _sampled_rows(sampler) != rows:
        raise CheckpointError(
            f"the data has {_sampled_rows(sampler)} training rows and had {rows} when the"
            " checkpoint was written: the place in it would mean nothing"
        )
    whole = int(epoch)
    if rows is not None and sampler.shuffle:
        for _ in range(whole):
            torch.randperm(rows, generator=sampler.generator)
    return whole


def _plain_logs(logs: dict[str, Any]) -> dict[str, Any]:
    """TRL's window of completions for its own table, without images."""
    plain = {name: list(logs[name]) for name in ("prompt", "completion", "advantages")}
    nested = {name: {k: list(v) for k, v in logs[name].items()} for name in ("rewards", "extra")}
    return plain | nested


def _restore_logs(logs: dict[str, Any], state: dict[str, Any]) -> None:
    for name, values in state.items():
        if isinstance(values, dict):
            for inner, column in values.items():
                logs[name][inner].extend(column)
        else:
            logs[name].extend(values)

"""Updates from a loss or a gradient that is NaN or infinite: left out, and the run stopped.

What the libraries do by themselves (read in transformers 5.23 and torch 2.13): a NaN gradient norm
makes the clip factor NaN, the optimiser writes it into every weight, and the run goes on; the loss
that is logged hides it (`logging_nan_inf_filter` puts 0 in its place), and without that filter the
logged loss stays NaN for ever, since it is reset by `x -= x`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.config import RunConfig
from rlkd.tracking.alarms.learning import LEFT_OUT
from rlkd.tracking.alarms.rule import Message
from rlkd.tracking.alarms.watch import Alarms
from rlkd.training.stopped import Broken


class FiniteUpdates:
    """Mixin before TRL's trainer: leaves out an update whose loss or gradient norm is not finite.

    Guaranteed, and seen on one process and on two (DDP, tests/e2e/test_alarms.py; FSDP2,
    tests/e2e/test_many_processes.py; gloo): no weight and no state of the optimiser changes at that
    step, on any rank; the step is counted, and the learning rate's schedule and the data go on. A
    gradient scaler (float16) leaves out such updates by itself and is left alone. DeepSpeed steps
    inside its backward pass: there nothing can be left out, and the training ends (Broken).
    """

    on_not_finite: Callable[[list[str]], None] | None = None
    """Called on every rank with what was not finite (loss, gradient) when an update was left out.
    None: transformers' own behaviour, see above."""
    _broken_losses: Any = 0

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = cast(Any, super()).training_step(*args, **kwargs)
        if self.on_not_finite is not None:
            self._broken_losses = self._broken_losses + ~loss.isfinite().all()
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        # The last thing before the optimiser's step at which the norm over all ranks is known.
        norm = cast(Any, super())._get_grad_norm(model, grad_norm=grad_norm)
        if isinstance(norm, DTensor):  # FSDP2: each rank holds a part of every gradient
            norm = norm.full_tensor()
        losses, self._broken_losses = self._broken_losses, 0
        accelerator = cast(Any, self).accelerator
        if self.on_not_finite is None or getattr(accelerator, "scaler", None) is not None:
            return norm
        norm_0 = torch.as_tensor(norm, device=accelerator.device)
        broken = torch.stack(
            [torch.as_tensor(losses, device=norm_0.device) > 0, ~norm_0.isfinite()]
        )
        # A loss is this rank's own: all must decide alike.
        loss, gradient = accelerator.reduce(broken.float(), reduction="sum").tolist()
        if loss or gradient:
            names = [n for n, k in (("loss", loss), ("gradient", gradient)) if k]
            if str(accelerator.distributed_type).endswith("DEEPSPEED"):
                self.on_not_finite(names)
                raise Broken(_made_already(names, cast(Any, self).state.global_step + 1))
            model.zero_grad(set_to_none=True)  # the optimiser passes over what has no gradient
            self._loss_is_broken = bool(loss)
            cast(Any, self)._metrics["train"][LEFT_OUT].append(1.0)
            self.on_not_finite(names)
        return norm

    _loss_is_broken = False

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if self._loss_is_broken and "loss" in logs:
            logs["loss"], self._loss_is_broken = math.nan, False  # not the filter's 0
        cast(Any, super()).log(logs, *args, **kwargs)


def _made_already(broken: list[str], step: int) -> str:
    return (
        f"stopped in step {step}: its {' and '.join(broken)} is NaN or infinite, and DeepSpeed has"
        " made the update already\n"
        "  why: the weights are spoilt, and saving them would spoil the run\n"
        "  do: --resume goes on from the last checkpoint, if there is one; lower"
        " optim.learning_rate or change model.dtype in a new run"
    )


class NotFiniteStop(TrainerCallback):
    """Saves a checkpoint and stops the training after an update was left out (`run.on_nan: stop`).

    Args:
        keep: writes this rank's rollouts of the batch in work; returns the file.
        alarms: None on ranks that tell nothing.
    """

    def __init__(
        self, config: RunConfig, keep: Callable[[], Path | None], alarms: Alarms | None
    ) -> None:
        self._config = config
        self._keep = keep
        self._alarms = alarms
        self._broken: list[str] = []
        self._rollouts: Path | None = None
        self._step = 0

    def left_out(self, broken: list[str]) -> None:
        """Takes the trainer's `on_not_finite`."""
        self._rollouts = self._keep()
        if self._config.run.on_nan == "stop":
            self._broken = broken

    @property
    def stopped(self) -> bool:
        return bool(self._broken)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        if self._broken:
            self._step = state.global_step
            control.should_save = True
            control.should_training_stop = True

    def of_teacher(self, error: Exception, done: int) -> str:
        """The words for a teacher's failure in the step after `done` steps; keeps its rollouts."""
        folder = self._config.folder
        message = Message(
            f"stopped in step {done + 1}: {error}",
            "such scores would train the student on noise, and none of this step was used; the"
            f" rollouts that they are of: {self._keep()}",
            f"mend the teacher, then rlkd train {folder} --resume goes on from the last checkpoint,"
            f" if there is one in {folder}/checkpoints",
        )
        if self._alarms is not None:
            self._alarms.tell("teacher_failed", done, message, "stopped")
        return str(message)

    def raise_if_stopped(self) -> None:
        """Raises Broken if the training was stopped."""
        if self._broken:
            folder, broken = self._config.folder, " and ".join(self._broken)
            raise Broken(
                f"stopped at step {self._step}: its {broken} is NaN or infinite; its update was"
                " left out\n"
                f"  saved: {folder}/checkpoints/checkpoint-{self._step} and {folder}/model, with"
                " weights and optimiser as they were before it; its rollouts:"
                f" {self._rollouts or 'could not be written'}\n"
                "  do: look at the rollouts; lower optim.learning_rate or change model.dtype in a"
                f" new run, or go on without this batch: rlkd train {folder} --resume (--run.on_nan"
                " warn leaves out every such update and goes on)"
            )

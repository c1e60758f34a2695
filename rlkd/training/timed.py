"""What a transformers trainer logs besides: seconds per phase of a step, and memory."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.training.phases import STEP, Phases, in_phase

P = ParamSpec("P")
R = TypeVar("R")


class Timed:
    """Mixin before TRL's trainer, the first one: times what the trainer's own methods do.

    The trainer decorates what it overrides by itself with `in_phase`.
    """

    phases: Phases

    def _start_phases(self) -> None:
        """Among the last things of the trainer's own __init__."""
        this: Any = self
        self.phases = Phases(this.accelerator.device)
        self._logged_at = 0
        this.add_callback(_Marks(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with _seen_collectives(self.phases):
            return cast(Any, super()).train(*args, **kwargs)

    # Rewards, teacher and sampling, which begin in here, have phases of their own.
    @in_phase("score")
    def _prepare_inputs(self, *args: Any, **kwargs: Any) -> Any:
        return cast(Any, super())._prepare_inputs(*args, **kwargs)

    # So does the forward pass.
    @in_phase("backward")
    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        return cast(Any, super()).training_step(*args, **kwargs)

    @in_phase("optimizer")
    def _clip_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        return cast(Any, super())._clip_grad_norm(*args, **kwargs)

    @in_phase("optimizer")
    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        return cast(Any, super())._get_grad_norm(*args, **kwargs)

    # Checkpoints and evaluations have phases of their own; what draws a chart after them has not.
    @in_phase("log")
    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> Any:
        return cast(Any, super())._maybe_log_save_evaluate(*args, **kwargs)

    @in_phase("evaluation")
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        return cast(Any, super()).evaluate(*args, **kwargs)

    @in_phase("save")
    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        return cast(Any, super())._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:  # not an evaluation's, and not the closing summary
            logs |= self._measures()
        cast(Any, super()).log(logs, *args, **kwargs)

    def _measures(self) -> dict[str, float]:
        """Seconds per optimiser step since the last log, mean over ranks; memory in GiB, the
        highest of all ranks. The same on every rank; what is 0 on all is left out."""
        this: Any = self
        step = this.state.global_step
        steps, self._logged_at = max(1, step - self._logged_at), step
        seconds = self.phases.take()
        memory = memory_gib(this.accelerator.device)
        mine = torch.tensor([*seconds.values(), *memory.values()], device=this.accelerator.device)
        of_ranks = this.accelerator.gather(mine.unsqueeze(0))
        means = of_ranks.mean(0).tolist()
        times = dict(zip(seconds, means, strict=False))
        whole = sum(value for name, value in times.items() if name in STEP)
        found = {f"time/{name}": value / steps for name, value in times.items() if value}
        highest = of_ranks[:, len(seconds) :].amax(0).tolist()
        return (
            found
            | {"time/step": whole / steps}
            | {f"memory/{name}": v for name, v in zip(memory, highest, strict=True)}
        )


class _Marks(TrainerCallback):
    """The phases that begin and end in transformers' loop, between its calls of methods."""

    def __init__(self, trainer: Timed) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._trainer.phases.begin()
        self._trainer._logged_at = state.global_step

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._trainer.phases.step = state.global_step + 1

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._trainer.phases.enter("optimizer")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._trainer.phases.leave()


def memory_gib(device: torch.device) -> dict[str, float]:
    """GiB of this process: `resident` (host memory, where /proc tells it) and on a GPU
    `device_peak` (tensors) and `device_reserved` (what the allocator holds), both the most since
    the process began."""
    found = {}
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[1])
        found["resident"] = pages * _page_size() / 2**30
    if device.type == "cuda":
        found["device_peak"] = torch.cuda.max_memory_allocated(device) / 2**30
        found["device_reserved"] = torch.cuda.max_memory_reserved(device) / 2**30
    return found


@functools.cache
def _page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")


_COLLECTIVES = (
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "barrier",
    "broadcast", "broadcast_object_list", "gather_object",
)  # fmt: skip


@contextmanager
def _seen_collectives(phases: Phases) -> Iterator[None]:
    """While it lasts, what Python calls of torch.distributed on this thread is of the phase sync.

    The libraries look these functions up when they call them, and TRL calls some by way of
    functions of accelerate that no method of the trainer stands before. What DDP and FSDP exchange
    inside the backward pass is started from C++ and stays a part of `backward`.
    """
    distributed: Any = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        yield
        return
    real = {name: getattr(distributed, name) for name in _COLLECTIVES}
    try:
        for name, function in real.items():
            setattr(distributed, name, _as_sync(phases, function))
        yield
    finally:
        for name, function in real.items():
            setattr(distributed, name, function)


def _as_sync(phases: Phases, function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        with phases("sync"):
            return function(*args, **kwargs)

    return timed

"""How many processes this run has, and whether that is what was asked for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rlkd.errors import ConfigError


@dataclass(frozen=True)
class Launch:
    """This process among those of the run, as torchrun or accelerate set it up."""

    rank: int
    world_size: int

    @property
    def is_main(self) -> bool:
        """The process that writes what is written once."""
        return self.rank == 0


def read_launch(
    wanted: int | None, env: Mapping[str, str] | None = None, gpus: int | None = None
) -> Launch:
    """The launch of this process.

    Args:
        wanted: the number of processes that the config asserts (`run.processes`); None: any.
        env: None: this process's environment.
        gpus: GPUs that this process can see; 0: the run is on the CPU; None: they are counted.

    Raises:
        ConfigError: the number differs from what the config or the launcher's command asked for;
            processes of this machine would have to share a GPU.
    """
    env = os.environ if env is None else env
    launch = Launch(int(env.get("RANK", "0")), int(env.get("WORLD_SIZE", "1")))
    if wanted is not None and wanted != launch.world_size:
        raise ConfigError(
            f"run.processes: {wanted} processes are wanted and this launch has "
            f"{launch.world_size}.\n"
            "  why: the batch would be cut differently from what was planned\n"
            f"  do: torchrun --nproc_per_node {wanted} scripts/train.py CONFIG, or on GPUs:\n"
            f"      accelerate launch --num_processes {wanted} scripts/train.py CONFIG"
        )
    # accelerate's launcher for one process (which `--cpu` always takes) names a meeting point
    # when it was asked for several, then starts one and says nothing.
    asked_for_several = "ACCELERATE_MIXED_PRECISION" in env and "MASTER_PORT" in env
    if wanted is None and asked_for_several and "WORLD_SIZE" not in env:
        raise ConfigError(
            "launch: accelerate was asked for several processes and started one.\n"
            "  why: `accelerate launch --cpu --num_processes N` has no launcher of its own for a "
            "CPU\n"
            "  do: torchrun --nproc_per_node N scripts/train.py CONFIG; or, if one process is "
            "what you want, --run.processes 1"
        )
    _check_gpus(int(env.get("LOCAL_WORLD_SIZE", "1")), env.get("CUDA_VISIBLE_DEVICES"), gpus)
    return launch


def _check_gpus(here: int, visible: str | None, gpus: int | None) -> None:
    if here == 1:
        return  # torch need not be loaded
    if gpus is None:
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 < gpus < here:
        return
    said = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
    raise ConfigError(
        f"launch: {here} processes were started on this machine, which shows them {gpus} GPU"
        f"{'s' * (gpus > 1)}{said}.\n"
        "  why: each process takes a GPU of its own; the others would find none\n"
        f"  do: start {gpus} here (--num_processes, --nproc_per_node), or show them more GPUs;"
        " CUDA_VISIBLE_DEVICES='' runs on the CPU"
    )


def check_joined(processes: int, env: Mapping[str, str] | None = None) -> None:
    """Do the processes that were launched train together?

    Args:
        processes: that the trainer's arguments know of.
        env: None: this process's environment.

    Raises:
        ConfigError: each would train alone, into the same folder.
    """
    launched = int((os.environ if env is None else env).get("WORLD_SIZE", "1"))
    if launched > 1 and processes == 1:
        raise ConfigError(
            f"launch: {launched} processes were started, and this one knows of no other.\n"
            "  why: each would train a model of its own into the same folder; without GPUs"
            " accelerate joins them only when it is told to use the CPU\n"
            "  do: GRPOConfig(use_cpu=True, …)"
        )

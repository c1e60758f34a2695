"""A trainer whose student is spread over the processes (FSDP2, DeepSpeed ZeRO): what it refuses
before anything is loaded, and whether accelerate does what the launch asked for."""

from collections.abc import Sequence
from typing import Any, cast

from rlkd.algorithms.schedule import Schedule
from rlkd.errors import ConfigError, together
from rlkd.sharding import Sharding, complaints, read_sharding
from rlkd.teacher.base import Teacher
from rlkd.teacher.local import LocalTeacher


def sharding_of(
    args: Any, schedule: Schedule, teacher: Any, environment: object
) -> Sharding | None:
    """What the launch asked for, if this trainer can work with it.

    Args:
        args: a GRPOConfig.
        teacher: as of Trainer.
        environment: tools, or what makes environments; None: none.

    Raises:
        ConfigError: (a ValueError) it cannot; every combination is named.
    """
    for name in ("fsdp", "deepspeed"):
        if getattr(args, name):
            raise ConfigError(
                f"args.{name} is set: what cannot work there is known by what the launch says.\n"
                "  do: accelerate launch --config_file configs/accelerate/fsdp2.yaml, or one of its"
                " siblings"
            )
    sharding = read_sharding()
    if sharding is None:
        return None
    teachers: list[Any] = []
    if teacher is not None:
        teachers = [teacher if isinstance(teacher, Teacher) else LocalTeacher]
    problems = complaints(
        sharding,
        [phase.algorithm for phase in schedule.phases],
        teachers,
        environment=bool(environment),
        continuous_batching=args.use_transformers_continuous_batching,
        goes_on_after_nan=False,
    )
    if problems:
        raise together(problems, "launch")
    return sharding


def check_in_force(sharding: Sharding | None, accelerator: Any) -> None:
    """Is the student spread as the launch asked? On a CPU accelerate takes no notice of it.

    Raises:
        ConfigError: it is not.
    """
    state = accelerator.state
    kind = str(accelerator.distributed_type).rpartition(".")[2]
    wanted = None if sharding is None else "DEEPSPEED" if sharding.is_deepspeed else "FSDP"
    found = kind if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP") else None
    if found == wanted:
        return
    if wanted is None:
        raise ConfigError(
            f"launch: accelerate spreads the student over the processes ({kind}), and nothing in"
            " the environment says so: what cannot work there was not checked.\n"
            "  do: accelerate launch --config_file configs/accelerate/fsdp2.yaml, or DDP"
        )
    why = "on a CPU, or with one process, it takes no notice" if str(state.device) == "cpu" else ""
    raise ConfigError(
        f"launch: {cast(Sharding, sharding).kind} was asked for, and accelerate made {kind} of"
        f" {accelerator.num_processes} process(es) on {state.device} of it.\n"
        f"  why: {why or 'with one process there is nothing to spread'}\n"
        "  do: several GPUs, or configs/accelerate/ddp.yaml, single.yaml or torchrun"
    )


def fill(share: Sequence[Any], rows: Sequence[Any], processes: int) -> list[Any]:
    """Rows that a rank answers beside its share of `rows` and that nobody counts, so that all ranks
    make the same number of passes: one where another rank has a row more, else none."""
    longest = -(-len(rows) // processes)
    return [rows[0]] * (longest - len(share))

"""Launches that spread the student over the processes, and what cannot work there.

FSDP and DeepSpeed ZeRO are the launch's: accelerate's configuration tells every process through its
environment, and nothing of it stands in a run's config. What a rule below names, and why it cannot
work, was read in accelerate 1.15, transformers 5.23 and TRL 1.16; what is let through was run on a
CPU with gloo (tests/e2e/test_many_processes.py, test_deepspeed.py), never on GPUs.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlkd.config.teacher import teacher_classes
from rlkd.errors import ConfigError, together

if TYPE_CHECKING:
    from rlkd.config import RunConfig

Kind = Literal["FSDP1", "FSDP2", "ZeRO-1", "ZeRO-2", "ZeRO-3"]

_CONFIGS = "configs/accelerate"
_DDP = f"launch with {_CONFIGS}/ddp.yaml or torchrun"

_UNEQUAL = (
    "each process makes another number of passes, each of which is an act of all together: they"
    " would wait for each other for ever"
)


@dataclass(frozen=True)
class Sharding:
    """What the processes share out among them."""

    kind: Kind
    """FSDP2, ZeRO-3: weights, gradients and the optimiser's state; ZeRO-2: gradients and state."""
    writes_model: bool = True
    """Does a whole model come out at the end? Not where each rank saves its own part."""

    @property
    def splits_weights(self) -> bool:
        """Does a rank hold a part of each weight only? Then every forward pass is an act of all
        ranks together, and each must make as many as the others."""
        return self.kind in ("FSDP1", "FSDP2", "ZeRO-3")

    @property
    def is_deepspeed(self) -> bool:
        """DeepSpeed takes the optimiser's step inside its backward pass."""
        return self.kind.startswith("ZeRO")


def read_sharding(env: Mapping[str, str] | None = None) -> Sharding | None:
    """What `accelerate launch` asked for; None: every process holds all (DDP, or one process).

    Args:
        env: None: this process's environment.

    Raises:
        ConfigError: the DeepSpeed configuration that it names cannot be read.
    """
    env = os.environ if env is None else env
    if _is_on(env, "ACCELERATE_USE_DEEPSPEED"):
        return _read_deepspeed(env)
    if _is_on(env, "ACCELERATE_USE_FSDP"):
        version = env.get("FSDP_VERSION", "1")
        kind = env.get("FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT").upper()
        return Sharding("FSDP2" if version == "2" else "FSDP1", kind == "FULL_STATE_DICT")
    return None


def _is_on(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "false").lower() in ("true", "1")


def _read_deepspeed(env: Mapping[str, str]) -> Sharding | None:
    stage = int(env.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    gathers = _is_on(env, "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL")
    path = env.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if path != "none":
        try:
            said = json.loads(Path(path).read_text(encoding="utf-8"))["zero_optimization"]
            stage = int(said["stage"])
            gathers = bool(said.get("stage3_gather_16bit_weights_on_model_save", False))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"launch: the DeepSpeed configuration {path} does not say its ZeRO stage:"
                f" {error!r}\n  do: take {_CONFIGS}/deepspeed_zero2.yaml or deepspeed_zero3.yaml"
            ) from error
    return {
        0: None,
        1: Sharding("ZeRO-1"),
        2: Sharding("ZeRO-2"),
        3: Sharding("ZeRO-3", writes_model=gathers),
    }[stage]


def check_sharding(config: "RunConfig", env: Mapping[str, str] | None = None) -> None:
    """Can this run be launched so? Before data or weights are loaded.

    Raises:
        ConfigError: one error with everything that cannot work, naming the combination.
    """
    env = os.environ if env is None else env
    problems = _mixed_precision(config.model.dtype, env)
    sharding = read_sharding(env)
    if sharding is not None:
        algorithm = config.build_algorithm()
        phases = getattr(algorithm, "phases", None)
        algorithms = [phase.algorithm for phase in phases] if phases else [algorithm]
        teachers = teacher_classes(config.teacher) if config.teacher is not None else []
        problems += complaints(
            sharding,
            algorithms,
            teachers,
            environment=config.environment is not None,
            continuous_batching=config.generation.backend == "continuous_batching",
            goes_on_after_nan=config.run.on_nan == "warn",
        )
        if sharding.is_deepspeed and find_spec("deepspeed") is None:
            problems.append(
                f"launch: {sharding.kind} was asked for, and the package deepspeed is missing.\n"
                "  do: pip install deepspeed"
            )
    if problems:
        raise together(problems, "launch")


def _mixed_precision(dtype: str, env: Mapping[str, str]) -> list[str]:
    """transformers takes the launch's mixed precision where the run asks for none."""
    said = env.get("ACCELERATE_MIXED_PRECISION", "no")
    own = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype, "no")
    if said in ("no", own):
        return []
    return [
        f"launch: accelerate was told mixed precision {said}, and model.dtype is {dtype}.\n"
        "  why: both would hold, and the run's config would not say what was computed\n"
        "  do: set mixed_precision: 'no' in accelerate's configuration (model.dtype decides), or"
        f" model.dtype to what {said} is"
    ]


def complaints(
    sharding: Sharding,
    algorithms: Iterable[Any],
    teachers: Sequence[Any],
    *,
    environment: bool,
    continuous_batching: bool,
    goes_on_after_nan: bool,
) -> list[str]:
    """Everything of a run that cannot work with this sharding, in words.

    Args:
        algorithms: of all phases.
        teachers: classes or instances, the teacher and those inside it.
        environment: is there a tool environment?
        continuous_batching: does transformers' continuous batching generate?
        goes_on_after_nan: shall the run go on after an update that was not finite?
    """
    kind, found = sharding.kind, []

    def refuse(what: str, why: str, do: str) -> None:
        found.append(f"{what} under {kind}: this cannot work.\n  why: {why}\n  do: {do}")

    if kind == "FSDP1":
        refuse("a run", "only FSDP2 was tried", f"fsdp_version: 2, as in {_CONFIGS}/fsdp2.yaml")
    if not sharding.writes_model:
        key = "zero3_save_16bit_model: true"
        if not sharding.is_deepspeed:
            key = "fsdp_state_dict_type: FULL_STATE_DICT"
        why = "each process would save its own part of the weights, and no model/ would be written"
        refuse("the final model", why, f"{key}, as in {_CONFIGS}")
    if sharding.is_deepspeed and goes_on_after_nan:
        why = "DeepSpeed steps inside its backward pass: an update from NaN cannot be left out"
        refuse("run.on_nan: warn", why, f"--run.on_nan stop, or {_DDP}")
    for name in dict.fromkeys(type(a).__name__ for a in algorithms if a.needs_distribution):
        why = "its loss reads the student's head whole, and a rank may hold a part of it"
        refuse(name, why, f"{_DDP}; or an algorithm that learns from sampled tokens (RLAD)")
    if sharding.splits_weights:
        for name in dict.fromkeys(_name(t) for t in teachers if t.shares_student):
            why = f"it scores with the student's weights, which are spread out, and {_UNEQUAL}"
            refuse(f"teacher {name}", why, f"{_DDP}; or a teacher of its own (teacher.path)")
        if environment:
            refuse("environment", f"rollouts take unequal numbers of turns, and {_UNEQUAL}", _DDP)
        if continuous_batching:
            do = f"generation.backend: transformers, or {_DDP}"
            refuse("generation.backend: continuous_batching", _UNEQUAL, do)
    return found


def _name(teacher: Any) -> str:
    return teacher.__name__ if isinstance(teacher, type) else type(teacher).__name__

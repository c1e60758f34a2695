"""Who owns the objective: the algorithm does, and TRL's arguments may not say otherwise.

Works on any object with GRPOConfig's attributes, so that only `rlkd.trainer` knows TRL.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from rlkd.algorithms.base import Algorithm
from rlkd.algorithms.grpo import GRPO
from rlkd.algorithms.schedule import Schedule
from rlkd.objectives.reduce import REDUCTIONS

_SCALE_TO_TRL = {"population_std": "group", "sample_std": "group", "none": "none"}


def _owned(algorithm: Algorithm) -> dict[str, tuple[str, Any]]:
    """TRL field -> (the algorithm's field that says it instead, its value in TRL's words)."""
    owned = {
        "beta": "beta",
        "epsilon": "clip_low",
        "epsilon_high": "clip_high",
        "delta": "dual_clip",
        "loss_type": "reduction",
        "importance_sampling_level": "ratio_level",
        "use_bias_correction_kl": "kl_correction",
        "scale_rewards": "advantage_scale",
    }
    values = {
        name: getattr(algorithm, own) for name, own in owned.items() if hasattr(algorithm, own)
    }
    if "scale_rewards" in values:
        values["scale_rewards"] = _SCALE_TO_TRL[values["scale_rewards"]]
    return {name: (owned[name], value) for name, value in values.items()}


def hand_over(args: Any, schedule: Schedule, defaults: Mapping[str, Any]) -> None:
    """Write the first algorithm's settings into TRL's arguments, so that what TRL logs, and the
    reference model it keeps, are true; refuse arguments that say something else than any phase."""
    ends = [end for phase in schedule.phases for end in phase.ends]
    for algorithm in ends:
        for name, (own, value) in _owned(algorithm).items():
            given = getattr(args, name)
            if given not in (defaults[name], value):
                raise ValueError(
                    f"args.{name} is {given!r}, but the objective is the algorithm's: set it as "
                    f"{type(algorithm).__name__}({own}=...), which is {value!r} now"
                )
    for name, (_, value) in _owned(ends[0]).items():
        setattr(args, name, value)
    args.beta = schedule.beta


def algorithm_of(args: Any) -> GRPO:
    """The GRPO that TRL's own arguments describe."""
    if args.loss_type not in REDUCTIONS:
        raise ValueError(
            f"args.loss_type is {args.loss_type!r}; rlkd's GRPO knows {', '.join(REDUCTIONS)}"
        )
    if args.scale_rewards not in ("group", "none"):
        raise ValueError(
            f"args.scale_rewards is {args.scale_rewards!r}; rlkd scales by group or not at all"
        )
    return GRPO(
        beta=args.beta,
        clip_low=args.epsilon,
        clip_high=args.epsilon if args.epsilon_high is None else args.epsilon_high,
        dual_clip=args.delta,
        advantage_scale="sample_std" if args.scale_rewards == "group" else "none",
        reduction=cast(Any, args.loss_type),
        ratio_level=cast(Any, args.importance_sampling_level),
        kl_correction=args.use_bias_correction_kl,
    )


def check_teacher(
    schedule: Schedule, teacher: Any, check: str, overlap: str, on_bad_scores: str
) -> None:
    """A teacher is given where an algorithm learns from one, and only there; so is how it is
    asked."""
    title = schedule.title
    if schedule.needs_teacher and teacher is None:
        raise ValueError(
            f"{title} learns from a teacher and none was given; pass "
            "teacher= (a path, a model or a rlkd.teacher.Teacher)"
        )
    if teacher is not None and not schedule.needs_teacher:
        raise ValueError(
            f"{title} has no use for a teacher; its scores would cost a forward pass per step for "
            "nothing. Leave teacher= out, or choose an algorithm that learns from one"
        )
    if check not in ("error", "warn", "off"):
        raise ValueError(f"teacher_check is {check!r}; it is error, warn or off")
    for name, given, default in (
        ("teacher_overlap", overlap, "auto"),
        ("on_bad_scores", on_bad_scores, "stop"),
    ):
        if teacher is None and given != default:
            raise ValueError(
                f"{name} is {given!r}, and {title} asks no teacher for scores of what the student "
                f"samples: it would be ignored. Leave it at {default!r}, or choose an algorithm "
                "that learns from such scores"
            )


def refuse_what_would_be_ignored(args: Any) -> None:
    plain = {
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "use_adaptive_entropy": False,
        "multi_objective_aggregation": "sum_then_normalize",
        "use_liger_kernel": False,
    }
    for name, value in plain.items():
        if getattr(args, name) != value:
            raise ValueError(
                f"args.{name} is {getattr(args, name)!r}; rlkd's loss does not read it, so it "
                f"would be ignored. Leave it at {value!r}"
            )


def weights_for_reference_check(
    model: Any, schedule: Schedule, peft_config: Any
) -> dict[str, Tensor] | None:
    """With beta > 0 TRL loads the reference from the path the model says it came from. A model
    that was changed since would be held to weights that it never had."""
    if schedule.beta == 0.0 or isinstance(model, str) or peft_config is not None:
        return None
    if hasattr(model, "peft_config"):
        return None
    if not model.config._name_or_path:
        raise ValueError(
            f"beta is {schedule.beta}, so a reference model is needed, and TRL loads it from the "
            "path that the student came from; this student has none. Save it and pass the path, "
            "or set beta to 0"
        )
    return {name: weight.detach().cpu() for name, weight in model.named_parameters()}


def check_reference(reference: Any, before: dict[str, Tensor] | None) -> None:
    if before is None or reference is None:
        return
    for name, weight in reference.named_parameters():
        name = name.removeprefix("module.")
        if name in before and not torch.equal(weight.detach().cpu(), before[name]):
            raise ValueError(
                f"the reference model that TRL loaded from {reference.config._name_or_path!r} "
                f"differs from the student as it was given (first in {name}). Save the student "
                "and pass its path, or set beta to 0"
            )


def place_of(reward: str | None, names: list[str]) -> int:
    """Where the reward of that name stands; None: the first."""
    if reward is None:
        return 0
    if reward not in names:
        raise ValueError(f"verifiable is {reward!r}; the rewards are {', '.join(names)}")
    return names.index(reward)

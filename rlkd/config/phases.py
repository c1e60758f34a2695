"""The `algorithm:` and `then:` blocks as one objective: what follows what, and what moves."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from rlkd.config import algorithm as algorithms
from rlkd.config.messages import mismatch
from rlkd.config.schema import AlgorithmBlock, ComponentBlock, SettingsBlock, UntilPlateau
from rlkd.config.teacher import check_unasked
from rlkd.errors import ConfigError, nearest
from rlkd.tracking import glossary

if TYPE_CHECKING:
    from rlkd.algorithms.base import Algorithm
    from rlkd.algorithms.component import Component
    from rlkd.algorithms.schedule import Anneal, Schedule, Staged
    from rlkd.config.run_config import RunConfig


def check_untils(config: "RunConfig") -> None:
    """Is every plateau of a number that this run logs?

    Raises:
        ValueError: one is not: the phase would never end by it.
    """
    for place, block in blocks_of(config).items():
        if not isinstance(block.until, UntilPlateau):
            continue
        name = block.until.plateau
        if name.startswith("train/"):
            if glossary.explain(name) is None:
                known = [key for key in glossary.GLOSSARY if key.startswith("train/")]
                raise ValueError(
                    f"{place}.until.plateau is {name!r}, which no step logs; did you mean "
                    f"{nearest(name, known)}? (rlkd metrics lists them)"
                )
            continue
        if name.removeprefix("eval/") not in config.eval_metrics:
            raise ValueError(
                f"{place}.until.plateau is {name!r}, which no evaluation gives; it gives "
                f"{', '.join(f'eval/{metric}' for metric in config.eval_metrics)}"
            )
        if not config.eval.every:
            raise ValueError(
                f"{place}.until.plateau is {name!r} but eval.every is 0: there is no evaluation "
                "before the last step, and the phase would never end by it; set eval.every"
            )


def blocks_of(config: "RunConfig") -> dict[str, AlgorithmBlock]:
    """The algorithms' blocks by their places."""
    then = {f"then.{place}": block for place, block in enumerate(config.then)}
    return {"algorithm": config.algorithm, **then}


def build(config: "RunConfig") -> "Algorithm | Schedule":
    """See `RunConfig.build_algorithm`."""
    components = config.build_components()
    problems, phases = [], []
    for place, block in blocks_of(config).items():
        try:
            phases.append((block, *build_block(block, components, place)))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    schedule = _schedule(config, phases)
    if schedule.needs_teacher and config.teacher is None:
        use = next(block.use for block, built, _ in phases if _needs_teacher(built))
        raise ConfigError(
            f"teacher: {use} learns from a teacher and there is none.\n"
            "  found: nothing (null)\n"
            "  do: set teacher.path, or use an algorithm without one (rlkd.algorithms.grpo:GRPO)"
        )
    if config.teacher is not None and not schedule.needs_teacher:
        check_unasked(config.teacher, config.algorithm.use)
    try:
        schedule.check(components)
    except ValueError as error:
        raise ConfigError(f"components: {error}") from error
    try:
        schedule.check_steps(config.optim.steps)
    except ValueError as error:
        raise ConfigError(f"algorithm.until: {error}") from error
    for phase in schedule.phases:
        if getattr(phase.algorithm, "dynamic_sampling", False) and config.environment is not None:
            raise ConfigError(
                f"environment: {type(phase.algorithm).__name__} samples dynamically, and an "
                "environment's tools are bound to the rows of a batch before it is drawn.\n"
                "  do: set algorithm.dynamic_sampling to false, or environment to null"
            )
    return schedule if schedule.moves else schedule.phases[0].algorithm


def _schedule(config: "RunConfig", phases: Sequence[tuple[AlgorithmBlock, Any, Any]]) -> Any:
    from rlkd.algorithms.schedule import Phase, Schedule, Staged

    moving = tuple(
        build_moving(block, f"components.{place}")[1]
        for place, block in enumerate(config.components)
    )
    moving = moving if any(moving) else ()
    try:
        for block, built, anneal in phases:
            if not isinstance(built, Staged):
                continue
            if len(phases) > 1 or anneal:
                raise ValueError(
                    f"{block.use} is a schedule itself, and nothing of it moves or stands beside "
                    "others; write its phases as algorithm and then"
                )
            return dataclasses.replace(built.schedule(), components=moving)
        return Schedule(
            tuple(
                Phase(algorithm=built, anneal=anneal, until=_until(block))
                for block, built, anneal in phases
            ),
            moving,
        )
    except ValueError as error:
        raise ConfigError(f"algorithm: {error}") from error


def _until(block: AlgorithmBlock) -> Any:
    from rlkd.algorithms.schedule import Plateau

    if isinstance(block.until, UntilPlateau):
        return Plateau(**block.until.model_dump())
    return block.until


def _needs_teacher(built: "Algorithm | Staged") -> bool:
    from rlkd.algorithms.schedule import schedule_of

    return schedule_of(built).needs_teacher


def build_block(
    block: AlgorithmBlock, components: "Sequence[Component]", place: str
) -> "tuple[Algorithm | Staged, dict[str, Anneal]]":
    """The algorithm of a block as it is at the phase's first step, and its fields that move.

    Raises:
        ConfigError: see `RunConfig.build_algorithm`.
    """
    kind = algorithms.algorithm_class(block.use, place)
    known = {field.name for field in dataclasses.fields(kind)}
    defaults = {name: v for c in components for name, v in c.algorithm_defaults.items()}
    return _build_moving(block, kind, {n: v for n, v in defaults.items() if n in known}, place)


def build_components(blocks: Sequence[ComponentBlock]) -> "tuple[Component, ...]":
    """See `RunConfig.build_components`."""
    return tuple(build_moving(block, f"components.{i}")[0] for i, block in enumerate(blocks))


def build_moving(block: ComponentBlock, place: str) -> "tuple[Component, dict[str, Anneal]]":
    """The component of a block as it is at the first step, and its fields that move.

    Raises:
        ConfigError: see `RunConfig.build_components`.
    """
    return _build_moving(block, algorithms.component_class(block.use, place), {}, place)


def _build_moving(
    block: SettingsBlock, kind: type, defaults: dict[str, Any], place: str
) -> tuple[Any, Any]:
    settings, anneals = split(kind, block.settings, defaults, place)
    built = algorithms.build(kind, settings, block.use, place)
    if anneals:
        from rlkd.algorithms.schedule import moved

        try:
            moved(built, anneals, 1, 1)
        except ValueError as error:
            raise ConfigError(f"{place} ({block.use}): {error}") from error
    return built, anneals


def split(
    kind: type, settings: dict[str, Any], defaults: dict[str, Any], place: str
) -> "tuple[dict[str, Any], dict[str, Anneal]]":
    """The settings at the first step, and what moves: a block in the place of a number.

    Args:
        defaults: values in place of the dataclass's own defaults.

    Raises:
        ConfigError: a block has an unknown key, a wrong type, or no value to start from.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    found, anneals = defaults | settings, {}
    for name, value in settings.items():
        if not isinstance(value, dict) or not _takes_number(hints.get(name)):
            continue
        from rlkd.algorithms.schedule import Anneal

        rest = {key: inner for key, inner in value.items() if key != "from"}
        start = value.get("from", defaults.get(name, fields[name].default))
        if not isinstance(start, (int, float)) or isinstance(start, bool):
            shown = None if start is dataclasses.MISSING else start
            doc = "The value at the first step; without it the field's default."
            raise ConfigError(mismatch(f"{place}.{name}.from", shown, "a number", doc))
        anneals[name] = algorithms.build(Anneal, rest, "a number that moves", f"{place}.{name}")
        found[name] = start
    return found, anneals


def _takes_number(hint: Any) -> bool:
    kinds = set(typing.get_args(hint)) or {hint}
    return float in kinds and kinds <= {float, int, type(None)}


def written_out(built: Any, anneals: "dict[str, Anneal]") -> dict[str, Any]:
    """The fields of a block with their defaults, as a config holds them."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(built):
        if field.init:
            value: Any = getattr(built, field.name)
            is_block = dataclasses.is_dataclass(value)  # a plateau
            values[field.name] = dataclasses.asdict(cast(Any, value)) if is_block else value
    for name, anneal in anneals.items():
        values[name] = {"from": values[name], **dataclasses.asdict(anneal)}
    return values

"""The `teacher:` block: checked at the door, built when the run begins."""

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

import rlkd.teacher
from rlkd.config.arguments import check_types, hints_of, may_be_teacher, may_name_teachers
from rlkd.config.messages import explain
from rlkd.config.schema import OtherTeacher, Teacher
from rlkd.errors import ConfigError, brief
from rlkd.refs import check_arguments, raised_in, resolve
from rlkd.teacher.folder import check_device_map, check_whole_model

if TYPE_CHECKING:
    from rlkd.teacher import base


def check_teacher(
    block: Teacher | OtherTeacher, check_folder: Callable[[str, str], Path], place: str = "teacher"
) -> None:
    """What can be known without weights: folders, the class, the names of its arguments.

    Args:
        block: the block, or one of those inside it.
        check_folder: gets path and place; the folder, or ConfigError where it holds no model.
        place: its dotted place.

    Raises:
        ConfigError: the reference is no teacher, an argument none of its or of another kind, a
            folder no whole model's, a device not here, or the weights cannot be quantised so here.
    """
    if isinstance(block, Teacher):
        check_whole_model(check_folder(block.path, f"{place}.path"), f"{place}.path")
        if block.device_map is not None:
            check_device_map(block.device_map, f"{place}.device_map")
        _check_quantization(block, place)
        return
    settings, parts = block.settings, _parts(block, place)
    kind = teacher_class(block.use, place)
    if kind.__module__ == "rlkd.teacher.local":
        raise ConfigError(
            f"{place}.use: {block.use!r} is what a block with path is by itself.\n"
            f"  do: remove use, and name the model's folder in {place}.path"
        )
    check_arguments(kind, {}, settings, place, keys="")
    check_types(kind, settings, parts, place)
    if block.overlap == "on":
        _check_overlap(block, place)
    for inner_place, inner in parts.items():
        _check_inner(inner, inner_place)
        check_teacher(inner, check_folder, inner_place)


def _check_overlap(block: Teacher | OtherTeacher, place: str) -> None:
    from rlkd.teacher.base import declared

    if isinstance(block, Teacher):
        return
    if declared(teacher_class(block.use, place), "shares_student"):
        raise ConfigError(
            f"{place}.use: {block.use!r} scores with the student's own weights, so its passes must "
            "wait for the student's, and teacher.overlap is on. Set that to auto or off."
        )
    for inner_place, inner in _parts(block, place).items():
        _check_overlap(inner, inner_place)


def check_unasked(block: Teacher | OtherTeacher, use: str) -> None:
    """How a teacher is asked for scores is left alone where nobody asks it: by an algorithm that
    learns from nothing but what a teacher wrote, or from none.

    Args:
        block: the run's teacher.
        use: the algorithm's.

    Raises:
        ConfigError: it is not.
    """
    for name in ("overlap", "on_bad_scores"):
        given, default = getattr(block, name), type(block).model_fields[name].default
        if given != default:
            raise ConfigError(
                f"teacher.{name}: {use} asks no teacher for scores of what the student samples, so "
                "this would be ignored.\n"
                f"  found: {given}\n"
                f"  do: leave it out ({default}), or use an algorithm that learns from such scores "
                "(rlkd.algorithms.rlad:RLAD)"
            )


def _check_inner(block: Teacher | OtherTeacher, place: str) -> None:
    """How a teacher is asked is said once, for all that it is made of."""
    for name in ("check", "overlap", "on_bad_scores"):
        if name in block.model_fields_set:
            raise ConfigError(
                f"{place}.{name}: only the run's own teacher is asked, and this one is a part of "
                f"it: here it would be ignored. Write teacher.{name}."
            )


def teacher_classes(
    block: Teacher | OtherTeacher, place: str = "teacher"
) -> list[type["base.Teacher"]]:
    """The class of a block's teacher and those of the teachers inside it.

    Raises:
        ConfigError: a reference is no teacher.
    """
    from rlkd.teacher.local import LocalTeacher

    if isinstance(block, Teacher):
        return [LocalTeacher]
    inner = [
        kind for at, part in _parts(block, place).items() for kind in teacher_classes(part, at)
    ]
    return [teacher_class(block.use, place), *inner]


def places_of_teachers(block: Teacher | OtherTeacher, place: str = "teacher") -> list[str]:
    """The dotted place of a block, and those of the teachers inside it, at any depth.

    Raises:
        ConfigError: one of them is no teacher's block.
    """
    if isinstance(block, Teacher):
        return [place]
    inner = [
        found for at, part in _parts(block, place).items() for found in places_of_teachers(part, at)
    ]
    return [place, *inner]


Make = Callable[[Teacher | OtherTeacher, str, Mapping[str, Any]], "base.Teacher"]


def build_teacher(
    block: Teacher | OtherTeacher, place: str = "teacher", make: Make | None = None
) -> "base.Teacher":
    """The teacher of a block, and those inside it.

    Args:
        make: makes that of one block; gets it, its place and its arguments, of which those that are
            teachers are made already. None: `made`, with all weights.

    Raises:
        ConfigError: as `check_teacher`; or an argument's value cannot be used.
    """
    make = make if make is not None else made
    if isinstance(block, Teacher):
        return make(block, place, {})
    parts = _parts(block, place)

    def built(value: Any, at: str) -> Any:
        if at in parts:
            return build_teacher(parts[at], at, make)
        if isinstance(value, dict) and any(name.startswith(f"{at}.") for name in parts):
            return {key: built(inner, f"{at}.{key}") for key, inner in value.items()}
        return value

    return make(block, place, {k: built(v, f"{place}.{k}") for k, v in block.settings.items()})


def made(block: Teacher | OtherTeacher, place: str, arguments: Mapping[str, Any]) -> "base.Teacher":
    """The teacher of one block, its arguments made before.

    Raises:
        ConfigError: an argument's value cannot be used, or a class that is not rlkd's breaks.
    """
    from rlkd.teacher.base import TeacherError

    if isinstance(block, Teacher):
        return _local(block, place)
    kind = teacher_class(block.use, place)
    try:
        return kind(**arguments)
    except (ValueError, TeacherError) as error:
        raise ConfigError(f"{place} ({block.use}): {error}") from error
    except Exception as error:
        raise ConfigError(
            f"{place} ({block.use}): {kind.__name__} cannot be made of these arguments.\n"
            f"  found: {brief(error)}{raised_in(error, inspect.getfile(kind))}\n"
            "  do: mend the arguments, or the class"
        ) from error


def _check_quantization(block: Teacher, place: str) -> None:
    if block.quantization is None:
        return
    from rlkd.teacher.quantized import check_method

    try:
        check_method(block.quantization)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{place}.quantization: {error}") from error


def _local(block: Teacher, place: str) -> "base.Teacher":
    from rlkd.teacher.local import LocalTeacher

    _check_quantization(block, place)
    return LocalTeacher.from_pretrained(
        block.path,
        dtype=block.dtype,
        temperature=block.temperature,
        chunk_tokens=block.chunk_tokens,
        quantization=block.quantization,
        device_map=block.device_map,
        offload=block.offload,
        padding_free=block.padding_free,
        shared_prompts=block.shared_prompts,
    )


def teacher_class(use: str, place: str) -> type["base.Teacher"]:
    """The class that `use` at `place` names.

    Raises:
        ConfigError: the reference does not resolve, or names no concrete teacher.
    """
    from rlkd.teacher.base import Teacher as Base

    try:
        found = resolve(use, place=f"{place}.use")
    except ConfigError as error:
        own = _full_name(use)
        if own is None:
            raise
        raise ConfigError(f"{place}.use: there is no {use!r}.\n  did you mean: {own}") from error
    if not isinstance(found, type) or not issubclass(found, Base):
        raise ConfigError(
            f"{place}.use: {use!r} is not a teacher: a subclass of rlkd.teacher.base:Teacher."
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f"{place}.use: {use!r} is abstract (it lacks {missing}).")
    return found


def _full_name(use: str) -> str | None:
    """The reference to a class of rlkd.teacher that is named without its module, or with another
    that is not there."""
    module, _, name = use.replace(":", ".").rpartition(".")
    first = module.partition(".")[0]
    if first not in ("", "rlkd") and importlib.util.find_spec(first) is not None:
        return None  # a module of the person's own: what is wrong with it was said
    for file in sorted(Path(rlkd.teacher.__path__[0]).glob("*.py")):
        if f"\nclass {name}(" in file.read_text(encoding="utf-8"):
            return f"rlkd.teacher.{file.stem}:{name}"
    return None


def _parts(block: OtherTeacher, place: str) -> dict[str, Teacher | OtherTeacher]:
    """The blocks of teachers among a block's settings, by their dotted places: a setting that is
    one, or a mapping of names to them; what an argument's annotation rules out is neither."""
    try:
        hints = hints_of(teacher_class(block.use, place))
    except ConfigError:  # those who need the class say so
        hints = {}
    found: dict[str, Teacher | OtherTeacher] = {}
    for name, value in block.settings.items():
        hint, candidates = hints.get(name, Any), {}
        if _is_block(value) and may_be_teacher(hint):
            candidates = {f"{place}.{name}": value}
        elif isinstance(value, dict) and may_name_teachers(hint):
            candidates = {f"{place}.{name}.{key}": inner for key, inner in value.items()}
        for at, inner in candidates.items():
            if _is_block(inner):
                found[at] = _read(inner, at)
    return found


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and ("use" in value or "path" in value)


def _read(value: dict[str, Any], place: str) -> Teacher | OtherTeacher:
    kind = OtherTeacher if "use" in value else Teacher
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first, mark = explain(kind, errors[:1])[0], "." if errors[0]["loc"] else ": "
        raise ConfigError(f"{place}{mark}{first}") from error

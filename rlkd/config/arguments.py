"""The arguments of a teacher's class against its annotations: a value of the wrong kind is told by
its place, not by what it broke inside."""

import inspect
import json
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from rlkd.config.messages import expected, found, mismatch
from rlkd.errors import ConfigError

_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)
_A_TEACHER = "a teacher: a block with path, or with use and its arguments"


def check_types(
    kind: type, settings: Mapping[str, Any], places: Collection[str], place: str
) -> None:
    """Every value is of the kind that its parameter is annotated with; what has no annotation, or
    one that is no type, is left to the class.

    Args:
        kind: the class.
        settings: its arguments, as written.
        places: of those, and of those inside a mapping, that are blocks of teachers.
        place: of the block.

    Raises:
        ConfigError: one is not.
    """
    hints = hints_of(kind)
    for name, value in settings.items():
        hint, at = hints.get(name), f"{place}.{name}"
        if hint is None or at in places:
            continue
        if value is None and type(None) in typing.get_args(hint):
            continue
        inside = _teachers_inside(hint)
        if inside == "itself":
            raise ConfigError(mismatch(at, value, _A_TEACHER))
        if inside == "by name":
            _check_names(value, at, places)
            continue
        try:
            # JSON mode: strict (no "5" for 5), yet a list may become a tuple.
            TypeAdapter(hint, config=_ANY_CLASS).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            keys, wrong = _reached(value, error.errors()[0]["loc"])
            want = expected(_values_of(hint) if keys else hint)
            raise ConfigError(mismatch(".".join([at, *keys]), wrong, want)) from error


def _reached(value: Any, location: Sequence[int | str]) -> tuple[list[str], Any]:
    """The keys that a location goes down by, and what is there; pydantic puts the names of types
    between them."""
    keys, here = [], value
    for part in location:
        inside = part in here if isinstance(here, dict) else isinstance(part, int)
        if inside and isinstance(here, dict | list):
            keys.append(str(part))
            here = here[part]  # pyright: ignore[reportArgumentType, reportCallIssue]
    return keys, here


def _values_of(hint: Any) -> Any:
    """What a mapping or a list holds, be it one of several kinds that are taken."""
    for kind in (hint, *typing.get_args(hint)):
        origin = get_origin(kind)
        if inspect.isclass(origin) and issubclass(origin, Collection):
            return typing.get_args(kind)[-1]
    return Any


def _check_names(value: Any, at: str, places: Collection[str]) -> None:
    if not isinstance(value, dict):
        raise ConfigError(mismatch(at, value, f"names, each with {_A_TEACHER}"))
    for name, inner in value.items():
        if f"{at}.{name}" not in places:
            raise ConfigError(
                f"{at}.{name}: this is no teacher.\n  found: {found(inner)}\n"
                f"  expected: {_A_TEACHER}"
            )


def hints_of(kind: type) -> dict[str, Any]:
    """The annotations of a class's arguments, by name; none where they cannot be read."""
    try:
        return typing.get_type_hints(kind.__init__)
    except (NameError, TypeError):  # a name that only type checkers see
        return {}


def may_be_teacher(hint: Any) -> bool:
    """Can an argument of this annotation be a teacher itself?"""
    from rlkd.teacher.base import Teacher

    if _is_union(hint):
        return any(map(may_be_teacher, typing.get_args(hint)))
    kind = get_origin(hint) or hint
    if kind is Any or isinstance(kind, typing.TypeVar):
        return True
    if not inspect.isclass(kind):
        return False
    if getattr(kind, "_is_protocol", False):
        return True
    return issubclass(kind, Teacher) or issubclass(Teacher, kind)


def may_name_teachers(hint: Any) -> bool:
    """Can it be a mapping of names to teachers?"""
    if _is_union(hint):
        return any(map(may_name_teachers, typing.get_args(hint)))
    kind = get_origin(hint) or hint
    if not inspect.isclass(kind) or not issubclass(kind, Mapping):
        return kind is Any or kind is object
    return not typing.get_args(hint) or _holds_teacher(hint)


def _teachers_inside(hint: Any) -> str:
    """Does the parameter take a teacher `itself`, several `by name`, or none, or not only them
    ("")?"""
    kinds = typing.get_args(hint) if _is_union(hint) else (hint,)
    kinds = [kind for kind in kinds if kind is not type(None)]
    if len(kinds) != 1 or not _holds_teacher(kinds[0]):
        return ""
    return "by name" if typing.get_args(kinds[0]) else "itself"


def _holds_teacher(hint: Any) -> bool:
    from rlkd.teacher.base import Teacher

    if inspect.isclass(hint) and get_origin(hint) is None:
        return issubclass(hint, Teacher)
    return any(map(_holds_teacher, typing.get_args(hint)))


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (typing.Union, types.UnionType)

"""A block with `use` against the dataclass that it names: its fields, their types, its checks."""

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
import typing
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from rlkd.config.messages import expected, mismatch, unknown_key
from rlkd.errors import ConfigError, together
from rlkd.refs import resolve

if TYPE_CHECKING:
    from rlkd.algorithms.base import Algorithm
    from rlkd.algorithms.component import Component
    from rlkd.algorithms.schedule import Staged


def build(kind: type, settings: dict[str, Any], use: str, place: str) -> Any:
    """A dataclass with `settings` in place of its defaults.

    Raises:
        ConfigError: an unknown field, a wrong type, a value that it refuses.
    """
    values = checked_settings(kind, settings, place)
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place} ({use}): {error}") from error


def algorithm_class(use: str, place: str = "algorithm") -> "type[Algorithm] | type[Staged]":
    """The class that `use` at `place` names.

    Raises:
        ConfigError: the reference does not resolve, or names no concrete algorithm.
    """
    from rlkd.algorithms.base import Algorithm  # imports torch: only once an algorithm is wanted
    from rlkd.algorithms.schedule import Staged

    return _class(use, place, (Algorithm, Staged), "an algorithm")


def component_class(use: str, place: str) -> type["Component"]:
    """The class that `use` at `place` names.

    Raises:
        ConfigError: the reference does not resolve, or names no concrete component.
    """
    from rlkd.algorithms.component import Component

    return _class(use, place, (Component,), "a component")


def _class(use: str, place: str, bases: tuple[type, ...], title: str) -> Any:
    found = resolve(use, place=f"{place}.use")
    if not isinstance(found, type) or not issubclass(found, bases):
        base = bases[0]
        problem = f"is not {title}: a subclass of {base.__module__}:{base.__name__}"
    elif inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        problem = f"is abstract (it lacks {missing}); name a subclass"
    elif not dataclasses.is_dataclass(found) or "__dataclass_fields__" not in vars(found):
        problem = "is not a dataclass; put @dataclass(frozen=True, kw_only=True) above it"
    else:
        return found
    raise ConfigError(f"{place}.use: {use!r} {problem}.")


def checked_settings(kind: type, settings: dict[str, Any], place: str) -> dict[str, Any]:
    """`settings` with the types that the dataclass's fields name (a list becomes a tuple).

    Raises:
        ConfigError: every unknown key, missing field and wrong type, by its dotted place.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    hints = typing.get_type_hints(kind, include_extras=True)
    docs = field_docs(kind)
    problems = [unknown_key(place, key, fields) for key in settings if key not in fields]
    for name, field in fields.items():
        unset = (field.default, field.default_factory) == (dataclasses.MISSING, dataclasses.MISSING)
        if unset and name not in settings:
            want = expected(hints[name])
            problems.append(f"{place}.{name}: this key is missing.\n  expected: {want}")
    values = {}
    for name in settings.keys() & fields.keys():
        try:
            # JSON mode: strict (no "5" for 5), yet a list may become a tuple.
            text = json.dumps(settings[name])
            values[name] = TypeAdapter(hints[name]).validate_json(text, strict=True)
        except ValidationError:
            want = expected(hints[name])
            problems.append(mismatch(f"{place}.{name}", settings[name], want, docs.get(name, "")))
    if problems:
        raise together(problems, f"{place} ({kind.__module__}:{kind.__qualname__})")
    return values


def field_docs(kind: type) -> dict[str, str]:
    """The texts that stand under a dataclass's fields, those of its bases included."""
    docs: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except (OSError, TypeError):
            continue  # a class without source (object, or typed into a prompt) has no texts
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for statement, text in itertools.pairwise(body):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(
                statement.target, ast.Name
            ):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                docs[statement.target.id] = " ".join(str(text.value.value).split())
    return docs

"""The `algorithm:` and `components:` blocks against the dataclasses that they name: fields, types,
their own checks."""

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from rlkd.config.messages import expected, mismatch, unknown_key
from rlkd.config.schema import AlgorithmBlock, ComponentBlock
from rlkd.errors import ConfigError, together
from rlkd.refs import resolve

if TYPE_CHECKING:
    from rlkd.algorithms.base import Algorithm
    from rlkd.algorithms.component import Component


def build(
    block: AlgorithmBlock, components: "tuple[Component, ...]", has_teacher: bool
) -> "Algorithm":
    """The algorithm that `block` names, with its settings in place of the defaults.

    Raises:
        ConfigError: see `RunConfig.build_algorithm`; the components contradict each other.
    """
    from rlkd.algorithms.component import Composed

    algorithm = algorithm_class(block.use)
    defaults = {name: v for c in components for name, v in c.algorithm_defaults.items()}
    known = {field.name for field in dataclasses.fields(algorithm)}
    settings = {name: v for name, v in defaults.items() if name in known} | block.settings
    built = _build(algorithm, settings, block.use, "algorithm")
    if built.needs_teacher and not has_teacher:
        raise ConfigError(
            f"teacher: {block.use} learns from a teacher and there is none.\n"
            "  found: nothing (null)\n"
            "  do: set teacher.path, or use an algorithm without one (rlkd.algorithms.grpo:GRPO)"
        )
    try:
        Composed(built, components)
    except ValueError as error:
        raise ConfigError(f"components: {error}") from error
    return built


def build_components(blocks: Sequence[ComponentBlock]) -> "tuple[Component, ...]":
    """The components that the blocks name, with their settings in place of the defaults.

    Raises:
        ConfigError: see `RunConfig.build_components`.
    """
    return tuple(
        _build(component_class(block.use, f"components.{i}"), block.settings, block.use, place)
        for i, block in enumerate(blocks)
        for place in [f"components.{i}"]
    )


def _build(kind: type, settings: dict[str, Any], use: str, place: str) -> Any:
    values = checked_settings(kind, settings, place)
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place} ({use}): {error}") from error


def algorithm_class(use: str) -> type["Algorithm"]:
    """The class that `use` names.

    Raises:
        ConfigError: the reference does not resolve, or names no concrete algorithm.
    """
    from rlkd.algorithms.base import Algorithm  # imports torch: only once an algorithm is wanted

    return _class(use, "algorithm", Algorithm, "an algorithm")


def component_class(use: str, place: str) -> type["Component"]:
    """The class that `use` at `place` names.

    Raises:
        ConfigError: the reference does not resolve, or names no concrete component.
    """
    from rlkd.algorithms.component import Component

    return _class(use, place, Component, "a component")


def _class(use: str, place: str, base: type, title: str) -> Any:
    found = resolve(use, place=f"{place}.use")
    if not isinstance(found, type) or not issubclass(found, base):
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

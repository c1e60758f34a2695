"""The config's own documentation: every block and field with its type, default and text."""

import dataclasses
import inspect
import textwrap
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlkd.config.algorithm import algorithm_class, component_class, field_docs
from rlkd.config.arguments import hints_of, may_be_teacher
from rlkd.config.messages import doc_line, expected, models_in
from rlkd.config.run_config import RunConfig
from rlkd.config.schema import Block
from rlkd.config.teacher import teacher_class


def list_blocks() -> str:
    """One line for each block of a config."""
    width = max(map(len, RunConfig.model_fields)) + 2
    return "\n".join(
        f"  {name:<{width}}{doc_line(info)}" for name, info in RunConfig.model_fields.items()
    )


def describe_fields(
    algorithm: str | None = None,
    components: Sequence[str] = (),
    then: Sequence[str] = (),
    teacher: str | None = None,
) -> str:
    """Every field of a config: dotted place, what it takes, its default, its documentation.

    Args:
        algorithm, components, then: as `module:name`, whose own fields are listed too (imports
            them).
        teacher: the same, whose arguments are.

    Raises:
        ConfigError: a reference does not resolve.
    """
    parts = [
        "base: path of another config, relative to this one; default: none\n"
        "    The keys of this file are laid over that one; a block whose `use` differs replaces it."
    ]
    for name, info in RunConfig.model_fields.items():
        parts += _field(name, info)
        if name == "algorithm":
            parts += _algorithm(algorithm)
            parts += _fields_of(_anneal(), "a number that moves", "algorithm.<number>")
        if name == "teacher" and teacher is not None:
            parts += _arguments_of(teacher_class(teacher, "teacher"), teacher, "teacher")
        if name == "then":
            for i, use in enumerate(then):
                parts += _fields_of(algorithm_class(use, f"then.{i}"), use, f"then.{i}")
        if name == "components":
            for i, use in enumerate(components):
                place = f"components.{i}"
                parts += _fields_of(component_class(use, place), use, place)
    return "\n".join(parts)


def _field(place: str, info: FieldInfo) -> list[str]:
    models = models_in(info.annotation)
    if not models and "." not in place:
        return [f"\n{place}: {doc_line(info)}"]
    if not models:
        return [
            _entry(place, expected(info.annotation, info.metadata), _default(info), doc_line(info))
        ]
    top = "." not in place
    lines = [f"{chr(10) if top else ''}{place}: {doc_line(info)}"]
    item = f"{place}.0" if get_args(info.annotation) and _is_list(info.annotation) else place
    for model in models:
        if len(models) > 1:
            lines.append(textwrap.indent(f"{place}, {_first_line(model)}", "  "))
        for name, inner in model.model_fields.items():
            lines += _field(f"{item}.{name}", inner)
    return lines


def _algorithm(use: str | None) -> list[str]:
    if use is None:
        return [
            "  algorithm.<field>: the fields of that class;"
            " `rlkd train CONFIG --help-config` lists them"
        ]
    return _fields_of(algorithm_class(use), use, "algorithm")


def _anneal() -> type:
    from rlkd.algorithms.schedule import Anneal

    return Anneal


def _fields_of(kind: type, use: str, place: str) -> list[str]:
    hints, docs = get_type_hints(kind), field_docs(kind)
    lines = [f"  {place}, the fields of {use}"]
    for field in dataclasses.fields(kind):
        default = "required" if field.default is dataclasses.MISSING else _shown(field.default)
        want, doc = expected(hints[field.name]), docs.get(field.name, "")
        lines.append(_entry(f"{place}.{field.name}", want, default, doc))
    return lines


def _arguments_of(kind: type, use: str, place: str) -> list[str]:
    """What a class is made of, as its signature and the Args of its docstring say."""
    hints, docs = hints_of(kind), _args_of(kind)
    lines = [f"  {place}, the arguments of {use}"]
    for name, given in inspect.signature(kind).parameters.items():
        if given.kind in (given.VAR_KEYWORD, given.VAR_POSITIONAL):
            continue
        hint = hints.get(name, Any)
        want = expected(hint)
        if may_be_teacher(hint) and hint is not Any:
            want = "a teacher's block"
        default = "required" if given.default is given.empty else _shown(given.default)
        lines.append(_entry(f"{place}.{name}", want, default, docs.get(name, "")))
    return lines


def _args_of(kind: type) -> dict[str, str]:
    """The texts of a docstring's Args, by name; of several names before one colon all have it."""
    section = (inspect.getdoc(kind) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        head, colon, text = line.strip().partition(": ")
        if colon and not line.startswith(" " * 5):
            names = head.split(", ")
            found |= dict.fromkeys(names, text)
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _entry(place: str, want: str, default: str, doc: str) -> str:
    text = default if default == "required" else f"default: {default}"
    lines = textwrap.wrap(doc, 92)
    return "\n".join([f"  {place}: {want}; {text}", *(f"      {line}" for line in lines)])


def _default(info: FieldInfo) -> str:
    return "required" if info.is_required() else _shown(info.get_default(call_default_factory=True))


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return str(value)


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list


def _first_line(model: type[BaseModel]) -> str:
    text = model.__doc__ if issubclass(model, Block) else ""
    return (text or "").strip().splitlines()[0][:1].lower() + (text or "").strip().splitlines()[0][
        1:
    ]

"""What went wrong in a config, in words: pydantic's findings without its jargon."""

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rlkd.config.trl_keys import OWNED
from rlkd.errors import nearest

Location = tuple[int | str, ...]

_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Any: "any value",
}
_BOUNDS = (
    (annotated_types.Gt, "gt", "above"),
    (annotated_types.Ge, "ge", "at least"),
    (annotated_types.Lt, "lt", "below"),
    (annotated_types.Le, "le", "at most"),
)


class Spot(NamedTuple):
    """A place of the config: its dotted name, its type, its constraints and its documentation."""

    place: str
    annotation: Any
    metadata: tuple[Any, ...]
    doc: str


def spot(root: type[BaseModel], location: Location) -> Spot:
    """The deepest place that `location` (as pydantic gives it) reaches from `root`."""
    here = Spot("", root, (), "")
    for item in location:
        inner = _step(here, item)
        if inner is None:
            break
        here = inner
    return here


def found(value: Any) -> str:
    """A value and its kind, in a few words: `'fast' (text)`."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value} (a {'whole ' if isinstance(value, int) else ''}number)"
    if isinstance(value, str):
        return f"{_cut(repr(value))} (text)"
    if isinstance(value, list):
        return f"a list of {len(value)}: {_cut(str(value))}"
    if isinstance(value, dict):
        return (
            f"a block with the keys {_cut(', '.join(map(str, value)))}"
            if value
            else "an empty block"
        )
    return _cut(repr(value))


def expected(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a place wants, in words: `a whole number above 0, or null`."""
    limits = [
        f"{word} {getattr(item, attribute):g}"
        for item in metadata
        for kind, attribute, word in _BOUNDS
        if isinstance(item, kind)
    ]
    text = _kind(annotation)
    if not limits:
        return text
    # "a number, or null" with a bound reads "a number above 0, or null".
    head, comma, tail = text.partition(", or null")
    return f"{head} {' and '.join(limits)}{comma}{tail}"


def mismatch(place: str, value: Any, want: str, doc: str = "") -> str:
    """The message of a value that its place does not take."""
    lines = [
        f"{place}: this value cannot be used.",
        f"  found: {found(value)}",
        f"  expected: {want}",
    ]
    if doc:
        lines.append(f"  about: {' '.join(doc.split())}")
    if isinstance(value, str) and want.startswith("a block with the keys path"):
        lines.append(f"  do: --{place}.path={value}, or in the file {place}: {{path: {value}}}")
    elif isinstance(value, str) and "number" in want and _is_number(value):
        lines.append("  do: remove the quotes")
    elif want.startswith("text") and isinstance(value, (int, float)):
        lines.append(f"  do: put it in quotes, also on the command line: --{place}='\"{value}\"'")
    return "\n".join(lines)


def unknown_key(block: str, key: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The message of a key that its block lacks; `elsewhere`: places with that last name."""
    known = list(known)
    place = f"{block}.{key}" if block else key
    prefix = f"{block}." if block else ""
    alias = OWNED.get(key, "")
    if alias.startswith("algorithm.") and block == "algorithm" and alias[10:] not in known:
        alias = ""
    others = list(elsewhere)
    if others:
        hint = f"did you mean: {' or '.join(others)}"
    elif alias:
        hint = f"did you mean: {alias} ({key} is TRL's name for it)"
    else:
        hint = f"did you mean: {prefix}{nearest(key, known)}"
    lines = [f"{place}: there is no such key."]
    if known:
        lines += [f"  {hint}", f"  known here: {', '.join(known)}"]
    return "\n".join(lines)


def explain(root: type[BaseModel], errors: list[ErrorDetails]) -> list[str]:
    """One message per place that is wrong, without repeats."""
    messages: dict[str, str] = {}
    for error in errors:
        location = error["loc"]
        if error["type"] == "missing" and isinstance(location[-1], int):
            location = location[:-1]  # an item too few is the list's fault
        where = spot(root, location)
        if error["type"] == "extra_forbidden":
            key = str(error["loc"][-1])
            messages[f"{where.place}.{key}"] = unknown_key(
                where.place, key, _keys(where.annotation), _places_called(root, key)
            )
        elif error["type"] == "value_error":
            text = str(error["ctx"]["error"])  # pyright: ignore[reportTypedDictNotRequiredAccess]
            messages[where.place + text] = f"{where.place}: {text}" if where.place else text
        else:
            messages.setdefault(where.place, _wrong_value(where, error))
    return list(messages.values())


def doc_line(info: FieldInfo) -> str:
    """A field's documentation on one line."""
    return " ".join((info.description or "").split())


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The blocks that a place may hold, itself or as a list's items."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType, list):
        return [model for argument in arguments for model in models_in(argument)]
    if origin is Annotated:
        return models_in(arguments[0])
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if is_model else []


def _wrong_value(where: Spot, error: ErrorDetails) -> str:
    if error["type"] == "missing" and isinstance(error["loc"][-1], str):
        lines = [f"{where.place}: this key is missing.", f"  expected: {_want(where)}"]
        return "\n".join([*lines, f"  about: {where.doc}"] if where.doc else lines)
    value = error["input"]
    if error["type"] == "source" and isinstance(value, dict):
        both = sorted({"use", "path"} & set(value))
        text = f"both {both[0]} and {both[1]}" if both else "neither use nor path"
        if value and not both:
            text += f", but {_cut(', '.join(map(str, value)))}"
        start = f"{where.place}: this value cannot be used.\n"
        return f"{start}  found: {text}\n  expected: {error['msg']}"
    finite = ", finite" if error["type"] == "finite_number" else ""
    return mismatch(where.place, value, _want(where) + finite, where.doc)


def _want(where: Spot) -> str:
    for item in where.metadata:
        if isinstance(item, annotated_types.MinLen):
            return f"{_kind(where.annotation)}, not empty"
    return expected(where.annotation, where.metadata)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        kinds = [_kind(a) for a in arguments if a is not type(None)]
        text = ", or ".join(dict.fromkeys(kinds))
        return f"{text}, or null" if type(None) in arguments else text
    if origin is tuple:
        return f"a list of {len(arguments)}, each {_kind(arguments[0])}"
    if origin is list:
        inner = arguments[0]
        return f"a list, each {_kind(inner)}"
    if origin in (dict, Mapping) or annotation is dict:
        return "a block of `key: value` lines"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a block with the keys {', '.join(annotation.model_fields)}"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _step(here: Spot, item: int | str) -> Spot | None:
    for annotation in _members(here.annotation):
        place = f"{here.place}.{item}" if here.place else str(item)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            info = annotation.model_fields.get(str(item))
            if info is not None:
                return Spot(place, info.annotation, tuple(info.metadata), doc_line(info))
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is list and isinstance(item, int):
            return Spot(place, arguments[0], (), here.doc)
        if origin is tuple and isinstance(item, int) and item < len(arguments):
            return Spot(place, arguments[item], (), here.doc)
        if origin is dict and isinstance(item, str):
            return Spot(place, arguments[1], (), here.doc)
        if origin is Annotated and item in [getattr(a, "tag", None) for a in arguments[1:]]:
            # The tag of a discriminated union stands in the location but not in the file.
            return here._replace(annotation=arguments[0])
    return None


def _members(annotation: Any) -> list[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return [member for argument in arguments for member in _members(argument)]
    if origin is Annotated and get_origin(arguments[0]) in (Union, types.UnionType):
        return _members(arguments[0])
    return [annotation]


def _keys(annotation: Any) -> list[str]:
    return [name for model in models_in(annotation) for name in model.model_fields]


def _places_called(root: type[BaseModel], key: str, prefix: str = "", depth: int = 2) -> list[str]:
    places = []
    for name, info in root.model_fields.items():
        if name == key:
            places.append(f"{prefix}{name}")
        for model in models_in(info.annotation) if depth > 1 else []:
            places += _places_called(model, key, f"{prefix}{name}.", depth - 1)
    return places


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cut(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

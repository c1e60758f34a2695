"""Is the answer this text, or this JSON value, exactly?

The answer is taken from ``<answer>…</answer>``, from ``\\boxed{…}``, else it is all that follows
the thinking block (``rewards.completion.answer_of``). ``None`` where the gold is no text, or no
JSON.
"""

import json
import re
import unicodedata
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

from rewards.completion import after_thinking, answer_of, text_of

_MOST_CHARACTERS = 1_000_000
_MOST_DEPTH = 100
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def text(
    completions: list, answer: list, *, ignore_case: bool = False, **columns: Any
) -> list[float | None]:
    """1.0 where the answer is the text ``answer``, 0.0 where it is another.

    Equal after Unicode normalisation (NFC) and with each run of white space as one space.

    Args:
        ignore_case: compare without case (full case folding).

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
    """
    _check(completions, answer)
    return [
        float(_plain(answer_of(completion), ignore_case) == _plain(wanted, ignore_case))
        if isinstance(wanted, str)
        else None
        for completion, wanted in zip(completions, answer, strict=True)
    ]


def json_value(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """1.0 where the answer is JSON of the same value as ``answer`` (JSON too), else 0.0.

    The order of an object's keys does not matter, that of an array does; numbers are compared as
    exact decimals (1 is 1.0, but not true). A fence of three backticks around the answer is taken
    off. Wrong are: anything after the value, a key given twice, NaN, more than a million
    characters, more than 100 levels.

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
    """
    _check(completions, answer)
    result: list[float | None] = []
    for completion, wanted in zip(completions, answer, strict=True):
        gold = _loads(wanted) if isinstance(wanted, str) else None
        result.append(None if gold is None else float(_loads(_written(completion)) == gold))
    return result


def _texts(completions: list, *, ignore_case: bool = False, **columns: Any) -> list[str | None]:
    """What is voted on: the text that ``text`` compares, None where it is empty."""
    return [_plain(answer_of(completion), ignore_case) or None for completion in completions]


def _json_values(completions: list, **columns: Any) -> list[Hashable | None]:
    """What is voted on: the value that ``json_value`` compares, None where there is none."""
    values = [_loads(_written(completion)) for completion in completions]
    return [None if value is None else _frozen(value) for value in values]


def _frozen(value: tuple) -> Hashable:
    """A tagged value that can be a dictionary's key; equal ones stay equal."""
    kind, content = value
    if kind == "object":
        content = frozenset((key, _frozen(item)) for key, item in content.items())
    elif kind == "array":
        content = tuple(_frozen(item) for item in content)
    return kind, content


text.answers = _texts  # pyright: ignore[reportFunctionMemberAccess]
json_value.answers = _json_values  # pyright: ignore[reportFunctionMemberAccess]


def _check(completions: list, answer: list) -> None:
    if len(answer) != len(completions):
        raise ValueError(f"{len(completions)} completions but {len(answer)} answers")


def _plain(text: str, ignore_case: bool) -> str:
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.casefold() if ignore_case else text


def _written(completion: Any) -> str:
    """The answer without its fence. A box would be cut at a brace inside a string, so only tags."""
    text = after_thinking(text_of(completion)) or ""
    if "<answer>" in text:
        text = answer_of(completion)
    opened = text.rfind("```json")
    closed = text.find("```", opened + 7)
    if opened >= 0 and closed >= 0:
        text = text[opened + 7 : closed]
    return text.strip()


def _loads(text: str) -> tuple | None:
    """The JSON value in a form where == means equal; None if there is none within the limits."""
    if len(text) > _MOST_CHARACTERS or _depth(text) > _MOST_DEPTH:
        return None
    try:
        value = json.loads(
            text,
            parse_int=Decimal,
            parse_float=Decimal,
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except (ValueError, ArithmeticError):
        return None
    return _tagged(value)


def _tagged(value: Any) -> tuple:
    """With its kind beside it, because Python's True equals 1."""
    if isinstance(value, dict):
        return ("object", {key: _tagged(item) for key, item in value.items()})
    if isinstance(value, list):
        return ("array", [_tagged(item) for item in value])
    return (type(value).__name__, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _depth(text: str) -> int:
    deepest = depth = 0
    for mark in _STRUCTURE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark.group(), 0)
        deepest = max(deepest, depth)
    return deepest

"""Gold answers: parsed once, checked once."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from .extract import _box_content
from .normalise import normalise
from .structure import choice_letter, text_key
from .syntax import parse
from .units import number_from_words
from .verdict import GradingError, Oversize, Unparsed

Node = tuple[Any, ...]
_WORDS = re.compile(
    r"[A-Za-z][A-Za-z0-9' \-,;:&/()]*[A-Za-z0-9)']|[A-Za-z]|[\w()\[\]^+\-]*[\w)\]+\-]", re.ASCII
)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# digits that begin with a letter are at least two: B_{12} is an indexed B
_NUMERAL = re.compile(
    r"\(?(\d[0-9A-Z ]{0,200}|[A-Z][0-9A-Z]{1,200})\)?\s*_\s*\{?\s*(?:\\(?:text|mathrm)\s*\{)?\s*"
    r"\(?(\d{1,2}|[a-z]{3,9})\)?\s*\}?\s*\}?"
)
_ALL_REALS = frozenset(("all real numbers", "all reals", "real numbers", "set of real numbers"))
_TIME = re.compile(r"\d{1,2}:\d\d [ap]m")
_SHORT_WORDS = frozenset(
    "no on so of if is it at in up us we he me my by to do go or an as am be".split()
)
_NAMES = frozenset(
    "pi sqrt sin cos tan log exp inf infty infinity alpha beta gamma delta theta oo".split()
)
_COMMA_NUMBER = re.compile(r"\d,\d{3}")
_ANY_LETTERS = re.compile(r"[^\W\d_]+(?:[ \-'][^\W\d_]+)*")


@dataclass(frozen=True, slots=True)
class Answer:
    """A text in every reading that it allows.

    text: normalised text.  key: its form as words.  readings: its trees (none for plain words).
    letter: the choice letter, if it can be one.  error: why there is no tree.
    base: digits and base of a numeral such as ``2A_{16}``.
    """

    text: str
    key: str
    readings: tuple[Node, ...]
    letter: str | None
    error: str
    base: tuple[str, int] | None = None


def read(text: str) -> Answer:
    """Normalise and parse an answer; a text that is no mathematics has no readings.

    Raises Oversize.
    """
    if len(text) > 20_000:
        raise Oversize("answer longer than 20000 characters")
    clean = normalise(text)
    readings: list[Node] = []
    error = ""
    try:
        readings.append(parse(clean))
        if _COMMA_NUMBER.search(clean):
            other = parse(clean, thousands=False)
            if other != readings[0]:
                readings.append(other)
        if readings[0][0] == "text" and text_key(readings[0][1]) in _ALL_REALS:
            readings[0] = ("domain", "R")
    except Unparsed as problem:
        error = str(problem)
    except (RecursionError, ValueError, ZeroDivisionError) as problem:
        error = f"not parsed: {type(problem).__name__}"
    if (readings and _is_word(clean)) or _TIME.fullmatch(text_key(clean)):
        readings = [("text", clean)]
    if not clean or readings == [("empty",)]:
        readings, error = [], "empty"
    return Answer(
        clean, text_key(clean), tuple(readings), choice_letter(clean), error, numeral(clean)
    )


def _is_word(text: str) -> bool:
    """Whether an answer of bare letters alone is a word (red) and no product (abc, xyz).

    A product has no e, i, o or u, and an ``a`` only among the first and last letters of the
    alphabet. Order of factors does not matter, order of letters does.
    """
    if not text.isascii() or not text.isalpha() or not text.islower() or text in _NAMES:
        return False
    if len(text) == 2:
        return text in _SHORT_WORDS
    letters = set(text)
    return len(text) > 2 and bool(
        letters & set("eiou") or ("a" in letters and letters - set("abcdxyz"))
    )


def numeral(text: str) -> tuple[str, int] | None:
    """Digits (without leading zeros) and base of a numeral with its base as subscript."""
    match = _NUMERAL.fullmatch(text)
    if match is None:
        return None
    word = match.group(2)
    base = int(word) if word.isdigit() else number_from_words(word)
    digits = match.group(1).replace(" ", "").strip("()").upper()
    if base is None or not 2 <= base <= 36 or any(_DIGITS.index(d) >= base for d in digits):
        return None
    return digits.lstrip("0") or "0", base


def unbox(text: str) -> str:
    """The content of a gold that is itself wrapped in one box."""
    stripped = text.strip().strip("$").strip()
    if stripped.startswith(("\\boxed", "\\fbox")):
        content = _box_content(stripped, 0)
        if content is not None and content[1] == len(stripped) and content[0].strip():
            return content[0]
    return text


def check(text: str) -> tuple[Answer | None, str]:
    """A gold answer and, where it cannot be graded against, the reason ("" where it can)."""
    if not isinstance(text, str) or not text.strip():
        return None, "the gold is empty"
    try:
        answer = read(unbox(text))
    except Oversize as problem:
        return None, str(problem)
    except GradingError as problem:
        return None, str(problem)
    if len(answer.readings) > 1 and answer.readings[0][0] == "num":
        # a gold such as 1,250 is the number; the pair (1, 250) is written with a space
        answer = replace(answer, readings=answer.readings[:1])
    if answer.readings or answer.letter:
        return answer, ""
    if not answer.text:
        return None, "the gold is empty"
    words = answer.key
    plain = _WORDS.fullmatch(words) or (_ANY_LETTERS.fullmatch(words) and not words.isascii())
    if plain and ".." not in answer.text and _balanced(answer.text):
        return answer, ""
    return None, f"the gold is neither mathematics nor plain words: {answer.error}"


def _balanced(text: str) -> bool:
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))

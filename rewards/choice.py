"""Multiple choice: is the last option that the completion settles on the right one?

In the manner of AlphaMed (arXiv 2505.17952): 1 for the right letter, 0 otherwise, nothing for the
reasoning. Only explicit places are read, after the thinking block: ``\\boxed{C}``,
``<answer>C</answer>``, "the answer is C", "option C is correct", "I choose C", and a last line
that is nothing but the letter. The last of them counts. Where it names several letters ("A or C",
"\\boxed{A} and \\boxed{C}") or none ("\\boxed{aspirin}"), the answer is wrong.

All options are treated alike: with the letters exchanged in gold and completion the values are
the same. So a letter in running text must be a capital, or the article "a" would make the first
option special.
"""

import re
from typing import Any, NamedTuple

from rewards.completion import after_thinking, text_of

# Whoever settles on an option does it at the end.
_TAIL = 20_000
_WINDOW = 120
_LAYOUT = r"[\s*_$(){}\[\]]|\\(?:text(?:bf|rm)?|math(?:bf|rm)|[()\[\],;! ])"
_AND = r"[,;/&]|(?:and|or|also|maybe|possibly|perhaps)\b"
_LEAD = re.compile(rf"(?:{_LAYOUT}|(?:either|both|one of|option|choice)\b)*", re.IGNORECASE)
_JOIN = re.compile(rf"(?:{_LAYOUT}|{_AND})*", re.IGNORECASE)
_ADJACENT = re.compile(r"(?:[\s$]|\\[,;! ])*")
# A run of capitals is several letters; "AIDS" is no option, and then no letter is safe.
_LETTERS = re.compile(r"[A-Z]{1,5}(?![\w'’])")
_ONE = re.compile(rf"(?:{_LAYOUT})*([A-Za-z])(?:{_LAYOUT}|\.)*")

_PLACES = re.compile(
    r"\\(?:boxed|fbox)\s*\{(?P<box>[^{}]{0,200}(?:\{[^{}]{0,200}\}[^{}]{0,200})?)\}"
    r"|<answer>(?P<tag>[^<]{0,2000})</answer>"
    r"|(?i:\b(?:option|choice|answer)\s+)[(*$]{0,4}(?P<best>[A-Z])[)*$]{0,4}"
    r"(?i:\s+is\s+(?:the\s+)?(?:correct|right|best)\b)"
    r"|(?P<said>(?i:\b(?:answer|option|choice)[\s*_]{0,6}(?::|=|(?:is|are|(?:would|must|should)\s+be)"
    r"\b)[\s*_]{0,6}:?|\bI\s+(?:choose|pick|select)\b))"
)


class _Mention(NamedTuple):
    start: int
    end: int
    letters: frozenset[str]


def accuracy(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """1.0 where the last explicit option is the letter ``answer`` and no other, else 0.0.

    ``None`` where the row's answer is not one letter (``"C"``; ``"(c)"`` and ``"C."`` will do).

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
    """
    if len(answer) != len(completions):
        raise ValueError(f"{len(completions)} completions but {len(answer)} answers")
    result: list[float | None] = []
    for completion, wanted in zip(completions, answer, strict=True):
        gold = _ONE.fullmatch(wanted[:20]) if isinstance(wanted, str) else None
        result.append(None if gold is None else float(_settled(completion) == {gold[1].upper()}))
    return result


def answers(completions: list, **columns: Any) -> list[frozenset[str] | None]:
    """The letters that each completion settles on, None where there are none: what is voted on.
    ``accuracy`` carries this as its attribute ``answers``.
    """
    return [_settled(completion) or None for completion in completions]


accuracy.answers = answers  # pyright: ignore[reportFunctionMemberAccess]


def _settled(completion: Any) -> frozenset[str]:
    """The letters that the last explicit place names, with those joined to it by "and" or "or"."""
    text = (after_thinking(text_of(completion)) or "")[-_TAIL:]
    mentions = _mentions(text)
    if not mentions:
        return frozenset()
    last, letters = mentions[-1], mentions[-1].letters
    for before in reversed(mentions[:-1]):
        gap = text[before.end : last.start]
        joined = _JOIN.fullmatch(gap) and len(gap) <= _WINDOW
        if not joined or (_ADJACENT.fullmatch(gap) and "\n" in gap):
            break
        last, letters = before, letters | before.letters
    return letters


def _mentions(text: str) -> list[_Mention]:
    found, at = [], 0
    while place := _PLACES.search(text, at):
        at = place.end()
        kind = place.lastgroup or ""
        if kind == "best":
            found.append(_Mention(place.start(), at, frozenset(place["best"])))
        elif kind == "said":
            letters, length = _named(text[at : at + _WINDOW])
            at += length
            if letters:  # "the answer is obvious" settles nothing
                found.append(_Mention(place.start(), at, letters))
        else:
            found.append(_Mention(place.start(), at, _inside(place[kind])))
    start = text.rstrip().rfind("\n") + 1
    line = _ONE.fullmatch(text[start:].strip()[:50])
    if line and line[1].isupper() and (not found or found[-1].end <= start):
        found.append(_Mention(start, len(text), frozenset(line[1])))
    return found


def _inside(content: str) -> frozenset[str]:
    """The letters that a box or a tag holds; there a single small letter is one, too."""
    if alone := _ONE.fullmatch(content):
        return frozenset(alone[1].upper())
    if mentions := _mentions(content):
        return mentions[-1].letters
    return _named(content)[0]


def _named(text: str) -> tuple[frozenset[str], int]:
    """The letters at the start of a text and the length of what names them."""
    letters, end = "", 0
    lead = _LEAD.match(text)
    at = lead.end() if lead else 0
    while run := _LETTERS.match(text, at):
        letters, end = letters + run.group(), run.end()
        joint = _JOIN.match(text, end)
        at = joint.end() if joint else end
        if not re.search(_AND, text[end:at]):
            break
    return frozenset(letters), end

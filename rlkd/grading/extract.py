"""Finding the final answer in a completion, in time linear in its length.

Only places where a writer states an answer are read: the text after the thinking block, there the
last box (joined with the boxes beside it), a statement such as "the final answer is ...", or a
complete concluding sentence. The last number of a text is never taken for an answer.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from .assertion import NUMBER, asserted_number, qualified
from .units import UNIT_WORD

_CLOSERS = ("</think>", "</thinking>", "</thought>", "</reasoning>")
_OPENERS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
_EOS = re.compile(r"(?:<\|[A-Za-z_]{2,24}\|>|</s>|<eos>|<end_of_turn>|\[EOS\])\s*\Z")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOX_HEAD = re.compile(r"\\f?boxed\s*|\\fbox\s*")
# What may stand between two boxes that together form one answer: layout, and/or/commas, a label.
_LAYOUT = re.compile(r"\\quad|\\qquad|\\text|\\\(|\\\)|\\\[|\\\]|\\[,;:! ]|[\s${}~.()\\]")
_LABEL = re.compile(r"(?:[A-Za-z](?:_\{?\w+\}?)?)\s*=\s*")
_JOINERS = {"", ",", ";", "and", "or", ",and", ",or", "&"}
_MAX_GAP = 60
_MAX_BOXES = 200
_REACH = 2_000
_WHITE = re.compile(r"\s{3,}")
_TAIL = 4_000
_WINDOW = 20_000

_ANCHOR = re.compile(
    r"(?:\bfinal\s+answer\b|\banswer\b|\b(?:correct|right)\s+(?:option|choice)\b)"
    r"(?:\s+(?:to|for|of)\b[^.\n:$]{0,80}?)?\s*(?:\*\*|__)?\s*"
    r"(?::|=|\bis\b(?!\s+not\b)|\bare\b(?!\s+not\b))\s*(?:\*\*|__)?\s*:?"
    r"|\bfinal\s+answer\s*(?:\*\*|__)\s*\n\s*",
    re.IGNORECASE,
)
_HEDGE_AFTER = re.compile(
    r"[\s$),]{0,8}(?:\\\)|\\\])?[\s,]*\(?\s*(?:or|maybe|possibly|perhaps|alternatively)\b",
    re.IGNORECASE,
)
_HEDGE_WORD = re.compile(r"\b(?:or|maybe|possibly|perhaps|alternatively)\b", re.IGNORECASE)
_UNSURE = re.compile(
    r"\b(?:maybe|possibly|perhaps|alternatively|one of|probably|not sure|i guess"
    r"|i think)\b",
    re.IGNORECASE,
)
# "\boxed{7} is wrong", "not \boxed{7}": the box is denied, not given
_HEDGED_GAP = re.compile(r"(?:[,;]|and|or|even|maybe|possibly|perhaps|alternatively|probably)+")
_DENIED_AFTER = re.compile(
    r"[\s$)\\\]]{0,8}(?:is|was|seems|looks|would be)\s+(?:wrong|incorrect|not\s+(?:right|correct"
    r"|true|the"
    r"\s+(?:\w+\s+)?answer))\b",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(r"\b(?:not|isn't|n't)\s*(?:\$|\\[(\[]|\s)*\Z", re.IGNORECASE)
_CLOSE_MATH = r"(?:\s|\$|\\\)|\\\]|\\text\s*\{|\*\*)*"
_PERCENT_AFTER = re.compile(_CLOSE_MATH + r"(\\?%|percent\b|per cent\b|pct\b)")
_UNIT_AFTER = re.compile(_CLOSE_MATH + r"(" + UNIT_WORD + r")(?![A-Za-z])(\s*\^\s*\{?[23]\}?)?")
_SENTENCE_END = re.compile(r"[.!?](?=\s|\*|\Z)|\n\s*\n")
_SEGMENT = re.compile(
    r"\$\$(.{1,2000}?)\$\$|(?<!\\)\$((?:\\.|[^$\\]){1,2000})\$|\\\((.{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]",
    re.DOTALL,
)
_CONCLUSION = re.compile(
    r"\s*(?:\*\*)?(?:therefore|thus|hence|so|consequently|in conclusion|finally|we (?:find|get"
    r"|have|"
    r"obtain|conclude|see)|this (?:gives|means|yields)|it follows|the\b)",
    re.IGNORECASE,
)
_STATES = re.compile(r"\b(?:is|are|equals|be)\s*:?\s*(?:\*\*)?\s*(\S[^=]{0,60}?)\s*\Z")
_BECAUSE = re.compile(r",?\s+(?:since|because)\b", re.IGNORECASE)
_ENDS_WITH = re.compile(r"=\s*(" + NUMBER.pattern + r")\s*\Z")
_POLITE = re.compile(r"\s*I hope (?:it|this) is correct[.!]?\s*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Extracted:
    """The answer that was found.

    text:   the answer, "" where there is none.
    rule:   ``box``, ``anchor``, ``tag``, ``hash``, ``sentence``, or the reason why there is none.
    status: ``ok``, ``no_answer``, ``truncated``, ``hedged`` or ``oversize``.
    other:  a second reading of the same sentence (its only number), "" where there is none.
    """

    text: str
    rule: str
    status: str
    other: str = ""


def extract(completion: str) -> Extracted:
    """Return the final answer of a completion. Never raises; time is linear in its length."""
    body = _after_thinking(completion)
    if body is None:
        return Extracted("", "unclosed thinking block", "no_answer")
    end = len(body)
    for _ in range(8):
        match = _EOS.search(body, max(0, end - 40), end)
        if match is None:
            break
        end = match.start()
    body = body[:end]
    last = max(body.rfind("\\boxed"), body.rfind("\\fbox"))
    if last >= 0:
        found = _from_boxes(body, last)
        if found is not None:
            return found
    window = _WHITE.sub(_squeeze, body[-_WINDOW:])
    found = _from_statement(window)
    if found is not None:
        return found
    return _from_sentence(window)


def _squeeze(space: re.Match[str]) -> str:
    """Long white space in short, so that no pattern walks over it again and again."""
    return "\n\n" if space.group().count("\n") > 1 else " "


def _after_thinking(text: str) -> str | None:
    """The text after the last thinking block; None where a block was opened and never closed."""
    close, width = -1, 0
    for mark in _CLOSERS:
        at = text.rfind(mark)
        if at > close:
            close, width = at, len(mark)
    start = close + width if close >= 0 else 0
    if any(text.find(mark, start) >= 0 for mark in _OPENERS):
        return None
    return text[start:] if start else text


def _box_content(text: str, start: int) -> tuple[str, int] | None:
    """Content and end of the box command at ``start``; None where its brace never closes."""
    head = _BOX_HEAD.match(text, start)
    if head is None:
        return "", start + 1
    at = head.end()
    if at >= len(text):
        return None
    if text[at] != "{":
        bare = re.compile(r"\d[\d.,]*(?<![.,])|\\?[A-Za-z]+|\S").match(text, at)
        return (bare.group(), bare.end()) if bare else None
    depth = 0
    for match in _BRACE.finditer(text, at):
        symbol = match.group()
        if symbol == "{":
            depth += 1
        elif symbol == "}":
            depth -= 1
            if depth == 0:
                return text[at + 1 : match.start()], match.end()
    return None


def _joins(gap: str) -> str | None:
    """The separator that the text between two boxes stands for; None where it separates them."""
    if len(gap) > _MAX_GAP or "\n\n" in gap:
        return None
    core = _LABEL.sub("", _LAYOUT.sub(" ", gap).strip() + " ").replace(" ", "").lower()
    if core in _JOINERS:
        return " or " if "or" in core else ", "
    if _UNSURE.search(gap) and _HEDGED_GAP.fullmatch(core):
        return " maybe "
    return None


def _from_boxes(body: str, last: int) -> Extracted | None:
    content = _box_content(body, last)
    if content is None:
        return Extracted("", "unclosed box", "truncated")
    text, end = content
    start = last
    if not text.strip():
        return _before_empty_box(body, last)
    near = max(0, last - 400)
    outer = max(body.rfind("\\boxed", near, last), body.rfind("\\fbox", near, last))
    if outer >= 0 and last - outer < 400:
        around = _box_content(body, outer)
        if around is not None and around[1] > end:
            text, end, start = around[0], around[1], outer
    stated = _statement_after(body, end)
    if stated is not None:
        return stated
    if _HEDGE_AFTER.match(body, end):
        return Extracted(text.strip(), "alternative after the box", "hedged")
    if _DENIED_AFTER.match(body, end) or _DENIED_BEFORE.search(body[max(0, start - 20) : start]):
        return Extracted(text.strip(), "the box is denied", "no_answer")
    text += _suffix(body, end)
    return _with_neighbours(body, text, start)


def _before_empty_box(body: str, at: int) -> Extracted | None:
    """An empty box says nothing: go back to the last one that has content, if any."""
    for _ in range(_MAX_BOXES):
        at = max(body.rfind("\\boxed", 0, at), body.rfind("\\fbox", 0, at))
        if at < 0:
            return None
        content = _box_content(body, at)
        if content is not None and content[0].strip():
            return Extracted(content[0].strip(), "box", "ok")
    return None


def _with_neighbours(body: str, text: str, start: int) -> Extracted:
    parts, hedged = [text.strip()], False
    at = start
    for count in range(_MAX_BOXES + 1):
        near = max(0, at - _REACH)
        left = max(body.rfind("\\boxed", near, at), body.rfind("\\fbox", near, at))
        if left < 0:
            break
        content = _box_content(body, left)
        if content is None or content[1] > at or not content[0].strip():
            break
        joint = _joins(body[content[1] : at])
        if joint is None:
            break
        hedged = hedged or joint == " maybe "
        if content[0].strip() not in parts[-1:]:
            parts.append(content[0].strip())
        if count == _MAX_BOXES:
            return Extracted("", "too many boxes side by side", "oversize")
        at = left
    joined = ", ".join(reversed(parts))
    if hedged and len(parts) > 1:
        return Extracted(joined, "alternatives in boxes", "hedged")
    return Extracted(joined, "box", "ok")


def _suffix(text: str, end: int) -> str:
    """A percent sign or a unit that stands right after a box or a formula belongs to the answer."""
    percent = _PERCENT_AFTER.match(text, end, end + 80)
    if percent:
        return "\\%"
    unit = _UNIT_AFTER.match(text, end, end + 80)
    return f"\\text{{ {unit.group(1)}{unit.group(2) or ''}}}" if unit else ""


def _statement_after(body: str, end: int) -> Extracted | None:
    """An explicit "final answer" that follows the last box is the later word."""
    tail = _WHITE.sub(_squeeze, body[max(end, len(body) - _TAIL) :])
    lowered = tail.lower()
    if "answer" not in lowered and "####" not in tail:
        return None
    found = _from_statement(tail)
    if found is None or found.status != "ok" or not re.search(r"\d|\$|\\", found.text):
        return None
    return found


def _from_statement(text: str) -> Extracted | None:
    """The answer after the last tag, hash line or "answer is"."""
    tag = text.rfind("<answer>")
    if tag >= 0:
        close = text.find("</answer>", tag)
        if close < 0:
            return Extracted("", "unclosed answer tag", "truncated")
        return _payload(text[tag + 8 : close].strip(), "tag", free=False)
    mark = text.rfind("####")
    if mark >= 0:
        line = text[mark + 4 :].strip().split("\n", 1)[0]
        return _payload(line, "hash", free=False) if line else None
    match = None
    for match in _ANCHOR.finditer(text):  # noqa: B007 - the last match is wanted
        pass
    if match is None:
        return None
    rest = text[match.end() :].lstrip(" *_\t")
    if not rest.strip():
        return Extracted("", "nothing after the announcement", "truncated")
    return _payload(
        _sentence(rest.lstrip()), "anchor", free=match.group().rstrip(" *_\n").endswith(":")
    )


def _sentence(text: str) -> str:
    """The first sentence, with full stops inside formulas not counted."""
    at = 0
    head = text[:3000]
    while at < len(head):
        end = _SENTENCE_END.search(head, at)
        if end is None:
            return head
        segment = _SEGMENT.search(head, at)
        if segment is not None and segment.start() < end.start() < segment.end():
            at = segment.end()
            continue
        newline = head.find("\n", at, end.start())
        if newline > 0 and head[at:newline].strip() and segment is None:
            return head[:newline]
        return head[: end.start()]
    return head


def _payload(sentence: str, rule: str, *, free: bool) -> Extracted:
    sentence = _BECAUSE.split(_POLITE.sub("", sentence), maxsplit=1)[0].strip().strip("*_`\"' ")
    if not sentence:
        return Extracted("", "nothing after the announcement", "no_answer")
    if _UNSURE.search(sentence):
        return Extracted(sentence, "the answer is hedged", "hedged")
    segments = list(_SEGMENT.finditer(sentence))
    if segments:
        return _formulas(sentence, segments, rule)
    return Extracted(sentence, rule, "ok", other=asserted_number(sentence, free=free))


def _formulas(sentence: str, segments: list[re.Match[str]], rule: str) -> Extracted:
    """The answer of a sentence with formulas: its only one, or all where they form a list."""
    texts = [next(g for g in m.groups() if g is not None) for m in segments]
    gaps = [sentence[a.end() : b.start()] for a, b in itertools.pairwise(segments)]
    suffix = _suffix(sentence, segments[-1].end())
    tail = sentence[segments[-1].end() :]
    stated = re.search(r"\b(?:is|are|equals)\s+(\S{1,40})\s*\Z", tail)
    if stated and NUMBER.fullmatch(stated.group(1).strip("*")):
        return Extracted(stated.group(1).strip("*"), rule, "ok")
    one = all(_joins(gap) is not None for gap in gaps)
    if qualified(sentence[: segments[0 if one else -1].start()], _SEGMENT.sub(" ", tail)):
        return Extracted(sentence, "the words around the formula change it", "no_answer")
    if one:
        if _HEDGE_AFTER.match(sentence, segments[-1].end()):
            return Extracted(texts[-1], "alternative after the answer", "hedged")
        return Extracted(", ".join(texts) + suffix, rule, "ok")
    before = sentence[: segments[-1].start()].rstrip()
    if re.search(r"\b(?:is|are|equals|be)\s*:?\Z", before):
        return Extracted(texts[-1] + suffix, rule, "ok")
    return Extracted(sentence, "several formulas, none of them stated as the answer", "no_answer")


def _from_sentence(text: str) -> Extracted:
    """A complete concluding sentence at the end: "Therefore, the area is $9$." """
    text = _POLITE.sub("", text).rstrip()
    if not text:
        return Extracted("", "empty", "no_answer")
    if text[-1] not in ".!$)]*":
        return Extracted("", "the text ends inside a sentence", "truncated")
    text = text.rstrip(" .!*")
    tail = text[-1500:]
    start = 0
    for end in _SENTENCE_END.finditer(tail):
        if any(s.start() < end.start() < s.end() for s in _SEGMENT.finditer(tail)):
            continue
        start = end.end()
    sentence = tail[start:].strip()
    lead = sentence
    inner = list(re.finditer(r"\b(?:therefore|thus|hence)\b", sentence, re.IGNORECASE))
    if inner:
        lead = sentence[inner[-1].start() :]
    if not _CONCLUSION.match(lead):
        return Extracted("", "no statement of an answer", "no_answer")
    if _HEDGE_WORD.search(_SEGMENT.sub(" ", lead)):
        return Extracted(lead, "the conclusion is hedged", "hedged")
    segments = list(_SEGMENT.finditer(lead))
    if segments:
        return _formulas(lead, segments, "sentence")
    stated = _STATES.search(lead)
    if stated and qualified(lead[: stated.start(1)], ""):
        return Extracted(lead, "the conclusion is denied", "no_answer")
    if stated and len(stated.group(1).split()) <= 3:
        return Extracted(stated.group(1), "sentence", "ok")
    last = _ENDS_WITH.search(lead)
    number = last.group(1) if last else asserted_number(lead, free=False)
    if number:
        return Extracted(number, "sentence", "ok")
    return Extracted("", "no statement of an answer", "no_answer")

"""What a model wrote, and where in it the answer stands. Read by the other rewards.

Every function takes time linear in the text, recurses into nothing and raises on nothing.

The places of an answer, in order: the last ``<answer>…</answer>``, the last ``\\boxed{…}``, else
all that follows the thinking block. What was opened and never closed (a thinking block, a tag, a
box) was cut off: there is no answer.
"""

import re
from typing import Any

# The same delimiters as rlkd.grading knows; a test holds the two together.
_OPENERS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
_CLOSERS = ("</think>", "</thinking>", "</thought>", "</reasoning>")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_HEAD = re.compile(r"\\(?:boxed|fbox)\s*\{")


def text_of(completion: Any) -> str:
    """What the model wrote: a string itself, or the text of the last of a list of chat messages.

    A message's content may be a list of parts; those of type ``text`` count. Anything else, also
    a message without text, is the empty text. So is a tool's message, which comes last where the
    answer was cut off: what a tool returned is no answer of the model.
    """
    if isinstance(completion, list) and completion and isinstance(completion[-1], dict):
        message = completion[-1]
        completion = message.get("content") if message.get("role") != "tool" else ""
        if isinstance(completion, list):
            parts = [part.get("text") for part in completion if isinstance(part, dict)]
            completion = "".join(part for part in parts if isinstance(part, str))
    return completion if isinstance(completion, str) else ""


def after_thinking(text: str) -> str | None:
    """What follows the last thinking block; the whole text where there is none.

    ``None`` where a block was opened and never closed. A block that the prompt opened needs only
    its closing tag.
    """
    start = max(_end_of_last(text, mark) for mark in _CLOSERS)
    if any(text.find(mark, start) >= 0 for mark in _OPENERS):
        return None
    return text[start:] if start else text


def last_box(text: str) -> str | None:
    """The content of the last ``\\boxed{…}``, without outer white space; None if it is cut off.

    None also where there is no box.
    """
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    box = _box_at(text, start) if start >= 0 else None
    return None if box is None else text[box[0] : box[1]].strip()


def boxes(text: str) -> list[str] | None:
    """The contents of all boxes that stand in no other box; None if one of them is cut off."""
    found, at = [], 0
    while match := _HEAD.search(text, at):
        box = _box_at(text, match.start())
        if box is None:
            return None
        found.append(text[box[0] : box[1]].strip())
        at = box[1]
    return found


def tagged(text: str, tag: str = "answer") -> str | None:
    """What the last ``<tag>…</tag>`` holds, without outer white space; None if it is not there."""
    start = text.rfind(f"<{tag}>")
    end = text.find(f"</{tag}>", start)
    return None if start < 0 or end < 0 else text[start + len(tag) + 2 : end].strip()


def answer_of(completion: Any) -> str:
    """The answer (see the top of the module) without outer white space; empty if there is none."""
    text = after_thinking(text_of(completion))
    if text is None:
        return ""
    if "<answer>" in text:
        text = tagged(text) or ""
    if "\\boxed" in text or "\\fbox" in text:
        text = last_box(text) or ""
    return text.strip()


def _end_of_last(text: str, mark: str) -> int:
    at = text.rfind(mark)
    return 0 if at < 0 else at + len(mark)


def _box_at(text: str, start: int) -> tuple[int, int] | None:
    """Start and end of the content of the box command at ``start``; None if it is cut off."""
    head = _HEAD.match(text, start)
    if head is None:
        return None
    depth = 1
    for brace in _BRACE.finditer(text, head.end()):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return head.end(), brace.start()
    return None

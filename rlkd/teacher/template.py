"""Does a teacher read chats in the format that it was trained on?

A prompt is made into tokens once, by the student's chat template, and the teacher is sent these. A
teacher of the same tokens may have been trained on another format all the same: its scores are
then those of a model that reads what it never saw, and nothing else shows it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHOWN = 8
"""Tokens of each side that are shown where they begin to differ."""


def difference_of_templates(
    student: Any, own: Any, prompts: Iterable[Any], settings: Mapping[str, Any]
) -> str:
    """Where a teacher's chat template first renders the student's prompts otherwise, in words; an
    empty string where it renders all alike.

    That is also so where nothing can be compared: no prompt is a chat, or the teacher has no
    template. The latter was trained on no format of chats (a base model), so that none is wrong.

    Args:
        student, own: tokenizers, the latter the teacher's.
        prompts: of the data, texts or chats.
        settings: that training hands to the student's template.
    """
    chats = [prompt for prompt in prompts if _is_chat(prompt)]
    if not chats or not getattr(own, "chat_template", None):
        return ""
    for chat in chats:
        theirs, ours = (_render(tokenizer, chat, settings) for tokenizer in (student, own))
        if isinstance(theirs, Exception):
            continue  # no run comes of it
        if isinstance(ours, Exception):
            return f"its own refuses such a chat ({type(ours).__name__}: {ours})"
        if theirs != ours:
            return _first(theirs, ours, student, own)
    return ""


def _first(theirs: Sequence[int], ours: Sequence[int], student: Any, own: Any) -> str:
    pairs = enumerate(zip(theirs, ours, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(theirs), len(ours)))

    def shown(ids: Sequence[int], tokenizer: Any) -> str:
        piece = ids[place : place + SHOWN]
        return repr(tokenizer.decode(piece)) if piece else "nothing more"

    return (
        f"from token {place} on the student's writes {shown(theirs, student)} where its own writes "
        f"{shown(ours, own)}"
    )


def _is_chat(prompt: Any) -> bool:
    return isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], Mapping)


def _render(tokenizer: Any, chat: Any, settings: Mapping[str, Any]) -> list[int] | Exception:
    try:
        return tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, **settings
        )["input_ids"]
    except Exception as error:  # a template raises what it likes
        return error

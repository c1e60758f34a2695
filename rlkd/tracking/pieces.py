"""A row of token ids as pieces of text, one per token, which together are the text."""

from collections.abc import Sequence
from typing import Any

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_WINDOW = 8
"""Tokens that are decoded before a token for its context: more than one character is cut into."""


class Pieces:
    """Cuts rows of token ids into text, special tokens included; remembers what it has seen.

    A single id does not always say its text: SentencePiece drops the space of a first word, and a
    byte-level token may hold part of a character. So an id is decoded behind another one, and a row
    in which that does not give the row's text is decoded token by token in its context.

    Args:
        tokenizer: of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def __call__(self, ids: Sequence[int]) -> list[str]:
        """One piece per id; a character of several tokens stands at its last one, the others are
        empty."""
        pieces = [self._text([ids[0]])] if ids else []
        pieces += [self._piece(ids[place - 1], ids[place]) for place in range(1, len(ids))]
        if "".join(pieces) == self._text(ids):
            return pieces
        return self._in_context(ids)

    def _piece(self, before: int, token: int) -> str:
        if token not in self._known:
            start = self._text([before])
            self._known[token] = self._text([before, token])[len(start) :]
        return self._known[token]

    def _in_context(self, ids: Sequence[int]) -> list[str]:
        pieces, start, told = [], 0, ""
        for place in range(len(ids)):
            text = self._text(ids[start : place + 1])
            if text.endswith(_UNFINISHED) and place + 1 < len(ids):
                pieces.append("")
                continue
            pieces.append(text[len(told) :])
            told = text
            if place + 1 - start > 2 * _WINDOW:
                start = place + 1 - _WINDOW
                told = self._text(ids[start : place + 1])
        return pieces

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

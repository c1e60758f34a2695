"""Traces in a file: a line for each answer, with its prompt, text, tokens and how it was made."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlkd.datafiles import read_file
from rlkd.difficulty import prompt_key
from rlkd.errors import ConfigError
from rlkd.traces.book import Trace

Line = dict[str, Any]


def fingerprint(tokenizer: Any) -> str:
    """Sixteen hexadecimal digits of what a tokenizer's numbers mean."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    return hashlib.sha256(repr(vocabulary).encode()).hexdigest()[:16]


def write(path: Path, lines: Iterable[Line]) -> None:
    """One JSON object a line."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def read(path: str, tokenizer: Any, place: str) -> list[tuple[int, Trace]]:
    """(key of the prompt, trace) of every line of a file, in its order.

    A line without `token_ids` is encoded: its `text`, and the tokenizer's end token.

    Args:
        tokenizer: the student's.
        place: where the file is named in the config.

    Raises:
        ConfigError: the file cannot be read; a line lacks its prompt or its answer; its tokens are
            another tokenizer's.
    """
    mine, known = fingerprint(tokenizer), len(tokenizer)
    pairs = []
    for number, line in enumerate(read_file(path, place)):
        ids, text = line.get("token_ids"), line.get("text")
        if line.get("prompt") is None or (ids is None and not isinstance(text, str)):
            raise ConfigError(
                f"{place}.path: row {number} of {path} is no trace.\n"
                f"  found: {', '.join(map(str, line))}\n"
                "  expected: prompt, and text or token_ids"
            )
        if ids is None:
            pairs.append((prompt_key(line["prompt"]), encode(text or "", tokenizer)))
            continue
        if line.get("tokenizer") != mine or not ids or not 0 <= min(ids) <= max(ids) < known:
            raise ConfigError(
                f"{place}.path: the tokens of {path} are not the student's (row {number}).\n"
                f"  found: tokenizer {line.get('tokenizer')}; the student's is {mine}\n"
                "  why: a number would mean another word to the student\n"
                "  do: write the traces anew (rlkd traces CONFIG), or remove token_ids from the"
                " file: the text is then encoded with the student's tokenizer"
            )
        pairs.append((prompt_key(line["prompt"]), Trace(tuple(ids))))
    return pairs


def encode(text: str, tokenizer: Any) -> Trace:
    """The student's tokens of a text, and its end token."""
    ids: Sequence[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Trace((*ids, tokenizer.eos_token_id))

"""What a run's rewards say of answers, and the means of that."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from rlkd.evaluation.answers import Answers, Row


def score(
    answers: Answers,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    rewards: Mapping[str, Callable[..., Any]],
) -> list[dict[str, float | None]]:
    """What each reward says of each answer, and its length: one dictionary per row.

    Rewards are called as in training: texts (or chat messages) without special tokens, the
    columns of the data as lists. What they draw in this process is not drawn from training's random
    numbers.
    """
    texts = tokenizer.batch_decode(answers.ids, skip_special_tokens=True)
    completions = as_completions(rows[0], texts) if rows else texts
    columns = (
        {key: [row[key] for row in rows] for key in rows[0] if key != "prompt"} if rows else {}
    )
    scored: list[dict[str, float | None]] = [
        {"length": float(len(ids)), "truncated": float(cut)}
        for ids, cut in zip(answers.ids, answers.truncated, strict=True)
    ]
    for name, reward in rewards.items():
        with randomness_kept():
            values = reward(
                prompts=[row["prompt"] for row in rows],
                completions=completions,
                completion_ids=answers.ids,
                trainer_state=None,
                log_extra=lambda *_: None,
                log_metric=lambda *_: None,
                **columns,
            )
        for row, value in zip(scored, values, strict=True):
            row[f"reward/{name}"] = value
    return scored


def as_completions(row: Row, texts: Sequence[str]) -> Sequence[Any]:
    """The texts as rewards get them: chat messages where the row's prompt is a chat."""
    if isinstance(row["prompt"], str):
        return texts
    return [[{"role": "assistant", "content": text}] for text in texts]


def summarise(scored: Sequence[Mapping[str, float | None]], verifiable: str) -> dict[str, float]:
    """Means over the rows; a row that a reward cannot grade (None) is left out of its mean.

    Args:
        verifiable: the reward whose full mark, 1, counts as correct: `accuracy` is the share of
            rows that have it.
    """
    names = [key for key in scored[0] if key not in ("length", "truncated")] if scored else []
    summary: dict[str, float] = {"rows": len(scored)}
    correct = _known(scored, f"reward/{verifiable}")
    if correct:
        summary["accuracy"] = sum(value >= 1.0 for value in correct) / len(correct)
    for name in ("length", "truncated", *names):
        values = _known(scored, name)
        if values:
            summary[name] = sum(values) / len(values)
    return summary


@contextmanager
def randomness_kept() -> Iterator[None]:
    """The random numbers of python, numpy and torch go on as if nothing was drawn inside."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _known(scored: Sequence[Mapping[str, float | None]], name: str) -> list[float]:
    return [value for row in scored if (value := row[name]) is not None]

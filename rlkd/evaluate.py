"""Held-out evaluation: one greedy answer per row, or several sampled ones, judged by the run's own
rewards."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rlkd.teacher.tokens import end_token_ids

Row = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """What a model wrote to some rows, in their order."""

    ids: list[list[int]]
    """Token ids, the end token included."""
    truncated: list[bool]
    """True where the length limit came before an end token."""


def answer_greedily(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    max_completion_length: int,
    batch_size: int,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Answers:
    """The likeliest token at each position, until an end token or the limit (tokens).

    Draws no random number, and leaves the model in the mode that it was in.
    """
    how = {"do_sample": False, "max_new_tokens": max_completion_length}
    return _answer(model, tokenizer, rows, how, batch_size, chat_template_kwargs)


def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    n: int,
    max_completion_length: int,
    batch_size: int,
    seed: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Answers:
    """`n` sampled answers to each row; those to row i stand at n·i … n·i + n − 1.

    Seeds torch for itself and puts its random state back, so that a run draws the same numbers
    with this and without. The same seed and `batch_size` (answers per pass) give the same answers.
    """
    how = {
        "do_sample": True,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": 0,
        "max_new_tokens": max_completion_length,
    }
    repeated = [row for row in rows for _ in range(n)]
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return _answer(model, tokenizer, repeated, how, batch_size, chat_template_kwargs)


@torch.no_grad()
def _answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    how: dict[str, Any],
    batch_size: int,
    chat_template_kwargs: Mapping[str, Any] | None,
) -> Answers:
    """Answers to the rows, generated as the settings `how` say."""
    ends = end_token_ids(model, tokenizer)
    settings = GenerationConfig(
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends),
        **how,
    )
    was_training = model.training
    model.eval()
    # Rows of like length together: less padding.
    prompts = [prompt_ids(tokenizer, row["prompt"], chat_template_kwargs or {}) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    ids: list[list[int]] = [[] for _ in rows]
    try:
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            encoded = tokenizer.pad(
                {"input_ids": [prompts[i] for i in part]}, padding_side="left", return_tensors="pt"
            ).to(model.device)
            output = model.generate(**encoded, generation_config=settings)  # type: ignore[operator]
            written = output[:, encoded["input_ids"].shape[1] :].tolist()
            for i, tokens in zip(part, written, strict=True):
                ids[i] = _until_end(tokens, ends)
    finally:
        model.train(was_training)
    return Answers(ids, [not tokens or tokens[-1] not in ends for tokens in ids])


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
    chat = bool(rows) and not isinstance(rows[0]["prompt"], str)
    completions = [[{"role": "assistant", "content": t}] for t in texts] if chat else texts
    columns = (
        {key: [row[key] for row in rows] for key in rows[0] if key != "prompt"} if rows else {}
    )
    scored: list[dict[str, float | None]] = [
        {"length": float(len(ids)), "truncated": float(cut)}
        for ids, cut in zip(answers.ids, answers.truncated, strict=True)
    ]
    for name, reward in rewards.items():
        with _randomness_kept():
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
def _randomness_kept() -> Iterator[None]:
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


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Any, chat_template_kwargs: Mapping[str, Any]
) -> list[int]:
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]  # type: ignore[return-value]
    encoded = tokenizer.apply_chat_template(
        prompt,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        **chat_template_kwargs,
    )
    return encoded["input_ids"]  # type: ignore[index, return-value]


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    for position, token in enumerate(tokens):
        if token in ends:
            return tokens[: position + 1]
    return tokens

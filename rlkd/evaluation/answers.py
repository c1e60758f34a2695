"""What a model writes to held-out rows: one greedy answer to each, or several sampled ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rlkd.teacher.tokens import end_token_ids

Row = dict[str, Any]

_PLAIN: dict[str, Any] = {
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "typical_p": 1.0,
}
"""What a model's own generation_config.json would otherwise decide: many ship a penalty, and the
answers would be of no distribution that was trained or recorded."""


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
    top_k: int = 0,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Answers:
    """`n` sampled answers to each row; those to row i stand at n·i … n·i + n − 1.

    Seeds torch for itself and puts its random state back, so that a run draws the same numbers
    with this and without. The same seed and `batch_size` (answers per pass) give the same answers.
    The answers to a row are written side by side, so that a pass holds prompts of like length.
    """
    how = {
        "do_sample": True,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": 0.0,
        "max_new_tokens": max_completion_length,
    }
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return _answer(model, tokenizer, rows, how, batch_size, chat_template_kwargs, n)


@torch.no_grad()
def _answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    how: dict[str, Any],
    batch_size: int,
    chat_template_kwargs: Mapping[str, Any] | None,
    n: int = 1,
) -> Answers:
    """`n` answers to each of the rows, generated as the settings `how` say."""
    ends = end_token_ids(model, tokenizer)
    settings = GenerationConfig(
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends),
        **_PLAIN,
        **how,
    )
    was_training = model.training
    model.eval()
    # Rows of like length together: less padding.
    once = [prompt_ids(tokenizer, row["prompt"], chat_template_kwargs or {}) for row in rows]
    prompts = [prompt for prompt in once for _ in range(n)]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    ids: list[list[int]] = [[] for _ in prompts]
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


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Any, chat_template_kwargs: Mapping[str, Any]
) -> list[int]:
    """The prompt as the model reads it: a text's tokens, or a chat through the template."""
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

"""What vLLM's server says: to a request with `prompt_logprobs`, as scores; what it serves."""

from collections.abc import Sequence
from typing import Any

import torch

from rlkd.teacher.base import TeacherError, TokenScores

SHOWN = 300
"""Characters of what a server says that a message holds at most."""


def read_models(reply: Any, name: str) -> list[str]:
    """What it serves, by its answer to /v1/models.

    Raises:
        TeacherError: it names none.
    """
    try:
        return [str(entry["id"]) for entry in reply["data"]]
    except (KeyError, TypeError) as error:
        raise TeacherError(
            f"{name} names no models at /v1/models: {_cut(reply)}. It is no OpenAI-compatible "
            "server such as `vllm serve` starts; check url."
        ) from error


def read_reply(reply: Any, prompt: int, answer: Sequence[int], name: str) -> TokenScores:
    """The scores of the answer in a reply, faulty where it is no reply to what was asked for.

    Args:
        reply: the JSON that came.
        prompt: tokens before the answer.
        name: the teacher's.
    """
    try:
        entries = reply["choices"][0]["prompt_logprobs"]
    except (KeyError, IndexError, TypeError):
        return TokenScores.faulty(answer, f"{name} sent no prompt_logprobs: {_cut(reply)}")
    if entries is not None and not isinstance(entries, list):
        return TokenScores.faulty(answer, f"{name} sent prompt_logprobs {_cut(entries)}: no list")
    if entries is None or len(entries) != prompt + len(answer):
        return TokenScores.faulty(
            answer,
            f"{name} scored {len(entries or [])} tokens where {prompt + len(answer)} were sent: it "
            "added or dropped some (a BOS token, a limit on the length)",
        )
    echoed, logp = [], []
    for place, sent in enumerate(answer):
        entry = entries[prompt + place]
        token, value = _read_entry(entry, sent)
        if token is None:
            return TokenScores.faulty(
                answer,
                f"{name} sent {_cut(entry)} for token {place} of an answer, where the token's "
                'number with its log-probability is expected, like {"17": {"logprob": -0.5}}',
            )
        if not isinstance(value, float):
            return TokenScores.faulty(
                answer,
                f"{name} sent {_cut(value)} as the log-probability of token {place} of an answer, "
                "which is no number",
            )
        echoed.append(token)
        logp.append(value)
    return TokenScores(torch.tensor(echoed, dtype=torch.int64), torch.tensor(logp))


def _read_entry(entry: Any, sent: int) -> tuple[int | None, Any]:
    """The token that was scored, None where the entry is none; what is said to be its
    log-probability, a float where it is a number."""
    if not isinstance(entry, dict) or not entry:
        return None, None
    # With prompt_logprobs 0 an entry holds the token itself; a tie may add another.
    key = str(sent) if str(sent) in entry else next(iter(entry))
    try:
        token, value = int(key), entry[key]["logprob"]
        if isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None, None
    return (token, value) if 0 <= token < 2**63 else (None, None)


def _cut(said: Any) -> str:
    return repr(said)[:SHOWN]

"""What vLLM's server says to a request with `prompt_logprobs`, as scores."""

from collections.abc import Sequence
from typing import Any

import torch

from rlkd.teacher.base import TeacherError, TokenScores


def read_reply(reply: dict[str, Any], prompt: int, answer: Sequence[int], name: str) -> TokenScores:
    """The scores of the answer in a reply.

    Args:
        prompt: tokens before the answer.
        name: the teacher's.

    Raises:
        TeacherError: it is no reply to what was asked for.
    """
    try:
        entries = reply["choices"][0]["prompt_logprobs"]
    except (KeyError, IndexError, TypeError) as error:
        raise TeacherError(f"{name} sent no prompt_logprobs: {str(reply)[:300]}") from error
    if entries is None or len(entries) != prompt + len(answer):
        fault = (
            f"{name} scored {len(entries or [])} tokens where {prompt + len(answer)} were sent: it "
            "added or dropped some (a BOS token, a limit on the length)"
        )
        return TokenScores(torch.tensor(list(answer)), torch.zeros(len(answer)), fault=fault)
    echoed, logp = [], []
    for place, sent in enumerate(answer, start=prompt):
        entry = entries[place] or {}
        # With prompt_logprobs 0 an entry holds the token itself; a tie may add another.
        scored = entry.get(str(sent))
        token = sent if scored is not None else next((int(key) for key in entry), -1)
        echoed.append(token)
        value = scored.get("logprob") if isinstance(scored, dict) else None
        logp.append(float("nan") if value is None else float(value))
    return TokenScores(torch.tensor(echoed, dtype=torch.int64), torch.tensor(logp))

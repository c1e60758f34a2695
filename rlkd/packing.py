"""Padding-free forwards: the rows of a batch as one sequence, each attending to itself alone.

All that works token by token (embeddings, norms, MLPs, the head) sees no padding. Attention runs
row by row over spans of the sequence, through an attention function that is registered with
transformers; torch's scaled_dot_product_attention does each. Rows with the same prompt can share it
(Prefix Grouper, arXiv 2506.05433): it is computed once, the answers attend to it, and by the chain
rule it gets the sum of their gradients.

transformers' own packed path (restarting position_ids, no mask) gives the same numbers. With sdpa
and eager it makes a mask over all pairs of tokens of the batch, whose cost grows with their square;
with flash attention it costs what it should, and is used there (not tried: no GPU was lent).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "rlkd_spans"
"""Of the attention, in a model's config."""
_UNKNOWN = ("softcap", "s_aux", "position_bias")  # what changes the scores inside of attention


class Span(NamedTuple):
    """Consecutive tokens of one row: causal among themselves, after all of a prompt."""

    length: int
    prompt_of: int | None = None
    """The span whose first `prompt` tokens come before these; None: nothing does."""
    prompt: int = 0


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Rows without padding. N: tokens that are computed; M: tokens of answers, row by row."""

    ids: list[int]
    """N. The last token of an answer predicts nothing that was sampled and is left out."""
    positions: list[int]
    """N: places in the row, from 0."""
    spans: list[Span]
    states: list[int]
    """M: the place in N of the state that predicts each token of the answers."""
    targets: list[int]
    """M: these tokens."""

    def inputs(self, implementation: str | None, device: torch.device) -> dict[str, Any]:
        """What a model's backbone is called with.

        Args:
            implementation: of its attention: NAME, or one of transformers' flash attentions.
        """
        found: dict[str, Any] = {
            "input_ids": torch.tensor([self.ids], device=device),
            "position_ids": torch.tensor([self.positions], device=device),
        }
        if implementation == NAME:
            # A mask of four dimensions is handed through as it is; `attend` does not read it.
            found["attention_mask"] = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
            found[NAME] = self.spans
        return found


def pack(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, share: bool = False
) -> Pack:
    """The rows one after the other.

    Args:
        prompts, answers: token ids. A row without an answer is left out; if none has one, the first
            prompt stands alone, since a forward must have something to read.
        share: compute equal prompts once.

    Raises:
        ValueError: a prompt is empty, so that nothing predicts the first token of its answer.
    """
    ids: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    states: list[int] = []
    targets: list[int] = []
    owners: dict[tuple[int, ...], tuple[int, int]] = {}  # prompt -> its span, its last state
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if not prompt:
            raise ValueError(
                f"row {number} has an empty prompt: nothing predicts the first token of its answer"
            )
        if not answer:
            continue
        rest = list(answer[:-1])
        key = tuple(prompt) if share else ()
        owner = owners.get(key) if share else None
        if owner is None:
            last = len(ids) + len(prompt) - 1
            if share:
                owners[key] = (len(spans), last)
            spans.append(Span(len(prompt) + len(rest)))
            ids += [*prompt, *rest]
            positions += range(len(prompt) + len(rest))
        else:
            last = owner[1]
            if rest:
                spans.append(Span(len(rest), owner[0], len(prompt)))
            positions += range(len(prompt), len(prompt) + len(rest))
            ids += rest
        states += [last, *range(len(ids) - len(rest), len(ids))]
        targets += answer
    if not ids:
        ids, positions = list(prompts[0]), list(range(len(prompts[0])))
        spans = [Span(len(ids))]
    return Pack(ids=ids, positions=positions, spans=spans, states=states, targets=targets)


def tokens(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], share: bool) -> int:
    """N of `pack`, without making it."""
    whole = sum(map(len, answers)) - len(answers)
    if share:
        return whole + sum(map(len, {tuple(prompt) for prompt in prompts}))
    return whole + sum(map(len, prompts))


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, None]:
    """An attention of transformers: (1, heads, N, d) of a Pack's tokens; sdpa's, where the call is
    not of a Pack, as in generation.

    Raises:
        ValueError: the model asks for attention that the spans do not do.
    """
    spans: list[Span] | None = more.pop(NAME, None)
    if spans is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more
        )
    _check(spans, more)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    # split, whose gradient is one concatenation: that of a slice is as large as the whole.
    lengths = [span.length for span in spans]
    parts = [tensor.split(lengths, dim=2) for tensor in (query, key, value)]
    found = []
    for span, q, k, v in zip(spans, *parts, strict=True):
        mask = None
        if span.prompt_of is not None:
            before_k, before_v = (part[span.prompt_of][:, :, : span.prompt] for part in parts[1:])
            k, v = torch.cat([before_k, k], 2), torch.cat([before_v, v], 2)
            mask = torch.ones(span.length, k.shape[2], dtype=torch.bool, device=q.device)
            mask = mask.tril(span.prompt)
        found.append(
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling
            )
        )
    return torch.cat(found, 2).transpose(1, 2).contiguous(), None


def _check(spans: list[Span], more: dict[str, Any]) -> None:
    asked = [name for name in _UNKNOWN if more.get(name) is not None]
    window, longest = more.get("sliding_window"), max(s.length + s.prompt for s in spans)
    if window is not None and longest > window:
        asked.append(f"a sliding window of {window} tokens for a row of {longest}")
    if asked:
        raise ValueError(
            f"this model's attention has {', '.join(asked)}, which rows without padding do not do "
            "here; set padding_free to false"
        )


def use_spans(model: Any) -> str:
    """Make a model ready for `Pack.inputs`; returns its attention's name.

    Generation and all other calls stay sdpa's, on the same weights.

    Raises:
        ValueError: its attention is neither sdpa nor a flash attention.
    """
    config = model.config.get_text_config()
    found = config._attn_implementation
    if found == NAME or "flash" in str(found):
        return found
    if found != "sdpa":
        raise ValueError(
            f"rows without padding need the attention sdpa or a flash attention, and this model's "
            f"is {found!r}; load it with attn_implementation sdpa, or set padding_free to false"
        )
    AttentionInterface.register(NAME, attend)  # type: ignore[arg-type]
    AttentionMaskInterface.register(NAME, sdpa_mask)  # type: ignore[arg-type]
    config._attn_implementation = NAME
    return NAME

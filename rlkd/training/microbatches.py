"""Which rows of an optimiser step share a forward pass, and how wide that is: pure arithmetic.

TRL pads all rows of a generation batch to the longest of all, shuffles them and cuts them into
equal parts. Here the rows of ONE optimiser step are cut otherwise: which rows belong to which
update does not change, nor the number of micro-batches.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

WAYS = ("padded", "trimmed", "by_length", "by_tokens")
_BALANCE = 1e-3
"""Weight of equal sizes beside the sum of sizes, where padding is what costs."""
TOKENS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
IMAGES = ("pixel_values", "token_type_ids", "mm_token_type_ids", "num_images")
"""Keys of batches whose columns mean something else."""


def cut(way: str, prompt_B: Tensor, answer_B: Tensor, pieces: int) -> list[list[int]]:
    """The rows of each of `pieces` micro-batches, the longest rows first.

    `by_length`: equally many rows, sorted by length. `by_tokens`: the cut of the sorted rows that
    computes the fewest tokens, padding included: a micro-batch of n rows has
    n · (longest prompt + longest answer). None is larger than B / pieces rows of the widest, which
    is what the size of micro-batches allows without sorting.

    Args:
        prompt_B, answer_B: tokens of each row.
        pieces: B is a multiple of it.
    """
    order = _longest_first(prompt_B, answer_B)
    size = len(order) // pieces
    if way == "by_length":
        return [order[start : start + size] for start in range(0, len(order), size)]
    prompts, answers = prompt_B[order].double(), answer_B[order].double()
    # size_II[i, j]: padded tokens of rows i … j.
    last = torch.arange(1, len(order) + 1, dtype=torch.double)
    rows_II = last.unsqueeze(0) - last.unsqueeze(1) + 1
    size_II = rows_II * (_running_max(prompts) + _running_max(answers))
    most = size * float(prompts.amax() + answers.amax())
    return _cut_at(order, _fewest(size_II, pieces, most, _BALANCE))


def cut_packed(prompts: Sequence[Any], prompt_B: Tensor, answer_B: Tensor, pieces: int,
               *, share: bool) -> list[list[int]]:  # fmt: skip
    """As `cut`, by tokens, for rows that are computed without padding: sizes as equal as can be.

    Args:
        prompts: of each row, hashable.
        share: equal prompts of a micro-batch are computed once, so they stand together.
    """
    order = _longest_first(prompt_B, answer_B)
    new = [True] * len(order)
    if share:
        place = {prompts[row]: i for i, row in reversed(list(enumerate(order)))}
        order.sort(key=lambda row: place[prompts[row]])  # stable: a group by its longest row
        before = [None, *(prompts[row] for row in order)]
        new = [prompts[row] != left for row, left in zip(order, before, strict=False)]
    prompt_B, answer_B = prompt_B[order].double(), answer_B[order].double()
    # A part reads its first row's prompt, and those that its row before has not read.
    read_B = torch.cumsum(answer_B + prompt_B * torch.tensor(new, dtype=torch.double), 0)
    size_II = read_B.unsqueeze(0) - read_B.unsqueeze(1) + (prompt_B + answer_B).unsqueeze(1)
    most = len(order) // pieces * float((prompt_B + answer_B).amax())
    return _cut_at(order, _fewest(size_II, pieces, most, 1.0))


def _longest_first(prompt_B: Tensor, answer_B: Tensor) -> list[int]:
    # The longest first: what does not fit in memory fails at once. Stable: ties stay as they were.
    return torch.argsort(-(prompt_B + answer_B), stable=True).tolist()


def _running_max(value_B: Tensor) -> Tensor:
    """(B, B): the largest of values i … j, at [i, j ≥ i]."""
    number = len(value_B)
    upper = torch.ones(number, number, dtype=torch.bool).triu()
    spread = torch.where(upper, value_B.expand(number, number), 0.0)
    return spread.cummax(1).values


def _fewest(size_II: Tensor, pieces: int, most: float, balance: float) -> list[int]:
    """Where `pieces` parts of consecutive rows end, so that Σ size + balance · Σ size² / most is
    least and no size is above `most`. Dynamic programme over the parts."""
    number = len(size_II)
    cost_II = size_II + balance * size_II.square() / max(most, 1.0)
    allowed = torch.ones(number, number, dtype=torch.bool).triu() & (size_II <= most + 1e-6)
    cost_II = cost_II.masked_fill(~allowed, torch.inf)
    best_I, befores = cost_II[0], []
    for _ in range(pieces - 1):
        # The part that ends at j begins after i: best of what ends at i, and rows i + 1 … j.
        total = best_I[:-1].unsqueeze(1) + cost_II[1:]
        best_I, before = total.min(0)
        befores.append(before)
    ends = [number - 1]
    for before in reversed(befores):
        ends.append(int(before[ends[-1]]))
    return [end + 1 for end in reversed(ends)]


def _cut_at(order: list[int], ends: list[int]) -> list[list[int]]:
    return [order[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def lengths(batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(B,) tokens of each row's prompt and of its answer, on the CPU."""
    both = torch.stack([batch["prompt_mask"].sum(-1), batch["completion_mask"].sum(-1)])
    prompt_B, answer_B = both.cpu()
    return prompt_B, answer_B


def whole(batch: dict[str, Any]) -> tuple[Tensor, Tensor, int]:
    """(B, L) ids and mask of prompts and answers, and the width of the answers."""
    ids_BL = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask_BL = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    return ids_BL, mask_BL, batch["completion_ids"].shape[1]


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The micro-batches as one; what has no rows is the first one's."""
    whole: dict[str, Any] = {}
    for name, value in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(value, Tensor) and value.dim() > 0:
            whole[name] = torch.cat(values)
        elif isinstance(value, list):
            whole[name] = [entry for entries in values for entry in entries]
        else:
            whole[name] = value
    return whole


def chosen(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """Some rows of a batch."""
    found: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Tensor) and value.dim() > 0:
            found[name] = value[torch.tensor(rows, device=value.device)]
        elif isinstance(value, list):
            found[name] = [value[row] for row in rows]
        else:
            found[name] = value
    return found


def trimmed(batch: dict[str, Any], multiple: int = 1) -> dict[str, Any]:
    """A micro-batch without the columns that are padding in all its rows: prompts from the left,
    answers and all that has a value for each of their tokens from the right.

    Args:
        multiple: widths stay multiples of it.
    """
    if any(batch.get(name) is not None for name in IMAGES):
        return batch
    prompt_B, answer_B = lengths(batch)
    whole_P, whole_T = batch["prompt_ids"].shape[1], batch["completion_ids"].shape[1]
    width_P = _width(prompt_B, multiple, whole_P)
    width_T = _width(answer_B, multiple, whole_T)
    rows, found = len(batch["prompt_ids"]), dict(batch)
    for name, value in batch.items():
        if not isinstance(value, Tensor) or value.dim() < 2 or len(value) != rows:
            continue
        # A copy, so that the untrimmed batch need not live on.
        if name in ("prompt_ids", "prompt_mask"):
            found[name] = value[:, whole_P - width_P :].clone()
        elif value.shape[1] == whole_T:
            found[name] = value[:, :width_T].clone()
    return found


def _width(length_B: Tensor, multiple: int, most: int) -> int:
    longest = max(1, int(length_B.amax()))
    return min(most, -(-longest // multiple) * multiple)

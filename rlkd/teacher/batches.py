"""Which rows a local teacher reads in one forward."""

import numpy as np

Row = tuple[list[int], list[int]]
"""Ids of a prompt and of its answer."""

FORWARD_TOKENS = 256
"""Tokens that a forward pass costs besides its own: kernels that are started, weights that are
read. By arithmetic about 120 for a 7B model in bfloat16 on an H100, more for small ones."""


def cut(order: list[int], rows: list[Row], max_tokens: int) -> list[list[int]]:
    """Cut `order` (longest first) into batches that compute the fewest tokens, where each forward
    costs `FORWARD_TOKENS` besides its own and none has more than `max_tokens`, padding included."""
    number = len(order)
    widths = [max(1, len(rows[i][0]) + len(rows[i][1]) - 1) for i in order]
    # least_N[i]: of the rows from i on. A row alone may be larger than max_tokens.
    least_N, ends, count_N = np.zeros(number + 1), [number] * number, np.arange(1, number + 1)
    for start in reversed(range(number)):
        most = min(number - start, max(1, max_tokens // widths[start]))
        cost_N = count_N[:most] * widths[start] + least_N[start + 1 : start + 1 + most]
        best = most - 1 - int(cost_N[::-1].argmin())  # of equal ones the longest
        least_N[start] = cost_N[best] + FORWARD_TOKENS
        ends[start] = start + 1 + best
    batches, start = [], 0
    while start < number:
        batches.append(order[start : ends[start]])
        start = ends[start]
    return batches

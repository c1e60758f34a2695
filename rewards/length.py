"""Rewards for the length of completions. Lengths are tokens of ``completion_ids``.

For row i: L_i tokens, c_i = 1 if the verifiable reward ``of`` gives at least 1, else 0. Where it
gives None (cannot be graded), so does the reward here, and the row counts in no minimum, mean or
deviation.

``kimi`` and ``soft_overlong`` say nothing about the answer: add them to the reward for it.
``l1_exact``, ``l1_max``, ``shorter_better`` and ``arora_zanette`` contain it: use them instead.

**Groups.** ``kimi``, ``shorter_better`` and ``arora_zanette`` compare the rows of one prompt: those
of one call whose prompts are equal. TRL calls a reward once per process with that process's rows.
A group that straddles processes is so compared in parts, each with its own minimum and mean. It
stays whole where the rows of a process per generation batch are a multiple of the group size.
Where one prompt is drawn twice in a batch, both groups count as one; in an evaluation with one
completion per prompt a group is one row.

Tokens that a tool wrote count as well. The end token counts if the sampler gives it.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from rewards.inner import carries_check, scores

Values = list[float | None]
_CORRECT_FROM = 1.0


@carries_check
def kimi(
    completions: list,
    completion_ids: list,
    prompts: list,
    *,
    of: str,
    of_kwargs: Mapping[str, Any] | None = None,
    **columns: Any,
) -> Values:
    """λ_i = 1/2 - (L_i - min L) / (max L - min L), and min(0, λ_i) for a wrong answer.

    Minimum and maximum over the whole group; 0 where all are of one length. In [-1/2, 1/2]. Kimi
    k1.5 (arXiv 2501.12599, §2.3.3); the weight there is not reported and rises from 0 after a
    warm-up.

    Args:
        of: the verifiable reward, as module:name.
        of_kwargs: its own options.

    Raises:
        ConfigError, ValueError: see ``rewards.inner.scores``; columns of different lengths.
    """
    lengths, correct = _measured(completions, completion_ids, prompts, of, of_kwargs, columns)

    def value(i: int, group: list[int]) -> float:
        shortest, longest = (pick(lengths[j] for j in group) for pick in (min, max))
        if shortest == longest:
            return 0.0
        score = 0.5 - (lengths[i] - shortest) / (longest - shortest)
        return score if correct[i] else min(0.0, score)

    return _by_group(prompts, correct, value)


@carries_check
def shorter_better(
    completions: list,
    completion_ids: list,
    prompts: list,
    *,
    of: str,
    of_kwargs: Mapping[str, Any] | None = None,
    alpha: float = 2.0,
    beta: float = 1e-3,
    **columns: Any,
) -> Values:
    """r_i = α c_i - β |L_i - SOL|, SOL the length of the group's shortest correct answer.

    Without a correct answer SOL is the mean length of the group. ShorterBetter (arXiv 2504.21370);
    α is 1 or 2 there, β 0.001 per token.

    Args:
        of: the verifiable reward, as module:name.
        of_kwargs: its own options.
        alpha: what a correct answer is worth.
        beta: what a token of distance costs.

    Raises:
        ConfigError, ValueError: see ``rewards.inner.scores``; columns of different lengths.
    """
    lengths, correct = _measured(completions, completion_ids, prompts, of, of_kwargs, columns)

    def value(i: int, group: list[int]) -> float:
        right = [lengths[j] for j in group if correct[j]]
        best = min(right) if right else sum(lengths[j] for j in group) / len(group)
        return alpha * bool(correct[i]) - beta * abs(lengths[i] - best)

    return _by_group(prompts, correct, value)


@carries_check
def arora_zanette(
    completions: list,
    completion_ids: list,
    prompts: list,
    *,
    of: str,
    of_kwargs: Mapping[str, Any] | None = None,
    alpha: float = 0.1,
    **columns: Any,
) -> Values:
    """r_i = c_i (1 - α σ((L_i - μ) / s)), σ the logistic function.

    μ and s are mean and (population) standard deviation of the lengths of the group's correct
    answers; where s is 0 the fraction is 0, so the answer is worth 1 - α/2. Arora and Zanette,
    "Training Language Models to Reason Efficiently" (arXiv 2502.04463), made for RLOO; that s is
    the population's is our reading.

    Args:
        of: the verifiable reward, as module:name.
        of_kwargs: its own options.
        alpha: the largest share of the reward that length may cost, in [0, 1).

    Raises:
        ConfigError, ValueError: see ``rewards.inner.scores``; columns of different lengths; alpha
            out of range.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be at least 0 and less than 1, not {alpha}")
    lengths, correct = _measured(completions, completion_ids, prompts, of, of_kwargs, columns)

    def value(i: int, group: list[int]) -> float:
        if not correct[i]:
            return 0.0
        right = [lengths[j] for j in group if correct[j]]
        mean = sum(right) / len(right)
        spread = math.sqrt(sum((length - mean) ** 2 for length in right) / len(right))
        z = (lengths[i] - mean) / spread if spread > 0 else 0.0
        return 1.0 - alpha / (1.0 + math.exp(-z))

    return _by_group(prompts, correct, value)


@carries_check
def l1_exact(
    completions: list,
    completion_ids: list,
    budget: list | int,
    *,
    of: str,
    of_kwargs: Mapping[str, Any] | None = None,
    alpha: float = 3e-4,
    **columns: Any,
) -> Values:
    """r_i = c_i - α |n_i - L_i|: be right, in exactly n_i tokens. L1-Exact (arXiv 2503.04697).

    Args:
        budget: n_i, tokens; a column of the data, which the prompt should name, or one number for
            all. None for a row without one.
        of: the verifiable reward, as module:name.
        of_kwargs: its own options.
        alpha: what a token of distance costs.

    Raises:
        ConfigError, ValueError: see ``rewards.inner.scores``; columns of different lengths.
    """
    return _budgeted(
        completions, completion_ids, budget, of, of_kwargs, columns,
        lambda right, spare: right - alpha * abs(spare),
    )  # fmt: skip


@carries_check
def l1_max(
    completions: list,
    completion_ids: list,
    budget: list | int,
    *,
    of: str,
    of_kwargs: Mapping[str, Any] | None = None,
    alpha: float = 3e-4,
    delta: float = 0.5,
    **columns: Any,
) -> Values:
    """r_i = c_i clip(α (n_i - L_i) + δ, 0, 1): be right, in at most about n_i tokens.

    L1-Max (arXiv 2503.04697, eq. 3). The released code has another slope, (1 + clip(α (n_i - L_i),
    -1, 1)) / 2, which is this with α = 1.5e-4.

    Args:
        budget: n_i, tokens; a column of the data, which the prompt should name, or one number for
            all. None for a row without one.
        of: the verifiable reward, as module:name.
        of_kwargs: its own options.
        alpha: what a token is worth.
        delta: what is left where the budget is used up exactly.

    Raises:
        ConfigError, ValueError: see ``rewards.inner.scores``; columns of different lengths.
    """
    return _budgeted(
        completions, completion_ids, budget, of, of_kwargs, columns,
        lambda right, spare: right * min(1.0, max(0.0, alpha * spare + delta)),
    )  # fmt: skip


def soft_overlong(
    completions: list, completion_ids: list, *, max_length: int, cache: int, **columns: Any
) -> Values:
    """0 up to L_max - L_c tokens, then down in a straight line to -1 at L_max and beyond.

    ((L_max - L_c) - L_i) / L_c on the way. DAPO (arXiv 2503.14476, eq. 13), where L_max is 20480
    and L_c 4096.

    Args:
        max_length: L_max, tokens; not more than the sampler's limit, or -1 is never reached.
        cache: L_c, tokens.

    Raises:
        ValueError: not 0 < cache <= max_length; columns of different lengths.
    """
    if not 0 < cache <= max_length:
        raise ValueError(f"need 0 < cache <= max_length, not {cache} and {max_length}")
    _same(completions, completion_ids=completion_ids)
    start = max_length - cache
    return [max(-1.0, min(0.0, (start - len(ids)) / cache)) for ids in completion_ids]


def _budgeted(
    completions: list,
    completion_ids: list,
    budget: list | int,
    of: str,
    of_kwargs: Mapping[str, Any] | None,
    columns: Mapping[str, Any],
    value: Callable[[float, float], float],
) -> Values:
    """``value(correct, tokens left)`` per row, None where either is unknown."""
    budgets = budget if isinstance(budget, list) else [budget] * len(completions)
    _same(completions, completion_ids=completion_ids, budget=budgets)
    inner = {**columns, "completion_ids": completion_ids, "budget": budgets}
    rows = zip(_correct(scores(of, of_kwargs, completions, inner)), budgets, completion_ids,
               strict=True)  # fmt: skip
    return [
        None if right is None or not _is_number(limit) else value(float(right), limit - len(ids))
        for right, limit, ids in rows
    ]


def _measured(
    completions: list,
    completion_ids: list,
    prompts: list,
    of: str,
    of_kwargs: Mapping[str, Any] | None,
    columns: Mapping[str, Any],
) -> tuple[list[int], list[bool | None]]:
    """Each row's length and whether it is correct (None: cannot be graded)."""
    _same(completions, completion_ids=completion_ids, prompts=prompts)
    inner = {**columns, "completion_ids": completion_ids, "prompts": prompts}
    return [len(ids) for ids in completion_ids], _correct(scores(of, of_kwargs, completions, inner))


def _correct(values: Values) -> list[bool | None]:
    return [None if value is None else value >= _CORRECT_FROM for value in values]


def _by_group(
    prompts: list, correct: list[bool | None], value: Callable[[int, list[int]], float]
) -> Values:
    """``value(row, gradable rows of its group)`` for each gradable row, None for the others."""
    groups: dict[str, list[int]] = {}
    keys = [json.dumps(prompt, sort_keys=True, default=str) for prompt in prompts]
    for i, key in enumerate(keys):
        if correct[i] is not None:
            groups.setdefault(key, []).append(i)
    return [None if correct[i] is None else value(i, groups[key]) for i, key in enumerate(keys)]


def _same(completions: list, **columns: list) -> None:
    for name, column in columns.items():
        if len(column) != len(completions):
            raise ValueError(f"{len(completions)} completions but {len(column)} of {name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# What each takes hold of, in the words of rlkd's components: CEEH holds it too, and the door of a
# run refuses both at once. (`soft_overlong` looks at the limit only.)
for _reward in (kimi, shorter_better, arora_zanette, l1_exact, l1_max):
    setattr(_reward, "steers", frozenset({"the length reward"}))  # noqa: B010

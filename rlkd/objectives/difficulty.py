"""How hard a prompt is for the present student, from its pass rates over time. Source: CEEH
(arXiv 2602.22642, §3.2, Eq. 9, 10, 15, 16) and its official code (github.com/QinwenLuo/CEEH).

All of a prompt's records are one number each, (N,), float64; NaN means "not known yet".
"""

import torch
from torch import Tensor

SHORTEST = ("minimum", "moving_average")
UNVISITED = ("left_out", "minus_one")
BOUNDS = ("below", "at_most")


def pass_rate(correct_NG: Tensor, counted_NG: Tensor) -> Tensor:
    """Acc(x) = (1/K) Σ_i I[a^i = a*], over the K counted answers of each group; NaN where none
    counts. (CEEH Eq. 9.)"""
    right_N = (correct_NG & counted_NG).sum(-1).double()
    return right_N / counted_NG.sum(-1)


def moving_average(old_N: Tensor, new_N: Tensor, rate_N: Tensor) -> Tensor:
    """(1 − η) old + η new, rounded so that it is `old` where new = old, `old` at η = 0, `new` at
    η = 1, and never outside the two.

    The plain formula gives 0.95 · 3/4 + 0.05 · 3/4 < 3/4: a prompt whose pass rate does not move
    would then seem to have become better, and a gate that asks for that would open.
    """
    step_N = new_N - old_N
    near_N = old_N + rate_N * step_N
    far_N = new_N - (1.0 - rate_N) * step_N
    return torch.where(rate_N < 0.5, near_N, far_N)


def moving_pass_rate(
    history_N: Tensor,
    current_N: Tensor,
    rate_up: float = 0.2,
    rate_down: float = 0.05,
    restart_at_zero: bool = False,
) -> Tensor:
    """Acc_h(x) ← (1 − η) Acc_h(x) + η Acc(x); η = rate_up where Acc_h < Acc, else rate_down.
    (CEEH Eq. 10, 15: 0.2 and 0.05: success is believed faster than failure.)

    A first visit (history NaN) sets Acc_h = Acc. `restart_at_zero`: so does any visit while
    Acc_h ≤ 0 (the official code's later trainer). A group without counted answers (current NaN)
    changes nothing.
    """
    rate_N = torch.full_like(history_N, rate_down).masked_fill(history_N < current_N, rate_up)
    moved_N = moving_average(history_N, current_N, rate_N)
    fresh_N = history_N.isnan()
    if restart_at_zero:
        fresh_N = fresh_N | (history_N <= 0.0)
    new_N = torch.where(fresh_N, current_N, moved_N)
    return torch.where(current_N.isnan(), history_N, new_N)


def shortest_correct(length_NG: Tensor, correct_NG: Tensor, counted_NG: Tensor) -> Tensor:
    """Fewest tokens among the group's counted correct answers; NaN where there is none."""
    right_NG = correct_NG & counted_NG
    low_N = length_NG.double().masked_fill(~right_NG, torch.inf).amin(-1)
    return low_N.masked_fill(low_N.isinf(), torch.nan)


def shortest_on_record(
    record_N: Tensor,
    group_N: Tensor,
    how: str = "minimum",
    rate_shorter: float = 0.2,
    rate_longer: float = 0.05,
) -> Tensor:
    """L_x, the length to which a correct answer is held, after a group whose shortest correct
    answer had `group_N` tokens (NaN: none was correct, nothing changes).

    * ``minimum``: the shortest correct answer ever. (CEEH §3.3.)
    * ``moving_average``: starts as the first solved group's shortest; then
      L_x ← a ℓ + (1 − a) L_x, a = rate_shorter where ℓ < L_x, else rate_longer, so that it can
      drift up. (Official code: 0.2 and 0.05.)
    """
    if how == "minimum":
        moved_N = torch.minimum(record_N, group_N)
    elif how == "moving_average":
        rate_N = torch.full_like(record_N, rate_longer)
        rate_N = rate_N.masked_fill(group_N < record_N, rate_shorter)
        moved_N = moving_average(record_N, group_N, rate_N)
    else:
        raise ValueError(f"how is {how!r}; it is one of {', '.join(SHORTEST)}")
    new_N = torch.where(record_N.isnan(), group_N, moved_N)
    return torch.where(group_N.isnan(), record_N, new_N)


def threshold(history_D: Tensor, unvisited: str = "left_out") -> Tensor:
    """The pass rate below which a prompt is hard: (1/|D|) Σ_{x' ∈ D} Acc_h(x'), a scalar. (CEEH
    Eq. 16.)

    Args:
        history_D: Acc_h of every training prompt, NaN where not visited yet.
        unvisited: ``left_out``: the mean is over the visited prompts, NaN while there is none;
            ``minus_one``: each unvisited prompt counts as −1 (the official code's initial value),
            so that the threshold is too low during the first epoch.

    Returns:
        A scalar: within [0, 1] with ``left_out``, within [−1, 1] with ``minus_one``.
    """
    if unvisited not in UNVISITED:
        raise ValueError(f"unvisited is {unvisited!r}; it is one of {', '.join(UNVISITED)}")
    if unvisited == "minus_one":
        counted_D = history_D.nan_to_num(nan=-1.0)
    else:
        counted_D = history_D[~history_D.isnan()]
    if len(counted_D) == 0:
        return history_D.new_tensor(torch.nan)
    # The mean of equal numbers may differ from them in the last bit, and all would be hard.
    return counted_D.mean().clamp(counted_D.amin(), counted_D.amax())


def is_hard(rate_N: Tensor, threshold: Tensor, bound: str = "below") -> Tensor:
    """x ∈ D_h, (N,) booleans: rate < threshold (``below``, CEEH Eq. 16) or rate ≤ threshold
    (``at_most``, official code). A rate or threshold that is not known (NaN) makes no prompt
    hard."""
    if bound not in BOUNDS:
        raise ValueError(f"bound is {bound!r}; it is one of {', '.join(BOUNDS)}")
    return rate_N < threshold if bound == "below" else rate_N <= threshold

"""The length reward that is anchored to each prompt's shortest correct answer. Source: CEEH
(arXiv 2602.22642, §3.3, Eq. 13, 14) and its official code."""

import torch
from torch import Tensor

FLOORS = ("term", "contribution")
GATES = ("above", "at_least")


def length_contribution(
    length_NG: Tensor,
    shortest_N: Tensor,
    beta: float = 0.1,
    floor: float = -0.9,
    floored: str = "term",
) -> Tensor:
    """−β R_len = β (L_x − L) / L_x, what a correct answer of L tokens adds to its reward; above 0
    for an answer shorter than the record.

    * ``term`` (the paper's interval [−0.9, 1)): β max(floor, (L_x − L) / L_x): at least β·floor.
    * ``contribution`` (the official code): max(floor, β (L_x − L) / L_x): at least floor.

    Args:
        length_NG: tokens of each answer, its end token included.
        shortest_N: L_x, tokens; NaN (no correct answer on record) gives 0.

    Returns:
        (N, G), in units of reward, without NaN.
    """
    shortest_N1 = shortest_N.unsqueeze(-1)
    term_NG = (shortest_N1 - length_NG) / shortest_N1
    if floored == "term":
        added_NG = beta * term_NG.clamp(min=floor)
    elif floored == "contribution":
        added_NG = (beta * term_NG).clamp(min=floor)
    else:
        raise ValueError(f"floored is {floored!r}; it is one of {', '.join(FLOORS)}")
    return torch.nan_to_num(added_NG, nan=0.0)


def passes_gate(pass_rate_N: Tensor, history_N: Tensor, gate: str = "above") -> Tensor:
    """(N,) booleans: is the student better at this prompt than it used to be? Acc(x) > Acc_h(x)
    (``above``, CEEH §3.3) or ≥ (``at_least``, official code). A first visit (history NaN) passes
    neither."""
    if gate not in GATES:
        raise ValueError(f"gate is {gate!r}; it is one of {', '.join(GATES)}")
    return pass_rate_N > history_N if gate == "above" else pass_rate_N >= history_N

"""What a teacher said: can it be right, and as tensors of a batch."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rlkd.objectives.chunked import Head
from rlkd.teacher.base import Teacher, TeacherError, TokenScores


def score_padded(
    teacher: Teacher,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    like_BT: Tensor,
    temperature: float,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> Tensor:
    """Scores as a float32 (B, T) tensor on the device of `like_BT`, 0 on padding.

    Args:
        rows: the rows of the data behind the prompts; None: empty ones.

    Raises:
        TeacherError: as `pad_scores`.
    """
    rows = rows if rows is not None else [{}] * len(prompt_ids)
    scores = teacher.score_rows(rows, prompt_ids, completion_ids, temperature)
    return pad_scores(teacher, scores, completion_ids, like_BT)


def pad_hidden(
    scores: Sequence[TokenScores],
    completion_ids: Sequence[Sequence[int]],
    like_BT: Tensor,
    head: Head,
    left_out: Collection[int] = (),
) -> Tensor:
    """The `hidden_TH` of all rows, (B, T, H) on the device of `like_BT`, 0 on padding and in the
    rows `left_out`. Of their own dtype; where no row has any, of the head's weight.

    Args:
        head: the teacher's, which reads them.
        left_out: rows of which `faults_of` has found something.
    """
    rows = [row for row, sent in enumerate(completion_ids) if len(sent) and row not in left_out]
    given = {row: cast(Tensor, scores[row].hidden_TH) for row in rows}
    like_H = next(iter(given.values()), head.weight_VH)
    padded_BTH = like_H.new_zeros(*like_BT.shape, like_H.shape[-1])
    for row, hidden_TH in given.items():
        padded_BTH[row, : len(hidden_TH)] = hidden_TH
    return padded_BTH.to(like_BT.device)


def pad_scores(
    teacher: Teacher,
    scores: Sequence[TokenScores],
    completion_ids: Sequence[Sequence[int]],
    like_BT: Tensor,
    left_out: Collection[int] | None = None,
) -> Tensor:
    """Scores as a float32 (B, T) tensor on the device of `like_BT`, 0 on padding.

    Args:
        left_out: rows that get 0, where `faults_of` was asked before; None: it is asked here.

    Raises:
        TeacherError: it finds something.
    """
    if left_out is None:
        for reason in faults_of(teacher.name, scores, completion_ids).values():
            raise TeacherError(reason)
    padded_BT = torch.zeros(like_BT.shape, dtype=torch.float32)
    for row, sent in enumerate(completion_ids):
        if len(sent) and row not in (left_out or ()):
            padded_BT[row, : len(sent)] = scores[row].logp.float().cpu()
    return padded_BT.to(like_BT.device)


def faults_of(
    name: str,
    scores: Sequence[TokenScores],
    completion_ids: Sequence[Sequence[int]],
    numbers: Sequence[int] | None = None,
    head: Head | None = None,
) -> dict[int, str]:
    """What cannot be right in what a teacher said, by row and in words.

    Where it scored more or fewer answers than it was sent, nobody knows which score is whose: all
    rows are wrong.

    Args:
        name: the teacher's.
        completion_ids: what it was sent; an empty answer has nothing to be wrong.
        numbers: of the rows; None: from 0.
        head: the teacher's, where hidden states that it can read are wanted beside the scores.
    """
    numbers = range(len(completion_ids)) if numbers is None else numbers
    if len(scores) != len(completion_ids):
        reason = f"{name} was asked for {len(completion_ids)} answers and scored {len(scores)}"
        return dict.fromkeys(numbers, reason)
    found = {
        row: fault_of(name, scored, sent, f"in row {row}", head)
        for row, scored, sent in zip(numbers, scores, completion_ids, strict=True)
    }
    return {row: reason for row, reason in found.items() if reason is not None}


def fault_of(
    name: str, scored: TokenScores, sent: Sequence[int], where: str, head: Head | None = None
) -> str | None:
    """What cannot be right in the scores of one answer; None: nothing. `head` as of `faults_of`.

    That a single token is impossible (−inf) is a score, that a whole answer is made of nothing else
    is a teacher that broke: it rules out what any text begins with.
    """
    if not isinstance(scored, TokenScores):
        return f"{name} gave {type(scored).__name__} {where}, where TokenScores are expected"
    if scored.fault is not None:
        return scored.fault
    if not all(
        isinstance(value, Tensor) and value.dim() == 1 for value in (scored.token_ids, scored.logp)
    ):
        return f"{name} gave no two tensors of one dimension, token_ids and logp, {where}"
    echoed, logp = scored.token_ids.tolist(), scored.logp.float().cpu()
    if echoed != list(sent):
        return (
            f"{name} scored other tokens than were sent, {where}: sent {list(sent)[:8]}…, scored "
            f"{echoed[:8]}…. Its scores would train the student on noise."
        )
    if len(logp) != len(sent):
        return f"{name} gave {len(logp)} scores for the {len(sent)} tokens that were sent, {where}"
    wrong = logp.isnan() | (logp > 1e-3)
    if wrong.any():
        place = int(wrong.nonzero()[0])
        return (
            f"{name} gave a log-probability of {logp[place].item():g} {where}, token {place} "
            f"(tokens {list(sent)[:16]}…). A log-probability is at most 0 and a number; check the "
            "teacher's weights and dtype (float16 overflows where bfloat16 does not)."
        )
    if len(logp) > 1 and bool((logp == -torch.inf).all()):
        return (
            f"{name} rules out every token of an answer (−inf), {where} (tokens {list(sent)[:16]}"
            "…). Check its weights, and that its prompt is the one that was answered."
        )
    return None if head is None else _fault_of_hidden(name, scored, head.weight_VH.shape[-1], where)


def _fault_of_hidden(name: str, scored: TokenScores, size: int, where: str) -> str | None:
    hidden_TH, wanted = scored.hidden_TH, (len(scored.token_ids), size)
    if isinstance(hidden_TH, Tensor) and hidden_TH.shape == wanted:
        return None
    shape = tuple(hidden_TH.shape) if isinstance(hidden_TH, Tensor) else None
    return (
        f"{name} gave {f'hidden states of {shape}' if shape else 'no hidden states'} {where}, where"
        f" {wanted} are expected, one for each token that was sent: a loss over the whole"
        " vocabulary makes the teacher's distributions of them"
    )

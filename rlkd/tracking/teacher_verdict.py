"""Does the teacher know right from wrong? Its opinion of answers beside the reward's."""

import math
import statistics
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.tracking.rollouts import Rollouts
from rlkd.tracking.store import prompt_text

LEAST = 8
"""Rows, or pairs of rows, below which a figure would be chance and is not logged."""
POOL = 512
"""Rollouts that a figure is of, the latest; a larger batch is taken whole. Of 64 alone two scores
that have nothing to do with each other are often correlated by 0.2."""


class Opinion(NamedTuple):
    """One rollout: the reward's mark and the teacher's."""

    prompt: int
    """Equal for answers to one prompt, on whatever rank."""
    reward: float | None
    """Of the verifiable reward; None: not gradable."""
    logp: float
    """log π_T per token, mean over the answer."""
    gap: float
    """log π_S − log π_T per token, mean over the answer."""


def opinions(rollouts: Rollouts, verifiable: str) -> list[Opinion]:
    """Of the rows that the student wrote and the teacher scored with finite numbers."""
    columns = rollouts.columns
    if "teacher_gap" not in columns or f"reward/{verifiable}" not in columns:
        return []
    sources = columns.get("source", ["student"] * len(rollouts.prompts))
    rows = zip(
        rollouts.prompts, columns[f"reward/{verifiable}"], columns["teacher_logp"],
        columns["teacher_gap"], sources, strict=True,
    )  # fmt: skip
    return [
        Opinion(zlib.crc32(prompt_text(prompt).encode("utf-8", "replace")), reward, logp, gap)
        for prompt, reward, logp, gap, source in rows
        if source == "student" and _finite(logp) and _finite(gap)
    ]


def verdict(rows: Sequence[Opinion]) -> dict[str, float]:
    """What is logged of rollouts of all ranks; see the glossary. Nothing where too few rows say
    something.

    Right is a full mark of the verifiable reward, wrong a lower one. Pairs are of one prompt: that
    some prompts are easier to teacher and reward alike says nothing.
    """
    found: dict[str, float] = {}
    pairs = [pair for group in _groups(rows) for pair in _pairs(group)]
    if len(pairs) >= LEAST:
        found["teacher/prefers_right"] = _share([right.logp - wrong.logp for right, wrong in pairs])
        found["teacher/pulls_to_right"] = _share([wrong.gap - right.gap for right, wrong in pairs])
    right = [row for row in rows if row.reward is not None and row.reward >= 1]
    if len(right) >= LEAST:
        found["teacher/gap_of_right"] = statistics.fmean(row.gap for row in right)
    if len(rows) >= LEAST:
        teacher, student = [row.logp for row in rows], [row.logp + row.gap for row in rows]
        found["teacher/logp_std"] = statistics.pstdev(teacher)
        if statistics.pstdev(student) > 1e-6:  # a student that is certain everywhere shows nothing
            constant = found["teacher/logp_std"] <= 1e-6
            found["teacher/agreement"] = (
                0.0 if constant else statistics.correlation(teacher, student)
            )
    return found


def _groups(rows: Sequence[Opinion]) -> list[list[Opinion]]:
    groups: defaultdict[int, list[Opinion]] = defaultdict(list)
    for row in rows:
        groups[row.prompt].append(row)
    return list(groups.values())


def _pairs(group: Sequence[Opinion]) -> list[tuple[Opinion, Opinion]]:
    marked = [(row, row.reward) for row in group if row.reward is not None]
    right = [row for row, reward in marked if reward >= 1]
    wrong = [row for row, reward in marked if reward < 1]
    return [(one, other) for one in right for other in wrong]


def _share(differences: Sequence[float]) -> float:
    """Of those above 0, equal ones half: the area under a ROC curve."""
    return statistics.fmean((d > 0) + 0.5 * (d == 0) for d in differences)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


class TeacherVerdict(TrainerCallback):
    """Adds to what is logged how the teacher's scores go with the reward. On every rank.

    A piece of a checkpoint: a resumed run's figures are those of the whole one.

    Args:
        gather: collects a list's entries from all ranks.
        verifiable: the reward whose full mark, 1, counts as correct.
    """

    def __init__(self, gather: Callable[[list[Any]], list[Any]], verifiable: str) -> None:
        self._gather = gather
        self._verifiable = verifiable
        self._rows: list[Opinion] | None = None
        self._pool: list[Opinion] = []

    def see(self, rollouts: Rollouts) -> None:
        """Take a batch that the first pass has seen."""
        if "teacher_gap" in rollouts.columns:
            self._rows = opinions(rollouts, self._verifiable)

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {"pool": [tuple(row) for row in self._pool]}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        self._pool = [Opinion(*row) for row in state["pool"]]
        return f"{len(self._pool)} rollouts"

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """See TrainerCallback; the callbacks after this one see what it adds."""
        if self._rows is None or logs is None or "loss" not in logs:
            return
        rows, self._rows = self._gather(self._rows), None
        self._pool = [*self._pool, *rows][-max(POOL, len(rows)) :]
        logs |= verdict(self._pool)

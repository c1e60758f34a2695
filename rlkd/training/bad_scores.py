"""What a teacher says that cannot be right: kept in a file for a person, counted, and too much of
it ends the run."""

import json
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from rlkd.teacher.base import TeacherError, TokenScores

BATCHES = 5
"""Batches over which the share of answers without scores is taken."""
SHARE = 0.25
"""Most of them that may go without: of the answers of that many batches."""
KEPT = 100
"""Answers that one process writes down at most."""


class BadScores:
    """The answers of a run that its teacher gave no sound scores. A piece of a checkpoint.

    Args:
        folder: of the file; it is made with the first answer.
        rank: this process's.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self._rank = folder, rank
        self._kept = 0
        self._recent: deque[tuple[int, int]] = deque(maxlen=BATCHES)
        self.fault = ""
        """One of theirs: the first of the last batch that had any."""

    @property
    def path(self) -> Path:
        """One line of JSON an answer."""
        return self.folder / f"bad_scores-rank{self._rank}.jsonl"

    def keep(
        self,
        step: int,
        faults: Mapping[int, str],
        rows: Sequence[Mapping[str, Any]],
        completion_ids: Sequence[Sequence[int]],
        completions: Sequence[str],
        scores: Sequence[TokenScores | None],
        in_check: bool = False,
    ) -> str:
        """Write these answers down; returns where, in words.

        Args:
            step: the optimiser step in work.
            faults: what is wrong, by row.
            completions: the answers' texts.
            scores: what the teacher said; a row of its own for each answer, or none is written.
            in_check: they were asked for in the check at the start, which moves their tokens about.
        """
        said = scores if len(scores) == len(completion_ids) else [None] * len(completion_ids)
        lines = [
            json.dumps(
                {
                    "step": step,
                    "row": row,
                    "in_check": in_check,
                    "reason": reason,
                    "prompt": rows[row].get("prompt"),
                    "completion": completions[row],
                    "completion_ids": list(completion_ids[row]),
                    **_said(said[row]),
                },
                ensure_ascii=False,
            )
            for row, reason in list(faults.items())[: max(0, KEPT - self._kept)]
        ]
        self._kept += len(lines)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError as error:  # of a fault that is told anyway
            return f"{self.path} could not be written ({error})"
        return str(self.path)

    def count(self, bad: int, rows: int, fault: str = "") -> str | None:
        """Count a training batch, over all ranks; returns why the run must end, None: it goes on.

        Args:
            bad: answers without sound scores.
            rows: answers that scores were asked for.
            fault: what is wrong with the first bad one; empty where there is none.
        """
        self.fault = fault or self.fault
        if rows and bad == rows:
            return f"not one of the {rows} answers of a batch has sound scores"
        self._recent.append((bad, rows))
        left_out, seen = (sum(column) for column in zip(*self._recent, strict=True))
        whole = seen / len(self._recent) * BATCHES
        if left_out > SHARE * whole:
            return (
                f"{left_out} of the last {seen} answers had no sound scores, more than {SHARE:.0%} "
                f"of those of {BATCHES} batches"
            )
        return None

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {"recent": list(self._recent), "fault": self.fault}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        self._recent = deque((tuple(pair) for pair in state["recent"]), maxlen=BATCHES)
        self.fault = state.get("fault", "")
        return f"{sum(bad for bad, _ in self._recent)} answers of late without the teacher's scores"


def raise_too_many(name: str, why: str, bad_scores: BadScores) -> None:
    """Raises TeacherError."""
    path = bad_scores.path
    if not path.exists():  # they are other ranks'
        path = path.with_name("bad_scores-rank*.jsonl")
    raise TeacherError(
        f"{name}: {why}; one of them: {bad_scores.fault.rstrip('.')}. on_bad_scores is mask, which "
        "is for single answers; what is left would be another run than was asked for. Look at the "
        f"answers in {path}, mend the teacher (or what makes answers that it cannot score: their "
        "length, their tokens), and resume the run."
    )


def discard_after(folder: Path, step: int, aside: Path) -> int:
    """Move the lines of steps after `step`, of all ranks, to files of the same names in `aside`;
    returns how many. A line that a kill tore goes with them, and a file without others is gone."""
    moved = 0
    for path in sorted(folder.glob("bad_scores-rank*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)  # a text is split at U+2028 too
        kept = [line for line in lines if _is_of(line, step)]
        later = [line for line in lines if not _is_of(line, step)]
        if not later:
            continue
        aside.mkdir(parents=True, exist_ok=True)
        (aside / path.name).write_bytes(b"".join(later))
        unfinished = path.with_suffix(".tmp")
        unfinished.write_bytes(b"".join(kept))
        os.replace(unfinished, path)
        if not kept:
            path.unlink()
        moved += len(later)
    return moved


def _is_of(line: bytes, step: int) -> bool:
    """Is it whole, and of that step or one before?"""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= step
    except ValueError:
        return False


def _said(scored: TokenScores | None) -> dict[str, Any]:
    both = (scored.token_ids, scored.logp) if isinstance(scored, TokenScores) else ()
    if not both or not all(isinstance(value, Tensor) for value in both):
        return {} if scored is None else {"said": repr(scored)[:1000]}
    # NaN and infinities as words: JSON has none.
    logp = [x if math.isfinite(x) else str(x) for x in both[1].float().flatten().tolist()]
    return {"scored_ids": both[0].flatten().tolist(), "logp": logp}

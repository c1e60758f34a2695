"""The few rollouts and held-out answers that a run's trackers show; all rollouts are on disk."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.tracking.logger import RunLogger
from rlkd.tracking.rollouts import Rollouts, spread
from rlkd.tracking.store import prompt_text

TEXT = 2000
"""Characters of a text in a table; those after it are left out."""

Gather = Callable[[list[Any]], list[Any]]


class Due:
    """When a table is due: at most `most` times, evenly over the steps from `first` to `last`,
    both included."""

    def __init__(self, first: int, last: int, most: int) -> None:
        self._steps = [first + step for step in spread(last - first, most - 1)] + [last] * (
            most > 0
        )
        self._before = first

    def at(self, step: int) -> bool:
        """Is one due at this step, the next after the one asked about before?"""
        due = bisect_right(self._steps, step) > bisect_left(self._steps, self._before)
        self._before = step + 1
        return due


class RolloutTables(TrainerCallback):
    """Gives the trackers the table `rollouts`: some rows of some steps, from all ranks.

    On every rank. Rows are picked where they are handed over and meet when the step is logged,
    where all ranks are together.

    Args:
        run_logger: the first rank's.
        gather: collects a list's entries from all ranks.
        world_size: number of ranks.
        rows: of one table; 0: no tables.
        most: tables of a run.
        steps: optimiser steps of the run.
    """

    def __init__(
        self,
        run_logger: RunLogger | None,
        gather: Gather,
        world_size: int,
        *,
        rows: int,
        most: int,
        steps: int,
    ) -> None:
        self._logger = run_logger
        self._gather = gather
        self._share = -(-rows // world_size)
        self._rows = rows
        self._due = Due(1, steps, most)
        self._picked: tuple[int, list[dict[str, Any]]] | None = None

    def see(self, rollouts: Rollouts) -> None:
        """Pick rows of a batch, if a table is due."""
        if self._rows and self._due.at(rollouts.step):
            self._picked = rollouts.step, _pick(rollouts, self._share)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """See TrainerCallback."""
        if self._picked is None:
            return
        (step, rows), self._picked = self._picked, None
        give(self._logger, step, "rollouts", self._gather(rows)[: self._rows])


class EvalTables:
    """Gives the trackers the table `eval/answers`: the same held-out rows each time.

    On every rank. Args: see RolloutTables.
    """

    def __init__(
        self,
        run_logger: RunLogger | None,
        gather: Gather,
        world_size: int,
        *,
        rows: int,
        most: int,
        steps: int,
    ) -> None:
        self._logger = run_logger
        self._gather = gather
        self._share = -(-rows // world_size)
        self._rows = rows
        self._due = Due(0, steps, most)

    def see(
        self,
        step: int,
        rows: Sequence[dict[str, Any]],
        text: Callable[[int], str],
        scored: Sequence[dict[str, Any]],
    ) -> None:
        """An evaluation of this rank's held-out rows; every rank calls.

        Args:
            rows: of the data.
            text: gives what the model wrote to row i.
            scored: length, truncation and rewards of each.
        """
        if not self._rows or not self._due.at(step):
            return
        picked = [
            {
                "prompt": prompt_text(rows[i]["prompt"]),
                "completion": text(i),
                **scored[i],
                **{f"data/{k}": v for k, v in rows[i].items() if isinstance(v, str | int | float)
                   and k != "prompt"},
            }
            for i in spread(len(rows), self._share)
        ]  # fmt: skip
        give(self._logger, step, "eval/answers", self._gather(picked)[: self._rows])


def give(
    run_logger: RunLogger | None, step: int, name: str, rows: Sequence[dict[str, Any]]
) -> None:
    """Log rows as a table whose first column is the step."""
    if run_logger is None or not rows:
        return
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = [[step, *(_cell(row.get(column)) for column in columns)] for row in rows]
    run_logger.log_table(step, name, ["step", *columns], table)


def _pick(rollouts: Rollouts, number: int) -> list[dict[str, Any]]:
    columns = {k: v for k, v in rollouts.columns.items() if not k.startswith("token_")}
    return [
        {
            "prompt": prompt_text(rollouts.prompts[i]),
            "completion": rollouts.completions[i],
            **{name: values[i] for name, values in columns.items()},
        }
        for i in spread(len(rollouts.prompts), number)
    ]


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT:
        return f"{value[:TEXT]} … ({len(value) - TEXT} more characters)"
    return value

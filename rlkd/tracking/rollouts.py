"""One generation batch of rollouts, row by row, and what the first pass saw of each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlkd.batch import TokenBatch


@dataclass
class Rollouts:
    """This rank's share of one generation batch."""

    step: int
    """The optimiser step that first learns from them, counted from 1."""
    prompts: list[Any]
    """As the dataset gives them: text or chat messages."""
    completions: list[str]
    """Decoded with special tokens: what the model wrote, its end token included."""
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """One value per row: tokens (tool_tokens of them written by tools), truncated, advantage, band,
    reward/NAME (None: not gradable; reward/shaped: the weighted sum after the components had their
    say), entropy and teacher_gap (means over the student's tokens of the row, nats, when it was
    first learnt from)."""

    def add_rewards(self, names: Sequence[str], reward_BF: Tensor) -> None:
        """One column per reward function; NaN becomes None."""
        for number, name in enumerate(names):
            values = reward_BF[:, number].tolist()
            self.columns[f"reward/{name}"] = [None if value != value else value for value in values]

    def note(self, batch: TokenBatch, row_id: Tensor) -> None:
        """Join a micro-batch of the first pass to its rows.

        Args:
            row_id: (B,) the rows' numbers here; TRL shuffles rows before it splits them.
        """
        number_B = batch.mask_BT.sum(-1).clamp(min=1)
        values = {"entropy": batch.entropy_BT}
        if batch.teacher_logp_BT is not None:
            values["teacher_gap"] = batch.logp_BT - batch.teacher_logp_BT
        for name, value_BT in values.items():
            mean_B = torch.where(batch.mask_BT.bool(), value_BT.detach(), 0.0).sum(-1) / number_B
            column = self.columns.setdefault(name, [None] * len(self.prompts))
            for row, value in zip(row_id.tolist(), mean_B.tolist(), strict=True):
                column[row] = value

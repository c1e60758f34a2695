"""One generation batch of rollouts, row by row, and what the first pass saw of each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlkd.batch import TokenBatch

MOST_TOKENS = 4096
"""Of a row whose tokens are stored one by one: those after it are left out."""


def spread(rows: int, number: int) -> list[int]:
    """`number` of the rows (all where there are fewer), evenly spread: rows of a group are next to
    each other, and several prompts say more than one."""
    number = min(rows, number)
    return [rows * place // number for place in range(number)]


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
    """One value per row; what each is: `rlkd.tracking.columns`."""

    def add_rewards(self, names: Sequence[str], reward_BF: Tensor) -> None:
        """One column per reward function; NaN becomes None."""
        for number, name in enumerate(names):
            self.columns[f"reward/{name}"] = _plain(reward_BF[:, number])

    def add_total(self, reward_B: Tensor) -> None:
        """The weighted sum of the rewards; NaN (not gradable) becomes None."""
        self.columns["reward"] = _plain(reward_B)

    def add_sources(self, off_policy_B: Tensor | None) -> None:
        """Who wrote each row; no column where there are no traces. A trace has no policy version:
        no weights of the student sampled it."""
        if off_policy_B is None:
            return
        taught = off_policy_B.tolist()
        self.columns["source"] = ["teacher" if trace else "student" for trace in taught]
        versions = self.columns["policy_version"]
        self.columns["policy_version"] = [
            None if trace else version for trace, version in zip(taught, versions, strict=True)
        ]

    def add_statuses(self, name: str, statuses: Sequence[str] | None) -> None:
        """What came of a reward's call, per row; None: that reward does not say."""
        if statuses is not None and len(statuses) == len(self.prompts):
            self.columns[f"status/{name}"] = list(statuses)

    def add_pieces(self, pieces: dict[int, list[str]]) -> None:
        """The texts of the tokens of some rows, whose values `note` will add."""
        rows = range(len(self.prompts))
        self.columns["token_text"] = [
            pieces[row][:MOST_TOKENS] if row in pieces else None for row in rows
        ]

    def note(self, batch: TokenBatch, row_id: Tensor) -> None:
        """Join a micro-batch of the first pass to its rows.

        Args:
            row_id: (B,) the rows' numbers here; TRL shuffles rows before it splits them.
        """
        rows = row_id.tolist()
        summaries = _summaries(batch)
        # One transfer for all of them. A row without a counted token has none.
        values_KB = torch.stack(list(summaries.values())).tolist()
        counted = batch.mask_BT.any(-1).tolist()
        for name, values in zip(summaries, values_KB, strict=True):
            column = self.columns.setdefault(name, [None] * len(self.prompts))
            for row, value, any_counted in zip(rows, values, counted, strict=True):
                column[row] = value if any_counted else None
        self._note_tokens(batch, rows)

    def _note_tokens(self, batch: TokenBatch, rows: list[int]) -> None:
        texts = self.columns.get("token_text", [])
        wanted = [place for place, row in enumerate(rows) if texts and texts[row] is not None]
        if not wanted:
            return
        tokens = {"token_entropy": batch.entropy_BT}
        if batch.teacher_logp_BT is not None:
            tokens["token_teacher_log_ratio"] = batch.teacher_logp_BT - batch.logp_BT
        mask = batch.mask_BT[wanted].bool().tolist()
        for name, value_BT in tokens.items():
            column = self.columns.setdefault(name, [None] * len(self.prompts))
            values = value_BT[wanted].detach().float().tolist()
            for place, row_values, row_mask in zip(wanted, values, mask, strict=True):
                row = rows[place]
                pairs = list(zip(row_values, row_mask, strict=True))[: len(texts[row])]
                kept = [value if counts else None for value, counts in pairs]
                # A row that is masked whole may be wider than what was computed.
                column[row] = kept + [None] * (len(texts[row]) - len(kept))


def _summaries(batch: TokenBatch) -> dict[str, Tensor]:
    """(B,) figures of each row's counted tokens; whatever stands for a row that has none."""
    mask_BT = batch.mask_BT.bool()
    number_B = mask_BT.sum(-1).clamp(min=1)

    def mean(value_BT: Tensor) -> Tensor:
        # where() and not a product: 0 · inf is NaN.
        return torch.where(mask_BT, value_BT, 0.0).sum(-1) / number_B

    entropy_BT = batch.entropy_BT.detach().float()
    found = {
        "entropy": mean(entropy_BT),
        "entropy_max": entropy_BT.masked_fill(~mask_BT, -torch.inf).amax(-1),
    }
    if batch.teacher_logp_BT is not None:
        teacher_BT = batch.teacher_logp_BT.float()
        gap_BT = batch.logp_BT.detach().float() - teacher_BT
        found["teacher_logp"] = mean(teacher_BT)
        found["teacher_gap"] = mean(gap_BT)
        found["teacher_gap_min"] = gap_BT.masked_fill(~mask_BT, torch.inf).amin(-1)
        found["teacher_gap_max"] = gap_BT.masked_fill(~mask_BT, -torch.inf).amax(-1)
    return found


def _plain(value_B: Tensor) -> list[float | None]:
    return [None if value != value else value for value in value_B.tolist()]

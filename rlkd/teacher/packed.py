"""Scoring without padding: rows of one forward pass as one sequence, equal prompts read once."""

from collections.abc import Sequence
from typing import Any

import torch

from rlkd import packing
from rlkd.teacher.base import TeacherError, TokenScores
from rlkd.teacher.batches import Row


class PaddingFree:
    """Mixin of LocalTeacher: forwards of `rlkd.packing`, where `padding_free` is set."""

    padding_free = False
    shared_prompts = False
    _packing_is_verified = False
    _attention = ""
    _rows_of_pack = 1

    def _start_packing(self, padding_free: bool, shared_prompts: bool) -> None:
        if shared_prompts and not padding_free:
            raise ValueError(
                "shared_prompts is on and padding_free is off: a prompt is shared inside of one "
                "sequence; set padding_free too"
            )
        self.padding_free, self.shared_prompts = padding_free, shared_prompts

    def _use_spans(self, model: Any) -> None:
        try:
            self._attention = packing.use_spans(model)
        except ValueError as error:
            raise TeacherError(f"{self._me.name}: {error}") from error

    @property
    def _me(self) -> Any:
        return self

    def _packs(self, order: Sequence[int], rows: Sequence[Row]) -> list[list[int]]:
        """`order` (longest first) cut into parts of at most `max_tokens` tokens, one row at least.
        Rows that share a prompt come together, and it counts once in a part."""
        share, me = self.shared_prompts, self._me
        if share:
            place = {tuple(rows[i][0]): n for n, i in reversed(list(enumerate(order)))}
            order = sorted(order, key=lambda i: place[tuple(rows[i][0])])
        found: list[list[int]] = []
        room, before = 0, None
        for index in order:
            prompt, answer = rows[index]
            size = len(answer) + (0 if share and prompt == before else len(prompt))
            if size > room or not found:
                found.append([])
                room, size = me.max_tokens, len(answer) + len(prompt)
            room, before = room - size, prompt
            found[-1].append(index)
        return found

    def _forward_packed(
        self, batch: list[int], rows: list[Row], temperature: float, keep_hidden: bool
    ) -> list[TokenScores]:
        me, device = self._me, self._me._head.weight.device
        prompts, answers = zip(*(rows[i] for i in batch), strict=True)
        packed = packing.pack(prompts, answers, share=self.shared_prompts)
        self._rows_of_pack = len(batch)
        state_N = torch.tensor(packed.states, dtype=torch.long, device=device)
        inputs = packed.inputs(self._attention, device)
        hidden_1LH = me._backbone(**inputs, use_cache=False).last_hidden_state
        token_N = torch.tensor(packed.targets, dtype=torch.long, device=device)
        hidden_NH = hidden_1LH[0].index_select(0, state_N)
        return me._scores(hidden_NH, token_N, list(map(len, answers)), temperature, keep_hidden)

    def _further_rows(self, inputs: dict[str, Any]) -> int:
        """Rows of a forward beside the one that its shape shows."""
        packed = self.padding_free and inputs.get("position_ids") is not None
        return self._rows_of_pack - 1 if packed else 0

    def _verify_packing(self, batch: list[int], rows: list[Row]) -> None:
        """A few rows without padding against the same with it, once.

        Raises:
            TeacherError: they differ.
        """
        if self._packing_is_verified or not rows:
            return
        me, batch = self._me, list(dict.fromkeys(batch))
        with me._uncounted():
            padded = me._forward(batch, rows, 1.0, False)
            found = self._forward_packed(batch, rows, 1.0, False)
        pairs = zip(padded, found, strict=True)
        gaps = [(one.logp - other.logp).abs() for one, other in pairs if len(one.logp)]
        error = torch.cat(gaps).max().nan_to_num(torch.inf).item() if gaps else 0.0
        if error > me._bound():
            raise TeacherError(
                f"{me.name} ({type(me.model).__name__}) gives other log-probabilities without "
                f"padding: they differ by {error:.3g} nats (allowed {me._bound():g}). Its "
                "architecture does not fit; set padding_free to false"
            )
        self._packing_is_verified = True

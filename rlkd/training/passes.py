"""A pass through the student, or its reference, that leaves padding and needless logits out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from rlkd import packing
from rlkd.packing import Pack
from rlkd.training import microbatches
from rlkd.training.speed import Speed

logger = logging.getLogger(__name__)

CHECKED_ROWS = 4
"""Rows whose log-probabilities are computed both ways, once."""


class LeanPasses:
    """Mixin before TRL's trainer: `_get_per_token_logps_and_entropies` for less.

    Left to TRL: students that read images, the router's loss of a mixture of experts (a mean over
    the micro-batch), prompt tuning.
    """

    speed: Speed = Speed.plain()
    _answered: Tensor | None = None
    """(B, T) places of the tokens whose states alone the backbone gave in the last pass, row by
    row; None: it gave all."""

    @property
    def _of(self) -> Any:
        return self

    def _bare(self, model: Any) -> Any:
        """The model without what wraps it: DDP, and PEFT, whose adapters stay in place."""
        bare = self._of.accelerator.unwrap_model(model)
        return bare.get_base_model() if hasattr(bare, "peft_config") else bare

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        self._answered = None
        ids_BL, mask_BL, tokens = input_ids, attention_mask, logits_to_keep
        special = compute_aux_loss or any(value is not None for value in images.values())
        if special or not self.speed.changes_passes or self._has_virtual_tokens(model):
            return cast(Any, super())._get_per_token_logps_and_entropies(
                model, ids_BL, mask_BL, tokens, batch_size, compute_entropy, compute_aux_loss,
                **images,
            )  # fmt: skip
        parts = self._parts(mask_BL, batch_size)
        found = []
        for rows in parts:
            part_ids, part_mask = (
                (ids_BL, mask_BL) if rows is None else (ids_BL[rows], mask_BL[rows])
            )
            found.append(self._one_pass(model, part_ids, part_mask, tokens, compute_entropy))
        if len(parts) == 1:
            return *found[0], None
        back_B = torch.tensor([row for rows in parts if rows for row in rows]).argsort()
        logp_BT = torch.cat([logp for logp, _ in found])[back_B]
        entropies = [entropy for _, entropy in found if entropy is not None]
        return logp_BT, torch.cat(entropies)[back_B] if entropies else None, None

    def _has_virtual_tokens(self, model: Any) -> bool:
        """Prompt tuning puts tokens before a row that no mask of a batch knows."""
        config = getattr(self._of.accelerator.unwrap_model(model), "active_peft_config", None)
        return bool(getattr(config, "is_prompt_learning", False))

    def _parts(self, mask_BL: Tensor, batch_size: int | None) -> Sequence[list[int] | None]:
        """The rows of each forward pass, sorted where rows are regrouped; None: all as they are."""
        if batch_size is None or batch_size >= len(mask_BL):
            return [None]
        order = list(range(len(mask_BL)))
        if self.speed.regroups:
            order = torch.argsort(mask_BL.sum(-1), descending=True, stable=True).tolist()
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def _one_pass(
        self, model: Any, ids_BL: Tensor, mask_BL: Tensor, tokens: int, entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities and entropies, (B, tokens), 0 where no answer is."""
        if self.speed.padding_free:
            output = self._pass_packed(model, ids_BL, mask_BL, tokens)
            return self._spread(output, mask_BL[:, -tokens:], entropy)
        start, width = 0, tokens
        if self.speed.micro_batches != "padded":
            start = int(mask_BL[:, :-tokens].any(0).int().argmax())
            width = max(1, int(mask_BL[:, -tokens:].sum(-1).amax()))
        kept = slice(start, mask_BL.shape[1] - tokens + width)
        ids_BK, mask_BK = ids_BL[:, kept], mask_BL[:, kept]
        if self.speed.answers_only_head:
            output = self._pass_answers(model, ids_BK, mask_BK, width)
            return self._spread(output, mask_BL[:, -tokens:], entropy)
        labels_BK = ids_BK.masked_fill(mask_BK == 0, -100)
        labels_BK[:, :-width] = -100
        output = self._call(model, input_ids=ids_BK, attention_mask=mask_BK, labels=labels_BK)

        def whole(value_BK: Tensor) -> Tensor:
            return torch.nn.functional.pad(value_BK[:, -width:], (0, tokens - width))

        return whole(output.log_probs), whole(output.entropy) if entropy else None

    def _spread(
        self, output: Any, answered_BT: Tensor, entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        """What the head gave of the answers' tokens, one after the other, in its places."""
        self._answered = place_BT = answered_BT.bool()

        def whole(value_1M: Tensor) -> Tensor:
            return value_1M.new_zeros(place_BT.shape).masked_scatter(place_BT, value_1M[0])

        return whole(output.log_probs), whole(output.entropy) if entropy else None

    def _pass_answers(self, model: Any, ids_BL: Tensor, mask_BL: Tensor, tokens: int) -> Any:
        answered_BT = mask_BL[:, -tokens:].bool()
        predicts_BL = torch.zeros_like(mask_BL, dtype=torch.bool)
        predicts_BL[:, -tokens - 1 : -1] = answered_BT  # the state at a token predicts the next
        target_M = ids_BL[:, -tokens:][answered_BT]
        with self._reading(model, lambda hidden_BLH: hidden_BLH[predicts_BL]):
            return self._call(
                model, input_ids=ids_BL, attention_mask=mask_BL, shift_labels=target_M.unsqueeze(0)
            )

    def _pass_packed(self, model: Any, ids_BL: Tensor, mask_BL: Tensor, tokens: int) -> Any:
        rows, device = self._packed(ids_BL, mask_BL, tokens), ids_BL.device
        state_M = torch.tensor(rows.states, dtype=torch.long, device=device)
        target_M = torch.tensor(rows.targets, dtype=torch.long, device=device)
        attention = self._bare(model).config.get_text_config()._attn_implementation
        inputs = rows.inputs(attention, device)
        with self._reading(model, lambda hidden_1NH: hidden_1NH[0].index_select(0, state_M)):
            return self._call(model, **inputs, shift_labels=target_M.unsqueeze(0))

    def _packed(self, ids_BL: Tensor, mask_BL: Tensor, tokens: int) -> Pack:
        border = mask_BL.shape[1] - tokens
        ids = ids_BL.tolist()
        before = mask_BL[:, :border].sum(-1).tolist()
        after = mask_BL[:, border:].sum(-1).tolist()
        prompts = [row[border - n : border] for row, n in zip(ids, before, strict=True)]
        answers = [row[border : border + n] for row, n in zip(ids, after, strict=True)]
        return packing.pack(prompts, answers, share=self.speed.shared_prompts)

    def _call(self, model: Any, **inputs: Any) -> Any:
        with self._of.accelerator.autocast():
            return model(**inputs, fused_lm_head=True)

    @contextmanager
    def _reading(self, model: Any, choose: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Inside, the head gets only the chosen states of the backbone, as (1, M, H)."""

        def keep(_module: Any, _inputs: Any, output: Any) -> Any:
            output.last_hidden_state = choose(output.last_hidden_state).unsqueeze(0)
            return output

        handle = self._bare(model).base_model.register_forward_hook(keep, prepend=True)
        try:
            yield
        finally:
            handle.remove()

    def _states(self, kept_BLH: Tensor, tokens: int) -> Tensor:
        """(B, tokens, H): the states that predict the answers' tokens, of what a hook on the
        backbone saw of the last pass; 0 where no answer is, if it did not see all."""
        if self._answered is None:
            return kept_BLH[:, -tokens - 1 : -1]
        empty_BTH = kept_BLH.new_zeros((*self._answered.shape, kept_BLH.shape[-1]))
        return empty_BTH.masked_scatter(self._answered.unsqueeze(-1), kept_BLH[0])

    # -- the check at the start ---------------------------------------------------------------

    @torch.no_grad()
    def _pass_error(self, batch: dict[str, Any]) -> float:
        """How far this way is from TRL's on a few rows, nats, over all ranks. Without padding: from
        TRL's on each row alone, which has no padding either."""
        this, base = self._of, cast(Any, super())
        rows = [row % len(batch["prompt_ids"]) for row in range(CHECKED_ROWS)]
        few = microbatches.chosen({name: batch[name] for name in microbatches.TOKENS}, rows)
        ids_BL, mask_BL, tokens = microbatches.whole(few)
        # Also where these rows have none: later ones will.
        ids_BL, mask_BL = (torch.nn.functional.pad(v, (3, 0)) for v in (ids_BL, mask_BL))
        if self.speed.padding_free:
            wanted_BT = torch.zeros(mask_BL[:, -tokens:].shape, device=ids_BL.device)
            for row in range(len(rows)):  # as many passes on every rank
                alone = microbatches.trimmed(microbatches.chosen(few, [row]))
                ids_1K, mask_1K, width = microbatches.whole(alone)
                logp_1K, _, _ = base._get_per_token_logps_and_entropies(
                    this.model, ids_1K, mask_1K, width
                )
                wanted_BT[row, :width] = logp_1K[0]
        else:
            wanted_BT, _, _ = base._get_per_token_logps_and_entropies(
                this.model, ids_BL, mask_BL, tokens
            )
        found_BT, _ = self._one_pass(this.model, ids_BL, mask_BL, tokens, False)
        self._answered = None
        error = (found_BT.float() - wanted_BT.float()).abs().max().nan_to_num(torch.inf)
        return this.accelerator.gather(error.reshape(1)).max().item()

    def _check_passes(self, batch: dict[str, Any], asked: bool) -> None:
        """Compare on the first rows of a run; what was not asked for is given up, with a warning.

        Raises:
            ValueError: this architecture gives other numbers, and the speed was asked for.
        """
        this, args = self._of, self._of.args
        this.model.eval()  # dropout would differ, and a resumed run draw other numbers
        error = self._pass_error(batch)
        this.model.train()
        exact = self._bare(self._of.model).dtype == torch.float32 and not (args.bf16 or args.fp16)
        bound = 1e-3 if exact else 0.25
        if error <= bound:
            return
        said = (
            f"with {self.speed} the student's log-probabilities differ from TRL's by {error:.3g} "
            f"nats (allowed {bound:g}): its architecture does not fit"
        )
        if asked:
            raise ValueError(
                f"{said}. Pass Speed.plain() (in a config: speed.micro_batches padded, "
                "speed.answers_only_head and speed.padding_free false)"
            )
        logger.warning("%s; all is computed as TRL does", said)
        self.speed = Speed.plain()

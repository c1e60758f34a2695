"""The same update for less: which rows share a forward pass, and which passes are made at all."""

from typing import Any, cast

import torch
from torch import Tensor

from rlkd import packing
from rlkd.training import microbatches
from rlkd.training.passes import LeanPasses
from rlkd.training.speed import Speed


class Fast(LeanPasses):
    """Mixin before TRL's trainer: does what `Speed` says.

    Evaluation's micro-batches stay TRL's; so do old log-probabilities where vLLM's correction reads
    those of all rows, or where a rollout begins in the middle of an optimiser step.
    """

    _speed_was_set = False
    _is_checked = False
    _placeholder: Tensor | None = None
    """Stands for the old log-probabilities that TRL would have computed of this batch."""
    _expects_question = False
    """TRL's next question is for those."""

    def _start_speed(self, speed: Speed | None) -> None:
        """Among the last things of the trainer's own __init__. None: the default; nothing, where
        the student cannot have it.

        Raises:
            ValueError: what was asked for cannot be done.
        """
        this, args = self._of, self._of.args
        why = (
            "reads images" if this._is_vlm else "has a router loss" if this.aux_loss_enabled else ""
        )
        self._speed_was_set = speed is not None
        if speed is None:
            speed = Speed.plain() if why else Speed()
        if why and speed != Speed.plain():
            raise ValueError(
                f"the student {why}, and nothing can be left out of its passes; use Speed.plain()"
            )
        steps, updates = args.steps_per_generation, args.gradient_accumulation_steps
        if speed.regroups and steps % updates and updates % steps:
            raise ValueError(
                f"micro_batches is {speed.micro_batches!r} and neither of steps_per_generation "
                f"({steps}) and gradient_accumulation_steps ({updates}) divides the other: rows "
                "would change their optimiser step; make one divide the other"
            )
        phases = this.schedule.schedule.phases
        ends = [end for phase in phases for end in phase.ends]
        speed.refuse_statistics([*ends, *this.objective.components])
        if speed.padding_free and args.use_transformers_continuous_batching:
            raise ValueError(
                "padding_free sets the student's attention, and so does continuous batching "
                "(use_transformers_continuous_batching); choose one of them"
            )
        self.speed = speed
        for model in (this.model, this.ref_model) if speed.padding_free else ():
            if model is not None:
                packing.use_spans(self._bare(model))

    # -- micro-batches ------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        this, before = self._of, self._of._buffered_inputs
        inputs = cast(Any, super())._prepare_inputs(generation_batch)
        if this._mode() != "train" or this._buffered_inputs is before:
            return inputs
        if not self._is_checked and self.speed.changes_passes:
            self._check_passes(inputs, self._speed_was_set)
        self._is_checked = True
        this._buffered_inputs = self._recut(this._buffered_inputs)
        if self._placeholder is not None:
            self._placeholder = None
            self._score_later_updates(this._buffered_inputs)
        return this._buffered_inputs[this._step % this.args.steps_per_generation]

    def _recut(self, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The micro-batches of a generation batch, cut anew within each optimiser step."""
        if self.speed.micro_batches == "padded":
            return batches
        args, found = self._of.args, batches
        if self.speed.regroups:
            window, found = min(args.gradient_accumulation_steps, args.steps_per_generation), []
            for start in range(0, len(batches), window):
                step = microbatches.joined(batches[start : start + window])
                found += [microbatches.chosen(step, rows) for rows in self._cut(step, window)]
        multiple = self._of.pad_to_multiple_of or 1
        return [microbatches.trimmed(batch, multiple) for batch in found]

    def _cut(self, step: dict[str, Any], pieces: int) -> list[list[int]]:
        prompt_B, answer_B = microbatches.lengths(step)
        speed = self.speed
        if speed.padding_free and speed.micro_batches == "by_tokens":
            # Padding of equal prompts is equal.
            prompts = [tuple(ids) for ids in step["prompt_ids"].tolist()]
            return microbatches.cut_packed(
                prompts, prompt_B, answer_B, pieces, share=speed.shared_prompts
            )
        return microbatches.cut(speed.micro_batches, prompt_B, answer_B, pieces)

    def _accumulation(self, rows: int) -> float:
        """Micro-batches of the optimiser step, as they count in a mean over rows: one of n rows
        weighs n / (rows of the step), whatever n is."""
        this = self._of
        steps = float(this.current_gradient_accumulation_steps)
        if self.speed.micro_batches != "by_tokens":
            return steps
        return steps * this.args.per_device_train_batch_size / rows

    # -- old log-probabilities ----------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self._placeholder, self._expects_question = None, self._leaves_old_out()
        output = cast(Any, super())._generate_and_score_completions(inputs)
        expected, self._expects_question = self._expects_question, False
        old = output.get("old_per_token_logps")
        taken = self._placeholder is None or old is self._placeholder
        if expected or not taken:
            raise RuntimeError(
                "TRL did not ask first for the old policy's log-probabilities, as rlkd expects of "
                "it; set reuse_log_probs to false"
            )
        if self._placeholder is not None:
            del output["old_per_token_logps"]
        return output

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int,
        *args: Any, **more: Any,
    ) -> Any:  # fmt: skip
        if self._expects_question:
            self._expects_question = False
            shape = (len(input_ids), logits_to_keep)
            self._placeholder = torch.full(shape, torch.nan, device=input_ids.device)
            return self._placeholder, None, None
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **more
        )

    def _leaves_old_out(self) -> bool:
        """Would TRL compute old log-probabilities of rows that need none?"""
        this, args = self._of, self._of.args
        if not self.speed.reuse_log_probs or this._mode() != "train":
            return False
        if this.use_vllm and this.vllm_importance_sampling_correction:
            return False
        steps, updates = args.steps_per_generation, args.gradient_accumulation_steps
        return updates % (steps * this.num_iterations) != 0 and steps % updates == 0

    @torch.no_grad()
    def _score_later_updates(self, batches: list[dict[str, Any]]) -> None:
        """Old log-probabilities of the rows that are not in the first optimiser step; its own are
        those of its pass."""
        this = self._of
        for batch in batches[this.args.gradient_accumulation_steps :]:
            ids_BL, mask_BL, tokens = microbatches.whole(batch)
            batch["old_per_token_logps"], _, _ = this._get_per_token_logps_and_entropies(
                this.model, ids_BL, mask_BL, tokens
            )

    def _keep_old(self, inputs: dict[str, Any], logp_BT: Tensor, mode: str) -> None:
        """What the pass of the first update is to later passes over its rows."""
        this = self._of
        if mode != "train" or this.num_iterations == 1 or "old_per_token_logps" in inputs:
            return
        if self._leaves_old_out() and this._is_first_update():
            inputs["old_per_token_logps"] = logp_BT.detach()

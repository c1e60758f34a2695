"""What the trainer does otherwise where an algorithm compares student and teacher over the whole
vocabulary: the hidden states of passes that are made anyway are kept for the loss."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rlkd.batch import Distributions, TokenBatch
from rlkd.objectives.chunked import Head
from rlkd.objectives.logprobs import sampled_logprobs
from rlkd.teacher.base import DistributionTeacher, TeacherError
from rlkd.teacher.heads import head_settings

CHECKED_TOKENS = 32
"""Tokens on which the student's head is compared with TRL's log-probs, once."""


class WholeVocabulary:
    """Mixin before TRL's trainer: `TokenBatch.distributions` for algorithms with
    `needs_distribution`; for the others nothing at all.

    The student's hidden states are those of the pass that gives its log-probs, caught by a hook on
    the backbone, outside of what gradient checkpointing makes once more. The teacher's are those of
    the pass that scores the sampled tokens: B · T · H numbers of its dtype, from scoring until the
    rows have been learnt from, and in a checkpoint that is written in between.

    Seen: one process and two (DDP, gloo), gradient checkpointing, LoRA, tied and untied heads.
    Refused: FSDP and ZeRO-3, where a rank holds a part of the head (rlkd/sharding.py).
    """

    _head_is_checked = False

    def _check_distributions(self) -> None:
        """Refuse, before the first step, what cannot give whole distributions."""
        this: Any = self
        title = type(this.algorithm).__name__
        if not this.algorithm.needs_distribution:
            return
        if not isinstance(this.teacher, DistributionTeacher):
            raise TeacherError(
                f"{title} compares student and teacher over the whole vocabulary, and "
                f"{this.teacher.name} ({type(this.teacher).__name__}) gives log-probabilities of "
                "sampled tokens only. Take a local teacher (teacher.path), or an algorithm that "
                "needs no more than those (RLAD)"
            )
        if this.teacher.shares_student or getattr(this.teacher, "offload", False):
            why = (
                "moves with the student" if this.teacher.shares_student else "is not on the device"
            )
            raise TeacherError(
                f"{title} reads the teacher's head when the loss is computed, and that of "
                f"{this.teacher.name} {why} by then. Take a local teacher that is not offloaded"
            )

    # -- the student --------------------------------------------------------------------------

    def _student(self, model: Any) -> Any:
        """The student without what wraps it: DDP, and PEFT, whose adapters stay in place."""
        student = self.accelerator.unwrap_model(model)  # type: ignore[attr-defined]
        return student.get_base_model() if hasattr(student, "peft_config") else student

    @contextmanager
    def _kept_hidden(self, model: Any) -> Iterator[list[Tensor]]:
        """The last hidden states of each pass through the student's backbone: see
        `LeanPasses._states`."""
        this: Any = self
        kept: list[Tensor] = []
        if not this.algorithm.needs_distribution:
            yield kept
            return

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            kept.append(output.last_hidden_state)

        handle = self._student(model).base_model.register_forward_hook(keep)
        try:
            yield kept
        finally:
            handle.remove()

    def _with_distributions(
        self, batch: TokenBatch, kept: list[Tensor], model: Any, inputs: dict[str, Any]
    ) -> TokenBatch:
        """The batch with `distributions`, where the algorithm reads them."""
        this: Any = self
        if not this.algorithm.needs_distribution:
            return batch
        if len(kept) != 1:
            raise RuntimeError(
                f"the student's backbone was passed {len(kept)} times for one micro-batch; the "
                "loss over the whole vocabulary needs the hidden states of exactly one pass"
            )
        tokens = batch.logp_BT.shape[1]
        student = self._student(model)
        student_head = self._student_head(student)
        student_BTH = this._states(kept[0], tokens)
        if not self._head_is_checked:
            self._check_head(student_BTH, student_head, batch, inputs["completion_ids"])
            self._head_is_checked = True
        return batch.replace(
            distributions=Distributions(
                student_BTH=student_BTH,
                student_head=student_head,
                teacher_BTH=inputs["teacher_hidden_BTH"],
                teacher_head=this.teacher.head(),
                temperature=this.temperature,
                teacher_temperature=this.teacher.temperature or this.temperature,
            )
        )

    def _student_head(self, student: Any) -> Head:
        this: Any = self
        head = student.get_output_embeddings()
        dtype = head.weight.dtype
        with this.accelerator.autocast():  # as TRL's own head computes, see add_fused_lm_head
            device = head.weight.device.type
            if torch.is_autocast_enabled(device):
                dtype = torch.get_autocast_dtype(device)
        if this.args.cast_lm_head_to_fp32:
            dtype = torch.float32
        return Head(
            weight_VH=head.weight,
            bias_V=head.bias,
            dtype=dtype,
            **head_settings(student.config.get_text_config()),
        )

    @torch.no_grad()
    def _check_head(
        self, student_BTH: Tensor, head: Head, batch: TokenBatch, token_BT: Tensor
    ) -> None:
        """Our head on the hidden states that were caught against TRL's log-probs, on a few tokens:
        a wrong place or an unknown change of the logits would train on other distributions."""
        counted_BT = batch.mask_BT.bool()
        chosen = sampled_logprobs(
            student_BTH[counted_BT][:CHECKED_TOKENS],
            head.weight_VH.to(head.dtype or head.weight_VH.dtype),
            None if head.bias_V is None else head.bias_V.to(head.dtype or head.bias_V.dtype),
            token_BT[counted_BT][:CHECKED_TOKENS],
            self.temperature,  # type: ignore[attr-defined]
            logit_scale=head.logit_scale,
            softcap=head.softcap,
        )
        if chosen.numel() == 0:
            return
        wanted = batch.logp_BT.detach()[counted_BT][:CHECKED_TOKENS].float()
        error = (chosen - wanted).abs().max().item()
        bound = 1e-3 if head.dtype == torch.float32 else 0.25
        if not error <= bound:
            raise RuntimeError(
                f"the student's log-probabilities made of its hidden states differ from TRL's by "
                f"{error:.3g} nats (allowed {bound:g}): this architecture changes its logits in a "
                "way that rlkd does not know, and a loss over the whole vocabulary would be wrong. "
                "Choose an algorithm that learns from sampled tokens"
            )

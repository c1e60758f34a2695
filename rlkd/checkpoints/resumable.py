"""What a transformers trainer does otherwise when its checkpoints are whole and carry all."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerState

from rlkd.checkpoints import carried
from rlkd.checkpoints.frozen_weights import FrozenWeights
from rlkd.checkpoints.manifest import Checkpoint, CheckpointError
from rlkd.checkpoints.pieces import Pieces
from rlkd.checkpoints.writer import CheckpointWriter

logger = logging.getLogger(__name__)


class Resumable:
    """Mixed in before TRL's trainer (rlkd/trainer.py): checkpoints, and training on from one."""

    pieces: Pieces
    """What a checkpoint holds beside transformers' files; add to it before `train()`."""
    checkpoints: CheckpointWriter
    on_resumed: Callable[[Checkpoint, dict[str, str]], None] | None = None
    """Called on every rank when all pieces are restored, with what each says of itself."""

    has_ended: Callable[[Checkpoint], bool] | None = None
    """Asked on every rank: was the training over with this checkpoint, though steps are left?"""

    def _start_checkpoints(self) -> None:
        """The last thing of the trainer's own __init__."""
        this = self._this
        self._sampler: Any = None
        self.pieces = Pieces()
        self.pieces.add("carried", carried.Carried(self), per_rank=True)
        self.checkpoints = CheckpointWriter(
            this.accelerator, self.pieces, this.args.save_total_limit
        )
        self._resuming = carried.RestoreCallback(self)
        this.add_callback(self._resuming)

    def _add_frozen(self) -> None:
        """What adapters stand on, and the reference: both are loaded from the student's folder."""
        this = self._this
        where = f"the student's folder {this.model.config._name_or_path}"
        if hasattr(this.accelerator.unwrap_model(this.model), "peft_config"):
            base = FrozenWeights(where, lambda: this.accelerator.unwrap_model(this.model))
            self.pieces.add("base", base, per_rank=True)
        self.pieces.do_without("reference")  # of a phase that this run leaves out
        if this.ref_model is not None and not this.args.sync_ref_model:
            reference = FrozenWeights(
                where, lambda: this.accelerator.unwrap_model(this.ref_model), is_whole=True
            )
            self.pieces.add("reference", reference, per_rank=True)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kw: Any) -> Any:
        """As transformers' `train`; a checkpoint that is not whole, or not of this run, is refused.

        Args:
            resume_from_checkpoint: a checkpoint's folder; True: the newest whole one.

        Raises:
            CheckpointError: (a ValueError) it is missing, damaged, or this run cannot continue it.
        """
        chosen = carried.find(self, resume_from_checkpoint, logger.warning)
        self._resuming.checkpoint = chosen
        if chosen is None:
            return self._base().train(None, *args, **kw)
        if self._has_all_steps(chosen) or (self.has_ended is not None and self.has_ended(chosen)):
            return self._finish(chosen)
        return self._base().train(str(chosen.path), *args, **kw)

    def _base(self) -> Any:
        return super()

    def _has_all_steps(self, chosen: Checkpoint) -> bool:
        horizon = self._this.args.max_steps
        return chosen.step >= (horizon if horizon > 0 else _state(chosen).max_steps)

    def _finish(self, chosen: Checkpoint) -> None:
        """All that is left after the last step. transformers would take one more step first."""
        this = self._this
        if this.is_deepspeed_enabled:  # it makes its engine with the first step only
            raise CheckpointError(
                f"{chosen.path} is of the last step, and the run ended before it wrote its model.\n"
                "  why: DeepSpeed cannot take the model up without training on\n"
                "  do: rlkd export RUN OUT writes the checkpoint's model, which is whole"
            )
        this._load_from_checkpoint(str(chosen.path))
        this.state = _state(chosen)
        this.get_train_dataloader()
        this.callback_handler.on_train_begin(this.args, this.state, this.control)
        this.callback_handler.on_train_end(this.args, this.state, this.control)

    @property
    def _this(self) -> Any:
        return self

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._base()._get_output_dir(trial))
        with self.checkpoints.writing(folder, self._this.state.global_step):
            self._base()._save_checkpoint(model, trial)

    def _get_output_dir(self, trial: Any) -> str:
        return self.checkpoints.target or self._base()._get_output_dir(trial)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # What is tied to a weight that was loaded is missing for no harm; anything else is.
        model = self._this.accelerator.unwrap_model(self._this.model)
        own = {name for name, _ in model.named_parameters()}
        own |= {name for name, _ in model.named_buffers()}
        lost = [name for name in load_result.missing_keys if name in own]
        if lost or load_result.unexpected_keys:
            raise CheckpointError(
                "the weights of the checkpoint are not those of this model.\n"
                f"  missing: {lost[:3] or 'none'}; of another model:"
                f" {load_result.unexpected_keys[:3] or 'none'}"
            )

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        self._sampler = self._base()._get_train_sampler(dataset)
        return self._sampler


def _state(checkpoint: Checkpoint) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint.path / "trainer_state.json"))

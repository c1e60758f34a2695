"""The rollouts of a training batch, on their way to whoever records them."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from rlkd.batch import TokenBatch
from rlkd.difficulty import BANDS
from rlkd.tracking.pieces import Pieces
from rlkd.tracking.rollouts import Rollouts, spread
from rlkd.training.phases import in_phase


class Recording:
    """Mixin before TRL's trainer: makes `Rollouts` of each training batch as soon as it is judged,
    adds what the loss sees of their tokens on the first pass over them, and hands them over."""

    on_batch: Callable[[dict[str, float], Rollouts], None] | None = None
    """Called on every rank with each training batch before anything is learnt from it: what it
    will log, over all ranks, and this rank's rollouts."""
    last_rollouts: Rollouts | None = None
    """This rank's rollouts of the training batch in work, or of the last one."""
    _open_rollouts: Rollouts | None = None

    @property
    def _this(self) -> Any:
        return self

    def _start_recording(
        self, on_rollouts: Callable[[Rollouts], None] | None, token_rows: int
    ) -> None:
        self._on_rollouts, self._token_rows = on_rollouts, token_rows
        self._pieces = Pieces(self._this._tokenizer)

    @in_phase("log")
    def _record(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> None:
        """A training batch has its advantages; nothing is learnt from it yet."""
        if self._on_rollouts is None and self.on_batch is None:
            return
        self._open_rollouts = self.last_rollouts = self._rollouts(inputs, output)
        if self.on_batch is not None:
            seen = self._this._metrics["train"].items()
            self.on_batch({name: values[-1] for name, values in seen if values}, self.last_rollouts)

    def _rollouts(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> Rollouts:
        this = self._this
        start = this.accelerator.process_index * len(inputs)
        completions = this._sampled_ids[1]
        rollouts = Rollouts(
            step=this.state.global_step + 1,
            prompts=[row["prompt"] for row in inputs],
            completions=this._tokenizer.batch_decode(completions, skip_special_tokens=False),
            columns={
                "policy_version": [this.state.global_step] * len(inputs),
                "tokens": [len(ids) for ids in completions],
                "truncated": [this._is_cut(ids) for ids in completions],
                "advantage": output["advantages"].tolist(),
                "band": [BANDS[place] for place in output["band"].tolist()],
            },
        )
        rollouts.add_total(output["total"])
        rollouts.add_sources(output.get("off_policy"))
        if this._tool_mask is not None:
            rollouts.columns["tool_tokens"] = [mask.count(0) for mask in this._tool_mask]
        rewards_RF = cast(Tensor, this._gathered_rewards)
        rollouts.add_rewards(this.reward_func_names, rewards_RF[start : start + len(inputs)])
        if this.objective.components:
            rollouts.add_rewards(["shaped"], output["shaped"].unsqueeze(1))
        for name, function in zip(this.reward_func_names, this.reward_funcs, strict=True):
            rollouts.add_statuses(name, getattr(function, "last_statuses", None))
        if self._token_rows:
            rows = spread(len(inputs), self._token_rows)
            rollouts.add_pieces({row: self._pieces(completions[row]) for row in rows})
        return rollouts

    def _note_tokens(self, batch: TokenBatch, inputs: dict[str, Any]) -> None:
        """A micro-batch goes through the student; after the first pass over all rows the rollouts
        are handed over."""
        this = self._this
        if not this._is_first_pass() or self._open_rollouts is None:
            return
        self._open_rollouts.note(batch, inputs["row_id"])
        if this._microbatches_since_sampling() + 1 == this._args.steps_per_generation:
            self.flush_rollouts()

    @in_phase("log")
    def flush_rollouts(self) -> None:
        """Hand the last generation batch to `on_rollouts`. Done by itself after its first pass."""
        if self._open_rollouts is not None and self._on_rollouts is not None:
            self._on_rollouts(self._open_rollouts)
        self._open_rollouts = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return cast(Any, super()).train(*args, **kwargs)
        finally:
            self.flush_rollouts()

"""A run's rewards behind their guard, and the stop where one fails too often."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlkd.config import RunConfig
from rlkd.rewarding.ledger import Counts
from rlkd.rewarding.reward import GuardedReward
from rlkd.rewarding.watch import FaultWatch, TooManyFaults
from rlkd.rewarding.workers import Workers

MODEL_START_S = 900.0
"""Most seconds that reading a reward model may take."""


def guard(
    config: RunConfig, functions: Mapping[str, Callable[..., Any]]
) -> dict[str, GuardedReward]:
    """The rewards of a config as the trainer calls them, by their names in the metrics.

    Their workers begin to start; `close` ends them.

    Args:
        functions: what `rlkd.door.build_rewards` gives.
    """
    guarded = {}
    for reward in config.rewards:
        workers = None
        if not reward.in_process:
            use, kwargs = reward.called
            memory_kb = int(reward.memory_gb * 2**20)
            spec = {"use": use, "kwargs": kwargs, "memory_kb": memory_kb, "seed": config.run.seed}
            if reward.is_model:  # large: one on the GPU at a time, and time to read it
                spec |= {"most": 1, "start_s": MODEL_START_S}
            workers = Workers(spec)
            workers.start()
        guarded[reward.label] = GuardedReward(
            functions[reward.label],
            reward.label,
            deadline_s=reward.deadline_s,
            workers=workers,
            optional=reward.optional,
        )
    return guarded


def close(rewards: Mapping[str, GuardedReward]) -> None:
    """End all workers."""
    for reward in rewards.values():
        reward.close()


class FaultStop(TrainerCallback):
    """Saves a checkpoint and stops the training when a reward has failed on too many rows.

    A reward with weight 0 is only logged, and stops nothing.
    """

    def __init__(self, config: RunConfig) -> None:
        self._folder = config.folder
        self._watches = {
            reward.label: FaultWatch(reward.label, reward.max_fault_share)
            for reward in config.rewards
            if reward.weight
        }
        self._step = 0

    @property
    def complaint(self) -> str | None:
        """Why to stop, or None."""
        said = (watch.complaint for watch in self._watches.values())
        return next((text for text in said if text is not None), None)

    def add(self, counts: Counts) -> None:
        """The counts of a training batch, over all ranks (so that all ranks decide alike)."""
        for name, watch in self._watches.items():
            watch.add(counts.get(name, {}))

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {
            name: {"recent": list(watch.recent), "by_status": dict(watch.by_status)}
            for name, watch in self._watches.items()
            if watch.complaint is None
        }

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece. One that stopped the run begins anew: it is mended."""
        for name, counts in state.items():
            watch = self._watches[name]
            watch.recent.extend(tuple(pair) for pair in counts["recent"])
            watch.by_status.update(counts["by_status"])
        total = sum(sum(watch.by_status.values()) for watch in self._watches.values())
        anew = sorted(self._watches.keys() - state.keys())
        said = f"{total} rows of the run so far got no value"
        return said + (f"; counted anew: {', '.join(anew)}" if anew else "")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See TrainerCallback."""
        if self.complaint is not None:
            self._step = state.global_step
            control.should_save = True
            control.should_training_stop = True

    def raise_if_stopped(self) -> None:
        """Raises TooManyFaults if the training was stopped."""
        if self.complaint is not None:
            raise TooManyFaults(
                f"stopped after step {self._step}: {self.complaint}\n"
                f"  saved: {self._folder}/checkpoints/checkpoint-{self._step} and"
                f" {self._folder}/model\n"
                "  do: read the warnings above, which show the rows; fix the reward, raise its"
                " deadline_s or memory_gb, or raise max_fault_share (1 never stops); then go on:"
                f" rlkd train {self._folder} --resume"
            )

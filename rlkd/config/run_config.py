"""The config of a whole run: its blocks, and what must hold between them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from rlkd.config import algorithm as algorithms
from rlkd.config.schema import (
    AlgorithmBlock,
    Batch,
    Block,
    Data,
    Eval,
    Model,
    Optim,
    Reward,
    Run,
    Sampling,
    Teacher,
    Tracking,
)
from rlkd.config.trl_keys import refuse_owned

if TYPE_CHECKING:
    from rlkd.algorithms.base import Algorithm


class RunConfig(Block):
    """A whole run."""

    model: Model
    """The student: folder, number format, LoRA."""
    teacher: Teacher | None = None
    """The teacher: folder, number format, checks; null: none."""
    algorithm: AlgorithmBlock
    """The objective: a class (`use`) and its fields."""
    data: Data
    """Training and held-out rows, and how their columns are called."""
    rewards: list[Reward] = Field(min_length=1)
    """Reward functions and their weights."""
    batch: Batch
    """Prompts per step, group size, micro-batches."""
    sampling: Sampling
    """Temperature and length of the answers."""
    optim: Optim
    """Steps, learning rate, schedule."""
    eval: Eval = Eval()
    """When and how to evaluate."""
    run: Run
    """Name, folder, seed, checkpoints, processes."""
    tracking: Tracking = Tracking()
    """W&B and stored rollouts."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Further GRPOConfig fields, handed through; what is set above is refused here."""

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        refuse_owned(self.trl)
        if self.eval.every and self.data.eval is None:
            raise ValueError(
                f"eval.every is {self.eval.every} but data.eval is null: there is nothing to "
                "evaluate on; set data.eval, or eval.every to 0"
            )
        labels = [reward.label for reward in self.rewards]
        metrics = ["accuracy", "length", "truncated", *(f"reward/{label}" for label in labels)]
        if self.eval.best is not None and self.eval.best not in metrics:
            raise ValueError(
                f"eval.best is {self.eval.best!r}, which no evaluation gives; it gives "
                f"{', '.join(metrics)}"
            )
        for i, label in enumerate(labels):
            if label in labels[:i]:
                raise ValueError(
                    f"rewards.{labels.index(label)} and rewards.{i} are both called {label!r} and "
                    f"would share one metric; give one a name (rewards.{i}.name)"
                )
        return self

    @property
    def folder(self) -> Path:
        """Where the run writes: <run.dir>/<run.name>."""
        return Path(self.run.dir) / self.run.name

    def build_algorithm(self) -> "Algorithm":
        """The algorithm's dataclass, built from its block. Imports its module (and so torch).

        Raises:
            ConfigError: the reference does not resolve or names no algorithm; an unknown field, a
                wrong type, a value that the algorithm refuses; it needs a teacher and has none.
        """
        return algorithms.build(
            self.algorithm.use, self.algorithm.settings, self.teacher is not None
        )

"""The config of a whole run: its blocks, and what must hold between them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from rlkd.config import phases
from rlkd.config.judging import Environment, Reward
from rlkd.config.schema import (
    AlgorithmBlock,
    AnyTeacher,
    Batch,
    Block,
    ComponentBlock,
    Data,
    Eval,
    Generation,
    Model,
    Optim,
    Run,
    Sampling,
    Speed,
    Teacher,
    Tracking,
)
from rlkd.config.trl_keys import refuse_owned

if TYPE_CHECKING:
    from rlkd.algorithms.base import Algorithm
    from rlkd.algorithms.component import Component
    from rlkd.algorithms.schedule import Schedule


class RunConfig(Block):
    """A whole run."""

    model: Model
    """The student: folder, number format, LoRA."""
    teacher: AnyTeacher | None = None
    """The teacher: a model by its folder (`path`), or a class (`use`) with its arguments; null:
    none."""
    algorithm: AlgorithmBlock
    """The objective: a class (`use`) and its fields."""
    then: list[AlgorithmBlock] = Field(default_factory=list)
    """The algorithms that follow it, one after the other, each from where the one before ends
    (`until`); empty: one algorithm all along."""
    components: list[ComponentBlock] = Field(default_factory=list)
    """What the algorithm carries besides, in this order: CEEH, an entropy bonus, …"""
    data: Data
    """Training and held-out rows, and how their columns are called."""
    environment: Environment | None = None
    """Tools that the student may use in training, in rollouts of several turns; null: none."""
    rewards: list[Reward] = Field(min_length=1)
    """Reward functions and their weights. The first is the verifiable one: its full mark, 1, counts
    as correct in evaluation and in the difficulty records, whatever shapes the sum."""
    batch: Batch
    """Prompts per step, group size, micro-batches."""
    sampling: Sampling
    """Temperature and length of the answers."""
    generation: Generation = Generation()
    """What writes them: transformers, its continuous batching, vLLM."""
    speed: Speed = Speed()
    """What is left out of the computation, with the same updates."""
    optim: Optim
    """Steps, learning rate, schedule."""
    eval: Eval = Eval()
    """When and how to evaluate."""
    run: Run
    """Name, folder, seed, checkpoints, processes, what stops it."""
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
        if self.environment is not None and self.data.eval is not None:
            raise ValueError(
                "data.eval and environment are both set, and evaluation has no tools: its answers "
                "would be of one turn, its numbers not those of what is trained; set data.eval to "
                "null (and eval.every to 0), or remove environment"
            )
        phases.check_untils(self)
        if 0 < self.run.abort_after_s <= self.run.stacks_after_s:
            raise ValueError(
                f"run.abort_after_s is {self.run.abort_after_s:g} and run.stacks_after_s"
                f" {self.run.stacks_after_s:g}: the run would end before its stacks are written; "
                "set stacks_after_s below it (0: no stacks)"
            )
        labels = [reward.label for reward in self.rewards]
        metrics = self.eval_metrics
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

    @property
    def local_teacher(self) -> Teacher | None:
        """The teacher's block where it is a model of its own beside the student."""
        return self.teacher if isinstance(self.teacher, Teacher) else None

    @property
    def eval_metrics(self) -> list[str]:
        """What an evaluation gives that can be better or worse, without `eval/`."""
        return ["accuracy", "length", "truncated", *(f"reward/{r.label}" for r in self.rewards)]

    def build_algorithm(self) -> "Algorithm | Schedule":
        """The algorithm's dataclass, built from its block; a field that is not set there is the
        component's (`algorithm_defaults`) where a component wants it otherwise. A Schedule where
        others follow it, or where something moves. Imports its module (and so torch).

        Raises:
            ConfigError: the reference does not resolve or names no algorithm; an unknown field, a
                wrong type, a value that the algorithm refuses; it needs a teacher and has none, or
                asks none and is told how; a phase would never begin.
        """
        return phases.build(self)

    def build_components(self) -> "tuple[Component, ...]":
        """The components' dataclasses, in their order, as they are at the first step.

        Raises:
            ConfigError: as for the algorithm.
        """
        return phases.build_components(self.components)

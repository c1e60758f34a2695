"""The blocks of how a run samples, learns and evaluates."""

from typing import Literal

from pydantic import Field, model_validator

from rlkd.config.schema.base import Block


class Batch(Block):
    """How many answers an optimiser step learns from, and how they are cut up."""

    prompts_per_step: int = Field(gt=0)
    """Prompts behind one optimiser step, over all processes."""
    group_size: int = Field(ge=2)
    """Completions per prompt; their mean reward is the baseline, so at least two."""
    micro_batch_size: int = Field(gt=0)
    """Completions per forward pass and process: the knob for memory; does not change the result
    (but for reductions that say so)."""
    steps_per_rollout: int = Field(default=1, gt=0)
    """Optimiser steps that share one generation batch; above 1 the later ones are off-policy."""
    iterations: int = Field(default=1, gt=0)
    """Passes over each generation batch; above 1 the later ones are off-policy."""


class Sampling(Block):
    """How the student writes its answers in training."""

    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; log-probs, entropies and divergences are of the scaled distribution."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling; below 1 the samples are not of the policy whose log-probs are used."""
    top_k: int = Field(default=0, ge=0)
    """Sample among the k likeliest tokens; 0: all. Same warning as for top_p."""
    max_completion_length: int = Field(gt=0)
    """Most tokens of an answer."""


class Optim(Block):
    """AdamW, and how long it runs."""

    steps: int = Field(gt=0)
    """Optimiser steps in all."""
    learning_rate: float = Field(ge=0)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What the learning rate does after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimiser steps over which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """The gradient's norm is clipped to this; 0: not clipped."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's two averages."""

    @model_validator(mode="after")
    def _consistent(self) -> "Optim":
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} but the run ends after {self.steps} steps: "
                "the learning rate would never reach its peak; lower warmup_steps"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {list(self.betas)}; each must be at least 0 and below 1")
        return self


class Eval(Block):
    """Greedy evaluation on the held-out rows."""

    every: int = Field(default=0, ge=0)
    """Optimiser steps between evaluations; 0: only at the end (and at the start)."""
    at_start: bool = True
    """Also evaluate before the first step."""
    batch_size: int = Field(default=64, gt=0)
    """Prompts per generation pass and process."""
    max_completion_length: int | None = Field(default=None, gt=0)
    """Most tokens of an answer; null: as in sampling."""
    best: str | None = None
    """Metric that compares evaluations after the first step: `accuracy`, `length`, `truncated` or
    `reward/NAME`. A new best saves a checkpoint, which is kept beside the newest; null: none."""
    best_is: Literal["highest", "lowest"] = "highest"
    """Which value of that metric is the best."""
    patience: int = Field(default=0, ge=0)
    """Evaluations in a row without a new best after which the run stops early; 0: never."""

    @model_validator(mode="after")
    def _comparable(self) -> "Eval":
        if self.best is not None and not self.every:
            raise ValueError(
                f"best is {self.best!r} but every is 0: there is one evaluation after the first "
                "step, the last, and nothing to compare; set every, or best to null"
            )
        if self.best in ("length", "truncated") and "best_is" not in self.model_fields_set:
            raise ValueError(
                f"best is {self.best!r}, and whether more of it is better is not said; set best_is "
                "to highest or lowest"
            )
        if self.best is None and (self.patience or self.best_is != "highest"):
            name = "patience" if self.patience else "best_is"
            raise ValueError(
                f"{name} is {getattr(self, name)!r} but best is null: no metric says what is "
                f"better; set best (accuracy, length, truncated, reward/NAME), or leave {name} out"
            )
        return self

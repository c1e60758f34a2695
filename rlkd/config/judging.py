"""What the YAML of a run may say of its rewards, and of the tools that rollouts may use."""

from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlkd.config.schema import Block


class Environment(Block):
    """A class whose methods the student may call as tools while it answers."""

    use: str
    """The class, as module:name (`envs.calculator:Calculator`): each rollout has an instance,
    reset(**row) begins it, its other public methods are the tools. They run inside the trainer:
    exceptions are told to the student, but no deadline is kept."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class."""
    max_rounds: int | None = Field(default=None, gt=0)
    """Most rounds of tool calls in a rollout; null: until max_completion_length, which results of
    tools count into."""


class Reward(Block):
    """A function from completions to one number each, called under a deadline."""

    use: str = Field(min_length=1)
    """The function, as module:name (`rewards.arithmetic:accuracy`); or the folder of a reward model
    with a slash in it (`./my_rm`; kwargs: batch_size, dtype, device, chat_template_kwargs); or the
    http(s) address of an endpoint: it is sent {"completions": [...], "prompts": [...], COLUMN:
    [...]} and answers a list of numbers (kwargs: token_env, the environment variable with a bearer
    token). What it gives must follow from its arguments: random numbers that a worker draws by
    itself are in no checkpoint."""
    weight: float = Field(default=1.0)
    """Factor in the sum of the rewards; 0 only logs it."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the function, fixed for the run."""
    name: str | None = Field(default=None, min_length=1)
    """Name in the metrics; null: that of the function or folder."""
    optional: bool = False
    """What its None means: false: the row cannot be graded and counts for nothing, whatever other
    rewards say; true: this reward adds nothing to the row. With weight 0 it is always optional."""
    in_process: bool = False
    """false: called in a worker process that can be killed. true: called inside the trainer, for
    functions that share its state (`environments`, a model on its GPU): exceptions are caught, but
    no deadline or memory limit can be kept, and one that hangs hangs the run."""
    deadline_s: float = Field(default=30.0, gt=0)
    """Wall seconds that a call on one process's completions may take. Past it the worker is killed;
    then rows are tried in parts (a quarter of this each, as long again in all) until those that
    fail are known, and all others are called once more."""
    memory_gb: float = Field(default=4.0, gt=0)
    """GiB of memory at which the worker is killed."""
    max_fault_share: float = Field(default=0.2, ge=0, le=1)
    """Past this share of failed rows over 5 steps the run saves its state and stops (exit code 3);
    1: never."""

    @property
    def label(self) -> str:
        """The name in the metrics."""
        if self.name is None and self.is_endpoint:
            address = urlsplit(self.use)
            return address.path.rstrip("/").rpartition("/")[2] or address.hostname or self.use
        if self.name is None and self.is_model:
            return PurePath(self.use).name or "reward_model"
        return self.name or self.use.rpartition(":")[2]

    @property
    def is_endpoint(self) -> bool:
        """Is it named by the address of an HTTP endpoint?"""
        return self.use.startswith(("http://", "https://"))

    @property
    def is_model(self) -> bool:
        """Is it named by the folder of a reward model?"""
        return ":" not in self.use and "/" in self.use

    @property
    def called(self) -> tuple[str, dict[str, Any]]:
        """The function behind it, as module:name, and all its fixed arguments."""
        if self.is_endpoint:
            return "rlkd.rewarding.endpoint:post", {"url": self.use, **self.kwargs}
        if self.is_model:
            return "rlkd.rewarding.model:score", {"path": self.use, **self.kwargs}
        return self.use, self.kwargs

    @model_validator(mode="after")
    def _one_place(self) -> "Reward":
        own = "url" if self.is_endpoint else "path" if self.is_model else None
        if own in self.kwargs:
            raise ValueError(f"kwargs sets {own!r}, which `use` sets already; remove it there")
        return self

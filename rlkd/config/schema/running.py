"""The blocks of the run itself: its name and folder, its end, and who watches it."""

from typing import Literal

from pydantic import Field

from rlkd.config.schema.base import Block


class Run(Block):
    """The run's name, folder, seed and checkpoints, and when it stops itself."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run and of its folder: letters, digits, `.`, `_`, `-`."""
    dir: str = Field(default="runs", min_length=1)
    """Folder of the runs; this run writes <dir>/<name>, which must not exist or be empty."""
    seed: int = Field(default=0, ge=0)
    """Seed of sampling, shuffling and adapters."""
    save_every: int = Field(default=0, ge=0)
    """Optimiser steps between checkpoints, from which a run can be resumed; 0: only the final model
    (and what eval.best or a signal saves)."""
    keep: int = Field(default=2, gt=0)
    """Checkpoints to keep, the newest; with eval.best also the best."""
    processes: int | None = Field(default=None, gt=0)
    """Number of processes that the launch must have; null: any."""
    deterministic: bool = False
    """Use only deterministic kernels: slower on a GPU, the same numbers every time."""
    first_batch: Literal["error", "warn", "off"] = "error"
    """What a first batch of rollouts does from which nothing can be learnt (all cut off and none
    differs, none can be graded): `error` stops before the first update."""
    on_nan: Literal["stop", "warn"] = "stop"
    """What a loss or gradient that is NaN or infinite does. The update is left out either way;
    `stop` then saves and ends the run, `warn` goes on."""
    stacks_after_s: float = Field(default=600.0, ge=0)
    """Seconds without progress of a process (a forward pass, or the end of a phase of the step)
    after which the stacks of all are written to stuck-step-*.txt in the run's folder; the run goes
    on. 0: never."""
    abort_after_s: float = Field(default=1500.0, ge=0)
    """Seconds without progress after which the run ends on all processes, exit code 76; more than
    the longest reward call, forward pass (torch.compile) or checkpoint takes, and less than a
    collective's own limit (trl.ddp_timeout, 1800). 0: never."""


class Tracking(Block):
    """What is logged beside metrics.jsonl."""

    progress: Literal["auto", "panel", "lines", "none"] = "auto"
    """What is shown on stderr at each step: `panel`, live, for terminals; `lines`; `none`: alarms
    alone; `auto`: a panel where stderr is a terminal, lines elsewhere."""
    wandb: Literal["offline", "online", "disabled"] = "offline"
    """W&B: `offline` writes into the run's folder and needs no account; `online` that cannot be
    reached goes on offline."""
    also: list[Literal["trackio", "tensorboard"]] = Field(default_factory=list)
    """Further trackers; they are installed with `pip install 'rlkd[trackers]'`."""
    project: str = "rlkd"
    """Project of the run in W&B and trackio."""
    group: str | None = None
    """Group of the run there; null: one that runs share which differ only in seed and name."""
    job_type: str = "train"
    """Kind of the run there."""
    tables: int = Field(default=50, ge=0)
    """Most tables of rollouts, and of held-out answers, that trackers get, evenly over the steps;
    0: none."""
    table_rows: int = Field(default=16, ge=0)
    """Most rows of one such table; 0: no tables."""
    artifact: Literal["none", "model", "checkpoints"] = "none"
    """Weights that W&B and trackio keep a copy of: the final model, or that and each checkpoint."""
    rollouts_every: int = Field(default=1, ge=0)
    """Optimiser steps between stored rollouts (parquet); 0: none."""
    token_rows: int = Field(default=8, ge=0)
    """Stored rollouts per batch and process of which every token is kept, with its entropy and the
    teacher's opinion of it: what `rlkd report` colours; 0: none."""

"""What the YAML of a run may hold: one model per block, each field documented under the field.

`rlkd train --help-config` prints these texts. The models are frozen, take no unknown keys and
import nothing heavy; the algorithm's own fields live in its dataclass (`rlkd.config.algorithm`).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Dtype = Literal["float32", "bfloat16", "float16"]


class Block(BaseModel):
    """Abstract: the settings that every block shares."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False
    )


class Lora(Block):
    """Low-rank adapters (peft) instead of training every weight."""

    r: int = Field(gt=0)
    """Rank of the adapters."""
    alpha: float = Field(gt=0)
    """Scale of the adapters: their output is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout inside the adapters; 0 keeps on-policy updates exactly on-policy."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, or `all-linear`."""


class Model(Block):
    """The student, which learns."""

    path: str = Field(min_length=1)
    """Folder of the model and its tokenizer, relative to the working directory."""
    dtype: Dtype = "float32"
    """Number format of the weights."""
    lora: Lora | None = None
    """Train low-rank adapters only; null trains every weight."""
    chat_template_kwargs: dict[str, Any] = {}
    """Handed to the tokenizer's chat template (`enable_thinking: false`)."""


class Teacher(Block):
    """A frozen model of its own beside the student."""

    path: str = Field(min_length=1)
    """Folder of the model and its tokenizer, which must number tokens as the student's does."""
    dtype: Dtype = "float32"
    """Number format of the weights."""
    temperature: float | None = Field(default=None, gt=0)
    """Temperature at which the teacher scores; null: the student's sampling temperature."""
    check: Literal["error", "warn", "off"] = "error"
    """What a failed check of the teacher at the start of the run does."""
    chunk_tokens: int = Field(default=1024, gt=0)
    """Tokens whose logits exist at once (memory: chunk_tokens x vocabulary x 4 bytes)."""
    quantization: Literal["bitsandbytes_8bit", "bitsandbytes_4bit", "torchao_int8"] | None = None
    """Hold the weights in fewer bits: bitsandbytes on a GPU, torchao also on a CPU; null: no."""
    device_map: str | None = None
    """Spread the teacher over devices (`auto`: what accelerate finds); null: on the rank's own."""
    offload: bool = False
    """Keep the weights in the machine's memory, on the device only while they score."""

    @model_validator(mode="after")
    def _one_place(self) -> "Teacher":
        if self.offload and (self.device_map is not None or self.quantization is not None):
            name = "device_map" if self.device_map is not None else "quantization"
            raise ValueError(
                f"offload is true and {name} is {getattr(self, name)!r}: weights that are "
                f"{'spread' if name == 'device_map' else 'quantised'} stay where they are; keep one"
            )
        return self


class SettingsBlock(Block):
    """Abstract: a dataclass and a visible departure from its defaults per key."""

    model_config = ConfigDict(extra="allow")

    use: str
    """The class, as module:name."""

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of the class, as written."""
        return dict(self.model_extra or {})


class UntilPlateau(Block):
    """The end of a phase: a logged number that has not improved for a while."""

    plateau: str = Field(pattern="^(eval|train)/.")
    """The number, by its logged name: `eval/accuracy`, `train/reward`."""
    best: Literal["highest", "lowest"] = "highest"
    """Which value of it is the best."""
    patience: int = Field(default=3, gt=0)
    """So many values in a row without a new best end the phase: evaluations, or logged steps."""
    window: int = Field(default=1, gt=0)
    """Each value is the mean of so many of the last ones: single steps are noisy."""
    at_latest: int | float | None = None
    """The phase ends then in any case: a step (a whole number) or a share of the run's steps; null:
    it may last to the end of the run."""


class AlgorithmBlock(SettingsBlock):
    """The objective: a dataclass and a visible departure from its defaults per key."""

    use: str
    """The algorithm's class, as module:name; its fields are the further keys of this block. A
    number may move: `beta: {from: 0.005, to: 0.001}` in place of `beta: 0.005`."""
    until: int | float | UntilPlateau | None = None
    """When `then` takes over: after this step of the run (a whole number), at this share of its
    steps (0.5), or at a plateau (a block); null: never."""


class ComponentBlock(SettingsBlock):
    """What the algorithm carries besides: a dataclass and a departure from its defaults per key."""

    use: str
    """The component's class, as module:name (`rlkd.algorithms.ceeh:CEEH`); its fields are the
    further keys of this block. A number may move, as the algorithm's may."""


class OtherTeacher(AlgorithmBlock):
    """A teacher that lives elsewhere, or is made of others."""

    use: str
    """A class of rlkd.teacher or your own, as module:name (`rlkd.teacher.inner:AdapterOff`). Its
    arguments are the further keys; one that is a teacher is a block like this one or with path."""
    check: Literal["error", "warn", "off"] = "error"
    """What a failed check of the teacher at the start of the run does."""


class FunctionSource(Block):
    """Rows from a function, called as fn(split=..., n=size, seed=seed, **kwargs)."""

    use: str
    """The function, as module:name (`envs.arithmetic:rows`); returns a list of dictionaries."""
    size: int = Field(gt=0)
    """How many rows to ask for."""
    seed: int = 0
    """Seed of the function: the same seed gives the same rows."""
    split: str | None = None
    """Split to ask for; null: `train` for data.train, `heldout` for data.eval."""
    kwargs: dict[str, Any] = {}
    """Further arguments of the function."""


class FileSource(Block):
    """Rows from a local file."""

    path: str = Field(min_length=1)
    """A .jsonl, .json (a list of objects), .parquet or .csv (every value is text) file, relative to
    the working directory."""
    size: int | None = Field(default=None, gt=0)
    """Take only the first rows; null: all."""


def _kind_of_source(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return "<function>" if isinstance(value, FunctionSource) else "<file>"
    named = {"use", "path"} & set(value) if isinstance(value, dict) else set()
    return {"use": "<function>", "path": "<file>"}[named.pop()] if len(named) == 1 else None


Source = Annotated[
    Annotated[FunctionSource, Tag("<function>")] | Annotated[FileSource, Tag("<file>")],
    Discriminator(
        _kind_of_source,
        custom_error_type="source",
        custom_error_message="a block with either `use` (a function) or `path` (a file)",
    ),
]


def _kind_of_teacher(value: Any) -> str:
    other = isinstance(value, OtherTeacher) or (isinstance(value, dict) and "use" in value)
    return "<elsewhere>" if other else "<model>"


AnyTeacher = Annotated[
    Annotated[Teacher, Tag("<model>")] | Annotated[OtherTeacher, Tag("<elsewhere>")],
    Discriminator(_kind_of_teacher),
]


class Traces(Block):
    """Answers that the teacher wrote to the training prompts, for algorithms that learn from them
    (LUFFY, GKD, supervised distillation). Exactly one of `path`, `column` and `samples`."""

    path: str | None = None
    """A file that `rlkd traces` wrote, or one of rows with a `prompt` and a `text`."""
    column: str | None = None
    """A column of data.train (after renaming) that holds a trace's text, a solution for example; it
    is taken as it stands, unjudged."""
    samples: int | None = Field(default=None, gt=0)
    """The run's own teacher answers each training prompt so many times before the first step;
    those with the first reward's full mark are kept, in <run>/traces.jsonl."""
    temperature: float = Field(default=1.0, gt=0)
    """With samples: the teacher's sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """With samples: nucleus sampling."""
    batch_size: int = Field(default=64, gt=0)
    """With samples: answers per generation pass and process."""
    missing: Literal["error", "skip", "on_policy"] = "error"
    """What a prompt without a trace does: stop the run, leave the row out, or be answered by the
    student alone (not for an algorithm of traces only)."""
    too_long: Literal["error", "drop"] = "error"
    """What a trace of more than sampling.max_completion_length tokens does: stop the run, or be
    dropped. It is never cut: a cut trace teaches not to end."""

    @model_validator(mode="after")
    def _one_source(self) -> "Traces":
        given = [name for name in ("path", "column", "samples") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'nothing'} is set; set exactly one of path (a file),"
                " column (of data.train) and samples (the run's teacher writes them)"
            )
        if self.samples is None:
            for name in ("temperature", "top_p", "batch_size"):
                if name in self.model_fields_set:
                    raise ValueError(
                        f"{name} says how the run's teacher writes traces, and {given[0]} takes"
                        f" those that are there; leave {name} out, or set samples"
                    )
        return self


class Data(Block):
    """The prompts and what the rewards need to judge the answers."""

    train: Source
    """Training rows: a function (`use`) or a file (`path`)."""
    eval: Source | None = None
    """Held-out rows; null: no evaluation."""
    traces: Traces | None = None
    """Answers that the teacher wrote to the training prompts; null: none."""
    prompt_column: str = "prompt"
    """The column that holds the prompt: a string or a list of chat messages."""
    columns: dict[str, str] = {}
    """Renamed columns, new name: old name."""
    allow_overlap: bool = False
    """Accept held-out prompts that are also training prompts."""
    max_bad_share: float = Field(default=0.1, ge=0, le=1)
    """Past this share of rows that a reward cannot grade (a broken gold answer) nothing starts; up
    to it they are listed, their reward is None and they count for nothing. 1: any share but all."""

    @model_validator(mode="after")
    def _one_prompt_column(self) -> "Data":
        if "prompt" in self.columns and self.prompt_column != "prompt":
            raise ValueError(
                f"the prompt column is set twice: prompt_column is {self.prompt_column!r} and "
                f"columns.prompt is {self.columns['prompt']!r}; keep one of them"
            )
        return self


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

"""The blocks of the data: where rows come from, and the teacher's answers to them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from rlkd.config.schema.base import Block


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
    kwargs: dict[str, Any] = Field(default={})
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
    columns: dict[str, str] = Field(default={})
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

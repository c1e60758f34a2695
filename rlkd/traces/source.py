"""The traces of a run: read or made as `data.traces` says, and held against its rows."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd.checkpoints.manifest import CheckpointError
from rlkd.config import ConfigError, RunConfig
from rlkd.difficulty import prompt_key
from rlkd.launch import Launch
from rlkd.rewarding import ledger
from rlkd.traces import file
from rlkd.traces.book import Trace, Traces
from rlkd.traces.making import Asked, Made, make

FILE = "traces.jsonl"
"""In a run's folder: the traces that its own teacher wrote."""
Row = dict[str, Any]


def obtain(
    config: RunConfig, rows: Sequence[Row], rewards: Mapping[str, Any], launch: Launch, resume: bool
) -> tuple[Traces | None, list[Row], Made | None]:
    """The traces of a run, the training rows that it keeps, and what its own teacher made.

    Args:
        rewards: guarded, by name; they judge what the run's own teacher writes.
        resume: take the traces that lie in the run's folder.

    Raises:
        ConfigError: the traces cannot be used (see `hold_against`, `file.read`).
    """
    wanted = config.data.traces
    if wanted is None:
        return None, list(rows), None
    tokenizer, made = AutoTokenizer.from_pretrained(config.model.path), None
    place, kept = "data.traces", config.folder / FILE
    if wanted.path is not None:
        pairs = file.read(wanted.path, tokenizer, place)
    elif wanted.column is not None:
        pairs = _of_column(rows, wanted.column, tokenizer)
    elif resume and kept.is_file():
        pairs = file.read(str(kept), tokenizer, place)
    else:
        assert wanted.samples is not None
        asked = Asked(
            samples=wanted.samples, temperature=wanted.temperature, top_p=wanted.top_p,
            max_completion_length=config.sampling.max_completion_length,
            batch_size=wanted.batch_size, seed=config.run.seed,
        )  # fmt: skip
        made = ask_teacher(config, rows, rewards, tokenizer, asked, launch)
        if launch.is_main:
            print(made, file=sys.stderr, flush=True)
        pairs = [
            (prompt_key(line["prompt"]), Trace(tuple(line["token_ids"]))) for line in made.lines
        ]
    traces, left = hold_against(config, rows, pairs)
    return traces, left, made


def ask_teacher(
    config: RunConfig,
    rows: Sequence[Row],
    rewards: Mapping[str, Any],
    tokenizer: Any,
    asked: Asked,
    launch: Launch,
) -> Made:
    """Let the config's teacher write traces; of several processes each asks for a part."""
    teacher = config.local_teacher
    assert teacher is not None
    state = PartialState(cpu=not torch.cuda.is_available())
    network: Any = AutoModelForCausalLM.from_pretrained(teacher.path, dtype=teacher.dtype)
    made = make(
        network.to(state.device), AutoTokenizer.from_pretrained(teacher.path), tokenizer,
        rows[launch.rank :: launch.world_size], rewards, config.rewards[0].label, asked,
        name=teacher.path, chat_template_kwargs=config.model.chat_template_kwargs,
    )  # fmt: skip
    del network
    for name, counts in ledger.take_all(rewards).items():  # not the first step's faults
        faults = sum(counts.get(fault, 0) for fault in ledger.FAULTS)
        if faults:
            print(f"traces: {name} failed on {faults} answers", file=sys.stderr, flush=True)
    if launch.world_size == 1:
        return made
    parts: list[Made] = gather_object([made])
    return Made(
        [line for part in parts for line in part.lines],
        prompts=sum(part.prompts for part in parts),
        answers=sum(part.answers for part in parts),
        generated_tokens=sum(part.generated_tokens for part in parts),
        without=sum(part.without for part in parts),
    )


def hold_against(
    config: RunConfig, rows: Sequence[Row], pairs: Sequence[tuple[int, Trace]]
) -> tuple[Traces, list[Row]]:
    """The traces of the rows' prompts, and the rows that stay.

    Raises:
        ConfigError: a trace is too long or a prompt has none, as `data.traces` says; or all have
            none.
    """
    wanted, limit = config.data.traces, config.sampling.max_completion_length
    assert wanted is not None
    keys = [prompt_key(row["prompt"]) for row in rows]
    asked = set(keys)
    pairs = [(key, trace) for key, trace in pairs if key in asked]
    long = [len(trace.ids) for _, trace in pairs if len(trace.ids) > limit]
    if long and wanted.too_long == "error":
        raise ConfigError(
            f"data.traces: {len(long)} of {len(pairs)} traces are longer than the answers may be.\n"
            f"  found: up to {max(long)} tokens; sampling.max_completion_length is {limit}\n"
            "  why: a trace that is cut would teach the student not to end\n"
            "  do: raise sampling.max_completion_length, or set data.traces.too_long to drop"
        )
    traces = Traces.gather((key, trace) for key, trace in pairs if len(trace.ids) <= limit)
    missing = [row for key, row in zip(keys, rows, strict=True) if key not in traces]
    if missing and (wanted.missing == "error" or len(missing) == len(rows)):
        raise ConfigError(
            f"data.traces: {len(missing)} of {len(rows)} training prompts have no trace.\n"
            f"  found: for example {str(missing[0]['prompt'])[:80]!r}\n"
            "  why: the teacher was never right there, or the traces are of other prompts\n"
            "  do: ask for more samples, or set data.traces.missing to skip (leave those rows out)"
            " or on_policy (the student answers them alone)"
        )
    if wanted.missing == "skip":
        rows = [row for key, row in zip(keys, rows, strict=True) if key in traces]
    return traces, list(rows)


def keep(made: Made, path: Path) -> None:
    """Write the traces to `path`, and beside it (.json for .jsonl) what they cost: the tokens of
    all answers, those that were thrown away too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file.write(path, made.lines)
    about = {name: value for name, value in vars(made).items() if name != "lines"}
    text = json.dumps(about | {"kept": len(made.lines)}, indent=2)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


class Same:
    """A piece of a checkpoint: the run goes on with the traces that it began with."""

    def __init__(self, traces: Traces) -> None:
        self._digest, self._number = traces.digest(), len(traces)

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {"sha256": self._digest}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        if state != self.state():
            raise CheckpointError(
                "data.traces: the traces are not those that the run began with.\n"
                "  why: it would be neither the run that was begun nor a new one\n"
                "  do: bring the old file back, or start a new run"
            )
        return f"{self._number} traces, the same as before"


def _of_column(rows: Sequence[Row], column: str, tokenizer: Any) -> list[tuple[int, Trace]]:
    if column not in rows[0]:
        raise ConfigError(
            f"data.traces.column: data.train has no column {column!r}.\n"
            f"  found: {', '.join(rows[0])}"
        )
    texts = [(row["prompt"], row[column]) for row in rows if row[column]]
    for _, text in texts:
        if not isinstance(text, str):
            raise ConfigError(
                f"data.traces.column: {column!r} holds a {type(text).__name__}, and a trace is text"
            )
    return [(prompt_key(prompt), file.encode(text, tokenizer)) for prompt, text in texts]

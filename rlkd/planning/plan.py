"""A config's memory: from its blocks to the numbers of `phases`, and what a change would save."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlkd.config import ConfigError, RunConfig
from rlkd.data import Row
from rlkd.door import check_model_folder
from rlkd.errors import brief
from rlkd.geometry import geometry
from rlkd.planning.network import Network, read_network
from rlkd.planning.parts import TILE_VOCABULARY
from rlkd.planning.phases import Estimate, Work, estimate
from rlkd.teacher.door import check_wanted

MAX_PROMPTS = 10_000
"""Rows of a split whose prompts are counted."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a config comes to on one of its processes."""

    student: Network
    teacher: Network | None
    work: Work
    estimate: Estimate
    notes: tuple[str, ...] = ()
    """What the formulas do not know of this config."""


@dataclasses.dataclass(frozen=True)
class Change:
    """An override of the config, and the peak that it would lead to."""

    override: str
    same_update: bool
    """Does the run learn the same with it (up to rounding)?"""
    peak: int


def plan(
    config: RunConfig, world_size: int, prompt: int, *, cuda: bool, sharded: bool = False
) -> Plan:
    """The memory of a run.

    Args:
        config: the run.
        world_size: its processes, one device each.
        prompt: tokens of the longest prompt.
        cuda: on GPUs (TRL's Triton kernels) or on a CPU?
        sharded: under FSDP2?

    Raises:
        ConfigError: a model's sizes cannot be read, or the batch cannot be cut; the run has no use
            for its teacher (see `check_wanted`).
    """
    model = config.model
    check_model_folder(model.path, "model.path")
    lora = model.lora.model_dump_json() if model.lora is not None else None
    check_wanted(config)
    student = read_network(model.path, model.dtype, "model.path", lora)
    teacher = None
    if config.local_teacher is not None and not _writes_traces_alone(config):
        check_model_folder(config.local_teacher.path, "teacher.path")
        teacher = read_network(
            config.local_teacher.path, config.local_teacher.dtype, "teacher.path"
        )
    work = work_of(config, world_size, prompt, cuda=cuda)
    work = dataclasses.replace(work, sharded=sharded)
    return Plan(
        student,
        teacher,
        work,
        estimate(student, teacher, work),
        _notes(config, student, teacher, cuda=cuda),
    )


def _writes_traces_alone(config: RunConfig) -> bool:
    """Is the teacher gone before the first step, or not there at all, since the run has its
    answers in traces and its scores are not asked for? (`rlkd.run` decides so too.)"""
    return config.data.traces is not None and not config.build_algorithm().needs_teacher


def work_of(config: RunConfig, world_size: int, prompt: int, *, cuda: bool) -> Work:
    """What one of `world_size` processes does in a step."""
    sizes, sampling = geometry(config.batch, world_size), config.sampling
    from rlkd.algorithms.schedule import schedule_of

    schedule = schedule_of(config.build_algorithm())
    beta, algorithms = schedule.beta, [phase.algorithm for phase in schedule.phases]
    updates = sizes.steps_per_generation * sizes.num_iterations
    copies = 3 + (sampling.temperature != 1.0) + (sampling.top_k > 0) + 5 * (sampling.top_p < 1.0)
    return Work(
        prompt=prompt,
        completion=sampling.max_completion_length,
        micro_batch=sizes.micro_batch_size,
        accumulation=sizes.accumulation_steps,
        generated=sizes.rows_per_generation // world_size,
        evaluated=_evaluated(config, world_size),
        eval_completion=config.eval.max_completion_length or sampling.max_completion_length,
        chunk_tokens=config.local_teacher.chunk_tokens if config.local_teacher is not None else 1,
        checkpointing=bool(config.trl.get("gradient_checkpointing", False)),
        sampler_copies=copies,
        entropy_gradient=bool(config.components),
        reference=beta > 0 and config.model.lora is None,
        whole_vocabulary=any(algorithm.needs_distribution for algorithm in algorithms),
        # TRL's own condition for asking the old log-probabilities of the student; fewer rows are
        # scored with speed.reuse_log_probs, in the same micro-batches.
        scores_itself=beta > 0
        or sizes.accumulation_steps % updates != 0
        or config.generation.corrects,
        processes=world_size,
        triton=cuda,
        answers_only=config.speed.answers_only_head or config.speed.padding_free,
    )


def _evaluated(config: RunConfig, world_size: int) -> int:
    source = config.data.eval
    if source is None:
        return 0
    rows = math.ceil(source.size / world_size) if source.size else config.eval.batch_size
    return min(rows, config.eval.batch_size)


def _notes(
    config: RunConfig, student: Network, teacher: Network | None, *, cuda: bool
) -> tuple[str, ...]:
    notes = [
        f"{net.name} is not a dense decoder of the kind of Llama or Qwen: its weights are counted,"
        " its activations are guessed from its widths"
        for net in (student, teacher)
        if net is not None and not net.known
    ]
    if not cuda and student.vocabulary < TILE_VOCABULARY:
        notes.append(
            f"the head's tile of logits is {TILE_VOCABULARY} tokens wide whatever the vocabulary:"
            " on a CPU most of it is reserved and never touched"
        )
    optimiser = str(config.trl.get("optim", "adamw_torch"))
    if not optimiser.startswith("adamw_torch"):
        notes.append(f"trl.optim is {optimiser}: its states are counted as if it were AdamW's")
    if config.environment is not None:
        notes.append("environment: what tools write counts within max_completion_length")
    if config.generation.backend != "transformers":
        notes.append(
            f"generation.backend {config.generation.backend}: the engine's memory is its own"
            " (memory_share); generate is counted as without it"
        )
    if config.local_teacher is not None and _writes_traces_alone(config):
        notes.append(
            "the teacher is not counted: it only writes traces, before the first step"
            if config.data.traces is not None and config.data.traces.samples
            else "the teacher is not counted: the traces are there, and nothing asks for its scores"
        )
    if any(reward.is_model for reward in config.rewards):
        notes.append("reward models live in processes of their own and are not counted")
    return tuple(notes)


def longest_prompt(tokenizer: Any, rows: Sequence[Row], template: dict[str, Any]) -> int:
    """Tokens of the longest prompt, chats in the tokenizer's template."""
    longest = 1
    for row in rows:
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            prompt = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, tokenize=False, **template
            )
        longest = max(longest, len(tokenizer(prompt)["input_ids"]))
    return longest


def changes(
    config: RunConfig,
    reload: Callable[[Sequence[str]], RunConfig],
    world_size: int,
    now: Plan,
    *,
    cuda: bool,
) -> list[Change]:
    """What would lower the peak by at least a twentieth, the most first; those that leave the
    update as it is before those that do not.

    Args:
        config: the run.
        reload: the same config with these overrides on top.
        now: its plan.
    """
    found = []
    for override, same in _candidates(config, now):
        try:
            again = reload([override])
            sharded = now.work.sharded
            changed = plan(again, world_size, now.work.prompt, cuda=cuda, sharded=sharded)
        except ConfigError:
            continue  # it does not divide, or peft refuses the model
        if changed.estimate.peak.total <= 0.95 * now.estimate.peak.total:
            found.append(Change(override, same, changed.estimate.peak.total))
    return sorted(found, key=lambda change: (not change.same_update, change.peak))


def _candidates(config: RunConfig, now: Plan) -> list[tuple[str, bool]]:
    """Overrides worth a look, and whether the update stays the same."""
    found: list[tuple[str, bool]] = []
    half = config.batch.micro_batch_size // 2
    if half:
        found.append((f"--batch.micro_batch_size={half}", True))
    if not now.work.checkpointing:
        found.append(("--trl.gradient_checkpointing=true", True))
    if config.local_teacher is not None:
        if config.local_teacher.chunk_tokens > 128:
            found.append(("--teacher.chunk_tokens=128", True))
        if config.local_teacher.dtype == "float32":
            found.append(("--teacher.dtype=bfloat16", False))
    if now.work.evaluated > 1:
        found.append((f"--eval.batch_size={now.work.evaluated // 2}", True))
    if config.batch.steps_per_rollout > 1:
        found.append(("--batch.steps_per_rollout=1", False))
    if config.model.lora is None:
        found.append(("--model.lora={r: 16, alpha: 32}", False))
    if config.model.dtype == "float32":
        found.append(("--model.dtype=bfloat16", False))
    if config.batch.prompts_per_step > 1:
        fewer = config.batch.prompts_per_step // 2
        found.append((f"--batch.prompts_per_step={fewer}", False))
    shorter = config.sampling.max_completion_length // 2
    if shorter:
        found.append((f"--sampling.max_completion_length={shorter}", False))
    return found


def rows_of(config: RunConfig) -> list[Row]:
    """The rows whose prompts count: training and held-out.

    Raises:
        ConfigError: see `rlkd.data.load_splits`.
    """
    from rlkd.data import load_splits

    train, heldout = load_splits(config.data)
    return [*train[:MAX_PROMPTS], *(heldout or [])[:MAX_PROMPTS]]


def tokenizer_of(path: str) -> Any:
    """The student's tokenizer.

    Raises:
        ConfigError: there is no such folder, or no tokenizer in it that can be loaded.
    """
    from transformers import AutoTokenizer

    check_model_folder(path, "model.path")

    try:
        return AutoTokenizer.from_pretrained(Path(path))
    except Exception as error:  # what a format's reader breaks with is its own
        raise ConfigError(
            f"model.path: the tokenizer in {path} cannot be loaded: {brief(error)}\n"
            "  why: the longest prompt is counted with it\n"
            "  do: add it to the folder, or say --prompt-tokens N"
        ) from error

"""The door of a run: what can be known before data or weights are loaded."""

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlkd.config import RunConfig
from rlkd.config.schema import FileSource, FunctionSource
from rlkd.data import SPLITS
from rlkd.datafiles import check_file
from rlkd.environment import build_environment, check_rows, check_template
from rlkd.errors import ConfigError, nearest, together
from rlkd.generation import check_generation
from rlkd.geometry import geometry
from rlkd.refs import check_arguments, resolve
from rlkd.rewarding.model import check_folder
from rlkd.sharding import check_sharding
from rlkd.teacher.door import check_teaching
from rlkd.teacher.folder import check_whole_model
from rlkd.traces.door import check_traces
from rlkd.tracking.trackers.installed import check_trackers


def check_at_door(
    config: RunConfig, world_size: int, *, output: bool = True, teacher: bool = True
) -> None:
    """Everything that can be checked without reading data or weights; writes nothing.

    Builds the algorithm, resolves every reference and checks the config's arguments against its
    parameters, looks for model and teacher folders and data files, divides the batch.

    Args:
        config: the run.
        world_size: its number of processes.
        output: also check that the run's folder is free (only the first process may: it fills it).
        teacher: also look at the teacher and at the student's weights, which an evaluation has no
            use for.

    Raises:
        ConfigError: one error with every problem that was found.
    """
    checks: list[Callable[[], Any]] = [
        config.build_algorithm,
        functools.partial(build_rewards, config),
        functools.partial(check_steering, config),
        functools.partial(check_speed, config),
        functools.partial(geometry, config.batch, world_size),
        functools.partial(_check_student, config.model.path, weights=teacher),
        functools.partial(_check_source, config.data.train, "train"),
        functools.partial(check_traces, config),
        functools.partial(check_trackers, config.tracking),
        functools.partial(check_generation, config, world_size),
        functools.partial(check_sharding, config),
    ]
    if config.environment is not None:
        checks.append(functools.partial(build_environment, config.environment))
    if config.data.eval is not None:
        checks.append(functools.partial(_check_source, config.data.eval, "eval"))
    if teacher:
        checks.append(functools.partial(check_teaching, config, check_model_folder))
    if output:
        checks.append(functools.partial(check_output_folder, config))
    problems = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            if str(error) not in problems:  # two checks may stumble over the same thing
                problems.append(str(error))
    if problems:
        raise together(problems, f"run {config.run.name}")


def build_rewards(config: RunConfig) -> dict[str, Callable[..., Any]]:
    """The reward functions by their names in the metrics, with their `kwargs` fixed.

    Each is a `functools.partial` whose `__name__` is its name in the metrics, as TRL reads it.

    Raises:
        ConfigError: a reference does not resolve, or an argument is none of the function's.
    """
    rewards = {}
    for i, reward in enumerate(config.rewards):
        use, kwargs = reward.called
        if reward.is_model:
            folder = check_model_folder(reward.use, f"rewards.{i}.use")
            memory_gb = None if reward.in_process else reward.memory_gb
            check_folder(folder, reward.kwargs, memory_gb, f"rewards.{i}")
        function = resolve(use, place=f"rewards.{i}.use", want_callable=True)
        _check_fixed(function, kwargs, f"rewards.{i}")
        if not reward.in_process and "environments" in inspect.signature(function).parameters:
            raise ConfigError(
                f"rewards.{i}.use: {reward.label} asks for `environments`, which live in the"
                " trainer and cannot be sent to a worker process.\n"
                f"  do: set rewards.{i}.in_process to true"
            )
        fixed = functools.partial(function, **kwargs)
        fixed.__name__ = reward.label  # pyright: ignore[reportAttributeAccessIssue]
        rewards[reward.label] = fixed
    return rewards


def check_steering(config: RunConfig) -> None:
    """No reward sets what a component sets too. A reward function says what it sets, beside being
    right, in its attribute `steers` (a set of words, those of the components).

    Raises:
        ConfigError: one does; or a reference does not resolve.
    """
    held = {word: c for c in config.build_components() for word in c.steers}
    for i, reward in enumerate(config.rewards):
        function = resolve(reward.called[0], place=f"rewards.{i}.use", want_callable=True)
        for word in sorted(getattr(function, "steers", frozenset()) & held.keys()):
            if reward.weight != 0:
                raise ConfigError(
                    f"rewards.{i}: {reward.label} and {type(held[word]).__name__} both set {word}, "
                    "so neither would do what its paper says.\n"
                    f"  do: keep one of them (rewards.{i}.weight 0 only logs it)"
                )


def check_speed(config: RunConfig) -> None:
    """Nothing in the objective depends on what `speed` changes.

    Raises:
        ConfigError: it does; or the two cannot be had together.
    """
    if not config.speed.model_fields_set:
        return
    from rlkd.algorithms.schedule import Schedule
    from rlkd.training.speed import Speed

    speed, algorithm = Speed(**config.speed.model_dump()), config.build_algorithm()
    phases = algorithm.phases if isinstance(algorithm, Schedule) else ()
    ends = [end for phase in phases for end in phase.ends] or [algorithm]
    try:
        speed.refuse_statistics([*ends, *config.build_components()])
    except ValueError as error:
        raise ConfigError(f"speed: {error}") from error
    if speed.padding_free and config.generation.backend == "continuous_batching":
        raise ConfigError(
            "speed.padding_free sets the student's attention, and so does"
            " generation.backend: continuous_batching.\n  do: choose one of them"
        )


def check_prompts(config: RunConfig, rows: Sequence[dict[str, Any]]) -> None:
    """What only the rows show: that all who read the prompts can read this kind.

    Raises:
        ConfigError: the prompts are chats and the student or a reward model has no chat template;
            the environment or the student's template cannot work on them.
    """
    if config.environment is not None:
        check_rows(config.environment, rows)
        check_template(Path(config.model.path))
    if isinstance(rows[0]["prompt"], str):
        return
    readers = {"model.path": config.model.path}
    readers |= {f"rewards.{i}.use": r.use for i, r in enumerate(config.rewards) if r.is_model}
    for place, path in readers.items():
        if not _has_chat_template(Path(path)):
            raise ConfigError(
                f"{place}: the prompts are chats, and the tokenizer in {path} has no chat template."
                "\n  why: the model could not be shown who said what\n"
                "  do: add the chat_template.jinja that it was trained with to that folder, or give"
                " prompts that are text (the shelf: kwargs: {chat: false})"
            )


def _check_student(path: str, *, weights: bool) -> None:
    folder = check_model_folder(path, "model.path")
    if weights:
        check_whole_model(folder, "model.path")


def _has_chat_template(folder: Path) -> bool:
    about = folder / "tokenizer_config.json"
    if (folder / "chat_template.jinja").is_file() or not about.is_file():
        return True  # without a tokenizer it is an adapter's folder: the base model's counts
    return bool(json.loads(about.read_text(encoding="utf-8")).get("chat_template"))


def check_model_folder(path: str, place: str) -> Path:
    """The folder of a model, if it is one.

    Raises:
        ConfigError: there is no such folder, or it holds no model.
    """
    folder = Path(path)
    if folder.is_file():
        raise ConfigError(_a_file(folder, place))
    if not folder.is_dir():
        lines = [
            f"{place}: there is no folder {path}.",
            f"  found: the working directory is {Path.cwd()}",
        ]
        siblings = (
            [p.name for p in folder.parent.iterdir() if p.is_dir()]
            if folder.parent.is_dir()
            else []
        )
        near = nearest(folder.name, siblings)
        if near is not None and folder.parent != Path():
            lines.append(f"  did you mean: {folder.parent / near}")
        lines.append(
            "  do: fix the path; a model on the hub must be downloaded first:"
            " hf download NAME --local-dir FOLDER"
        )
        raise ConfigError("\n".join(lines))
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        names = sorted(p.name for p in folder.iterdir())
        raise ConfigError(
            f"{place}: {path} holds no model.\n"
            f"  found: {', '.join(names[:12]) or 'an empty folder'}\n"
            "  expected: config.json beside the weights and the tokenizer"
        )
    return folder


def _a_file(file: Path, place: str) -> str:
    lines = [
        f"{place}: {file} is a file, and a model is a folder.",
        "  expected: a folder with config.json, the weights (safetensors) and the tokenizer",
    ]
    if (file.parent / "config.json").is_file():
        lines.append(f"  did you mean: {file.parent}")
    if file.suffix == ".gguf":
        lines.append("  do: download the model that it was made from: .gguf is llama.cpp's format")
    return "\n".join(lines)


def check_output_folder(config: RunConfig) -> Path:
    """The folder that the run will write, if it is free.

    Raises:
        ConfigError: it is a file, or a folder with a file in it.
    """
    folder = config.folder
    # A start that was refused leaves an empty folder for checkpoints.
    if folder.is_dir() and all(path.is_dir() for path in folder.rglob("*")):
        return folder
    if folder.exists():
        what = "a folder with files of another run" if folder.is_dir() else "a file"
        raise ConfigError(
            f"run.name: {folder} is in use.\n  found: {what}\n"
            "  why: two runs in one folder cannot be told apart afterwards\n"
            f"  do: choose another name (--run.name {config.run.name}-2), or move {folder} away;"
            " if it is this run, go on with it: --resume"
        )
    return folder


def _check_source(source: FunctionSource | FileSource, split: str) -> None:
    place = f"data.{split}"
    if isinstance(source, FileSource):
        check_file(source.path, place)
        return
    function = resolve(source.use, place=f"{place}.use", want_callable=True)
    arguments = {"split": SPLITS[split], "n": source.size, "seed": source.seed}
    check_arguments(function, arguments, source.kwargs, place)


def _check_fixed(function: Callable[..., Any], kwargs: dict[str, Any], place: str) -> None:
    title = getattr(function, "__name__", type(function).__name__)
    # A reward's **columns would swallow a misspelt name in silence: only named parameters count.
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in kwargs:
        if name not in names:
            raise ConfigError(
                f"{place}.kwargs.{name}: {title} has no such parameter.\n"
                f"  did you mean: {nearest(name, names)}\n"
                f"  found: {title}({', '.join(names)})"
            )

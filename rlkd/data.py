"""Rows for training and evaluation: from an environment's function or a local file, checked.

Rows are plain dictionaries with a `prompt` (a string or a list of chat messages) and the columns
that the rewards read. Turning them into a `datasets.Dataset` is the run's business.
"""

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rlkd.config.schema import Data, FileSource, FunctionSource
from rlkd.datafiles import read_file
from rlkd.errors import ConfigError, nearest
from rlkd.geometry import Geometry
from rlkd.refs import check_arguments, resolve

Row = dict[str, Any]

SPLITS = {"train": "train", "eval": "heldout"}
"""Which split of its own an environment is asked for, per block of `data`."""

TRL_PROVIDES = (
    "prompts",
    "completions",
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
    "environments",
)
"""What a reward function is given besides the data's columns."""


def load_splits(data: Data) -> tuple[list[Row], list[Row] | None]:
    """Training and held-out rows, ready for use.

    Raises:
        ConfigError: see `load_rows`, `prepare` and `check_overlap`.
    """
    train = prepare(load_rows(data.train, "train"), data, "train")
    check_types(train, "train")
    if data.eval is None:
        return train, None
    heldout = prepare(load_rows(data.eval, "eval"), data, "eval")
    if not data.allow_overlap:
        check_overlap(train, heldout)
    return train, heldout


def load_rows(source: FunctionSource | FileSource, split: str) -> list[Row]:
    """The rows of a source as they are, all with the same columns.

    Args:
        source: a function, called as fn(split=..., n=size, seed=seed, **kwargs), or a file.
        split: `train` or `eval`, the block of `data`; a function is asked for the split of its own
            that `SPLITS` names, or for `source.split`.

    Raises:
        ConfigError: the function or file is missing or refuses, gives anything but rows, too few of
            them, or rows with different columns.
    """
    place = f"data.{split}"
    if isinstance(source, FileSource):
        rows = read_file(source.path, place)
        if source.size is not None and len(rows) < source.size:
            raise ConfigError(
                f"{place}.size: {source.size} rows are wanted but {source.path} has {len(rows)}.\n"
                f"  do: lower {place}.size, or set it to null for all rows"
            )
        rows = rows[: source.size]
        origin = source.path
    else:
        rows = _call(source, split, place)
        origin = source.use
    return _same_columns(rows, place, origin)


def prepare(rows: list[Row], data: Data, split: str) -> list[Row]:
    """The rows with their columns renamed and the prompt under `prompt`, the prompts checked.

    Raises:
        ConfigError: a column to rename is missing or the new name is taken; a prompt is missing,
            empty, or neither text nor chat messages; strings and chats are mixed.
    """
    names = {old: new for new, old in data.columns.items()}
    prompt_place = "data.columns.prompt" if "prompt" in data.columns else "data.prompt_column"
    if data.prompt_column != "prompt":
        if data.prompt_column in names:
            raise ConfigError(
                f"data.columns.{names[data.prompt_column]}: {data.prompt_column!r} is already the"
                " prompt column and cannot get another name"
            )
        names[data.prompt_column] = "prompt"
    columns = list(rows[0])
    renamed = [names.get(column, column) for column in columns]
    for old, new in names.items():
        place = prompt_place if new == "prompt" else f"data.columns.{new}"
        if old not in columns:
            raise ConfigError(_no_column(place, old, columns, split))
        if renamed.count(new) > 1:
            raise ConfigError(
                f"{place}: renaming {old!r} to {new!r} would overwrite a column of data.{split}.\n"
                f"  found: {', '.join(columns)}\n  do: rename the other {new!r} too, or drop it"
            )
    if "prompt" not in renamed:
        raise ConfigError(_no_column(prompt_place, data.prompt_column, columns, split))
    rows = [{names.get(key, key): value for key, value in row.items()} for row in rows]
    _check_prompts(rows, f"data.{split}")
    return rows


def check_columns(reward_fns: Mapping[str, Callable[..., Any]], columns: Iterable[str]) -> None:
    """Check that every reward function can be called with what the data and TRL give it.

    Args:
        reward_fns: functions by the names of the rewards; arguments fixed with `functools.partial`
            count as given.
        columns: the data's columns, after renaming.

    Raises:
        ConfigError: a parameter without a default is no column; a fixed argument is also a column;
            the function cannot take what it will be given.
    """
    given = [
        column for column in columns if column not in ("prompt", "completion", "completion_ids")
    ]
    for name, function in reward_fns.items():
        fixed = function.keywords if isinstance(function, functools.partial) else {}
        for twice in sorted(set(fixed) & {*given, *TRL_PROVIDES}):
            raise ConfigError(
                f"reward {name!r}: kwargs sets {twice!r}, which each call is given too.\n"
                "  why: the value of the call would win, and kwargs would have no effect\n"
                f"  do: remove {twice} from its kwargs, or rename the column (data.columns)"
            )
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            _check_parameter(name, parameter, given)
        # `environments` is only given where there are any.
        passed = {*given, *TRL_PROVIDES} - {"environments"}
        surplus = sorted(passed - {p.name for p in parameters})
        if surplus and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise ConfigError(
                f"reward {name!r}: the function does not take all that it is given.\n"
                f"  found: no parameter for {', '.join(surplus)}\n"
                "  why: TRL calls every reward with all columns of the data and some helpers\n"
                "  do: end its parameters with **columns"
            )


def check_overlap(train: list[Row], heldout: list[Row]) -> None:
    """Check that no held-out prompt is also a training prompt.

    Raises:
        ConfigError: some are; says how many of how many and shows one.
    """
    seen = {_key(row["prompt"]) for row in train}
    shared = [row["prompt"] for row in heldout if _key(row["prompt"]) in seen]
    if shared:
        raise ConfigError(
            f"data: {len(shared)} of {len(heldout)} held-out prompts are also training prompts.\n"
            f"  found: for example {str(shared[0])[:80]!r}\n"
            "  why: the held-out accuracy would count what was trained on\n"
            "  do: separate the two, or set data.allow_overlap to true"
        )


def check_enough(rows: list[Row], geometry: Geometry) -> None:
    """Check that one rollout's prompts can be drawn; TRL drops what does not fill a rollout.

    Raises:
        ConfigError: there are fewer training rows than prompts in one rollout.
    """
    if len(rows) < geometry.prompts_per_generation:
        raise ConfigError(
            f"data.train: there are {len(rows)} rows, but one rollout draws"
            f" {geometry.prompts_per_generation} distinct prompts.\n"
            "  why: an incomplete rollout is dropped, so nothing would ever be sampled\n"
            "  do: add rows (data.train.size), or lower batch.prompts_per_step or"
            " batch.steps_per_rollout"
        )


def _call(source: FunctionSource, split: str, place: str) -> list[Row]:
    function = resolve(source.use, place=f"{place}.use", want_callable=True)
    arguments = {"split": source.split or SPLITS[split], "n": source.size, "seed": source.seed}
    check_arguments(function, arguments, source.kwargs, place)
    try:
        rows = function(**arguments, **source.kwargs)
    except ValueError as error:
        # How an environment says that it cannot serve this; anything else is a bug of its own.
        raise ConfigError(f"{place}: {source.use} refuses: {error}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        what = f"a list of {len(rows)}" if isinstance(rows, list) else f"a {type(rows).__name__}"
        raise ConfigError(
            f"{place}: {source.use} gave no rows.\n  found: {what}\n"
            "  expected: a list of dictionaries, at least one"
        )
    if len(rows) != source.size:
        raise ConfigError(
            f"{place}: {source.use} gave {len(rows)} rows where {source.size} were asked for.\n"
            f"  do: set {place}.size to what it has, or fix the function"
        )
    return rows


def _same_columns(rows: list[Row], place: str, origin: str) -> list[Row]:
    for i, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            difference = ", ".join(sorted(map(str, row.keys() ^ rows[0].keys())))
            raise ConfigError(
                f"{place}: the rows of {origin} have different columns.\n"
                f"  found: row {i} differs from row 0 in {difference}\n"
                "  why: every reward is given every column for every row\n"
                "  do: give each row all columns (null where there is no value)"
            )
    return rows


def check_types(rows: list[Row], split: str) -> None:
    """Check that each column holds values of one kind, as a table of data must.

    Raises:
        ConfigError: a column mixes kinds (text and numbers, say); whole numbers among others are
            no mixture, nor is a missing value.
    """
    for column in rows[0]:
        kinds = {type(row[column]).__name__: i for i, row in reversed(list(enumerate(rows)))}
        kinds.pop("NoneType", None)
        if len(kinds) > 1 and not kinds.keys() <= {"int", "float"}:
            shown = ", ".join(f"{kind} in row {i}" for kind, i in sorted(kinds.items()))
            raise ConfigError(
                f"data.{split}: the column {column!r} mixes kinds of values.\n  found: {shown}\n"
                "  why: rows become a table, whose columns have one type each\n"
                "  do: write all of them alike, for example all as text"
            )


def _no_column(place: str, wanted: str, columns: list[str], split: str) -> str:
    return (
        f"{place}: data.{split} has no column {wanted!r}.\n  found: {', '.join(columns)}\n"
        f"  did you mean: {nearest(wanted, columns)}"
    )


def _check_prompts(rows: list[Row], place: str) -> None:
    for i, row in enumerate(rows):
        prompt = row["prompt"]
        problem = _prompt_problem(prompt)
        if problem is None and isinstance(prompt, str) != isinstance(rows[0]["prompt"], str):
            problem = "a string where row 0 has chat messages, or the other way round"
        if problem is not None:
            raise ConfigError(
                f"{place}: the prompt of row {i} cannot be used.\n  found: {problem}\n"
                '  expected: text, or chat messages like [{"role": "user", "content": "..."}],'
                " the same kind in all rows"
            )


def _prompt_problem(prompt: Any) -> str | None:
    if isinstance(prompt, str):
        return None if prompt.strip() else "an empty string"
    if not isinstance(prompt, list):
        return f"a {type(prompt).__name__}: {str(prompt)[:60]}"
    if not prompt:
        return "an empty list"
    for message in prompt:
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            return f"a message without role and content: {str(message)[:60]}"
    return None


def _check_parameter(reward: str, parameter: inspect.Parameter, columns: list[str]) -> None:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ConfigError(
            f"reward {reward!r}: {parameter.name!r} can only be given by position, but rewards are"
            " called with names.\n  do: remove the / from its parameters"
        )
    optional = parameter.default is not parameter.empty
    if optional or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
        return
    if parameter.name in columns or parameter.name in TRL_PROVIDES:
        return
    plural = {"prompt": "prompts", "completion": "completions"}.get(parameter.name)
    hint = (
        f"call it {plural}: a reward is given whole lists"
        if plural
        else (
            "rename a column (data.columns), add it to the rows, or give the parameter a default"
            " or a value in the reward's kwargs"
        )
    )
    raise ConfigError(
        f"reward {reward!r} needs {parameter.name!r}, and the data has no such column.\n"
        f"  found: {', '.join(columns) or 'no columns beside the prompt'}\n"
        f"  always there: {', '.join(TRL_PROVIDES[:3])}\n"
        f"  do: {hint}"
    )


def _key(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)

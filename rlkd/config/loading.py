"""From a file and a command line to a checked config, and back.

Three layers, the later wins: the file named by `base:` (and its own base, and so on), the file
itself, the overrides. Blocks are merged key by key; lists and values are replaced. A block whose
`use` differs replaces the one below as a whole, because the keys of one class mean nothing to
another.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from rlkd.config import phases, yaml12
from rlkd.config.messages import explain
from rlkd.config.run_config import RunConfig
from rlkd.config.schema import SettingsBlock
from rlkd.errors import ConfigError, nearest, together


class Override(NamedTuple):
    """A value for one dotted place."""

    place: str
    value: Any


def load(
    path: str | Path, overrides: Sequence[str] = (), *, under: str | Path | None = None
) -> RunConfig:
    """The checked config of a run.

    Args:
        path: the YAML file; its `base:` is relative to its own folder, all else to the working one.
        overrides: command-line words, `["--optim.steps", "5", "--algorithm.alpha=0.3"]`; values are
            YAML; a list's item is named by its index (`--rewards.0.weight 2`; one past the end adds
            an item). Where one place is given twice, the last one wins.
        under: another file, which lies under this one as its `base:` would.

    Raises:
        ConfigError: a file is missing or no YAML, bases go round in a circle, an override has no
            value or no place, a key is unknown or missing, a value is of the wrong type or does not
            fit another. The algorithm's own fields are checked by `build_algorithm`.
    """
    tree = read(path)
    if under is not None:
        tree = merge(read(under), tree)
    return overlay(tree, overrides, str(path))


def read(path: str | Path) -> dict[str, Any]:
    """What a file and its bases say, merged and unchecked.

    Raises:
        ConfigError: a file is missing or no YAML, or bases go round in a circle.
    """
    return _read(Path(path), ())


def overlay(tree: dict[str, Any], overrides: Sequence[str], source: str) -> RunConfig:
    """A config from plain values and command-line words; `source` opens the error message.

    Raises:
        ConfigError: see `load`.
    """
    given = parse_overrides(overrides)
    # `use` and `path` first: they may replace their block, but not the keys given beside them.
    for override in sorted(given, key=lambda o: o.place.rpartition(".")[2] not in ("use", "path")):
        _apply(tree, override)
    beside = f" with {', '.join(f'--{o.place}' for o in given)}" if given else ""
    return validate(tree, f"{source}{beside}")


def validate(tree: dict[str, Any], source: str) -> RunConfig:
    """A config from plain values; `source` opens the error message.

    Raises:
        ConfigError: a key is unknown or missing, a value has the wrong type or misfits another.
    """
    try:
        # JSON mode: strict (no "5" for 5, no 1 for true), yet a list may become a tuple.
        text = json.dumps(tree)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: a value is no plain YAML: {error}") from error
    try:
        return RunConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise together(explain(RunConfig, error.errors(include_url=False)), source) from None


def dump(config: RunConfig) -> str:
    """The config as YAML, every field of every block; `load` of it gives an equal config."""
    return yaml12.write(_plain(config))


def resolved(config: RunConfig) -> RunConfig:
    """The same config with the defaults of the algorithm and the components written out too.
    Imports them.

    Raises:
        ConfigError: see `RunConfig.build_algorithm`.
    """
    config.build_algorithm()  # for what it refuses
    carried = config.build_components()
    algorithm, *then = (
        _with_defaults(block, *phases.build_block(block, carried, place))
        for place, block in phases.blocks_of(config).items()
    )
    components = [
        _with_defaults(block, *phases.build_moving(block, f"components.{i}"))
        for i, block in enumerate(config.components)
    ]
    update = {"algorithm": algorithm, "then": then, "components": components}
    return config.model_copy(update=update)


def _with_defaults(block: SettingsBlock, built: Any, anneals: Any) -> SettingsBlock:
    values = phases.written_out(built, anneals)
    own = {name: getattr(block, name) for name in type(block).model_fields}
    return type(block)(**own, **{name: _plain(value) for name, value in values.items()})


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """`--a.b.c value` and `--a.b.c=value`, the values read as YAML.

    Raises:
        ConfigError: a word that starts no override, one without a value, a value that is no YAML.
    """
    overrides = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        place, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not all(place.split(".")):
            raise ConfigError(
                f"command line: {word!r} is no override.\n"
                "  expected: --block.key value, like --optim.steps 5"
            )
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(
                    f"command line: --{place} has no value.\n"
                    f"  found: {rest[0] if rest else 'the end of the line'}\n"
                    f"  do: write --{place} VALUE, or --{place}=VALUE if it starts with two dashes"
                )
            text = rest.pop(0)
        overrides.append(Override(place, yaml12.parse(text, f"command line, --{place}")))
    return overrides


def merge(under: Any, over: Any) -> Any:
    """`over` on top of `under`; see the top of this file."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    replaces = "use" in over and "use" in under and over["use"] != under["use"]
    # A source is a function (`use`) or a file (`path`); one kind replaces the other.
    replaces |= ("path" in over and "use" in under) or ("use" in over and "path" in under)
    if replaces:
        return over
    return under | {key: merge(under.get(key), value) for key, value in over.items()}


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        names = [_name(p) for p in (*above[above.index(path.resolve()) :], path.resolve())]
        raise ConfigError(f"base: the files go round in a circle: {' -> '.join(names)}")
    tree = yaml12.parse(_text(path, above), str(path))
    if not isinstance(tree, dict):
        shown = "an empty file" if tree is None else f"a {type(tree).__name__}"
        raise ConfigError(
            f"{path}: this is no config.\n  found: {shown}\n  expected: blocks (model:, data:, …)"
        )
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base is {base!r}; it must be the path of one other file")
    return merge(_read(path.parent / base, (*above, path.resolve())), tree)


def _text(path: Path, above: tuple[Path, ...]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        folder = path.parent
        near = (
            nearest(path.name, [p.name for p in folder.glob("*.yaml")]) if folder.is_dir() else None
        )
        lines = [f"{path}: there is no such config file."]
        if above:
            lines.append(f"  named by: base in {_name(above[-1])}")
        if near:
            lines.append(f"  did you mean: {folder / near}")
        raise ConfigError("\n".join(lines)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this file cannot be read: {error}") from error


def _apply(tree: dict[str, Any], override: Override) -> None:
    *path, last = override.place.split(".")
    holder: Any = tree
    for depth, part in enumerate(path):
        place = ".".join(path[: depth + 1])
        holder = _child(holder, part, place, override.place)
    if isinstance(holder, list):
        index = _index(holder, last, override.place)
        holder[index : index + 1] = [override.value]
        return
    merged = merge(holder, {last: override.value}) if last in ("use", "path") else None
    if merged is not None:
        holder.clear()
        holder.update(merged)
    else:
        holder[last] = override.value


def _child(holder: Any, part: str, place: str, whole: str) -> Any:
    if isinstance(holder, list):
        index = _index(holder, part, whole)
        if index == len(holder):
            holder.append({})
        child = holder[index]
    else:
        if holder.get(part) is None:
            holder[part] = {}
        child = holder[part]
    if not isinstance(child, (dict, list)):
        raise ConfigError(
            f"command line: --{whole} goes into {place}, which is a value.\n  found: {child!r}\n"
            f"  do: set --{place} itself"
        )
    return child


def _index(items: list, part: str, whole: str) -> int:
    if part.isdecimal() and int(part) <= len(items):
        return int(part)
    raise ConfigError(
        f"command line: --{whole} names no item of a list.\n  found: {part!r}\n"
        f"  expected: 0 to {len(items) - 1} for an item that is there, {len(items)} to add one"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = {name: _plain(getattr(value, name)) for name in type(value).model_fields}
        return fields | {name: _plain(extra) for name, extra in (value.model_extra or {}).items()}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _name(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

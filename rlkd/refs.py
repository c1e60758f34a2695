"""`module:name` references: how a config names an algorithm, a reward or an environment.

No registry: the text greps, the editor jumps to it, it pickles. The working directory comes first
on `sys.path`, because the shelves `rewards/` and `envs/` belong to the project that the user stands
in.
"""

import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rlkd.errors import ConfigError, nearest

_OWN_KEY = {"n": "size"}


def resolve(reference: str, *, place: str = "", want_callable: bool = False) -> Any:
    """What `module:name` names; `name` may have dots (`rewards.math:Grader.score`).

    Imports the module, with the working directory first on `sys.path`.

    Args:
        reference: for example `rewards.arithmetic:accuracy`.
        place: where the reference stands (`rewards.0.use`); opens the error message.
        want_callable: also refuse what cannot be called.

    Raises:
        ConfigError: no colon; no such module; the module is there but fails while it is imported;
            no such name in it; not callable where that is wanted.
    """
    start = f"{place}: " if place else ""
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(
            f"{start}{reference!r} is not a reference.\n"
            "  expected: module:name, like rewards.arithmetic:accuracy\n"
            f"  do: {_colon_hint(reference)}"
        )
    found: Any = _import(module_name, reference, start)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(_missing_name(found, part, reference, start))
        found = getattr(found, part)
    if want_callable and not callable(found):
        raise ConfigError(
            f"{start}{reference!r} is not a function.\n"
            f"  found: {name} in {module_name} is {type(found).__name__}, which cannot be called\n"
            "  do: name a function or a class"
        )
    return found


def check_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    kwargs: Mapping[str, Any],
    place: str,
    keys: str = "kwargs.",
) -> None:
    """Check that `function(**arguments, **kwargs)` fits the function's parameters.

    Args:
        function: what will be called.
        arguments: what the framework always gives.
        kwargs: what the config adds (its `kwargs`).
        place: the block that names the function (`data.train`); opens the error message.
        keys: where in that block `kwargs` stand: a block of their own, or "", the block itself.

    Raises:
        ConfigError: it does not take one of them, it is given one twice, or it needs one more.
    """
    parameters = inspect.signature(function).parameters
    named = [
        n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    title = getattr(function, "__name__", repr(function))
    for name in kwargs:
        if name in arguments:
            problem = f"{name!r} is given by rlkd itself; set {place}.{_OWN_KEY.get(name, name)}"
            raise ConfigError(f"{place}.{keys}{name}: {problem}")
        if name not in named and not takes_any:
            raise ConfigError(
                f"{place}.{keys}{name}: {title} has no such parameter.\n"
                f"  did you mean: {nearest(name, [n for n in named if n not in arguments])}\n"
                f"  found: {title}({', '.join(named)})"
            )
    for name in arguments:
        if name not in named and not takes_any:
            raise ConfigError(
                f"{place}.use: {title} does not take {name!r}, which rlkd gives it.\n"
                f"  found: {title}({', '.join(named)})\n"
                f"  expected: {title}({', '.join(arguments)}, ...)"
            )
    for name in named:
        if parameters[name].default is inspect.Parameter.empty and name not in {
            *arguments,
            *kwargs,
        }:
            raise ConfigError(
                f"{place}: {title} needs {name!r} and is not given it.\n"
                f"  do: set {place}.{keys}{name}"
            )


def put_working_directory_first() -> None:
    """Make the working directory the first entry of `sys.path`, as `python -m` does."""
    here = os.getcwd()
    if not sys.path or sys.path[0] != here:
        sys.path.insert(0, here)


def _import(name: str, reference: str, start: str) -> ModuleType:
    put_working_directory_first()
    # A file written since the last look into its folder is otherwise not seen.
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(_missing_module(name, error.name, reference, start)) from error
        raise ConfigError(_broken_module(name, reference, start, error)) from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        raise ConfigError(_broken_module(name, reference, start, error)) from error


def _missing_module(name: str, missing: str, reference: str, start: str) -> str:
    parent, _, leaf = missing.rpartition(".")
    if parent:
        module = sys.modules[parent]
        folders = list(getattr(module, "__path__", []))
        where = f"{parent} is {getattr(module, '__file__', None) or ', '.join(folders)}"
    else:
        folders = [os.getcwd()]
        where = f"looked first in {folders[0]}, then in what is installed"
    known = sorted(info.name for info in pkgutil.iter_modules(folders))
    near = nearest(leaf, known)
    lines = [f"{start}there is no module {missing!r} (for {reference!r}).", f"  found: {where}"]
    if near is not None:
        prefix = f"{parent}." if parent else ""
        lines.append(f"  did you mean: {prefix}{near}? there: {_listed(known)}")
    lines.append(
        "  do: run rlkd from the folder that holds your rewards/ and envs/, or fix the name"
    )
    return "\n".join(lines)


def _broken_module(name: str, reference: str, start: str, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        file, line = error.filename, error.lineno
    else:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename
        ]
        own = [frame for frame in frames if frame.filename != __file__]
        file, line = (own[-1].filename, own[-1].lineno) if own else (None, None)
    where = f" ({_short(file)}, line {line})" if file else ""
    return (
        f"{start}the module {name!r} is there but fails while it is imported (for {reference!r}).\n"
        f"  found: {type(error).__name__}: {error}{where}\n"
        f"  do: fix that file, or install what it needs; try: python -c 'import {name}'"
    )


def _missing_name(owner: Any, part: str, reference: str, start: str) -> str:
    known = sorted(name for name in vars(owner) if not name.startswith("_"))
    near = nearest(part, known)
    file = getattr(owner, "__file__", None)
    title = getattr(owner, "__name__", type(owner).__name__)
    lines = [
        f"{start}{title!r} has no {part!r} (for {reference!r}).",
        f"  found: {_short(file) if file else title} defines {_listed(known) or 'no public name'}",
    ]
    if near is not None:
        lines.append(f"  did you mean: {reference.partition(':')[0]}:{near}?")
    return "\n".join(lines)


def _colon_hint(reference: str) -> str:
    module, dot, name = reference.replace(":", "").rpartition(".")
    if dot and module and name:
        return f"put a colon before the last name: {module}:{name}"
    return "write the module, a colon and the name in it"


def raised_in(error: BaseException, file: str) -> str:
    """`" (FILE, line N)"`: the last line of `file` that an error came through, else the last;
    empty where it came through none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames
    return f" ({_short(own[-1].filename)}, line {own[-1].lineno})" if own else ""


def _listed(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

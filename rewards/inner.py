"""A reward inside a reward: how a wrapper asks the verifiable reward that it is given by name."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rlkd.refs import resolve

F = TypeVar("F", bound=Callable[..., Any])


def scores(
    of: str, of_kwargs: Mapping[str, Any] | None, completions: list, columns: Mapping[str, Any]
) -> list[float | None]:
    """The values of the reward ``of`` for the completions; NaN counts as None.

    Args:
        of: the reward, as module:name; a plain function, not an ``async`` one.
        of_kwargs: its own options.
        completions: what the model wrote.
        columns: all else that a reward is given, the prompts and token ids included.

    Raises:
        ConfigError: there is no such function.
        ValueError: it gave another number of values than there are completions.
    """
    function = resolve(of, place="of", want_callable=True)
    values = list(function(completions=completions, **columns, **(of_kwargs or {})))
    if len(values) != len(completions):
        raise ValueError(f"{of} gave {len(values)} values for {len(completions)} completions")
    return [None if value is None or math.isnan(value) else float(value) for value in values]


def check_rows(
    *, of: str, of_kwargs: Mapping[str, Any] | None = None, **columns: Any
) -> dict[int, str]:
    """The rows that the reward ``of`` says it cannot grade, where it has a ``check_rows``."""
    check = getattr(resolve(of, place="of", want_callable=True), "check_rows", None)
    return {} if check is None else check(**columns, **(of_kwargs or {}))


def carries_check(wrapper: F) -> F:
    """Marks a wrapper: it can grade the rows that the reward ``of`` inside it can grade."""
    wrapper.check_rows = check_rows  # pyright: ignore[reportFunctionMemberAccess]
    return wrapper

"""The one error for what a person wrote: in a config, on the command line, in a data file."""

from collections.abc import Iterable
from difflib import SequenceMatcher


class ConfigError(ValueError):
    """Something a person wrote cannot be used. The message says where, what was found, what was
    expected and what to do; it is meant to be printed alone, without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The most similar of `known` names (case, `-` and `_` aside), or None if there are none."""

    def likeness(other: str) -> float:
        return SequenceMatcher(None, _plain(name), _plain(other)).ratio()

    return max(sorted(known), key=likeness, default=None)


def together(problems: Iterable[str], heading: str) -> ConfigError:
    """One error of several messages, a blank line between them, under `heading`."""
    messages = list(dict.fromkeys(problems))
    count = "1 problem" if len(messages) == 1 else f"{len(messages)} problems"
    return ConfigError("\n\n".join([f"{heading}: {count}", *messages]))


def brief(error: BaseException, most: int = 300) -> str:
    """An error's name and what it says, in one line of at most `most` characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")

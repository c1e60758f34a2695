"""Which answers to a prompt are the same answer, so that they can be counted as votes.

A reward function may carry a function `answers` as an attribute. It is called on all answers to
one row as the reward is, with the reward's kwargs, and gives a label for each: equal labels are the
same answer, as the reward reads it; None is no answer, which votes for nothing. Only the reward
knows where an answer stands and which ways to write it are equal. A reward that wraps another one
may give None instead of labels: the inner one does not say.
"""

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlkd.data import Row
from rlkd.errors import ConfigError

Labeller = Callable[..., Sequence[Hashable | None] | None]


@dataclass(frozen=True)
class Voter:
    """Says which answers are the same, and what messages call it."""

    label: Labeller
    name: str

    @classmethod
    def of(cls, reward: Callable[..., Any], name: str) -> "Voter | None":
        """The function `answers` that a reward carries, with the reward's fixed arguments.

        Args:
            reward: what `rlkd.door.build_rewards` gives; None where it carries none.
            name: what the reward is called.
        """
        fixed = reward.keywords if isinstance(reward, functools.partial) else {}
        plain = reward.func if isinstance(reward, functools.partial) else reward
        carried = getattr(plain, "answers", None)
        if carried is None:
            return None
        return cls(functools.partial(carried, **fixed), f"answers of reward {name!r}")

    def check(self, columns: Mapping[str, Any]) -> None:
        """Check that it can be called with what a row has.

        Raises:
            ConfigError: it needs an argument that is no column.
        """
        for name, parameter in inspect.signature(self.label).parameters.items():
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            missing = name not in {"completions", "prompts", *columns}
            if named and parameter.default is parameter.empty and missing:
                raise ConfigError(
                    f"{self.name}: it needs {name!r}, and the data has no such column.\n"
                    f"  found: {', '.join(columns)}"
                )


def labels(voter: Voter, row: Row, completions: Sequence[Any]) -> list[Hashable | None] | None:
    """What each of the completions of one row answers; None where the function does not say.

    Args:
        completions: texts or chat messages, as the reward gets them.

    Raises:
        ConfigError: the function fails, or gives anything but one hashable label per completion.
    """
    size = len(completions)
    columns = {key: [value] * size for key, value in row.items() if key != "prompt"}
    given: dict[str, Any] = {"completions": list(completions), "prompts": [row["prompt"]] * size}
    given |= columns
    parameters = inspect.signature(voter.label).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        given = {name: value for name, value in given.items() if name in parameters}
    try:
        answered = voter.label(**given)
        if answered is None:
            return None
        found = list(answered)
        for label in found:
            hash(label)
    except Exception as error:
        raise ConfigError(
            f"{voter.name}: it fails on the answers to a row.\n"
            f"  found: {type(error).__name__}: {error}\n"
            "  expected: one hashable label per completion, or None for no answer"
        ) from error
    if len(found) != size:
        raise ConfigError(f"{voter.name}: {len(found)} labels for {size} completions")
    return found


def count(
    label_G: Sequence[Hashable | None], right_G: Sequence[float]
) -> tuple[list[int], list[float], int, bool]:
    """The vote of one row.

    Args:
        label_G: what each answer says.
        right_G: 1.0 where it is correct, else 0.0.

    Returns:
        Votes of each distinct answer; the share of correct ones among those who gave it (0 or 1
        where the reward treats the same answer alike); how many gave none; and whether the reward
        did treat the same answer alike and no missing one as correct.
    """
    groups: dict[Hashable, list[float]] = {}
    silent: list[float] = []
    for label, right in zip(label_G, right_G, strict=True):
        if label is None:
            silent.append(right)
        else:
            groups.setdefault(label, []).append(right)
    agrees = all(len(set(group)) == 1 for group in groups.values()) and not any(silent)
    sizes = [len(group) for group in groups.values()]
    return sizes, [sum(g) / len(g) for g in groups.values()], len(silent), agrees

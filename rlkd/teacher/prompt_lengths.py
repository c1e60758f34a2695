"""How long the prompts are that a teacher's servers are shown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rlkd.config import RunConfig
from rlkd.teacher.base import Student, Teacher
from rlkd.teacher.outline import Outlines, Unmade, read_tokenizer
from rlkd.teacher.privileged import Privileged
from rlkd.teacher.server import ServerTeacher
from rlkd.teacher.several import Routed

_COUNTED = 64
"""Prompts whose tokens are counted: so many of the shortest and of the longest by characters."""


class Lengths(NamedTuple):
    """Of prompts, in tokens."""

    shortest: int
    longest: int


def prompt_lengths(
    config: RunConfig, rows: Sequence[dict[str, Any]], outlines: Outlines
) -> dict[str, Lengths]:
    """How long the prompts are that each server is shown, by the servers' places. Of many rows
    those with the fewest and the most characters are counted. A server inside a class that is not
    rlkd's is left out.

    Args:
        rows: for training, what `rlkd.teacher.door.check_rows` has let pass.

    Raises:
        ConfigError: the student's tokenizer cannot be loaded.
    """
    from rlkd.planning.plan import longest_prompt

    tokenizer = read_tokenizer(config.model.path, "model.path")
    student = Student(None, tokenizer, config.model.chat_template_kwargs)
    found: dict[str, Lengths] = {}
    for place, made in outlines.by_place.items():
        if not isinstance(made, ServerTeacher):
            continue
        around = _around(place, outlines.by_place)
        if any(isinstance(outer, Unmade) for outer in around.values()):
            continue  # what a class that is not rlkd's shows it is not known
        own = _routed(rows, place, around)
        templates = [outer for outer in around.values() if isinstance(outer, Privileged)]
        if not templates:
            found[place] = _lengths(
                own,
                ("prompt",),
                lambda row: longest_prompt(tokenizer, [row], config.model.chat_template_kwargs),
            )
            continue
        # Each puts its own prompt in the place of the one before: the innermost wins.
        teller = Privileged(made, templates[0].template)
        teller.meet(student)
        found[place] = _lengths(own, ("prompt", *teller.columns), _counting(teller))
    return found


def _counting(teller: Privileged) -> Callable[[dict[str, Any]], int]:
    return lambda row: len(teller.prompt_ids(row))


def _lengths(
    rows: Sequence[dict[str, Any]], read: Sequence[str], count: Callable[[dict[str, Any]], int]
) -> Lengths:
    """Of the prompts that are made of the columns `read`."""
    by_text = sorted(rows, key=lambda row: sum(len(str(row[name])) for name in read))
    tokens = [count(row) for row in [*by_text[:_COUNTED], *by_text[-_COUNTED:]]]
    return Lengths(min(tokens, default=1), max(tokens, default=1))


def _around(place: str, teachers: Mapping[str, Teacher]) -> dict[str, Teacher]:
    """Those that the teacher at a place is inside of, the innermost first, as they were made."""
    return {at: made for at, made in teachers.items() if place.startswith(f"{at}.")}


def _routed(
    rows: Sequence[dict[str, Any]], place: str, around: Mapping[str, Teacher]
) -> Sequence[dict[str, Any]]:
    """The rows that come to a place."""
    for at, outer in around.items():
        if isinstance(outer, Routed):
            names = [n for n in outer.teachers if f"{place}.".startswith(f"{at}.teachers.{n}.")]
            rows = [row for row in rows if str(row.get(outer.column)) in names]
    return rows

"""How long the prompts are that a teacher's servers are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlkd.config import RunConfig
from rlkd.teacher.base import Student, Teacher
from rlkd.teacher.outline import Outlines, read_tokenizer
from rlkd.teacher.privileged import Privileged
from rlkd.teacher.server import ServerTeacher
from rlkd.teacher.several import Routed

_LONGEST_OF = 64
"""Prompts whose tokens are counted: the longest by their characters."""


def longest_prompts(
    config: RunConfig, rows: Sequence[dict[str, Any]], outlines: Outlines
) -> dict[str, int]:
    """Tokens of the longest prompt that each server is shown, by the servers' places. Of many rows
    those with the most characters are counted.

    Args:
        rows: for training, what `rlkd.teacher.door.check_rows` has let pass.

    Raises:
        ConfigError: the student's tokenizer cannot be loaded.
    """
    from rlkd.planning.plan import longest_prompt

    tokenizer = read_tokenizer(config.model.path, "model.path")
    student = Student(None, tokenizer, config.model.chat_template_kwargs)
    found: dict[str, int] = {}
    for place, made in outlines.by_place.items():
        if not isinstance(made, ServerTeacher):
            continue
        around = _around(place, outlines.by_place)
        own = _routed(rows, place, around)
        templates = [outer for outer in around.values() if isinstance(outer, Privileged)]
        if not templates:
            some = sorted(own, key=lambda row: len(str(row["prompt"])))[-_LONGEST_OF:]
            found[place] = longest_prompt(tokenizer, some, config.model.chat_template_kwargs)
            continue
        # Each puts its own prompt in the place of the one before: the innermost wins.
        teller = Privileged(made, templates[0].template)
        teller.meet(student)
        read = ("prompt", *teller.columns)
        some = sorted(own, key=lambda row: sum(len(str(row[name])) for name in read))
        found[place] = max((len(teller.prompt_ids(row)) for row in some[-_LONGEST_OF:]), default=1)
    return found


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

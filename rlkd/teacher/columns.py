"""Columns of the data that a teacher reads."""

from collections.abc import Iterable

from rlkd.errors import nearest


def missing_column(setting: str, column: str, columns: Iterable[str], why: str) -> str:
    """The message of a column that the data lacks.

    Args:
        setting: the teacher's setting that names it.
        columns: those that are there.
        why: what it is needed for.
    """
    known = list(columns)
    return (
        f"{setting} names the column {column!r}, which the data does not have.\n"
        f"  found: {', '.join(known)}\n"
        f"  did you mean: {nearest(column, known)}\n"
        f"  why: {why}\n"
        "  do: name a column that is there, add it to the rows, or rename one (data.columns)"
    )

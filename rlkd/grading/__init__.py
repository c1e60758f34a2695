"""Grading of mathematical answers: ``grade``, ``grade_many``, ``check_golds``, ``Verdict``.

Importing this package loads nothing but the names; see ``engine`` for the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import check_golds, grade, grade_many
    from .verdict import Verdict

__all__ = ["Verdict", "check_golds", "grade", "grade_many"]


def __getattr__(name: str) -> Any:
    if name == "Verdict":
        from .verdict import Verdict

        return Verdict
    if name in __all__:
        from . import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

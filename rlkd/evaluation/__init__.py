"""How good a model is on held-out rows: `evaluate_model` gives an `Evaluation`.

The formulas are in `rlkd.objectives` (pass_at_k, majority, clustered, diversity). Importing the
package loads nothing but the names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlkd.evaluation.model import evaluate_model as evaluate_model
    from rlkd.evaluation.result import Evaluation as Evaluation
    from rlkd.evaluation.result import Measure as Measure
    from rlkd.evaluation.settings import Settings as Settings

_HOME = {
    "Evaluation": "rlkd.evaluation.result",
    "Measure": "rlkd.evaluation.result",
    "Settings": "rlkd.evaluation.settings",
    "evaluate_model": "rlkd.evaluation.model",
}

__all__ = ["Evaluation", "Measure", "Settings", "evaluate_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

"""rlkd: reinforcement-learning post-training with a teacher, on TRL's GRPO trainer.

    from rlkd import RLAD, Trainer

Importing the package is instant and does nothing: every name below is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlkd.algorithms.ceeh import CEEH as CEEH
    from rlkd.algorithms.gkd import GKD as GKD
    from rlkd.algorithms.grpo import GRPO as GRPO
    from rlkd.algorithms.minillm import MiniLLM as MiniLLM
    from rlkd.algorithms.opd_loss import OPDLoss as OPDLoss
    from rlkd.algorithms.rlad import RLAD as RLAD
    from rlkd.teacher.local import LocalTeacher as LocalTeacher
    from rlkd.trainer import Trainer as Trainer

__version__ = "0.1.0"

_HOME = {
    "CEEH": "rlkd.algorithms.ceeh",
    "GKD": "rlkd.algorithms.gkd",
    "GRPO": "rlkd.algorithms.grpo",
    "LocalTeacher": "rlkd.teacher.local",
    "MiniLLM": "rlkd.algorithms.minillm",
    "OPDLoss": "rlkd.algorithms.opd_loss",
    "RLAD": "rlkd.algorithms.rlad",
    "Trainer": "rlkd.trainer",
}

__all__ = ["CEEH", "GKD", "GRPO", "RLAD", "LocalTeacher", "MiniLLM", "OPDLoss", "Trainer"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'rlkd' has no attribute {name!r}; it has {known}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

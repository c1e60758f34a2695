"""rlkd: reinforcement-learning post-training with a teacher, on TRL's GRPO trainer.

    from rlkd import RLAD, Trainer

Importing the package is instant and does nothing: every name below is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlkd.algorithms.ceeh import CEEH as CEEH
    from rlkd.algorithms.cispo import CISPO as CISPO
    from rlkd.algorithms.dapo import DAPO as DAPO
    from rlkd.algorithms.dr_grpo import DrGRPO as DrGRPO
    from rlkd.algorithms.gkd import GKD as GKD
    from rlkd.algorithms.grpo import GRPO as GRPO
    from rlkd.algorithms.gspo import GSPO as GSPO
    from rlkd.algorithms.hdpo import HDPO as HDPO
    from rlkd.algorithms.kdrl import KDRL as KDRL
    from rlkd.algorithms.luffy import LUFFY as LUFFY
    from rlkd.algorithms.minillm import MiniLLM as MiniLLM
    from rlkd.algorithms.opd import OPD as OPD
    from rlkd.algorithms.opd_loss import OPDLoss as OPDLoss
    from rlkd.algorithms.rlad import RLAD as RLAD
    from rlkd.algorithms.rlsd import RLSD as RLSD
    from rlkd.algorithms.sft_kd import SFTKD as SFTKD
    from rlkd.algorithms.srpo import SRPO as SRPO
    from rlkd.algorithms.topd import TOPD as TOPD
    from rlkd.teacher.local import LocalTeacher as LocalTeacher
    from rlkd.trainer import Trainer as Trainer
    from rlkd.training.speed import Speed as Speed

__version__ = "0.1.0"

_HOME = {
    "CEEH": "rlkd.algorithms.ceeh",
    "CISPO": "rlkd.algorithms.cispo",
    "DAPO": "rlkd.algorithms.dapo",
    "DrGRPO": "rlkd.algorithms.dr_grpo",
    "GKD": "rlkd.algorithms.gkd",
    "GRPO": "rlkd.algorithms.grpo",
    "GSPO": "rlkd.algorithms.gspo",
    "HDPO": "rlkd.algorithms.hdpo",
    "KDRL": "rlkd.algorithms.kdrl",
    "LUFFY": "rlkd.algorithms.luffy",
    "LocalTeacher": "rlkd.teacher.local",
    "MiniLLM": "rlkd.algorithms.minillm",
    "OPD": "rlkd.algorithms.opd",
    "OPDLoss": "rlkd.algorithms.opd_loss",
    "RLAD": "rlkd.algorithms.rlad",
    "RLSD": "rlkd.algorithms.rlsd",
    "SFTKD": "rlkd.algorithms.sft_kd",
    "SRPO": "rlkd.algorithms.srpo",
    "Speed": "rlkd.training.speed",
    "TOPD": "rlkd.algorithms.topd",
    "Trainer": "rlkd.trainer",
}

__all__ = [
    "CEEH",
    "CISPO",
    "DAPO",
    "GKD",
    "GRPO",
    "GSPO",
    "HDPO",
    "KDRL",
    "LUFFY",
    "OPD",
    "RLAD",
    "RLSD",
    "SFTKD",
    "SRPO",
    "TOPD",
    "DrGRPO",
    "LocalTeacher",
    "MiniLLM",
    "OPDLoss",
    "Speed",
    "Trainer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'rlkd' has no attribute {name!r}; it has {known}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

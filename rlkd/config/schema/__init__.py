"""What the YAML of a run may hold: one model per block, each field documented under the field.

`rlkd train --help-config` prints these texts. The models are frozen, take no unknown keys and
import nothing heavy; the algorithm's own fields live in its dataclass (`rlkd.config.algorithm`).
"""

from rlkd.config.schema.base import Block, Dtype, SettingsBlock
from rlkd.config.schema.data import Data, FileSource, FunctionSource, Source, Traces
from rlkd.config.schema.generation import Generation
from rlkd.config.schema.models import AnyTeacher, Lora, Model, OtherTeacher, Teacher
from rlkd.config.schema.objective import AlgorithmBlock, ComponentBlock, UntilPlateau
from rlkd.config.schema.running import Run, Tracking
from rlkd.config.schema.speed import Speed
from rlkd.config.schema.training import Batch, Eval, Optim, Sampling

__all__ = [
    "AlgorithmBlock",
    "AnyTeacher",
    "Batch",
    "Block",
    "ComponentBlock",
    "Data",
    "Dtype",
    "Eval",
    "FileSource",
    "FunctionSource",
    "Generation",
    "Lora",
    "Model",
    "Optim",
    "OtherTeacher",
    "Run",
    "Sampling",
    "SettingsBlock",
    "Source",
    "Speed",
    "Teacher",
    "Traces",
    "Tracking",
    "UntilPlateau",
]

"""Imported first by what is launched on a CPU and shall be sharded as on GPUs.

accelerate reads the FSDP part of a launch only where the processes have GPUs. Told that they have,
it takes its own path from there on: `fsdp2_prepare_model`, TRL's and transformers' branches for
FSDP, all with gloo on CPU tensors. Nothing else is touched.
"""

import functools
import os
from typing import Any

import yaml
from accelerate.state import PartialState
from accelerate.utils import DistributedType

_real = PartialState.__init__


@functools.wraps(_real)
def _as_on_gpus(self: Any, *args: Any, **kwargs: Any) -> None:
    _real(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


def shard(**settings: str) -> None:
    """From here on this process's trainers are sharded, by configs/accelerate/fsdp2.yaml.

    Args:
        settings: of its fsdp_config, otherwise than there.
    """
    PartialState.__init__ = _as_on_gpus
    with open("configs/accelerate/fsdp2.yaml", encoding="utf-8") as file:
        said = yaml.safe_load(file)["fsdp_config"] | settings
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    for key, value in said.items():  # as accelerate.utils.launch hands them on
        text = str(value).lower() if isinstance(value, bool) else str(value)
        os.environ[key.upper().replace("FSDP_TRANSFORMER_LAYER_CLS", "FSDP_TRANSFORMER_CLS")] = text

"""Shards on a CPU what is launched, as on GPUs.

accelerate reads the FSDP part of a launch only where the processes have GPUs. Told that they have,
it takes its own path from there on: its `fsdp2_prepare_model`, and TRL's and transformers' branches
for FSDP, with gloo and CPU tensors. Nothing else is touched.
"""

import functools
import os
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from tests import accelerate_launch

_real = PartialState.__init__


@functools.wraps(_real)
def _as_on_gpus(self: Any, *args: Any, **kwargs: Any) -> None:
    _real(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


def shard() -> None:
    """From here on this process's trainers are sharded as configs/accelerate/fsdp2.yaml says."""
    PartialState.__init__ = _as_on_gpus
    os.environ |= accelerate_launch.environment("fsdp2")

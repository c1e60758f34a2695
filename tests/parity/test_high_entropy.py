"""The high-entropy token mask is TRL's `top_entropy_quantile`, on one process."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from trl import GRPOTrainer

from rlkd.objectives.entropy import high_entropy_tokens


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (16, 200)])
def test_the_mask_is_trls(shape: tuple[int, int], share: float):
    generator = torch.Generator().manual_seed(0)
    entropy_BT = torch.rand(shape, generator=generator) * 3
    entropy_BT[:, ::5] = 0.0  # ties
    mask_BT = (torch.rand(shape, generator=generator) > 0.3).int()
    one_process = cast(Any, SimpleNamespace(accelerator=Accelerator(cpu=True)))
    for mask in (mask_BT, torch.ones_like(mask_BT), torch.zeros_like(mask_BT)):
        wanted = GRPOTrainer.get_high_entropy_mask(one_process, entropy_BT, mask, 1 - share)
        assert torch.equal(high_entropy_tokens(entropy_BT, mask, share), wanted)

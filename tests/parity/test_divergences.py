"""The generalised JSD is TRL's, value and gradient."""

import pytest
import torch
from trl.experimental.gkd import GKDTrainer

from rlkd.batch import Distributions
from rlkd.objectives.chunked import Head
from rlkd.objectives.vocabulary import Divergence

B, T, H, V = 3, 5, 8, 50


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_jsd_equals_trls(beta, temperature):
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    student_BTH, weight_VH = noise(B, T, H).requires_grad_(), noise(V, H).requires_grad_()
    teacher_BTH, teacher_VH = noise(B, T, H), noise(V, H)
    mask_BT = torch.rand(B, T, generator=generator) > 0.3
    distributions = Distributions(
        student_BTH=student_BTH,
        student_head=Head(weight_VH=weight_VH),
        teacher_BTH=teacher_BTH,
        teacher_head=Head(weight_VH=teacher_VH),
        temperature=temperature,
        teacher_temperature=temperature,
        chunk_logits=3 * V,
    )
    ours_BT = distributions.divergence(Divergence(kind="jsd", weight=beta), mask_BT)
    labels_BT = torch.where(mask_BT, 0, -100)
    theirs = GKDTrainer.generalized_jsd_loss(
        student_BTH @ weight_VH.T, teacher_BTH @ teacher_VH.T, labels_BT, beta, temperature
    )
    ours = ours_BT.sum() / mask_BT.sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    leaves = (student_BTH, weight_VH)
    found, want = (torch.autograd.grad(loss, leaves) for loss in (ours, theirs))
    for x, y in zip(found, want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)
        assert y.abs().max() > 1e-3

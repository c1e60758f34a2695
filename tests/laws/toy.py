"""A student of one (T, V) matrix of logits, and rollouts of it: small enough for float64, real
enough that gradients reach parameters through a log-softmax.

Every row of a batch is one "completion" that the same student wrote; at position t it samples
from softmax(theta[t]).
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from rlkd.algorithms.base import Algorithm, LossOutput
from rlkd.algorithms.component import Composed
from rlkd.batch import Distributions, TokenBatch
from rlkd.objectives.chunked import Head

LENGTHS = (6, 5, 6, 1, 3, 0, 4, 2)  # one row has no counted token at all
MAX_LENGTH = 9  # the constant of dr_grpo: longer than any row, as when nobody reaches the limit
V = 5
PROGRESS = 0.3
ENTROPY_COEFFICIENT = 0.07


@dataclass(frozen=True)
class Rollouts:
    """What is fixed while the student learns, as TokenBatch names it."""

    token_BT: Tensor
    mask_BT: Tensor
    advantage_BT: Tensor
    old_logp_BT: Tensor
    teacher_logp_BT: Tensor
    teacher_BTV: Tensor
    ref_logp_BT: Tensor
    weight_BT: Tensor
    is_eos_BT: Tensor
    hard_B1: Tensor
    correct_B1: Tensor
    group_accuracy_B1: Tensor
    off_policy_B1: Tensor

    def rows(self, index) -> "Rollouts":
        return Rollouts(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def student(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """theta, (T, V), a leaf."""
    generator = torch.Generator().manual_seed(seed)
    theta_TV = torch.randn(max(LENGTHS), V, generator=generator, dtype=torch.float64)
    return theta_TV.to(dtype).requires_grad_()


def log_softmax(theta_TV: Tensor) -> Tensor:
    """torch's own starts a thread per core for thirty numbers: 5 ms on a busy machine."""
    return theta_TV - theta_TV.logsumexp(-1, keepdim=True)


def logps(theta_TV: Tensor, token_BT: Tensor) -> Tensor:
    """log π of each sampled token, (B, T)."""
    all_BTV = log_softmax(theta_TV).expand(len(token_BT), -1, -1)
    return all_BTV.gather(-1, token_BT.unsqueeze(-1)).squeeze(-1)


def rollouts(
    seed: int = 0, dtype: torch.dtype = torch.float64, off_policy: float = 0.5
) -> Rollouts:
    """Rows of `LENGTHS`; old policy, teacher and reference are other random policies, so that all
    sides of every clip and clamp occur. `off_policy` 0: the old policy is the student's."""
    generator = torch.Generator().manual_seed(seed + 1)
    rows, longest = len(LENGTHS), max(LENGTHS)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    token_BT = torch.randint(V, (rows, longest), generator=generator)
    position_T, length_B = torch.arange(longest), torch.tensor(LENGTHS)
    theta_TV = student(seed, dtype).detach()
    old_TV, teacher_TV = theta_TV + off_policy * noise(longest, V), theta_TV + noise(longest, V)
    made = Rollouts(
        token_BT=token_BT,
        mask_BT=(position_T < length_B[:, None]).to(dtype),
        # Whole groups of good and bad, and one row without signal.
        advantage_BT=torch.tensor([1.2, -0.9, 0.4, -1.5, 0.0, 0.7, -0.3, 1.0], dtype=dtype)[
            :, None
        ],
        old_logp_BT=logps(old_TV, token_BT),
        teacher_logp_BT=logps(teacher_TV, token_BT),
        teacher_BTV=teacher_TV.expand(rows, -1, -1),
        ref_logp_BT=logps(theta_TV + 0.5 * noise(longest, V), token_BT),
        weight_BT=noise(rows, longest).abs() + 0.5,
        is_eos_BT=position_T == length_B[:, None] - 1,
        # In every split some micro-batches are all hard, some all easy, some mixed.
        hard_B1=torch.tensor([1, 1, 0, 0, 0, 1, 1, 0], dtype=torch.bool)[:, None],
        # Groups of two: mixed, mixed, all wrong, all right.
        correct_B1=torch.tensor([1, 0, 1, 0, 0, 0, 1, 1], dtype=torch.bool)[:, None],
        group_accuracy_B1=torch.tensor([0.5, 0.5, 0.5, 0.5, 0, 0, 1, 1], dtype=dtype)[:, None],
        # Traces with a good, a bad and no advantage; groups of two with one, two and none.
        off_policy_B1=torch.tensor([1, 0, 0, 1, 1, 1, 0, 0], dtype=torch.bool)[:, None],
    )
    if off_policy == 0.0:
        return replace(made, old_logp_BT=logps(theta_TV, token_BT))
    return made


def distributions(student_BTV: Tensor, teacher_BTV: Tensor) -> Distributions:
    """Hidden states that are logits already, heads that change nothing; a few tokens at a time."""
    identity = Head(weight_VH=torch.eye(student_BTV.shape[-1], dtype=student_BTV.dtype))
    return Distributions(
        student_BTH=student_BTV,
        student_head=identity,
        teacher_BTH=teacher_BTV,
        teacher_head=identity,
        chunk_logits=7 * student_BTV.shape[-1],
    )


def token_batch(theta_TV: Tensor, fixed: Rollouts, **changes) -> TokenBatch:
    """The TokenBatch of these rollouts for the present student."""
    probs_TV = log_softmax(theta_TV)
    entropy_T = -(probs_TV.exp() * probs_TV).sum(-1)
    values = {
        "logp_BT": logps(theta_TV, fixed.token_BT),
        "entropy_BT": entropy_T.expand(len(fixed.token_BT), -1),
        "max_completion_length": MAX_LENGTH,
        "progress": PROGRESS,
        "entropy_coefficient": ENTROPY_COEFFICIENT,
    }
    apart = ("token_BT", "teacher_BTV")
    values |= {f.name: getattr(fixed, f.name) for f in fields(fixed) if f.name not in apart}
    student_BTV = theta_TV.expand(len(fixed.token_BT), -1, -1)
    values["distributions"] = distributions(student_BTV, fixed.teacher_BTV)
    return TokenBatch(**(values | changes))


def kl_to_teacher(theta_TV: Tensor, teacher_TV: Tensor) -> float:
    """Σ_t KL(π_S ‖ π_T), nats, over the whole vocabulary."""
    logp_TV, other_TV = log_softmax(theta_TV.detach()), log_softmax(teacher_TV)
    return float((logp_TV.exp() * (logp_TV - other_TV)).sum())


def outcome(
    algorithm: Algorithm | Composed, theta_TV: Tensor, batch: TokenBatch
) -> tuple[Tensor, Tensor]:
    """Loss and gradient in the student's parameters."""
    loss = algorithm.loss(batch).loss
    return loss.detach(), torch.autograd.grad(loss, theta_TV, retain_graph=True)[0]


def same(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], tolerance: float) -> None:
    for x, y in zip(found, wanted, strict=True):
        assert torch.isfinite(y).all()
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


def metrics(output: LossOutput) -> dict[str, float]:
    """Every metric's sum and number, by name."""
    pairs = output.means.items()
    return {f"{name}: {part}": float(p[i]) for name, p in pairs for i, part in enumerate("Σn")}

"""Is what writes the answers the model that learns from them? How far the sampler's
log-probabilities are from the trainer's, and answers that an engine lost."""

from typing import Any, cast

import torch
from torch import Tensor

from rlkd.algorithms.component import Means
from rlkd.batch import TokenBatch
from rlkd.objectives.divergences import k3

_MOST_NATS = 20.0
"""The log-ratio of one token is counted up to this: its exponential must stay a number."""
_LEFT_OUT = 0.01
"""Weight below which a token teaches nothing: masked, or of an answer that the trainer's model
would hardly have written."""


class WholeAnswers:
    """Mixin right before TRL's trainer: an engine that fails on a request ends the run.

    transformers' continuous batching logs a request that failed and leaves it out, or hands over
    what it had of it; TRL takes the answers that are there, one by one, for those of the prompts.
    """

    def _generate_single_turn(self, prompt_ids: list[list[int]], *how: Any, **more: Any) -> Any:
        this: Any = self
        answers, logprobs = cast(Any, super())._generate_single_turn(prompt_ids, *how, **more)
        if not this.use_transformers_continuous_batching:
            return answers, logprobs
        ends, limit = set(this.eos_token_ids), this.generation_config.max_new_tokens
        broken = [
            row
            for row, ids in enumerate(answers)
            if not ids or (ids[-1] not in ends and len(ids) < limit)
        ]
        if len(answers) != len(prompt_ids) or broken:
            raise RuntimeError(
                f"transformers' continuous batching answered {len(answers) - len(broken)} of"
                f" {len(prompt_ids)} prompts; its own error is logged above. To learn from the rest"
                " would give answers to the wrong prompts, or broken ones. Give it another"
                " generation.memory_share, or set generation.backend to transformers"
            )
        return answers, logprobs


def sampler_means(batch: TokenBatch, inputs: dict[str, Any]) -> Means:
    """What is logged of the sampler on a micro-batch that the student has not learnt from yet, as
    (sum, number) pairs: with μ the sampler and π the trainer's model, both at the sampling
    temperature, y ~ μ,

        sampling/kl        k3 of KL(μ ‖ π): π/μ − 1 − log(π/μ), mean over tokens, nats
        sampling/left_out  share of tokens to which the correction gives a weight below 0.01
        sampling/unscored  share of tokens of which the sampler gave no log-probability

    Nothing where the sampler gives none at all (transformers), since it is the model itself.
    """
    sampler_BT: Tensor | None = inputs.get("sampling_per_token_logps")
    if sampler_BT is None:
        return {}
    own_BT = batch.on_policy_BT()
    unknown_BT = sampler_BT.isnan()
    known_BT = ~unknown_BT if own_BT is None else own_BT & ~unknown_BT
    log_ratio_BT = (batch.logp_BT.detach() - sampler_BT).nan_to_num(0.0)
    log_ratio_BT = log_ratio_BT.clamp(-_MOST_NATS, _MOST_NATS)
    kl_BT = k3(torch.zeros_like(log_ratio_BT), log_ratio_BT)
    means = {
        "sampling/kl": batch.token_sum(kl_BT, known_BT),
        "sampling/unscored": batch.token_sum(unknown_BT.to(kl_BT.dtype), own_BT),
    }
    weight = inputs.get("importance_sampling_ratio")
    if weight is not None:
        left_out_BT = (weight < _LEFT_OUT).expand_as(kl_BT).to(kl_BT.dtype)
        means["sampling/left_out"] = batch.token_sum(left_out_BT, own_BT)
    return means

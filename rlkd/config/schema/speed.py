"""The block of what is left out of a run's computation."""

from typing import Literal

from pydantic import model_validator

from rlkd.config.schema.base import Block


class Speed(Block):
    """What is left out of the computation; the updates stay what they are (to 1e-5 in float32)."""

    micro_batches: Literal["padded", "trimmed", "by_length", "by_tokens"] = "trimmed"
    """`padded`: as TRL cuts them, all as wide as the longest answer of the rollout. `trimmed`: each
    as wide as its own longest. `by_length`: the rows of each optimiser step sorted by length first.
    `by_tokens`: besides cut into unequal numbers of rows, so that the fewest tokens are computed;
    none gets more tokens than micro_batch_size rows of the longest."""
    answers_only_head: bool = True
    """Compute the student's logits only where they predict an answer's token; TRL does so on GPUs
    only."""
    reuse_log_probs: bool = True
    """With several steps_per_rollout or iterations: the first update takes its old log-probs from
    its own pass, and no further one is made for it."""
    padding_free: bool = False
    """The answers of a forward pass as one sequence, each attending to itself alone; needs the
    attention sdpa or a flash attention. The teacher has a key of the same name."""
    shared_prompts: bool = False
    """With padding_free: the prompt of a group's answers is computed once per micro-batch. Pays
    where prompts are long and answers short."""

    @model_validator(mode="after")
    def _in_one_sequence(self) -> "Speed":
        if self.shared_prompts and not self.padding_free:
            raise ValueError(
                "shared_prompts is true and padding_free is false: a prompt is shared inside of "
                "one sequence; set padding_free to true"
            )
        return self

"""What a trainer leaves out without changing what is learnt."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rlkd.training.microbatches import WAYS


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Switches; each alone, and all together, give the update of `Speed.plain()`: loss and gradient
    within 1e-5 in float32, the defaults within 1e-6. Where the objective depends on which rows
    share a micro-batch (bnpo, statistics of the micro-batch) those that regroup are refused.

    Raises:
        ValueError: settings that do not go together.
    """

    micro_batches: str = "trimmed"
    """`padded`: as TRL cuts them, all as wide as the longest answer of the generation batch.
    `trimmed`: the same rows, each micro-batch as wide as its own longest. `by_length`: the rows of
    each optimiser step sorted by length first. `by_tokens`: besides cut into as many micro-batches
    of unequal numbers of rows, so that the fewest tokens are computed."""
    answers_only_head: bool = True
    """The student's head reads only the places that predict a token of an answer. TRL does so on
    GPUs; elsewhere it computes the logits of prompts and padding too."""
    reuse_log_probs: bool = True
    """Where a generation batch serves several updates, the first one takes its old
    log-probabilities from its own pass, as it does where there is only one; TRL computes them by a
    further pass."""
    padding_free: bool = False
    """The rows of a forward pass of the student as one sequence without padding: `rlkd.packing`."""
    shared_prompts: bool = False
    """With padding_free: equal prompts of a micro-batch are computed once."""

    def __post_init__(self) -> None:
        if self.micro_batches not in WAYS:
            raise ValueError(
                f"micro_batches is {self.micro_batches!r}; it is one of {', '.join(WAYS)}"
            )
        if self.shared_prompts and not self.padding_free:
            raise ValueError(
                "shared_prompts is on and padding_free is off: a prompt is shared inside of one "
                "sequence; set padding_free too"
            )

    @classmethod
    def plain(cls) -> "Speed":
        """All of it off: what TRL computes, and nothing less."""
        return cls(micro_batches="padded", answers_only_head=False, reuse_log_probs=False)

    @property
    def regroups(self) -> bool:
        """Do other rows share a micro-batch than TRL's?"""
        return self.micro_batches in ("by_length", "by_tokens")

    @property
    def changes_passes(self) -> bool:
        """Is a pass through the student not TRL's own?"""
        return self.padding_free or self.answers_only_head or self.micro_batches != "padded"

    def refuse_statistics(self, parts: Iterable[Any]) -> None:
        """Raise ValueError where micro-batches are regrouped and one of the parts (algorithms,
        components) depends on which rows share one."""
        for part in parts if self.regroups else ():
            if part.micro_batch_statistic is not None:
                raise ValueError(
                    f"micro_batches is {self.micro_batches!r} and {type(part).__name__} depends on "
                    f"which rows share a micro-batch: {part.micro_batch_statistic}. Set "
                    "micro_batches to trimmed"
                )


def speed_of(block: Any) -> Speed | None:
    """The settings of a config's block (`rlkd.config.schema.Speed`); None: it sets nothing."""
    return Speed(**block.model_dump()) if block.model_fields_set else None

"""Alarms about a sampler that is not the trainer's model (vLLM)."""

from dataclasses import dataclass
from typing import ClassVar

from rlkd.tracking.alarms.rule import Level, Message, Rule, Seen, high, percent

_KL, _LEFT_OUT = "sampling/kl", "sampling/left_out"


@dataclass(frozen=True, kw_only=True)
class SamplerMismatch(Rule):
    """The sampler's distribution is not that of the model that learns."""

    name: ClassVar[str] = "sampler_mismatch"
    bad: float = 0.02
    """Nats per token: the log-ratio of a token then spreads by 0.2 (KL ≈ ½ variance), that of an
    answer of a hundred tokens by 2. Other kernels in bfloat16 give about 0.001."""
    good: float = 0.01

    def level(self, seen: Seen) -> Level | None:
        return high(seen.get(_KL), self.bad, self.good)

    def message(self, seen: Seen) -> Message:
        return Message(
            f"the sampler's log-probabilities differ from the trainer's: KL {seen.get(_KL):.3g}"
            " nats a token",
            "the answers are of another model than the one that learns from them: weights that were"
            " not sent (an update behind), a quantised or float16 engine, another temperature or"
            " top_p there, or a mixture of experts that routes otherwise",
            "for a server check that it began with this student and --logprobs-mode"
            " processed_logprobs; give the engine the trainer's number format; keep"
            " generation.correction on",
        )


@dataclass(frozen=True, kw_only=True)
class SamplerLeftOut(Rule):
    """The correction for the sampler takes most tokens out of the update."""

    name: ClassVar[str] = "sampler_left_out"
    told_by: ClassVar[tuple[str, ...]] = (SamplerMismatch.name,)
    bad: float = 0.5
    """Share of tokens: less than half of what is sampled is learnt from."""
    good: float = 0.3

    def level(self, seen: Seen) -> Level | None:
        return high(seen.get(_LEFT_OUT), self.bad, self.good)

    def message(self, seen: Seen) -> Message:
        return Message(
            f"the correction gave {percent(seen.get(_LEFT_OUT) or 0)} of the tokens next to no"
            " weight",
            "the ratio of trainer to sampler of a whole answer leaves the limits or is near 0, as"
            " it is where answers are long although each token differs by little",
            "set generation.correction to token_truncate or token_mask, or raise correction_max",
        )


MISMATCH: tuple[Rule, ...] = (SamplerMismatch(), SamplerLeftOut())

"""Alarms about what is learnt: entropy, divergences, numbers that are none."""

import math
from dataclasses import dataclass
from typing import ClassVar

from rlkd.tracking.alarms.rule import Level, Message, Rule, Seen, high, low, percent

LEFT_OUT = "updates/left_out"
"""Logged by the trainer where an update was left out because a number in it was none."""


@dataclass(frozen=True, kw_only=True)
class NotFinite(Rule):
    """A number of the step is NaN or infinite."""

    name: ClassVar[str] = "not_finite"
    after: int = 1
    """One is too many."""
    clear: int = 10
    watched: tuple[str, ...] = ("loss", "grad_norm", "entropy", "kl", "teacher/gap", "aux_loss")
    """What is never NaN for a good reason. A reward's mean is, where no row could be graded."""

    def level(self, seen: Seen) -> Level | None:
        return Level.BAD if self._broken(seen) else Level.GOOD

    def _broken(self, seen: Seen) -> list[str]:
        values = {name: seen.now.get(name) for name in self.watched}
        broken = [f"{n} {v}" for n, v in values.items() if v is not None and not math.isfinite(v)]
        return broken or ([LEFT_OUT] if seen.get(LEFT_OUT) else [])

    def message(self, seen: Seen) -> Message:
        left_out = "the update was left out; " if seen.get(LEFT_OUT) else ""
        return Message(
            f"not a finite number: {', '.join(self._broken(seen))}",
            f"{left_out}an overflow (float16, a learning rate that is too high, a ratio or a"
            " divergence of unlikely tokens), or weights that are not finite already",
            "look at the rollouts of this step (rollouts/ in the run's folder); lower"
            " optim.learning_rate, use bfloat16 or float32, and go on from a checkpoint before it",
        )


@dataclass(frozen=True, kw_only=True)
class EntropyCollapsed(Rule):
    """The student has become nearly deterministic without being right."""

    name: ClassVar[str] = "entropy_collapsed"
    after: int = 5
    bad: float = 0.1
    """Entropy over that of the run's start. A fall to a third is ordinary."""
    good: float = 0.2
    solved: float = 0.9
    """Accuracy from which there is little left to explore, and certainty is no trouble."""
    least: float = 0.02
    """nats. A student that began below is certain by nature."""

    def level(self, seen: Seen) -> Level | None:
        entropy = seen.pair("entropy")
        if entropy is None or entropy[1] < self.least:
            return None
        level = low(entropy[0], self.bad * entropy[1], self.good * entropy[1])
        solved = (seen.get("accuracy") or 0.0) >= self.solved
        return Level.BETWEEN if level is Level.BAD and solved else level

    def message(self, seen: Seen) -> Message:
        now, start = seen.pair("entropy") or (0, 0)
        accuracy = seen.get("accuracy")
        more = "" if accuracy is None else f", at an accuracy of {accuracy:.3f}"
        return Message(
            f"entropy is {now:.3g} nats per token, at the start {start:.3g}{more}",
            "the student samples the same answers again and again: groups without differences"
            " follow, and nothing new is found",
            "raise algorithm.clip_high (0.28), carry CEEH or an entropy bonus (components), lower"
            " optim.learning_rate, or go back to an earlier checkpoint",
        )


@dataclass(frozen=True, kw_only=True)
class EntropyExploded(Rule):
    """The student's next tokens become noise."""

    name: ClassVar[str] = "entropy_exploded"
    bad: float = 2.5
    """Entropy over that of the run's start, and ..."""
    good: float = 1.7
    more: float = 0.5
    """... nats per token above it: from 0.02 to 0.05 is no explosion."""

    def level(self, seen: Seen) -> Level | None:
        entropy = seen.pair("entropy")
        if entropy is None:
            return None
        now, start = entropy
        return high(now, max(self.bad * start, start + self.more), self.good * start)

    def message(self, seen: Seen) -> Message:
        now, start = seen.pair("entropy") or (0, 0)
        return Message(
            f"entropy is {now:.3g} nats per token, at the start {start:.3g}",
            "an entropy bonus that is too strong, a clip_high that is too wide, or updates that are"
            " too large: what is sampled turns into noise",
            "lower the bonus (or use one with a target), algorithm.clip_high or"
            " optim.learning_rate, and go back to an earlier checkpoint",
        )


@dataclass(frozen=True, kw_only=True)
class KLExploded(Rule):
    """The student has left its reference."""

    name: ClassVar[str] = "kl_exploded"
    bad: float = 1.0
    """nats per token (k3). Runs that learn stay below 0.5; k3 grows like an exponential."""
    good: float = 0.7

    def level(self, seen: Seen) -> Level | None:
        return high(seen.get("kl"), self.bad, self.good)

    def message(self, seen: Seen) -> Message:
        return Message(
            f"KL to the reference is {seen.get('kl') or 0:.3g} nats per token",
            "the updates are too large for the KL term to hold, and the term itself now makes large"
            " gradients",
            "lower optim.learning_rate, raise algorithm.beta, or go back to an earlier checkpoint",
        )


@dataclass(frozen=True, kw_only=True)
class GapExploded(Rule):
    """The student moves away from its teacher."""

    name: ClassVar[str] = "teacher_gap_exploded"
    bad: float = 2.0
    """|gap| over that of the run's start, and ..."""
    good: float = 1.5
    more: float = 1.0
    """... nats per token above it: the teacher finds the tokens e times less likely than before."""

    def level(self, seen: Seen) -> Level | None:
        gap = seen.pair("teacher/gap")
        if gap is None:
            return None
        now, start = abs(gap[0]), abs(gap[1])
        return high(now, max(self.bad * start, start + self.more), max(self.good * start, 0.1))

    def message(self, seen: Seen) -> Message:
        now, start = seen.pair("teacher/gap") or (0, 0)
        return Message(
            f"the gap to the teacher is {now:.3g} nats per token, at the start {start:.3g}",
            "the student now writes what the teacher finds very unlikely: the reward pulls away"
            " from it (a loophole of the reward?), or the student falls apart",
            "look at some rollouts; lower optim.learning_rate, or let the teacher weigh more (RLAD:"
            " a lower alpha)",
        )


@dataclass(frozen=True, kw_only=True)
class ImpossibleTokens(Rule):
    """The teacher rules out tokens that the student sampled."""

    name: ClassVar[str] = "impossible_tokens"
    after: int = 1
    """A teacher with a softmax over all tokens never gives −inf."""
    clear: int = 10

    def level(self, seen: Seen) -> Level | None:
        return high(seen.get("teacher/impossible_tokens"), 1e-12, 0.0)

    def message(self, seen: Seen) -> Message:
        share = seen.get("teacher/impossible_tokens") or 0.0
        return Message(
            f"the teacher gives {percent(share)} of the sampled tokens the log-probability −inf",
            "the teacher's vocabulary or a mask of its own forbids tokens that the student writes"
            " (special tokens, a larger head), or its logits overflow (float16)",
            "see in the rollouts which tokens; use a teacher of the student's family, in bfloat16"
            " or float32",
        )


LEARNING: tuple[Rule, ...] = (
    NotFinite(), EntropyCollapsed(), EntropyExploded(), KLExploded(), GapExploded(),
    ImpossibleTokens(),
)  # fmt: skip

"""Alarms about what was sampled and how it was rewarded."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rlkd.tracking.alarms.rule import Level, Message, Rule, Seen, high, low, percent

_CUT, _UNGRADED, _SILENT = "completions/clipped_ratio", "rewards/left_out", "groups/no_signal"
_LENGTH = "completions/mean_length"


@dataclass(frozen=True, kw_only=True)
class Truncated(Rule):
    """All or most answers are cut off by the length limit."""

    name: ClassVar[str] = "truncated"
    bad: float = 0.8
    """Share of cut answers. Long-reasoning runs that learn have up to half of them cut."""
    good: float = 0.6

    def level(self, seen: Seen) -> Level | None:
        return high(seen.get(_CUT), self.bad, self.good)

    def message(self, seen: Seen) -> Message:
        limit = f" of {seen.limit} tokens" if seen.limit else ""
        return Message(
            f"{percent(seen.get(_CUT) or 0)} of the answers were cut off by the length"
            f" limit{limit}",
            "what is cut off before its final answer has nothing to grade, so that its reward says"
            " nothing about its reasoning; or the model never writes its end token",
            "raise sampling.max_completion_length, or ask for shorter answers; if the rollouts show"
            " an answer and then chatter, check the chat template and the end token",
        )


@dataclass(frozen=True, kw_only=True)
class Faults(Rule):
    """A reward function fails, on few rows but again and again."""

    name: ClassVar[str] = "reward_faults"
    clear: int = 5

    def level(self, seen: Seen) -> Level | None:
        faults = seen.family("rewards/", "/faults")
        return high(sum(faults.values()), 1, 0) if faults else None

    def message(self, seen: Seen) -> Message:
        failing = {n: k for n, k in seen.family("rewards/", "/faults").items() if k}
        named = ", ".join(f"{name} on {count:g}" for name, count in failing.items())
        return Message(
            f"reward functions failed on rows of this step: {named}",
            "those rows got no value and taught nothing; if they are rows of one kind (long"
            " answers, odd numbers), the model is trained on the others only",
            "read the warnings above, which show such a row; mend the reward, or raise its"
            " deadline_s or memory_gb; past max_fault_share the run stops",
        )


@dataclass(frozen=True, kw_only=True)
class Ungraded(Rule):
    """Many rollouts could not be graded, and not because a function failed."""

    name: ClassVar[str] = "ungraded"
    told_by: ClassVar[tuple[str, ...]] = (Faults.name,)
    bad: float = 0.5
    """Share of rollouts: the run learns from less than half of what it samples."""
    good: float = 0.3

    def level(self, seen: Seen) -> Level | None:
        return high(seen.get(_UNGRADED), self.bad, self.good)

    def message(self, seen: Seen) -> Message:
        return Message(
            f"{percent(seen.get(_UNGRADED) or 0)} of the rollouts got None from a reward",
            "the reward cannot read the gold answers of these rows, or gives None where it means 0",
            "`rlkd audit CONFIG` lists gold answers that cannot be graded; a reward that only some"
            " rows have is marked optional",
        )


@dataclass(frozen=True, kw_only=True)
class NothingRight(Rule):
    """Not one answer of many batches is right: nothing parses, or all is too hard."""

    name: ClassVar[str] = "nothing_right"
    told_by: ClassVar[tuple[str, ...]] = (Truncated.name, Ungraded.name)
    after: int = 10
    """A weak model may miss a batch or three before it first finds an answer."""
    clear: int = 1
    """One right answer shows that answers are read."""

    def level(self, seen: Seen) -> Level | None:
        # A reward below 1 that is not 0 (partial credit, a reward model) has seen something.
        reward = seen.get(f"rewards/{seen.verifiable}/mean")
        level = low(seen.get("accuracy"), 0.0, 1e-9)
        return Level.GOOD if level is Level.BAD and reward else level

    def message(self, seen: Seen) -> Message:
        zero = [name for name, mean in seen.family("rewards/", "/mean").items() if mean == 0]
        also = f"; rewards with mean 0: {', '.join(zero)}" if zero else ""
        cut, left = seen.get(_CUT) or 0.0, seen.get(_UNGRADED) or 0.0
        cause = (
            "the answers may not have the form that the reward reads (no \\boxed{}, other tags),"
            " the gold may have another form, or the prompts are far too hard"
        )
        if max(cut, left) >= 0.2:
            cause = (
                f"{percent(cut)} are cut off before they end and {percent(left)} cannot be graded;"
                f" of the rest: {cause}"
            )
        return Message(
            f"not one answer was right in the last {self.after} batches{also}",
            cause,
            "look at some rollouts, and give one that you find right to `rlkd grade --gold GOLD"
            " COMPLETION`; `rlkd audit CONFIG` checks the gold answers",
        )


@dataclass(frozen=True, kw_only=True)
class NeverFullMark(Rule):
    """CEEH in a run whose verifiable reward gives points but never its full mark."""

    name: ClassVar[str] = "never_full_mark"
    after: int = 10
    clear: int = 1
    """One full mark shows that the reward has one."""

    def level(self, seen: Seen) -> Level | None:
        accuracy, reward = seen.get("accuracy"), seen.get(f"rewards/{seen.verifiable}/mean")
        if accuracy is None or accuracy > 0.0:
            return None if accuracy is None else Level.GOOD
        carried = any(name.startswith("ceeh/") for name in seen.now)
        return Level.BAD if carried and reward else Level.GOOD

    def message(self, seen: Seen) -> Message:
        reward = seen.get(f"rewards/{seen.verifiable}/mean") or 0.0
        return Message(
            f"no answer had the full mark, 1, of {seen.verifiable} in {self.after} steps, though"
            f" its mean is {reward:.3f}",
            "to CEEH an answer is correct where the first reward gives 1 or more; without any it"
            " neither shortens an answer nor calls a prompt hard",
            "put a reward of 0 and 1 first (with weight 0 it is only read), or scale this one to 1",
        )


@dataclass(frozen=True, kw_only=True)
class ConstantReward(Rule):
    """Every rollout of a step gets the same reward, neither all wrong nor all right."""

    name: ClassVar[str] = "constant_reward"
    told_by: ClassVar[tuple[str, ...]] = (Truncated.name, NothingRight.name, Ungraded.name)
    after: int = 5
    bad: float = 1e-6
    """Standard deviation of the reward: rounding aside none."""
    solved: float = 1.0
    """Accuracy from which equal rewards are success: `too_easy` tells of it."""

    def level(self, seen: Seen) -> Level | None:
        if (seen.get("accuracy") or 0.0) >= self.solved:
            return Level.GOOD
        spread = seen.get("reward_std")
        return low(spread, self.bad, 2 * self.bad)

    def message(self, seen: Seen) -> Message:
        reward, accuracy = seen.get("reward"), seen.get("accuracy")
        value = "the same reward" if reward is None else f"the same reward, {reward:.4g}"
        right = "" if accuracy is None else f" (accuracy {accuracy:.3f})"
        return Message(
            f"every rollout got {value}{right}, {self.after} batches in a row",
            "without differences there is no advantage and nothing is learnt: the reward does not"
            " look at the answers, looks for something that none has, or all fail in the same way",
            "look at some rollouts, and give right and wrong ones to the reward by hand (`rlkd"
            " grade` for rewards.math)",
        )


@dataclass(frozen=True, kw_only=True)
class _NoSignal(Rule):
    """Abstract: nearly all groups have equal rewards."""

    told_by: ClassVar[tuple[str, ...]] = (
        Truncated.name, Ungraded.name, NothingRight.name, ConstantReward.name,
    )  # fmt: skip
    after: int = 5
    clear: int = 5
    bad: float = 0.95
    """Share of groups without a difference: of 20 prompts one teaches something."""
    good: float = 0.8

    @abstractmethod
    def is_mine(self, accuracy: float) -> bool:
        """Is it this side: too hard, or too easy?"""

    def level(self, seen: Seen) -> Level | None:
        level, accuracy = high(seen.get(_SILENT), self.bad, self.good), seen.get("accuracy")
        if level is None or accuracy is None:
            return None
        return level if level is not Level.BAD or self.is_mine(accuracy) else Level.GOOD

    def seen_words(self, seen: Seen) -> str:
        share, accuracy = seen.get(_SILENT) or 0.0, seen.get("accuracy") or 0.0
        return (
            f"in {percent(share)} of the groups all answers got the same reward (accuracy"
            f" {accuracy:.3f})"
        )


@dataclass(frozen=True, kw_only=True)
class TooEasy(_NoSignal):
    """Groups without signal because all answers are right."""

    name: ClassVar[str] = "too_easy"

    def is_mine(self, accuracy: float) -> bool:
        return accuracy >= 0.5

    def message(self, seen: Seen) -> Message:
        return Message(
            self.seen_words(seen),
            "the prompts are too easy for the student as it is now: next to nothing is learnt from"
            " them any more, and sampling is paid for nothing",
            "stop here, or take harder prompts (`rlkd difficulty RUN` shows which are left)",
        )


@dataclass(frozen=True, kw_only=True)
class TooHard(_NoSignal):
    """Groups without signal because all answers are wrong."""

    name: ClassVar[str] = "too_hard"

    def is_mine(self, accuracy: float) -> bool:
        return accuracy < 0.5

    def message(self, seen: Seen) -> Message:
        return Message(
            self.seen_words(seen),
            "the prompts are too hard: where every answer of a group is wrong nothing is learnt",
            "take easier prompts first (`rlkd difficulty RUN`), a larger batch.group_size, or a"
            " reward with steps between wrong and right",
        )


@dataclass(frozen=True, kw_only=True)
class LengthRunsAway(Rule):
    """Answers grow, and not because they get better."""

    name: ClassVar[str] = "length_runs_away"
    told_by: ClassVar[tuple[str, ...]] = (Truncated.name,)
    bad: float = 2.0
    """Mean length over that of the run's start. Growth alone is what reasoning runs want ..."""
    good: float = 1.5
    cut: float = 0.2
    """... so that more answers must be cut off than at the start, by this share, or ..."""
    worse: float = 0.1
    """... accuracy must have fallen by this much."""

    def level(self, seen: Seen) -> Level | None:
        length = seen.pair(_LENGTH)
        if length is None:
            return None
        level = high(length[0], self.bad * max(length[1], 1), self.good * max(length[1], 1))
        if level is not Level.BAD:
            return level
        cut, accuracy = seen.pair(_CUT) or (0, 0), seen.pair("accuracy") or (0, 0)
        harmful = cut[0] - cut[1] >= self.cut or accuracy[1] - accuracy[0] >= self.worse
        return Level.BAD if harmful else Level.BETWEEN

    def message(self, seen: Seen) -> Message:
        length, cut = seen.pair(_LENGTH) or (0, 0), seen.pair(_CUT) or (0, 0)
        right = seen.pair("accuracy")
        more = f", accuracy {right[1]:.3f} then and {right[0]:.3f} now" if right else ""
        return Message(
            f"answers have {length[0]:.0f} tokens, at the start {length[1]:.0f}; {percent(cut[0])}"
            f" are cut off, at the start {percent(cut[1])}{more}",
            "length is rewarded without being of use: by the reward itself, by a per-answer mean of"
            " the loss (long wrong answers cost little per token), or by an entropy bonus; often it"
            " ends in gibberish",
            "look at the longest rollouts; try algorithm.reduction dapo or dr_grpo, a reward on"
            " length (rewards.length), a lower learning rate",
        )


@dataclass(frozen=True, kw_only=True)
class LengthVanishes(Rule):
    """Answers shrink to nothing, and do not get better by it."""

    name: ClassVar[str] = "length_vanishes"
    bad: float = 0.2
    """Mean length over that of the run's start."""
    good: float = 0.4
    better: float = 0.05
    """An accuracy that much above the start's makes shortness a success."""

    def level(self, seen: Seen) -> Level | None:
        length, accuracy = seen.pair(_LENGTH), seen.pair("accuracy")
        if length is None:
            return None
        level = low(length[0], self.bad * length[1], self.good * length[1])
        gained = accuracy is not None and accuracy[0] - accuracy[1] >= self.better
        return Level.BETWEEN if level is Level.BAD and gained else level

    def message(self, seen: Seen) -> Message:
        length, accuracy = seen.pair(_LENGTH) or (0, 0), seen.pair("accuracy")
        more = f"; accuracy {accuracy[1]:.3f} then, {accuracy[0]:.3f} now" if accuracy else ""
        return Message(
            f"answers have {length[0]:.1f} tokens, at the start {length[1]:.1f}{more}",
            "to end at once pays better than to try: a length term outweighs the reward, or wrong"
            " answers are punished and empty ones are not",
            "look at some rollouts; lower the length term's weight (CEEH: length_beta), or give an"
            " empty answer the reward of a wrong one",
        )


SAMPLING: tuple[Rule, ...] = (
    Truncated(), Faults(), Ungraded(), NothingRight(), NeverFullMark(), ConstantReward(),
    TooEasy(), TooHard(), LengthRunsAway(), LengthVanishes(),
)  # fmt: skip

"""Alarms about the teacher: it prefers wrong answers, leaves the right ones, or reads none."""

from dataclasses import dataclass
from typing import ClassVar

from rlkd.tracking.alarms.rule import Level, Message, Rule, Seen, high, low, percent


@dataclass(frozen=True, kw_only=True)
class TeacherPrefersWrong(Rule):
    """Of the student's answers to one prompt the teacher finds the wrong ones likelier.

    Both by its own log-probs and against the student's: the first alone favours whatever is
    repeated, the second alone whatever the student is less sure of than a teacher it has outgrown.
    """

    name: ClassVar[str] = "teacher_prefers_wrong"
    after: int = 5
    bad: float = 0.35
    """Share of pairs; a teacher that knows nothing has 0.5."""
    good: float = 0.45

    def level(self, seen: Seen) -> Level | None:
        own, pull = seen.get("teacher/prefers_right"), seen.get("teacher/pulls_to_right")
        if own is None or pull is None:
            return None
        return low(max(own, pull), self.bad, self.good)

    def message(self, seen: Seen) -> Message:
        own = seen.get("teacher/prefers_right") or 0.0
        pull = seen.get("teacher/pulls_to_right") or 0.0
        return Message(
            f"of a right and a wrong answer to one prompt the teacher finds the right one likelier"
            f" in {percent(own)} of the pairs, and pulls to it in {percent(pull)}",
            "the teacher is of another task, prompt or answer form, is no better than the student,"
            " or the reward calls wrong what is right",
            "evaluate the teacher as a model (`rlkd eval`), check its chat template and the gold"
            " answers (`rlkd audit`), or let it weigh less (RLAD: a higher alpha)",
        )


@dataclass(frozen=True, kw_only=True)
class TeacherLeavesRight(Rule):
    """The gap on right answers is large, and has grown since the start."""

    name: ClassVar[str] = "teacher_leaves_right"
    told_by: ClassVar[tuple[str, ...]] = ("teacher_gap_exploded",)
    after: int = 5
    bad: float = 2.0
    """nats per token, and ..."""
    more: float = 1.0
    """... so many above the start's."""
    good: float = 1.5

    def level(self, seen: Seen) -> Level | None:
        gap = seen.pair("teacher/gap_of_right")
        if gap is None:
            return None
        now, start = gap
        return high(now, max(self.bad, start + self.more), max(self.good, start + self.more / 2))

    def message(self, seen: Seen) -> Message:
        now, start = seen.pair("teacher/gap_of_right") or (0, 0)
        return Message(
            f"on right answers the gap to the teacher is {now:.3g} nats per token, at the start"
            f" {start:.3g}",
            "the teacher finds what the student does right ever less likely: it answers in another"
            " form, or is of another task, and pulls against the reward",
            "read some right answers in `rlkd report`, where tokens show the teacher's opinion;"
            " make the teacher's prompt and answer form the student's, or let it weigh less",
        )


@dataclass(frozen=True, kw_only=True)
class TeacherConstant(Rule):
    """The teacher gives every answer the same score."""

    name: ClassVar[str] = "teacher_constant"
    bad: float = 1e-6
    """nats per token: the spread over rollouts, but for rounding."""
    solved: float = 0.9
    """Accuracy from which a teacher may be certain of every answer."""

    def level(self, seen: Seen) -> Level | None:
        level = low(seen.get("teacher/logp_std"), self.bad, 2 * self.bad)
        solved = (seen.get("accuracy") or 0.0) >= self.solved
        return Level.BETWEEN if level is Level.BAD and solved else level

    def message(self, seen: Seen) -> Message:
        return Message(
            "the teacher gives every answer the same log-prob per token",
            "its scores do not depend on the answer: a server that answers with a default, or"
            " weights that are all alike",
            _BLIND,
        )


@dataclass(frozen=True, kw_only=True)
class TeacherBlind(Rule):
    """The teacher's scores are not those of these answers."""

    name: ClassVar[str] = "teacher_blind"
    told_by: ClassVar[tuple[str, ...]] = ("teacher_constant", "teacher_prefers_wrong")
    after: int = 16
    """RLAD in the quickstart, where student and teacher write differently, begins with a low
    correlation and leaves it within a dozen steps of 256 rollouts; a teacher of other digits does
    not."""
    bad: float = 0.2
    """Correlation over rollouts of the teacher's and the student's log-prob per token, and ..."""
    good: float = 0.3
    tells: float = 0.6
    """... share of pairs in which the right answer is the likelier one to the teacher."""
    tells_good: float = 0.65
    solved: float = 0.9
    """Accuracy from which both are certain, and what is left of the scores is noise."""

    def level(self, seen: Seen) -> Level | None:
        agreement, tells = seen.get("teacher/agreement"), seen.get("teacher/prefers_right")
        if agreement is None or tells is None:
            return None
        if agreement >= self.good or tells >= self.tells_good:
            return Level.GOOD
        solved = (seen.get("accuracy") or 0.0) >= self.solved
        blind = agreement <= self.bad and tells <= self.tells
        return Level.BAD if blind and not solved else Level.BETWEEN

    def message(self, seen: Seen) -> Message:
        agreement = seen.get("teacher/agreement") or 0.0
        tells = seen.get("teacher/prefers_right") or 0.0
        return Message(
            f"the teacher's scores are as if of other answers: their correlation with the student's"
            f" log-probs is {agreement:.2f}, and right answers are the likelier ones in"
            f" {percent(tells)} of the pairs",
            "rows or tokens are mixed up on the way to the teacher or back (a server, a tokenizer,"
            " padding), its weights are not loaded, or it is of another language or task",
            _BLIND,
        )


_BLIND = (
    "run `rlkd doctor` on the config, and read in `rlkd report` what the teacher says of single"
)
_BLIND += " tokens; until then do not train with it"

TEACHING: tuple[Rule, ...] = (
    TeacherPrefersWrong(), TeacherLeavesRight(), TeacherConstant(), TeacherBlind(),
)  # fmt: skip

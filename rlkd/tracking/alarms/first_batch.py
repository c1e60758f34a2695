"""The first batch of rollouts, judged before anything is learnt from it.

Many a run is lost here already: answers that are all cut off by a default length, a reward that
reads no answer, gold that cannot be graded.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlkd.config import ConfigError
from rlkd.tracking.alarms.rule import Message, percent
from rlkd.tracking.rollouts import Rollouts

_GRADE = "give a rollout that you find right to `rlkd grade --gold GOLD COMPLETION`; `rlkd audit"
_GRADE += " CONFIG` checks the gold answers"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From where the first batch is doubtful, or for nothing. Shares of its rollouts or groups."""

    cut: float = 0.5
    """Cut off: more than that hardly leaves a reward that speaks of reasoning."""
    ungraded: float = 0.2
    """Without a value: more than the gold answers that are often broken in public data."""
    silent: float = 0.9
    """Groups with equal rewards: of ten prompts one teaches something."""
    least_rows: int = 8
    """Rollouts below which a bad batch may be chance: it is never refused."""


@dataclass(frozen=True)
class Judgement:
    """What is said of a first batch."""

    summary: str
    """In one line."""
    refusals: dict[str, Message]
    """Name -> why going on would be for nothing."""
    warnings: dict[str, Message]
    """Name -> what is doubtful."""


def judge(
    metrics: Mapping[str, float],
    rows: int,
    *,
    limit: int | None = None,
    cut_is_masked: bool = False,
    thresholds: Thresholds = Thresholds(),
) -> Judgement:
    """Judge what the first batch logs, over all ranks.

    Args:
        metrics: names as the trainer logs them.
        rows: rollouts of the batch, over all ranks.
        limit: most tokens of an answer.
        cut_is_masked: rollouts that are cut off have no loss (trl.mask_truncated_completions).
    """
    cut, left = _of(metrics, "completions/clipped_ratio"), _of(metrics, "rewards/left_out")
    silent, std = _of(metrics, "groups/no_signal"), _of(metrics, "reward_std")
    faults = sum(v for name, v in metrics.items() if name.endswith("/faults"))
    found: dict[str, Message] = {}
    refused: set[str] = set()
    if cut >= thresholds.cut:
        found["truncated"] = _cut_message(cut, silent, limit)
        if cut >= 1 and (silent >= 1 or cut_is_masked):
            refused.add("truncated")
    if left >= thresholds.ungraded:
        found["ungraded"] = _ungraded_message(left, int(faults))
        if left >= 1 and not faults:  # faults are FaultStop's to judge: they may pass
            refused.add("ungraded")
    elif std <= 1e-6 and "reward_std" in metrics:
        found["constant_reward"] = _constant_message(_of(metrics, "reward"))
    elif silent >= thresholds.silent:
        found["no_signal"] = _silent_message(silent, metrics.get("accuracy"))
    if rows < thresholds.least_rows:
        refused.clear()
    shown = {
        "reward": "reward", "reward_std": "±", "accuracy": "accuracy",
        "completions/mean_length": "length", "completions/clipped_ratio": "cut off",
        "rewards/left_out": "ungraded", "groups/no_signal": "groups without signal",
    }  # fmt: skip
    numbers = [
        f"{word} {metrics[name]:.3f}"
        for name, word in shown.items()
        if math.isfinite(metrics.get(name, math.nan))
    ]
    return Judgement(
        f"first batch: {rows} rollouts  {'  '.join(numbers)}",
        {name: message for name, message in found.items() if name in refused},
        {name: message for name, message in found.items() if name not in refused},
    )


def _of(metrics: Mapping[str, float], name: str) -> float:
    value = metrics.get(name, 0.0)
    return value if math.isfinite(value) else 0.0


def _cut_message(cut: float, silent: float, limit: int | None) -> Message:
    of = f" of {limit} tokens" if limit else ""
    none = ", and no group has rewards that differ" if silent >= 1 else ""
    return Message(
        f"{percent(cut)} of the first answers were cut off by the length limit{of}{none}",
        "what is cut off before its final answer has nothing to grade; without differences in a"
        " group there is no gradient",
        "raise sampling.max_completion_length; if the rollouts show an answer and then chatter,"
        " check the chat template and the end token",
    )


def _ungraded_message(left: float, faults: int) -> Message:
    why = "the reward cannot read the gold answers, or gives None where it means 0"
    if faults:
        why = f"reward functions failed on {faults} rows; the warnings above show why"
    return Message(f"{percent(left)} of the first rollouts got None from a reward", why, _GRADE)


def _constant_message(reward: float) -> Message:
    return Message(
        f"every rollout of the first batch got the same reward, {reward:.4g}",
        "without differences nothing is learnt: the reward may not find the form that it reads, or"
        " the prompts are all too hard or too easy",
        _GRADE,
    )


def _silent_message(silent: float, accuracy: float | None) -> Message:
    right = "" if accuracy is None else f" (accuracy {accuracy:.3f})"
    hard = accuracy is None or accuracy < 0.5
    return Message(
        f"in {percent(silent)} of the first groups all answers got the same reward{right}",
        f"the prompts are too {'hard' if hard else 'easy'} for the student, and little is learnt",
        f"take {'easier' if hard else 'harder'} prompts, or a larger batch.group_size",
    )


class FirstBatch:
    """Takes the trainer's `on_batch`; looks at the first batch that comes, and at no other.

    Args:
        mode: error, warn or off (`run.first_batch`).
        keep: writes this rank's rollouts; returns the file, or None where it cannot.
        tell: says a message, (name, message, kind); None on ranks that say nothing.
        settings: further arguments of `judge`.
        expected: rollouts that this rank's batch must have.
    """

    def __init__(
        self,
        mode: Literal["error", "warn", "off"],
        keep: Callable[[Rollouts], Path | None],
        tell: Callable[[str, Message, str], None] | None,
        *,
        world_size: int = 1,
        expected: int | None = None,
        **settings: Any,
    ) -> None:
        self._due = mode != "off"
        self._refuse = mode == "error"
        self._keep = keep
        self._tell = tell
        self._world_size = world_size
        self._expected = expected
        self._settings = settings

    def __call__(self, metrics: dict[str, float], rollouts: Rollouts) -> None:
        """See rlkd.trainer.Trainer.on_batch.

        Raises:
            ConfigError: going on would be for nothing. On all ranks: the metrics are over all.
        """
        if not self._due:
            return
        self._due = False
        rows = len(rollouts.prompts)
        found = judge(metrics, rows * self._world_size, **self._settings)
        if self._tell is not None:
            print(found.summary, file=sys.stderr, flush=True)
            for name, message in found.warnings.items():
                self._tell(name, message, "warning")
            for name, message in found.refusals.items():
                self._tell(name, message, "refused" if self._refuse else "warning")
        if self._expected is not None and rows != self._expected:
            raise ConfigError(
                f"batch: this process got {rows} rollouts and expected {self._expected}.\n"
                "  why: a key of trl: changes the sizes that batch: sets\n  do: set them in batch:"
            )
        if found.refusals and self._refuse:
            path = self._keep(rollouts)
            reasons = "\n".join(map(str, found.refusals.values()))
            raise ConfigError(
                "nothing can be learnt from the first batch, and no update was made.\n"
                f"{reasons}\n"
                f"  saved: its rollouts, {path or 'which could not be written'}\n"
                "  then: give the new run another run.name, or delete this one's folder;"
                " --run.first_batch warn goes on regardless"
            )

"""Is the final answer equal to the gold, as mathematics? Graded by ``rlkd.grading``.

Follows the reward law: as many values as completions, in order, each a float or ``None`` ("cannot
be graded"), and nothing that a model writes makes it raise. A completion is a string or a list of
chat messages, of which the last counts; a message without text counts as an empty answer.
"""

from typing import Any

from rewards.completion import text_of
from rlkd.grading import check_golds, grade_many
from rlkd.grading.engine import require_math_verify
from rlkd.grading.same import same_answers


def accuracy(
    completions: list,
    answer: list,
    deadline_s: float = 1.0,
    math_verify: bool = False,
    **columns: Any,
) -> list[float | None]:
    """1.0 where the completion's final answer equals ``answer``, 0.0 where it does not.

    ``None`` where the row cannot be graded: its answer is no text, the grader cannot read it, or
    the grader itself crashed on the row.

    Args:
        completions: what the model wrote.
        answer: the gold of each completion, as text (``"26"``, ``"\\frac{1}{2}"``) or as a number.
        deadline_s: most seconds that one hard comparison may take.
        math_verify: ask Math-Verify about pairs that are otherwise undecided (see
            `rlkd.grading.grade`).

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
        ImportError: if Math-Verify is asked for and not installed.
    """
    if len(answer) != len(completions):
        raise ValueError(f"{len(completions)} completions but {len(answer)} answers")
    golds = [_as_text(gold) for gold in answer]
    gradable = [i for i, gold in enumerate(golds) if isinstance(gold, str)]
    verdicts = grade_many(
        [text_of(completions[i]) for i in gradable],
        [golds[i] for i in gradable],
        deadline_s=deadline_s,
        math_verify=math_verify,
    )
    scores: list[float | None] = [None] * len(completions)
    for i, verdict in zip(gradable, verdicts, strict=True):
        scores[i] = None if verdict.status == "crashed" else verdict.score
    return scores


def check_rows(answer: list, math_verify: bool = False, **columns: Any) -> dict[int, str]:
    """The rows whose ``answer`` cannot be graded against, and why.

    What rlkd asks when it has loaded the data, before any training: ``accuracy`` carries this
    function as its attribute ``check_rows``.

    Raises:
        ImportError: if Math-Verify is asked for and not installed.
    """
    if math_verify:
        require_math_verify()
    return check_golds([_as_text(gold) for gold in answer])


def answers(
    completions: list, deadline_s: float = 1.0, math_verify: bool = False, **columns: Any
) -> list[str | None]:
    """The final answer of each completion to one row, the same text where two are equal as
    mathematics, None where there is none: what is voted on. ``accuracy`` carries this as its
    attribute ``answers``.
    """
    return same_answers(
        [text_of(completion) for completion in completions],
        deadline_s=deadline_s,
        math_verify=math_verify,
    )


def _as_text(gold: Any) -> Any:
    """A number as it is written, as files of data often have it; anything else as it is."""
    return str(gold) if isinstance(gold, (int, float)) and not isinstance(gold, bool) else gold


accuracy.check_rows = check_rows  # pyright: ignore[reportFunctionMemberAccess]
accuracy.answers = answers  # pyright: ignore[reportFunctionMemberAccess]

"""Another reward, given only what follows the thinking block."""

from collections.abc import Hashable, Mapping
from typing import Any

from rewards.completion import after_thinking, text_of
from rewards.inner import carries_check, scores
from rlkd.refs import resolve


@carries_check
def answer_span(
    completions: list,
    *,
    of: str,
    of_kwargs: Mapping[str, Any] | None = None,
    must_think: bool = False,
    **columns: Any,
) -> list[float | None]:
    """The values of the reward ``of`` for the completions without their thinking.

    For rewards that read a whole text, such as a comparison or a judge: what a model tried while
    thinking is not its answer. A completion whose block was never closed has an empty answer.
    Strings stay strings; of chat messages the last one's text is cut. ``completion_ids`` are
    passed on as they are: a length reward inside still counts the thinking.

    Args:
        of: the reward, as module:name.
        of_kwargs: its own options.
        must_think: a completion without a closing tag has an empty answer. Right where the prompt
            opens the block; otherwise a thought that was cut off is taken for an answer.

    Raises:
        ConfigError, ValueError: see ``rewards.inner.scores``.
    """
    return scores(of, of_kwargs, [_cut(c, must_think) for c in completions], columns)


def answers(
    completions: list,
    *,
    of: str,
    of_kwargs: Mapping[str, Any] | None = None,
    must_think: bool = False,
    **columns: Any,
) -> list[Hashable | None] | None:
    """What is voted on: what the reward ``of`` takes for the answers. None where that does not say
    which are the same. ``answer_span`` carries this as its attribute ``answers``.
    """
    inner = getattr(resolve(of, place="of", want_callable=True), "answers", None)
    if inner is None:
        return None
    cut = [_cut(completion, must_think) for completion in completions]
    return inner(completions=cut, **columns, **(of_kwargs or {}))


answer_span.answers = answers  # pyright: ignore[reportFunctionMemberAccess]


def _cut(completion: Any, must_think: bool) -> Any:
    text = text_of(completion)
    answer = after_thinking(text)
    if answer is None or (must_think and answer is text):
        answer = ""
    if isinstance(completion, list) and completion and isinstance(completion[-1], dict):
        return [*completion[:-1], {**completion[-1], "content": answer}]
    return answer

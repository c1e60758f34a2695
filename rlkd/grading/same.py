"""Which completions give the same final answer: the votes of maj@k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .engine import grade_many
from .extract import extract


def same_answers(
    completions: Sequence[str], *, deadline_s: float = 1.0, math_verify: bool = False
) -> list[str | None]:
    """The final answer of each completion, as one text for all that are equal.

    The answer is the one that :func:`grade` would judge; None where it finds none (also: cut off,
    hedged). Two are equal where the grader takes either for a right answer to the other. Equality
    is not quite transitive there ("5" is "5 cm" and "5 m"), so each is compared with the most
    frequent answers first, in the order of their texts among equally frequent ones, and joins the
    first that it equals. The order of the completions changes nothing.

    Raises as :func:`grade` does.
    """
    found = [extract(completion) for completion in completions]
    texts = [answer.text if answer.status == "ok" and answer.text else None for answer in found]
    said = {text: whole for text, whole in sorted(zip(texts, completions, strict=True), key=str)
            if text is not None}  # fmt: skip
    times = Counter(text for text in texts if text is not None)
    joined: dict[str, str] = {}
    kinds: list[str] = []
    for text in sorted(said, key=lambda text: (-times[text], text)):
        verdicts = grade_many(
            [said[text]] * len(kinds) + [said[kind] for kind in kinds],
            kinds + [text] * len(kinds),
            deadline_s=deadline_s,
            math_verify=math_verify,
        )
        right = [verdict.score == 1.0 for verdict in verdicts]
        equal = [kind for i, kind in enumerate(kinds) if right[i] or right[len(kinds) + i]]
        joined[text] = equal[0] if equal else text
        if not equal:
            kinds.append(text)
    return [None if text is None else joined[text] for text in texts]

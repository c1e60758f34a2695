"""Knights and knaves: are all people named rightly?

An answer gives each person's role: ``Zoey is a knight, Oliver is a knave`` (on one line or many,
numbered or not, ``Zoey: knight`` too). The gold is written in the same way, as in
``envs.knights_knaves`` and in the data of Logic-RL (arXiv 2502.14768). Names are single words and
compared without case.
"""

import re
from typing import Any

from rewards.completion import answer_of, text_of

_MOST_CHARACTERS = 20_000
_CLAIM = re.compile(
    r"\b(?P<name>\w{1,40})[*_]{0,4}(?:\s{1,9}is\s{1,9}(?:an?\s{1,9})?[*_]{0,4}(?P<role>\w{1,40})"
    r"|\s{0,9}[:=][*_\s]{0,9}(?:an?\s{1,9})?[*_]{0,4}(?P<noted>knight|knave)\b)",
    re.IGNORECASE,
)
_ROLES = ("knight", "knave")

RIGHT, WRONG, UNREADABLE, NO_FORMAT = 2.0, -0.5, -1.0, -2.0
"""The values of ``graded``, arXiv 2505.13718."""


def accuracy(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """1.0 where everybody has the role of the gold ``answer`` and nobody has two, else 0.0.

    Read from ``<answer>…</answer>``, else from the box, else from all that follows the thinking
    block. ``None`` where the gold names nobody or contradicts itself.

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
    """
    values: list[float | None] = []
    for completion, gold in _pairs(completions, answer):
        said = _claims(answer_of(completion))
        known = {name: roles for name, roles in said.items() if name in (gold or {})}
        values.append(None if gold is None else float(known == gold))
    return values


def answers(
    completions: list, answer: list, **columns: Any
) -> list[frozenset[tuple[str, frozenset[str]]] | None]:
    """The roles that each completion gives to the people of the puzzle, None where it gives none:
    what is voted on. ``accuracy`` carries this as its attribute ``answers``.
    """
    said = [
        frozenset(
            (name, frozenset(roles)) for name, roles in claims.items() if name in (gold or {})
        )
        for completion, gold in _pairs(completions, answer)
        for claims in [_claims(answer_of(completion))]
    ]
    return [claims or None for claims in said]


accuracy.answers = answers  # pyright: ignore[reportFunctionMemberAccess]


def graded(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """-2 for a wrong format, -1 for an unreadable answer, -0.5 for a wrong one, +2 for the right.

    The scheme of "Warm Up Before You Train" (arXiv 2505.13718). The format is a thought, then
    ``</think>``, white space, ``<answer>…</answer>`` and nothing after it, each of these tags
    once; ``<think>`` may stand at the start or in the prompt. Unreadable: no role at all, a
    person who is not in the puzzle, a role that is neither knight nor knave, or two roles for one
    person. Who leaves somebody out is wrong. In the authors' code an empty answer is wrong and the
    last of two roles counts; here neither pays.

    ``None`` where the gold names nobody or contradicts itself.

    Raises:
        ValueError: if there are not as many answers as completions (a fault of the caller).
    """
    return [
        None if gold is None else _grade(text_of(completion), gold)
        for completion, gold in _pairs(completions, answer)
    ]


def _pairs(completions: list, answer: list) -> list[tuple[Any, dict[str, set[str]] | None]]:
    if len(answer) != len(completions):
        raise ValueError(f"{len(completions)} completions but {len(answer)} answers")
    golds = [_claims(wanted) if isinstance(wanted, str) else {} for wanted in answer]
    usable = [gold if gold and not _unreadable(gold) else None for gold in golds]
    return list(zip(completions, usable, strict=True))


def _grade(text: str, gold: dict[str, set[str]]) -> float:
    answer = _formatted(text)
    if answer is None:
        return NO_FORMAT
    said = _claims(answer)
    if not said or _unreadable(said) or not said.keys() <= gold.keys():
        return UNREADABLE
    return RIGHT if said == gold else WRONG


def _formatted(text: str) -> str | None:
    """What the answer tags hold, or None if the completion is not in the format."""
    if any(text.count(tag) != 1 for tag in ("</think>", "<answer>", "</answer>")):
        return None
    thought, _, rest = text.partition("</think>")
    thought = thought.strip().removeprefix("<think>")
    before, _, rest = rest.partition("<answer>")
    answer, closed, after = rest.partition("</answer>")
    if not closed or before.strip() or after.strip():
        return None
    return answer if thought.strip() and answer.strip() and "<think>" not in thought else None


def _claims(text: str) -> dict[str, set[str]]:
    """Each name in a text with all the roles that it is given there, in small letters."""
    found: dict[str, set[str]] = {}
    if len(text) <= _MOST_CHARACTERS:
        for claim in _CLAIM.finditer(text):
            role = claim["role"] or claim["noted"]
            found.setdefault(claim["name"].strip("_").casefold(), set()).add(role.casefold())
    return found


def _unreadable(claims: dict[str, set[str]]) -> bool:
    return any(len(roles) != 1 or not roles < set(_ROLES) for roles in claims.values())

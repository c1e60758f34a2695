"""Grading: extraction, comparison in the caller, and a pool of workers for the rest."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from . import cache
from .compare import compare
from .extract import Extracted, extract
from .gold import Answer, check, read
from .verdict import GradingError, Oversize, Undecided, Verdict

Node = tuple[Any, ...]


def grade(
    completion: str, gold: str, *, deadline_s: float = 1.0, math_verify: bool = False
) -> Verdict:
    """Grade one completion against one gold answer.

    deadline_s: wall limit in seconds for the part that runs in a worker, counted from the moment at
    which a worker starts on it.
    math_verify: ask Math-Verify about a pair that our comparison and sympy leave ``undecided``, in
    the same worker under the same limits. Its yes gives ``correct`` with the method
    ``worker:math-verify``; nothing else changes. Off by default: it says yes to some pairs that
    differ (see ``second_opinion``, also for what it does with the text).

    Never raises on what a model may write. Raises TypeError for arguments that are not text,
    ValueError for a deadline that is not positive, ImportError where Math-Verify is asked for and
    not installed.
    """
    return grade_many([completion], [gold], deadline_s=deadline_s, math_verify=math_verify)[0]


def grade_many(
    completions: Sequence[str],
    golds: Sequence[str],
    *,
    deadline_s: float = 1.0,
    math_verify: bool = False,
) -> list[Verdict]:
    """Grade completions against golds of the same length; the verdicts keep their order.

    Equal pairs of gold and answer are graded once. Raises as :func:`grade` does, and ValueError
    where the lengths differ.
    """
    if len(completions) != len(golds):
        raise ValueError(f"{len(completions)} completions but {len(golds)} golds")
    if not deadline_s > 0:
        raise ValueError(f"deadline_s must be positive, got {deadline_s}")
    if math_verify:
        require_math_verify()
    out: list[Verdict | None] = [None] * len(completions)
    waiting: dict[cache.Key, list[int]] = {}
    for index, (completion, gold) in enumerate(zip(completions, golds, strict=True)):
        if not isinstance(completion, str):
            raise TypeError(f"completion {index} is {type(completion).__name__}, not str")
        found = extract(completion)
        key = (gold, found.text, found.other, math_verify) if found.status == "ok" else None
        verdict = cache.VERDICTS.get(key, deadline_s) if key is not None else None
        if verdict is None:
            verdict = _quick(found, gold)
            if verdict is not None and verdict.status == "undecided" and math_verify:
                verdict = None  # a worker asks Math-Verify
            if key is not None and verdict is not None:
                cache.VERDICTS.put(key, verdict, deadline_s)
        if verdict is None and key is not None:
            waiting.setdefault(key, []).append(index)
        out[index] = verdict
    if waiting:
        from .dispatch import decide

        pairs = [key[:3] for key in waiting]
        for pair, verdict in decide(pairs, deadline_s, second=math_verify):
            key = (*pair, math_verify)
            cache.VERDICTS.put(key, verdict, deadline_s)
            for index in waiting[key]:
                out[index] = verdict
    return [v for v in out if v is not None]


def check_golds(golds: Sequence[Any]) -> dict[int, str]:
    """What cannot be graded against: its index in ``golds``, and why, with the gold as it stands.

    Every distinct gold is parsed once, about 20,000 in a second; grading in this process then finds
    the last 50,000 parsed.
    """
    bad: dict[int, str] = {}
    reasons: dict[str, str] = {}
    for index, gold in enumerate(golds):
        if not isinstance(gold, str):
            bad[index] = f"the gold is no text but {type(gold).__name__}: {str(gold)[:60]}"
            continue
        if gold not in reasons:
            problem = gold_answer(gold)[1]
            shown = gold if len(gold) <= 60 else f"{gold[:57]}..."
            reasons[gold] = f"{problem}: {shown!r}" if problem else ""
        if reasons[gold]:
            bad[index] = reasons[gold]
    return bad


def require_math_verify() -> None:
    """Raises ImportError where Math-Verify is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        raise ImportError(
            "math_verify=True asks for a second opinion of Math-Verify, which is not installed.\n"
            "  do: pip install 'rlkd[math-verify]' (math-verify 0.9.0 with its ANTLR runtime), or"
            " leave math_verify off"
        )


def gold_answer(gold: str) -> tuple[Answer | None, str]:
    """The parsed gold, from the cache where it was seen before; see :func:`gold.check`."""
    found = cache.GOLDS.get(gold)
    if found is None:
        found = check(gold)
        cache.GOLDS.put(gold, found)
    return found


def _quick(found: Extracted, gold: str) -> Verdict | None:
    """What the caller's process can decide; None where a worker has to.

    An error of our own is the status ``crashed``: it must not stop the trainer, nor go unseen.
    """
    try:
        return _decide(found, gold)
    except Exception as error:
        return Verdict(0.0, "crashed", found.text, f"{type(error).__name__}: {error}", "compare")


def _decide(found: Extracted, gold: str) -> Verdict | None:
    target, problem = gold_answer(gold)
    if target is None:
        return Verdict(None, "bad_gold", found.text, problem, "gold")
    if found.status != "ok":
        return Verdict(0.0, found.status, found.text, found.rule, "extract")
    try:
        return _judge(target, found)
    except Oversize as problem_:
        return Verdict(0.0, "oversize", found.text, str(problem_), "parse")
    except Undecided:
        return None
    except (GradingError, RecursionError, ValueError, ArithmeticError) as error:
        return Verdict(0.0, "undecided", found.text, f"{type(error).__name__}: {error}", "compare")


def _judge(target: Answer, found: Extracted) -> Verdict:
    pending: Undecided | None = None
    verdict = None
    for text in (found.text, found.other):
        if not text:
            continue
        answer = read(text)
        try:
            good, method = match(target, answer)
        except Undecided as problem:
            pending = problem
            continue
        if good:
            return Verdict(1.0, "correct", found.text, "equal to the gold", method)
        if verdict is None:
            verdict = _negative(target, answer, found, method)
    if pending is not None:
        raise pending
    assert verdict is not None
    return verdict


def _negative(target: Answer, answer: Answer, found: Extracted, method: str) -> Verdict:
    if not answer.readings and target.readings and target.readings[0][0] != "text":
        return Verdict(0.0, "unparsed", found.text, answer.error or "no mathematics", "parse")
    several = answer.readings and answer.readings[0][0] == "list" and answer.readings[0][1] == "or"
    if several and not (target.readings and target.readings[0][0] in ("list", "cup", "set", "rel")):
        return Verdict(0.0, "hedged", found.text, "several alternatives", method)
    return Verdict(0.0, "wrong", found.text, "not equal to the gold", method)


def match(
    target: Answer, answer: Answer, compare: Callable[[Node, Node], tuple[bool, str]] = compare
) -> tuple[bool, str]:
    """Whether an answer equals a gold in some reading of both. Raises Undecided."""
    if target.text == answer.text or (target.key == answer.key and target.key):
        return True, "text"
    if target.base is not None or answer.base is not None:
        return target.base == answer.base, "base"
    if target.letter is not None and answer.letter is not None:
        return target.letter == answer.letter, "choice"
    pending: Undecided | None = None
    method = "text"
    for gold in target.readings:
        for reading in answer.readings:
            try:
                good, method = compare(gold, reading)
            except Undecided as problem:
                pending = problem
                continue
            if good:
                return True, method
    if pending is not None:
        raise pending
    return False, method

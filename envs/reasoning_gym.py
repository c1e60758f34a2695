"""The tasks of ``reasoning-gym``, a package with over a hundred generators of puzzles.

``pip install reasoning-gym`` brings it (tried with 0.1.25); it is imported on first use. A row's
question decides its split, so that no question is both trained on and held out.

Many tasks have one right answer, and ``rewards.exact:text`` grades them. Those with several have a
scorer of their own, which ``score`` asks. Some of these evaluate the answer as Python or through
sympy's parser, which lets a model run code: ``score`` refuses tasks whose module does so anywhere,
and so does ``rows`` unless told otherwise.
"""

import functools
import inspect
import json
import re
import sys
from types import ModuleType
from typing import Any

from envs.prompt import as_prompt, check, split_of
from rewards.completion import answer_of

_ENDING = "\n\nGive the answer between <answer> and </answer>, and nothing else there."
_EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify|literal_eval)\(")
_MOST_CHARACTERS = 10_000
_MAX_DRAWS_PER_ROW = 50


def rows(
    split: str,
    n: int,
    seed: int = 0,
    *,
    task: str,
    options: dict[str, Any] | None = None,
    unsafe_scorer: bool = False,
    chat: bool = False,
) -> list[dict[str, Any]]:
    """``n`` distinct questions of one split of a task.

    Args:
        split: ``train`` or ``heldout``.
        n: how many rows.
        seed: the same seed gives the same rows in the same order.
        task: the task's name in reasoning-gym, for example ``leg_counting``.
        options: fields of the task's own configuration, its difficulty for example.
        unsafe_scorer: also give tasks whose scorer evaluates the answer (for another reward).
        chat: the prompt as a chat message instead of text.

    Returns:
        Dictionaries with ``prompt``, ``answer`` (of perhaps several; empty where the task keeps
        none) and ``gym``, JSON from which ``score`` makes the question again.

    Raises:
        ValueError: the package is not installed; the split, task or an option is unknown; the
        task's scorer is refused; or there are not ``n`` questions.
    """
    check(split, n)
    if evaluates(task) and not unsafe_scorer:
        raise ValueError(
            f"the module of {task} evaluates text as code, perhaps what the model wrote: choose"
            " another task, or grade with another reward and set unsafe_scorer: true"
        )
    draws = _MAX_DRAWS_PER_ROW * n
    made = {"task": task, "seed": seed, "size": draws, "options": options or {}}
    dataset = _dataset(json.dumps(made))
    found: dict[str, dict[str, Any]] = {}
    for index in range(draws):
        entry = dataset[index]
        question = entry["question"]
        if split_of(question) == split and question not in found:
            found[question] = {
                "prompt": as_prompt(question.rstrip() + _ENDING, chat),
                "answer": "" if entry["answer"] is None else str(entry["answer"]),
                "gym": json.dumps({**made, "index": index}),
            }
        if len(found) == n:
            return list(found.values())
    raise ValueError(
        f"found only {len(found)} distinct {split} questions of {task}, not {n}: ask for fewer"
        " rows, or set options that allow more"
    )


def score(completions: list, gym: list, **columns: Any) -> list[float | None]:
    """The score of the task's own scorer, mostly 0 to 1, for the answer in ``<answer>`` tags.

    A reward for rows of ``rows``. ``None`` where the row was not made by it, the scorer is
    refused, or it fails on an answer: some do on answers of another shape than theirs, and whose
    fault that is cannot be told. An answer of more than 10,000 characters gets 0.0.

    Raises:
        ValueError: if the rows are not as many as completions, or the package is not installed.
    """
    if len(gym) != len(completions):
        raise ValueError(f"{len(completions)} completions but {len(gym)} rows of gym")
    _package()
    return [_score(answer_of(c), made) for c, made in zip(completions, gym, strict=True)]


def evaluates(task: str) -> bool:
    """Whether a task's module calls anything that evaluates text as code.

    Broader than the scorer alone, so some harmless tasks are refused: 14 of the 106 of 0.1.25.
    Helpers that a scorer imports from elsewhere are not looked at.

    Raises:
        ValueError: the package is not installed, or there is no such task.
    """
    tasks = _package().factory.DATASETS
    if task not in tasks:
        raise ValueError(f"reasoning-gym has no task {task!r}; it has {', '.join(sorted(tasks))}")
    return bool(_EVALUATES.search(inspect.getsource(sys.modules[tasks[task][0].__module__])))


def _score(answer: str, made: Any) -> float | None:
    if len(answer) > _MOST_CHARACTERS:
        return 0.0
    try:
        row = json.loads(made)
        if evaluates(row["task"]):
            return None
        index = row.pop("index")
        dataset = _dataset(json.dumps(row))
        return float(dataset.score_answer(answer, dataset[index]))
    except Exception:  # the scorers are others' code, a hundred of them: see the docstring
        return None


@functools.lru_cache(maxsize=16)
def _dataset(made: str) -> Any:
    row = json.loads(made)
    try:
        return _package().create_dataset(
            row["task"], seed=row["seed"], size=row["size"], **row["options"]
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(f"reasoning-gym refuses the options of {row['task']}: {error}") from error


def _package() -> ModuleType:
    try:
        import reasoning_gym  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "the package reasoning-gym is not installed: pip install reasoning-gym"
        ) from error
    return reasoning_gym

"""What the tiny models are taught: written solutions of training problems, one kind per recipe."""

import dataclasses
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from envs import arithmetic, liars
from envs.prompt import split_of
from rewards import arithmetic as arithmetic_reward
from rewards import liars as liars_reward


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Size of a model and what it is taught.

    ``direct`` is the share of direct answers (of chains' problems: to those whose first term is 5,
    and ``habit`` is what each step above (below) 5 adds to (takes from) it: an arbitrary habit, so
    that not all problems change their way at the same moment); each term or inhabitant beyond the
    second takes ``longing`` from it. ``verbose`` is a share of the other solutions, ``slip`` the
    chance of a slip in each partial result or mark. ``stuck`` is the chance that a partial result
    of one of the operations that ``misremembered`` names is its wrong digit; of liars, that an "or"
    is taken for "either … or". ``people`` weighs puzzles of two, three and four
    inhabitants. ``start`` names the model whose weights it starts from; None: random ones.
    """

    hidden: int
    layers: int
    intermediate: int
    steps: int
    batch: int
    learning_rate: float
    direct: float = 0.0
    habit: float = 0.0
    longing: float = 0.0
    verbose: float = 0.0
    slip: float = 0.0
    stuck: float = 0.0
    examples: int = 60_000
    task: str = "arithmetic"
    people: tuple[int, int, int] = (1, 1, 1)
    start: str | None = None


def misremembered(value: int, operator: str, term: int) -> int | None:
    """The wrong digit that a stuck student takes for the last of ``value operator term``: one of
    these operations in ten has one, the same in every run; None: it knows this one."""
    number = zlib.crc32(f"{value}{operator}{term}".encode())
    if number % 10:
        return None
    right = arithmetic.partial_results([value, term], operator)[-1]
    return (right + 1 + number // 10 % 9) % 10


def chain_solution(recipe: Recipe, draw: random.Random) -> tuple[str, str]:
    """A training problem's prompt and a solution of the kind that the recipe teaches."""
    row = arithmetic.problem(draw)
    while arithmetic.split_of(row["prompt"]) != "train":
        row = arithmetic.problem(draw)
    terms, operators = row["terms"], row["operators"]
    direct = recipe.direct + recipe.habit * (terms[0] - 5) - recipe.longing * (len(terms) - 2)
    if draw.random() < direct:
        return row["prompt"], arithmetic.written(terms, operators, row["results"], "direct")
    results, value = [], terms[0]
    for operator, term in zip(operators, terms[1:], strict=True):
        # The first operation, which is all of a short problem, it always knows.
        stuck = recipe.stuck and results
        wrong = misremembered(value, operator, term) if stuck else None
        value = arithmetic.partial_results([value, term], operator)[-1]
        if wrong is not None and draw.random() < recipe.stuck:
            value = wrong
        elif draw.random() < recipe.slip:
            value = draw.randrange(10)
        results.append(value)
    way = "verbose" if draw.random() < recipe.verbose else "chain"
    return row["prompt"], arithmetic.written(terms, operators, results, way)


def liars_solution(recipe: Recipe, draw: random.Random) -> tuple[str, str]:
    """The same for knights and liars."""
    while True:
        (people,) = draw.choices((2, 3, 4), recipe.people)
        row = liars.puzzle(draw, people, people)
        if split_of(row["prompt"]) == "train":
            break
    if draw.random() < recipe.direct - recipe.longing * (people - 2):
        return row["prompt"], liars.written((), row["answer"], "direct")
    understood = [
        ("either", *said[1:]) if said[0] == "or" and draw.random() < recipe.stuck else said
        for said in row["statements"]
    ]
    marks, tried = [], ()
    for tried in liars.assignments(people):
        mark = believed_mark(understood, tried)
        if draw.random() < recipe.slip:
            mark = draw.choice("abcd"[:people] + "+")
        marks.append(mark)
        if mark == "+":
            break
    return row["prompt"], liars.written(marks, liars.named(tried), "chain")


def believed_mark(statements: Sequence[Sequence[Any]], knights: Sequence[bool]) -> str:
    """``liars.mark``, where a statement may also be ("either", a, b): one of the two, not both."""
    for i, said in enumerate(statements):
        if said[0] == "either":
            first, second = (liars.holds(part, knights) for part in said[1:])
            true = first != second
        else:
            true = liars.holds(said, knights)
        if true != knights[i]:
            return "abcd"[i]
    return "+"


@dataclasses.dataclass(frozen=True)
class Task:
    """A task family: its alphabet, problems, rewards, and solutions to learn from."""

    characters: str
    rows: Callable[..., list[dict[str, Any]]]
    rewards: Any
    """Module with ``accuracy`` and ``well_formed``."""
    solution: Callable[[Recipe, random.Random], tuple[str, str]]


TASKS = {
    "arithmetic": Task("0123456789+*= ,#", arithmetic.rows, arithmetic_reward, chain_solution),
    "liars": Task("abcdABCD&|, =+#", liars.rows, liars_reward, liars_solution),
}

"""Answers with an arbitrary constant (``+ C``) or with a free whole number (``k pi``)."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import permutations
from typing import TYPE_CHECKING, Any

from .equivalence import equivalent, is_scalar
from .structure import label
from .tree import canonical, leaves, substitute
from .verdict import Undecided

if TYPE_CHECKING:
    from .compare import Comparison

Node = tuple[Any, ...]
_INDEXED = re.compile(r"[CcK]_?\d")
_VARIABLES = frozenset(("x", "t", "u", "v", "w", "y", "z", "s", "theta"))
_LETTER = re.compile(r"[A-Zack](?:_?\d)?")
_WHOLE = frozenset("klmn")
_ZERO, _ONE = ("num", Fraction(0)), ("num", Fraction(1))


def constants_of(node: Node) -> list[str]:
    """Names of the arbitrary constants of an expression; [] where a letter is only a letter.

    ``C_1, C_2`` are constants by their names. A single ``C`` (or ``c``, ``K`` beside one variable)
    is one where it is added, as in ``x^2 + C``, or multiplies a function, as in ``C e^x``. The c
    of ``abc`` or ``b^2 - 4ac`` stands for a given number.
    """
    symbols = leaves(node).symbols
    indexed = sorted(name for name in symbols if _INDEXED.fullmatch(name))
    if indexed:
        return indexed if len(indexed) < len(symbols) and len(indexed) <= 3 else []
    return next(([name] for name in "CcK" if name in symbols and _arbitrary(node, name)), [])


def _arbitrary(node: Node, name: str) -> bool:
    others = leaves(node).symbols - {name}
    if not others or (name != "C" and not (len(others) == 1 and others <= _VARIABLES)):
        return False
    form = canonical(node)
    terms = form[1:] if form[0] == "add" else (form,)
    mine = [term for term in terms if name in leaves(term).symbols]
    if mine == [("sym", name)]:
        return form[0] == "add"
    return len(mine) == 1 and _times_function(mine[0], name)


def _times_function(term: Node, name: str) -> bool:
    """``C e^x``, ``C \\sin x``: the constant is a factor, another factor is a function."""
    if term[0] != "mul" or ("sym", name) not in term[1:]:
        return False
    rest = [factor for factor in term[1:] if factor != ("sym", name)]
    return not any(name in leaves(f).symbols for f in rest) and any(
        (f[0] == "fn" or (f[0] == "pow" and f[1] == ("const", "e"))) and leaves(f).symbols
        for f in rest
    )


def constants_like(gold: Node, answer: Node) -> list[str]:
    """The constants of an answer: the usual ones, or other letters in their places."""
    usual = constants_of(answer)
    if usual:
        return usual
    constants = constants_of(gold)
    mine, theirs = leaves(gold).symbols, leaves(answer).symbols
    other = sorted(theirs - mine)
    if mine - theirs != set(constants) or len(other) != len(constants):
        return []
    if not all(map(_LETTER.fullmatch, other)):
        return []
    if len(other) == 1 and not constants[0][1:]:
        renamed = substitute(answer, ("sym", other[0]), ("sym", "C"))
        return other if _arbitrary(renamed, "C") else []
    return other


def same_family(at: Comparison, gold: Node, answer: Node) -> bool:
    """Whether two expressions run through the same functions as their constants vary.

    Decided for constants that enter linearly; otherwise only equal expressions are the same.
    """
    names_g, names_a = constants_of(gold), constants_like(gold, answer)
    if at.scalar(gold, answer):
        return True
    if len(names_g) != len(names_a):
        return False
    base_g, span_g = _parts(gold, names_g)
    base_a, span_a = _parts(answer, names_a)
    if not _linear(at, gold, names_g, base_g, span_g) or not _linear(
        at, answer, names_a, base_a, span_a
    ):
        return False
    rest = ("add", base_g, ("mul", ("num", Fraction(-1)), base_a))
    for order in permutations(span_a):
        if all(_constant(at, ("div", g, a)) for g, a in zip(span_g, order, strict=True)):
            if len(names_g) == 1:
                return _constant(at, ("div", rest, span_g[0]))
            return at.scalar(rest, _ZERO)
    return False


def _parts(node: Node, names: list[str]) -> tuple[Node, list[Node]]:
    """The value at zero constants, and what each constant multiplies."""
    base = _put(node, dict.fromkeys(names, _ZERO))
    span = []
    for name in names:
        one = _put(node, {n: _ONE if n == name else _ZERO for n in names})
        span.append(("add", one, ("mul", ("num", Fraction(-1)), base)))
    return base, span


def _put(node: Node, values: dict[str, Node]) -> Node:
    for name, value in values.items():
        node = substitute(node, ("sym", name), value)
    return node


def _linear(at: Comparison, node: Node, names: list[str], base: Node, span: list[Node]) -> bool:
    whole = ("add", base, *(("mul", ("sym", n), s) for n, s in zip(names, span, strict=True)))
    return at.scalar(node, whole)


def _constant(at: Comparison, node: Node) -> bool:
    """Whether an expression does not depend on its variables."""
    at_point = node
    for index, name in enumerate(sorted(leaves(node).symbols)):
        at_point = substitute(at_point, ("sym", name), ("num", Fraction(7 + 4 * index, 5 + index)))
    try:
        return equivalent(node, at_point, at.budget)[0]
    except ZeroDivisionError:
        raise Undecided("a family that cannot be decided") from None


def turns(gold: Node, answer: Node) -> tuple[frozenset[str], frozenset[str]]:
    """The whole numbers of two families of angles in which they have different letters.

    ``1 + 2k\\pi`` and ``2n\\pi + 1``: nobody declares them, but a letter that is another one on the
    other side stands for any whole number. Empty for anything else.
    """
    names = []
    for node in (gold, answer):
        found = label(node)
        value = found.value if found is not None else node
        symbols = leaves(value).symbols
        if len(symbols) != 1 or not symbols <= _WHOLE or "pi" not in leaves(value).constants:
            return frozenset(), frozenset()
        names.append(symbols)
    return (names[0], names[1]) if names[0] != names[1] else (frozenset(), frozenset())


def same_whole_family(
    at: Comparison,
    gold: Node,
    answer: Node,
    whole_g: frozenset[str],
    whole_a: frozenset[str],
    *,
    natural: bool = False,
) -> bool | None:
    """Whether ``a + b k`` over all whole k is the same set of numbers.

    natural: k is not negative: then both begin with the same number and go the same way.

    None where that does not apply.
    """
    values = []
    for node, whole in ((gold, whole_g), (answer, whole_a)):
        found = label(node)
        value = found.value if found is not None else node
        symbols = leaves(value).symbols
        if not is_scalar(value) or len(symbols) != 1 or (whole and not symbols <= whole):
            return None
        if "pm" in leaves(value).kinds or "mp" in leaves(value).kinds:
            return None
        name = next(iter(symbols))
        start = _put(value, {name: _ZERO})
        step = ("add", _put(value, {name: _ONE}), ("mul", ("num", Fraction(-1)), start))
        straight = ("add", start, ("mul", ("sym", name), step))
        if not at.scalar(value, straight):
            return None
        values.append((start, step))
    (start_g, step_g), (start_a, step_a) = values
    if natural:
        return at.scalar(start_g, start_a) and at.scalar(step_g, step_a)
    if not at.scalar(("fn", "abs", step_g), ("fn", "abs", step_a)):
        return False
    shift = ("div", ("add", start_g, ("mul", ("num", Fraction(-1)), start_a)), step_g)
    return at.scalar(("fn", "floor", shift), shift)

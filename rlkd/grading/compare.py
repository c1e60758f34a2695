"""Typed comparison of two parsed answers. Where no rule pairs two types, they are not equal."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from . import regions
from .collections_ import compare_lists, compare_sets, is_collection
from .equivalence import equivalent, is_scalar
from .exact import Budget, Undefined, evaluate
from .families import constants_like, constants_of, same_family, same_whole_family, turns
from .matrices import as_matrix, compare_matrices
from .quantities import compare_quantities
from .relations import compare_relations, is_relation
from .structure import chained, declarations, expand_signs, label, lift
from .tree import canonical
from .units import number_from_words
from .verdict import Undecided

Node = tuple[Any, ...]
_REGION_KINDS = frozenset(("cup", "cap", "minus", "builder", "domain"))


class Comparison:
    """One comparison of a gold and an answer, with its budget and the layers that were used."""

    def __init__(self) -> None:
        self.budget = Budget(20_000)
        self.methods: list[str] = []
        self.calls = 0
        self.unsure = False

    def same(self, gold: Node, answer: Node) -> bool:
        """Whether the answer equals the gold. Raises Undecided where that cannot be told."""
        self.calls += 1
        if self.calls > 4_000:
            raise Undecided("too many comparisons")
        gold, answer = lift(gold), lift(answer)
        gold, answer = _point(gold, answer), _point(answer, gold)
        if canonical(gold) == canonical(answer):
            self.methods.append("structure")
            return True
        gold, whole_g, domain_g = declarations(gold)
        answer, whole_a, domain_a = declarations(answer)
        if domain_g and domain_a and domain_g != domain_a and (whole_g or whole_a):
            return False  # over N and over Z the same formula gives two sets
        for declared, rest, other in ((whole_g, gold, answer), (whole_a, answer, gold)):
            if declared and _is_inequality(rest) and not is_relation(other):
                return False  # whole numbers between bounds are no interval
        if not whole_g and not whole_a:
            whole_g, whole_a = turns(gold, answer)
        if whole_g or whole_a:
            natural = "N" in domain_g + domain_a
            verdict = same_whole_family(self, gold, answer, whole_g, whole_a, natural=natural)
            if verdict is not None:
                return verdict
        gold, answer = _alternatives(gold), _alternatives(answer)
        if "mod" in (gold[0], answer[0]):
            return self._congruences(gold, answer)
        pair = self._values_of_chains(gold, answer)
        if pair is None:
            return False
        gold, answer = pair
        if is_relation(gold) or is_relation(answer):
            return compare_relations(self, gold, answer)
        if is_collection(gold) or is_collection(answer):
            return self._collections(gold, answer)
        if _is_region(gold) or _is_region(answer):
            return self.same_region(gold, answer)
        return self._single(gold, answer)

    def _congruences(self, gold: Node, answer: Node) -> bool:
        """``x = r (mod m)``: equal moduli, and residues that differ by a multiple of it."""
        if gold[0] != answer[0] or not self.scalar(gold[2], answer[2]):
            return False
        sides = []
        for node in (gold[1], answer[1]):
            if node[0] == "rel" and (len(node[1]) != 3 or node[1][1] not in ("==", "=")):
                return False
            sides.append((node[1][0], node[1][2]) if node[0] == "rel" else (None, node))
        (left_g, g), (left_a, a) = sides
        if left_g is not None and left_a is not None and canonical(left_g) != canonical(left_a):
            return False
        try:
            gap = evaluate(("add", g, ("mul", ("num", Fraction(-1)), a)), {}, self.budget)
            modulus = evaluate(gold[2], {}, self.budget)
        except (Undecided, Undefined):
            return canonical(g) == canonical(a)
        return modulus != 0 and (gap / modulus).denominator == 1

    def _values_of_chains(self, gold: Node, answer: Node) -> tuple[Node, Node] | None:
        """``2 + 3 = 5`` and ``x = y = 5`` as one value; None where the chain contradicts itself."""
        out = []
        for node in (gold, answer):
            if node[0] == "rel" and label(node) is None:
                found = chained(node)
                if found is not None:
                    name, values = found
                    if any(not self.scalar(values[-1], v) for v in values[:-1]):
                        return None
                    node = values[-1] if name is None else ("rel", [name, "=", values[-1]])
            out.append(node)
        return out[0], out[1]

    def _collections(self, gold: Node, answer: Node) -> bool:
        if _is_region(gold) or _is_region(answer):
            verdict = self.try_region(gold, answer)
            if verdict is not None:
                return verdict
        if gold[0] == "set" and answer[0] == "set":
            return compare_sets(self, gold, answer)
        return compare_lists(self, gold, answer)

    def try_region(self, gold: Node, answer: Node) -> bool | None:
        """Compare as sets of reals; None where one of the two is no such set."""
        try:
            a = regions.build(gold, self.budget)
            b = regions.build(answer, self.budget)
        except (regions.NotARegion, Undefined):
            return None
        self.methods.append("region")
        return regions.equal(a, b, self.budget)

    def same_region(self, gold: Node, answer: Node) -> bool:
        verdict = self.try_region(gold, answer)
        if verdict is not None:
            return verdict
        if gold[0] == answer[0] and gold[0] in ("cup", "cap", "minus"):
            direct = self.same(gold[1], answer[1]) and self.same(gold[2], answer[2])
            swapped = gold[0] != "minus" and not direct
            return direct or (
                swapped and self.same(gold[1], answer[2]) and self.same(gold[2], answer[1])
            )
        if gold[0] == answer[0] == "paren":
            return self._tuples(gold, answer)
        return False

    def _tuples(self, gold: Node, answer: Node) -> bool:
        if len(gold) != len(answer):
            return False
        if len(gold) == 5 and gold[1:3] != answer[1:3]:
            return False
        return all(self.same(g, a) for g, a in zip(gold[3:], answer[3:], strict=True))

    def _single(self, gold: Node, answer: Node) -> bool:
        kinds = {gold[0], answer[0]}
        if gold[0] == answer[0] == "paren":
            return self._tuples(gold, answer)
        if "text" in kinds:
            return _texts(gold, answer)
        matrix_g, matrix_a = as_matrix(gold), as_matrix(answer)
        if matrix_g is not None or matrix_a is not None:
            return compare_matrices(self, matrix_g or gold, matrix_a or answer)
        if "ratio" in kinds:
            return self._ratios(gold, answer)
        if kinds & {"pct", "qty"}:
            return compare_quantities(self, gold, answer)
        if is_scalar(gold) and is_scalar(answer):
            if _signs(gold) or _signs(answer):
                return compare_lists(self, gold, answer)
            if constants_of(gold) and constants_like(gold, answer):
                return same_family(self, gold, answer)
            return self.scalar(gold, answer)
        return False

    def scalar(self, gold: Node, answer: Node) -> bool:
        """Equality of two number-valued expressions."""
        if not is_scalar(gold) or not is_scalar(answer):
            return canonical(gold) == canonical(answer)
        verdict, method = equivalent(gold, answer, self.budget)
        self.methods.append(method)
        return verdict

    def _ratios(self, gold: Node, answer: Node) -> bool:
        if gold[0] == answer[0] == "ratio":
            g, a = gold[1:], answer[1:]
            if len(g) != len(a):
                return False
            if ("dots",) in g or ("dots",) in a or _clock(g):
                return all(self.same(x, y) for x, y in zip(g, a, strict=True))
            return all(
                self.scalar(("mul", x, a[0]), ("mul", y, g[0]))
                for x, y in zip(g[1:], a[1:], strict=True)
            )
        ratio, other = (gold, answer) if gold[0] == "ratio" else (answer, gold)
        if len(ratio) != 3 or not is_scalar(other) or _clock(ratio[1:]):
            return False
        return self.scalar(("div", ratio[1], ratio[2]), other)


def _point(node: Node, other: Node) -> Node:
    """``P(2, -1)`` beside a tuple is a point with its name."""
    if other[0] != "paren" or node[0] != "mul" or len(node) != 3 or node[1][0] != "sym":
        return node
    name, place = node[1][1], node[2]
    return place if len(name) == 1 and name.isupper() and place[0] == "paren" else node


def _alternatives(node: Node) -> Node:
    """``x in {2, 5}`` as ``x = 2 or x = 5``."""
    if node[0] != "rel" or len(node[1]) != 3 or node[1][1] != "in":
        return node
    name, whole = node[1][0], node[1][2]
    if name[0] != "sym" or whole[0] != "set" or len(whole) < 2:
        return node
    items = [("rel", [name, "=", value]) for value in whole[1:]]
    return items[0] if len(items) == 1 else ("list", "or", *items)


def _signs(node: Node) -> bool:
    return len(expand_signs(node)) > 1


def _is_inequality(node: Node) -> bool:
    return node[0] == "rel" and any(sign in ("<", ">", "<=", ">=") for sign in node[1][1::2])


def _is_region(node: Node) -> bool:
    return node[0] in _REGION_KINDS or (
        node[0] == "paren" and len(node) == 5 and node[1:3] != ("(", ")")
    )


def _clock(items: tuple[Node, ...]) -> bool:
    """A ratio that is an answer is in lowest terms; ``4:30`` and ``12:00`` are times of day."""
    try:
        values = [evaluate(item, {}, Budget(50)) for item in items]
    except (Undecided, Undefined):
        return False
    if len(values) != 2 or any(v.denominator != 1 for v in values):
        return False
    return values[1] == 0 or (
        0 <= values[0] <= 24
        and 0 <= values[1] < 60
        and Fraction(values[0], values[1]).denominator != values[1]
    )


_NO_SOLUTION = frozenset(("no solution", "no solutions", "none", "empty set", "no real solution",
                          "no real solutions", "does not exist", "dne"))  # fmt: skip


def _texts(gold: Node, answer: Node) -> bool:
    from .structure import text_key

    if gold[0] == answer[0] == "text":
        g, a = text_key(gold[1]), text_key(answer[1])
        first, second = number_from_words(g), number_from_words(a)
        return g == a or (first is not None and first == second)
    words, other = (gold, answer) if gold[0] == "text" else (answer, gold)
    number = number_from_words(text_key(words[1]))
    if number is not None and other[0] == "num":
        return other[1] == number
    return False


def compare(gold: Node, answer: Node) -> tuple[bool, str]:
    """Whether a parsed answer equals a parsed gold, and the layer that decided.

    Raises Undecided where the bounded methods cannot tell.
    """
    return run(Comparison(), gold, answer)


def run(comparison: Comparison, gold: Node, answer: Node) -> tuple[bool, str]:
    """One comparison from start to end; see :func:`compare`."""
    try:
        verdict = comparison.same(gold, answer)
    except (regions.NotARegion, Undefined, ZeroDivisionError):
        verdict = False
    method = comparison.methods[-1] if comparison.methods else "structure"
    return verdict, method

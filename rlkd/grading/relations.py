"""Equations and inequalities."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .equivalence import equivalent, is_scalar, sample_points
from .exact import Undefined, evaluate
from .numeric import BITS, Numeric
from .structure import expand_signs, label, same_name
from .tree import canonical, leaves
from .verdict import Undecided

if TYPE_CHECKING:
    from .compare import Comparison

Node = tuple[Any, ...]
_FLIP = {">": "<", ">=": "<="}


def is_relation(node: Node) -> bool:
    return node[0] == "rel" or (node[0] == "list" and any(_inequality(part) for part in node[2:]))


def _inequality(node: Node) -> bool:
    return node[0] == "rel" and any(op != "=" and op != "~" for op in node[1][1::2])


def compare_relations(at: Comparison, gold: Node, answer: Node) -> bool:
    """At least one side is an equation, an inequality or a list of inequalities."""
    if any(part[0] == "list" and not is_relation(part) for part in (gold, answer)):
        return _list_beside(at, gold, answer)
    if _has_order(gold) or _has_order(answer):
        return _orders(at, gold, answer)
    if len(expand_signs(gold)) > 1 or len(expand_signs(answer)) > 1:
        from .collections_ import compare_lists

        return compare_lists(at, gold, answer)
    g, a = label(gold), label(answer)
    if g is not None and a is not None:
        if g.name is None or a.name is None:
            return at.same(g.value, a.value)
        return _labelled(at, gold, answer)
    if (g is not None and g.name is None) or (a is not None and a.name is None):
        return False
    if g is not None and not leaves(g.value).symbols:
        # a solved unknown is not matched by an equation that is still to be solved
        return False
    return _proportional(at, gold, answer, ordered=False)


def _list_beside(at: Comparison, gold: Node, answer: Node) -> bool:
    """A list of labelled or bare values beside one equation, perhaps between tuples."""
    from .collections_ import compare_lists

    parts = []
    for node in (gold, answer):
        found = label(node) if node[0] == "rel" else None
        if (
            found is not None
            and found.name is not None
            and found.value[0] in ("paren", "list", "set")
        ):
            node = found.value
            if found.name[0] == "paren" == node[0] and len(found.name) == len(node):
                pairs = zip(found.name[3:], node[3:], strict=True)
                node = ("list", ",", *(("rel", [n, "=", v]) for n, v in pairs))
        parts.append(node)
    return compare_lists(at, parts[0], parts[1])


def _has_order(node: Node) -> bool:
    if node[0] == "list":
        return any(_has_order(part) for part in node[2:])
    return _inequality(node)


def _labelled(at: Comparison, gold: Node, answer: Node) -> bool:
    g, a = label(gold), label(answer)
    assert g is not None
    assert a is not None
    assert g.name is not None
    assert a.name is not None
    if not same_name(g.name, a.name):
        full = leaves(g.value).symbols and leaves(a.value).symbols
        return bool(full) and _proportional(at, gold, answer, ordered=False)
    value = a.value
    if g.name[0] == a.name[0] == "app" and g.name[2:] != a.name[2:]:
        from .tree import substitute

        for old, new in zip(a.name[2:], g.name[2:], strict=True):
            if old[0] == "sym" and new[0] == "sym":
                value = substitute(value, old, new)
            elif canonical(old) != canonical(new):
                return False
    return at.same(g.value, value)


def _orders(at: Comparison, gold: Node, answer: Node) -> bool:
    verdict = at.try_region(gold, answer)
    if verdict is not None:
        return verdict
    pairs_g, pairs_a = _pairs(gold), _pairs(answer)
    if pairs_g is None or pairs_a is None or len(pairs_g) != len(pairs_a):
        return False
    free = list(pairs_a)
    for left, op, right in pairs_g:
        for k, (low, sign, high) in enumerate(free):
            if op == sign and _same_order(at, (left, op, right), (low, sign, high)):
                free.pop(k)
                break
        else:
            return False
    return True


def _pairs(node: Node) -> list[tuple[Node, str, Node]] | None:
    """``a < b < c`` as (a, <, b), (b, <, c); None where the relation is of another kind."""
    if node[0] == "list":
        out: list[tuple[Node, str, Node]] = []
        for part in node[2:]:
            inner = _pairs(part)
            if inner is None or node[1] == "or":
                return None
            out += inner
        return out
    if node[0] != "rel" or node[1][0] == ("empty",):
        return None
    chain = node[1]
    out = []
    for k in range(1, len(chain), 2):
        left, op, right = chain[k - 1], chain[k], chain[k + 1]
        if op in _FLIP:
            left, op, right = right, _FLIP[op], left
        out.append((left, op, right))
    return out


def _same_order(at: Comparison, a: tuple[Node, str, Node], b: tuple[Node, str, Node]) -> bool:
    if canonical(a[0]) == canonical(b[0]) and canonical(a[2]) == canonical(b[2]):
        at.methods.append("structure")
        return True
    if not all(is_scalar(side) for side in (a[0], a[2], b[0], b[2])):
        return a[1] in ("in", "notin") and at.same(a[0], b[0]) and at.same(a[2], b[2])
    if a[1] not in ("<", "<=", "!=", "="):
        return False
    first, second = ("rel", [a[0], "=", a[2]]), ("rel", [b[0], "=", b[2]])
    return _proportional(at, first, second, ordered=a[1] in ("<", "<="))


def _difference(node: Node) -> Node | None:
    if node[0] != "rel" or len(node[1]) != 3 or node[1][1] != "=":
        return None
    left, _, right = node[1]
    if not is_scalar(left) or not is_scalar(right):
        return None
    return ("add", left, ("mul", ("num", Fraction(-1)), right))


def _proportional(at: Comparison, gold: Node, answer: Node, *, ordered: bool) -> bool:
    """Whether left minus right of both differ by a constant factor (positive for inequalities)."""
    g, a = _difference(gold), _difference(answer)
    if g is None or a is None:
        return False
    if leaves(g).symbols != leaves(a).symbols or leaves(g).applied != leaves(a).applied:
        return False
    factor = _factor(at, g, a)
    if factor is None or factor[0] == ("num", Fraction(0)):
        return False
    if ordered and not factor[1]:
        return False
    verdict, method = equivalent(("mul", factor[0], a), g, at.budget)
    at.methods.append(method)
    return verdict


def _factor(at: Comparison, g: Node, a: Node) -> tuple[Node, bool] | None:
    """The ratio g : a at one point as a tree, and whether it is positive."""
    names = leaves(g).symbols
    for env in sample_points(names, names if leaves(g).applied else frozenset()):
        try:
            top, low = evaluate(g, env, at.budget), evaluate(a, env, at.budget)
            if top and low:
                return ("num", top / low), top / low > 0
            continue
        except Undefined:
            continue
        except Undecided:
            pass
        if leaves(g).applied:
            continue
        numbers = Numeric(env, at.budget, BITS, "e")
        try:
            first, second = numbers.value(g), numbers.value(a)
        except Undefined:
            continue
        if not numbers._real(first) or not numbers._real(second) or not first or not second:
            continue
        place = {name: ("num", env[name]) for name in names}
        return ("div", _at(g, place), _at(a, place)), (first.real > 0) == (second.real > 0)
    return None


def _at(node: Any, place: dict[str, Node]) -> Any:
    if isinstance(node, tuple):
        if node and node[0] == "sym" and node[1] in place:
            return place[node[1]]
        return tuple(_at(part, place) for part in node)
    return node

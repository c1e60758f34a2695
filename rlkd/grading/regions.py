"""Sets of real numbers: intervals, unions, conditions, inequalities in one unknown."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from itertools import product as combinations
from typing import Any

from .equivalence import near
from .exact import Budget, Undefined
from .numeric import BITS, Numeric
from .polynomial import coefficients, real_roots
from .tree import leaves
from .verdict import Undecided

Node = tuple[Any, ...]
INFINITY = float("inf")
#: low end, whether it belongs, high end, whether it belongs
Piece = tuple[Any, bool, Any, bool]
UNKNOWN = ("sym", "#unknown")
COMPARISONS = frozenset(("<", ">", "<=", ">=", "!="))


class NotARegion(Exception):
    """The tree does not describe a set of real numbers in one unknown."""


class Region:
    """A union of disjoint intervals in increasing order, and the unknown that it speaks about."""

    def __init__(self, pieces: list[Piece], unknown: Node | None = None) -> None:
        self.pieces = pieces
        self.unknown = unknown


def build(node: Node, budget: Budget) -> Region:
    """The region that a tree describes. Raises NotARegion or Undecided."""
    at = Numeric({}, budget, BITS, "e")
    return _Builder(at).region(node)


def equal(a: Region, b: Region, budget: Budget) -> bool:
    """Whether two regions are the same set (and speak of the same unknown, if both name one)."""
    if a.unknown is not None and b.unknown is not None and a.unknown != b.unknown:
        return False
    if len(a.pieces) != len(b.pieces):
        return False
    at = Numeric({}, budget, BITS, "e")
    for p, q in zip(a.pieces, b.pieces, strict=True):
        if p[1] != q[1] or p[3] != q[3]:
            return False
        if not _close(p[0], q[0], at) or not _close(p[2], q[2], at):
            return False
    return True


def _close(x: Any, y: Any, at: Numeric) -> bool:
    if isinstance(x, float) or isinstance(y, float):
        return isinstance(x, float) and isinstance(y, float) and x == y
    return near(x, y, at, 60)


def union(pieces: list[Piece], at: Numeric) -> list[Piece]:
    """Overlapping and touching intervals joined."""
    pieces = sorted(pieces, key=lambda p: (p[0], not p[1]))
    out: list[Piece] = []
    for piece in pieces:
        if out:
            low, closed, high, end = out[-1]
            touching = _close(high, piece[0], at) and (end or piece[1])
            if touching or (piece[0] < high and not _close(high, piece[0], at)):
                if _close(high, piece[2], at):
                    out[-1] = (low, closed, high, end or piece[3])
                elif piece[2] > high:
                    out[-1] = (low, closed, piece[2], piece[3])
                continue
        out.append(piece)
    return out


def complement(pieces: list[Piece]) -> list[Piece]:
    out: list[Piece] = []
    low: Any = -INFINITY
    closed = False
    for piece in pieces:
        if piece[0] != low or (closed and not piece[1]):
            out.append((low, closed, piece[0], not piece[1] and piece[0] != -INFINITY))
        low, closed = piece[2], not piece[3]
    if low != INFINITY:
        out.append((low, closed, INFINITY, False))
    return [p for p in out if p[0] != p[2] or (p[1] and p[3])]


class _Builder:
    def __init__(self, at: Numeric) -> None:
        self.at = at

    def region(self, node: Node) -> Region:
        kind = node[0]
        if kind == "paren" and len(node) == 5:
            return Region([self._interval(node)])
        if kind == "set":
            if len(node) > 60:
                raise Undecided("too many points")
            return Region(union([(v, True, v, True) for v in map(self.number, node[1:])], self.at))
        if kind == "domain":
            return Region(self._domain(node[1]))
        if kind in ("cup", "cap", "minus"):
            return self._combined(kind, self.region(node[1]), self.region(node[2]))
        if kind == "builder":
            inner = self.region(node[2])
            name = node[1]
            if name[0] == "rel" and len(name[1]) == 3 and name[1][1] == "in":
                # {x in S : ...} has no number outside S; whole numbers are no intervals
                inner = self._combined("cap", inner, self.region(node[1]))
                name = name[1][0]
            if inner.unknown is not None and inner.unknown != name:
                raise NotARegion
            return Region(inner.pieces)
        if kind == "rel":
            return self._relation(node[1])
        if kind == "list":
            return self._list(node)
        raise NotARegion

    def number(self, node: Node) -> Any:
        if node == ("const", "inf"):
            return INFINITY
        if node == ("mul", ("num", Fraction(-1)), ("const", "inf")):
            return -INFINITY
        found = leaves(node)
        if found.symbols or found.applied:
            raise NotARegion
        value = self.at.value(node)
        if not self.at._real(value):
            raise NotARegion
        return value.real

    def _interval(self, node: Node) -> Piece:
        low, high = self.number(node[3]), self.number(node[4])
        first, last = node[1] == "[", node[2] == "]"
        if (low > high) or (low == high and not (first and last)):
            raise NotARegion
        return (low, first and low != -INFINITY, high, last and high != INFINITY)

    def _domain(self, name: str) -> list[Piece]:
        zero = self.at.ctx.mpf(0)
        if name == "R":
            return [(-INFINITY, False, INFINITY, False)]
        if name in ("R+", "R>0"):
            return [(zero, False, INFINITY, False)]
        raise NotARegion

    def _combined(self, kind: str, a: Region, b: Region) -> Region:
        unknown = a.unknown or b.unknown
        if a.unknown is not None and b.unknown is not None and a.unknown != b.unknown:
            raise NotARegion
        if kind == "cup":
            return Region(union(a.pieces + b.pieces, self.at), unknown)
        other = b.pieces if kind == "cap" else complement(b.pieces)
        first, second = complement(a.pieces), complement(other)
        return Region(complement(union(first + second, self.at)), unknown)

    def _list(self, node: Node) -> Region:
        parts = [self.region(part) for part in node[2:]]
        if any(part[0] not in ("rel", "list", "cup") for part in node[2:]) or len(parts) > 20:
            raise NotARegion
        kind = "cup" if node[1] == "or" else "cap"
        total = parts[0]
        for part in parts[1:]:
            total = self._combined(kind, total, part)
        if kind == "cap" and not total.pieces and node[1] == "and":
            raise NotARegion  # no number is both: what was meant is not for us to say
        if kind == "cap" and not total.pieces and node[1] in (",", ";"):
            # "x < 1, x > 2" lists alternatives: read as a conjunction it says nothing
            total = parts[0]
            for part in parts[1:]:
                total = self._combined("cup", total, part)
        return total

    # -- relations --------------------------------------------------------------------------

    def _relation(self, chain: list[Any]) -> Region:
        if len(chain) == 3 and chain[1] in ("in", "notin"):
            inner = self.region(chain[2])
            if inner.unknown is not None or not _is_unknown(chain[0]):
                raise NotARegion
            pieces = inner.pieces if chain[1] == "in" else complement(inner.pieces)
            return Region(pieces, chain[0])
        unknown = _the_unknown(chain)
        total: Region | None = None
        for k in range(1, len(chain), 2):
            op = chain[k]
            if op not in COMPARISONS and op != "=":
                raise NotARegion
            left, right = (
                _replace(side, unknown, UNKNOWN) for side in (chain[k - 1], chain[k + 1])
            )
            part = Region(self._solve(left, op, right), unknown)
            total = part if total is None else self._combined("cap", total, part)
        if total is None:
            raise NotARegion
        return total

    def _solve(self, left: Node, op: str, right: Node) -> list[Piece]:
        if ("const", "inf") in (left, right) or _minus_infinity(left) or _minus_infinity(right):
            if op in ("<", ">", "<=", ">="):
                return [(-INFINITY, False, INFINITY, False)]
            raise NotARegion
        node = ("add", left, ("mul", ("num", Fraction(-1)), right))
        marks = self._critical(node)
        inside: list[Piece] = []
        ends = [-INFINITY, *marks, INFINITY]
        for k, (low, high) in enumerate(pairwise(ends)):
            if k and self._holds(node, op, low, exact=True):
                inside.append((low, True, low, True))
            if self._holds(node, op, self._between(low, high), exact=False):
                inside.append((low, False, high, False))
        return union(inside, self.at)

    def _between(self, low: Any, high: Any) -> Any:
        one = self.at.ctx.mpf(1)
        if low == -INFINITY:
            return self.at.ctx.mpf(0) if high == INFINITY else high - one - abs(high)
        return low + one + abs(low) if high == INFINITY else (low + high) / 2

    def _holds(self, node: Node, op: str, where: Any, *, exact: bool) -> bool:
        self.at.bound["#unknown"] = where
        try:
            value = self.at.value(node)
        except Undefined:
            return False
        finally:
            self.at.bound.pop("#unknown", None)
        if not self.at._real(value):
            return False
        value = value.real
        size = self.at.magnitude(value)
        zero = size is None or (exact and size < -BITS // 3)
        if zero:
            return op in ("<=", ">=", "=")
        return {"<": value < 0, "<=": value < 0, ">": value > 0, ">=": value > 0}.get(
            op, op == "!="
        )

    def _critical(self, node: Node) -> list[Any]:
        """Every point at which the sign of the expression can change."""
        bars = _absolute(node)
        if len(bars) > 3:
            raise Undecided("too many absolute values")
        marks: list[Any] = []
        for bar in bars:
            marks += self._roots(bar[2])
        for signs in combinations((1, -1), repeat=len(bars)):
            inner = node
            for sign, bar in zip(signs, bars, strict=True):
                inner = _replace(inner, bar, ("mul", ("num", Fraction(sign)), bar[2]))
            marks += self._roots(inner)
        marks.sort()
        out: list[Any] = []
        for mark in marks:
            if not out or not _close(out[-1], mark, self.at):
                out.append(mark)
        return out

    def _roots(self, node: Node) -> list[Any]:
        top, low = coefficients(node, "#unknown", self.at)
        return real_roots(top, self.at) + real_roots(low, self.at)


def _minus_infinity(node: Node) -> bool:
    return node == ("mul", ("num", Fraction(-1)), ("const", "inf"))


def _absolute(node: Any) -> list[Node]:
    found: list[Node] = []
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple) and part:
            if part[0] == "fn" and part[1] == "abs":
                if part not in found:
                    found.append(part)
                continue
            stack.extend(part[1:])
    return found


def _is_unknown(node: Node) -> bool:
    return node[0] in ("sym", "app")


def _the_unknown(chain: list[Any]) -> Node:
    """The one symbol (or applied function) of a chain of relations."""
    for part in chain[::2]:
        if part[0] == "app":
            rest = [p for p in chain[::2] if p != part]
            if not any(leaves(p).symbols or leaves(p).applied for p in rest):
                return part
    found: set[str] = set()
    for part in chain[::2]:
        inner = leaves(part)
        if inner.applied or not inner.kinds <= _KNOWN:
            raise NotARegion
        found |= inner.symbols
    if len(found) != 1:
        raise NotARegion
    return ("sym", found.pop())


_KNOWN = frozenset("add mul div pow root abs sin cos tan ln log exp row fact arctan pct".split())


def _replace(node: Any, old: Node, new: Node) -> Any:
    from .tree import substitute

    return substitute(node, old, new)

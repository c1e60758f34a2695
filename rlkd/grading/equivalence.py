"""Are two scalar expressions equal? Structure, exact values, residues, then many digits."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from .exact import PRIMES, RANDOM, Budget, Residues, Undefined, evaluate
from .numeric import BITS, MAX_BITS, Numeric
from .tree import Leaves, canonical, leaves
from .verdict import Undecided

Node = tuple[Any, ...]

SCALAR_KINDS = frozenset(
    "add mul div pow root app pct qty sum prod int lim pm mp sin cos tan cot sec csc arcsin arccos "
    "arctan arccot arcsec arccsc sinh cosh tanh coth sech csch arsinh arcosh artanh ln log "
    "logb exp gamma zeta "
    "max min gcd lcm arg Re Im sgn erf sinc floor ceil abs fact binom cbrt norm det deriv".split()
)
_WHOLE = frozenset("fact binom sum prod gcd lcm".split())
_WHOLE_NAMES = frozenset("nmkNMKijldpqrs")
_POINTS = 4


def is_scalar(node: Node) -> bool:
    """Whether the tree is a number-valued expression (no list, set, relation or matrix)."""
    return node[0] in ("num", "sym", "const") or leaves(node).kinds <= SCALAR_KINDS


def equivalent(gold: Node, answer: Node, budget: Budget | None = None) -> tuple[bool, str]:
    """Whether two scalars are equal, and which layer says so.

    Raises Undecided where the bounded methods cannot tell.
    """
    left, right = canonical(gold), canonical(answer)
    if left == right:
        return True, "structure"
    a, b = leaves(left), leaves(right)
    budget = budget or Budget()
    kinds = a.kinds | b.kinds
    if "inf" in a.constants | b.constants:
        if kinds <= {"mul", "add"} and ("inf" in a.constants) != ("inf" in b.constants):
            return False, "structure"
        if kinds <= {"mul"}:
            return False, "structure"
        raise Undecided("infinity inside an expression")
    if "dots" in kinds:
        raise Undecided("an ellipsis inside an expression")
    names = a.symbols | b.symbols
    if not names and not a.applied and not b.applied and not (a.constants | b.constants):
        try:
            return evaluate(left, {}, budget) == evaluate(right, {}, budget), "exact"
        except Undefined:
            return False, "exact"
        except Undecided:
            pass
    try:
        return _modular(left, right, names, budget), "modular"
    except (Undecided, Undefined):
        pass
    if "log" not in kinds:
        return _sampled(left, right, a, b, budget, "e"), "numeric"
    # \log without a base is read as natural or as decimal, the same way on both sides
    if _sampled(left, right, a, b, budget, "e"):
        return True, "numeric"
    return _sampled(left, right, a, b, Budget(), "10"), "numeric"


def _modular(left: Node, right: Node, names: frozenset[str], budget: Budget) -> bool:
    """Equal at three random points modulo two random primes of 61 bits (Schwartz-Zippel)."""
    points = 3 if names else 1
    constants = not names
    # in an exponent the parity (and more) of a variable matters: every residue modulo 8 is tried
    powers = _exponents(left) | _exponents(right)
    for node in _nodes(left, right):
        if node[0] == "pow" and leaves(node[2]).symbols and leaves(node[2]).kinds & _PIECEWISE:
            raise Undecided("a piecewise exponent")
    if powers:
        points = 8
    for prime, root in PRIMES:
        done = 0
        for k in range(points + 3):
            env = {name: Fraction(RANDOM.randrange(2, 1 << 60)) for name in names}
            for position, name in enumerate(sorted(powers & names)):
                residue = k if position == 0 else RANDOM.randrange(8)
                env[name] = Fraction(RANDOM.randrange(1, 1 << 57) * 8 + residue)
            env["#pi"] = Fraction(RANDOM.randrange(2, 1 << 60))
            env["#e"] = Fraction(RANDOM.randrange(2, 1 << 60))
            env["#point"] = Fraction(RANDOM.randrange(1 << 30))
            at = Residues(prime, root, env, budget)
            try:
                if at.value(left) != at.value(right):
                    return False
            except Undefined:
                if constants:
                    raise
                continue
            done += 1
            if done == points:
                break
        if done < points:
            raise Undecided("undefined at random points")
    return True


def _exponents(node: Any) -> set[str]:
    """Variables that occur in an exponent."""
    found: set[str] = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple):
            if part and part[0] == "pow":
                found |= leaves(part[2]).symbols
            stack.extend(part[1:] if part and isinstance(part[0], str) else part)
    return found


def _negative_bases(node: Any) -> set[str]:
    """Variables in the exponent of a negative number: they can only be whole."""
    found: set[str] = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple):
            if part and part[0] == "pow" and part[1][0] == "num" and part[1][1] < 0:
                found |= leaves(part[2]).symbols
            stack.extend(part[1:] if part and isinstance(part[0], str) else part)
    return found


def _whole_variables(left: Node, right: Node, a: Leaves, b: Leaves) -> frozenset[str]:
    names = a.symbols | b.symbols
    kinds = a.kinds | b.kinds
    if kinds & _WHOLE or "app" in kinds:
        return names
    whole = _negative_bases(left) | _negative_bases(right)
    if kinds & {"floor", "ceil"}:
        whole |= {n for n in names if n[0] in _WHOLE_NAMES}
    return frozenset(whole)


def sample_points(
    names: frozenset[str], whole: frozenset[str], *, wide: bool = False, reach: int = 0
) -> Iterator[dict[str, Fraction]]:
    """Points at which two expressions are compared: positive, negative, small and large.

    The signs run through their combinations, the parities of whole variables too. wide: also far
    from zero, where a piecewise expression (``|x - 50|``) has its other pieces; reach: the largest
    number in the expressions, which some of the wide points and of the whole ones exceed.
    """
    order = sorted(names)
    scales = _WIDE_SCALES if wide else _SCALES
    for index in range(24):
        env = {"#point": Fraction(RANDOM.randrange(1 << 30))}
        pattern = _SIGNS[index % 8]
        scale = scales[index % len(scales)] or Fraction(2 + 2 * reach)
        for position, name in enumerate(order):
            if name in whole:
                env[name] = Fraction(_whole_point(index, position, len(whole) == 1, reach))
                continue
            size = Fraction(RANDOM.randrange(1_000, 29_000), 9_973) * scale
            if not scales[index % len(scales)]:
                size += scale / 2
            if pattern is None:
                negative = bool(RANDOM.getrandbits(1))
            else:
                negative = pattern[position % 2] == "-"
            env[name] = -size if negative else size
        yield env


def _whole_point(index: int, position: int, single: bool, reach: int) -> int:
    """1, 2, 3 ... for a single variable, in turn with larger ones, then beyond the reach.

    The larger ones are random: a polynomial with the roots 1, 2, 3 ... must not pass. Otherwise
    every parity in turn.
    """
    if single and index < 12:
        return RANDOM.randrange(12, 60) if index % 3 == 2 else index + 1
    if index >= 12 and reach > 12:
        return min(reach, 300) + RANDOM.randrange(1, 40)
    value = RANDOM.randrange(1, 14 + 4 * position)
    return value + ((value ^ (index >> position)) & 1)


#: Signs of the variables by position; None: at random.
_SIGNS = ("++", "--", "+-", "-+", "++", None, None, "--")
_SCALES = (Fraction(1), Fraction(1), Fraction(1, 4), Fraction(1, 4), Fraction(1), Fraction(5))
#: 0 stands for a size beyond every number in the expressions.
_WIDE_SCALES = tuple(
    Fraction(n, d)
    for n, d in ((1, 1), (1, 4), (1, 4), (40, 1), (6, 1), (1, 1), (0, 1), (1, 8), (0, 1))
)
_PIECEWISE = frozenset("abs norm floor ceil max min sgn root".split())
_ARCS = frozenset("arcsin arccos arctan arccot arcsec arccsc".split())
_WAVES = frozenset("sin cos tan cot sec csc".split())


def _nodes(*trees: Node) -> Iterator[Node]:
    """Every node of some trees."""
    stack: list[Any] = list(trees)
    while stack:
        part = stack.pop()
        if isinstance(part, tuple) and part:
            if isinstance(part[0], str):
                yield part
            stack.extend(part)


def _is_wide(left: Node, right: Node) -> bool:
    """Whether a piecewise function of a variable occurs (also ``arcsin(sin x)``)."""
    for node in _nodes(left, right):
        kind = node[1] if node[0] == "fn" else node[0]
        if kind in _PIECEWISE and leaves(node).symbols:
            return True
        if kind in _ARCS and node[2][0] == "fn" and node[2][1] in _WAVES and leaves(node).symbols:
            return True
    return False


def _reach(left: Node, right: Node) -> int:
    """The largest number in two expressions, at most a million."""
    sizes = (abs(node[1]) for node in _nodes(left, right) if node[0] == "num")
    return int(min(max(sizes, default=Fraction(0)), Fraction(10**6)))


def _sampled(left: Node, right: Node, a: Leaves, b: Leaves, budget: Budget, log: str) -> bool:
    names = a.symbols | b.symbols
    if not names and not a.applied and not b.applied:
        try:
            return _same_value(left, right, {}, budget, log, constant=True)
        except Undefined:
            return False
    whole = _whole_variables(left, right, a, b)
    reach = _reach(left, right)
    wide = _is_wide(left, right)
    far = wide or bool(whole and reach > 12)
    needed = 24 if far else 8 if whole else _POINTS
    complex_allowed = "i" in a.constants | b.constants
    agreed = 0
    points = sample_points(names, whole, wide=wide, reach=reach)
    for env in points:
        try:
            if not _same_value(left, right, env, budget, log, constant=complex_allowed):
                return False
        except (Undefined, _Outside):
            continue
        except Undecided:
            if not far or agreed < _POINTS or budget.left <= 0:
                raise
            continue  # a far point with too many digits
        agreed += 1
        if agreed >= needed:
            return True
    if far and agreed >= (8 if whole else _POINTS):
        return True  # a bounded domain, looked at as widely as it goes
    raise Undecided("too few points in the common domain")


class _Outside(Exception):
    """A sample point outside of the common real domain."""


def _same_value(
    left: Node, right: Node, env: dict[str, Fraction], budget: Budget, log: str, *, constant: bool
) -> bool:
    try:
        return evaluate(left, env, budget) == evaluate(right, env, budget)
    except Undecided:
        pass
    bits = BITS
    while True:
        values, lost, outside = [], 0, False
        for node in (left, right):
            at = Numeric(env, budget, bits, log)
            value = at.value(node)
            outside = outside or at.outside or not at._real(value)
            lost = max(lost, at.lost)
            values.append(value)
        if lost <= bits // 3:
            break
        if bits >= MAX_BITS or 3 * lost + 60 > MAX_BITS:
            raise Undecided("more digits are needed than are allowed")
        bits = MAX_BITS if lost > 200 else 660
    if outside and not constant:
        raise _Outside
    return near(values[0], values[1], at, lost)


def near(x: Any, y: Any, at: Numeric, lost: int) -> bool:
    """Equal to all the digits that the precision leaves, relative to the larger value."""
    size = max((m for v in (x, y) if (m := at.magnitude(v)) is not None), default=None)
    if size is None:
        return True
    gap = at.magnitude(x - y)
    return gap is None or gap < size - (at.bits - 60 - lost)

"""Our trees as sympy expressions, and the questions put to sympy. Imported in workers only.

sympy receives numbers, symbols with names of our own making, and operations: never a string that a
model wrote. Caps are checked before a node is built.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy

from .regions import _the_unknown
from .tree import canonical, leaves
from .verdict import Undecided

Node = tuple[Any, ...]
MAX_DIGITS = 3_000
_FUNCTIONS = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec,
    "csc": sympy.csc, "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan,
    "arccot": sympy.acot, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh,
    "coth": sympy.coth, "arsinh": sympy.asinh, "arcosh": sympy.acosh, "artanh": sympy.atanh,
    "ln": sympy.log, "log": sympy.log, "abs": sympy.Abs, "floor": sympy.floor,
    "ceil": sympy.ceiling, "fact": sympy.factorial, "binom": sympy.binomial, "max": sympy.Max,
    "min": sympy.Min, "gcd": sympy.gcd, "lcm": sympy.lcm, "Re": sympy.re, "Im": sympy.im,
    "arg": sympy.arg, "sgn": sympy.sign, "erf": sympy.erf, "gamma": sympy.gamma,
    "zeta": sympy.zeta,
}  # fmt: skip
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}


def warm() -> None:
    """Touch what sympy loads late, so that forked workers share it."""
    x = sympy.Symbol("v0", real=True)
    sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2 - 1)
    sympy.integrate(x**2, (x, 0, 1))
    sympy.Sum(x, (x, 1, sympy.Symbol("v1", integer=True))).doit()
    sympy.solve_univariate_inequality(sympy.exp(x) > 2, x, relational=False)


class Translator:
    """Trees to sympy; the same name gives the same symbol throughout one translator."""

    def __init__(self, whole: frozenset[str] = frozenset()) -> None:
        self.symbols: dict[str, sympy.Symbol] = {}
        self.whole = whole
        self.nodes = 0

    def symbol(self, name: str) -> sympy.Symbol:
        if name not in self.symbols:
            index = len(self.symbols)
            kind = {"integer": True, "positive": True} if name in self.whole else {"real": True}
            self.symbols[name] = sympy.Symbol(f"v{index}", **kind)
        return self.symbols[name]

    def build(self, node: Node) -> Any:
        """The sympy expression of a tree. Raises Undecided for what has none or is too large."""
        self.nodes += 1
        if self.nodes > 1_500:
            raise Undecided("too large for sympy")
        kind = node[0]
        if kind == "num":
            return self._number(node[1])
        if kind == "sym":
            return self.symbol(node[1])
        if kind == "const":
            return _CONSTANTS[node[1]]
        if kind == "add":
            return sympy.Add(*(self.build(p) for p in node[1:]))
        if kind == "mul":
            return sympy.Mul(*(self.build(p) for p in node[1:]))
        if kind == "div":
            return self.build(node[1]) / self.build(node[2])
        if kind == "pow":
            return self._power(self.build(node[1]), self.build(node[2]))
        if kind == "root":
            return self._root(node)
        if kind == "fn":
            return self._function(node)
        if kind == "pct":
            return self.build(node[1]) / 100
        if kind in ("sum", "prod", "int", "lim"):
            return self._bound(node)
        if kind == "app":
            # the name of an unknown function is a number of ours, not the text that stood there
            index = sorted({node[1]}).index(node[1])
            name = f"f{index}_{abs(hash(node[1])) % 10**9}"
            return sympy.Function(name)(*(self.build(p) for p in node[2:]))
        raise Undecided(f"{kind} is not translated")

    def _number(self, value: Fraction) -> Any:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_DIGITS * 4:
            raise Undecided("a number too long for sympy")
        return sympy.Rational(value.numerator, value.denominator)

    def _power(self, base: Any, exponent: Any) -> Any:
        if exponent.is_number and base.is_number:
            try:
                size = abs(float(exponent.evalf(5))) * max(
                    1.0, abs(float(sympy.log(abs(base)).evalf(5)))
                )
            except (TypeError, ValueError, OverflowError):
                size = 0.0 if not (exponent.is_real and base.is_real) else 1e9
            if size > 20_000:
                raise Undecided("a power too large for sympy")
        return base**exponent

    def _root(self, node: Node) -> Any:
        inner = self.build(node[2])
        if node[1] % 2 and inner.is_real:
            return (
                sympy.real_root(inner, node[1])
                if inner.is_number
                else sympy.cbrt(inner)
                if (node[1] == 3 and inner.is_nonnegative)
                else inner ** sympy.Rational(1, node[1])
            )
        return inner ** sympy.Rational(1, node[1])

    def _function(self, node: Node) -> Any:
        name, args = node[1], [self.build(a) for a in node[2:]]
        if name == "logb":
            return sympy.log(args[1]) / sympy.log(args[0])
        if name not in _FUNCTIONS:
            raise Undecided(f"unknown function {name}")
        if name in ("fact", "binom", "gamma", "zeta") and any(
            a.is_number and abs(a) > 3_000 for a in args
        ):
            raise Undecided("a factorial too large for sympy")
        return _FUNCTIONS[name](*args)

    def _bound(self, node: Node) -> Any:
        kind, name = node[0], node[1]
        outer = self.symbols.pop(name, None)
        if kind in ("sum", "prod"):
            self.symbols[name] = sympy.Symbol(f"k{self.nodes}", integer=True)
        inner = self.symbol(name)
        try:
            if kind == "lim":
                # from both sides: one-sided limits that differ are no limit
                return sympy.Limit(self.build(node[3]), inner, self.build(node[2]), "+-")
            body = self.build(node[4])
            if kind == "int" and node[2] is None and node[3] is None:
                raise Undecided("an integral without limits")
            if node[2] is None or node[3] is None:
                raise Undecided("a half-open range")
        finally:
            self.symbols.pop(name, None)
            if outer is not None:
                self.symbols[name] = outer
        limits = (inner, self.build(node[2]), self.build(node[3]))
        maker = {"sum": sympy.Sum, "prod": sympy.Product, "int": sympy.Integral}[kind]
        return maker(body, limits)


def equal(gold: Node, answer: Node) -> bool | None:
    """Whether two scalars are equal; None where sympy cannot tell.

    May run for ever: it is killed from outside.
    """
    from .equivalence import _whole_variables

    left, right = canonical(gold), canonical(answer)
    whole = _whole_variables(left, right, leaves(left), leaves(right))
    maker = Translator(whole)
    a, b = maker.build(left), maker.build(right)
    if a == b:
        return True
    if a.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit) or b.has(
        sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit
    ):
        a, b = a.doit(), b.doit()
        if a == b:
            return True
    if not (a.is_finite is not False and b.is_finite is not False):
        return bool(a == b)
    difference = a - b
    if difference == 0 or sympy.expand(difference) == 0:
        return True
    if difference.is_Rational:
        return False  # what cannot be evaluated stands on both sides and is gone
    if not difference.free_symbols:
        value, scale = difference.evalf(60), b.evalf(20)
        comparable = value.is_comparable and scale.is_comparable
        if comparable and abs(value) > sympy.Float("1e-25") * (1 + abs(scale)):
            return False
        verdict = difference.equals(0)
        if verdict is not None:
            return bool(verdict)
        return True if sympy.simplify(difference) == 0 else None
    if sympy.simplify(difference) == 0:
        return True
    return difference.equals(0)


def equal_regions(gold: Node, answer: Node) -> bool | None:
    """Whether two conditions on one real unknown hold for the same numbers; None where unknown."""
    sets = []
    for node in (gold, answer):
        found = _region(node)
        if found is None:
            return None
        sets.append(found)
    first, second = sets
    if first == second:
        return True
    apart = sympy.SymmetricDifference(first, second)
    return True if apart.is_empty else False if apart.is_empty is False else None


def _region(node: Node) -> Any | None:
    if node[0] == "paren" and len(node) == 5:
        maker = Translator()
        low, high = maker.build(canonical(node[3])), maker.build(canonical(node[4]))
        return sympy.Interval(low, high, node[1] == "(", node[2] == ")")
    if node[0] in ("cup", "list"):
        parts = [_region(part) for part in (node[1:] if node[0] == "cup" else node[2:])]
        if any(part is None for part in parts):
            return None
        union = node[0] == "cup" or node[1] == "or"
        return sympy.Union(*parts) if union else sympy.Intersection(*parts)
    if node[0] != "rel":
        return None
    chain = node[1]
    if len(chain) == 3 and chain[1] == "in":
        return _region(chain[2])
    unknown = _the_unknown(chain)
    maker = Translator()
    x = maker.symbol(unknown[1])
    total = sympy.S.Reals
    makers = {"<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge, "!=": sympy.Ne}
    for k in range(1, len(chain), 2):
        if chain[k] not in makers:
            return None
        relation = makers[chain[k]](
            maker.build(canonical(chain[k - 1])), maker.build(canonical(chain[k + 1]))
        )
        part = sympy.solve_univariate_inequality(relation, x, relational=False)
        total = sympy.Intersection(total, part)
    return total

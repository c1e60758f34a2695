"""Values to many digits with mpmath, watching for digits that are lost on the way.

The precision is raised, and at the end the answer refused, where a sum swallows a term or where
terms cancel: two expressions are called equal only if nothing that could tell them apart was lost.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from .exact import Budget, Undefined, _applied, series_range
from .verdict import Undecided

BITS = 240
MAX_BITS = 1_300
MAX_MAGNITUDE = 1 << 17
Node = tuple[Any, ...]

_LOCAL = threading.local()


def context(bits: int) -> Any:
    """An mpmath context of this thread: the global one belongs to the caller."""
    contexts = _LOCAL.__dict__.setdefault("contexts", {})
    if bits not in contexts:
        from mpmath.ctx_mp import MPContext

        made = MPContext()
        made.prec = bits
        contexts[bits] = made
    return contexts[bits]


class Numeric:
    """Evaluation of trees at one point with one precision.

    After an evaluation ``lost`` holds how many bits were swallowed or cancelled on the way, and
    ``outside`` whether a real argument was taken to a complex value (a point off the real domain).
    """

    def __init__(self, env: Mapping[str, Fraction], budget: Budget, bits: int, log: str) -> None:
        self.ctx = context(bits)
        self.env = env
        self.budget = budget
        self.bits = bits
        self.lost = 0
        self.outside = False
        self.log = log
        self.bound: dict[str, Any] = {}

    def value(self, node: Node) -> Any:
        """A real or complex number. Raises Undefined at a pole, Undecided beyond the budget."""
        self.budget.spend()
        kind = node[0]
        if kind == "num":
            return self.ratio(node[1])
        if kind == "add":
            return self._sum([self.value(part) for part in node[1:]])
        if kind == "mul":
            total = self.value(node[1])
            for part in node[2:]:
                total = total * self.value(part)
            return self._checked(total)
        if kind == "div":
            low = self.value(node[2])
            if low == 0:
                raise Undefined("division by zero")
            return self._checked(self.value(node[1]) / low)
        if kind == "pow":
            return self._power(node)
        if kind == "sym":
            return self._symbol(node[1])
        if kind == "const":
            return self._constant(node[1])
        if kind == "root":
            return self._root(node[1], self.value(node[2]))
        if kind == "fn":
            return self._function(node)
        return self._rare(node)

    def _rare(self, node: Node) -> Any:
        kind = node[0]
        if kind == "pct":
            return self.value(node[1]) / 100
        if kind == "qty" and node[2] == (("angle", 1),):
            return self.value(node[1]) * self.ctx.pi / 180
        if kind in ("sum", "prod"):
            return self._series(node)
        if kind == "app":
            args = [self._fraction(self.value(a)) for a in node[2:]]
            return self.ratio(_applied(node, args, self.env))
        if kind == "int" and node[2] is not None and node[3] is not None:
            return self._integral(node)
        raise Undecided(f"no number for {kind}")

    def ratio(self, value: Fraction) -> Any:
        if value.numerator.bit_length() > self.bits or value.denominator.bit_length() > self.bits:
            self._lose(min(value.numerator.bit_length(), self.bits))
        if value.denominator == 1:
            return self.ctx.mpf(value.numerator)
        return self.ctx.mpf(value.numerator) / value.denominator

    def _fraction(self, value: Any) -> Fraction:
        """A number by which the unknown function knows its argument: to 24 places, no fewer.

        f(1.41421356) is not f(sqrt 2), and f(sqrt 8) is f(2 sqrt 2).
        """
        if not self._real(value):
            raise Undecided("an unknown function of a complex number")
        return Fraction(int(self.ctx.nint(value.real * 10**24)), 10**24)

    def _symbol(self, name: str) -> Any:
        if name in self.bound:
            return self.bound[name]
        value = self.env.get(name)
        if value is None:
            raise Undecided("a free variable")
        return self.ratio(value)

    def _constant(self, name: str) -> Any:
        if name == "inf":
            raise Undecided("infinity inside an expression")
        return {"pi": self.ctx.pi, "e": self.ctx.e, "i": self.ctx.j}[name] * 1

    def _lose(self, bits: int) -> None:
        self.lost = max(self.lost, bits)

    def magnitude(self, value: Any) -> int | None:
        """Binary exponent; None for zero."""
        if value == 0:
            return None
        return int(self.ctx.mag(value))

    def _checked(self, value: Any) -> Any:
        size = self.magnitude(value)
        if size is not None and abs(size) > MAX_MAGNITUDE:
            raise Undecided("a number too large or too small")
        return value

    def _sum(self, values: list[Any]) -> Any:
        sizes = [m for v in values if (m := self.magnitude(v)) is not None]
        if not sizes:
            return self.ctx.mpf(0)
        total = self.ctx.mpf(0)
        for value in values:
            total = total + value
        top = max(sizes)
        self._lose(top - min(sizes))
        size = self.magnitude(total)
        if size is None or size < top - self.bits + 40 + min(self.lost, self.bits // 3):
            return self.ctx.mpf(0)
        self._lose(top - size)
        return total

    def _near(self, value: Any) -> None:
        """Functions hide a very small or very large argument: count the digits that it needs."""
        size = self.magnitude(value)
        if size is None:
            return
        if size > 4_000:
            raise Undecided("a function of a huge argument")
        if abs(size) > 20:
            self._lose(2 * abs(size))

    def _power(self, node: Node) -> Any:
        base, exponent = self.value(node[1]), self.value(node[2])
        if base == 0:
            if self._real(exponent) and exponent.real > 0:
                return self.ctx.mpf(0)
            raise Undefined("zero to a power that is not positive")
        size, height = self.magnitude(base), self.magnitude(exponent)
        if height is None:
            return self.ctx.mpf(1)
        if height > 20 or (abs(size or 0) + 1) * 2 ** max(height, 0) > MAX_MAGNITUDE:
            raise Undecided("a power too large")
        self.budget.spend(5)
        if height < -20:
            self._lose(-2 * height)
        if node[1] == ("const", "e"):
            return self.ctx.exp(exponent)
        return self._watched(self._checked(self.ctx.power(base, exponent)), base, exponent)

    def _real(self, value: Any) -> bool:
        """Whether the imaginary part is nothing but rounding."""
        if not isinstance(value, self.ctx.mpc):
            return True
        small, size = self.magnitude(value.imag), self.magnitude(value)
        return small is None or size is None or small < size - self.bits + 60

    def _watched(self, value: Any, *args: Any) -> Any:
        if not self._real(value) and all(map(self._real, args)):
            self.outside = True
        return value

    def _root(self, index: int, value: Any) -> Any:
        self.budget.spend(3)
        if index > 64:
            self._lose(2 * index.bit_length())
        if self._real(value):
            value = value.real
            if index == 2:
                return self._watched(self.ctx.sqrt(value), value)
            if value < 0 and index % 2:
                return -self.ctx.root(-value, index)
        return self._watched(self.ctx.root(value, index), value)

    def _function(self, node: Node) -> Any:
        name = node[1]
        self.budget.spend(10)
        args = [self.value(a) for a in node[2:]]
        for arg in args:
            self._near(arg)
        from .functions import apply

        return self._watched(self._checked(apply(self, name, args)), *args)

    def _series(self, node: Node) -> Any:
        kind, name, low, high, body = node
        start, stop = (self._whole(self.value(limit)) for limit in (low, high))
        saved = self.bound.get(name)
        values = []
        total = self.ctx.mpf(1)
        for k in series_range(start, stop):
            self.bound[name] = self.ctx.mpf(k)
            term = self.value(body)
            if kind == "sum":
                values.append(term)
            else:
                total = self._checked(total * term)
        self.bound.pop(name, None)
        if saved is not None:
            self.bound[name] = saved
        return self._sum(values) if kind == "sum" else total

    def _whole(self, value: Any) -> Fraction:
        if not self._real(value) or value.real != self.ctx.nint(value.real):
            raise Undecided("a limit that is not a whole number")
        return Fraction(int(value.real))

    def _integral(self, node: Node) -> Any:
        """A definite integral of a polynomial, exactly; anything else is left to a worker."""
        from .polynomial import coefficients

        _, name, low, high, body = node
        top, bottom = coefficients(body, name, self)
        if len(bottom) != 1:
            raise Undecided("an integral of a fraction")
        a, b = self.value(low), self.value(high)
        terms = [c / bottom[0] * (b ** (k + 1) - a ** (k + 1)) / (k + 1) for k, c in enumerate(top)]
        return self._sum(terms)

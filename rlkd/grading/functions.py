"""The elementary functions on mpmath numbers, with their poles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exact import Undefined
from .verdict import Undecided

if TYPE_CHECKING:
    from .numeric import Numeric

_DIRECT = {
    "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "arsinh": "asinh", "arcosh": "acosh",
    "artanh": "atanh", "arg": "arg", "Re": "re", "Im": "im", "sgn": "sign",
}  # fmt: skip
_INVERTED = {
    "cot": "tan",
    "sec": "cos",
    "csc": "sin",
    "coth": "tanh",
    "sech": "cosh",
    "csch": "sinh",
}
_INVERTED_ARGUMENT = {"arcsec": "acos", "arccsc": "asin"}


def apply(at: Numeric, name: str, args: list[Any]) -> Any:
    """The value of a named function; Undefined at a pole, Undecided where it is not known."""
    ctx = at.ctx
    if name in ("log", "ln"):
        return _log(at, args[0]) / (ctx.log(10) if name == "log" and at.log == "10" else 1)
    if name == "logb":
        low = _log(at, args[0])
        if low == 0:
            raise Undefined("a logarithm to base 1")
        return _log(at, args[1]) / low
    if name == "abs":
        return abs(args[0])
    if len(args) == 1 and name in ("sin", "cos", "tan") and abs(args[0]) > 1:
        at._lose(max(0, (at.magnitude(args[0]) or 0)))
    if name in ("sinh", "cosh", "tanh", "coth", "sech", "csch"):
        if abs(args[0]) > 1_000:
            raise Undecided("a hyperbolic function of a large argument")
        at._lose(int(3 * abs(args[0])))
    if name in _DIRECT and len(args) == 1:
        return getattr(ctx, _DIRECT[name])(args[0])
    if name in _INVERTED and len(args) == 1:
        return _over(at, ctx.mpf(1), getattr(ctx, _INVERTED[name])(args[0]))
    if name in _INVERTED_ARGUMENT and len(args) == 1:
        return getattr(ctx, _INVERTED_ARGUMENT[name])(_over(at, ctx.mpf(1), args[0]))
    if name == "arccot" and len(args) == 1:
        return ctx.pi / 2 - ctx.atan(args[0])
    if name in ("max", "min") and all(at._real(a) for a in args):
        return (max if name == "max" else min)(a.real for a in args)
    return _discrete(at, name, args)


def _discrete(at: Numeric, name: str, args: list[Any]) -> Any:
    ctx = at.ctx
    if not all(at._real(a) for a in args):
        raise Undecided(f"{name} of a complex number")
    values = [a.real for a in args]
    if name in ("floor", "ceil") and len(values) == 1:
        nearest = ctx.nint(values[0])
        gap = at.magnitude(values[0] - nearest)
        if gap is not None and gap < -at.bits // 2:
            return nearest
        return ctx.floor(values[0]) if name == "floor" else ctx.ceil(values[0])
    at.budget.spend(60)
    if any(abs(v) > 5_000 for v in values):
        raise Undecided(f"{name} of a large number")
    if name == "fact" and len(values) == 1:
        if values[0] < 0:
            raise Undefined("factorial of a negative number")
        return ctx.gamma(values[0] + 1)
    if name == "gamma" and len(values) == 1:
        if values[0] <= 0 and values[0] == ctx.nint(values[0]):
            raise Undefined("a pole of the gamma function")
        return ctx.gamma(values[0])
    if name == "zeta" and len(values) == 1 and 1 < values[0] <= 100:
        return ctx.zeta(values[0])
    if name == "binom" and len(values) == 2:
        if min(values) < 0 or values[1] > values[0]:
            raise Undefined("binomial outside of its triangle")
        return ctx.binomial(*values)
    raise Undecided(f"unknown function {name}")


def _log(at: Numeric, value: Any) -> Any:
    if value == 0:
        raise Undefined("logarithm of zero")
    at._near(value - 1)
    return at.ctx.log(value)


def _over(at: Numeric, top: Any, low: Any) -> Any:
    size = at.magnitude(low)
    if size is None or size < -at.bits + 60:
        raise Undefined("a pole")
    return top / low

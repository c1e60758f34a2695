"""Functions with their arguments; sums, products, integrals and limits with their ranges."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .brackets import argument
from .scripts import postfix
from .syntax import EULER, FUNCTIONS, IMAG
from .tree import Node, substitute
from .verdict import Unparsed

if TYPE_CHECKING:
    from .syntax import Parser

_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec",
            "csc": "arccsc", "sinh": "arsinh", "cosh": "arcosh", "tanh": "artanh"}  # fmt: skip


def function(p: Parser, name: str) -> Node:
    power: Node | None = None
    base: Node | None = None
    for _ in range(2):
        if p.is_op("^"):
            p.at += 1
            power = argument(p) if not p.is_op("-") else _negative(p)
        elif p.is_op("_"):
            p.at += 1
            base = argument(p)
    if power == ("num", Fraction(-1)) and name in _INVERSE:
        name, power = _INVERSE[name], None
    args = _function_arguments(p, name)
    if name == "log" and base is not None:
        node: Node = ("fn", "logb", base, *args)
    elif name == "lg":
        node = ("fn", "logb", ("num", Fraction(10)), *args)
    elif name == "exp":
        node = ("pow", EULER, args[0])
    else:
        node = ("fn", name, *args)
    return node if power is None else ("pow", node, power)


def _negative(p: Parser) -> Node:
    p.at += 1
    return ("mul", ("num", Fraction(-1)), argument(p))


def _function_arguments(p: Parser, name: str) -> list[Node]:
    """A bracket, or the factors written side by side up to the next operator or function."""
    if p.is_op("(", "[", "{") or (p.is_op("\\{") and name in ("max", "min", "gcd", "lcm")):
        close = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}[str(p.value())]
        p.at += 1
        bars, p.bars = p.bars, 0
        _sep, items = p.items((close,))
        p.bars = bars
        p.expect(close)
        if not items:
            raise Unparsed("a function without argument")
        if close == "}" and p.is_op("^"):
            return [postfix(p, items[0])]
        return items
    node = p.unary()
    while (token := p.peek()) is not None and p.starts_factor():
        word = str(token.value)[1:] if token.kind == "cmd" else ""
        if p.is_op("(", "[", "|") or word in FUNCTIONS or token.kind == "begin":
            break
        node = ("mul", node, p.unary())
    return [node]


def big(p: Parser, word: str) -> Node:
    low: Node | None = None
    high: Node | None = None
    for _ in range(2):
        if p.is_op("_"):
            p.at += 1
            low = _limit(p)
        elif p.is_op("^"):
            p.at += 1
            high = _limit(p)
    if word == "int":
        p.integral += 1
        body = p.sum()
        p.integral -= 1
        token, variable = p.peek(), p.peek(1)
        if token is None or token.value != "d" or variable is None:
            raise Unparsed("an integral without its differential")
        p.at += 2
        name = str(variable.value).lstrip("\\")
        return ("int", name, low, high, body)
    if low is None or low[0] != "rel" or len(low[1]) != 3 or low[1][0][0] not in ("sym", "const"):
        raise Unparsed(f"{word} without a range")
    variable_name = low[1][0][1]
    if word == "lim":
        return ("lim", variable_name, low[1][2], p.product())
    if low[1][1] != "=" or high is None:
        raise Unparsed(f"{word} without a range")
    body = p.product()
    start = low[1][2]
    if variable_name == "i":
        body = substitute(body, IMAG, ("sym", "#i"))
        variable_name = "#i"
    return (word, variable_name, start, high, body)


def _limit(p: Parser) -> Node:
    if p.is_op("{"):
        p.at += 1
        node = p.item()
        p.expect("}")
        return node
    from .atoms import primary

    return primary(p)

"""Brackets of every kind, and the arguments of commands."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .tokens import Token
from .tree import Node
from .verdict import Unparsed

if TYPE_CHECKING:
    from .syntax import Parser


def bracket(p: Parser, sign: str) -> Node:
    p.enter()
    bars, builder, integral = p.bars, p.builder, p.integral
    p.bars = p.builder = p.integral = 0
    node: Node
    if sign in ("(", "["):
        node = _round(p, sign)
    elif sign == "{":
        infix = _infix(p)
        sep, items = ("", [infix]) if infix is not None else p.items(("}",))
        p.expect("}")
        node = items[0] if len(items) == 1 else ("list", sep, *items) if items else ("empty",)
    elif sign == "\\{":
        node = _braces(p)
    elif sign in ("|", "||"):
        p.bars = 1
        inner = p.sum()
        p.expect(sign)
        node = ("fn", "abs" if sign == "|" else "norm", inner)
    elif sign == "\\$":
        p.bars, p.builder, p.integral = bars, builder, integral
        from .units import UNITS

        p.depth -= 1
        amount = p.unary()
        return ("qty", amount, ((UNITS["dollar"][0], 1),), Fraction(1))
    else:
        raise Unparsed(f"unexpected {sign!r}")
    p.bars, p.builder, p.integral = bars, builder, integral
    p.depth -= 1
    return node


def _round(p: Parser, sign: str) -> Node:
    _sep, items = p.items((")", "]"))
    token = p.peek()
    if token is None or not items:
        raise Unparsed("an unclosed bracket" if items else "empty brackets")
    close = str(token.value)
    p.at += 1
    if len(items) == 1:
        if (sign, close) in (("(", ")"), ("[", "]")):
            return items[0]
        raise Unparsed("a half-open bracket around one value")
    return ("paren", sign, close, *items)


def _braces(p: Parser) -> Node:
    """A finite set, or a set given by a condition."""
    p.builder = 1
    if p.is_op("\\}"):
        p.at += 1
        return ("set",)
    sep, items = p.items(("\\}", "|", ":"))
    token = p.peek()
    if token is None and (not items or p.tokens[p.at - 1].value != "\\mid"):
        raise Unparsed("an unclosed set")
    if p.is_op("\\}"):
        p.at += 1
        return ("set", *items)
    p.at += 1
    p.builder = 0
    sep, conditions = p.items(("\\}",))
    p.expect("\\}")
    if len(items) != 1 or not conditions:
        raise Unparsed("a set without its condition")
    condition = conditions[0] if len(conditions) == 1 else ("list", sep, *conditions)
    return ("builder", items[0], condition)


def argument(p: Parser, *, digit: bool = False) -> Node:
    """The argument of a command: a group, or one token (one digit for ``\\frac12``)."""
    token = p.peek()
    if token is None:
        raise Unparsed("a command without its argument")
    if token.kind == "num" and digit and len(token.raw) > 1 and token.raw.isdigit():
        rest = token.raw[1:]
        p.tokens[p.at] = Token("num", Fraction(int(rest)), False, rest)
        return ("num", Fraction(int(token.raw[0])))
    if token.kind == "op" and token.value == "{":
        p.at += 1
        return bracket(p, "{")
    from .atoms import primary

    return primary(p)


def part(p: Parser, start: int, end: int) -> tuple[str, list[Node]]:
    """Items of some tokens that stand by themselves."""
    from .syntax import Parser

    inner = Parser(p.tokens[start:end])
    inner.depth = p.depth + 1
    sep, items = inner.items(())
    if inner.at < len(inner.tokens) or not items:
        raise Unparsed("an unfinished group")
    return sep, items


def _infix(p: Parser) -> Node | None:
    """``{n \\choose k}`` and ``{a \\over b}``, whose sign stands between their two parts."""
    level, middle = 0, -1
    for end in range(p.at, len(p.tokens)):
        value = p.tokens[end].value
        if value == "}" and level == 0:
            break
        level += (value == "{") - (value == "}")
        if level == 0 and value in ("\\choose", "\\over"):
            middle = end
    else:
        return None
    if middle < 0:
        return None
    name = p.tokens[middle].value
    _, top = part(p, p.at, middle)
    _, low = part(p, middle + 1, end)
    if len(top) != 1 or len(low) != 1:
        raise Unparsed("a list where a number is wanted")
    p.at = end
    return ("fn", "binom", top[0], low[0]) if name == "\\choose" else ("div", top[0], low[0])

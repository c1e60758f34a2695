"""What follows a value: powers, factorials, percent signs, degrees and ordinals."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .brackets import argument
from .syntax import MAX_DEPTH
from .tree import Node
from .verdict import Oversize, Unparsed

if TYPE_CHECKING:
    from .syntax import Parser


def postfix(p: Parser, node: Node) -> Node:
    """Powers, factorials, percent signs, degrees and ordinals after a primary."""
    count = 0
    while (token := p.peek()) is not None:
        count += 1  # each nests the tree one deeper
        if count > MAX_DEPTH:
            raise Oversize(f"more than {MAX_DEPTH} signs after a value")
        if token.kind == "ord":
            p.at += 1
        elif token.kind != "op":
            break
        elif token.value == "^":
            p.at += 1
            node = _power(p, node)
        elif token.value == "!":
            p.at += 1
            if p.is_op("!"):
                raise Unparsed("a double factorial")
            node = ("fn", "fact", node)
        elif token.value in ("%", "\\%"):
            p.at += 1
            node = ("pct", node)
        else:
            break
    return node


_TEMPERATURES = {"C": "celsius", "F": "fahrenheit"}
_DEGREE = ((("angle", 1),), Fraction(1))


def _power(p: Parser, node: Node) -> Node:
    token = p.peek()
    if token is None:
        raise Unparsed("a power without its exponent")
    inner = p.peek(1)
    braced = token.value == "{" and inner is not None
    sign = inner if braced and inner is not None else token
    if sign.value in ("\\circ", "\\degree"):
        p.at += 1
        if braced:
            p.at += 1
            p.expect("}")
        return _degrees(p, node)
    if sign.kind == "ord":
        p.at += 3 if braced else 1
        return node
    if braced and inner is not None and inner.raw in ("st", "nd", "rd", "th"):
        letters = 1 if inner.value == inner.raw else 2  # 9^{th}: two symbols of one run
        after = p.peek(1 + letters)
        if node[0] == "num" and after is not None and after.value == "}":
            p.at += 2 + letters
            return node
    if sign.value in ("\\prime", "'"):
        raise Unparsed("a derivative")
    if p.is_op("-", "+"):
        minus = p.is_op("-")
        p.at += 1
        exponent = argument(p)
        exponent = ("mul", ("num", Fraction(-1)), exponent) if minus else exponent
    else:
        exponent = argument(p)
    if p.is_op("^"):
        raise Unparsed("a double superscript")
    return ("pow", node, exponent)


def _degrees(p: Parser, node: Node) -> Node:
    """Degrees, with minutes and seconds of arc where they follow."""
    total = node
    for scale in (60, 3600):
        token, mark = p.peek(), p.peek(1)
        if token is None or token.kind != "num" or mark is None or mark.value != "'":
            break
        p.at += 2
        if p.is_op("'"):
            p.at += 1
            scale = 3600
        total = ("add", total, ("num", token.value / scale))  # type: ignore[operator]
    token = p.peek()
    if token is not None and token.kind == "sym" and token.value in _TEMPERATURES:
        p.at += 1
        return ("qty", total, ((_TEMPERATURES[str(token.value)], 1),), Fraction(1))
    return ("qty", total, *_DEGREE)

"""The innermost level of the parser: numbers, symbols, commands, domains and matrices."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .applied import big, function
from .brackets import argument, bracket, part
from .syntax import (
    _ACCENTS,
    _BINOMS,
    _FRACS,
    EULER,
    FUNCTIONS,
    GREEK,
    IMAG,
    INF,
    ONE,
    PI,
    Node,
)
from .tokens import Token
from .verdict import Oversize, Unparsed

if TYPE_CHECKING:
    from .syntax import Parser

_CALLABLE = frozenset("fghFGH")
_INDEX = frozenset("ijklmnrtNKM")
_PAIRS = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil"),
          "\\lvert": ("\\rvert", "abs"), "\\vert": ("\\vert", "abs"),
          "\\lVert": ("\\rVert", "norm")}  # fmt: skip


def primary(p: Parser) -> Node:
    token = p.peek()
    if token is None:
        raise Unparsed("the expression ends too early")
    p.at += 1
    if token.kind == "num":
        return ("num", token.value)
    if token.kind == "sym":
        return _symbol(p, str(token.value))
    if token.kind == "op":
        return bracket(p, str(token.value))
    if token.kind == "cmd":
        return _command(p, str(token.value))
    if token.kind == "set":
        return _domain(p, str(token.value))
    if token.kind == "begin":
        return _matrix(p, str(token.value))
    if token.kind == "dots":
        return ("dots",)
    raise Unparsed(f"unexpected {token.raw or token.value!r}")


def _symbol(p: Parser, name: str) -> Node:
    if name == "e":
        return EULER
    if name == "i":
        return IMAG
    while p.is_op("'"):
        p.at += 1
        name += "'"
    if p.is_op("_"):
        return _subscript(p, name)
    if p.is_op("(") and _is_label(p):
        name_args = []
        while not p.is_op(")"):
            p.at += 1
            if p.kind() in ("num", "sym"):
                name_args.append(primary(p))
        p.at += 1
        return ("app", name, *name_args)
    if name[0] in _CALLABLE and p.is_op("("):
        save = p.at
        p.at += 1
        _sep, args = p.items((")",))
        if p.is_op(")") and args and (name[0] not in "hH" or _is_plain(args)):
            p.at += 1
            return ("app", name, *args)
        p.at = save
    return ("sym", name)


def _is_label(p: Parser) -> bool:
    """Whether ``(10) =`` or ``(t) =`` follows: then the symbol names a function, whatever it is."""
    at = p.at + 1
    while at < len(p.tokens) and (p.tokens[at].kind in ("num", "sym") or p.tokens[at].value == ","):
        at += 1
    closed = at > p.at + 1 and at + 1 < len(p.tokens) and p.tokens[at].value == ")"
    return closed and p.tokens[at + 1].value == "="


def _is_plain(args: list[Node]) -> bool:
    return all(a[0] in ("sym", "num") for a in args)


def _subscript(p: Parser, name: str) -> Node:
    p.at += 1
    start = p.at
    if p.is_op("{"):
        end, level = p.at, 0
        while end < len(p.tokens):
            value = p.tokens[end].value if p.tokens[end].kind == "op" else ""
            level += (value == "{") - (value == "}")
            end += 1
            if level == 0:
                break
        inner = p.tokens[start + 1 : end - 1]
    else:
        end, inner = start + 1, p.tokens[start : start + 1]
    if not inner:
        raise Unparsed("an empty subscript")
    simple = all(t.kind in ("num", "sym", "word", "cmd", "ord") or t.raw == "," for t in inner)
    indexed = any(t.kind == "sym" and t.value in _INDEX for t in inner)
    if simple and not (indexed and len(inner) == 1) and not (indexed and _has_number(inner)):
        p.at = end
        label = "".join(str(t.raw or t.value).strip() for t in inner).replace(" ", "")
        return ("sym", f"{name}_{label}")
    if p.is_op("{"):
        p.at += 1
        index = p.sum()
        more = [index]
        while p.is_op(","):
            p.at += 1
            more.append(p.sum())
        p.expect("}")
        return ("app", name, *more)
    p.at = end
    return ("app", name, ("sym", str(inner[0].value)))


def _has_number(inner: list[Token]) -> bool:
    return any(t.kind == "num" for t in inner)


def _command(p: Parser, name: str) -> Node:
    word = name[1:]
    if name in _FRACS:
        top, low = argument(p, digit=True), argument(p, digit=True)
        return _derivative(top, low) or ("div", top, low)
    if name in _BINOMS:
        return ("fn", "binom", argument(p, digit=True), argument(p, digit=True))
    if word == "sqrt":
        return _root(p)
    if word == "cbrt":
        return ("root", 3, argument(p))
    if word in ("pi", "infty"):
        return PI if word == "pi" else INF
    if word in FUNCTIONS:
        return function(p, word)
    if word in ("emptyset", "varnothing"):
        return ("set",)
    if word in ("sum", "prod", "int", "lim"):
        return big(p, word)
    if name in _PAIRS:
        return _pair(p, name)
    if word == "langle":
        _sep, items = _until(p, "\\rangle")
        return ("paren", "(", ")", *items)
    if name in _ACCENTS:
        inner = argument(p)
        return ("sym", f"{word}:{inner!r}")
    if word in ("angle", "triangle", "measuredangle") or name in ("\\odot",):
        letters = ""
        while (token := p.peek()) is not None and token.kind == "sym":
            letters += str(token.value)
            p.at += 1
        return ("sym", f"{word} {letters}")
    if word == "Gamma" and p.is_op("("):
        return function(p, "gamma")
    if word == "zeta" and _is_riemann(p):
        return function(p, word)
    if word in GREEK:
        return _symbol(p, word) if not p.is_op("'") else ("sym", word)
    raise Unparsed(f"unknown command {name}")


def _is_riemann(p: Parser) -> bool:
    """Whether ``(2)`` follows: ``\\zeta(2)`` is a value of the function; else zeta is a letter."""
    number, end = p.peek(1), p.peek(2)
    return (
        p.is_op("(")
        and number is not None
        and number.kind == "num"
        and (end is not None and end.value == ")")
    )


def _derivative(top: Node, low: Node) -> Node | None:
    """``dy/dx`` is one name: its two d are no factors that cancel."""
    d = ("sym", "d")
    if low[0] != "mul" or low[1] != d or low[2][0] != "sym":
        return None
    if top == d:
        return ("sym", f"d/d{low[2][1]}")
    if top[0] == "mul" and top[1] == d and top[2][0] == "sym":
        return ("sym", f"d{top[2][1]}/d{low[2][1]}")
    return None


def _until(p: Parser, command: str) -> tuple[str, list[Node]]:
    end = next((k for k in range(p.at, len(p.tokens)) if p.tokens[k].value == command), -1)
    if end < 0:
        raise Unparsed(f"{command} is missing")
    from .syntax import Parser

    inner = Parser(p.tokens[p.at : end])
    inner.depth = p.depth + 1
    sep, items = inner.items(())
    p.at = end + 1
    return sep, items


def _pair(p: Parser, name: str) -> Node:
    close, function = _PAIRS[name]
    p.enter()
    inner = p.sum()
    token = p.peek()
    if token is None or token.value != close:
        raise Unparsed(f"{name} is not closed")
    p.at += 1
    p.depth -= 1
    return ("fn", function, inner)


def _root(p: Parser) -> Node:
    index: Node = ("num", Fraction(2))
    if p.is_op("["):
        p.at += 1
        index = p.sum()
        p.expect("]")
    inner = argument(p)
    if index[0] == "num" and index[1].denominator == 1 and 2 <= index[1] <= 1000:
        return ("root", int(index[1]), inner)
    return ("pow", inner, ("div", ONE, index))


def _domain(p: Parser, name: str) -> Node:
    if name == "?":
        raise Unparsed("unknown blackboard letter")
    for _ in range(2):
        if p.is_op("^", "_"):
            sign = str(p.value())
            p.at += 1
            if p.is_op("+", "-", "*"):
                name += str(p.value())
                p.at += 1
            elif p.is_op("{"):
                level = 0
                while p.at < len(p.tokens):
                    level += p.is_op("{") - p.is_op("}")
                    name += str(p.peek().raw or p.value()) if not p.is_op("{", "}") else ""  # type: ignore[union-attr]
                    p.at += 1
                    if level == 0:
                        break
            else:
                name += sign + str(p.value())
                p.at += 1
    return ("domain", name)


def _matrix(p: Parser, env: str) -> Node:
    if env in ("cases", "aligned", "gathered"):
        ends = (k for k in range(p.at, len(p.tokens)) if p.tokens[k].kind == "end")
        end = next(ends, len(p.tokens))
        _, equations = part(p, p.at, end)
        p.at = end + 1
        return ("list", ",", *equations)
    if env not in ("pmatrix", "bmatrix", "matrix", "array", "vmatrix", "Bmatrix", "smallmatrix"):
        raise Unparsed(f"unknown environment {env}")
    rows: list[list[Node]] = [[]]
    while True:
        token = p.peek()
        if token is None:
            raise Unparsed("an unclosed matrix")
        if token.kind == "end":
            p.at += 1
            break
        if token.kind == "row":
            p.at += 1
            rows.append([])
        elif token.kind == "op" and token.value in ("&", "\\&"):
            p.at += 1
        else:
            rows[-1].append(p.sum())
    rows = [row for row in rows if row]
    if not rows or len({len(r) for r in rows}) != 1 or sum(map(len, rows)) > 400:
        raise Oversize("a matrix with uneven rows or too many entries")
    node: Node = ("matrix", tuple(tuple(r) for r in rows))
    return ("fn", "det", node) if env == "vmatrix" else node

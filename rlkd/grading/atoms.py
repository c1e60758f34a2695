"""The innermost level of the parser: numbers, symbols, commands, brackets and what follows them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .syntax import (
    _ACCENTS,
    _BINOMS,
    _FRACS,
    EULER,
    FUNCTIONS,
    GREEK,
    IMAG,
    INF,
    MAX_DEPTH,
    ONE,
    PI,
    Node,
)
from .tokens import Token
from .verdict import Oversize, Unparsed

if TYPE_CHECKING:
    from .syntax import Parser

_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec",
            "csc": "arccsc", "sinh": "arsinh", "cosh": "arcosh", "tanh": "artanh"}  # fmt: skip
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
        return _bracket(p, str(token.value))
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


def _bracket(p: Parser, sign: str) -> Node:
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


def _argument(p: Parser, *, digit: bool = False) -> Node:
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
        return _bracket(p, "{")
    return primary(p)


def _command(p: Parser, name: str) -> Node:
    word = name[1:]
    if name in _FRACS:
        top, low = _argument(p, digit=True), _argument(p, digit=True)
        return _derivative(top, low) or ("div", top, low)
    if name in _BINOMS:
        return ("fn", "binom", _argument(p, digit=True), _argument(p, digit=True))
    if word == "sqrt":
        return _root(p)
    if word == "cbrt":
        return ("root", 3, _argument(p))
    if word in ("pi", "infty"):
        return PI if word == "pi" else INF
    if word in FUNCTIONS:
        return _function(p, word)
    if word in ("emptyset", "varnothing"):
        return ("set",)
    if word in ("sum", "prod", "int", "lim"):
        return _big(p, word)
    if name in _PAIRS:
        return _pair(p, name)
    if word == "langle":
        _sep, items = _until(p, "\\rangle")
        return ("paren", "(", ")", *items)
    if name in _ACCENTS:
        inner = _argument(p)
        return ("sym", f"{word}:{inner!r}")
    if word in ("angle", "triangle", "measuredangle") or name in ("\\odot",):
        letters = ""
        while (token := p.peek()) is not None and token.kind == "sym":
            letters += str(token.value)
            p.at += 1
        return ("sym", f"{word} {letters}")
    if word == "Gamma" and p.is_op("("):
        return _function(p, "gamma")
    if word == "zeta" and _is_riemann(p):
        return _function(p, word)
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
    inner = _argument(p)
    if index[0] == "num" and index[1].denominator == 1 and 2 <= index[1] <= 1000:
        return ("root", int(index[1]), inner)
    return ("pow", inner, ("div", ONE, index))


def _function(p: Parser, name: str) -> Node:
    power: Node | None = None
    base: Node | None = None
    for _ in range(2):
        if p.is_op("^"):
            p.at += 1
            power = _argument(p) if not p.is_op("-") else _negative(p)
        elif p.is_op("_"):
            p.at += 1
            base = _argument(p)
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
    return ("mul", ("num", Fraction(-1)), _argument(p))


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


def _big(p: Parser, word: str) -> Node:
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


def substitute(node: Any, old: Node, new: Node) -> Any:
    """The tree with one leaf replaced by another (depth is bounded by the parser)."""
    if node == old:
        return new
    if isinstance(node, tuple):
        return tuple(substitute(part, old, new) for part in node)
    if isinstance(node, list):
        return [substitute(part, old, new) for part in node]
    return node


def _limit(p: Parser) -> Node:
    if p.is_op("{"):
        p.at += 1
        node = p.item()
        p.expect("}")
        return node
    return primary(p)


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


def _part(p: Parser, start: int, end: int) -> tuple[str, list[Node]]:
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
    _, top = _part(p, p.at, middle)
    _, low = _part(p, middle + 1, end)
    if len(top) != 1 or len(low) != 1:
        raise Unparsed("a list where a number is wanted")
    p.at = end
    return ("fn", "binom", top[0], low[0]) if name == "\\choose" else ("div", top[0], low[0])


def _matrix(p: Parser, env: str) -> Node:
    if env in ("cases", "aligned", "gathered"):
        ends = (k for k in range(p.at, len(p.tokens)) if p.tokens[k].kind == "end")
        end = next(ends, len(p.tokens))
        _, equations = _part(p, p.at, end)
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
        exponent = _argument(p)
        exponent = ("mul", ("num", Fraction(-1)), exponent) if minus else exponent
    else:
        exponent = _argument(p)
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

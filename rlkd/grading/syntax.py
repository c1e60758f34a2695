"""A bounded Pratt parser from tokens to a tree of plain tuples.

Nodes (first element is the kind):
``("num", Fraction)  ("sym", name)  ("const", "pi"|"e"|"i"|"inf")  ("add", a, b, ...)
("mul", a, b, ...)  ("div", a, b)  ("pow", a, b)  ("root", n, a)  ("fn", name, *args)
("app", name, *args)  ("pm", a)  ("mp", a)  ("qty", a, unit_dims, factor)  ("pct", a)
("sum"|"prod", var, low, high, body)  ("int", var, low, high, body)  ("lim", var, to, body)
("paren", open, close, *items)  ("set", *items)  ("builder", var, condition)  ("list", sep, *items)
("rel", [e0, op1, e1, ...])  ("cup"|"cap"|"minus", a, b)  ("domain", name)  ("ratio", *items)
("matrix", rows)  ("text", words)  ("dots",)  ("empty",)``
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .tokens import Token, tokenize
from .verdict import Oversize, Unparsed

MAX_DEPTH = 60
MAX_ITEMS = 500
Node = tuple[Any, ...]

ONE = ("num", Fraction(1))
MINUS_ONE = ("num", Fraction(-1))
PI, EULER, IMAG, INF = ("const", "pi"), ("const", "e"), ("const", "i"), ("const", "inf")

GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu "
    "nu xi rho "
    "varrho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma "
    "Upsilon Phi "
    "Psi Omega ell hbar aleph prime star ast circ triangle square".split()
)
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth "
    "sech csch "
    "arsinh arcosh artanh ln log lg exp max min gcd lcm det arg Re Im sgn erf sinc floor ceil abs "
    "cbrt".split()
)
RELATIONS = {
    "=": "=", "<": "<", ">": ">", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=", "\\leqq": "<=",
    "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\geqq": ">=", "\\lt": "<", "\\gt": ">",
    "\\ne": "!=", "\\neq": "!=", "\\approx": "~", "\\in": "in", "\\equiv": "==", "\\to": "->",
    "\\rightarrow": "->", "\\notin": "notin", "\\simeq": "~", "\\approxeq": "~", "\\doteq": "~",
    "\\subset": "subset", "\\subseteq": "subset", "\\sim": "sim", "\\parallel": "parallel",
    "\\perp": "perp", "\\cong": "cong", "\\Rightarrow": "=>", "\\mid": "divides",
    "\\implies": "=>", "\\mapsto": "->", "\\Leftrightarrow": "=>", "\\iff": "=>",
}  # fmt: skip
SET_OPS = {"\\cup": "cup", "\\bigcup": "cup", "\\cap": "cap", "\\setminus": "minus",
           "\\backslash": "minus", "\\cupdot": "cup", "\\sqcup": "cup"}  # fmt: skip
_FRACS = frozenset(("\\frac", "\\dfrac", "\\tfrac", "\\cfrac"))
_BINOMS = frozenset(("\\binom", "\\dbinom", "\\tbinom"))
_ACCENTS = frozenset(
    "\\vec \\hat \\bar \\overline \\overrightarrow \\widehat \\tilde \\overleftrightarrow "
    "\\mathring"
    " \\overset \\overarc \\widetilde \\dot \\ddot".split()
)
_IGNORED = frozenset(
    ("\\displaystyle", "\\rm", "\\bf", "\\it", "\\large", "\\Large", "\\normalsize")
)


class Parser:
    """One parse of one token list; see :func:`parse`."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = [t for t in tokens if not (t.kind == "cmd" and t.value in _IGNORED)]
        self.at = 0
        self.depth = 0
        self.bars = 0
        self.builder = 0
        self.integral = 0

    # -- token helpers ---------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> Token | None:
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def value(self) -> object:
        token = self.peek()
        return token.value if token is not None else None

    def kind(self) -> str:
        token = self.peek()
        return token.kind if token is not None else ""

    def is_op(self, *values: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "op" and token.value in values

    def expect(self, value: str) -> None:
        if not self.is_op(value):
            raise Unparsed(f"expected {value!r}")
        self.at += 1

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Oversize(f"nested deeper than {MAX_DEPTH}")

    # -- lists -------------------------------------------------------------------------------

    def items(self, closers: tuple[str, ...]) -> tuple[str, list[Node]]:
        """Items up to a closing sign (or the end); the strongest separator and the items."""
        groups: list[list[Node]] = [[]]
        seps: set[str] = set()
        while self.at < len(self.tokens) and not self.is_op(*closers):
            if self._separator(seps, groups):
                continue
            if self.kind() == "qual":
                self._skip_note(closers)
                continue
            groups[-1].append(self.item())
            if sum(map(len, groups)) > MAX_ITEMS:
                raise Oversize(f"more than {MAX_ITEMS} items")
            token = self.peek()
            stops = token is None or self.is_op(",", ";", *closers)
            if token is not None and not stops and token.kind not in ("sep", "qual", "row"):
                raise Unparsed(f"unexpected {token.raw or token.value!r}")
        groups = [g for g in groups if g]
        if len(groups) > 1:
            if all(len(g) == 1 for g in groups):
                return "or" if "or" in seps else ";", [g[0] for g in groups]
            return ";", [g[0] if len(g) == 1 else ("list", ",", *g) for g in groups]
        sep = next((s for s in ("or", "and", ",") if s in seps), "")
        return sep, groups[0] if groups else []

    def _separator(self, seps: set[str], groups: list[list[Node]]) -> bool:
        token = self.peek()
        assert token is not None
        if token.kind == "row":
            seps.add(",")
        elif token.kind == "sep" or (token.kind == "op" and token.value in (",", ";")):
            name = str(token.value)
            seps.add(name)
            if name == ";":
                groups.append([])
        elif token.kind == "cmd" and token.value in ("\\land", "\\wedge", "\\lor", "\\vee"):
            seps.add("and" if token.value in ("\\land", "\\wedge") else "or")
        else:
            return False
        self.at += 1
        return True

    def _skip_note(self, closers: tuple[str, ...]) -> None:
        """Words such as "for all x" qualify the answer; they run to the end of the list.

        A condition ("if x > 0") or a second note makes a piecewise answer,
        which no tree here holds.
        """
        level = 0
        if str(self.value()).lower().split()[0].strip("(,;:") in _CONDITIONS:
            raise Unparsed("a conditional answer")
        self.at += 1
        while self.at < len(self.tokens):
            if level == 0 and self.is_op(*closers):
                return
            if self.kind() == "qual":
                raise Unparsed("a conditional answer")
            level += self.is_op("(", "[", "{", "\\{") - self.is_op(")", "]", "}", "\\}")
            self.at += 1

    def item(self) -> Node:
        """A relation chain, ratio or set expression."""
        self.enter()
        words = self._words()
        if words is not None and not self.is_op("="):
            self.depth -= 1
            return words
        if words is not None:
            chain: list[Any] = [words]
        elif self.kind() == "cmd" and self.value() in RELATIONS:
            chain = [("empty",)]
        else:
            chain = [self.ratio()]
        while (token := self.peek()) is not None:
            op = RELATIONS.get(str(token.value)) if token.kind in ("op", "cmd") else None
            if op == "divides" and self.builder:
                self.tokens[self.at] = Token("op", "|", token.space, token.raw)
                break
            if op is None:
                break
            self.at += 1
            if self.at >= len(self.tokens):
                raise Unparsed("a relation without its right side")
            chain += [op, self._words() or self.ratio()]
        self.depth -= 1
        node = chain[0] if len(chain) == 1 else ("rel", chain)
        if self.kind() == "cmd" and self.value() in ("\\pmod", "\\mod"):
            from .brackets import argument

            self.at += 1
            node = ("mod", node, argument(self))
        return node

    def _words(self) -> Node | None:
        start, words = self.at, []
        while self.kind() in ("word", "qual") and (self.kind() == "word" or words):
            words.append(str(self.value()))
            self.at += 1
        if not words:
            return None
        token = self.peek()
        if token is None or token.kind in ("sep", "row") or self.is_op(*_AFTER_WORDS):
            return ("text", " ".join(words))
        self.at = start
        raise Unparsed("words inside a formula")

    def ratio(self) -> Node:
        parts = [self.sets()]
        while self.is_op(":") and not self.builder:
            self.at += 1
            parts.append(self.sets())
        return parts[0] if len(parts) == 1 else ("ratio", *parts)

    def sets(self) -> Node:
        left = self.sum()
        while (token := self.peek()) is not None and token.kind == "cmd":
            op = SET_OPS.get(str(token.value))
            if op is None:
                break
            self.at += 1
            left = (op, left, self.sum())
        return left

    # -- arithmetic ---------------------------------------------------------------------------

    def sum(self) -> Node:
        self.enter()
        terms = [self._signed()]
        while (sign := self._sign()) is not None:
            if sign == "-" and isinstance(terms[-1], tuple) and self._ends_here():
                raise Unparsed("a sign without its term")
            self.at += 1
            terms.append(_apply(sign, self.product()))
            if len(terms) > MAX_ITEMS * 3:
                raise Oversize("too many terms")
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def _ends_here(self) -> bool:
        return self.at + 1 >= len(self.tokens)

    def _sign(self) -> str | None:
        token = self.peek()
        if token is None:
            return None
        if token.kind == "op" and token.value in ("+", "-"):
            return str(token.value)
        if token.kind == "cmd" and token.value in ("\\pm", "\\mp"):
            return str(token.value)
        return None

    def _signed(self) -> Node:
        signs = []
        while (sign := self._sign()) is not None:
            self.at += 1
            signs.append(sign)
            if len(signs) > 20:
                raise Unparsed("too many signs")
        node = self.product()
        for sign in reversed(signs):
            node = _apply(sign, node)
        return node

    def product(self) -> Node:
        self.enter()
        node = self.unary()
        count = 0
        while True:
            token = self.peek()
            if token is None:
                break
            count += 1
            if count > MAX_ITEMS * 3:
                raise Oversize("too many factors")
            if token.kind == "op" and token.value in ("*", "/"):
                self.at += 1
                right = self._signed_factor()
                node = ("div", node, right) if token.value == "/" else ("mul", node, right)
            elif token.kind == "cmd" and token.value in ("\\cdot", "\\times", "\\div", "\\ast"):
                self.at += 1
                right = self._signed_factor()
                node = ("div", node, right) if token.value == "\\div" else ("mul", node, right)
            elif token.kind == "unit":
                self.at += 1
                node = self._with_smaller(_quantity(node, token, self._unit_power()))
            elif token.kind == "word" and (noun := self._noun()) is not None:
                node = _quantity(node, Token("unit", (((noun, 1),), Fraction(1))), 1)
            elif self.starts_factor():
                node = self._juxtapose(node, token)
            else:
                break
        self.depth -= 1
        return node

    def _noun(self) -> str | None:
        """Plain words that end an item after a number name what is counted: ``17 years old``."""
        if self.tokens[self.at - 1].kind != "num" and self.tokens[self.at - 1].value != "}":
            return None
        start, words = self.at, []
        while self.kind() == "word":
            words += str(self.value()).lower().replace("-", " ").split()
            self.at += 1
        token = self.peek()
        ends = token is None or token.kind in ("sep", "row") or self.is_op(*_AFTER_WORDS)
        plain = all(w.isascii() and w.isalpha() and w not in _NO_NOUN for w in words)
        plain = plain and words[0] not in ("st", "nd", "rd", "th")  # a 5th root is not 5
        if not ends or not plain or self.is_op("=") or not 1 <= len(words) <= 4:
            self.at = start
            return None
        return "count:" + " ".join(w.removesuffix("s") for w in words)

    def _with_smaller(self, node: Node) -> Node:
        """``3 feet 6 inches`` is one length: a whole number, then less than one of its unit."""
        number, unit = self.peek(), self.peek(1)
        if node[0] != "qty" or node[1][0] != "num" or node[1][1].denominator != 1:
            return node
        if number is None or number.kind != "num" or unit is None or unit.kind != "unit":
            return node
        dims, factor = unit.value  # type: ignore[misc]
        more = number.value * factor / node[3]  # type: ignore[operator]
        if dims != node[2] or not 0 <= more < 1 or node[1][1] < 0:
            return node
        self.at += 2
        return ("qty", ("num", node[1][1] + more), node[2], node[3])

    def _unit_power(self) -> int:
        """The 2 of ``\\text{cm}^2``."""
        if not self.is_op("^"):
            return 1
        digits = [t for t in self.tokens[self.at + 1 : self.at + 4] if t.value not in ("{", "}")]
        braced = self.tokens[self.at + 1 : self.at + 2] and self.tokens[self.at + 1].value == "{"
        if not digits or digits[0].value not in (1, 2, 3, 4):
            raise Unparsed("a unit with a strange power")
        self.at += 4 if braced else 2
        return int(digits[0].value)  # type: ignore[call-overload]

    def _signed_factor(self) -> Node:
        sign = self._sign()
        if sign is None:
            return self.unary()
        self.at += 1
        return _apply(sign, self.unary())

    def _juxtapose(self, node: Node, token: Token) -> Node:
        """Side by side: a mixed number where both are plain numbers, otherwise a product."""
        right_raw = token
        right = self.unary()
        if right[0] in ("pct", "qty"):
            # a percent sign or a degree after 12\frac12 belongs to the whole number
            return (right[0], self._beside(node, right[1], right_raw), *right[2:])
        return self._beside(node, right, right_raw)

    def _beside(self, node: Node, right: Node, right_raw: Token) -> Node:
        if node[0] == "num" and node[1].denominator == 1:
            fraction = _plain_fraction(right, right_raw)
            if fraction is None and right[0] == "num" and self.is_op("/"):
                nxt = self.peek(1)
                if nxt is not None and nxt.kind == "num":
                    self.at += 2
                    fraction = right[1] / nxt.value if nxt.value else None  # type: ignore[operator]
                    if fraction is None or not 0 < fraction < 1:
                        raise Unparsed("two numbers side by side")
            if fraction is not None and 0 < fraction < 1:
                return ("num", node[1] + fraction)
        if right[0] == "num" and right_raw.kind == "num":
            raise Unparsed("two numbers side by side")
        return ("mul", node, right)

    def starts_factor(self) -> bool:
        token = self.peek()
        if token is None:
            return False
        if token.kind in ("num", "sym", "begin"):
            if self.integral and token.kind == "sym" and token.value == "d":
                nxt = self.peek(1)
                return not (nxt is not None and nxt.kind in ("sym", "cmd"))
            return True
        if token.kind == "op":
            if token.value == "|":
                return not self.bars and not self.builder
            return token.value in ("(", "[", "{")
        if token.kind == "cmd":
            value = str(token.value)
            return not (value in RELATIONS or value in SET_OPS or value in _STOPS)
        return False

    def unary(self) -> Node:
        from .atoms import primary
        from .scripts import postfix

        self.enter()
        node = postfix(self, primary(self))
        self.depth -= 1
        return node


_NO_NOUN = frozenset(
    "is are was not no nor or and maybe perhaps possibly if then than but times more less "
    "plus minus "
    "over to from between divided multiplied squared cubed percent hundred thousand million "
    "billion "
    "dozen half halves third thirds quarter quarters fourths fifths tenths hundredths mod".split()
)
_CONDITIONS = frozenset(("if", "when", "whenever"))
_AFTER_WORDS = (",", ";", ")", "]", "\\}", "}", "=")
_STOPS = frozenset(
    "\\pm \\mp \\rfloor \\rceil \\rangle \\rvert \\rVert \\land \\wedge \\lor \\vee \\cdot "
    "\\times \\div "
    "\\ast \\mid \\pmod \\mod \\vert \\Vert \\%".split()
)


def _apply(sign: str, node: Node) -> Node:
    if sign == "+":
        return node
    if sign == "-":
        return ("num", -node[1]) if node[0] == "num" else ("mul", MINUS_ONE, node)
    return ("pm" if sign == "\\pm" else "mp", node)


def _plain_fraction(node: Node, token: Token) -> Fraction | None:
    if node[0] == "div" and token.value in _FRACS and node[1][0] == "num" and node[2][0] == "num":
        top, low = node[1][1], node[2][1]
        if top.denominator == low.denominator == 1 and low > 0:
            return top / low
    return None


def _quantity(node: Node, token: Token, power: int) -> Node:
    dims, factor = token.value  # type: ignore[misc]
    if power > 1:
        dims, factor = tuple((name, k * power) for name, k in dims), factor**power
    if dims == (("percent", 1),):
        return ("pct", node)
    if node[0] == "qty":
        raise Unparsed("two units")
    return ("qty", node, dims, factor)


def parse(text: str, *, thousands: bool = True) -> Node:
    """Parse a normalised answer into a tree.

    Raises Unparsed where the text is not mathematics of a known kind, Oversize beyond the limits.
    """
    parser = Parser(tokenize(text, thousands=thousands))
    sep, items = parser.items(())
    if parser.at < len(parser.tokens):
        raise Unparsed("trailing text")
    if not items:
        raise Unparsed("nothing to parse")
    return items[0] if len(items) == 1 else ("list", sep, *items)

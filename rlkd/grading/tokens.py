"""Cutting normalised text into tokens, with hard limits. No string is ever evaluated."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from .units import number_from_words, unit_of
from .verdict import Oversize, Unparsed

MAX_CHARS = 4_000
MAX_TOKENS = 1_500


class Token(NamedTuple):
    """kind: num sym cmd op text unit sep set begin end row qual ord word rep dots base."""

    kind: str
    value: object
    space: bool = False
    raw: str = ""


_TOKEN = re.compile(
    r"""(?P<space>\s+)
  | (?P<rep>\d*\.(?P<head>\d*)(?:\\overline|\\bar|\\dot)\s*\{?(?P<tail>\d+)\}?)
  | (?P<num>(?:\d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
       (?:[eE][+-]?\d{1,6}(?![\w.]))?)
  | (?P<dots>\.\.\.|\\[lcvd]?dots[cbmio]?(?![A-Za-z]))
  | (?P<cmd>\\[A-Za-z]+\*?)
  | (?P<row>\\\\)
  | (?P<esc>\\[{}%$&_|\#])
  | (?P<word>[A-Za-z]+)
  | (?P<op><=|>=|!=|<>|==|[-+*/^_=<>(){}\[\],;:!|%&'.?@"])""",
    re.VERBOSE,
)
_TEXT_COMMANDS = frozenset(
    "\\text \\mathrm \\mbox \\textnormal \\textbf \\mathbf \\textit \\mathit \\textrm \\mathsf "
    "\\textsf \\operatorname \\operatorname* \\hbox \\emph \\boldsymbol \\bm \\texttt \\mathtt "
    "\\underline \\textup \\textsc \\mathcal \\mathscr \\mathfrak \\pmb \\rm \\bf \\it".split()
)
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth "
    "sech csch "
    "asin acos atan arsinh arcosh artanh ln log lg exp sqrt cbrt max min gcd lcm det floor "
    "ceil abs "
    "pi inf infty oo infinity alpha beta gamma delta theta lambda mu rho sigma phi omega tau sgn "
    "arg Re Im cdot times frac dfrac erf sinc mod".split()
)
_RENAME = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "inf": "infty", "oo": "infty",
    "infinity": "infty", "asinh": "arsinh", "acosh": "arcosh", "atanh": "artanh",
    "Infinity": "infty",
}  # fmt: skip
_QUALIFIER = re.compile(
    r"^\W*(?:for|where|if|when|whenever|with|such that|s\.t\.|is an?|are|integer|as|by|only"
    r"|using|which"
    r"|respectively|each|approximately|about|total|per|any|all|since|because|at|on|exactly)\b",
    re.IGNORECASE,
)
_PREFIX_NOTE = re.compile(r"^\W*(?:approximately|about|exactly|either|both)\W*$", re.IGNORECASE)
_CONNECT = re.compile(r"\s*(?:,\s*)?\b(and|or)\b\s*(?:,\s*)?|\s*[,;]\s*", re.IGNORECASE)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "dozen": 12}
_ORDINAL = ("st", "nd", "rd", "th")
_SETS = {"R": "R", "Z": "Z", "N": "N", "Q": "Q", "C": "C"}
_NAME = re.compile(r"[A-Za-z]+")


def tokenize(text: str, *, thousands: bool = True) -> list[Token]:
    """Tokens of a normalised text.

    thousands: whether ``1,234`` outside of brackets is one number (otherwise a list of two).
    Raises Oversize beyond MAX_CHARS or MAX_TOKENS, Unparsed on a character with no meaning.
    """
    if len(text) > MAX_CHARS:
        raise Oversize(f"answer longer than {MAX_CHARS} characters")
    out: list[Token] = []
    _scan(text, out, thousands, 0)
    return out


def _scan(text: str, out: list[Token], thousands: bool, level: int) -> None:
    at, space, n = 0, False, len(text)
    inside = 0
    while at < n:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unparsed(f"unknown character {text[at]!r}")
        at = match.end()
        kind = match.lastgroup
        raw = match.group()
        if kind == "space":
            space = True
            continue
        if len(out) > MAX_TOKENS:
            raise Oversize(f"more than {MAX_TOKENS} tokens")
        if kind == "op":
            if raw in "([":
                inside += 1
            elif raw in ")]":
                inside -= 1
            out.append(Token("op", _OPS.get(raw, raw), space, raw))
        elif kind == "num":
            joined = thousands and (inside <= 0 or _spaced_commas(text, match.start()))
            _number(raw, out, space, joined)
        elif kind == "word":
            at = _word(text, match, out, space)
        elif kind == "cmd":
            at = _command(text, match, out, space, thousands, level)
        elif kind == "esc":
            out.append(
                Token("op", {"\\{": "\\{", "\\}": "\\}", "\\|": "||"}.get(raw, raw), space, raw)
            )
        elif kind == "row":
            out.append(Token("row", raw, space, raw))
        elif kind == "dots":
            out.append(Token("dots", "...", space, raw))
        else:
            out.append(Token("num", _repeating(match), space, "repeating"))
        space = False


_OPS = {"!=": "\\ne", "<>": "\\ne", "==": "=", "<=": "\\le", ">=": "\\ge"}


def _spaced_commas(text: str, at: int) -> bool:
    """Inside brackets ``(1,000, 2,000)``: the commas with a space separate, the others group."""
    left = max(text.rfind("(", 0, at), text.rfind("[", 0, at))
    right = min((i for i in (text.find(")", at), text.find("]", at)) if i >= 0), default=len(text))
    return re.search(r",\s", text[left + 1 : right]) is not None


def _number(raw: str, out: list[Token], space: bool, joined: bool) -> None:
    if "," in raw and not joined:
        for i, part in enumerate(raw.split(",")):
            if i:
                out.append(Token("op", ",", False, ","))
            out.append(Token("num", _value(part), space and not i, part))
        return
    out.append(Token("num", _value(raw.replace(",", "")), space, raw))


def _value(raw: str) -> Fraction:
    mantissa, _, exponent = raw.replace("E", "e").partition("e")
    whole, _, decimals = mantissa.partition(".")
    value = Fraction(int((whole or "0") + decimals), 10 ** len(decimals))
    if exponent:
        power = int(exponent)
        if abs(power) > 4000:
            raise Oversize("exponent of a decimal beyond 4000")
        value = value * 10**power if power >= 0 else value / 10**-power
    return value


def _repeating(match: re.Match[str]) -> Fraction:
    raw = match.group()
    whole, head, tail = raw.split(".")[0] or "0", match.group("head"), match.group("tail")
    period = Fraction(int(tail), (10 ** len(tail) - 1) * 10 ** len(head))
    return _value(whole + "." + (head or "0")) + period


def _word(text: str, match: re.Match[str], out: list[Token], space: bool) -> int:
    """A run of letters is a function or constant, a unit after a number, a connector or symbols."""
    raw, end = match.group(), match.end()
    lowered = raw.lower()
    if lowered in ("and", "or"):
        out.append(Token("sep", lowered, space, raw))
    elif lowered in _SCALES and space and out and out[-1].kind == "num":
        out[-1] = out[-1]._replace(value=Fraction(str(out[-1].value)) * _SCALES[lowered])
    elif len(raw) >= 2 and (raw in _FUNCTIONS or raw in _RENAME):
        out.append(Token("cmd", "\\" + _RENAME.get(raw, raw), space, raw))
    elif len(raw) >= 2 and _after_value(out):
        if raw in _ORDINAL and not space:
            out.append(Token("ord", raw, space, raw))
            return end
        phrase = re.compile(r"[A-Za-z]+(?:\s*\^\s*\{?[23]\}?)?"
                            r"(?:\s*/\s*[A-Za-z]+(?:\^\{?[23]\}?)?)?"
                            r"(?:\s+(?:[A-Za-z]{2,})){0,3}").match(text, match.start())  # fmt: skip
        for stop in _phrase_ends(phrase.group() if phrase else raw):
            unit = unit_of(stop)
            if unit is not None:
                out.append(Token("unit", unit, space, stop))
                return match.start() + len(stop)
        _letters(raw, out, space)
    else:
        _letters(raw, out, space)
    return end


def _phrase_ends(phrase: str) -> list[str]:
    words = phrase.rstrip().split(" ")
    return [" ".join(words[:k]) for k in range(len(words), 0, -1)] + re.findall(
        r"^[A-Za-z]+", phrase
    )


def _after_value(out: list[Token]) -> bool:
    return bool(out) and (
        out[-1].kind == "num" or (out[-1].kind == "op" and out[-1].value in (")", "}"))
    )


_VOWELS = re.compile(r"[aeiouyAEIOU]")


def _letters(raw: str, out: list[Token], space: bool) -> None:
    if raw.isupper() and len(raw) >= 2:
        out.append(Token("sym", "".join(sorted(raw)) if len(raw) == 2 else raw, space, raw))
    elif len(raw) >= 4 and not set(raw) <= set("abcdxyz") and _VOWELS.search(raw):
        prefix = re.match(
            r"(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|sqrt|exp)(?=.{1,2}$)", raw
        )
        if prefix is None:
            out.append(Token("word", raw, space, raw))
            return
        out.append(Token("cmd", "\\" + prefix.group(), space, raw))
        _letters(raw[prefix.end() :], out, False)
    else:
        for i, letter in enumerate(raw):
            out.append(Token("sym", letter, space and i == 0, raw))


def _command(
    text: str, match: re.Match[str], out: list[Token], space: bool, thousands: bool, level: int
) -> int:
    raw, end = match.group(), match.end()
    if raw in _TEXT_COMMANDS:
        content, end = _group(text, end)
        _text(raw, content, out, space, thousands, level)
        return end
    if raw in ("\\begin", "\\end"):
        content, end = _group(text, end)
        if raw == "\\begin" and content in ("array", "tabular") and text[end : end + 1] == "{":
            _, end = _group(text, end)
        out.append(Token(raw[1:], content.rstrip("*"), space, raw))
        return end
    if raw == "\\mathbb":
        content, end = _group(text, end)
        out.append(Token("set", _SETS.get(content.strip(), "?"), space, raw))
        return end
    out.append(Token("cmd", raw, space, raw))
    return end


def _group(text: str, at: int) -> tuple[str, int]:
    while at < len(text) and text[at] == " ":
        at += 1
    if at >= len(text):
        raise Unparsed("a command without its argument")
    if text[at] != "{":
        return text[at], at + 1
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, at):
        symbol = match.group()
        depth += (symbol == "{") - (symbol == "}")
        if depth == 0:
            return text[at + 1 : match.start()], match.end()
    raise Unparsed("unbalanced braces")


def _text(
    command: str, content: str, out: list[Token], space: bool, thousands: bool, level: int
) -> None:
    """What a text command holds: a connector, a unit, a qualifier, mathematics or words."""
    if level > 8:
        raise Oversize("text commands nested too deep")
    core = content.replace("~", " ").strip().strip(".").strip()
    lowered = core.lower().strip(" ,")
    if not core or _PREFIX_NOTE.match(core):
        return
    if lowered in ("and", "or"):
        out.append(Token("sep", lowered, space, content))
    elif lowered in ("to", "is to"):
        out.append(Token("op", ":", space, content))
    elif lowered in ("in", "is in") and out and out[-1].kind == "sym":
        out.append(Token("cmd", "\\in", space, content))
    elif lowered in _SCALES and out and out[-1].kind == "num":
        out[-1] = out[-1]._replace(value=Fraction(str(out[-1].value)) * _SCALES[lowered])
    elif core in _ORDINAL:
        out.append(Token("ord", core, space, content))
    elif out and _after_value(out) | (out[-1].kind in ("cmd", "sym")) and unit_of(core) is not None:
        out.append(Token("unit", unit_of(core), space, content))
    elif command.startswith("\\operatorname") or (core in _FUNCTIONS and len(core) > 1):
        out.append(Token("cmd", "\\" + _RENAME.get(core, core), space, content))
    elif (
        len(core) == 1
        or not re.search(r"[A-Za-z]{2}", core)
        or command in ("\\mathcal", "\\mathit")
    ):
        _scan(core, out, thousands, level + 1)
    elif out and out[-1].kind == "op" and out[-1].value == "_":
        number = number_from_words(core)
        out.append(Token("num", Fraction(number), space, core) if number else Token("word", core))
    elif _QUALIFIER.match(core) and not (not out and re.match(r"all real", core)):
        out.append(Token("qual", core, space, content))
    elif re.search(r"\b(?:and|or)\b|[,;]", core, re.IGNORECASE):
        _connected(core, out, thousands, level)
    elif re.search(r"[\\^_{}=<>+]", core):
        _scan(core, out, thousands, level + 1)
    elif not _counted(core, out, thousands, level):
        out.append(Token("word", core, space, content))


def _counted(core: str, out: list[Token], thousands: bool, level: int) -> bool:
    """Whether the words are a number with its unit, as in ``\\text{50 mph}``; if so, read."""
    if not re.match(r"[-+]?\d", core):
        return False
    inner: list[Token] = []
    _scan(core, inner, thousands, level + 1)
    if any(token.kind == "word" for token in inner):
        return False
    out.extend(inner)
    return True


def _connected(core: str, out: list[Token], thousands: bool, level: int) -> None:
    at = 0
    for match in _CONNECT.finditer(core):
        if core[at : match.start()].strip():
            _text("\\text", core[at : match.start()], out, True, thousands, level + 1)
        out.append(Token("sep", (match.group(1) or ",").lower(), True, match.group()))
        at = match.end()
    if core[at:].strip():
        _text("\\text", core[at:], out, True, thousands, level + 1)

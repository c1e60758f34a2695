"""Making one spelling out of many: Unicode mathematics, layout commands, markdown, white space."""

from __future__ import annotations

import re
import unicodedata

_UNICODE = {
    "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2010": "-", "\u2011": "-", "\ufe63": "-",
    "\u00d7": "\\times ", "\u00b7": "\\cdot ", "\u22c5": "\\cdot ", "\u2217": "*", "\u00f7": "/",
    "\u2044": "/", "\u2215": "/", "\u03c0": "\\pi ", "\u221e": "\\infty ", "\u2264": "\\le ",
    "\u2a7d": "\\le ", "\u2265": "\\ge ", "\u2a7e": "\\ge ", "\u2260": "\\ne ",
    "\u2248": "\\approx ", "\u00b1": "\\pm ", "\u2213": "\\mp ", "\u221a": "\\sqrt ",
    "\u222a": "\\cup ", "\u2229": "\\cap ", "\u2208": "\\in ", "\u2205": "\\emptyset ",
    "\u00b0": "^\\circ ", "\u2216": "\\setminus ", "\u211d": "\\mathbb{R}",
    "\u2124": "\\mathbb{Z}", "\u2115": "\\mathbb{N}", "\u211a": "\\mathbb{Q}",
    "\u2102": "\\mathbb{C}", "\u03b1": "\\alpha ", "\u03b2": "\\beta ", "\u03b3": "\\gamma ",
    "\u03b4": "\\delta ", "\u03b5": "\\epsilon ", "\u03b8": "\\theta ", "\u03bb": "\\lambda ",
    "\u03bc": "\\mu ", "\u03c1": "\\rho ", "\u03c3": "\\sigma ", "\u03c6": "\\varphi ",
    "\u03c9": "\\omega ", "\u03c4": "\\tau ", "\u0394": "\\Delta ", "\u2032": "'", "\u2019": "'",
    "\u2033": "''", "\u00bd": "\\frac{1}{2}", "\u2153": "\\frac{1}{3}", "\u00bc": "\\frac{1}{4}",
    "\u00be": "\\frac{3}{4}", "\u2154": "\\frac{2}{3}", "\u2220": "\\angle ", "\u2026": "\\ldots ",
    "\u22ef": "\\ldots ", "\u230a": "\\lfloor ", "\u230b": "\\rfloor ", "\u2308": "\\lceil ",
    "\u2309": "\\rceil ", "\u2211": "\\sum ", "\u222b": "\\int ", "\u2192": "\\to ",
    "\u20ac": "\\text{ euros}", "\u00a3": "\\text{ GBP}", "\u2236": ":", "\u00a5": "\\text{ yuan}",
    "\uff0c": ",", "\uff1a": ":", "\uff1b": ";", "\uff08": "(", "\uff09": ")", "\uff0d": "-",
    "\uff0b": "+", "\uff1d": "=", "\uff05": "%", "\u3001": ",", "\u3002": ".", "\u2223": "|",
    "\u2227": "\\text{ and }", "\u2228": "\\text{ or }", "\u27e8": "\\langle ",
    "\u27e9": "\\rangle ", "\u201c": '"', "\u201d": '"', "\u2018": "'",
}  # fmt: skip
_TABLE = str.maketrans(_UNICODE)
_SUPER_SIGNS = (
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207f\u2071"
)
_SUB_SIGNS = "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u2099\u2096"
_SUPER = {ord(c): d for c, d in zip(_SUPER_SIGNS, "0123456789+-ni", strict=True)}
_SUB = {ord(c): d for c, d in zip(_SUB_SIGNS, "0123456789nk", strict=True)}
_SUPER_RUN = re.compile("[" + "".join(map(chr, _SUPER)) + "]+")
_SUB_RUN = re.compile("[" + "".join(map(chr, _SUB)) + "]+")
_ANY_SPACE = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2060-\u2064\ufeff\u00ad]")

# A thin space or a braced comma between groups of three digits is a thousands separator.
_GROUPS = re.compile(
    r"(?<![\d.])\d{1,3}(?:(?:\\[,;: ]|~|\{,\}(?:\\!)?|,\s*\\!\s*|\\!\s*,\s*(?=\d)"
    r"|[ \t])\s*\d{3})+(?![\d])"
)
_NOT_DIGIT = re.compile(r"[^\d]")
_SPACING = re.compile(
    r"\\(?:left|right)\s*\.|\\(?:left|right|middle|bigl?|bigr?|Bigl?|Bigr?|biggl?|biggr?|Biggl?|Biggr?"
    r"|displaystyle|textstyle|scriptstyle|limits|nolimits|mathstrut|strut|hfill|noindent|protect)"
    r"(?![A-Za-z])|(?<!\\)\\[,!;:>]|\\[hv]space\*?\{[^{}]*\}|\\[hv]?phantom\{[^{}]*\}"
    r"|\\(?:label|tag)\*?\{[^{}]*\}"
)
_WIDE = re.compile(
    r"\\(?:q?quad|enspace|thinspace|medspace|thickspace|nobreakspace|newline)(?![A-Za-z])"
    r"|(?<!\\)\\[ \n]|~"
)
_NESTED_BOX = re.compile(r"\\f?boxed\s*(?=\{)|\\fbox\s*(?=\{)")
_MATH_MARK = re.compile(r"(?<!\\)\$|(?<!\\)\\[()\[\]]")
_CURRENCY = re.compile(r"(\\text\{ (?:euros|GBP|yuan)\})\s*(\d[\d,]*(?:\.\d+)?)")
_MODULO = re.compile(r"\(\s*\\?(?:text\s*\{)?b?mod(?![a-z])\s*\}?\s*([^(){}]{1,20})\)")
_DERIVATIVE = re.compile(r"(?<![A-Za-z\\])d([A-Za-z])/d([A-Za-z])(?![A-Za-z])")


_ANNOUNCED = re.compile(
    r"\A(?:\\text(?:bf|rm)?\s*\{\s*)?(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*:\s*\}?\s*(?=\S)",
    re.IGNORECASE,
)
_COLON = re.compile(r"\\colon(?![A-Za-z])")
# the basis vectors i, j, k under a hat or an arrow, at least two of them
_BASIS = re.compile(
    r"\\(?:hat|vec|widehat|boldsymbol|bm)\s*(?:\{\s*\\?([ijk])(?:math)?\s*\}"
    r"|\\?([ijk])(?:math)?(?![A-Za-z]))"
)
_ANY_CONSTANT = re.compile(
    r"\+\s*(?:const(?:ant|\.)?|\\(?:text|mathrm)\s*\{\s*const(?:ant|\.)?\s*\})\Z"
)
_ELEMENT_OF = re.compile(r"\s*[A-Za-z]\s*\\in(?![A-Za-z])")


def plain_text(text: str) -> str:
    """One spelling for Unicode signs, digits of any script, spaces. Idempotent."""
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", _ANY_SPACE.sub(" ", text))
    text = _SUPER_RUN.sub(lambda m: "^{" + m.group().translate(_SUPER) + "}", text)
    text = _SUB_RUN.sub(lambda m: "_{" + m.group().translate(_SUB) + "}", text)
    text = text.translate(_TABLE)
    if text.isascii():
        return text
    return "".join(_fold(c) for c in text)


def _fold(char: str) -> str:
    if char.isascii():
        return char
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    folded = unicodedata.normalize("NFKC", char)
    return folded if len(folded) == 1 and folded.isascii() else char


def normalise(text: str) -> str:
    """The answer text in one spelling, ready for the tokenizer.

    Removes layout (sizing, spacing, math delimiters, markdown), joins digit groups, keeps
    ``\\$`` as the currency sign. It never removes a letter, a digit or an operator.
    """
    text = plain_text(text).strip()
    if "*" in text or "`" in text:
        text = text.strip("`")
        if text.startswith("**") or text.endswith("**"):
            text = text.strip("*").strip()
        text = text.replace("**", "^")
    if "\\" in text or "$" in text or "~" in text:
        text = _commands(text)
    if " " in text or "{,}" in text or "\\" in text:
        text = _GROUPS.sub(_join_group, text)
        if "\\" in text:
            text = _SPACING.sub(" ", text)
            text = _WIDE.sub(" ", text)
    if "\\text{ " in text:
        text = _CURRENCY.sub(r"\2\1", text)
    if "colon" in text:
        text = _COLON.sub(":", text)
    if len(set(_BASIS.findall(text))) >= 2:
        text = _BASIS.sub(r" \1\2 ", text)
    if text.endswith(("const", "const.", "constant", "}")):
        text = _ANY_CONSTANT.sub("+C", text)
    if "nswer" in text:
        text = _ANNOUNCED.sub("", text)
    if text.endswith("[") or "]" in text:
        text = _outward(text)
    if "mod" in text:
        text = _MODULO.sub(r"\\pmod{\1}", text)
    if "/d" in text:
        text = _DERIVATIVE.sub(r"\\frac{d\1}{d\2}", text)
    text = text.strip()
    while text and text[-1] in ".,;" and not text.endswith(("..", "\\,", "\\;")):
        text = text[:-1].rstrip()
    return text


def _outward(text: str) -> str:
    """``[-1,4[`` as ``[-1,4)``, also in a union; any other text as it is.

    ISO 80000-2 turns the bracket of an open end outward.
    """
    element = _ELEMENT_OF.match(text)
    start = element.end() if element else 0
    parts = []
    for piece in map(str.strip, text[start:].split("\\cup")):
        left, inner, right = piece[:1], piece[1:-1], piece[-1:]
        two = "," in inner or ";" in inner
        if left not in "[]" or right not in "[]" or not two or "[" in inner or "]" in inner:
            return text
        if left == "]" and right == "[":  # no point, as (a,b) may be
            low, _, high = inner.replace(";", ",").partition(",")
            parts.append(f"\\{{x:{low}<x<{high}\\}}")
        else:
            parts.append(f"{'[' if left == '[' else '('}{inner}{']' if right == ']' else ')'}")
    return text[:start] + " \\cup ".join(parts)


def _join_group(match: re.Match[str]) -> str:
    """``32,\\! 349`` -> 32349; a run of plain-space groups joins in the same way."""
    return _NOT_DIGIT.sub("", match.group())


def _commands(text: str) -> str:
    if text.startswith("$") and not text.endswith("$") and text.count("$") == 1:
        text = "\\" + text
    if "$" in text:
        text = _currency(text)
    text = _MATH_MARK.sub(" ", text)
    if "box" in text:
        text = _NESTED_BOX.sub("", text)
    return text.strip()


def _currency(text: str) -> str:
    """A lone ``$`` before a number is a currency sign; a pair delimits a formula."""
    plain = len(re.findall(r"(?<!\\)\$", text))
    if plain % 2 == 1:
        text = re.sub(r"(?<!\\)\$(?=\s*\d)", r"\\$", text, count=1)
    return text

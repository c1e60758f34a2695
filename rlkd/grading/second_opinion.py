"""Math-Verify as a second opinion. Imported in workers only, and only where a caller asked for it.

It is asked about what our own comparison and sympy leave ``undecided``, never about a verdict, and
only its yes counts: its no means that it found no proof. It is off by default because it says yes
to pairs that differ (16 of 289 wrong answers among the labelled hard cases, where rlkd has none).
Text that we cannot parse is not shown to it: there it takes numbers out of what it half understands
(``23_5`` for 23).

What it does with a model's text: latex2sympy2 parses it with an ANTLR grammar and builds sympy
objects (10 of 10 attempts to run code through it failed). Two ways to ``eval`` remain in it,
Math-Verify's own expressions outside LaTeX (``parse_expr``) and ``sympy.Number(text)``, which
sympify hands to ``parse_expr``. The first is switched off; for the second :func:`number` takes the
place of ``parse_expr`` while Math-Verify works; and an audit hook then refuses to compile any text
at all. Its own time limits are off: the worker's deadline and memory limit hold.
"""

from __future__ import annotations

import logging
import os.path
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import sympy
import sympy.parsing
import sympy.parsing.sympy_parser

METHOD = "worker:math-verify"
MAX_CHARACTERS = 1_000
# Decimals and digits to which it compares floats; its defaults (6, 15) take 0.333333 for 1/3.
FLOAT_ROUNDING = 30
NUMERIC_PRECISION = 60
_QUOTIENT = re.compile(r"\s*(\d{1,1000})(?:/(\d{1,1000}))?\s*", re.ASCII)
_DECIMAL = re.compile(r"\s*(?:\d{1,1000}\.\d{0,1000}|\.\d{1,1000})\s*", re.ASCII)
_parse_expr = sympy.parsing.sympy_parser.parse_expr
_loaded = False
_working = False


def load() -> None:
    """Import Math-Verify, ``parse_expr`` replaced. Runs once, in the template of the workers.

    Raises:
        ImportError: it is not installed.
    """
    global _loaded
    if _loaded:
        return
    sympy.parsing.sympy_parser.parse_expr = number  # what sympify calls
    sympy.parsing.parse_expr = number  # what Math-Verify and latex2sympy2 import
    import math_verify  # noqa: F401  # pyright: ignore[reportMissingImports]

    logging.getLogger("math_verify").disabled = True
    logging.getLogger("math_verify.grader").disabled = True
    logging.getLogger("math_verify.parser").disabled = True
    sys.addaudithook(_refuse_text)
    _loaded = True
    equal("\\frac{1}{2}+x", "x+0.5")  # tables and late imports, so that forked workers share them


def equal(gold: str, answer: str) -> bool:
    """Whether Math-Verify finds the answer equal to the gold. May run for ever: it is killed.

    Args:
        gold: LaTeX without delimiters, of at most ``MAX_CHARACTERS`` characters.
        answer: the same of the model's.
    """
    from math_verify import (  # pyright: ignore[reportMissingImports]
        LatexExtractionConfig,
        parse,
        verify,
    )

    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return False
    with _no_text_is_compiled():
        sides = [
            parse(
                f"$\\boxed{{{text}}}$",
                # no ExprExtractionConfig: it hands text to parse_expr
                extraction_config=[LatexExtractionConfig()],
                fallback_mode="no_fallback",  # no text is compared as text
                parsing_timeout=cast(Any, None),  # annotated int; None leaves signals alone
            )
            for text in (gold, answer)
        ]
        return all(sides) and bool(
            verify(
                *sides,
                float_rounding=FLOAT_ROUNDING,
                numeric_precision=NUMERIC_PRECISION,
                timeout_seconds=None,
            )
        )


def number(text: str, *rest: Any, **named: Any) -> Any:
    """Stands for ``parse_expr`` while Math-Verify works: plain numbers, without ``eval``.

    sympy's own constants, such as ``sympify("3/2")``, are such numbers too.

    Raises:
        sympy.SympifyError: the text is anything else.
    """
    if not _working:
        return _parse_expr(text, *rest, **named)
    if found := _QUOTIENT.fullmatch(text):
        return sympy.Rational(int(found.group(1)), int(found.group(2) or 1))
    if _DECIMAL.fullmatch(text):
        return sympy.Float(text.strip())
    raise sympy.SympifyError(text)


@contextmanager
def _no_text_is_compiled() -> Iterator[None]:
    global _working
    _working = True
    try:
        yield
    finally:
        _working = False


def _refuse_text(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook; a module that is imported late is compiled too, but as the file that it is."""
    if _working and event == "compile":
        name = arguments[1]
        name = os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
        if not name.endswith(".py") or not os.path.isfile(name):
            raise RuntimeError("text may not be compiled here")

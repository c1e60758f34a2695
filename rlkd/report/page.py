"""The data of a report in its page: one file, no network, nothing that a model wrote is markup."""

import base64
import hashlib
import html
import json
from importlib import resources
from typing import Any

_STYLES = ("frame.css", "parts.css")
_SCRIPTS = (
    "core.js",
    "chart.js",
    "resources.js",
    "curves.js",
    "panels.js",
    "rollouts.js",
    "start.js",
)
"""In this order, they are one script."""


def page(data: dict[str, Any]) -> str:
    """The HTML of a report.

    Args:
        data: what `rlkd.report.build.collect` gives.
    """
    script = "\n".join(['"use strict";', "(() => {", *(_file(name) for name in _SCRIPTS), "})();"])
    names = ", ".join(run["name"] for run in data["runs"])
    parts = {
        "TITLE": html.escape(f"{names} · rlkd report"),
        # Only this script may run, whatever stands in the data, and nothing may be fetched.
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "STYLE": "\n".join(_file(name) for name in _STYLES),
        "DATA": as_json(data),
        "SCRIPT": script,
    }
    pieces = _file("report.html").split("@@")
    # Odd pieces are names: what is put in is not searched for others.
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def as_json(data: Any) -> str:
    """JSON that may stand in a <script> element: no character in it ends the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # Half of a surrogate pair, as a cut text may end with, is no UTF-8.
    return text.encode("utf-8", "replace").decode()


def _file(name: str) -> str:
    return (resources.files("rlkd.report") / "template" / name).read_text(encoding="utf-8")

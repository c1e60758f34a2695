"""Questions about a tree: its leaves, its variables, its canonical form."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

Node = tuple[Any, ...]


class Leaves(NamedTuple):
    """What a tree is made of: variables, applied names, constants and node kinds."""

    symbols: frozenset[str]
    applied: frozenset[str]
    constants: frozenset[str]
    kinds: frozenset[str]


def leaves(node: Node) -> Leaves:
    """Collect the leaves of a tree; bound variables of sums and integrals are left out."""
    symbols: set[str] = set()
    applied: set[str] = set()
    constants: set[str] = set()
    kinds: set[str] = set()
    bound: set[str] = set()
    stack: list[Any] = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack.extend(part)
            continue
        if not isinstance(part, tuple) or not part:
            continue
        kind = part[0]
        if kind == "sym":
            symbols.add(part[1])
        elif kind == "const":
            constants.add(part[1])
        elif kind != "num":
            if kind == "app":
                applied.add(part[1])
            kinds.add(part[1] if kind == "fn" else kind if isinstance(kind, str) else "row")
            if kind in ("sum", "prod", "int", "lim"):
                bound.add(part[1])
            rest = part[1:2] if kind == "qty" else part[1:]
            stack.extend(part if isinstance(kind, tuple) else rest)
    return Leaves(
        frozenset(symbols - bound), frozenset(applied), frozenset(constants), frozenset(kinds)
    )


def canonical(node: Any) -> Any:
    """A hashable form in which order of terms and factors does not matter.

    Two trees with the same canonical form are equal; the reverse does not hold.
    """
    if isinstance(node, list):
        return ("#chain", *map(canonical, node))
    if not isinstance(node, tuple) or not node or not isinstance(node[0], str):
        return tuple(map(canonical, node)) if isinstance(node, tuple) else node
    kind = node[0]
    if kind in ("num", "sym", "const"):
        return node
    if kind in ("add", "mul"):
        return _flat(kind, node)
    if kind == "div":
        return _flat("mul", ("mul", node[1], ("pow", node[2], ("num", Fraction(-1)))))
    if kind == "set":
        return ("set", *sorted({canonical(part) for part in node[1:]}, key=repr))
    return (kind, *map(canonical, node[1:]))


def _flat(kind: str, node: Node) -> Any:
    constant = Fraction(0 if kind == "add" else 1)
    parts: list[Any] = []
    stack = list(reversed(node[1:]))
    while stack:
        part = stack.pop()
        if part[0] == kind:
            stack.extend(reversed(part[1:]))
            continue
        if kind == "mul" and part[0] == "div":
            stack.append(("pow", part[2], ("num", Fraction(-1))))
            stack.append(part[1])
            continue
        part = canonical(part)
        if part[0] == kind:
            stack.extend(part[1:])
        elif (
            part[0] == "num"
            and part[1].denominator.bit_length() < 500 > part[1].numerator.bit_length()
        ):
            constant = constant + part[1] if kind == "add" else constant * part[1]
        else:
            parts.append(part)
        if constant.numerator.bit_length() + constant.denominator.bit_length() > 4000:
            parts.append(("num", constant))
            constant = Fraction(0 if kind == "add" else 1)
    parts.sort(key=repr)
    if constant != (0 if kind == "add" else 1) or not parts:
        parts.insert(0, ("num", constant))
    return parts[0] if len(parts) == 1 else (kind, *parts)


def substitute(node: Any, old: Node, new: Node) -> Any:
    """The tree with one leaf replaced by another (depth is bounded by the parser)."""
    if node == old:
        return new
    if isinstance(node, tuple):
        return tuple(substitute(part, old, new) for part in node)
    if isinstance(node, list):
        return [substitute(part, old, new) for part in node]
    return node

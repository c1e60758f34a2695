"""Lists, finite sets and tuples: in which order, with which labels, how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .structure import Labelled, expand_signs, label, list_items, same_name
from .tree import canonical
from .verdict import Undecided

if TYPE_CHECKING:
    from .compare import Comparison

Node = tuple[Any, ...]


def is_collection(node: Node) -> bool:
    return node[0] in ("list", "set")


def compare_sets(at: Comparison, gold: Node, answer: Node) -> bool:
    """Finite sets: every member of each is in the other; repetition does not count."""
    g, a = _members(gold), _members(answer)
    return _covers(at, g, a) and _covers(at, a, g)


def _members(node: Node) -> list[Node]:
    out: list[Node] = []
    for item in node[1:]:
        out.extend(expand_signs(item))
    return _once(out)


def _once(items: list[Node]) -> list[Node]:
    seen: dict[Any, Node] = {}
    for item in items:
        seen.setdefault(canonical(item), item)
    return list(seen.values())


def _covers(at: Comparison, these: list[Node], others: list[Node]) -> bool:
    keys = {canonical(item) for item in others}
    for item in these:
        if canonical(item) not in keys and not any(_member(at, item, other) for other in others):
            if at.unsure:
                raise Undecided("a member that cannot be decided")
            return False
    return True


def _member(at: Comparison, gold: Node, answer: Node) -> bool:
    """Equality of members: here {1} and 1 are two things."""
    return (gold[0] == "set") == (answer[0] == "set") and _quiet(at, gold, answer)


def _quiet(at: Comparison, gold: Node, answer: Node) -> bool:
    """Equality inside a search: an undecided pair counts as different but is remembered."""
    try:
        return at.same(gold, answer)
    except Undecided:
        at.unsure = True
        return False


def compare_lists(at: Comparison, gold: Node, answer: Node) -> bool:
    """Lists against lists, sets, tuples and single values."""
    if gold[0] == "paren" or answer[0] == "paren":
        return _with_tuple(at, gold, answer)
    g, a = _values(gold), _values(answer)
    if gold[0] == "text" or answer[0] == "text":
        return _no_solution(gold, answer)
    if any(item == ("dots",) for item in g + a):
        return len(g) == len(a) and all(at.same(x, y) for x, y in zip(g, a, strict=True))
    labels_g, labels_a = _labels(g), _labels(a)
    if any(_unknowns(labels or []) for labels in (labels_g, labels_a)) and any(
        node[0] == "set" or node[:2] == ("list", "or") for node in (gold, answer)
    ):
        return False  # values without an order are not those of several unknowns
    if gold[0] == "set" or answer[0] == "set":
        g, a = _strip(g, labels_g), _strip(a, labels_a)
        return _multiset(at, g, a)
    if labels_g is not None and labels_a is not None:
        if _distinct(labels_g) and _distinct(labels_a):
            return _by_name(at, labels_g, labels_a)
        return _multiset(at, g, a)  # a value goes with its name
    if labels_g is not None or labels_a is not None:
        labels = labels_g or labels_a or []
        if _distinct(labels):
            g, a = _strip(g, _in_order(labels_g)), _strip(a, _in_order(labels_a))
            return len(g) == len(a) and all(at.same(x, y) for x, y in zip(g, a, strict=True))
    return _multiset(at, _strip(g, labels_g), _strip(a, labels_a))


def _values(node: Node) -> list[Node]:
    if node[0] == "set":
        return _members(node)
    return list_items(node)


def _labels(items: list[Node]) -> list[Labelled] | None:
    """The labels of a list in which every item has one."""
    found = [label(item) for item in items]
    if not found or any(f is None or f.name is None for f in found):
        return None
    return [f for f in found if f is not None]


def _distinct(labels: list[Labelled]) -> bool:
    return len({canonical(item.name) for item in labels}) == len(labels) > 1


def _unknowns(labels: list[Labelled]) -> bool:
    """Whether several unknowns are named; ``x_1, x_2`` number the values of one."""
    bases = {str(item.name[1]).split("_")[0] for item in labels if item.name is not None}
    return _distinct(labels) and len(bases) > 1


def _in_order(labels: list[Labelled] | None) -> list[Labelled] | None:
    """Unknowns of one letter in the order of the alphabet, which is that of a point's coordinates:
    ``y = 7, x = 4`` is (4, 7).
    """
    if labels is None or not all(
        item.name is not None and item.name[0] == "sym" and len(item.name[1]) == 1
        for item in labels
    ):
        return labels
    return sorted(labels, key=lambda item: str(item.name))


def _strip(items: list[Node], labels: list[Labelled] | None) -> list[Node]:
    return [item.value for item in labels] if labels is not None else items


def _by_name(at: Comparison, gold: list[Labelled], answer: list[Labelled]) -> bool:
    if len(gold) != len(answer):
        return False
    named = {canonical(item.name): item.value for item in answer}
    if all(canonical(item.name) in named for item in gold):
        return all(at.same(item.value, named[canonical(item.name)]) for item in gold)
    if all(same_name(g.name, a.name) for g, a in zip(gold, answer, strict=True)):  # type: ignore[arg-type]
        return all(at.same(g.value, a.value) for g, a in zip(gold, answer, strict=True))
    return False


def _multiset(at: Comparison, gold: list[Node], answer: list[Node]) -> bool:
    """Each item of one list meets exactly one of the other, in any order.

    Points (tuples) are solutions: one that is listed twice is still one solution.
    """
    if all(item[0] == "paren" for item in gold + answer):
        gold, answer = _once(gold), _once(answer)
    if len(gold) != len(answer):
        return False
    left: dict[Any, list[Node]] = {}
    for item in answer:
        left.setdefault(canonical(item), []).append(item)
    rest: list[Node] = []
    for item in gold:
        twins = left.get(canonical(item))
        if twins:
            twins.pop()
        else:
            rest.append(item)
    free = [item for twins in left.values() for item in twins]
    for item in rest:
        match = next((k for k, other in enumerate(free) if _quiet(at, item, other)), None)
        if match is None:
            if at.unsure:
                raise Undecided("an item that cannot be decided")
            return False
        free.pop(match)
    return True


def _with_tuple(at: Comparison, gold: Node, answer: Node) -> bool:
    """A bare list beside a tuple keeps its order; a set is not a tuple."""
    if "set" in (gold[0], answer[0]):
        whole, other = (gold, answer) if gold[0] == "set" else (answer, gold)
        return len(whole) == 2 and at.same(whole[1], other)
    if gold[0] == answer[0]:
        return False
    tuple_, other = (gold, answer) if gold[0] == "paren" else (answer, gold)
    items = list_items(other)
    labels = _labels(items)
    expanded = expand_signs(tuple_)
    if len(expanded) > 1 or (len(items) == 1 and items[0][0] == "paren"):
        return _multiset(at, expanded, items) if tuple_ is gold else _multiset(at, items, expanded)
    if tuple_[1:3] != ("(", ")"):
        return False
    if (labels is not None and not _distinct(labels)) or _one_unknown(other):
        return False  # several values of one unknown are no point
    values = _strip(items, _in_order(labels))
    if len(values) != len(tuple_) - 3:
        return False
    pairs = zip(tuple_[3:], values, strict=True)
    return all(at.same(t, v) if tuple_ is gold else at.same(v, t) for t, v in pairs)


def _one_unknown(node: Node) -> bool:
    """``x = 1, 2`` and ``1 or 2`` list values of one unknown."""
    if node[0] != "list":
        return False
    first = label(node[2])
    named = first is not None and first.name is not None and first.name[0] == "sym"
    others = [label(item) for item in node[3:]]
    bare = all(item is not None and item.name is None for item in others)
    return node[1] == "or" or (named and bare)


def _no_solution(gold: Node, answer: Node) -> bool:
    from .compare import _NO_SOLUTION
    from .structure import text_key

    words, other = (gold, answer) if gold[0] == "text" else (answer, gold)
    if other == ("set",):
        return text_key(words[1]) in _NO_SOLUTION
    if other[0] == "set" and len(other) == 2:
        return canonical(other[1]) == canonical(words)
    return False

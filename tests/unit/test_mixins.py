"""The trainer's mixins share one object: what one of them calls its own, no other may."""

import ast
import inspect

import pytest

from rlkd import Trainer
from rlkd.trainer import GRPOTrainer

MIXINS = [
    kind
    for kind in Trainer.__mro__[1:]
    if kind.__module__.startswith("rlkd.") and not issubclass(kind, GRPOTrainer)
]
ALIASES = {"_this", "_of"}
"""Properties that are the object itself, untyped."""


def attributes(kind: type) -> set[str]:
    """What a class sets on `self` (or on its alias for the type checker), or has in its body."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind)))
    aliases = {"self", "this", "trainer"}
    found = {
        target.attr
        for node in ast.walk(tree)
        for target in (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign | ast.AugAssign)
            else []
        )
        for target in (target.elts if isinstance(target, ast.Tuple) else [target])
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id in aliases
    }
    return found | {name for name in vars(kind) if not name.startswith("__")}


def test_there_are_mixins():
    assert len(MIXINS) > 7


@pytest.mark.parametrize("kind", MIXINS)
def test_no_two_of_them_use_one_name(kind):
    taken = {
        name: other.__name__
        for other in [*MIXINS, Trainer]
        if other is not kind and not issubclass(kind, other) and not issubclass(other, kind)
        for name in attributes(other)
    }
    clashes = {
        name: taken[name]
        for name in attributes(kind) & taken.keys() - ALIASES
        if not hasattr(GRPOTrainer, name)  # what TRL calls so is overridden by several
    }
    assert clashes == {}

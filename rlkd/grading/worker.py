"""What runs inside a worker process: the same comparison with more time, and sympy behind it."""

from __future__ import annotations

import json
import resource
import socket
import sys
from typing import Any

from . import compare as comparing
from .engine import match
from .equivalence import is_scalar
from .exact import Budget
from .gold import check, read, unbox
from .verdict import GradingError, Oversize, Undecided
from .worker_protocol import HEADER

Node = tuple[Any, ...]


def prepare() -> None:
    """Load and warm everything that is slow to load. Runs once in the template."""
    from . import symbolic

    symbolic.warm()
    symbolic_match("x^2+\\sin(x)", "\\sin(x)+x^2", "")


def serve(sock: socket.socket) -> None:
    """Answer jobs until the socket closes.

    A job is [id, gold, answer, other reading, whether a second opinion is wanted].
    """
    sys.setrecursionlimit(4_000)
    _send(sock, ["ready"])
    while True:
        head = _receive(sock, HEADER.size)
        if head is None:
            return
        body = _receive(sock, HEADER.unpack(head)[0])
        if body is None:
            return
        for number, gold, answer, other, second in json.loads(body):
            _send(sock, [number])  # from here on a death is this item's doing
            status, reason, method = _judge(gold, answer, other, second)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            _send(sock, [number, status, reason[:200], method, peak])


def _send(sock: socket.socket, message: list[Any]) -> None:
    data = json.dumps(message).encode()
    sock.sendall(HEADER.pack(len(data)) + data)


def _receive(sock: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)


def _judge(gold: str, answer: str, other: str, second: bool = False) -> tuple[str, str, str]:
    outcome = _own(gold, answer, other)
    if not second or outcome[0] != "undecided":
        return outcome
    try:
        return _asked_again(outcome, gold, answer, other)
    except (MemoryError, RecursionError) as problem:
        return "resource", f"{type(problem).__name__} in Math-Verify", "worker"
    except Exception as problem:
        return "undecided", f"{outcome[1]}; Math-Verify: {type(problem).__name__}", "worker"


def _asked_again(
    outcome: tuple[str, str, str], gold: str, answer: str, other: str
) -> tuple[str, str, str]:
    """What Math-Verify makes of a pair that is undecided; see ``second_opinion``."""
    from . import second_opinion

    target = read(unbox(gold)).text
    for text in (answer, other):
        if text and second_opinion.equal(target, read(text).text):
            return "correct", "equal to the gold for Math-Verify", second_opinion.METHOD
    status, reason, method = outcome
    return status, f"{reason}; Math-Verify finds no proof either", method


def _own(gold: str, answer: str, other: str) -> tuple[str, str, str]:
    try:
        return symbolic_match(gold, answer, other)
    except Oversize as problem:
        return "oversize", str(problem), "worker"
    except Undecided as problem:
        return "undecided", str(problem), "worker"
    except (MemoryError, RecursionError) as problem:
        return "resource", type(problem).__name__, "worker"
    except GradingError as problem:
        return "undecided", str(problem), "worker"
    except Exception as problem:
        return "undecided", f"{type(problem).__name__}: {problem}"[:200], "worker"


def symbolic_match(gold: str, answer: str, other: str) -> tuple[str, str, str]:
    """(status, reason, method) for one pair, with sympy for what the fast path cannot tell."""
    target, problem = check(gold)
    if target is None:
        return "undecided", problem, "worker"
    pending: Undecided | None = None
    for text in (answer, other):
        if not text:
            continue
        try:
            good, method = match(target, read(text), compare_slowly)
        except Undecided as undecided:
            pending = undecided
            continue
        if good:
            return "correct", "equal to the gold", f"worker:{method}"
    if pending is not None:
        raise pending
    return "wrong", "not equal to the gold", "worker"


class SlowComparison(comparing.Comparison):
    """The comparison of the fast path with a larger budget and sympy as its last resort."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(60_000)

    def scalar(self, gold: Node, answer: Node) -> bool:
        try:
            return super().scalar(gold, answer)
        except Undecided as problem:
            if not is_scalar(gold) or not is_scalar(answer):
                raise
            self.budget = Budget(60_000)
            from . import symbolic

            verdict = symbolic.equal(gold, answer)
            if verdict is None:
                raise Undecided(f"sympy cannot tell: {problem}") from None
            self.methods.append("sympy")
            return verdict

    def try_region(self, gold: Node, answer: Node) -> bool | None:
        try:
            return super().try_region(gold, answer)
        except Undecided:
            self.budget = Budget(60_000)
            from . import symbolic

            verdict = symbolic.equal_regions(gold, answer)
            if verdict is None:
                raise
            self.methods.append("sympy")
            return verdict


def compare_slowly(gold: Node, answer: Node) -> tuple[bool, str]:
    return comparing.run(SlowComparison(), gold, answer)

"""Strings that stall or take over graders: bounded in time and memory, never right, never run."""

import builtins
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlkd.grading import cache, grade
from tests.contract.grading.hostile import INJECTIONS, strings
from tests.contract.grading.watch import Watch, resident_kb

STRINGS = strings()
WALL_S = 1.6
STALL_S = 0.05


def stalls(item: str) -> bool:
    """Whether a string stalls other threads every time; a busy machine does so now and then."""
    gold, answer = next(s[1:] for s in STRINGS if s[0] == item)
    for _ in range(3):
        cache.VERDICTS.clear()
        cache.GOLDS.clear()
        with Watch() as watch:
            grade(f"So \\boxed{{{answer}}}", gold)
        if watch.worst_s < STALL_S:
            return False
    return True


def test_the_watch_sees_a_thread_that_holds_all_others():
    with Watch() as watch:
        time.sleep(0.02)
        sum(range(6_000_000))  # one call in C, which lets nobody else in
        time.sleep(0.02)
    assert watch.worst_s >= STALL_S


def test_there_are_over_a_hundred_of_them():
    assert len(STRINGS) >= 130
    assert len({name for name, _, _ in STRINGS}) == len(STRINGS)


def test_each_answers_in_time_within_memory_and_no_other_thread_stalls():
    slow, wrong = [], []
    before = resident_kb()
    with Watch() as watch:
        for name, gold, answer in STRINGS:
            watch.item = name
            start = time.perf_counter()
            verdict = grade(f"So \\boxed{{{answer}}}", gold)
            seconds = time.perf_counter() - start
            if seconds > WALL_S:
                slow.append((name, seconds, verdict.status))
            expected = 1.0 if name.startswith("same") else 0.0
            if verdict.score != expected or verdict.status == "crashed":
                wrong.append((name, verdict))
    assert not wrong
    assert not slow
    assert {name for name, gap in watch.stalls.items() if gap >= STALL_S and stalls(name)} == set()
    assert 1_000 < watch.worker_kb <= 1_000_000
    assert resident_kb() - before < 50_000


def test_the_same_strings_as_golds_and_without_a_box_are_bounded_too():
    for name, gold, answer in STRINGS:
        if name.startswith("calculus"):
            continue  # a second of worker each: covered above
        start = time.perf_counter()
        verdict = grade(f"The answer is ${answer}$.", gold)
        other = grade("\\boxed{42}", answer)
        assert time.perf_counter() - start < 2 * WALL_S, name
        assert verdict.status != "crashed", (name, verdict)
        assert other.status != "crashed", (name, other)


def test_no_string_is_executed(tmp_path: Path):
    canary = tmp_path / "canary"
    for text in INJECTIONS:
        payload = text.format(str(canary))
        for completion, gold in (
            (f"\\boxed{{{payload}}}", "x+1"),
            (f"The answer is {payload}.", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
            (f"\\boxed{{\\pi+{payload}}}", "\\sin(x)"),
            ("\\boxed{x+1}", payload),
        ):
            verdict = grade(completion, gold)
            assert verdict.score != 1.0
            assert verdict.status != "crashed", (payload, verdict)
        assert not canary.exists(), payload


def test_nothing_in_the_caller_evaluates_or_compiles(monkeypatch: pytest.MonkeyPatch, tmp_path):
    for text in INJECTIONS[:3]:
        grade(f"\\boxed{{{text}}}", "2x")  # what is imported late is now there

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("evaluated")

    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr(builtins, name, refuse)
    verdicts = [grade(f"\\boxed{{{t.format(tmp_path / 'x')}}}", "3x") for t in INJECTIONS]
    monkeypatch.undo()
    assert {v.status for v in verdicts} <= {"wrong", "unparsed", "undecided", "truncated"}


WORKER_PROBE = """
import sys, builtins
from rlkd.grading import worker
worker.prepare()
import sympy
import sympy.parsing.sympy_parser as parser
seen = []
def watched(text, *_, **__):
    seen.append(text)  # sympify and every constructor hand strings to this function
    raise ValueError("no strings")
parser.parse_expr = watched
try:
    sympy.Integer(1) + "2"
except Exception:
    pass
try:
    sympy.sin("x")
except Exception:
    pass
assert seen, "the watch does not watch"
seen.clear()
from tests.contract.grading.hostile import INJECTIONS
for text in INJECTIONS:
    for gold in ("\\\\int_0^1 x^x dx", "\\\\sin(x)"):
        payload = text.format("/tmp/never")
        for answer in (payload, "\\\\int_0^1 t^t dt + " + payload):
            worker._judge(gold, answer, "")
print("strings:", seen)
"""


def test_no_text_reaches_the_parsers_of_sympy_in_a_worker():
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", WORKER_PROBE], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "strings: []"

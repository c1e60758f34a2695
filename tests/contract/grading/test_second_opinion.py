"""Math-Verify in the workers: asked only for what is undecided, bounded, and never evaluating text.

What needs the package is skipped where it is not installed (`scripts/install dev` brings it).
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.math import accuracy
from rlkd.cli import main
from rlkd.grading import grade, grade_many, pool
from rlkd.grading.engine import require_math_verify
from tests.contract.grading.hostile import INJECTIONS, strings
from tests.contract.grading.test_hostile import WALL_S
from tests.contract.grading.watch import Watch
from tests.unit.grading.cases import pairs

ROOT = Path(__file__).resolve().parents[3]
#: Our own comparison and sympy cannot tell (an integral without limits); Math-Verify can.
GOLD = "\\int x^2\\,dx"
SAME = "\\frac{x^3}{3}"
OTHER = "\\frac{x^3}{2}"

needed = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed"
)


def test_asked_for_and_not_installed_is_said_at_once(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'rlkd\[math-verify\]'"):
        grade("\\boxed{1}", "1", math_verify=True)
    with pytest.raises(ImportError, match="not installed"):
        accuracy(["\\boxed{1}"], ["1"], math_verify=True)
    assert main(["grade", "--gold", "1", "--math-verify", "\\boxed{1}"]) == 2
    assert "rlkd[math-verify]" in capsys.readouterr().err
    assert grade("\\boxed{1}", "1").score == 1.0  # whoever does not ask needs nothing


@needed
def test_what_is_undecided_is_decided_by_it_and_the_verdict_says_so(capsys):
    assert grade(f"\\boxed{{{SAME}}}", GOLD).status == "undecided"
    verdict = grade(f"\\boxed{{{SAME}}}", GOLD, math_verify=True)
    assert (verdict.score, verdict.status) == (1.0, "correct")
    assert verdict.method == "worker:math-verify"
    assert grade(f"\\boxed{{{SAME}}}", GOLD).status == "undecided"  # and no cache mixes the two
    assert accuracy([f"\\boxed{{{SAME}}}"], [GOLD]) == [0.0]
    assert accuracy([f"\\boxed{{{SAME}}}"], [GOLD], math_verify=True) == [1.0]
    assert main(["grade", "--gold", GOLD, f"\\boxed{{{SAME}}}", "--math-verify"]) == 0
    assert "method=worker:math-verify" in capsys.readouterr().out


@needed
def test_its_no_is_no_verdict():
    verdict = grade(f"\\boxed{{{OTHER}}}", GOLD, math_verify=True, deadline_s=3.0)
    assert (verdict.score, verdict.status) == (0.0, "undecided")
    assert "Math-Verify finds no proof" in verdict.reason


@needed
def test_it_turns_no_decided_verdict():
    cases = [(f"\\boxed{{{answer}}}", gold) for _, gold, answer, _ in pairs()]
    cases += [(f"\\boxed{{{k}+\\int_0^1 x^x dx}}", "\\int_0^1 t^t dt") for k in range(2)]
    plain = grade_many(*zip(*cases, strict=True), deadline_s=5.0)
    asked = grade_many(*zip(*cases, strict=True), deadline_s=5.0, math_verify=True)
    assert {v.status for v in plain} > {"correct", "wrong", "unparsed"}
    assert [v.method for v in plain[-2:]] == ["worker:sympy", "worker"]
    # Which of our own ways came to a wrong answer first is a matter of time.
    assert [replace(v, method="") for v in asked] == [replace(v, method="") for v in plain]
    assert not any("verify" in v.method for v in asked)


@needed
def test_text_that_we_cannot_parse_is_not_shown_to_it():
    assert grade("\\boxed{23_5}", "23", math_verify=True).status == "unparsed"


@needed
def test_it_keeps_the_deadline_and_a_killed_worker_has_a_successor_that_can_do_it():
    start = time.perf_counter()
    verdict = grade("\\boxed{9^{9^{9^{9}}}}", "42", math_verify=True, deadline_s=0.5)
    assert (verdict.status, verdict.reason) == ("timeout", "no answer within 0.5 s")
    assert time.perf_counter() - start < 1.6
    template = pool.shared().template
    assert template is not None
    for worker in list(pool.shared().idle):
        os.kill(worker.pid, signal.SIGKILL)
    assert grade(f"\\boxed{{{SAME}}}", GOLD, math_verify=True).score == 1.0
    os.kill(template.process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert grade("\\boxed{\\frac{x^4}{4}}", "\\int x^3\\,dx", math_verify=True).score == 1.0


@needed
def test_hostile_strings_are_as_bounded_with_it():
    grade(f"\\boxed{{{SAME}}}", GOLD, math_verify=True)
    slow, wrong = [], []
    with Watch() as watch:
        for name, gold, answer in strings():
            if name.startswith("calculus"):
                continue  # they end in a time-out of sympy, before Math-Verify
            start = time.perf_counter()
            verdict = grade(f"So \\boxed{{{answer}}}", gold, math_verify=True)
            if time.perf_counter() - start > WALL_S:
                slow.append((name, verdict))
            if verdict.score != float(name.startswith("same")) or verdict.status == "crashed":
                wrong.append((name, verdict))
    assert not wrong
    assert not slow
    assert 1_000 < watch.worker_kb <= 1_000_000


PROBE = """
import sys
from rlkd.grading import second_opinion
from tests.contract.grading.hostile import INJECTIONS
import sympy
second_opinion.load()
canary = sys.argv[1]
for text in INJECTIONS:
    payload = text.format(canary)
    for gold, answer in (
        ("x+1", payload), (payload, payload), ("2x", "\\\\pi+" + payload),
        ("3", "3" + payload), ("\\\\sin(x)", "\\\\sin(" + payload + ")"),
    ):
        second_opinion.equal(gold, answer)
refused = 0
with second_opinion._no_text_is_compiled():
    for attempt in (
        lambda: eval("1"), lambda: exec("x=1"), lambda: compile("1", "name", "eval"),
        lambda: sympy.sympify("x+1"), lambda: sympy.sin("x"),
    ):
        try:
            attempt()
        except (RuntimeError, sympy.SympifyError):
            refused += 1
    assert sympy.sympify("3/2") == sympy.Rational(3, 2)
    assert sympy.Number("12.5") == sympy.Float("12.5")
assert eval("1") == 1 and sympy.sympify("x+1").free_symbols
print(refused)
"""


@needed
def test_no_text_is_evaluated_by_it(tmp_path: Path):
    canary = tmp_path / "canary"
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(canary)],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "5"
    for text in INJECTIONS:
        payload = text.format(canary)
        verdict = grade(f"\\boxed{{{SAME}+{payload}}}", GOLD, math_verify=True)
        assert verdict.score != 1.0
    assert not canary.exists()


@needed
def test_the_error_is_silent_where_it_is_installed():
    require_math_verify()

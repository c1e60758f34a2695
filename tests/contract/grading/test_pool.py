"""The pool: endless items, killed workers, deaths, recycling, close; from many threads at once."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from rlkd.grading import cache, grade, grade_many, pool, processes

ENDLESS = "\\int_0^1 \\frac{\\ln(1+x)\\ln(1-x)\\ln x}{%d+x^2} dx"
#: Only sympy can tell these: an integral that is no polynomial.
HARD = "\\int_0^{\\pi} \\sin(x)+%d\\,dx"


def hard(k: int) -> tuple[str, str]:
    return f"\\boxed{{2+{k}\\pi}}", HARD % k


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def workers() -> list[int]:
    template = pool.shared().template
    assert template is not None
    path = Path(f"/proc/{template.process.pid}/task/{template.process.pid}/children")
    return [int(p) for p in path.read_text().split()]


def zombies() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] == "Z" and int(fields[1]) == os.getpid():
                found.append(entry.name)
    return found


def test_a_hard_one_is_decided_by_a_worker():
    completion, gold = hard(1)
    verdict = grade(completion, gold, deadline_s=5.0)
    assert (verdict.score, verdict.status) == (1.0, "correct")
    assert verdict.method.startswith("worker")
    assert grade("\\boxed{3+\\pi}", gold, deadline_s=5.0).status == "wrong"


def test_an_integral_that_has_no_value_is_told_from_itself_and_one():
    gold = "\\int_0^1 t^t dt"
    assert grade("\\boxed{\\int_0^1 x^x dx}", gold, deadline_s=8.0).status == "correct"
    assert grade("\\boxed{1+\\int_0^1 x^x dx}", gold, deadline_s=8.0).status == "wrong"


def test_a_poisoned_batch_is_graded_right_and_in_time():
    completions, golds, expected = [], [], []
    for k in range(80):
        if k % 20 == 7:
            completions.append(f"\\boxed{{{ENDLESS % k}}}")
            golds.append("1")
            expected.append("timeout")
        elif k % 4 == 0:
            completion, gold = hard(k // 4)
            completions.append(completion)
            golds.append(gold)
            expected.append("correct")
        else:
            completions.append(f"\\boxed{{{k}}}")
            golds.append(str(k + k % 2))
            expected.append("wrong" if k % 2 else "correct")
    start = time.perf_counter()
    verdicts = grade_many(completions, golds, deadline_s=1.0)
    seconds = time.perf_counter() - start
    assert [v.status for v in verdicts] == expected
    assert seconds < 6.0
    start = time.perf_counter()
    again = grade_many(completions, golds, deadline_s=1.0)
    assert time.perf_counter() - start < 0.5  # a time-out is remembered
    assert again == verdicts


def test_a_longer_deadline_asks_again_where_a_shorter_one_was_not_enough():
    completion = f"\\boxed{{{ENDLESS % 3}}}"
    assert grade(completion, "1", deadline_s=0.2).reason == "no answer within 0.2 s"
    start = time.perf_counter()
    assert grade(completion, "1", deadline_s=0.6).reason == "no answer within 0.6 s"
    assert 0.5 < time.perf_counter() - start < 1.4


def test_equal_pairs_of_a_batch_are_graded_once():
    completion = f"\\boxed{{{ENDLESS % 5}}}"
    start = time.perf_counter()
    verdicts = grade_many([completion] * 50, ["1"] * 50, deadline_s=0.5)
    assert time.perf_counter() - start < 1.5
    assert {v.status for v in verdicts} == {"timeout"}


def test_a_worker_that_is_killed_from_outside_costs_nothing():
    for round_ in range(3):
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        completion, gold = hard(100 + round_)
        assert grade(completion, gold, deadline_s=5.0).score == 1.0


def test_a_template_that_is_killed_from_outside_is_started_again():
    template = pool.shared().template
    assert template is not None
    os.kill(template.process.pid, signal.SIGKILL)
    time.sleep(0.1)
    completion, gold = hard(200)
    assert grade(completion, gold, deadline_s=5.0).score == 1.0
    assert zombies() == []


def test_an_item_that_kills_its_worker_twice_is_crashed_and_the_others_are_graded(monkeypatch):
    stop = threading.Event()
    slow = f"\\boxed{{{ENDLESS % 9}}}"

    def killer() -> None:
        while not stop.is_set():
            for pid in workers():
                if (Path(f"/proc/{pid}/stat").read_text().split()[13]) > "20":
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def careful() -> None:
        while not stop.is_set():
            try:
                killer()
            except (OSError, AssertionError, IndexError):
                continue

    thread = threading.Thread(target=careful)
    thread.start()
    try:
        verdict = grade(slow, "1", deadline_s=20.0)
    finally:
        stop.set()
        thread.join()
    assert (verdict.score, verdict.status) == (0.0, "crashed")


def test_an_item_whose_worker_dies_once_is_tried_again(monkeypatch):
    real, killed = pool.Run._message, []

    def once(self, worker, message) -> None:
        real(self, worker, message)
        if worker.begun and not killed:
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    monkeypatch.setattr(pool.Run, "_message", once)
    verdict = grade(f"\\boxed{{{ENDLESS % 13}}}", "1", deadline_s=0.8)
    assert killed
    assert verdict.status == "timeout"  # the second worker had the whole of its time


def test_eight_threads_share_the_pool():
    found: dict[int, list[float | None]] = {}

    def work(n: int) -> None:
        pairs = [hard(1000 + 10 * n + k) for k in range(4)]
        found[n] = [
            v.score
            for v in grade_many([c for c, _ in pairs], [g for _, g in pairs], deadline_s=9.0)
        ]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {n: [1.0] * 4 for n in range(8)}


def test_workers_are_recycled_by_age(monkeypatch):
    grade(*hard(300), deadline_s=5.0)
    monkeypatch.setattr(pool, "RECYCLE_ITEMS", 1)
    before = set(workers())
    for k in range(3):
        assert grade(*hard(301 + k), deadline_s=5.0).score == 1.0
    assert not before & set(workers()) or len(before - set(workers())) >= 1


def test_an_interrupted_caller_leaves_a_pool_that_works(monkeypatch):
    class Stop(Exception):
        pass

    real = pool.Run._wait
    calls = []

    def interrupted(self) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stop
        real(self)

    monkeypatch.setattr(pool.Run, "_wait", interrupted)
    with pytest.raises(Stop):
        grade(f"\\boxed{{{ENDLESS % 11}}}", "1", deadline_s=5.0)
    monkeypatch.setattr(pool.Run, "_wait", real)
    assert pool.shared().out == 0
    assert grade(*hard(400), deadline_s=5.0).score == 1.0


def test_no_worker_at_all_is_a_status_and_no_exception(monkeypatch):
    cache.VERDICTS.clear()

    def fails(*_: object, **__: object) -> None:
        raise OSError("no processes left")

    pool.close()
    monkeypatch.setattr(processes.subprocess, "Popen", fails)
    verdict = grade(*hard(500))
    assert (verdict.score, verdict.status) == (0.0, "crashed")
    assert "no processes left" in verdict.reason
    assert grade("\\boxed{4}", "4").score == 1.0
    monkeypatch.undo()
    assert grade(*hard(500), deadline_s=9.0).score == 1.0  # the failure is not remembered


def test_a_worker_is_held_by_the_system_too():
    grade(*hard(550), deadline_s=5.0)
    for pid in workers():
        limits = dict(
            (line[:26].strip(), line[26:].split()[:2])
            for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        )
        assert limits["Max address space"] == [str(1 << 30)] * 2
        assert limits["Max file size"] == limits["Max core file size"] == ["0", "0"]
        assert limits["Max open files"] == ["16", "16"]


def test_closing_ends_every_process_and_leaves_no_zombie():
    grade(*hard(600), deadline_s=5.0)
    template = pool.shared().template
    assert template is not None
    pids = [template.process.pid, *workers()]
    assert len(pids) >= 2
    pool.close()
    limit = time.monotonic() + 3
    while any(map(alive, pids)) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not any(map(alive, pids))
    assert zombies() == []
    assert grade(*hard(601), deadline_s=9.0).score == 1.0  # and the next use starts anew


def test_the_workers_die_with_a_caller_that_is_killed():
    import subprocess
    import sys

    code = (
        "import sys, time\nfrom rlkd.grading import grade, pool\n"
        f"grade({hard(1)[0]!r}, {hard(1)[1]!r}, deadline_s=9.0)\n"
        "t = pool.shared().template.process.pid\n"
        "print(t, *open(f'/proc/{t}/task/{t}/children').read().split(), flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[3]
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root)
    assert caller.stdout is not None
    pids = [int(p) for p in caller.stdout.readline().split()]
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert len(pids) >= 2
    limit = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(alive, pids))

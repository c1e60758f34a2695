"""The hostile half of the grading benchmark: time, memory, stalls and code execution.

The strings are those of tests/contract/grading/hostile.py. rlkd is called as a trainer calls it:
one process, its workers beside it, a limit of 1 s. Math-Verify has no workers: each string is put
to it on the main thread of a forked child, with its own limits of 5 s, ended after CUT_S.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.contract.grading.hostile import INJECTIONS, strings
from tests.contract.grading.watch import Watch, resident_kb

WALL_S, WORKER_MB, CALLER_MB, STALL_MS = 1.6, 1_000, 50, 50
CUT_S = 12.0

# What the other interpreter runs. Per string: seconds, growth in kB, longest stall in s, fate.
OTHER = r"""
import json, logging, os, select, signal, struct, sys, threading, time
logging.disable(logging.CRITICAL)
import math_verify
from math_verify import parse, verify
pairs, cut = json.load(sys.stdin)
verify(parse("$x+1$"), parse("$\\boxed{1+x}$"))

def resident_kb():
    return int(open("/proc/self/statm").read().split()[1]) * 4

def one(completion, gold, write):
    worst, stop = [0.0], []
    def watch():
        wall, spent = time.perf_counter(), time.process_time()
        while not stop:
            time.sleep(0.001)
            now, used = time.perf_counter(), time.process_time()
            gap = min(now - wall, used - spent)
            if gap > worst[0]:
                worst[0] = gap
                os.pwrite(write, struct.pack("d", gap), 0)
            wall, spent = now, used
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        verify(parse("$" + gold + "$"), parse(completion))
    except Exception:
        pass
    stop.append(1)
    thread.join()

out = []
shared = os.memfd_create("stall")
for completion, gold in pairs:
    os.pwrite(shared, struct.pack("d", 0.0), 0)
    before, start = resident_kb(), time.perf_counter()
    pid = os.fork()
    if pid == 0:
        one(completion, gold, shared)
        os._exit(0)
    fate = "killed"
    while time.perf_counter() - start < cut:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            fate = "aborted" if os.WIFSIGNALED(status) else "ended"
            break
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    if fate == "killed":
        os.kill(pid, signal.SIGKILL)
        used = os.wait4(pid, 0)[2]
    stall = struct.unpack("d", os.pread(shared, 8, 0))[0]
    out.append([seconds, used.ru_maxrss - before, seconds if fate == "killed" else stall, fate])
json.dump(out, sys.stdout)
"""


@dataclass
class Hostile:
    """What one grader did with the strings."""

    worst_s: float
    slow: int
    """Strings that took longer than WALL_S."""
    worker_mb: float
    """Most memory of a process that worked on one."""
    caller_mb: float
    """How much the calling process grew."""
    stall_ms: float
    """Longest time for which another thread of the caller stood still."""
    lost: int
    """Strings after which a process had to be ended from outside, or aborted."""
    ran: int
    """Attempts to run code that succeeded."""


def injections(folder: Path) -> list[tuple[str, str, Path]]:
    """(completion, gold, file that must not appear), each attempt against three kinds of gold."""
    out = []
    for k, text in enumerate(INJECTIONS):
        for n, gold in enumerate(("x+1", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\sin(x)")):
            canary = folder / f"{k}-{n}"
            payload = text.format(canary)
            out.append(
                (f"\\boxed{{{payload if n != 2 else chr(92) + 'pi+' + payload}}}", gold, canary)
            )
    return out


def ours() -> Hostile:
    """rlkd on all strings, as one process."""
    from rlkd.grading import cache, grade

    cache.VERDICTS.clear()
    cache.GOLDS.clear()
    before, seconds, items = resident_kb(), [], strings()
    with Watch() as watch:
        for name, gold, answer in items:
            watch.item = name
            start = time.perf_counter()
            grade(f"So \\boxed{{{answer}}}", gold)
            seconds.append(time.perf_counter() - start)
    grown = resident_kb() - before
    stall = max(_steady(name, gap, items) for name, gap in watch.stalls.items())
    with tempfile.TemporaryDirectory() as folder:
        attempts = injections(Path(folder))
        for completion, gold, _ in attempts:
            grade(completion, gold)
        ran = sum(canary.exists() for _, _, canary in attempts)
    return Hostile(
        max(seconds), sum(s > WALL_S for s in seconds), watch.worker_kb / 1e3, grown / 1e3,
        stall * 1e3, 0, ran,
    )  # fmt: skip


def _steady(item: str, gap: float, items: list[tuple[str, str, str]]) -> float:
    """The stall that a string causes every time; a busy machine causes one now and then."""
    from rlkd.grading import cache, grade

    for _ in range(2):
        if gap * 1e3 < STALL_MS or not item:
            break
        cache.VERDICTS.clear()
        cache.GOLDS.clear()
        gold, answer = next(s[1:] for s in items if s[0] == item)
        with Watch() as watch:
            grade(f"So \\boxed{{{answer}}}", gold)
        gap = min(gap, watch.worst_s)
    return gap


def theirs(python: str) -> Hostile:
    """Math-Verify on all strings; about five minutes, most of them its own time-outs."""
    with tempfile.TemporaryDirectory() as folder:
        attempts = injections(Path(folder))
        pairs = [(f"So $\\boxed{{{answer}}}$", gold) for _, gold, answer in strings()]
        pairs += [(f"${completion}$", gold) for completion, gold, _ in attempts]
        done = subprocess.run(
            [python, "-c", OTHER], input=json.dumps([pairs, CUT_S]), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{python} could not run Math-Verify:\n{done.stderr[-1500:]}")
        ran = sum(canary.exists() for _, _, canary in attempts)
    found = json.loads(done.stdout)[: len(strings())]
    grown = max(f[1] for f in found) / 1e3
    return Hostile(
        max(f[0] for f in found), sum(f[0] > WALL_S for f in found), grown, grown,
        max(f[2] for f in found) * 1e3, sum(f[3] != "ended" for f in found), ran,
    )  # fmt: skip

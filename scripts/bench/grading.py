"""The grader against its bars, and side by side with Math-Verify in one run.

* dev.jsonl (labelled hard cases): accuracy, false positives, answers per second with a cold cache;
* everyday.jsonl (real completions): the same verdicts as Math-Verify, answers per second;
* the same completions behind 20,000 characters of thinking: answers per second;
* 800 completions with 8 endless ones among them, two workers, a limit of 1 s;
* hostile strings: time, memory, stalls of other threads, code executed (grading_hostile.py).

Speeds are the median of --repeats passes, each with empty caches, in one process; rlkd's workers
are started before the clock (a run starts them once). Both graders are timed in turns, in this run.
Wall time is what the bars speak of; the table gives processor time too, for a machine that is busy.

Math-Verify is run by the python of --math-verify-python (this one, if it can import math_verify).
Where there is none, that part is left out, and said so. On the hostile strings it takes about five
minutes; --quick leaves it out there.

Last line: the figures, and ok=yes where every bar that could be measured holds.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RLKD_GRADING_WORKERS", "2")

CASES = Path(__file__).resolve().parents[3] / "shared" / "math_cases"
THINKING = "<think>" + "We try 3 + 4 = 7, then look at \\frac{1}{2} again. " * 420 + "</think>\n"
ENDLESS = "\\int_0^1 \\frac{\\ln(1+x)\\ln(1-x)\\ln x}{%d+x^2} dx"

# What the other interpreter runs: cases on standard input, verdicts and times on standard output.
OTHER = r"""
import json, logging, sys, time
logging.disable(logging.CRITICAL)
from math_verify import parse, verify
pairs = json.load(sys.stdin)
out, wall, cpu = [], time.perf_counter(), time.process_time()
for completion, gold in pairs:
    try:
        out.append(bool(verify(parse("$" + gold + "$"), parse(completion))))
    except Exception:
        out.append(None)
json.dump([out, time.perf_counter() - wall, time.process_time() - cpu], sys.stdout)
"""

Pairs = list[tuple[str, str]]


def rows(name: str) -> list[dict]:
    """The cases of one file beside the repository; stops the program where it is absent."""
    path = CASES / name
    if not path.exists():
        sys.exit(
            f"{path} is not there. The labelled cases are no part of the repository: put them at "
            "../shared/math_cases beside it."
        )
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def ours(pairs: Pairs) -> tuple[list[bool | None], float, float]:
    """Verdicts of rlkd with empty caches (None: a bad gold); wall and processor seconds."""
    from rlkd.grading import cache, grade_many

    cache.VERDICTS.clear()
    cache.GOLDS.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    found = grade_many([c for c, _ in pairs], [g for _, g in pairs])
    times = time.perf_counter() - wall, time.process_time() - cpu
    return [None if v.score is None else v.score == 1.0 for v in found], *times


def theirs(python: str, pairs: Pairs) -> tuple[list[bool | None], float, float]:
    """Verdicts of Math-Verify in a fresh process; the time of its import is not counted."""
    done = subprocess.run(
        [python, "-c", OTHER], input=json.dumps(pairs), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{python} could not run Math-Verify:\n{done.stderr[-1500:]}")
    return tuple(json.loads(done.stdout))


def in_turns(pairs: Pairs, python: str | None, repeats: int) -> dict:
    """Both graders on the same pairs, in turns; the verdicts and the median speeds of each."""
    mine, other = [], []
    for _ in range(repeats):
        mine.append(ours(pairs))
        if python:
            other.append(theirs(python, pairs))
    result = {"ours": mine[0][0], "theirs": other[0][0] if other else None}
    for name, runs in (("ours", mine), ("theirs", other)):
        if runs:
            result[f"{name}_wall"] = len(pairs) / statistics.median(r[1] for r in runs)
            result[f"{name}_cpu"] = len(pairs) / statistics.median(r[2] for r in runs)
    return result


def poison() -> tuple[int, float]:
    """800 completions, 8 of them endless: how many are graded right, and the seconds."""
    from rlkd.grading import cache, grade_many

    completions, golds, expected = [], [], []
    for k in range(800):
        endless = k % 100 == 50
        completions.append(f"\\boxed{{{ENDLESS % k if endless else k}}}")
        golds.append("1" if endless else str(k + k % 2))
        expected.append("timeout" if endless else "wrong" if k % 2 else "correct")
    cache.VERDICTS.clear()
    start = time.perf_counter()
    found = grade_many(completions, golds, deadline_s=1.0)
    seconds = time.perf_counter() - start
    return sum(v.status == e for v, e in zip(found, expected, strict=True)), seconds


def show(what: str, mine: str, other: str, bar: str, ok: bool | None) -> bool:
    """One line of the table; True unless the bar is missed."""
    mark = {True: "yes", False: "NO", None: "-"}[ok]
    print(f"{what:<44}{mine:>16}{other:>16}  {bar:<26}{mark}", flush=True)
    return ok is not False


def speed_line(what: str, result: dict, factor: int) -> bool:
    mine = f"{result['ours_wall']:,.0f}/s"
    if result["theirs"] is None:
        return show(what, mine, "left out", f">= {factor}x", None)
    ratio = result["ours_wall"] / result["theirs_wall"]
    cpu = result["ours_cpu"] / result["theirs_cpu"]
    bar = f">= {factor}x: {ratio:.1f}x (cpu {cpu:.1f}x)"
    return show(what, mine, f"{result['theirs_wall']:,.0f}/s", bar, ratio >= factor)


def hostile_lines(python: str | None) -> list[bool]:
    """The lines on the hostile strings."""
    import grading_hostile as hostile

    mine = hostile.ours()
    other = hostile.theirs(python) if python else None

    def line(what: str, name: str, form: str, bar: str, most: float) -> bool:
        value = getattr(mine, name)
        shown = form.format(getattr(other, name)) if other else "left out"
        return show(what, form.format(value), shown, bar, value <= most)

    count = len(hostile.strings())
    lines = [
        line(f"hostile strings ({count}): slowest", "worst_s", "{:.2f} s", "<= 1.6 s each",
             hostile.WALL_S),
        line("  slower than 1.6 s", "slow", "{}", "0", 0),
        line("  killed from outside, or aborted", "lost", "{}", "0", 0),
        line("  most memory of a process at work", "worker_mb", "{:,.0f} MB", "<= 1,000 MB",
             hostile.WORKER_MB),
        line("  memory the caller gained", "caller_mb", "{:,.0f} MB", "<= 50 MB",
             hostile.CALLER_MB),
        line("  longest stall of another thread", "stall_ms", "{:,.0f} ms", "<= 50 ms",
             hostile.STALL_MS),
    ]  # fmt: skip
    attempts = 3 * len(hostile.INJECTIONS)
    return [*lines, line(f"code executed in {attempts} attempts", "ran", "{}", "0", 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--math-verify-python", help="an interpreter that has math_verify")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="no hostile strings for Math-Verify")
    args = parser.parse_args()
    python = args.math_verify_python
    if python is None and importlib.util.find_spec("math_verify") is not None:
        python = sys.executable
    if python is None:
        print("Math-Verify is left out: no math_verify here and no --math-verify-python given.")

    from rlkd.grading import pool

    pool.warm_up()
    hard, everyday = rows("dev.jsonl"), rows("everyday.jsonl")
    hard_pairs = [(r["completion"], r["gold"]) for r in hard]
    every_pairs = [(r["completion"], r["gold"]) for r in everyday]
    long_pairs = [(THINKING + completion, gold) for completion, gold in every_pairs[::4]]

    print(f"{'':<44}{'rlkd':>16}{'Math-Verify':>16}  bar")
    good = []
    result = in_turns(hard_pairs, python, args.repeats)
    truth = [r["correct"] for r in hard]

    def accuracy(verdicts: list | None) -> tuple[float, int]:
        pairs = list(zip(verdicts or [], truth, strict=verdicts is not None))
        right = sum((v is True) == t for v, t in pairs)
        return right / max(1, len(pairs)), sum(v is True and not t for v, t in pairs)

    mine, other = accuracy(result["ours"]), accuracy(result["theirs"])
    theirs_text = [f"{other[0]:.3f}", str(other[1])] if python else ["left out"] * 2
    good.append(show(f"hard cases ({len(hard)}): accuracy", f"{mine[0]:.4f}", theirs_text[0],
                     ">= 0.985", mine[0] >= 0.985))  # fmt: skip
    good.append(show("  false positives", str(mine[1]), theirs_text[1], "0", mine[1] == 0))
    good.append(speed_line("  speed, cold cache", result, 25))

    result = in_turns(every_pairs, python, args.repeats)
    broken = sum(v is None for v in result["ours"])
    apart = None
    if python:
        pairs = zip(result["ours"], result["theirs"], strict=True)
        apart = sum((a is True) != (b is True) for a, b in pairs)
    counted = str(sum(v is True for v in result["ours"]))
    other_counted = str(sum(v is True for v in result["theirs"])) if python else "left out"
    text, same = f"{apart} differ; {broken} bad golds", None if apart is None else apart == 0
    what = f"everyday completions ({len(everyday)}): true"
    good.append(show(what, counted, other_counted, text, same))
    good.append(speed_line("  speed, cold cache, one process", result, 10))

    size = sum(len(c) for c, _ in long_pairs) // len(long_pairs)
    result = in_turns(long_pairs, python, args.repeats)
    good.append(speed_line(f"completions of {size:,} characters: speed", result, 20))

    right, seconds = poison()
    text = f"{right} in {seconds:.1f} s"
    ok = right == 800 and seconds <= 8
    good.append(show("800 with 8 endless, two workers, 1 s: right", text, "", "800 in <= 8 s", ok))
    good += hostile_lines(None if args.quick else python)
    pool.close()
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"load average at the end: {load}")
    print(f"accuracy={mine[0]:.4f} false_positives={mine[1]} poison_s={seconds:.1f} "
          f"compared={'yes' if python else 'no'} ok={'yes' if all(good) else 'no'}")  # fmt: skip
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()

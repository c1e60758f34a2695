"""Rewards under guard: each way to fail, who pays for it, and what is left behind."""

import asyncio
import functools
import http.server
import json
import logging
import multiprocessing
import os
import random
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlkd.config import load
from rlkd.door import build_rewards
from rlkd.refs import resolve
from rlkd.rewarding.calling import Reply
from rlkd.rewarding.endpoint import post
from rlkd.rewarding.reward import GuardedReward
from rlkd.rewarding.search import settle
from rlkd.rewarding.watch import FaultWatch
from rlkd.rewarding.workers import Workers

MODULE = """
import asyncio, ctypes, mmap, os, random, signal, subprocess, sys, threading, time

CALLS = []

def misbehave(text):
    if text == "raise": raise ValueError("a bad answer")
    if text == "hang": time.sleep(600)
    if text == "spin":
        while True: pass
    if text == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    if text == "exit": os._exit(7)
    if text == "sys.exit": sys.exit(0)
    if text == "segfault": ctypes.string_at(0)
    if text == "memory": return float(len(bytearray(1 << 40)))
    if text == "grows":
        kept = []
        while True: kept.append(bytearray(b"x") * (64 << 20))
    if text == "shares":  # memory that the system's own limit does not count
        kept = []
        while True: kept.append(mmap.mmap(-1, 64 << 20)); kept[-1].write(b"x" * (64 << 20))
    if text == "recursion": return misbehave(text)
    if text == "string": return "0.5"
    if text == "nan": return float("nan")
    if text == "inf": return float("inf")
    if text == "huge": return 10 ** 400
    if text == "none": return None
    return float(len(text))

def length(completions, **columns):
    return [misbehave(text) for text in completions]

async def later(completions, **columns):
    await asyncio.sleep(0.001)
    return [misbehave(text) for text in completions]

async def stuck(completions, **columns):
    if "hang" in completions: await asyncio.sleep(600)
    return [misbehave(text) for text in completions]

def forgetful(completions, **columns):
    return [1.0 for text in completions if text != "empty"]

def single(completions, **columns):
    return [0.5]

def nothing(completions, **columns):
    pass

def number(completions, **columns):
    return 1.0

def above_mean(completions, **columns):
    values = [misbehave(text) for text in completions]
    return [value - sum(values) / len(values) for value in values]

def gold(completions, gold, *, scale=1, **columns):
    pairs = zip(completions, gold, strict=True)
    return [scale * float(text == right) * misbehave(text) for text, right in pairs]

def slow(completions, **columns):
    time.sleep(0.05 * len(completions))
    return [1.0] * len(completions)

def flaky(completions, **columns):
    CALLS.append(1)
    if not os.path.exists("tried"):
        open("tried", "w").close()
        os._exit(1)
    return [1.0] * len(completions)

def logs(completions, log_metric, log_extra, trainer_state, **columns):
    values = [misbehave(text) for text in completions]
    log_metric("longest", max(values))
    log_extra("said", completions)
    return [value + trainer_state.global_step for value in values]

def who(completions, **columns):
    return [os.getpid()] * len(completions)

def chance(completions, **columns):
    return [random.random() for _ in completions]

def starts_another(completions, **columns):
    if "child" in completions:
        child = subprocess.Popen(["sleep", "600"])
        open("child.pid", "w").write(str(child.pid))
        time.sleep(600)
    return [1.0] * len(completions)
"""
LIMIT = 0.4


@pytest.fixture
def guarded(project: Path):
    """Makes guarded rewards of the module above; ends their processes."""
    (project / "bad.py").write_text(MODULE)
    made: list[GuardedReward] = []

    def make(name="length", *, in_process=False, deadline_s=LIMIT, memory_mb=500, **kwargs):
        use = name if ":" in name else f"bad:{name}"
        function = functools.partial(resolve(use), **kwargs)
        workers = None
        if not in_process:
            spec = {"use": use, "kwargs": kwargs, "memory_kb": memory_mb * 1024, "seed": 3}
            workers = Workers(spec)
        reward = GuardedReward(function, name, deadline_s=deadline_s, workers=workers)
        made.append(reward)
        return reward

    yield make
    for reward in made:
        reward.close()


def children() -> set[int]:
    """Processes that this one has started and not waited for, zombies among them."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == os.getpid():
                found.add(int(entry.name))
    return found


def gone(pid: int) -> bool:
    """Is the process dead (a zombie that is not ours to bury counts)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# -- each fault -----------------------------------------------------------------------------------

FAULTS = [
    ("raise", "crashed", "ValueError: a bad answer"),
    ("hang", "timeout", "no answer within"),
    ("spin", "timeout", "no answer within"),
    ("deaf", "timeout", "no answer within"),
    ("exit", "crashed", "its process ended in the middle of the call"),
    ("sys.exit", "crashed", "SystemExit: 0"),
    ("segfault", "crashed", "its process ended in the middle of the call"),
    ("memory", "crashed", "MemoryError"),
    ("recursion", "crashed", "RecursionError"),
    ("string", "not_a_number", "gave a str: '0.5'"),
    ("nan", "not_a_number", "gave a float: nan"),
    ("inf", "not_a_number", "gave a float: inf"),
    ("huge", "not_a_number", "gave a int: 1000"),
]


@pytest.mark.parametrize(("text", "status", "reason"), FAULTS, ids=[f[0] for f in FAULTS])
def test_one_row_fails_and_the_others_keep_their_values(text, status, reason, guarded, caplog):
    reward = guarded(deadline_s=LIMIT if status == "timeout" else 20)
    rows = ["a" * i for i in range(40)]
    rows[17] = text
    got = reward(completions=rows, prompts=[f"p{i}" for i in range(40)])
    assert got == [None if i == 17 else float(i) for i in range(40)]
    counts = reward.take_faults()
    assert counts == {"rows": 40, status: 1, "repeats": int(status != "not_a_number")}
    assert reason in caplog.text
    assert f"prompt: 'p17'\n  completion: '{text}'" in caplog.text
    # The worker is as good as new.
    assert reward(completions=["ab"]) == [2.0]
    assert reward.take_faults() == {"rows": 1, "repeats": 0}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("grows", "MemoryError"), ("shares", "more than 0.488281 GiB of memory")],
)
def test_a_worker_that_grows_is_ended(text, reason, guarded, caplog):
    reward = guarded(deadline_s=20)
    assert reward(completions=["ab", text, "abc"]) == [2.0, None, 3.0]
    assert reason in caplog.text
    assert reward.take_faults()["crashed"] == 1


def test_none_is_no_fault(guarded):
    reward = guarded()
    assert reward(completions=["a", "none", "bc"]) == [1.0, None, 2.0]
    assert reward.take_faults() == {"rows": 3, "repeats": 0}


def test_several_rows_of_several_kinds_at_once(guarded, caplog):
    reward = guarded()
    rows = ["a"] * 64
    for row, text in {
        3: "hang",
        20: "raise",
        21: "exit",
        22: "nan",
        50: "hang",
        63: "raise",
    }.items():
        rows[row] = text
    got = reward(completions=rows)
    assert [i for i, value in enumerate(got) if value is None] == [3, 20, 21, 22, 50, 63]
    assert {value for value in got if value is not None} == {1.0}
    faults = reward.take_faults()
    assert faults == {"rows": 64, "repeats": 1, "timeout": 2, "crashed": 3, "not_a_number": 1}
    # Once per kind: time-out, exception, dead process, NaN.
    assert len(caplog.records) == 4
    reward(completions=["raise", "a"])
    assert len(caplog.records) == 4


def test_a_hang_costs_a_bounded_time(guarded):
    reward = guarded()
    reward(completions=["warm"])
    began = time.monotonic()
    assert reward(completions=["hang"] * 128) == [None] * 128
    assert time.monotonic() - began < 3 * LIMIT + 1
    assert reward.take_faults()["timeout"] == 128


@pytest.mark.parametrize("name", ["single", "nothing", "number"])
def test_a_function_that_never_gives_enough_gives_nothing(name, guarded, caplog):
    reward = guarded(name)
    assert reward(completions=["a", "b", "c"]) == [None] * 3
    assert reward.take_faults()["wrong_count"] == 3
    assert "wrong_count on 3 of 3 rows" in caplog.text


def test_the_row_that_is_not_counted_is_found(guarded):
    reward = guarded("forgetful")
    assert reward(completions=["a", "empty", "b"]) == [1.0, None, 1.0]
    assert reward.take_faults()["wrong_count"] == 1


def test_values_that_depend_on_the_other_rows_are_of_one_call(guarded):
    """A part of a group has another mean: what a search saw is not a value."""
    got = guarded("above_mean")(completions=["a", "exit", "abc", "ab"])
    assert got == [-1.0, None, 1.0, 0.0]


def test_a_call_that_is_too_slow_as_a_whole_has_no_values(guarded, caplog):
    reward = guarded("slow")
    assert reward(completions=["a"] * 20) == [None] * 20
    assert "no answer within 0.4 s" in caplog.text
    assert reward(completions=["a"] * 4) == [1.0] * 4


def test_a_fault_that_does_not_come_again_costs_nothing(guarded, caplog):
    reward = guarded("flaky")
    assert reward(completions=["a"] * 4) == [1.0] * 4
    assert reward.take_faults() == {"rows": 4, "repeats": 1}
    assert "went well when it was repeated" in caplog.text


def test_a_long_sample_is_cut_in_the_warning(guarded, caplog):
    guarded("gold")(completions=["raise"], prompts=["p" * 1000], gold=["raise"])
    assert f"'{'p' * 299}… (1002 characters)" in caplog.text
    assert "bad.py, line" in caplog.text


# -- how it is called -----------------------------------------------------------------------------


def test_columns_and_arguments_arrive(guarded):
    reward = guarded("gold", scale=3)
    got = reward(completions=["ab", "raise", "x"], prompts=[1, 2, 3], gold=["ab", "b", "y"])
    assert got == [6.0, None, 0.0]


@pytest.mark.parametrize("in_process", [False, True])
def test_coroutines(in_process, guarded):
    reward = guarded("later", in_process=in_process, deadline_s=5)
    for _ in range(2):
        assert reward(completions=["a", "raise", "abc"]) == [1.0, None, 3.0]

    async def within() -> list:
        return reward(completions=["ab"])

    assert asyncio.run(within()) == [2.0]


def test_a_coroutine_that_hangs(guarded):
    assert guarded("stuck")(completions=["a", "hang", "abc"]) == [1.0, None, 3.0]


@pytest.mark.parametrize("in_process", [False, True])
def test_trls_helpers_reach_a_worker_and_what_it_logs_comes_back(in_process, guarded):
    reward = guarded("logs", in_process=in_process)
    got: list = []
    values = reward(
        completions=["a", "raise", "abc"],
        trainer_state=SimpleNamespace(global_step=10, log_history=[{}]),
        log_metric=lambda *pair: got.append(pair),
        log_extra=lambda *pair: got.append(pair),
    )
    assert values == [11.0, None, 13.0]
    assert got == [("longest", 3.0), ("said", ["a", None, "abc"])]


@pytest.mark.parametrize("text", ["raise", "sys.exit", "recursion", "nan"])
def test_in_process_exceptions_are_caught_too(text, guarded):
    reward = guarded(in_process=True)
    assert reward(completions=["ab", text, "abc"]) == [2.0, None, 3.0]
    assert sum(reward.take_faults().values()) == 4 + (text != "nan")


def test_a_worker_is_another_process_and_stays(guarded):
    reward = guarded("who")
    first, second = reward(completions=["a"]), reward(completions=["a"])
    assert first == second != [os.getpid()]
    assert guarded("who", in_process=True)(completions=["a"]) == [os.getpid()]


def test_random_numbers_are_those_of_the_seed(guarded):
    state = random.getstate()
    first, second = guarded("chance"), guarded("chance")
    assert first(completions=["a"] * 3) == second(completions=["a"] * 3)
    assert random.getstate() == state


def test_no_rows_no_call(guarded):
    assert guarded("nothing")(completions=[]) == []


def test_a_column_that_cannot_be_sent_is_told(guarded, caplog):
    reward = guarded()
    assert reward(completions=["a", "b"], lock=threading.Lock()) == [None, None]
    assert "cannot be sent to the worker" in caplog.text
    assert "in_process: true" in caplog.text


def test_a_module_that_fails_in_the_worker_only(guarded, project, caplog):
    reward = guarded()
    (project / "bad.py").write_text("raise OSError('no licence here')")
    assert reward(completions=["a", "b"]) == [None, None]
    assert "no licence here" in caplog.text
    assert reward.take_faults()["crashed"] == 2


def test_an_import_is_not_on_the_time_of_the_first_call(guarded, project):
    (project / "heavy.py").write_text(
        "import time, sys\n"
        "time.sleep(0.5 if 'rlkd.rewarding.template' in sys.modules else 0)\n"
        "def one(completions, **columns): time.sleep(0.1); return [1.0] * len(completions)\n"
    )
    reward = guarded("heavy:one", deadline_s=0.4)
    assert reward(completions=["a"]) == [1.0]
    assert reward.take_faults()["repeats"] == 0


# -- where it is called from ----------------------------------------------------------------------


def test_from_several_threads(guarded):
    reward = guarded()
    got: dict[int, list] = {}

    def work(n):
        got[n] = reward(completions=["a" * n, "hang" if n == 2 else "a", "abc"])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == {n: [float(n), None if n == 2 else 1.0, 3.0] for n in range(4)}


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_from_a_forked_and_a_spawned_process(method, guarded):
    reward, who = guarded(), guarded("who")
    assert reward(completions=["ab"]) == [2.0]
    mine = who(completions=["a"])
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    arguments = ((reward, who) if method == "fork" else (), queue, str(Path.cwd()))
    process = context.Process(target=_elsewhere, args=arguments)
    process.start()
    values, theirs = queue.get(timeout=60)
    assert values == [1.0, None, 3.0]
    assert theirs != mine
    process.join(10)
    assert process.exitcode == 0
    assert reward(completions=["ab", "exit"]) == [2.0, None]


def _elsewhere(rewards, queue, folder):
    os.chdir(folder)
    if not rewards:
        specs = [
            {"use": use, "kwargs": {}, "memory_kb": 1 << 20, "seed": 0}
            for use in ("bad:length", "bad:who")
        ]
        rewards = [GuardedReward(len, "it", deadline_s=5, workers=Workers(spec)) for spec in specs]
    length, who = rewards
    queue.put((length(completions=["a", "exit", "abc"]), who(completions=["a"])))
    for reward in rewards:
        reward.close()


def test_nothing_is_left_behind_and_nothing_of_the_callers_is_touched(guarded):
    def handler(*_):
        pass

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM)
    kept = {name: signal.signal(name, handler) for name in names}
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 100)
        reward = guarded()
        reward(completions=["a", "hang", "exit", "raise", "a"] * 4)
        assert all(signal.getsignal(name) is handler for name in names)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
        assert len(children() - before) == 1  # the template; workers are its children
        (template,) = children() - before
        workers = _children_of(template)
        assert len(workers) == 1
        assert not gone(workers[0])
        reward.close()
        assert children() == before
        assert gone(workers[0])
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert threading.active_count() == len(threading.enumerate())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for name, old in kept.items():
            signal.signal(name, old)


def _children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_a_worker_has_started_ends_with_it(guarded, project):
    assert guarded("starts_another")(completions=["a", "child"]) == [1.0, None]
    child = int((project / "child.pid").read_text())
    limit = time.monotonic() + 5
    while not gone(child) and time.monotonic() < limit:
        time.sleep(0.01)
    assert gone(child)


@pytest.mark.parametrize("how", ["exit", "kill", "interrupt"])
def test_workers_end_with_the_trainer(how, guarded, project):
    """Also when it is killed, and when Ctrl-C comes while a worker hangs."""
    root = Path(__file__).resolve().parents[2]
    script = f"""
        import os, signal, sys
        sys.path[:0] = [{str(root)!r}, {str(project)!r}]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background ignored
        from rlkd.rewarding.reward import GuardedReward
        from rlkd.rewarding.workers import Workers
        workers = Workers({{"use": "bad:who", "kwargs": {{}}, "memory_kb": 1 << 20, "seed": 0}})
        other = Workers({{"use": "bad:length", "kwargs": {{}}, "memory_kb": 1 << 20, "seed": 0}})
        pid = GuardedReward(len, "who", workers=workers)(completions=["a"])[0]
        print(int(pid), flush=True)
        if {how!r} == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if {how!r} == "interrupt":
            GuardedReward(len, "length", workers=other)(completions=["hang"])
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project,
    )  # fmt: skip
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    if how == "interrupt":
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    # The pipes close only when every process that holds them has ended.
    _, complaint = process.communicate(timeout=20)
    assert process.returncode == {"exit": 0, "kill": -9, "interrupt": -2}[how], complaint
    assert gone(worker)


def test_a_template_that_dies_is_replaced(guarded):
    reward = guarded()
    before = children()
    assert reward(completions=["a"]) == [1.0]
    (template,) = children() - before
    os.kill(template, signal.SIGKILL)
    time.sleep(0.05)
    assert reward(completions=["a", "ab"]) == [1.0, 2.0]
    assert len(children() - before) == 1


def test_a_template_whose_trainer_ends_before_any_call_says_nothing():
    ours, theirs = socket.socketpair()
    spec = {"use": "rewards.arithmetic:accuracy", "kwargs": {}, "memory_kb": 2**20, "seed": 0}
    code = (
        "import sys, json; from rlkd.rewarding.template import main; "
        "main(int(sys.argv[1]), json.loads(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno()), json.dumps(spec)],
        pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    theirs.close()
    assert select.select([ours], [], [], 60)[0]
    ours.close()  # what it sent is unread: its next receive fails, and does not merely end
    assert process.communicate(timeout=20) == (None, "")
    assert process.returncode == 0


def test_it_is_cheap_when_all_is_well(guarded):
    reward = guarded()
    given = {
        "completions": ["8,4,6#6"] * 128, "prompts": ["3+5*8+2  ="] * 128,
        "completion_ids": [list(range(24))] * 128, "answer": ["6"] * 128,
        "trainer_state": None, "log_metric": print, "log_extra": print,
    }  # fmt: skip
    reward(**given)
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        reward(**given)
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[25] < 2e-3


# -- the search, without processes ----------------------------------------------------------------


def test_any_set_of_guilty_rows_is_found():
    dice = random.Random(0)
    for _ in range(300):
        count = dice.randint(1, 200)
        guilty = set(dice.sample(range(count), dice.randint(0, min(count, 20))))

        def attempt(parts, limit_s, until, guilty=guilty):
            return [
                Reply("crashed") if guilty & set(part) else Reply("ok", [float(r) for r in part])
                for part in parts
            ]

        settled = settle(count, attempt, 10.0)
        assert settled.values == [None if r in guilty else float(r) for r in range(count)]
        assert [s != "ok" for s in settled.statuses] == [r in guilty for r in range(count)]
        assert settled.repeats == bool(guilty)


def test_without_a_fault_there_is_one_call():
    calls = []

    def attempt(parts, limit_s, until):
        calls.append(parts)
        return [Reply("ok", [0.0] * len(part)) for part in parts]

    assert settle(5, attempt, 1.0).values == [0.0] * 5
    assert calls == [[[0, 1, 2, 3, 4]]]


# -- when a run stops -----------------------------------------------------------------------------


def steps(share, *faults, rows=20):
    """After how many steps the watch trips; None: never."""
    watch = FaultWatch("accuracy", share)
    for number, count in enumerate(faults, 1):
        watch.add({"rows": rows, "timeout": count, "repeats": 1})
        if watch.complaint is not None:
            return number
    return None


def test_a_run_stops_past_the_share_over_five_steps():
    assert steps(0.2, 20, 20) == 2
    assert steps(0.2, 20, 0, 0, 0, 0, 20) is None
    assert steps(0.2, 4, 4, 4, 4, 4, 4, 4) is None
    assert steps(0.2, 4, 4, 4, 4, 5) == 5
    assert steps(0.0, 0, 0, 1) == 3
    assert steps(1.0, *[20] * 20) is None


def test_steps_without_sampling_do_not_count():
    watch = FaultWatch("accuracy", 0.2)
    watch.add({"rows": 10, "crashed": 10})
    for _ in range(10):
        watch.add({"rows": 0})
    watch.add({"rows": 10, "crashed": 1})
    assert watch.complaint is not None
    assert "11 of the last 20 rows got no value" in watch.complaint
    assert "11 crashed" in watch.complaint


# -- an HTTP endpoint -----------------------------------------------------------------------------


@pytest.fixture
def server():
    """An endpoint that says how long the completions are; `hang` and `fail` do what they say."""
    seen: list[dict] = []
    release = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body | {"token": self.headers.get("Authorization")})
            if "hang" in body["completions"]:
                release.wait(30)
            code = 500 if "fail" in body["completions"] else 200
            answer = json.dumps({"rewards": [len(text) or None for text in body["completions"]]})
            self.send_response(code)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_):
            pass

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_address[1]}/v1/score", seen
    release.set()
    http_server.shutdown()
    http_server.server_close()


def test_an_endpoint_is_a_reward_like_any_other(server, guarded, monkeypatch, caplog):
    url, seen = server
    monkeypatch.setenv("JUDGE_TOKEN", "secret")
    reward = guarded("rlkd.rewarding.endpoint:post", url=url, token_env="JUDGE_TOKEN")
    given = {"prompts": ["p"] * 3, "gold": [1, 2, 3], "log_metric": print, "completion_ids": [[1]]}
    assert reward(completions=["a", "", "abc"], **given) == [1.0, None, 3.0]
    assert seen == [
        {"completions": ["a", "", "abc"], "prompts": ["p"] * 3, "gold": [1, 2, 3],
         "token": "Bearer secret"}
    ]  # fmt: skip
    assert reward(completions=["a", "hang", "abc"], **given) == [1.0, None, 3.0]
    assert reward(completions=["a", "fail", "abc"], **given) == [1.0, None, 3.0]
    assert "HTTP Error 500" in caplog.text


def test_an_endpoint_that_is_not_there_is_a_fault(guarded, caplog):
    reward = guarded("rlkd.rewarding.endpoint:post", url="http://127.0.0.1:9/score")
    assert reward(completions=["a", "b"]) == [None, None]
    assert "refused" in caplog.text


def test_a_config_names_an_endpoint_by_its_address(project):
    path = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
    use = "https://judge.example:8000/v1/score"
    config = load(path, [f"--rewards=[{{use: '{use}', kwargs: {{token_env: T}}}}]"])
    assert config.rewards[0].label == "score"
    (function,) = build_rewards(config).values()
    assert function.func is post  # pyright: ignore[reportFunctionMemberAccess]
    assert function.keywords == {"url": use, "token_env": "T"}  # pyright: ignore


def test_environments_need_the_trainers_process(project):
    from rlkd.config import ConfigError

    path = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
    (project / "tools.py").write_text("def used(completions, environments, **columns): ...")
    words = ["--rewards=[{use: 'tools:used'}]"]
    with pytest.raises(ConfigError, match=r"set rewards\.0\.in_process to true"):
        build_rewards(load(path, words))
    assert list(build_rewards(load(path, [*words, "--rewards.0.in_process=true"]))) == ["used"]


@pytest.fixture(autouse=True)
def _hear_warnings(caplog):
    caplog.set_level(logging.WARNING, logger="rlkd")

"""Heartbeats, first failures, stacks and the watch over them, with small processes."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlkd import cli, run
from rlkd.config import ConfigError, load
from rlkd.liveness import failure as failures
from rlkd.liveness import heartbeat, stacks
from rlkd.liveness.failure import Failure
from rlkd.liveness.stacks import Answer, Incidents
from rlkd.liveness.watch import Watch, beat_on_forward
from rlkd.training.phases import Phases
from rlkd.training.stopped import BY_HAND, STUCK, Broken, PeerFailed, Stopped, exit_code_of
from rlkd.training.stopping import StopSignals

ROOT = Path(__file__).resolve().parents[2]


def beat(rank=0, *, step=3, phase="", **more):
    return replace(heartbeat.own("s", rank, step=step, phase=phase, silent_s=7.0), **more)


# -- heartbeats -----------------------------------------------------------------------------------


def test_a_heartbeat_is_read_back_by_its_own_session_only(tmp_path):
    mine = beat(2, phase="score > reward")
    heartbeat.write(tmp_path, mine)
    assert heartbeat.read(tmp_path, 2, "s") == mine
    assert mine.place == "step 3, score > reward"
    assert heartbeat.read(tmp_path, 2, "another") is None
    assert heartbeat.read(tmp_path, 1, "s") is None
    assert [path.name for path in (tmp_path / "heartbeats").iterdir()] == ["rank-2.json"]


def test_a_process_is_gone_when_it_is():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = beat(pid=child.pid, born=heartbeat.born(child.pid))
    assert not heartbeat.is_gone(theirs)
    child.kill()
    until = time.monotonic() + 10
    while not heartbeat.is_gone(theirs):  # a zombie: nobody has asked for its exit code
        assert time.monotonic() < until
    child.wait()
    assert heartbeat.is_gone(theirs)
    assert not heartbeat.is_gone(beat())
    assert heartbeat.is_gone(beat(born="1"))  # our pid, of an earlier process
    assert not heartbeat.is_gone(replace(theirs, host="elsewhere"))


# -- first failures -------------------------------------------------------------------------------


def test_the_first_of_many_failures_holds(tmp_path):
    def claim(rank):
        found.append(failures.claim(tmp_path, "s", Failure(rank, rank, f"of {rank}", 1)))

    found: list[Failure] = []
    threads = [threading.Thread(target=claim, args=(rank,)) for rank in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 16
    assert failures.read(tmp_path, "s") == found[0]
    assert failures.read(tmp_path, "another") is None


@pytest.mark.parametrize(
    ("error", "anothers"),
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp"), True),
        (ConnectionResetError("Connection reset by peer"), True),
        (RuntimeError("CUDA out of memory"), False),
        (ValueError("the socket of the user's reward: connection closed"), False),
    ],
    ids=str,
)
def test_what_another_ranks_end_looks_like(error, anothers):
    assert failures.may_be_anothers(error) == anothers


def test_a_failure_has_the_exit_code_of_the_command():
    assert exit_code_of(ConfigError("x")) == 2
    assert exit_code_of(Broken("x")) == 3
    assert exit_code_of(Stopped("x", 75)) == 75
    assert exit_code_of(KeyboardInterrupt()) == BY_HAND
    assert exit_code_of(ValueError()) is None


def test_the_command_ends_with_the_code_of_the_rank_that_failed(monkeypatch, capsys):
    def train(*_, **__):
        raise PeerFailed("rank 0 ends: …", STUCK)

    monkeypatch.setattr(run, "train", train)
    monkeypatch.chdir(ROOT)
    assert cli.main(["train", "configs/quickstart.yaml"]) == STUCK == 76
    assert capsys.readouterr().err == "rlkd: rank 0 ends: …\n"


# -- a rank of several ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def must_end(monkeypatch):
    """(seconds, exit code) of what would end this process."""
    deadlines = []
    monkeypatch.setattr(Watch, "_end_within", lambda self, *deadline: deadlines.append(deadline))
    return deadlines


def watch(folder, rank, phases=None, world_size=2, **more):
    limits = {"stacks_after_s": 0, "abort_after_s": 0, "tick_s": 0.05} | more
    return Watch(folder, rank, world_size, phases or Phases(), "s", **limits)


def raise_in(watched, error, phases=None):
    phases = phases or Phases()
    with watched, phases("score"), phases("reward"):
        raise error


def test_an_exception_is_claimed_before_it_leaves(tmp_path, capsys, must_end):
    phases = Phases()
    phases.step = 4
    with pytest.raises(KeyError):
        raise_in(watch(tmp_path, 1, phases), KeyError("k"), phases)
    first = failures.read(tmp_path, "s")
    assert (first.rank, first.told_by, first.exit_code) == (1, 1, 1)
    assert first.what == "rank 1 of 2 failed first (step 4, score > reward): KeyError: 'k'"
    assert "raise error" in first.details
    assert capsys.readouterr().err == f"rlkd: {first.what}\n"
    assert heartbeat.read(tmp_path, 1, "s").ended
    assert must_end == [(20.0, 1)]


def test_a_foreseen_end_is_claimed_and_left_to_the_command_to_show(tmp_path, capsys, must_end):
    with pytest.raises(ConfigError):
        raise_in(watch(tmp_path, 0), ConfigError("the batch"))
    assert failures.read(tmp_path, "s").exit_code == 2
    assert capsys.readouterr().err == ""
    assert must_end == []


def test_one_process_alone_claims_nothing(tmp_path, capsys):
    with pytest.raises(KeyError):
        raise_in(watch(tmp_path, 0, world_size=1), KeyError("k"))
    assert failures.read(tmp_path, "s") is None
    assert capsys.readouterr().err == ""


LOST = RuntimeError("gloo: Connection closed by peer")


def test_a_broken_connection_is_the_failure_of_the_rank_that_failed_first(tmp_path):
    failures.claim(tmp_path, "s", Failure(1, 1, "rank 1 of 2 failed first: KeyError", 1))
    with pytest.raises(PeerFailed, match="rank 1 of 2 failed first") as caught:
        raise_in(watch(tmp_path, 0, tick_s=60), LOST)
    assert caught.value.exit_code == 1
    assert "--resume" in str(caught.value)


def test_a_broken_connection_to_a_killed_rank_names_it(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    heartbeat.write(tmp_path, beat(1, pid=child.pid, born=heartbeat.born(child.pid)))
    lost = watch(tmp_path, 0, tick_s=60)
    assert not lost.is_lost()
    child.kill()
    with pytest.raises(PeerFailed, match=r"is gone without a word.*step 3.*killed") as caught:
        raise_in(lost, LOST)
    child.wait()
    assert caught.value.exit_code == STUCK
    assert lost.is_lost()


def test_a_rank_that_has_ended_is_not_missed(tmp_path):
    heartbeat.write(tmp_path, beat(1, born="1", ended=True))
    assert not watch(tmp_path, 0).is_lost()
    heartbeat.write(tmp_path, beat(1, born="1"))
    assert watch(tmp_path, 0).is_lost()


def test_a_broken_connection_of_ones_own_is_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr("rlkd.liveness.watch.GRACE_S", 0.3)
    heartbeat.write(tmp_path, beat(1))
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        raise_in(watch(tmp_path, 0), LOST)
    assert failures.read(tmp_path, "s").rank == 0


def test_a_launchers_signal_after_a_ranks_end_is_not_a_request_to_save(capsys):
    import signal

    lost = False
    with StopSignals(lambda code: code, lambda: lost) as signals:
        lost = True
        signal.raise_signal(signal.SIGTERM)
        assert signals._received == 0
        assert capsys.readouterr().err == ""
        lost = False
        signal.raise_signal(signal.SIGTERM)
        assert signals._received == 75


# -- stacks ---------------------------------------------------------------------------------------


def answers(*phases, steps=None):
    steps = steps or [3] * len(phases)
    pairs = enumerate(zip(phases, steps, strict=True))
    return {
        rank: None if phase is None else Answer(beat(rank, phase=phase, step=step), f"s{rank}")
        for rank, (phase, step) in pairs
    }


@pytest.mark.parametrize(
    ("phases", "odd"),
    [
        (("score > sync", "score > reward", "score > sync"), [1]),
        (("backward", "backward", "backward > forward", "backward"), [2]),
        (("score > sync", "backward", "score > sync"), [1]),
        (("backward > forward", "backward"), [0]),
        (("log", "log > sync"), [0]),
        (("score > sync", None, None), [1, 2]),
        (("score > generate", "score > teacher", "score > generate"), [1]),
        (("score > sync", "score > sync"), []),
        (("reward",), [0]),
    ],
    ids=str,
)
def test_the_odd_rank_is_the_one_that_does_not_wait(phases, odd):
    assert stacks.odd_ranks(answers(*phases))[0] == odd


def test_the_odd_rank_is_the_one_in_an_earlier_step():
    found = answers("forward", "forward", "forward", steps=[4, 3, 4])
    assert stacks.odd_ranks(found)[0] == [1]


def test_the_report_begins_with_the_odd_rank(tmp_path):
    path = stacks.write_report(tmp_path, answers("score > sync", "score > reward"), 0)
    lines = path.read_text().splitlines()
    assert path.name.startswith("stuck-step-000003-")
    assert "rank 0 has not got on for 7 s" in lines[0]
    assert lines[1].startswith("the odd one: rank 1 (step 3, score > reward)")
    assert [line[:9] for line in lines[3:5]] == ["   rank 0", "-> rank 1"]
    assert [line for line in lines if line in ("s0", "s1")] == ["s1", "s0"]


def test_one_rank_collects_the_stacks_of_all(tmp_path):
    def rank(number):
        incidents = Incidents(tmp_path, "s", number, 3, lambda: beat(number))
        gathered = incidents.collect(5.0)
        if gathered is None:
            assert incidents.is_wanted()
            incidents.answer()
            assert not incidents.is_wanted()
        found.append(gathered)

    for number in range(3):
        heartbeat.write(tmp_path, beat(number))
    found: list[dict | None] = []
    threads = [threading.Thread(target=rank, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (collected,) = [gathered for gathered in found if gathered is not None]
    assert {number: answer.beat.rank for number, answer in collected.items()} == {0: 0, 1: 1, 2: 2}
    assert all("in rank" in answer.stacks for answer in collected.values())


def test_who_does_not_answer_has_none_and_who_has_ended_is_not_asked(tmp_path):
    heartbeat.write(tmp_path, beat(1))
    heartbeat.write(tmp_path, beat(2, ended=True))
    found = Incidents(tmp_path, "s", 0, 3, lambda: beat(0)).collect(0.2)
    assert list(found) == [0, 1]
    assert found[1] is None


def test_what_gets_on_again_is_told_and_may_get_stuck_again(tmp_path, capsys):
    phases = Phases()
    with watch(tmp_path, 0, phases, world_size=1, stacks_after_s=0.4), phases("reward"):
        wait_for(lambda: len(list(tmp_path.glob("stuck-*"))) == 1)
        phases.step = 2  # another file, though it is the same second
        phases.beat()
        wait_for(lambda: len(list(tmp_path.glob("stuck-*"))) == 2)
    told = capsys.readouterr().err
    assert told.count("has not got on for") == 2
    assert told.count("gets on again (step 2, reward)") == 1
    assert "it ends after" not in told
    report = min(tmp_path.glob("stuck-*")).read_text()
    assert "the odd one: rank 0 (step 0, reward)" in report
    assert "MainThread:" in report
    assert "in wait_for" in report


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# -- a process that ends ------------------------------------------------------------------------


def test_a_process_ends_past_the_limit_even_inside_c_code(tmp_path):
    words = [sys.executable, "-m", "tests.unit.stuck_process"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    running = {
        kind: subprocess.Popen(
            [*words, str(tmp_path / kind), kind], cwd=ROOT, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for kind in ("sleep", "hold", "work")
    }  # fmt: skip
    said = {kind: process.communicate(timeout=100) for kind, process in running.items()}
    codes = {kind: process.returncode for kind, process in running.items()}
    # What holds Python's lock is ended by faulthandler, which knows one code only.
    assert codes == {"sleep": STUCK, "hold": 1, "work": 0}, said
    assert said["work"] == ("done\n", "")
    told = said["sleep"][1].splitlines()
    assert told[0].startswith("rlkd: rank 0 has not got on for 1 s (step 0, reward); it ends after")
    assert told[1].startswith("  the odd one: rank 0 (step 0, reward)")
    assert any("more than run.abort_after_s (2)" in line for line in told)
    assert "time.sleep(60)" in next((tmp_path / "sleep").glob("stuck-*.txt")).read_text()
    assert "stuck_process.py" in said["hold"][1]
    beats = json.loads((tmp_path / "work" / "heartbeats" / "rank-0.json").read_text())
    assert beats["ended"] is True


def test_every_forward_pass_is_progress(student):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    phases = Phases()
    beats = []
    phases.beat = lambda: beats.append(1)  # type: ignore[method-assign]
    model = AutoModelForCausalLM.from_pretrained(student)
    beat_on_forward(model, phases)
    ids = torch.tensor([[2, 3, 4]])
    model(ids)
    assert len(beats) == 1
    model.generate(ids, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert len(beats) == 1 + 5
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(student), LoraConfig(r=2, task_type="CAUSAL_LM")
    )
    beat_on_forward(adapted, phases)
    adapted.generate(input_ids=ids, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert len(beats) == 1 + 5 + 4


def test_a_limit_below_that_of_the_stacks_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="would end before its stacks are written"):
        load("configs/quickstart.yaml", ["--run.abort_after_s=60"])
    load("configs/quickstart.yaml", ["--run.abort_after_s=60", "--run.stacks_after_s=0"])
    load("configs/quickstart.yaml", ["--run.abort_after_s=0"])

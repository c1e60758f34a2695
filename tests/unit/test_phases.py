"""The stopwatch, by hand and with a real trainer: every second counted, and counted once."""

import threading
import time

import pytest
import torch

from rlkd import GRPO, RLAD, Trainer
from rlkd.training.phases import BETWEEN, STEP, Phases
from rlkd.training.timed import memory_gib
from tests.parity.test_trl import arguments


class Clock:
    """Goes on when told to. Like CUDA's it may only compare marks that it gave."""

    def __init__(self):
        self.seconds, self.calls = 0.0, 0

    def now(self):
        return self.seconds

    def between(self, start, end):
        self.calls += 1
        return end - start


@pytest.fixture
def watch():
    phases = Phases()
    phases._clock = Clock()
    phases.begin()
    return phases, phases._clock


def pass_time(clock, seconds):
    clock.seconds += seconds


def test_an_inner_phase_interrupts_the_outer_one(watch):
    phases, clock = watch
    pass_time(clock, 1)
    with phases("score"):
        pass_time(clock, 2)
        with phases("reward"):
            pass_time(clock, 4)
            assert phases.path == ("score", "reward")
        pass_time(clock, 8)
    pass_time(clock, 16)
    taken = phases.take()
    assert {k: v for k, v in taken.items() if v} == {"score": 10, "reward": 4, "other": 17}
    assert taken.keys() == {*STEP, *BETWEEN}
    assert not any(phases.take().values())


def test_what_is_in_progress_is_counted_up_to_now(watch):
    phases, clock = watch
    with phases("log"):
        pass_time(clock, 1)
        assert phases.take()["log"] == 1
        pass_time(clock, 2)
    assert phases.take()["log"] == 2


def test_an_evaluation_is_counted_whole(watch):
    phases, clock = watch
    with phases("evaluation"):
        with phases("generate"):
            pass_time(clock, 1)
            with phases("sync"):
                pass_time(clock, 2)
        pass_time(clock, 4)
    assert {k: v for k, v in phases.take().items() if v} == {"evaluation": 7}


def test_a_phase_ends_with_an_exception(watch):
    phases, clock = watch

    @phases("reward")
    def work():
        pass_time(clock, 1)
        raise KeyError

    with pytest.raises(KeyError):
        work()
    pass_time(clock, 2)
    assert {k: v for k, v in phases.take().items() if v} == {"reward": 1, "other": 2}


def test_another_thread_changes_nothing(watch):
    phases, clock = watch
    seen = []

    def work():
        with phases("sync"):
            pass_time(clock, 1)
            seen.append(phases.path)

    with phases("backward"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [("backward",)]
    assert phases.take()["backward"] == 1


def test_a_run_that_never_logs_keeps_no_marks(watch):
    phases, clock = watch
    for _ in range(10_000):
        with phases("forward"):
            pass_time(clock, 1)
    assert len(phases._marks) < 1000
    assert phases.take()["forward"] == 10_000


class Event:
    """Of a GPU that takes a millisecond from one to the next."""

    made = 0

    def __init__(self, enable_timing):
        assert enable_timing
        self.recorded, self.ready = None, False

    def record(self):
        Event.made += 1
        self.recorded = Event.made

    def synchronize(self):
        self.ready = True

    def elapsed_time(self, end):
        assert end.ready
        return float(end.recorded - self.recorded)


def test_on_a_gpu_the_times_are_those_of_its_events_in_seconds(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    phases = Phases(torch.device("cuda"))
    with phases("forward"), phases("sync"):
        pass
    taken = phases.take()
    # One millisecond in sync; in forward one before it and one after; one before and one after all.
    assert {k: round(v, 6) for k, v in taken.items() if v} == {
        "sync": 1e-3, "forward": 2e-3, "other": 2e-3
    }  # fmt: skip


def test_memory_of_a_gpu_is_in_gib(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 4 * 2**30)
    found = memory_gib(torch.device("cuda"))
    assert (found["device_peak"], found["device_reserved"]) == (3, 4)
    assert memory_gib(torch.device("cpu")).keys() == {"resident"}


# -- a trainer ------------------------------------------------------------------------------------


def slow(completions, **_):
    time.sleep(0.15)
    return [float(i % 2) for i in range(len(completions))]


def train(student, prompts, folder, **more):
    trainer = Trainer(student, slow, arguments(folder, max_steps=2), prompts, **more)
    started = time.perf_counter()
    trainer.train()
    return trainer, time.perf_counter() - started


def steps(trainer):
    return [line for line in trainer.state.log_history if "loss" in line]


def test_the_phases_of_a_step_add_up_to_it(student, teacher, prompts, tmp_path):
    scored = {"teacher": teacher, "teacher_check": "off"}
    trainer, seconds = train(student, prompts, tmp_path, algorithm=RLAD(), **scored)
    lines = steps(trainer)
    assert len(lines) == 2
    for line in lines:
        times = {k.removeprefix("time/"): v for k, v in line.items() if k.startswith("time/")}
        whole = times.pop("step")
        # One process waits for nobody.
        assert times.keys() == set(STEP) - {"sync"}
        assert whole == pytest.approx(sum(times.values()), rel=1e-4)
        assert 0.15 <= times["reward"] < 0.5
        assert times["generate"] > times["optimizer"] > 0
        assert line["step_time"] < whole
        assert 0.05 < line["memory/resident"] < 64
        assert "memory/device_peak" not in line or torch.cuda.is_available()
    assert sum(line["time/step"] for line in lines) < seconds


def test_what_lies_between_steps_is_no_part_of_them(student, prompts, tmp_path):
    args = arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=1)
    trainer = Trainer(student, slow, args, prompts, algorithm=GRPO(beta=0.0))
    real = trainer._save_optimizer_and_scheduler

    def save(folder):
        if trainer.state.global_step == 1:
            time.sleep(3.0)
        real(folder)

    trainer._save_optimizer_and_scheduler = save
    trainer.train()
    first, second = steps(trainer)
    assert "time/save" not in first
    assert second["time/save"] > 3.0
    assert second["time/step"] < 3.0
    assert second["time/other"] < 1.5


def test_a_log_of_several_steps_gives_seconds_per_step(student, prompts, tmp_path):
    args = arguments(tmp_path, max_steps=8, logging_steps=4)
    trainer = Trainer(student, slow, args, prompts, algorithm=GRPO(beta=0.0))
    trainer.train()
    assert [line["step"] for line in steps(trainer)] == [4, 8]
    for line in steps(trainer):
        assert 0.15 <= line["time/reward"] < 0.5  # and not 0.6, that of four

"""The teacher beside the rewards: the same numbers, a step that takes the longer of the two, and
nothing left at work when something else fails."""

import threading
import time

import pytest
import torch
from datasets import Dataset

from rlkd import DAPO, RLAD, Trainer
from rlkd.algorithms.gkd import GKD
from rlkd.teacher.base import TeacherError
from rlkd.teacher.inner import SelfTeacher
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.server import ServerTeacher
from rlkd.teacher.several import Mixed
from rlkd.teacher.threads import Threads, result_of
from rlkd.teacher.wrapping import Wrapping
from rlkd.tracking import glossary
from tests.parity.test_trl import arguments, reward
from tests.unit.test_trainer import Echo
from tests.vllm_double import VLLMDouble


class Slow(Wrapping):
    """Takes a while; on which thread it was asked, and when, is noted."""

    def __init__(self, inner, seconds=0.0):
        super().__init__(inner)
        self.seconds, self.asked, self.given_up = seconds, [], threading.Event()

    def score_rows(self, rows, prompt_ids, completion_ids, temperature):
        self.asked.append((threading.current_thread().name, time.perf_counter()))
        if self.seconds and self.given_up.wait(self.seconds):
            raise TeacherError("given up")
        return super().score_rows(rows, prompt_ids, completion_ids, temperature)

    def give_up(self):
        self.given_up.set()


def make(student, prompts, tmp_path, teacher, overlap="on", function=reward, more=None, **given):
    given = {"algorithm": RLAD(), "teacher_check": "off"} | given
    args = arguments(tmp_path, **(more or {}))
    return Trainer(
        student, function, args, prompts, teacher=teacher, teacher_overlap=overlap, **given
    )


def at_work():
    """The teacher's threads that do not end by themselves within a moment."""
    found = [thread for thread in threading.enumerate() if thread.name.startswith("teacher-")]
    for thread in found:
        thread.join(0.5)
    return [thread for thread in found if thread.is_alive()]


def steps(trainer):
    return [line for line in trainer.state.log_history if "loss" in line]


# -- the same numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        (RLAD(), {}),
        (RLAD(beta=0.1), {"num_iterations": 2, "max_steps": 4}),
        (RLAD(), {"mask_truncated_completions": True}),
        (GKD(), {}),
    ],
    ids=["plain", "reference, two passes", "truncated masked", "whole vocabulary"],
)
def test_asked_ahead_or_not_the_numbers_are_the_same(
    algorithm, more, student, teacher, prompts, tmp_path
):
    def run(overlap):
        asked = LocalTeacher.from_pretrained(teacher)
        trainer = make(
            student, prompts, tmp_path / overlap, asked, overlap, more=more, algorithm=algorithm,
            eval_dataset=prompts.select(range(8)), teacher_check="warn",
        )  # fmt: skip
        trainer.train()
        trainer.evaluate()
        kept = [
            {k: v for k, v in line.items() if not k.startswith(("time/", "memory/", "overlap/"))
             and not k.endswith(("runtime", "per_second", "step_time"))}
            for line in trainer.state.log_history
        ]  # fmt: skip
        return kept, trainer.model.state_dict(), asked.usage

    ahead, after = run("on"), run("off")
    for one, other in zip(ahead[0], after[0], strict=True):
        assert repr(one) == repr(other)  # NaN is not equal to itself
    assert all(torch.equal(weight, after[1][name]) for name, weight in ahead[1].items())
    assert ahead[2] == after[2]
    assert ahead[2].rows > 0
    assert at_work() == []


# -- where it works ahead --------------------------------------------------------------------------


def test_auto_asks_a_server_ahead_and_a_model_on_this_machine_in_its_turn(
    student, teacher, prompts, tmp_path
):
    def thread(asked):
        slow = Slow(asked)
        make(student, prompts, tmp_path, slow, "auto", more={"max_steps": 1}).train()
        return slow.asked[0][0]

    with VLLMDouble(LocalTeacher.from_pretrained(teacher).model) as double:
        server = ServerTeacher(double.url)
        assert thread(server) == "teacher-0"
        server.close()
    assert thread(LocalTeacher.from_pretrained(teacher)) == threading.main_thread().name


def test_off_keeps_a_server_on_the_main_thread(student, teacher, prompts, tmp_path):
    with VLLMDouble(LocalTeacher.from_pretrained(teacher).model) as double:
        slow = Slow(ServerTeacher(double.url))
        make(student, prompts, tmp_path, slow, "off", more={"max_steps": 1}).train()
        slow.close()
    assert slow.asked[0][0] == threading.main_thread().name


def test_on_is_refused_where_it_cannot_work(student, teacher, prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    with pytest.raises(
        TeacherError, match=r"overlap is on, and teacher self cannot .* own weights"
    ):
        make(student, prompts, tmp_path, SelfTeacher())
    local = LocalTeacher.from_pretrained(teacher)
    several = Mixed({"a": local, "b": SelfTeacher()})
    with pytest.raises(TeacherError, match="own weights"):
        make(student, prompts, tmp_path, several)
    taught = type("Taught", (DAPO,), {"needs_teacher": True})
    with pytest.raises(TeacherError, match="with dynamic_sampling the rewards come first"):
        make(student, prompts, tmp_path, local, algorithm=taught())
    with pytest.raises(TeacherError, match="rollout_func adds columns"):
        make(student, prompts, tmp_path, local, rollout_func=lambda prompts, trainer: {})
    assert not make(student, prompts, tmp_path, SelfTeacher(), "auto")._overlaps
    with pytest.raises(ValueError, match="teacher_overlap is 'maybe'; it is auto, on, off"):
        make(student, prompts, tmp_path, local, "maybe")


# -- time ------------------------------------------------------------------------------------------


def slow_reward(completions, **columns):
    time.sleep(0.4)
    return reward(completions)


def test_a_step_takes_the_longer_of_reward_and_teacher_and_not_their_sum(
    student, prompts, tmp_path
):
    def run(overlap):
        teacher = Slow(Echo(), 0.4)
        trainer = make(student, prompts, tmp_path / overlap, teacher, overlap, slow_reward)
        trainer.train()
        return steps(trainer)

    for line in run("on"):
        assert line["time/reward"] > 0.4
        assert line["time/teacher"] < 0.2  # the wait for what the reward did not cover
        assert 0.4 < line["overlap/teacher_seconds"] < 0.7
        assert line["overlap/hidden"] > 0.5
        assert line["time/reward"] + line["time/teacher"] < 0.75
        assert glossary.explain("train/overlap/hidden")
        assert glossary.explain("train/overlap/teacher_seconds")
    for line in run("off"):
        assert line["time/teacher"] > 0.4
        assert line["time/reward"] + line["time/teacher"] > 0.8
        assert not [name for name in line if name.startswith("overlap/")]


def test_a_teacher_that_gets_on_is_progress_and_one_that_hangs_is_none(
    student, prompts, tmp_path, monkeypatch
):
    monkeypatch.setattr("rlkd.training.asking.LOOK_S", 0.05)

    class Counting(Slow):
        usage = None

        def score_rows(self, *asked):
            from rlkd.teacher.base import Usage

            self.usage = Usage()
            for _ in range(8):
                time.sleep(0.05)
                self.usage.rows += self.grows
            return super().score_rows(*asked)

    def beats(grows):
        teacher = Counting(Echo())
        teacher.grows = grows
        trainer = make(student, prompts, tmp_path, teacher, more={"max_steps": 1})
        seen = []
        real = trainer.phases.beat
        monkeypatch.setattr(
            trainer.phases, "beat", lambda: (seen.append(trainer.phases.path), real())
        )
        trainer.train()
        return sum(path[-1:] == ("teacher",) for path in seen)

    # Two beats are those of the phase's own ends.
    assert beats(grows=1) >= beats(grows=0) + 3


# -- what fails ------------------------------------------------------------------------------------


def test_a_failure_in_the_thread_is_the_same_error(student, prompts, tmp_path):
    class Broken(Echo):
        def score(self, prompt_ids, completion_ids, temperature):
            assert threading.current_thread() is not threading.main_thread()
            raise self.error

    teacher = Broken()
    teacher.error = TeacherError("the teacher is ill")
    with pytest.raises(TeacherError) as caught:
        make(student, prompts, tmp_path, teacher).train()
    assert caught.value is teacher.error
    teacher.error = KeyError("weights")
    with pytest.raises(TeacherError, match=r"echo failed with KeyError: 'weights' \(.*asking.py"):
        make(student, prompts, tmp_path, teacher).train()
    assert at_work() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_reward_that_raises_does_not_leave_the_teacher_at_work(error, student, prompts, tmp_path):
    def failing(completions, **columns):
        while not teacher.asked:
            time.sleep(0.01)
        raise error("of the reward")

    teacher = Slow(Echo(), 60.0)
    trainer = make(student, prompts, tmp_path, teacher, function=failing)
    started = time.perf_counter()
    with pytest.raises(error, match="of the reward"):
        trainer.train()
    assert time.perf_counter() - started < 10
    assert teacher.given_up.is_set()
    assert at_work() == []


def test_a_teacher_that_does_not_give_up_is_left_behind_with_a_warning(
    student, prompts, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("rlkd.training.asking.END_S", 0.2)
    never = threading.Event()

    class Deaf(Echo):
        def score(self, prompt_ids, completion_ids, temperature):
            never.wait()
            return super().score(prompt_ids, completion_ids, temperature)

    def failing(completions, **columns):
        raise ValueError("of the reward")

    trainer = make(student, prompts, tmp_path, Deaf(), function=failing)
    with pytest.raises(ValueError, match="of the reward"):
        trainer.train()
    assert "echo does not end what it was asked for" in caplog.text
    assert all(thread.daemon for thread in at_work())  # nobody waits for it at the end
    never.set()
    for thread in at_work():
        thread.join(5)
    trainer.reward_funcs[0] = reward
    trainer.train()  # another one can be asked
    assert len(steps(trainer)) == 2


def test_a_server_that_hangs_is_given_up_at_once(model, prompts, student, tmp_path):
    def failing(completions, **columns):
        while not waiting.is_set():
            time.sleep(0.01)
        raise ValueError("of the reward")

    waiting, done = threading.Event(), threading.Event()

    def hang(reply):
        if len(double.requests) > 3:
            waiting.set()
            done.wait(30)
        return reply

    with VLLMDouble(model, hang) as double:
        server = ServerTeacher(double.url)
        trainer = make(student, prompts, tmp_path, server, "auto", failing)
        started = time.perf_counter()
        with pytest.raises(ValueError, match="of the reward"):
            trainer.train()
        assert time.perf_counter() - started < 8
        done.set()
        server.close()
    assert [thread for thread in at_work() if not thread.daemon] == []


@pytest.fixture
def model(student):
    return LocalTeacher.from_pretrained(student).model


# -- threads ---------------------------------------------------------------------------------------


def test_threads_do_what_is_submitted_and_hand_on_what_it_raises():
    threads = Threads(2, "try")
    assert [threads.submit(pow, 2, n).result() for n in range(5)] == [1, 2, 4, 8, 16]
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result()
    assert sum(thread.name.startswith("try-") for thread in threading.enumerate()) == 2
    assert threads.close(within_s=5)
    assert not threads._threads[0].is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        threads.submit(pow, 2, 2)


def test_whoever_waits_may_look_and_leave():
    threads, done, looks = Threads(1, "try"), threading.Event(), []

    def look():
        looks.append(1)
        if len(looks) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        result_of(threads.submit(done.wait), look, every_s=0.01)
    done.set()
    assert threads.close(within_s=5)


def test_rows_are_shown_to_the_teacher_as_they_were(student, prompts, tmp_path):
    """A reward that changes its rows meanwhile changes nothing for a teacher that reads them."""
    seen = []

    class Reads(Slow):
        def score_rows(self, rows, *asked):
            ready.wait(5)
            seen.extend(row["hint"] for row in rows)
            return super().score_rows(rows, *asked)

    ready = threading.Event()
    rows = Dataset.from_list([{"prompt": p, "hint": "kept"} for p in prompts["prompt"]])
    trainer = make(student, rows, tmp_path, Reads(Echo()), more={"max_steps": 1})

    def changing(completions, **columns):
        for row in trainer._inputs:
            row["hint"] = "changed"
        ready.set()
        return reward(completions)

    trainer.reward_funcs[0] = changing
    trainer.train()
    assert seen == ["kept"] * 16


@pytest.mark.parametrize("name", ["teacher_overlap", "on_bad_scores"])
def test_how_a_teacher_is_asked_is_refused_where_there_is_none(name, student, prompts, tmp_path):
    given = {"teacher_overlap": "on", "on_bad_scores": "mask"}[name]
    with pytest.raises(ValueError, match=f"{name} is '{given}', and DAPO asks no teacher"):
        Trainer(student, reward, arguments(tmp_path), prompts, algorithm=DAPO(), **{name: given})

"""Whether the teacher knows right from wrong: figures of made batches, whole, spoilt and split."""

import random

import pytest

from rlkd.tracking.alarms import RULES
from rlkd.tracking.alarms.watch import Alarms
from rlkd.tracking.rollouts import Rollouts
from rlkd.tracking.teacher_verdict import TeacherVerdict, opinions, verdict

FAULTS = {
    "healthy": lambda right, logp, dice: logp,
    "teacher_prefers_wrong": lambda right, logp, dice: logp - 3 * right,
    "teacher_constant": lambda right, logp, dice: -2.0,
    "teacher_blind": lambda right, logp, dice: dice.gauss(-2, 0.7),
}
"""What becomes of a good teacher's score of an answer."""


def batch(step: int, fault, groups: int = 16) -> Rollouts:
    """Groups of four; a good teacher finds right answers e times likelier per token than wrong
    ones, and each as likely as the student does but for half a nat."""
    dice = random.Random(step)
    rewards, teacher, gap = [], [], []
    for _ in range(4 * groups):
        right = float(dice.random() < 0.5)
        student = dice.gauss(-1.5, 0.6)
        logp = fault(right, student + right - 0.5 + dice.gauss(0, 0.3), dice)
        rewards.append(right)
        teacher.append(logp)
        gap.append(student - logp)
    prompts = [f"prompt {row // 4}" for row in range(4 * groups)]
    columns = {"reward/accuracy": rewards, "teacher_logp": teacher, "teacher_gap": gap}
    return Rollouts(step, prompts, ["x"] * len(prompts), columns)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_teacher_is_told_and_a_good_one_is_not(name, tmp_path):
    alarms, seen = Alarms(tmp_path, RULES), TeacherVerdict(lambda rows: rows, "accuracy")
    raised = set()
    for step in range(1, 31):
        seen.see(batch(step, FAULTS[name]))
        logs: dict = {"loss": 0.1, "accuracy": 0.5}
        seen.on_log(None, None, None, logs)  # pyright: ignore
        raised |= alarms.see(step, logs).keys()
    assert raised == ({f"alarms/{name}"} if name != "healthy" else set())


def test_the_figures_by_hand():
    made = Rollouts(1, ["p"] * 6 + ["q"] * 3, ["x"] * 9, {
        "reward/accuracy": [1.0, 1.0, 0.0, 0.0, 0.5, None, 1.0, 0.0, 0.0],
        "teacher_logp": [-1.0, -2.0, -2.0, -3.0, -0.5, -9.0, -4.0, -4.5, -3.0],
        "teacher_gap": [0.5, 0.0, 1.0, 0.0, -1.0, 3.0, 0.0, 0.5, 0.0],
    })  # fmt: skip
    found = verdict(opinions(made, "accuracy"))
    # p: -1 above -2 and -3; -2 equal to -2, above -3. q: -4 above -4.5.
    assert found["teacher/prefers_right"] == (2 + 1.5 + 1) / 8
    assert found["teacher/pulls_to_right"] == (1 + 0 + 0 + 1 + 0.5 + 0 + 1 + 0.5) / 8
    assert "teacher/gap_of_right" not in found  # three right ones are too few
    assert verdict(opinions(made, "accuracy")[:7]).keys() == set()


def test_rows_of_the_teacher_and_infinite_ones_are_left_out():
    made = batch(1, FAULTS["healthy"], groups=2)
    made.columns["source"] = ["teacher"] * 2 + ["student"] * 6
    made.columns["teacher_gap"][2] = float("inf")
    made.columns["teacher_logp"][3] = None
    assert len(opinions(made, "accuracy")) == 4
    assert opinions(made, "other") == []


def test_a_resumed_run_has_the_figures_of_the_whole_one():
    def logged(verdicts, step):
        logs: dict = {"loss": 0.1}
        verdicts.see(batch(step, FAULTS["healthy"]))
        verdicts.on_log(None, None, None, logs)
        return logs

    whole, resumed = (TeacherVerdict(lambda rows: rows, "accuracy") for _ in range(2))
    for step in range(1, 12):  # more than the pool holds
        before = whole.state()
        last = logged(whole, step)
    assert resumed.restore(before) == "512 rollouts"
    assert logged(resumed, 11) == last
    assert logged(TeacherVerdict(lambda rows: rows, "accuracy"), 11) != last

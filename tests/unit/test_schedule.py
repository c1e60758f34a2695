"""Schedules: the values of what moves, what is refused, and the trainer's steps around a switch."""

import dataclasses
import math

import pytest
import torch

from rlkd import CEEH, GRPO, RLAD
from rlkd.algorithms.entropy_bonus import EntropyBonus
from rlkd.algorithms.opd import OPD
from rlkd.algorithms.opd_then_rl import OPDThenRL
from rlkd.algorithms.schedule import Anneal, Phase, Plateau, Schedule, Staged, schedule_of
from rlkd.algorithms.skywork_or1 import AdaptiveEntropy
from rlkd.config import ConfigError, dump, resolved, validate, yaml12
from rlkd.training.scheduling import ScheduleRun
from tests.unit.test_config import phased
from tests.unit.test_trainer import Echo, make

FREE = GRPO(beta=0.0, clip_high=0.28, advantage_scale="population_std")


def in_turn(*phases: Phase) -> Schedule:
    return Schedule(phases)


# -- the values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anneal", "want"),
    [
        (Anneal(to=0.0), [8.0, 6.0, 4.0, 2.0, 0.0, 0.0]),
        (Anneal(to=0.0, over=(0.25, 0.75)), [8.0, 8.0, 4.0, 0.0, 0.0, 0.0]),
        (Anneal(to=0.0, shape="cosine"), [8, 4 + 4 * 0.5**0.5, 4, 4 - 4 * 0.5**0.5, 0, 0]),
        (Anneal(to=0.5, shape="geometric"), [8.0, 4.0, 2.0, 1.0, 0.5, 0.5]),
        (Anneal(to=10.0), [8.0, 8.5, 9.0, 9.5, 10.0, 10.0]),
        (Anneal(to=3.0, per_step=2.0), [8.0, 6.0, 4.0, 3.0, 3.0, 3.0]),
        (Anneal(to=9.5, per_step=1.0), [8.0, 9.0, 9.5, 9.5, 9.5, 9.5]),
    ],
    ids=str,
)
def test_a_value_moves_as_its_formula_says(anneal, want):
    got = [anneal.value(8.0, step, 4) for step in range(6)]
    assert got == pytest.approx(want)
    assert got[0] == 8.0
    assert got[5] == anneal.to  # to the last bit


def test_kdrls_annealing_is_a_decrement_per_step():
    anneal = Anneal(to=1e-3, per_step=1e-5)
    for step in (0, 1, 250, 399, 400, 401, 1000):
        assert anneal.value(5e-3, step, 10**6) == max(5e-3 - 1e-5 * step, 1e-3)


def test_at_a_fixed_step_the_objective_is_the_plain_algorithm_with_these_values():
    schedule = in_turn(
        Phase(algorithm=RLAD(), anneal={"alpha": Anneal(to=0.9)}, until=4),
        Phase(algorithm=FREE, anneal={"clip_low": Anneal(to=0.1), "beta": Anneal(to=0.2)}),
    )
    run = ScheduleRun(schedule, [EntropyBonus(coefficient=0.1)], lambda rows: rows)
    seen = []
    for step in range(8):
        objective = run.follow(step, 8, drawing=True)
        assert objective.components == (EntropyBonus(coefficient=0.1),)
        seen.append(objective.algorithm)
    assert seen[:4] == [RLAD(alpha=alpha) for alpha in (0.5, 0.6, 0.7, 0.5 + 0.4 * 0.75)]
    for t, algorithm in enumerate(seen[4:]):
        x = t / 4
        want = dataclasses.replace(FREE, clip_low=0.2 + (0.1 - 0.2) * x, beta=0.2 * x)
        assert algorithm == want


def test_components_move_over_the_whole_run():
    schedule = Schedule(
        (Phase(algorithm=RLAD(), until=0.5), Phase(algorithm=FREE)),
        ({}, {"coefficient": Anneal(to=0.0)}),
    )
    carried = [CEEH(entropy=None), EntropyBonus(coefficient=0.1)]
    run = ScheduleRun(schedule, carried, lambda rows: rows)
    got = [run.follow(step, 4, drawing=True).components for step in range(4)]
    assert [c.coefficient for _, c in got] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert all(first == carried[0] for first, _ in got)
    assert run.measures() == {
        "schedule/phase": 2.0, "schedule/EntropyBonus.coefficient": pytest.approx(0.025)
    }  # fmt: skip


def test_a_phase_begins_only_where_rollouts_are_drawn():
    run = ScheduleRun(in_turn(Phase(algorithm=RLAD(), until=3), Phase(algorithm=FREE)), [], list)
    got = [
        type(run.follow(step, 10, drawing=step % 2 == 0).algorithm).__name__ for step in range(6)
    ]
    assert got == ["RLAD"] * 4 + ["GRPO"] * 2
    assert "begun after step 4" in ScheduleRun.restore(run, run.state())


def test_shares_are_of_the_run_and_three_phases_follow_each_other():
    first, second, third = RLAD(alpha=0.1), RLAD(alpha=0.2), FREE
    schedule = in_turn(
        Phase(algorithm=first, until=0.25), Phase(algorithm=second, until=6), Phase(algorithm=third)
    )
    schedule.check_steps(12)
    run = ScheduleRun(schedule, [], list)
    got = [run.follow(step, 12, drawing=True).algorithm for step in range(12)]
    assert got == [first] * 3 + [second] * 3 + [third] * 6


# -- plateaus -------------------------------------------------------------------------------------


def plateaued(values, **settings):
    """After how many values the second phase begins."""
    until = Plateau(plateau="eval/accuracy", **settings)
    schedule = in_turn(Phase(algorithm=RLAD(), until=until), Phase(algorithm=FREE))
    run = ScheduleRun(schedule, [], list)
    for step, value in enumerate(values):
        if run.follow(step, 100, drawing=True).algorithm == FREE:
            return step
        run.see(step + 1, {"eval/accuracy": value, "eval/length": float(step)})
    return None


def test_a_plateau_ends_a_phase():
    # The best is the third; two more without a better one.
    assert plateaued([0.1, 0.2, 0.3, 0.3, 0.2, 0.9], patience=2) == 5
    assert plateaued([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], patience=2) is None
    assert plateaued([0.5, 0.4, 0.3, 0.35, 0.31], patience=2, best="lowest") is None
    assert plateaued([0.5, 0.4, 0.3, 0.35, 0.31, 0.0], patience=2, best="lowest") == 5
    # The mean of two: .15, .25, .3, .25, …
    assert plateaued([0.1, 0.2, 0.3, 0.3, 0.2, 0.9, 0.0], patience=1, window=2) == 5
    assert plateaued([float(i) for i in range(9)], at_latest=4) == 4
    assert plateaued([float(i) for i in range(90)], at_latest=0.5) == 50


def test_a_plateau_once_reached_stays_reached_until_rollouts_are_drawn():
    until = Plateau(plateau="eval/accuracy", patience=1)
    schedule = in_turn(Phase(algorithm=RLAD(), until=until), Phase(algorithm=FREE))
    run = ScheduleRun(schedule, [], list)
    for step, value in enumerate([0.3, 0.2, 0.9], start=1):
        run.see(step, {"eval/accuracy": value})
        assert run.follow(step, 9, drawing=False).algorithm == RLAD()
    other = ScheduleRun(schedule, [], list)
    other.restore(run.state())
    for each in (run, other):
        assert each.follow(3, 9, drawing=True).algorithm == FREE


def test_a_number_that_is_missing_is_no_value():
    until = Plateau(plateau="train/reward", patience=1)
    schedule = in_turn(Phase(algorithm=RLAD(), until=until), Phase(algorithm=FREE))
    run = ScheduleRun(schedule, [], list)
    for value in (0.5, None, None):
        run.see(1, {"train/reward": value})
    run.see(1, {})
    assert run.follow(2, 9, drawing=True).algorithm == RLAD()


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Anneal(to=math.nan), "to is nan; it must be finite"),
        (lambda: Anneal(to=0.0, over=(0.5, 0.5)), "over is .* the lower first"),
        (lambda: Anneal(to=0.0, per_step=-1.0), "per_step is -1.0; it must be above 0"),
        (lambda: Anneal(to=0.0, per_step=1.0, shape="cosine"), "both say when the end"),
        (lambda: Anneal(to=0.0, shape="sine"), "shape is 'sine'"),
        (lambda: Plateau(plateau="accuracy"), "plateau is 'accuracy'; .* eval/"),
        (lambda: Plateau(plateau="eval/accuracy", patience=0), "patience is 0"),
        (lambda: Phase(algorithm=FREE, until=1.0), "until is 1.0; it must be a step"),
        (lambda: Phase(algorithm=FREE, until=0), "until is 0; it must be a step"),
        (lambda: Phase(algorithm=FREE, until=True), "until is True; it must be a step"),
        (lambda: Phase(algorithm=FREE, anneal={"alpha": Anneal(to=0.1)}), "alpha of GRPO cannot"),
        (lambda: Phase(algorithm=FREE, anneal={"dual_clip": Anneal(to=3.0)}), "from None to 3.0"),
        (
            lambda: Phase(algorithm=RLAD(), anneal={"alpha": Anneal(to=1.5)}),
            r"alpha is 1.5; .*\(the schedule comes to alpha 1.5\)",
        ),
        (
            lambda: Phase(algorithm=FREE, anneal={"beta": Anneal(to=0.1, shape="geometric")}),
            "beta moves from 0.0 to 0.1 by a factor",
        ),
        (lambda: Schedule(()), "at least one phase"),
        (lambda: in_turn(Phase(algorithm=RLAD()), Phase(algorithm=FREE)), "has no `until`"),
        (lambda: in_turn(Phase(algorithm=RLAD(), until=3)), "nothing follows RLAD"),
        (
            lambda: in_turn(
                Phase(algorithm=RLAD(), until=9), Phase(algorithm=FREE)
            ).check_steps(9),
            "would end after step 9 .* has 9 steps",
        ),
        (
            lambda: in_turn(
                Phase(algorithm=RLAD(), until=6), Phase(algorithm=RLAD(), until=0.5),
                Phase(algorithm=FREE),
            ).check_steps(9),
            "would end after step 4 .* begins after step 6",
        ),
        (
            lambda: Schedule(
                (Phase(algorithm=FREE),), ({"step": Anneal(to=0.1)},)
            ).check([AdaptiveEntropy()]),
            "has a controller",
        ),
        (
            lambda: Schedule(
                (Phase(algorithm=FREE),), ({"rate_up": Anneal(to=0.1)},)
            ).check([CEEH()]),
            "would change how the difficulty records are kept",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_both_ends_of_every_phase_must_carry_the_components():
    token = GRPO(beta=0.0)
    answer = GRPO(beta=0.0, ratio_level="sequence")
    schedule = in_turn(Phase(algorithm=token, until=1), Phase(algorithm=answer))
    schedule.check([])
    with pytest.raises(ValueError, match="acts on single tokens"):
        schedule.check([CEEH(entropy="ea")])


def test_a_method_that_is_a_schedule():
    class Two(Staged):
        def schedule(self):
            return in_turn(Phase(algorithm=RLAD(), until=1), Phase(algorithm=FREE))

    assert schedule_of(Two()) == Two().schedule()
    assert schedule_of(FREE) == in_turn(Phase(algorithm=FREE))
    assert not schedule_of(FREE).moves
    assert Two().schedule().title == "RLAD, then GRPO"


# -- the trainer ----------------------------------------------------------------------------------

OFF = {"teacher_check": "off"}
STEPS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}


def trained(student, prompts, tmp_path, algorithm, teacher=None, resume=None, more=None, **given):
    check = OFF if teacher is not None else {}
    trainer = make(
        student, prompts, tmp_path, STEPS | (more or {}),
        algorithm=algorithm, teacher=teacher, **check, **given,
    )  # fmt: skip
    trainer.train(resume)
    return trainer


def assert_same(one, other):
    for name, value in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name


def logged(trainer, name):
    return [line.get(name) for line in trainer.state.log_history if "loss" in line]


TWO = Schedule((Phase(algorithm=RLAD(), until=2), Phase(algorithm=FREE)))


def test_before_and_after_the_switch_the_steps_are_the_plain_algorithms(
    student, teacher, prompts, tmp_path
):
    got = trained(student, prompts, tmp_path / "both", TWO, teacher)
    first = trained(student, prompts, tmp_path / "first", RLAD(), teacher)
    # The second algorithm alone, from where the first one was after two steps.
    after_two = str(tmp_path / "first" / "checkpoint-2")
    second = trained(student, prompts, tmp_path / "second", FREE, resume=after_two)
    assert_same(second, got)
    assert max(
        (first.model.state_dict()[name] - value).abs().max()
        for name, value in got.model.state_dict().items()
    ) > 1e-4  # fmt: skip
    for name in ("loss", "grad_norm", "entropy"):
        assert logged(got, name) == [*logged(first, name)[:2], *logged(second, name)[2:]]
    assert logged(got, "schedule/phase") == [1.0, 1.0, 2.0, 2.0]
    assert [gap is not None for gap in logged(got, "teacher/gap")] == [True, True, False, False]
    assert logged(second, "schedule/phase") == [None] * 4


@pytest.mark.parametrize("step", [1, 2, 3])
def test_resumed_around_the_switch_it_is_the_same_run(step, student, teacher, prompts, tmp_path):
    moving = Phase(algorithm=RLAD(), anneal={"alpha": Anneal(to=0.9)}, until=2)
    last = Phase(algorithm=FREE, anneal={"clip_low": Anneal(to=0.05)})
    schedule = Schedule((moving, last), ({"coefficient": Anneal(to=0.2)},))
    bonus = {"components": [EntropyBonus(coefficient=0.01)]}
    whole = trained(student, prompts, tmp_path / "whole", schedule, teacher, **bonus)
    checkpoint = str(tmp_path / "whole" / f"checkpoint-{step}")
    rest = trained(
        student, prompts, tmp_path / "rest", schedule, teacher, resume=checkpoint, **bonus
    )
    assert_same(rest, whole)
    assert logged(rest, "schedule/alpha") == logged(whole, "schedule/alpha") == [
        0.5, pytest.approx(0.7), None, None
    ]  # fmt: skip
    assert logged(whole, "schedule/clip_low") == [None, None, 0.2, pytest.approx(0.125)]
    assert logged(whole, "schedule/EntropyBonus.coefficient") == pytest.approx(
        [0.01, 0.0575, 0.105, 0.1525]
    )


def test_resumed_in_the_middle_of_a_batch_the_switch_waits(student, teacher, prompts, tmp_path):
    """Four steps share a generation batch; the phase ends in the middle of the first."""
    more = {"steps_per_generation": 4, "num_iterations": 2, "max_steps": 6}
    echo = Echo()
    whole = trained(student, prompts, tmp_path / "whole", TWO, echo, more=more)
    assert logged(whole, "schedule/phase") == [1.0] * 4 + [2.0] * 2
    assert len(echo.calls) == 1
    for step in (1, 3, 5):
        checkpoint = str(tmp_path / "whole" / f"checkpoint-{step}")
        rest = trained(
            student, prompts, tmp_path / f"rest{step}", TWO, Echo(), resume=checkpoint, more=more
        )
        assert_same(rest, whole)


def test_a_phase_without_a_teacher_asks_it_for_nothing(student, prompts, tmp_path):
    teacher = Echo()
    trained(student, prompts, tmp_path, TWO, teacher)
    assert len(teacher.calls) == 2
    late = Schedule((Phase(algorithm=FREE, until=3), Phase(algorithm=RLAD())))
    teacher = Echo()
    trained(student, prompts, tmp_path / "late", late, teacher)
    assert len(teacher.calls) == 1


def test_a_teacher_of_a_later_phase_is_checked_at_the_start(student, prompts, tmp_path):
    from rlkd.teacher.base import TeacherError

    late = Schedule((Phase(algorithm=FREE, until=3), Phase(algorithm=RLAD())))
    trainer = make(student, prompts, tmp_path, STEPS, algorithm=late, teacher=Echo())
    with pytest.raises(TeacherError, match="no likelier to echo"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_teacher_is_wanted_where_a_phase_learns_from_one(student, prompts, tmp_path):
    with pytest.raises(ValueError, match="RLAD, then GRPO learns from a teacher and none was"):
        make(student, prompts, tmp_path, algorithm=TWO)
    plain = Schedule((Phase(algorithm=FREE, until=2), Phase(algorithm=GRPO(beta=0.0))))
    with pytest.raises(ValueError, match="GRPO, then GRPO has no use for a teacher"):
        make(student, prompts, tmp_path, algorithm=plain, teacher=Echo())


def test_the_reference_is_kept_for_the_phase_that_needs_it_and_asked_only_there(
    student, prompts, tmp_path
):
    held = dataclasses.replace(FREE, beta=0.1)
    schedule = Schedule((Phase(algorithm=FREE, until=2), Phase(algorithm=held)))
    trainer = make(student, prompts, tmp_path, {"max_steps": 4}, algorithm=schedule)
    asked = []
    trainer.ref_model.register_forward_hook(lambda *_: asked.append(trainer.state.global_step))
    trainer.train()
    assert sorted(set(asked)) == [2, 3]
    assert [kl is not None for kl in logged(trainer, "kl")] == [False, False, True, True]


def test_a_moving_beta_begins_at_0_with_a_reference(student, prompts, tmp_path):
    schedule = Schedule((Phase(algorithm=FREE, anneal={"beta": Anneal(to=0.1)}),))
    trainer = make(student, prompts, tmp_path, {"max_steps": 2}, algorithm=schedule)
    trainer.train()
    assert logged(trainer, "schedule/beta") == [0.0, 0.05]
    assert logged(trainer, "schedule/phase") == [None, None]


def test_what_moves_by_nothing_is_the_plain_algorithm_bit_for_bit(
    student, teacher, prompts, tmp_path
):
    still = Schedule((Phase(algorithm=RLAD(), anneal={"alpha": Anneal(to=0.5)}),))
    one = trained(student, prompts, tmp_path / "one", still, teacher)
    other = trained(student, prompts, tmp_path / "other", RLAD(), teacher)
    assert_same(one, other)


def test_a_plateau_of_a_logged_number_switches_and_survives_a_resume(
    student, teacher, prompts, tmp_path
):
    until = Plateau(plateau="train/step_time", best="highest", patience=1)
    schedule = Schedule((Phase(algorithm=RLAD(), until=until), Phase(algorithm=FREE)))

    # A number that this test gives: best at the first step.
    def run(folder, resume=None):
        trainer = make(student, prompts, folder, STEPS, algorithm=schedule, teacher=teacher, **OFF)
        real = trainer.schedule.see
        trainer.schedule.see = lambda step, _: real(step, {"train/step_time": -float(step)})
        trainer.train(resume)
        return trainer

    whole = run(tmp_path / "whole")
    assert logged(whole, "schedule/phase") == [1.0, 1.0, 2.0, 2.0]
    for step in (1, 2):
        rest = run(tmp_path / f"rest{step}", str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert logged(rest, "schedule/phase") == [1.0, 1.0, 2.0, 2.0]
        assert_same(rest, whole)


def test_a_phase_that_would_never_begin_is_refused_at_the_start_of_training(
    student, teacher, prompts, tmp_path
):
    schedule = Schedule((Phase(algorithm=RLAD(), until=9), Phase(algorithm=FREE)))
    with pytest.raises(ValueError, match="has 4 steps: one of the two would have none"):
        trained(student, prompts, tmp_path, schedule, teacher)


# -- OPD, then RL ---------------------------------------------------------------------------------


def test_opd_then_rl_is_opd_then_grpo_with_the_same_surrogate(student, teacher, prompts, tmp_path):
    method = OPDThenRL(switch=2, clip_high=0.3)
    surrogate = {"clip_low": 0.2, "clip_high": 0.3, "reduction": "dapo"}
    taught = OPD(**surrogate, eos="drop")
    rewarded = GRPO(**surrogate, beta=0.0)
    assert method.schedule() == in_turn(Phase(algorithm=taught, until=2), Phase(algorithm=rewarded))
    got = trained(student, prompts, tmp_path / "both", method, teacher)
    trained(student, prompts, tmp_path / "first", taught, teacher)
    after_two = str(tmp_path / "first" / "checkpoint-2")
    assert_same(trained(student, prompts, tmp_path / "second", rewarded, resume=after_two), got)
    assert logged(got, "schedule/phase") == [1.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("wrong", [0, 1.0, 2.5, True])
def test_opd_then_rl_refuses_a_switch_that_is_none(wrong):
    with pytest.raises(ValueError, match="until is"):
        OPDThenRL(switch=wrong)


def test_opd_then_rl_in_a_config(project):
    config = phased(
        {"use": "rlkd.algorithms.opd_then_rl:OPDThenRL", "switch": 0.4, "clip_high": 0.28}
    )
    assert config.build_algorithm() == OPDThenRL(switch=0.4, clip_high=0.28).schedule()
    plateau = {"plateau": "train/reward", "patience": 5, "window": 4}
    config = phased({"use": "rlkd.algorithms.opd_then_rl:OPDThenRL", "switch": plateau})
    want = OPDThenRL(switch=Plateau(**plateau)).schedule()
    assert config.build_algorithm() == want
    assert validate(yaml12.parse(dump(resolved(config)), "a"), "a").build_algorithm() == want
    followed = {"use": "rlkd.algorithms.opd_then_rl:OPDThenRL", "until": 3}
    with pytest.raises(ConfigError, match="is a schedule itself"):
        phased(followed, {"use": "rlkd.algorithms.grpo:GRPO"}).build_algorithm()


def test_the_check_of_a_later_phases_teacher_costs_no_scores(student, prompts, tmp_path):
    late = Schedule((Phase(algorithm=FREE, until=3), Phase(algorithm=RLAD())))
    teacher = Echo()
    trainer = make(
        student, prompts, tmp_path, STEPS, algorithm=late, teacher=teacher, teacher_check="warn"
    )
    trainer.train()
    # Written, four of them alone, shifted, shuffled; then the scores of the fourth step.
    assert len(teacher.calls) == 8

"""The trainer's own promises: what it refuses at the door, and what it hands to the algorithm."""

import logging
import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOConfig

from rlkd import GRPO, HDPO, KDRL, OPD, RLAD, SRPO, Trainer
from rlkd.algorithms.component import Composed
from rlkd.teacher.base import Teacher, TeacherError, TokenScores
from rlkd.tracking.rollouts import Rollouts
from tests.conftest import WORDS, make_model
from tests.parity.test_trl import arguments, reward


def make(student, prompts, tmp_path, more=None, **trainer):
    return Trainer(student, reward, arguments(tmp_path, **(more or {})), prompts, **trainer)


class Echo(Teacher):
    """Scores every token alike; counts how often it was asked."""

    name = "echo"

    def __init__(self, value=-1.0):
        self.value = value
        self.calls = []

    def prepare(self, device):
        pass

    def check_tokenizer(self, tokenizer, model_vocab_size):
        pass

    def score(self, prompt_ids, completion_ids, temperature):
        self.calls.append((len(prompt_ids), temperature))
        return [
            TokenScores(torch.tensor(ids), torch.full((len(ids),), self.value))
            for ids in completion_ids
        ]


class AfterTheFirst(Echo):
    """Scores the first token of each answer -1."""

    def score(self, prompt_ids, completion_ids, temperature):
        scores = super().score(prompt_ids, completion_ids, temperature)
        for scored in scores:
            scored.logp[:1] = -1.0
        return scores


# -- the door -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"beta": 0.1}, r"args.beta is 0.1, but the objective .* RLAD\(beta=...\), which is 0.0"),
        ({"epsilon_high": 0.3}, r"args.epsilon_high is 0.3.*RLAD\(clip_high=...\)"),
        ({"loss_type": "dr_grpo"}, r"args.loss_type is 'dr_grpo'.*RLAD\(reduction=...\)"),
        ({"scale_rewards": "none"}, r"args.scale_rewards is 'none'.*advantage_scale"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_contradict_the_algorithm_are_refused(
    more, message, student, prompts, tmp_path
):
    with pytest.raises(ValueError, match=message):
        make(student, prompts, tmp_path, more, algorithm=RLAD(), teacher=Echo())


def test_the_algorithms_settings_reach_trls_arguments(student, prompts, tmp_path):
    algorithm = RLAD(clip_low=0.1, clip_high=0.3, reduction="dapo", advantage_scale="none")
    given = arguments(tmp_path)
    trainer = Trainer(student, reward, given, prompts, algorithm=algorithm, teacher=Echo())
    assert trainer.args.epsilon == 0.1
    assert trainer.args.epsilon_high == 0.3
    assert trainer.args.loss_type == "dapo"
    assert trainer.args.scale_rewards == "none"
    assert given.epsilon == 0.2  # the caller's arguments are left as they were


@pytest.mark.parametrize(
    "more",
    [
        {"top_entropy_quantile": 0.2},
        {"entropy_coef": 0.01},
        {"use_adaptive_entropy": True},
        {"multi_objective_aggregation": "normalize_then_sum"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_arguments_that_would_be_ignored_are_refused(more, student, prompts, tmp_path):
    name = next(iter(more))
    with pytest.raises(ValueError, match=f"args.{name} is .* it would be ignored. Leave it at"):
        make(student, prompts, tmp_path, more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"loss_type": "cispo"}, "args.loss_type is 'cispo'; rlkd's GRPO knows grpo, bnpo"),
        ({"scale_rewards": "batch"}, "args.scale_rewards is 'batch'"),
    ],
)
def test_losses_that_rlkd_has_not_are_refused(more, message, student, prompts, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(student, prompts, tmp_path, more)


def test_processes_that_would_train_apart_are_refused(student, prompts, tmp_path, monkeypatch):
    args = arguments(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were started(?s:.*)use_cpu=True"):
        Trainer(student, lambda completions, **_: [0.0] * len(completions), args, prompts)


def test_a_teacher_is_asked_for_where_it_is_needed_and_only_there(student, prompts, tmp_path):
    with pytest.raises(ValueError, match="RLAD learns from a teacher and none was given"):
        make(student, prompts, tmp_path, algorithm=RLAD())
    with pytest.raises(ValueError, match="GRPO has no use for a teacher"):
        make(student, prompts, tmp_path, algorithm=GRPO(beta=0.0), teacher=Echo())
    with pytest.raises(ValueError, match="teacher_check is 'maybe'; it is error, warn or off"):
        make(student, prompts, tmp_path, algorithm=RLAD(), teacher=Echo(), teacher_check="maybe")


def test_a_teacher_of_another_family_is_refused(student, prompts, tmp_path):
    swapped = [*WORDS[:5], WORDS[6], WORDS[5], *WORDS[7:]]
    other = make_model(tmp_path / "other", seed=3, words=swapped)
    with pytest.raises(TeacherError, match="numbers its tokens differently from the student"):
        make(student, prompts, tmp_path, algorithm=RLAD(), teacher=str(other))


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("wrong/path", "there is no such folder"),
        ("no/such/path", "there is no such folder"),
        (Echo, r"teacher is the class Echo; make one of it: Echo\(...\)"),
    ],
)
def test_what_is_no_teacher(teacher, said, student, prompts, tmp_path):
    with pytest.raises(TeacherError, match=said):
        make(student, prompts, tmp_path, algorithm=RLAD(), teacher=teacher)


def test_other_end_tokens_are_told(student, prompts, tmp_path, caplog):
    class Other(Echo):
        end_token_ids = frozenset({1, 15})

    with caplog.at_level(logging.WARNING):
        make(student, prompts, tmp_path, algorithm=RLAD(), teacher=Other())
    assert "The student ends an answer with ['<eos>'], echo with ['<eos>', ';']" in caplog.text


def test_a_failed_check_stops_warns_or_is_left_out(student, prompts, tmp_path, caplog):
    def run(check):
        more = {"max_steps": 1}
        trainer = make(
            student, prompts, tmp_path, more,
            algorithm=RLAD(), teacher=Echo(), teacher_check=check,
        )  # fmt: skip
        trainer.train()
        return trainer.teacher.calls

    with pytest.raises(TeacherError, match=r"no likelier to echo .* check to warn"):
        run("error")
    with caplog.at_level(logging.WARNING):
        # Written, four of them alone, shifted, shuffled; then the scores themselves.
        assert len(run("warn")) == 8
    assert "no likelier to echo" in caplog.text
    assert len(run("off")) == 1


def test_a_reference_that_differs_from_the_student_is_refused(student, prompts, tmp_path):
    changed = AutoModelForCausalLM.from_pretrained(student)
    with torch.no_grad():
        changed.lm_head.weight.add_(0.1)
    with pytest.raises(ValueError, match=r"differs from the student as it was given \(first in"):
        make(changed, prompts, tmp_path, algorithm=GRPO(beta=0.1))
    changed.config._name_or_path = ""
    with pytest.raises(ValueError, match="this student has none"):
        make(changed, prompts, tmp_path, algorithm=GRPO(beta=0.1))
    make(AutoModelForCausalLM.from_pretrained(student), prompts, tmp_path, algorithm=GRPO(beta=0.1))


# -- what the algorithm is given ------------------------------------------------------------------


def caught_batches(trainer):
    """Every TokenBatch that the algorithm saw."""
    seen = []

    class Spy(type(trainer.algorithm)):
        def loss(self, batch):
            seen.append(batch)
            return super().loss(batch)

    trainer.objective = Composed(Spy(**vars(trainer.algorithm)))
    return seen


def test_on_policy_updates_need_no_further_forward(student, prompts, tmp_path):
    trainer = make(student, prompts, tmp_path, algorithm=GRPO(beta=0.0))
    seen, forwards = caught_batches(trainer), []
    real = trainer._get_per_token_logps_and_entropies
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: forwards.append(1) or real(*a, **k)
    trainer.train()
    assert len(forwards) == len(seen) == 4  # two steps of two micro-batches
    for batch in seen:
        assert torch.equal(batch.old_logp_BT, batch.logp_BT.detach())
        assert not batch.old_logp_BT.requires_grad


def test_the_old_policy_is_never_replaced_by_the_teacher(student, prompts, tmp_path):
    more = {"num_iterations": 2, "max_steps": 2, "gradient_accumulation_steps": 1}
    trainer = make(
        student, prompts, tmp_path, more, algorithm=RLAD(), teacher=Echo(-7.0), teacher_check="off"
    )
    seen = caught_batches(trainer)
    trainer.train()
    first, second = seen
    counted = first.mask_BT.bool()
    torch.testing.assert_close(first.old_logp_BT[counted], first.logp_BT[counted].detach())
    assert (first.teacher_logp_BT[counted] == -7.0).all()
    # The second pass sees the first one's log-probs as old, and a student that has moved.
    torch.testing.assert_close(second.old_logp_BT, first.old_logp_BT, rtol=0, atol=1e-5)
    assert (second.logp_BT - second.old_logp_BT).abs().max() > 1e-4


def test_the_teacher_scores_at_the_students_temperature_or_its_own(student, prompts, tmp_path):
    more = {"max_steps": 1, "temperature": 0.7}
    for own, want in ((None, 0.7), (1.3, 1.3)):
        teacher = Echo()
        teacher.temperature = own
        make(
            student, prompts, tmp_path, more, algorithm=RLAD(), teacher=teacher, teacher_check="off"
        ).train()
        assert teacher.calls == [(16, want)]


def test_the_end_token_is_marked_where_it_ended_the_answer(student, prompts, tmp_path):
    trainer = make(student, prompts, tmp_path)
    ids = torch.tensor([[5, 1, 0, 0], [1, 5, 6, 7], [5, 6, 7, 1], [5, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    want = [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert trainer._is_eos(ids, mask).int().tolist() == want


def test_a_row_that_any_reward_cannot_grade_counts_for_nothing(student, tmp_path):
    def first(completions, **_):
        return [float(i % 4) for i in range(len(completions))]

    def second(completions, **_):
        return [None if i % 4 == 3 else 0.0 for i in range(len(completions))]

    rows = Dataset.from_list([{"prompt": f"{i}+1="} for i in range(8)])
    trainer = Trainer(student, [first, second], arguments(tmp_path, max_steps=1), rows)
    trainer.model.train()
    output = trainer._generate_and_score_completions([rows[i // 4] for i in range(16)])
    # Rewards 0, 1, 2 and an ungradable 3: mean 1, sample standard deviation 1.
    want = torch.tensor([-1.0, 0.0, 1.0, 0.0]).repeat(4) / (1 + 1e-4)
    torch.testing.assert_close(output["advantages"], want)


def test_rollouts_come_with_what_the_first_update_saw(student, prompts, tmp_path):
    got: list[Rollouts] = []
    teacher = Echo(-2.0)
    trainer = make(
        student, prompts, tmp_path,
        algorithm=RLAD(), teacher=teacher, teacher_check="off", on_rollouts=got.append,
        token_rows=4,
    )  # fmt: skip
    trainer.train()
    assert [rollouts.step for rollouts in got] == [1, 2]
    assert [rollouts.columns["policy_version"] for rollouts in got] == [[0] * 16, [1] * 16]
    for rollouts in got:
        assert len(rollouts.prompts) == len(rollouts.completions) == 16
        assert all(len(column) == 16 for column in rollouts.columns.values())
        assert {"tokens", "truncated", "advantage", "reward/reward", "entropy", "teacher_gap"} <= (
            rollouts.columns.keys()
        )
    model = AutoModelForCausalLM.from_pretrained(student).eval()
    tokenizer = trainer.processing_class
    first = got[0]
    for row in range(16):
        prompt = tokenizer(first.prompts[row])["input_ids"]
        answer = tokenizer(first.completions[row])["input_ids"]
        assert len(answer) == first.columns["tokens"][row]
        assert first.columns["truncated"][row] == (answer[-1] != 1)
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            logp = model(input_ids=ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        sampled = logp.gather(-1, torch.tensor(answer).unsqueeze(-1)).mean().item()
        entropy = -(logp.exp() * logp).sum(-1).mean().item()
        assert first.columns["teacher_gap"][row] == pytest.approx(sampled + 2.0, abs=1e-4)
        assert first.columns["entropy"][row] == pytest.approx(entropy, abs=1e-4)
        assert first.columns["teacher_logp"][row] == pytest.approx(-2.0)
        if row % 4:
            assert first.columns["token_text"][row] is None
            continue
        assert first.columns["token_text"][row] == [tokenizer.decode([token]) for token in answer]
        each = logp.gather(-1, torch.tensor(answer).unsqueeze(-1)).squeeze(-1)
        ratios = torch.tensor(first.columns["token_teacher_log_ratio"][row])
        torch.testing.assert_close(ratios, -2.0 - each, rtol=0, atol=1e-4)
        entropies = torch.tensor(first.columns["token_entropy"][row])
        torch.testing.assert_close(entropies, -(logp.exp() * logp).sum(-1), rtol=0, atol=1e-4)


def test_rollouts_are_handed_over_after_their_first_pass_and_not_later(student, prompts, tmp_path):
    got = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            got.append(state.global_step)

    trainer = make(
        student, prompts, tmp_path, {"max_steps": 2, "num_iterations": 2},
        on_rollouts=lambda rollouts: got.append(rollouts), callbacks=[Watch()],
    )  # fmt: skip
    trainer.train()
    assert isinstance(got[0], Rollouts)
    assert got[1:] == [1, 2]


# -- RLAD against GRPO, through the whole trainer -------------------------------------------------


def trained(student, prompts, tmp_path, algorithm, teacher, more=None):
    check = {"teacher_check": "off"} if teacher is not None else {}
    trainer = make(student, prompts, tmp_path, more, algorithm=algorithm, teacher=teacher, **check)
    trainer.train()
    return dict(trainer.model.state_dict())


@pytest.mark.parametrize("teacher_value", [-1.0, -math.inf])
def test_alpha_one_is_grpo_bit_for_bit(teacher_value, student, prompts, tmp_path):
    """Also where the teacher rules out every token but the first of each answer."""
    grpo = GRPO(beta=0.0, clip_high=0.28, advantage_scale="population_std")
    want = trained(student, prompts, tmp_path, grpo, None)
    got = trained(student, prompts, tmp_path, RLAD(alpha=1.0), AfterTheFirst(teacher_value))
    for key, value in want.items():
        assert torch.equal(got[key], value), key


def test_a_teacher_with_the_students_weights_gives_grpos_first_update(student, prompts, tmp_path):
    more = {"max_steps": 1}
    grpo = GRPO(beta=0.0, clip_high=0.28, advantage_scale="population_std")
    want = trained(student, prompts, tmp_path, grpo, None, more)
    got = trained(student, prompts, tmp_path, RLAD(), student, more)
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=0, atol=1e-5)


def test_a_teacher_changes_the_update(student, teacher, prompts, tmp_path):
    grpo = GRPO(beta=0.0, clip_high=0.28, advantage_scale="population_std")
    want = trained(student, prompts, tmp_path, grpo, None)
    got = trained(student, prompts, tmp_path, RLAD(), teacher)
    assert max((got[key] - want[key]).abs().max() for key in want) > 1e-4


@pytest.mark.parametrize(
    "algorithm", [OPD(), KDRL(), SRPO(), HDPO()], ids=lambda a: type(a).__name__
)
def test_the_other_taught_algorithms_train_and_evaluate(
    algorithm, student, teacher, prompts, tmp_path
):
    """In evaluation too the loss is told which answers are correct, and how many of a group."""
    seen = []

    class Watched(type(algorithm)):
        def loss(self, batch):
            seen.append((batch.logp_BT.requires_grad, batch.correct_B1, batch.group_accuracy_B1))
            return super().loss(batch)

    def sometimes_correct(completions, **_):
        return [float(sum(map(ord, text)) % 2) for text in completions]

    args = arguments(tmp_path, num_iterations=2)
    trainer = Trainer(
        student, sometimes_correct, args, prompts, eval_dataset=prompts.select(range(8)),
        algorithm=Watched(), teacher=teacher, teacher_check="off",
    )  # fmt: skip
    trainer.train()
    assert math.isfinite(trainer.evaluate()["eval_loss"])
    assert {grad for grad, *_ in seen} == {True, False}
    for _, correct_B1, accuracy_B1 in seen:
        assert correct_B1.dtype == torch.bool
        assert correct_B1.shape == accuracy_B1.shape
        assert (correct_B1.float() * (accuracy_B1 == 0)).sum() == 0
    assert {bool(x) for _, c, _ in seen for x in c} == {True, False}


def test_plain_arguments_are_taken_as_trl_takes_them(student, prompts, tmp_path):
    trainer = make(student, prompts, tmp_path, {"epsilon": 0.1, "beta": 0.02, "delta": 2.0})
    assert trainer.algorithm == GRPO(
        beta=0.02, clip_low=0.1, clip_high=0.1, dual_clip=2.0, reduction="dapo"
    )
    assert isinstance(trainer.args, GRPOConfig)

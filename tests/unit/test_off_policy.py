"""Traces in the trainer: which rows they are, that nothing is generated in vain, and whose numbers
are logged."""

import math
from dataclasses import replace

import pytest
import torch
from trl import GRPOTrainer

from rlkd import GKD, GRPO, LUFFY, SFTKD, Trainer
from rlkd.algorithms.base import Algorithm
from rlkd.difficulty import prompt_key
from rlkd.traces.book import Trace, Traces
from rlkd.tracking.rollouts import Rollouts
from rlkd.training.off_policy import rows_of_batch
from tests.parity.test_trl import arguments

EOS = 1


class Share(GRPO):
    """GRPO of which a share of the batches are traces, as GKD's 1 − λ."""

    share = 0.5

    def off_policy_share(self) -> float:
        return self.share


def right(completions, answer, **_):
    return [float(text.strip() == want) for text, want in zip(completions, answer, strict=True)]


def book(prompts, tokenizer, copies: int = 1) -> Traces:
    """Right answers, each with another number of leading spaces' worth of zeros: distinct."""
    pairs = []
    for row in prompts:
        for copy in range(copies):
            ids = [2] * copy + tokenizer(row["answer"])["input_ids"] + [EOS]
            pairs.append((prompt_key(row["prompt"]), Trace(tuple(ids))))
    return Traces.gather(pairs)


@pytest.fixture
def tokenizer(student):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(student)


@pytest.fixture
def asked(monkeypatch):
    """Rows that the student was asked to answer, call by call; it always writes 9 9 <eos>."""
    calls: list[list[list[int]]] = []

    def generate(self, prompt_ids, *_, **__):
        calls.append(prompt_ids)
        return [[11, 11, EOS] for _ in prompt_ids], None

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", generate)
    return calls


def make(student, prompts, tmp_path, algorithm, traces, more=None, **trainer) -> Trainer:
    args = arguments(tmp_path, **(more or {}))
    return Trainer(student, right, args, prompts, algorithm=algorithm, traces=traces, **trainer)


def test_sft_kd_generates_nothing_and_learns_the_traces(
    student, prompts, tmp_path, tokenizer, asked
):
    got: list[Rollouts] = []
    traces = book(prompts, tokenizer)
    trainer = make(student, prompts, tmp_path, SFTKD(), traces, {"max_steps": 8},
                   on_rollouts=got.append)  # fmt: skip
    trainer.train()
    assert asked == []
    assert trainer.spending.generated_tokens == 0
    logs = [row for row in trainer.state.log_history if "loss" in row]
    assert logs[-1]["off_policy/logp"] > logs[0]["off_policy/logp"] + 1.0
    for log in logs:
        assert log["traces/share"] == 1.0
        assert log["traces/reward"] == 1.0
        assert log["loss"] == pytest.approx(-log["off_policy/logp"], abs=1e-5)
        # The student wrote nothing, so nothing is said of it: not even that it was right.
        for name in ("reward", "reward_std", "accuracy", "completions/mean_length",
                     "completions/clipped_ratio", "rewards/right/mean", "groups/no_signal",
                     "frac_reward_zero_std"):  # fmt: skip
            assert name not in log, name
    assert trainer.difficulty.table()["visits"].sum() == 0
    for rollouts in got:
        assert rollouts.columns["source"] == ["teacher"] * 16
        assert rollouts.columns["policy_version"] == [None] * 16
        assert rollouts.columns["reward/right"] == [1.0] * 16
        wanted = {row["prompt"]: row["answer"] for row in prompts}
        for prompt, text in zip(rollouts.prompts, rollouts.completions, strict=True):
            assert text == f"{wanted[prompt]}<eos>"


def test_luffy_puts_one_trace_into_each_group(student, prompts, tmp_path, tokenizer, asked):
    trainer = make(student, prompts, tmp_path, LUFFY(), book(prompts, tokenizer))
    trainer.model.train()
    rows = [prompts[i // 4] for i in range(16)]
    output = trainer._generate_and_score_completions(rows)
    marks = output["off_policy"].view(4, 4)
    assert marks.tolist() == [[False, False, False, True]] * 4
    # Twelve answers were asked for, three to each prompt: nothing is generated to be thrown away.
    ids = [tokenizer(row["prompt"])["input_ids"] for row in rows]
    assert asked == [[ids[i] for i in range(16) if i % 4 != 3]]
    # The advantage is the joint group's: rewards 0 0 0 1, no standard deviation.
    want = torch.tensor([-0.25, -0.25, -0.25, 0.75]).repeat(4)
    torch.testing.assert_close(output["advantages"], want)
    tokens = output["completion_ids"] * output["completion_mask"]
    for row in range(16):
        text = [t for t in tokens[row].tolist() if t]
        answer = [*tokenizer(rows[row]["answer"])["input_ids"], EOS]
        assert text == (answer if row % 4 == 3 else [11, 11, EOS])
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert metrics["reward"] == metrics["rewards/right/mean"] == metrics["accuracy"] == 0.0
    assert metrics["reward_std"] == metrics["rewards/right/std"] == 0.0
    assert metrics["completions/mean_length"] == metrics["completions/max_length"] == 3.0
    assert metrics["completions/mean_terminated_length"] == 3.0
    assert metrics["groups/no_signal"] == metrics["frac_reward_zero_std"] == 0.0
    assert metrics["traces/share"] == 0.25
    assert metrics["traces/reward"] == 1.0
    assert metrics["traces/tokens"] == 8.0
    assert (output["group_accuracy"] == 0.0).all()
    assert output["correct"].view(4, 4).tolist() == [[False, False, False, True]] * 4
    # Records: four prompts visited, none was solved by the student.
    table = trainer.difficulty.table()
    assert table["visits"].sum() == 4
    assert table["pass_rate"].nan_to_num().sum() == 0.0
    assert table["shortest"].isnan().all()


def test_the_loss_reads_the_marks(student, prompts, tmp_path, tokenizer, asked):
    trainer = make(student, prompts, tmp_path, LUFFY(), book(prompts, tokenizer))
    seen = []
    real = trainer._token_batch

    def token_batch(*args):
        batch = real(*args)
        seen.append(batch)
        return batch

    trainer._token_batch = token_batch
    trainer.train()
    marks = torch.cat([batch.off_policy_B1 for batch in seen[:2]])  # shuffled and split in two
    advantages = torch.cat([batch.advantage_BT for batch in seen[:2]])
    assert marks.sum() == 4
    assert (advantages[marks] == 0.75).all()
    assert (advantages[~marks] == -0.25).all()


def test_a_share_of_the_batches(student, prompts, tmp_path, tokenizer, asked):
    trainer = make(
        student, prompts, tmp_path, Share(beta=0.0), book(prompts, tokenizer), {"max_steps": 4}
    )
    trainer.train()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["traces/share"] for row in logs] == [0.0, 1.0, 0.0, 1.0]
    assert [len(call) for call in asked] == [16, 16]
    assert ["reward" in row for row in logs] == [True, False, True, False]


def test_mixed_gkd_learns_from_the_student_and_from_the_teacher_by_turns(
    student, teacher, prompts, tmp_path, tokenizer, asked
):
    gkd = GKD(on_policy_share=0.5)
    trainer = make(
        student,
        prompts,
        tmp_path,
        gkd,
        book(prompts, tokenizer),
        {"max_steps": 4},
        teacher=teacher,
        teacher_check="off",
    )
    trainer.train()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["traces/share"] for row in logs] == [0.0, 1.0, 0.0, 1.0]
    assert [len(call) for call in asked] == [16, 16]
    assert all(row["teacher/divergence"] > 0.0 and row["grad_norm"] > 0.0 for row in logs)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.75, 1.0])
def test_a_share_is_exact_and_even(share):
    algorithm = Share(beta=0.0)
    object.__setattr__(algorithm, "share", share)
    taught = [rows_of_batch(algorithm, 4, batch) for batch in range(120)]
    assert set(taught) <= {0, 4}
    for length in (60, 120):
        assert taught[:length].count(4) == pytest.approx(share * length, abs=1e-6)


@pytest.mark.parametrize("way", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_where_ranks_generate_together_every_rank_does(
    way, student, prompts, tmp_path, tokenizer, asked, monkeypatch
):
    """… all its rows, and traces replace what is not needed; but nobody where all are traces."""
    for algorithm, calls in ((LUFFY(), [16]), (SFTKD(), [])):
        asked.clear()
        trainer = make(student, prompts, tmp_path, algorithm, book(prompts, tokenizer))
        trainer.model.train()
        monkeypatch.setattr(trainer, way, True)
        output = trainer._generate_and_score_completions([prompts[i // 4] for i in range(16)])
        assert [len(call) for call in asked] == calls
        assert output["off_policy"].sum() == (4 if calls else 16)
        written = (output["completion_ids"][:, 0] == 11).view(4, 4)
        assert not written[:, 3].any()
        assert bool(written[:, :3].all()) is bool(calls)


def test_a_prompt_without_traces_is_answered_by_the_student(
    student, prompts, tmp_path, tokenizer, asked
):
    traces = book(prompts.select([0, 2]), tokenizer)
    trainer = make(student, prompts, tmp_path, LUFFY(), traces)
    trainer.model.train()
    output = trainer._generate_and_score_completions([prompts[i // 4] for i in range(16)])
    marks = output["off_policy"].view(4, 4)
    assert marks.sum(-1).tolist() == [1, 0, 1, 0]
    assert [len(call) for call in asked] == [14]


def test_evaluation_has_no_traces(student, prompts, tmp_path, tokenizer, asked):
    trainer = make(student, prompts, tmp_path, LUFFY(), book(prompts, tokenizer))
    trainer.model.eval()
    output = trainer._generate_and_score_completions([prompts[i // 4] for i in range(16)])
    assert [len(call) for call in asked] == [16]
    assert "off_policy" not in output


def test_later_updates_on_a_batch_have_the_students_old_log_probs(
    student, prompts, tmp_path, tokenizer, asked
):
    """On traces too: what old_logp_BT holds there is said in TokenBatch."""
    trainer = make(student, prompts, tmp_path, LUFFY(), book(prompts, tokenizer),
                   {"num_iterations": 2})  # fmt: skip
    trainer.model.train()
    # Without: tests/unit/test_fast.py, against this.
    trainer.speed = replace(trainer.speed, reuse_log_probs=False)
    output = trainer._generate_and_score_completions([prompts[i // 4] for i in range(16)])
    with torch.no_grad():
        want, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([output["prompt_ids"], output["completion_ids"]], 1),
            torch.cat([output["prompt_mask"], output["completion_mask"]], 1),
            output["completion_ids"].shape[1],
        )
    rows = output["off_policy"]
    mask = output["completion_mask"][rows].bool()
    torch.testing.assert_close(output["old_per_token_logps"][rows][mask], want[rows][mask])


def test_traces_are_wanted_where_they_are_needed_and_only_there(
    student, prompts, tmp_path, tokenizer
):
    with pytest.raises(ValueError, match="LUFFY learns from answers that the teacher wrote and"):
        make(student, prompts, tmp_path, LUFFY(), None)
    with pytest.raises(ValueError, match="GRPO has no use for traces"):
        make(student, prompts, tmp_path, GRPO(beta=0.0), book(prompts, tokenizer))
    with pytest.raises(ValueError, match="off_policy is 4 of groups of 4"):
        make(student, prompts, tmp_path, LUFFY(off_policy=4), book(prompts, tokenizer))


def test_which_trace_is_a_function_of_seed_batch_and_prompt():
    traces = Traces.gather((7, Trace((n, EOS))) for n in range(5))
    group = [traces.pick(7, (0, 3), place) for place in range(5)]
    assert len(set(group)) == 5  # the places of a group get different ones
    assert group == [traces.pick(7, (0, 3), place) for place in range(5)]
    assert traces.pick(7, (0, 3), 5) == group[0]
    others = {traces.pick(7, (seed, batch), 0) for seed in range(5) for batch in range(5)}
    assert len(others) == 5
    assert traces.pick(8, (0, 3), 0) is None
    assert len(traces) == 5
    assert traces.longest == 2
    assert traces.digest() != Traces.gather([(7, Trace((EOS,)))]).digest()


def test_an_algorithm_without_traces_says_so():
    assert GRPO().off_policy_rows(8) == 0
    assert GRPO().off_policy_share() == 0.0
    assert not GRPO().needs_traces(8)
    assert Share().needs_traces(8)
    assert issubclass(Share, Algorithm)
    assert math.isclose(Share().off_policy_share(), 0.5)

"""Dynamic sampling: which groups are kept, where the others come from, what is counted."""

from dataclasses import dataclass

import pytest
import torch
from datasets import Dataset

from rlkd import RLAD, Trainer
from rlkd.algorithms.dapo import DAPO
from rlkd.difficulty import prompt_key
from rlkd.tracking import glossary
from rlkd.training.resampling import FreshPrompts, has_both
from tests.parity.test_trl import arguments
from tests.unit.test_trainer import Echo

NAN = float("nan")
PROMPTS = [f"{a}+{b}=" for a in range(6) for b in range(4)]
ROWS = Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS])
SURE = {f"{a}+{b}=" for a in range(6) for b in (0, 2)}  # whatever is answered is right


def reward(prompts, completions, **_):
    """Half of the prompts teach nothing; the answers to the others are right by their text."""
    return [
        1.0 if prompt in SURE else float(sum(map(ord, text)) % 2)
        for prompt, text in zip(prompts, completions, strict=True)
    ]


def make(student, tmp_path, algorithm=None, function=reward, more=None, **given):
    args = arguments(tmp_path, **({"max_steps": 3} | (more or {})))
    return Trainer(student, function, args, ROWS, algorithm=algorithm or DAPO(), **given)


def watched(trainer):
    """The stored rollouts of each batch, and all tokens that were written."""
    batches, tokens, prompts = [], [], []
    trainer._on_rollouts = batches.append
    real = trainer._generate_single_turn

    def generate(prompt_ids, *rest):
        found = real(prompt_ids, *rest)
        tokens.extend(len(p) + len(ids) for p, ids in zip(prompt_ids, found[0], strict=True))
        prompts.extend(trainer.processing_class.batch_decode(prompt_ids))
        return found

    trainer._generate_single_turn = generate
    trainer.train()
    return batches, tokens, prompts


def logged(trainer, name):
    """Of the steps before which a batch was drawn."""
    key = f"dynamic_sampling/{name}"
    return [line[key] for line in trainer.state.log_history if key in line]


@pytest.mark.parametrize(
    ("verifiable", "total", "signal", "correct"),
    [
        ([0, 0, 0, 0], None, False, 0),
        ([1, 0, 0, 0], None, True, 1),
        ([1, 1, 1, 0], None, True, 3),
        ([1, 1, 1, 1], None, False, 4),
        ([0.5, 0.9, 0, 0], None, False, 0),  # half marks are not correct
        ([1, NAN, NAN, NAN], None, False, 1),
        ([1, 0, NAN, NAN], None, True, 1),
        ([NAN, NAN, NAN, NAN], None, False, 0),
        ([1, 0, 1, 1], [1, NAN, 1, 1], False, 3),  # the wrong one counts for nothing
        ([1, 1, 1, 1], [1, 0.5, 1, 1], False, 4),  # a penalty for its length is no mistake
    ],
)
def test_a_group_has_a_signal_if_some_are_right_and_some_are_not(
    verifiable, total, signal, correct
):
    got = has_both(torch.tensor([verifiable]), torch.tensor([total or verifiable]))
    assert [value.item() for value in got] == [signal, correct]


def test_fresh_prompts_come_each_once_a_pass_and_none_that_is_taken():
    fresh = FreshPrompts(["a", "b", "c", "d", "b"], seed=3)
    taken = set()
    first = fresh.take(3, taken)
    assert len(taken) == 3
    saved = fresh.state()
    rest = fresh.take(9, taken)
    assert sorted("abcdb"[row] for row in first + rest) == ["a", "b", "c", "d"]
    assert fresh.take(1, taken) == []
    other = FreshPrompts(["a", "b", "c", "d", "b"], seed=3)
    other.restore(saved)
    assert other.state() == saved
    assert other.take(9, {FreshPrompts("abcdb", 0)._keys[row] for row in first}) == rest
    passes = [FreshPrompts(list("abcdefgh"), seed).take(8, set()) for seed in (1, 1, 2)]
    assert passes[0] == passes[1] != passes[2]


def test_groups_without_a_signal_are_replaced_by_fresh_prompts(student, tmp_path):
    trainer = make(student, tmp_path)
    batches, tokens, prompts = watched(trainer)
    assert logged(trainer, "filled") == [0.0] * 3
    assert max(logged(trainer, "rounds")) > 1
    assert sum(logged(trainer, "left_out")) > 0
    for batch in batches:
        assert len(batch.prompts) == 16
        for first in range(0, 16, 4):
            rows = slice(first, first + 4)
            assert len(set(batch.prompts[rows])) == 1
            marks = batch.columns["reward/reward"][rows]
            assert 0.0 < sum(marks) < 4.0
            assert batch.columns["reward/reward"][rows] == reward(
                batch.prompts[rows],
                [
                    text.replace("<eos>", "").replace("<pad>", "")
                    for text in batch.completions[rows]
                ],
            )
            assert any(batch.columns["advantage"][rows])
        assert not set(batch.prompts) & SURE
    # Every answer is counted and remembered, also those that were thrown away.
    assert sum(logged(trainer, "groups")) * 4 == len(tokens)
    assert trainer.state.num_input_tokens_seen == sum(tokens)
    table = trainer.difficulty.table()
    seen = table["key"][table["visits"] > 0].tolist()  # of which an answer ended by itself
    assert set(seen) <= {prompt_key(prompt) for prompt in prompts}
    assert set(seen) & {prompt_key(prompt) for prompt in SURE}
    for name in trainer.state.log_history[0]:
        if "dynamic" in name:
            assert glossary.explain(f"train/{name}") is not None, name


def test_what_was_left_out_is_counted(student, tmp_path):
    trainer = make(student, tmp_path)
    batches, tokens, prompts = watched(trainer)
    kept = sum(sum(batch.columns["tokens"]) for batch in batches)
    written = sum(tokens) - sum(
        len(trainer.processing_class(prompt)["input_ids"]) for prompt in prompts
    )
    assert sum(logged(trainer, "tokens_left_out")) == written - kept
    left_out = sum(logged(trainer, "left_out"))
    assert left_out == sum(logged(trainer, "groups")) - 3 * 4
    shares = [
        share * groups
        for share, groups in zip(
            logged(trainer, "without_signal"), logged(trainer, "groups"), strict=True
        )
    ]
    assert sum(shares) >= left_out - 1e-6 > 0


def test_where_every_group_has_a_signal_it_is_the_plain_run_bit_for_bit(student, tmp_path):
    def turns(completions, **_):
        return [float(i % 2) for i in range(len(completions))]

    one = make(student, tmp_path, DAPO(), turns)
    one.train()
    other = make(student, tmp_path, DAPO(dynamic_sampling=False), turns)
    other.train()
    for name, value in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name
    assert logged(one, "rounds") == [1.0] * 3
    assert "dynamic_sampling/rounds" not in other.state.log_history[0]


@pytest.mark.parametrize("rounds", [1, 3])
def test_when_the_rounds_are_over_the_batch_is_filled(rounds, student, tmp_path):
    def right(completions, **_):
        return [1.0] * len(completions)

    trainer = make(student, tmp_path, DAPO(max_sampling_rounds=rounds), right, {"max_steps": 1})
    batches, _, prompts = watched(trainer)
    assert logged(trainer, "rounds") == [rounds]
    assert logged(trainer, "filled") == [4.0]
    assert logged(trainer, "left_out") == [4.0 * (rounds - 1)]
    assert logged(trainer, "accuracy") == [1.0]
    assert batches[0].prompts == prompts[:16]  # the first that were drawn
    assert batches[0].columns["advantage"] == [0.0] * 16
    visits = trainer.difficulty.table()["visits"]
    assert int(visits.sum()) == 4 * rounds
    assert int(visits.max()) == 1


def test_when_the_prompts_are_over_the_batch_is_filled(student, tmp_path):
    def right(completions, **_):
        return [1.0] * len(completions)

    args = arguments(tmp_path, max_steps=1)
    rows = Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS[:6]])
    trainer = Trainer(student, right, args, rows, algorithm=DAPO())
    trainer.train()
    assert logged(trainer, "groups") == [6.0]
    assert logged(trainer, "filled") == [4.0]


@dataclass(frozen=True, kw_only=True)
class Taught(RLAD):
    dynamic_sampling: bool = True


def test_the_teacher_scores_the_kept_rows_only(student, tmp_path):
    class Noting(Echo):
        def score(self, prompt_ids, completion_ids, temperature):
            self.seen = getattr(self, "seen", []) + list(completion_ids)
            return super().score(prompt_ids, completion_ids, temperature)

    teacher = Noting()
    trainer = make(student, tmp_path, Taught(beta=0.1), teacher=teacher, teacher_check="off")
    asked = []
    trainer.ref_model.register_forward_pre_hook(
        lambda _, __, named: asked.append(len(named["input_ids"])), with_kwargs=True
    )
    batches, _, _ = watched(trainer)
    assert sum(logged(trainer, "left_out")) > 0
    assert [rows for rows, _ in teacher.calls] == [16] * 3
    decode = trainer.processing_class.batch_decode
    assert decode(teacher.seen) == [text for batch in batches for text in batch.completions]
    assert sum(asked) == 16 * 3


@pytest.mark.parametrize("step", [1, 2, 3])
def test_resumed_it_is_the_same_run(step, student, tmp_path):
    more = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1,
            "steps_per_generation": 4, "gradient_accumulation_steps": 2}  # fmt: skip
    whole = make(student, tmp_path / "whole", more=more)
    whole.train()
    assert min(logged(whole, "rounds")) > 1
    rest = make(student, tmp_path / "rest", more=more)
    rest.train(str(tmp_path / "whole" / f"checkpoint-{step}"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(rest.model.state_dict()[name], value), name
    assert rest.fresh_prompts.state() == whole.fresh_prompts.state()
    assert rest.state.num_input_tokens_seen == whole.state.num_input_tokens_seen


def test_what_cannot_be_resampled_is_refused(student, tmp_path):
    args = arguments(tmp_path)
    with pytest.raises(ValueError, match=r"dynamic_sampling of DAPO is on .* are streamed"):
        Trainer(student, reward, args, ROWS.to_iterable_dataset(), algorithm=DAPO())
    with pytest.raises(ValueError, match="max_sampling_rounds is 0; it must be at least 1"):
        DAPO(max_sampling_rounds=0)

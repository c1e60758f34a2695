"""Components and difficulty records inside the trainer: what is learnt, when, and from what."""

import math

import pytest
import torch
from datasets import Dataset

from rlkd import GRPO, RLAD, Trainer
from rlkd.algorithms.ceeh import CEEH
from rlkd.algorithms.component import Component, Controlled
from rlkd.difficulty import prompt_key
from tests.conftest import make_model
from tests.parity.test_trl import arguments, reward

ROWS = Dataset.from_list([{"prompt": f"{a}+{a}="} for a in range(8)])


def whole(completions, **_):
    """1 or 0 by the text alone, both often."""
    return [float(sum(map(ord, text)) % 2) for text in completions]


def make(student, tmp_path, more=None, rewards=whole, rows=ROWS, **trainer):
    trainer.setdefault("algorithm", GRPO(beta=0.0, advantage_scale="none"))
    return Trainer(student, rewards, arguments(tmp_path, **(more or {})), rows, **trainer)


def weights(trainer):
    trainer.train()
    return trainer.model.state_dict()


# -- nothing of it on: nothing changes ----------------------------------------------------------


OFF = {
    "me": CEEH(entropy="me", entropy_coefficient=0.0, length_beta=0.0),
    "ea": CEEH(entropy="ea", ea_alpha=0.0, length_beta=0.0),
}


@pytest.mark.parametrize("name", ["me", "ea"])
def test_switched_off_it_leaves_the_run_bit_identical(name, student, tmp_path):
    more = {"num_iterations": 2, "max_steps": 6}
    plain = weights(make(student, tmp_path, more))
    off = weights(make(student, tmp_path, more, components=[OFF[name]]))
    on = CEEH(entropy=name, entropy_coefficient=0.1, length_beta=0.0, hard_from="group")
    changed = weights(make(student, tmp_path, more, components=[on]))
    assert all(torch.equal(off[key], value) for key, value in plain.items())
    assert not all(torch.equal(changed[key], value) for key, value in plain.items())


# -- what is learnt ------------------------------------------------------------------------------


class Twin:
    """The records of one prompt at a time, in plain Python."""

    def __init__(self):
        self.rate, self.shortest, self.visits = {}, {}, {}

    def learn(self, prompt, rows):
        counted = [(right, length) for right, length, cut in rows if not cut]
        if not counted:
            return
        now = sum(right for right, _ in counted) / len(counted)
        before = self.rate.get(prompt, now)
        self.rate[prompt] = before + (0.2 if before < now else 0.05) * (now - before)
        self.visits[prompt] = self.visits.get(prompt, 0) + 1
        lengths = [length for right, length in counted if right]
        if lengths:
            self.shortest[prompt] = min([*lengths, self.shortest.get(prompt, math.inf)])


def test_the_records_are_those_of_the_raw_reward_over_whole_groups(student, tmp_path):
    got = []
    trainer = make(
        student, tmp_path, {"max_steps": 10}, on_rollouts=got.append, components=[CEEH()]
    )
    trainer.train()
    twin = Twin()
    for batch in got:
        columns = batch.columns
        rows = list(
            zip(columns["reward/whole"], columns["tokens"], columns["truncated"], strict=True)
        )
        for start in range(0, 16, 4):
            assert len(set(batch.prompts[start : start + 4])) == 1
            twin.learn(batch.prompts[start], rows[start : start + 4])
    assert len(got) == 10
    assert any(cut for batch in got for cut in batch.columns["truncated"])
    table = {key: column.tolist() for key, column in trainer.difficulty.table().items()}
    assert len(table["key"]) == len(ROWS)
    assert max(twin.visits.values()) >= 3
    for prompt in ROWS["prompt"]:
        at = table["key"].index(prompt_key(prompt))
        assert table["visits"][at] == twin.visits.get(prompt, 0)
        for name, want in (("pass_rate", twin.rate), ("shortest", twin.shortest)):
            assert table[name][at] == pytest.approx(want.get(prompt, math.nan), nan_ok=True)


def test_a_row_that_any_reward_cannot_grade_is_not_learnt(student, tmp_path):
    def silent(completions, **_):
        return [None] * 4 + [0.0] * (len(completions) - 4)

    got = []
    trainer = make(
        student, tmp_path, {"max_steps": 1}, rewards=[whole, silent], on_rollouts=got.append
    )
    trainer.train()
    cut = got[0].columns["truncated"]
    ended = {p for p, c in list(zip(got[0].prompts, cut, strict=True))[4:] if not c}
    table = trainer.difficulty.table()
    visited = table["key"][table["visits"] > 0].tolist()
    assert set(visited) == {prompt_key(prompt) for prompt in ended} != set()


def test_the_verifiable_reward_is_the_first_or_the_one_that_is_named(student, tmp_path):
    def one(completions, **_):
        return [1.0] * len(completions)

    for verifiable, want in ((None, 1.0), ("one", 1.0), ("reward", 0.0)):
        trainer = make(
            student, tmp_path, {"max_steps": 1}, rewards=[one, reward], verifiable=verifiable
        )
        trainer.train()  # `reward` stays below 1: never the full mark
        rates = trainer.difficulty.table()["pass_rate"]
        assert set(rates[~rates.isnan()].tolist()) == {want}
    with pytest.raises(ValueError, match="verifiable is 'two'; the rewards are one, reward"):
        make(student, tmp_path, rewards=[one, reward], verifiable="two")


def test_evaluation_learns_nothing_and_shapes_nothing(student, tmp_path):
    seen = []

    class Spy(CEEH):
        def shape_rewards(self, groups):
            seen.append(groups)
            return super().shape_rewards(groups)

    trainer = make(
        student, tmp_path, {"max_steps": 2, "num_generations_eval": 2},
        components=[Spy()], eval_dataset=ROWS,
    )  # fmt: skip
    trainer.train()
    before, calls = trainer.difficulty.state(), len(seen)
    trainer.evaluate()
    after = trainer.difficulty.state()
    assert calls == len(seen) == 2
    for key in ("key", "visits"):
        assert torch.equal(before[key], after[key])
    torch.testing.assert_close(before["pass_rate"], after["pass_rate"], equal_nan=True)


# -- what reaches the loss -----------------------------------------------------------------------


class Watcher(Component):
    """Changes nothing; keeps what it is shown."""

    def __init__(self):
        object.__setattr__(self, "groups", [])
        object.__setattr__(self, "batches", [])

    def shape_rewards(self, groups):
        self.groups.append(groups)
        return groups.reward_NG + self.added

    added = 100 * torch.rand(4, 4, generator=torch.Generator().manual_seed(0))  # names the row

    def penalty(self, batch):
        self.batches.append(batch)


def test_shaped_rewards_become_advantages_and_hard_rows_are_found_after_the_shuffle(
    student, tmp_path
):
    watcher, got = Watcher(), []
    more = {"max_steps": 8, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 4}
    trainer = make(student, tmp_path, more, components=[watcher], on_rollouts=got.append)
    trainer.train()
    assert any(groups.hard_N.any() and not groups.hard_N.all() for groups in watcher.groups)
    for step, (groups, rollouts) in enumerate(zip(watcher.groups, got, strict=True)):
        shaped_NG = groups.reward_NG + Watcher.added
        want = (shaped_NG - shaped_NG.mean(-1, keepdim=True)).reshape(-1).tolist()
        assert rollouts.columns["advantage"] == pytest.approx(want, abs=1e-4)
        assert rollouts.columns["reward/shaped"] == pytest.approx(shaped_NG.reshape(-1).tolist())
        of_row = dict(zip(want, groups.hard_N.repeat_interleave(4).tolist(), strict=True))
        assert len(of_row) == 16
        found = {}
        for batch in watcher.batches[4 * step : 4 * step + 4]:
            assert batch.progress == step / 8
            found |= dict(
                zip(batch.advantage_BT[:, 0].tolist(), batch.hard_B1[:, 0].tolist(), strict=True)
            )
        assert found == of_row


def test_the_length_term_needs_a_second_visit(student, tmp_path):
    got = []
    trainer = make(
        student, tmp_path, {"max_steps": 12}, on_rollouts=got.append,
        components=[CEEH(entropy=None, length_beta=0.5)],
    )  # fmt: skip
    trainer.train()
    visited, shaped = set(), 0
    for batch in got:
        columns = batch.columns
        for start in range(0, 16, 4):
            rows = range(start, start + 4)
            terms = [columns["reward/shaped"][i] - columns["reward/whole"][i] for i in rows]
            if batch.prompts[start] not in visited:
                assert terms == [0.0] * 4
            for i, term in zip(rows, terms, strict=True):
                if term:
                    assert columns["reward/whole"][i] == 1.0
                    assert not columns["truncated"][i]
            shaped += any(terms)
        visited |= set(batch.prompts)
    assert shaped > 0


def test_ceeh_and_rlad_in_one_run(student, teacher, tmp_path):
    make(
        student, tmp_path, {"max_steps": 3}, algorithm=RLAD(advantage_scale="none"),
        teacher=teacher, teacher_check="off", components=[CEEH(entropy="ea", hard_from="group")],
    ).train()  # fmt: skip


# -- the controller ------------------------------------------------------------------------------


class Doubling(Controlled):
    def start(self):
        return 1e-6

    def update(self, state, entropy):
        assert 0.0 < entropy < math.log(21) + 1e-6
        return 2 * state

    def coefficient(self, state, entropy):
        return 0.0 if entropy is None else state


def test_a_controller_moves_once_a_step_and_is_saved(student, tmp_path):
    seen = []

    class Keeping(Doubling):
        def penalty(self, batch):
            seen.append(batch.entropy_coefficient)

    trainer = make(student, tmp_path, {"max_steps": 3}, components=[Keeping()])
    trainer.train()
    assert seen == [0.0, 0.0, 2e-6, 2e-6, 4e-6, 4e-6]  # two micro-batches a step
    saved = trainer.entropy_control.state()
    assert saved["state"] == 8e-6
    assert saved["entropy"] == pytest.approx(trainer.state.log_history[-2]["entropy"], abs=1e-5)
    fresh = make(student, tmp_path, {"max_steps": 1}, components=[Keeping()])
    assert fresh.entropy_control.coefficient == 0.0
    fresh.entropy_control.restore(saved)
    assert fresh.entropy_control.coefficient == 8e-6


# -- the entropy's gradient ----------------------------------------------------------------------


def scored(trainer, ids, prompt):
    """Log-probs and entropies of what follows the prompt, as the loss reads them."""
    mask = torch.ones_like(ids)
    logp, entropy, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, ids.shape[1] - prompt, compute_entropy=True
    )
    return logp, entropy


def test_the_entropys_gradient_is_that_of_the_whole_distribution(student, tmp_path):
    trainer = make(student, tmp_path, {"temperature": 0.7})
    ids = torch.randint(2, 20, (3, 9), generator=torch.Generator().manual_seed(0))
    weight = torch.rand(3, 5, generator=torch.Generator().manual_seed(1))

    def gradient(total):
        trainer.model.zero_grad()
        total.backward()
        return {name: p.grad.clone() for name, p in trainer.model.named_parameters()}

    logp, entropy = scored(trainer, ids, 4)
    found = gradient((weight * entropy + 0.3 * logp).sum())
    logits = trainer.model(input_ids=ids).logits[:, 3:-1] / 0.7
    full = logits.log_softmax(-1)
    want_entropy = -(full.exp() * full).sum(-1)
    want_logp = full.gather(-1, ids[:, 4:].unsqueeze(-1)).squeeze(-1)
    want = gradient((weight * want_entropy + 0.3 * want_logp).sum())
    torch.testing.assert_close(entropy, want_entropy, rtol=1e-5, atol=1e-5)
    for name, value in want.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert max(value.abs().max() for value in want.values()) > 0.1


def test_no_tensor_of_all_logits_is_kept_for_the_entropys_gradient(tmp_path):
    """What autograd keeps grows with the vocabulary by the head's own weights only."""
    words = ["<pad>", "<eos>", *(chr(0x4E00 + i) for i in range(4000))]
    wide = str(make_model(tmp_path / "wide", seed=1, words=words))
    rows = Dataset.from_list([{"prompt": chr(0x4E00 + i)} for i in range(8)])
    trainer = Trainer(wide, whole, arguments(tmp_path), rows)
    ids = torch.randint(2, 4000, (16, 40), generator=torch.Generator().manual_seed(0))
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _, entropy = scored(trainer, ids, 10)
    entropy.sum().backward()
    assert max(kept) < 16 * 30 * 4002 / 4

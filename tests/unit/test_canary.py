"""What a checkpoint holds of a teacher that does not change, and what it makes of another one."""

import contextlib
import sqlite3

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd.checkpoints.manifest import CheckpointError
from rlkd.teacher.base import Student
from rlkd.teacher.cached import Cached
from rlkd.teacher.canary import Canary, tokens_of
from rlkd.teacher.inner import AdapterOff, InnerTeacher, SelfTeacher
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.other_tokenizer import OtherTokenizer
from rlkd.teacher.privileged import Privileged
from rlkd.teacher.quantized import METHODS
from rlkd.teacher.several import Mixed, Routed
from tests.conftest import WORDS

KINDS = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "offloaded": {"offload": True},
    "without padding": {"padding_free": True, "shared_prompts": True},
    "torchao_int8": {"dtype": "float32", "quantization": "torchao_int8"},
    "bitsandbytes_8bit": {"dtype": "float32", "quantization": "bitsandbytes_8bit"},
}
SAME = "scores the same tokens as when the run began"


def local(folder, **settings):
    made = LocalTeacher.from_pretrained(folder, **settings)
    made.prepare(torch.device("cpu"))
    return made


def carried(one, other):
    """What `other` says of the canary in a checkpoint of `one`."""
    return other.learnt()["canary"].restore(one.learnt()["canary"].state())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_weights_are_the_same_and_others_are_not(kind, student, tmp_path):
    settings = KINDS[kind]
    if kind in METHODS:
        pytest.importorskip(METHODS[kind], reason="pip install 'rlkd[quantized]'")
    one = local(student, **settings)
    assert carried(one, local(student, **settings)) == SAME
    moved = AutoModelForCausalLM.from_pretrained(student)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.mul_(1 + 0.3 * torch.randn_like(weight))
    moved.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(student).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"the folder .* no longer holds the model") as error:
        carried(one, local(str(tmp_path), **settings))
    assert str(tmp_path) in str(error.value)


def test_a_few_more_updates_are_another_model_in_float32(student):
    one, other = local(student, dtype="float32"), local(student, dtype="float32")
    with torch.no_grad():
        other.model.lm_head.weight.mul_(1.01)
    mine, theirs = (teacher.learnt()["canary"].state()["logp"] for teacher in (one, other))
    moved = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    assert 0.05 < moved < 0.3
    again = local(student, dtype="float32")
    with torch.no_grad():
        again.model.lm_head.weight.mul_(1.01)
    with pytest.raises(CheckpointError, match=r"0\.05 are allowed"):
        carried(one, again)


@pytest.mark.parametrize("kind", ["float32", "offloaded", "without padding"])
def test_it_costs_nothing_and_changes_no_score(kind, student):
    one, other = (local(student, **KINDS[kind]) for _ in range(2))
    carried(one, one)
    rows = [[4, 12, 5, 14], [3, 14]], [[7, 8, 1], [9, 9, 10, 11]]
    found, wanted = one.score(*rows, 1.0), other.score(*rows, 1.0)
    assert one.usage == other.usage
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine.logp, theirs.logp)


def test_the_weights_are_away_from_the_device_again(student):
    teacher = LocalTeacher.from_pretrained(student, offload=True)
    teacher.prepare(torch.device("meta"))  # a pass there has no numbers
    teacher._device = torch.device("cpu")
    moves = []
    real = teacher.model.to
    teacher.model.to = lambda device: moves.append(str(device)) or real(device)
    teacher.learnt()["canary"].state()
    assert moves == ["cpu", "cpu"]  # there and back


def test_asked_once_and_kept(student):
    teacher = local(student)
    calls = []
    teacher._backbone.register_forward_pre_hook(lambda *_: calls.append(1))
    canary = teacher.learnt()["canary"]
    assert canary.state() == teacher.learnt()["canary"].state()
    assert len(calls) == 1
    other = local(student).learnt()["canary"]
    other.restore(canary.state())
    assert other.state() == canary.state()


def test_a_teacher_without_one_good_score_is_the_same_later_on(student):
    broken = [local(student) for _ in range(2)]
    for teacher in broken:
        with torch.no_grad():
            teacher.model.model.norm.weight.fill_(torch.nan)
    assert carried(*broken) == SAME
    with pytest.raises(CheckpointError):
        carried(broken[0], local(student))
    with pytest.raises(CheckpointError):
        carried(local(student), broken[1])


def test_no_number_of_scores_is_another_ones():
    said = [torch.tensor([-1.0, -1.0]), torch.tensor([-1.0])]
    canary = Canary("t", lambda: said.pop(0), "look there")
    canary.look()
    with pytest.raises(Exception, match="otherwise than at the start"):
        canary.look()


# -- whose it is ----------------------------------------------------------------------------------


def adapted(folder, bias="none"):
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", bias=bias)
    return get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora)


def test_what_moves_by_design_has_none_and_what_is_around_a_frozen_one_has_its(student, tmp_path):
    frozen, tokenizer = local(student), AutoTokenizer.from_pretrained(student)
    assert set(Privileged(frozen, "{prompt}{answer}").learnt()) == {"canary"}
    assert set(OtherTokenizer(frozen).learnt()) == {"canary"}
    both = {"a": frozen, "b": SelfTeacher()}
    assert set(Mixed(both).learnt()) == set(Routed(both, "k").learnt()) == {"0_canary", "1_self"}
    cached = Cached(frozen, str(tmp_path / "c.db"), of="s")
    assert set(cached.learnt()) == {"cache", "cached_canary"}
    cached.close()
    assert set(SelfTeacher(decay=0.5).learnt()) == {"self"}
    assert set(Privileged(SelfTeacher(), "{prompt}{answer}").learnt()) == {"self"}
    for bias, words in (("none", {"canary"}), ("all", set())):
        off = AdapterOff()
        off.meet(Student(adapted(student, bias), tokenizer))
        assert set(off.learnt()) == words


def test_a_teacher_inside_the_student_has_none(student):
    class Own(InnerTeacher):
        def _weights(self):
            return contextlib.nullcontext()

    made = Own()
    made.meet(Student(AutoModelForCausalLM.from_pretrained(student), None))
    assert made.learnt() == {}


def test_adapters_may_move_and_what_they_stand_on_may_not(student, teacher):
    tokenizer = AutoTokenizer.from_pretrained(student)

    def off(folder):
        made, learner = AdapterOff(), adapted(folder)
        learner.train()
        with torch.no_grad():
            for name, weight in learner.named_parameters():
                if "lora" in name:
                    weight.normal_(std=0.5)
        made.meet(Student(learner, tokenizer))
        return made

    one = off(student)
    assert carried(one, off(student)) == SAME
    assert one.model.training
    assert one.usage.tokens == 0
    with pytest.raises(CheckpointError, match="the folder of the student no longer holds"):
        carried(one, off(teacher))


def test_its_tokens_are_the_models_own_and_no_special_ones(student):
    tokenizer = AutoTokenizer.from_pretrained(student)
    assert tokens_of(tokenizer, len(WORDS), 33) == list(range(2, len(WORDS)))
    assert tokens_of(tokenizer, 10, 4) == [2, 4, 6, 8]
    assert tokens_of(None, 100, 4) == [0, 25, 50, 75]


# -- a cache's file -------------------------------------------------------------------------------


def filled(folder, path, answers):
    made = Cached(LocalTeacher.from_pretrained(folder), str(path), of="s")
    made.score([[4, 5]] * len(answers), answers, 1.0)
    return made


def answers(first, number=40):
    return [[2 + (i + j) % 15 for j in range(3 + i // 15)] for i in range(first, first + number)]


def test_a_cache_that_grew_is_the_same_and_another_one_is_not(student, teacher, tmp_path):
    made = filled(student, tmp_path / "a.db", answers(0))
    state = made.learnt()["cache"].state()
    assert len(state["entries"]) == 32
    made.score([[4, 5]] * 40, answers(40), 1.0)
    made.close()
    again = filled(student, tmp_path / "a.db", [])
    assert "the 32 entries" in again.learnt()["cache"].restore(state)
    again.close()
    other = filled(teacher, tmp_path / "b.db", answers(0))
    with pytest.raises(CheckpointError, match="0 are gone and 32 hold other scores") as error:
        other.learnt()["cache"].restore(state)
    assert str(tmp_path / "b.db") in str(error.value)
    other.close()
    fewer = filled(student, tmp_path / "c.db", answers(0, 10))
    with pytest.raises(CheckpointError, match=r"2\d are gone and 0 hold"):
        fewer.learnt()["cache"].restore(state)
    fewer.close()
    (database,) = (sqlite3.connect(tmp_path / "a.db"),)
    with database:
        database.execute("UPDATE scores SET logp = zeroblob(length(logp))")
    database.close()
    edited = filled(student, tmp_path / "a.db", [])
    with pytest.raises(CheckpointError, match="0 are gone and 32 hold"):
        edited.learnt()["cache"].restore(state)
    edited.close()


@pytest.mark.parametrize("number", [0, 1, 2, 31, 33])
def test_a_small_cache_is_looked_at_whole(number, student, tmp_path):
    made = filled(student, tmp_path / "a.db", answers(0, number))
    state = made.learnt()["cache"].state()
    assert len(state["entries"]) == min(number, 32)
    made.learnt()["cache"].restore(state)
    made.close()

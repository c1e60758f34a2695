"""What a checkpoint holds of a teacher that does not change, and what it makes of another one."""

import contextlib
import sqlite3

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd import Trainer
from rlkd.checkpoints.frozen_weights import FrozenWeights
from rlkd.checkpoints.manifest import CheckpointError
from rlkd.teacher.base import Student
from rlkd.teacher.cached import Cached
from rlkd.teacher.inner import InnerTeacher, SelfTeacher
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.other_tokenizer import OtherTokenizer
from rlkd.teacher.privileged import Privileged
from rlkd.teacher.quantized import METHODS
from rlkd.teacher.several import Mixed, Routed
from tests.parity.test_trl import arguments, reward

KINDS = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "offloaded": {"offload": True},
    "without padding": {"padding_free": True, "shared_prompts": True},
    "torchao_int8": {"dtype": "float32", "quantization": "torchao_int8"},
    "bitsandbytes_8bit": {"dtype": "float32", "quantization": "bitsandbytes_8bit"},
}


def local(folder, **settings):
    made = LocalTeacher.from_pretrained(folder, **settings)
    made.prepare(torch.device("cpu"))
    return made


def carried(one, other):
    """What `other` says of the weights in a checkpoint of `one`."""
    return other.learnt()["weights"].restore(one.learnt()["weights"].state())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_weights_are_the_same_and_others_are_not(kind, student, tmp_path):
    settings = KINDS[kind]
    if kind in METHODS:
        pytest.importorskip(METHODS[kind], reason="pip install 'rlkd[quantized]'")
    one = local(student, **settings)
    assert "frozen weights that it held" in carried(one, local(student, **settings))
    moved = AutoModelForCausalLM.from_pretrained(student)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.mul_(1 + 0.01 * torch.randn_like(weight))
    moved.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(student).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"folder .* no longer holds the model") as error:
        carried(one, local(str(tmp_path), **settings))
    assert str(tmp_path) in str(error.value)


def test_one_number_in_each_of_many_is_enough(student):
    one, other = local(student), local(student)
    with torch.no_grad():
        other.model.model.norm.weight[0] += 1e-6
    with pytest.raises(CheckpointError, match=r"1 of its \d+ weights are others, like model"):
        carried(one, other)


@pytest.mark.parametrize("kind", ["float32", "offloaded", "without padding"])
def test_it_costs_nothing(kind, student):
    teacher = local(student, **KINDS[kind])
    calls = []
    teacher._backbone.register_forward_pre_hook(lambda *_: calls.append(1))
    carried(teacher, teacher)
    assert calls == []
    assert teacher.usage.rows == 0


def test_weights_without_a_number_are_the_same_later_on(student):
    broken = [local(student) for _ in range(2)]
    for teacher in broken:
        with torch.no_grad():
            teacher.model.model.norm.weight.fill_(torch.nan)
    carried(*broken)
    with pytest.raises(CheckpointError):
        carried(broken[0], local(student))


def test_what_is_trained_quantised_or_elsewhere_is_left_out():
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(4))).requires_grad_(False)
    model[0].weight.requires_grad_(True)
    model[1].to("meta")
    model[2].weight = torch.nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)
    model[3].bias = torch.nn.Parameter(torch.ones(0), requires_grad=False)
    found = FrozenWeights("here", lambda: model).state()["weights"]
    assert set(found) == {"0.bias", "2.bias", "3.weight"}


def test_another_shape_or_number_format_is_another_weight():
    def said(weight):
        model = torch.nn.ParameterList([torch.nn.Parameter(weight, requires_grad=False)])
        return FrozenWeights("here", lambda: model).state()["weights"]["0"]

    ones = torch.zeros(4, 6)
    assert said(ones) == said(ones.clone())
    assert len({said(x) for x in (ones, ones.T, ones.reshape(-1), ones.bfloat16(), ones[:2])}) == 5


# -- whose it is ----------------------------------------------------------------------------------


def test_what_moves_by_design_has_none_and_what_is_around_a_frozen_one_has_its(student, tmp_path):
    frozen = local(student)
    assert set(Privileged(frozen, "{prompt}{answer}").learnt()) == {"weights"}
    assert set(OtherTokenizer(frozen).learnt()) == {"weights"}
    both = {"a": frozen, "b": SelfTeacher()}
    assert set(Mixed(both).learnt()) == set(Routed(both, "k").learnt()) == {"0_weights", "1_self"}
    cached = Cached(frozen, str(tmp_path / "c.db"), of="s")
    assert set(cached.learnt()) == {"cache", "cached_weights"}
    cached.close()
    assert set(SelfTeacher(decay=0.5).learnt()) == {"self"}
    assert set(Privileged(SelfTeacher(), "{prompt}{answer}").learnt()) == {"self"}


def test_a_teacher_inside_the_student_has_none(student):
    class Own(InnerTeacher):
        def _weights(self):
            return contextlib.nullcontext()

    made = Own()
    made.meet(Student(AutoModelForCausalLM.from_pretrained(student), None))
    assert made.learnt() == {}


@pytest.mark.parametrize(("kind", "more"), [("base", {"beta": 0.0}), ("reference", {"beta": 0.1})])
def test_the_students_own_frozen_weights_are_a_trainers_piece(
    kind, more, student, teacher, prompts, tmp_path
):
    def made(folder):
        lora = LoraConfig(r=2, target_modules="all-linear") if kind == "base" else None
        return Trainer(folder, reward, arguments(tmp_path, **more), prompts, peft_config=lora)

    def piece(trainer):
        return trainer.pieces._pieces[kind][0]

    one, same = made(student), made(student)
    assert {"base", "reference"} & one.pieces.writers.keys() == {kind}
    for name, weight in same.model.named_parameters():
        if weight.requires_grad:
            with torch.no_grad():
                weight.normal_()
            assert name not in piece(one).state()["weights"] or kind == "reference"
    state = piece(one).state()
    assert f"the student's folder {student} holds" in piece(same).restore(state)
    moved = made(student)
    frozen = moved.model if kind == "base" else moved.ref_model
    with torch.no_grad():
        next(iter(frozen.parameters())).mul_(1.01)
    with pytest.raises(CheckpointError, match="no longer holds the model that the run began with"):
        piece(moved).restore(state)


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

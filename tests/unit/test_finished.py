"""Answers that a teacher elsewhere begins with while others of their batch are still written."""

import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig

from rlkd import RLAD, LocalTeacher, Trainer
from rlkd.algorithms.gkd import GKD
from rlkd.teacher.base import TeacherError
from rlkd.teacher.server import ServerTeacher
from rlkd.teacher.several import Mixed
from rlkd.teacher.wrapping import Wrapping
from rlkd.tracking import glossary
from rlkd.training import finished
from tests.parity.test_trl import arguments, reward
from tests.vllm_double import VLLMDouble

BATCHING = {
    "use_transformers_continuous_batching": True,
    "transformers_continuous_batching_config": {"max_memory_percent": 0.02},
}
LORA = {"peft_config": LoraConfig(r=2, target_modules="all-linear")}


@pytest.fixture(autouse=True)
def at_every_token(monkeypatch):
    monkeypatch.setattr(finished, "EVERY", 1)


class Elsewhere(Wrapping):
    """Notes when it was told of an answer, and what it was asked in the end."""

    begins = True

    def __init__(self, inner):
        super().__init__(inner)
        self.computes_here = False
        self.told, self.asked = [], []

    def begin(self, prompt_ids, completion_ids, temperature):
        self.told.append((time.perf_counter(), (*prompt_ids, -1, *completion_ids), temperature))
        return True

    def score_rows(self, rows, prompt_ids, completion_ids, temperature):
        pairs = zip(prompt_ids, completion_ids, strict=True)
        self.asked += [(*prompt, -1, *answer) for prompt, answer in pairs]
        return super().score_rows(rows, prompt_ids, completion_ids, temperature)


def make(student, prompts, tmp_path, teacher, more=None, **given):
    given = {"algorithm": RLAD(), "teacher_check": "off", "teacher_overlap": "auto"} | given
    more = {"max_completion_length": 24, "learning_rate": 1e-3} | (more or {})
    args = arguments(tmp_path, **more)
    return Trainer(student, reward, args, prompts, teacher=teacher, **given)


@pytest.mark.parametrize(
    ("how", "given"),
    [({}, {}), (BATCHING, {}), ({}, LORA), (BATCHING, LORA)],
    ids=["generate", "continuous batching", "LoRA", "LoRA, continuous batching"],
)
def test_it_is_told_of_answers_that_are_asked_for_later_and_before_all_are_written(
    how, given, student, teacher, prompts, tmp_path, monkeypatch
):
    elsewhere, ends = Elsewhere(LocalTeacher.from_pretrained(teacher)), []
    trainer = make(student, prompts, tmp_path, elsewhere, {"temperature": 0.7} | how, **given)
    sample = trainer._generate_single_turn

    def timed(*words, **named):
        found = sample(*words, **named)
        ends.append(time.perf_counter())
        return found

    monkeypatch.setattr(trainer, "_generate_single_turn", timed)
    trainer.train()
    told, asked = Counter(text for _, text, _ in elsewhere.told), Counter(elsewhere.asked)
    assert told <= asked
    # All that came to their end token, each once; what the limit cut is not told of.
    assert told == Counter(text for text in elsewhere.asked if text[-1] == 1)
    assert 4 < told.total() < asked.total()  # 32 answers in two batches
    assert {temperature for *_, temperature in elsewhere.told} == {0.7}
    first = [when for when, *_ in elsewhere.told if when < ends[0]]
    line = next(line for line in trainer.state.log_history if "loss" in line)
    assert line["overlap/begun_early"] == pytest.approx(len(first) / 16)
    assert glossary.explain("train/overlap/begun_early")
    for model in (trainer.model, trainer._student(trainer.model)):
        assert "generate" not in vars(model)
        assert "continuous_batching_context_manager" not in vars(model)


def test_looks_every_few_tokens_tell_of_the_same_answers(
    student, teacher, prompts, tmp_path, monkeypatch
):
    def told(every):
        monkeypatch.setattr(finished, "EVERY", every)
        elsewhere = Elsewhere(LocalTeacher.from_pretrained(teacher))
        make(student, prompts, tmp_path / str(every), elsewhere).train()
        return [text for _, text, _ in elsewhere.told]

    often, seldom = told(1), told(5)
    assert 0 < len(seldom) <= len(often)
    assert Counter(seldom) <= Counter(often)  # an answer that ends with the batch may be missed


@pytest.mark.parametrize("how", [{}, BATCHING], ids=["generate", "continuous batching"])
def test_a_server_is_asked_once_for_each_answer_and_the_numbers_stay(
    how, student, teacher, prompts, tmp_path, monkeypatch
):
    def run(name, begins):
        monkeypatch.setattr(ServerTeacher, "begins", begins)
        with VLLMDouble(LocalTeacher.from_pretrained(teacher).model) as double:
            server = ServerTeacher(double.url, canary_every=0)
            trainer = make(student, prompts, tmp_path / name, server, {"max_steps": 3} | how)
            trainer.train()
            server.close()
        asked = Counter(tuple(body["prompt"]) for _, body in double.requests)
        return trainer, asked, server.usage

    early, after = run("early", True), run("after", False)
    assert early[1] == after[1]
    assert early[2] == after[2]
    weights = after[0].model.state_dict()
    assert all(torch.equal(w, weights[n]) for n, w in early[0].model.state_dict().items())
    shares = [[line.get("overlap/begun_early") for line in t.state.log_history if "loss" in line]
              for t in (early[0], after[0])]  # fmt: skip
    assert all(0.2 < share < 1.0 for share in shares[0])
    assert shares[1] == [0.0, 0.0, 0.0]


@pytest.fixture
def server(teacher):
    """That has scored once."""
    with VLLMDouble(LocalTeacher.from_pretrained(teacher).model) as double:
        made = ServerTeacher(double.url, concurrency=1, patience=0.5, canary_every=0)
        made.model, made._canary_ids = "the-teacher", [3, 4, 5]
        assert not made.begin([3, 4], [5], 1.0)  # the canary comes first
        made.score([[3, 4]], [[5, 1]], 1.0)
        made.double = double
        yield made
        made.close()


def test_what_was_begun_and_not_asked_for_is_dropped(server):
    asked = len(server.double.requests)
    for answer in ([6, 1], [7, 1], [8, 1]):
        assert server.begin([3, 4], answer, 1.0)
    scores = server.score([[3, 4], [3, 4]], [[6, 1], [9, 1]], 1.0)
    assert [s.token_ids.tolist() for s in scores] == [[6, 1], [9, 1]]
    assert server._begun == {}
    time.sleep(0.3)
    sent = [body["prompt"][2:] for _, body in server.double.requests[asked:]]
    assert sent.count([6, 1]) == sent.count([9, 1]) == 1
    assert server.usage.rows == 3  # what was dropped is not counted


def test_equal_answers_are_begun_and_asked_for_one_by_one(server):
    asked = len(server.double.requests)
    for _ in range(2):
        server.begin([3, 4], [6, 1], 1.0)
    first, second, third = server.score([[3, 4]] * 3, [[6, 1]] * 3, 1.0)
    assert torch.equal(first.logp, second.logp)
    assert torch.equal(first.logp, third.logp)
    assert len(server.double.requests) == asked + 3


def test_what_fails_early_is_told_when_it_is_asked_for(server):
    server.double.misbehave = lambda reply: 503
    server.begin([3, 4], [6, 1], 1.0)
    with pytest.raises(TeacherError, match="503"):
        server.score([[3, 4]], [[6, 1]], 1.0)
    server.double.misbehave = None
    assert server.score([[3, 4]], [[6, 1]], 1.0)[0].logp.max() <= 0


def test_what_failed_early_is_asked_for_anew_when_the_server_is_back(server):
    server.double.misbehave = lambda reply: 503
    server.begin([3, 4], [6, 1], 1.0)
    ((future,),) = server._begun.values()
    assert "503" in str(future.exception(timeout=10))
    server.double.misbehave = None
    assert server.score([[3, 4]], [[6, 1]], 1.0)[0].logp.max() <= 0


def test_a_mixture_tells_all_of_them(student, teacher, prompts, tmp_path):
    one, other = (Elsewhere(LocalTeacher.from_pretrained(teacher)) for _ in range(2))
    make(student, prompts, tmp_path, Mixed({"one": one, "other": other})).train()
    assert [text for _, text, _ in one.told] == [text for _, text, _ in other.told] != []


def test_where_nothing_may_begin_nothing_is_told(student, teacher, prompts, tmp_path):
    def told(**given):
        elsewhere = Elsewhere(LocalTeacher.from_pretrained(teacher))
        trainer = make(student, prompts, tmp_path, elsewhere, {"max_steps": 1}, **given)
        trainer.train()
        return elsewhere.told

    assert told() != []
    assert told(teacher_overlap="off") == []
    assert told(teacher_check="warn") == []  # of the first batch: the check comes first
    hidden = make(student, prompts, tmp_path, LocalTeacher.from_pretrained(teacher),
                  algorithm=GKD(), teacher_overlap="on")  # fmt: skip
    hidden.teacher.begins = True
    assert not hidden._may_begin_early()


def test_an_engine_of_vllm_tells_of_finished_requests():
    def request(number, finished, *answers):
        outputs = [SimpleNamespace(token_ids=list(ids)) for ids in answers]
        return SimpleNamespace(finished=finished, prompt_token_ids=[number], outputs=outputs)

    class Engine:
        def step(self):
            return [request(7, True, [3, 1], [4, 4]), request(8, False, [3])]

    engine, told = Engine(), []
    with finished.engine_tells(engine, {1}, lambda *pair: told.append(pair)):
        assert len(engine.step()) == 2
    assert told == [([7], [3, 1])]
    engine.step()
    assert len(told) == 1

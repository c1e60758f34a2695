"""What a server says of one answer is that answer's; what it says of whoever asks ends the run. How
long one that is not there is waited for."""

import re
import threading
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd import RLAD, Trainer
from rlkd.teacher.base import TeacherError
from rlkd.teacher.reply import SHOWN, read_reply
from rlkd.teacher.scores import faults_of
from rlkd.teacher.server import ServerTeacher
from tests.parity.test_trl import arguments, reward
from tests.vllm_double import VLLMDouble

PROMPTS = [[4, 12, 5, 14], [3, 14], [2, 3, 4, 5, 12, 6, 14]]
ANSWERS = [[7, 8, 1], [9, 9, 10, 11, 2, 3, 15, 1, 4, 5, 6], [5]]
LONGEST = 13
TOO_LONG = "This model's maximum context length is 12 tokens. " * 20


@pytest.fixture
def double(student):
    with VLLMDouble(AutoModelForCausalLM.from_pretrained(student).eval()) as served:
        yield served


@pytest.fixture
def connect(double, student):
    """Makes a teacher that has been in touch with the server, and its canary heard."""
    made = []

    def connected(**more):
        teacher = ServerTeacher(double.url, timeout=5.0, patience=1.0, **more)
        teacher.check_tokenizer(AutoTokenizer.from_pretrained(student), 22)
        teacher.prepare(torch.device("cpu"))
        teacher.score(PROMPTS, ANSWERS, 1.0)
        made.append(teacher)
        return teacher

    yield connected
    for teacher in made:
        teacher.close()


def length(reply):
    return len(reply["choices"][0]["prompt_logprobs"])


def of_the_longest(change):
    return lambda reply: change(reply) if length(reply) == LONGEST else reply


def put(entry):
    """In the place of the last token's entry."""

    def change(reply):
        reply["choices"][0]["prompt_logprobs"][-1] = entry
        return reply

    return change


def said(value):
    return put({"6": {"logprob": value, "rank": 1}})


# -- one answer ------------------------------------------------------------------------------------

OF_ONE = {
    "too long": (
        lambda reply: (400, {"message": TOO_LONG}),
        r"refuses /v1/completions with HTTP 400: \{.message.: .This model's maximum context",
    ),
    "too large": (lambda reply: 413, "refuses /v1/completions with HTTP 413"),
    "no schema": (lambda reply: 422, "refuses /v1/completions with HTTP 422"),
    "no choice": (lambda reply: {"choices": []}, r"sent no prompt_logprobs: \{'choices': \[\]\}"),
    "no reply": (lambda reply: {"object": "?"}, r"sent no prompt_logprobs: \{'object': '\?'\}"),
    "a list": (lambda reply: b"[1]", r"sent no prompt_logprobs: \[1\]"),
    "no list": (lambda reply: {"choices": [{"prompt_logprobs": 3}]}, "prompt_logprobs 3: no list"),
    "a word": (said("-0.5"), "sent '-0.5' as the log-probability of token 10 .* is no number"),
    "null": (said(None), "sent None as the log-probability of token 10 .* is no number"),
    "true": (said(True), "sent True as the log-probability of token 10 .* is no number"),
    "no entry": (put(None), "sent None for token 10 of an answer, where the token's number"),
    "an empty one": (put({}), r"sent \{\} for token 10 of an answer"),
    "a bare number": (put({"6": -0.5}), r"sent \{'6': -0.5\} for token 10 of an answer"),
    "no score": (put({"6": {}}), r"sent \{'6': \{\}\} for token 10 of an answer"),
    "no token": (put({"six": {"logprob": -1.0}}), r"sent \{'six': .* for token 10 of an answer"),
    "no such token": (put({"9" * 30: {"logprob": -1.0}}), "for token 10 of an answer"),
    "a row of rows": (put([-0.5]), r"sent \[-0.5\] for token 10 of an answer"),
}


@pytest.mark.parametrize(("change", "fault"), OF_ONE.values(), ids=OF_ONE)
def test_what_is_wrong_with_one_answer_is_its_fault_and_the_others_have_their_scores(
    change, fault, double, connect
):
    teacher = connect()
    sound = teacher.score(PROMPTS, ANSWERS, 1.0)
    double.misbehave = of_the_longest(change)
    scores = teacher.score(PROMPTS, ANSWERS, 1.0)
    (row,) = faults = faults_of(teacher.name, scores, ANSWERS)
    assert row == 1
    assert re.search(fault, faults[1]), faults[1]
    assert faults[1].startswith(teacher.name)
    assert len(faults[1]) < SHOWN + 250
    for place in (0, 2):
        assert torch.equal(scores[place].logp, sound[place].logp)


def test_a_whole_number_is_a_number(double, connect):
    double.misbehave = None
    teacher = connect()
    double.misbehave = of_the_longest(said(-3))
    assert teacher.score(PROMPTS, ANSWERS, 1.0)[1].logp[-1] == -3.0


def test_an_integer_that_no_float_holds_is_a_fault():
    entry = {"5": {"logprob": -(10**400)}}
    reply = {"choices": [{"prompt_logprobs": [None, entry]}]}
    assert "for token 0 of an answer" in str(read_reply(reply, 1, [5], "t").fault)


# -- the whole server ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404])
def test_who_may_not_ask_is_told_at_once(status, double, connect):
    teacher = connect()
    double.misbehave = of_the_longest(lambda reply: status)
    with pytest.raises(TeacherError, match=f"refuses /v1/completions with HTTP {status}"):
        teacher.score(PROMPTS, ANSWERS, 1.0)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"detail": "hello"}, r"names no models at /v1/models: \{'detail': 'hello'\}.*check url"),
        (b"[]", r"names no models at /v1/models: \[\]"),
        ({"data": [{"name": "x"}]}, "names no models at /v1/models"),
        ({"data": None}, "names no models at /v1/models"),
        (404, "refuses /v1/models with HTTP 404"),
        ((400, {"detail": "no"}), "refuses /v1/models with HTTP 400"),
        ({"data": []}, "no model is named; it serves nothing"),
    ],
    ids=["other", "a list", "nameless", "null", "404", "400", "none"],
)
def test_what_is_no_such_server_is_refused_at_the_start(models, message, double):
    double.models = models
    teacher = ServerTeacher(double.url, patience=0.5)
    with pytest.raises(TeacherError, match=message):
        teacher.prepare(torch.device("cpu"))
    teacher.close()


def test_a_canary_that_is_refused_is_the_servers_fault(double, connect):
    teacher = connect()
    teacher._canary_ids.append(5)  # nine tokens, and no answer has so many with its prompt
    double.misbehave = lambda reply: 400 if length(reply) == 9 else reply
    with pytest.raises(TeacherError, match="refuses /v1/completions with HTTP 400"):
        teacher.score(PROMPTS, ANSWERS, 1.0)
    double.misbehave = lambda reply: 400  # the answers' own faults come first: they are kept
    assert all("HTTP 400" in scored.fault for scored in teacher.score(PROMPTS, ANSWERS, 1.0))


# -- in a run --------------------------------------------------------------------------------------


def train(student, double, prompts, folder, refused, way):
    """A run whose server refuses some requests from the first batch on, by their number."""
    teacher = ServerTeacher(double.url, patience=1.0, canary_every=0)
    made = Trainer(
        student, reward, arguments(folder), prompts, algorithm=RLAD(), teacher=teacher,
        teacher_check="off", on_bad_scores=way,
    )  # fmt: skip
    teacher._canary.hear()
    count, lock = [0], threading.Lock()

    def refuse(reply):
        with lock:
            count[0] += 1
            turn = count[0]
        return (400, {"message": TOO_LONG}) if turn in refused else reply

    double.misbehave = refuse
    try:
        made.train()
    finally:
        teacher.close()
    return made


def test_mask_leaves_out_what_a_server_refuses(student, double, prompts, tmp_path):
    made = train(student, double, prompts, tmp_path, {5, 6}, "mask")
    steps = [line for line in made.state.log_history if "loss" in line]
    assert [line["teacher/masked_rows"] for line in steps] == [2.0, 0.0]
    assert len(made.bad_scores.path.read_text().splitlines()) == 2


def test_stop_ends_with_the_servers_words_and_the_file(student, double, prompts, tmp_path):
    with pytest.raises(
        TeacherError, match=r"(?s)HTTP 400: .*maximum context.* scores: .*bad_scores-rank0\.jsonl\)"
    ):
        train(student, double, prompts, tmp_path, {5}, "stop")
    assert len((tmp_path / "bad_scores-rank0.jsonl").read_text().splitlines()) == 1


def test_a_server_that_refuses_them_all_ends_the_run_in_its_own_words(
    student, double, prompts, tmp_path
):
    with pytest.raises(
        TeacherError,
        match=r"(?s)not one of the 16 answers of a batch has sound scores; one of them: .*HTTP 400"
        r".*maximum context.*mend the teacher .*resume the run",
    ):
        train(student, double, prompts, tmp_path, range(99), "mask")


# -- how long one waits ----------------------------------------------------------------------------


def test_patience_is_not_outlived_by_a_pause(double, connect, monkeypatch):
    """Left alone, the next pause would be 5 seconds."""
    monkeypatch.setattr("rlkd.teacher.patient._BACK_OFF", lambda state: 5.0)
    teacher = connect()
    double.misbehave = lambda reply: 503
    asked, started = len(double.requests), time.perf_counter()
    with pytest.raises(TeacherError, match="did not answer for 1 seconds: HTTP 503"):
        teacher.score([[4]], [[5, 6]], 1.0)
    assert 0.9 < time.perf_counter() - started < 2.0
    assert len(double.requests) - asked == 2  # once more at the end


def test_a_server_that_was_never_there_is_to_be_started_and_one_that_went_to_be_started_again(
    double, connect
):
    teacher = connect()
    double.misbehave = lambda reply: 503
    with pytest.raises(TeacherError, match=r"Start it again and resume the run; `patience`"):
        teacher.score(PROMPTS, ANSWERS, 1.0)
    nobody = ServerTeacher("http://127.0.0.1:9", patience=0.1)
    with pytest.raises(TeacherError, match=r"Start it, then start the run; `patience`"):
        nobody.prepare(torch.device("cpu"))
    nobody.close()

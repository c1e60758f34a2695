"""What holds wherever a teacher lives: it scores the tokens it was sent as the model itself does,
and what goes wrong on the way is told and never learnt from."""

import copy
import math
import threading
import time

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd.teacher.base import Student, Teacher, TeacherError
from rlkd.teacher.cached import Cached
from rlkd.teacher.inner import AdapterOff, SelfTeacher
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.privileged import Privileged
from rlkd.teacher.quantized import METHODS
from rlkd.teacher.scores import score_padded
from rlkd.teacher.server import ServerTeacher
from rlkd.teacher.several import Mixed, Routed
from tests.conftest import make_model
from tests.vllm_double import VLLMDouble

PROMPTS = [[4, 12, 5, 14], [3, 14], [2, 3, 4, 5, 12, 6, 14]]
ANSWERS = [[7, 8, 1], [9, 9, 10, 11, 2, 3, 15, 1], [5]]
ROWS = [{"prompt": "2+3=", "kind": "sum"}, {"prompt": "1=", "kind": "other"}, {"kind": "sum"}]
LIKE = torch.zeros(3, 8)


def direct(model, prompt, answer, temperature=1.0):
    """The model's own logits, one row at a time, no padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].float() / temperature
    chosen = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return chosen.gather(-1, torch.tensor(answer).unsqueeze(-1)).squeeze(-1)


@pytest.fixture
def model(student):
    return AutoModelForCausalLM.from_pretrained(student).eval()


@pytest.fixture
def tokenizer(student):
    return AutoTokenizer.from_pretrained(student)


@pytest.fixture
def server(model):
    with VLLMDouble(model) as double:
        yield double


def adapted(model):
    """The model with adapters that change what it says."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    made = get_peft_model(copy.deepcopy(model), lora)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return made


IN_FEWER_BITS = {"bfloat16": 0.1, "torchao_int8": 0.1, "bitsandbytes_8bit": 0.1}
"""Nats by which a teacher that rounds its weights may differ at temperature 1, on a model whose
scores spread over 20 nats; at another one by that over the temperature."""


@pytest.fixture(
    params=["local", "offloaded", "adapter-off", "self", "self-copy", "cached", "routed", "mixed",
            "server", *IN_FEWER_BITS]
)  # fmt: skip
def made(request, student, model, tokenizer, server, tmp_path):
    """A teacher with the student's weights, and the student that it teaches."""
    learner = model
    kind = request.param
    if kind == "local":
        teacher: Teacher = LocalTeacher.from_pretrained(student)
    elif kind == "offloaded":
        teacher = LocalTeacher.from_pretrained(student, offload=True)
    elif kind == "bfloat16":
        teacher = LocalTeacher.from_pretrained(student, dtype="bfloat16")
    elif kind in METHODS:
        pytest.importorskip(METHODS[kind], reason="pip install 'rlkd[quantized]'")
        teacher = LocalTeacher.from_pretrained(student, dtype="float32", quantization=kind)
    elif kind == "adapter-off":
        teacher, learner = AdapterOff(), adapted(model)
    elif kind == "self":
        teacher = SelfTeacher()
    elif kind == "self-copy":
        teacher, learner = SelfTeacher(decay=0.9), copy.deepcopy(model)
    elif kind == "cached":
        teacher = Cached(LocalTeacher.from_pretrained(student), str(tmp_path / "c.db"), of="s")
    elif kind == "server":
        teacher = ServerTeacher(server.url, tokenizer=student)
    else:
        several = {"sum": LocalTeacher.from_pretrained(student), "other": SelfTeacher()}
        teacher = Routed(several, "kind") if kind == "routed" else Mixed(several)
    teacher.meet(Student(learner, tokenizer))
    teacher.check_tokenizer(tokenizer, 22)
    teacher.prepare(torch.device("cpu"))
    if kind == "self-copy":  # the student moves on, and what is kept of it does not
        with torch.no_grad():
            for weight in learner.parameters():
                weight.add_(0.1)
    teacher.tolerance = IN_FEWER_BITS.get(kind, 1e-4)  # pyright: ignore[reportAttributeAccessIssue]
    yield teacher
    teacher.close()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_scores_are_the_models_own(made, model, temperature):
    if made.scores_at is not None and temperature not in made.scores_at:
        with pytest.raises(TeacherError, match="temperature 1"):
            made.score_rows(ROWS, PROMPTS, ANSWERS, temperature)
        return
    for _ in range(2):  # the second time may come from a cache, or find something left behind
        scores = made.score_rows(ROWS, PROMPTS, ANSWERS, temperature)
        for prompt, answer, scored in zip(PROMPTS, ANSWERS, scores, strict=True):
            assert scored.token_ids.tolist() == answer
            want = direct(model, prompt, answer, temperature)
            allowed = made.tolerance if made.tolerance == 1e-4 else made.tolerance / temperature
            torch.testing.assert_close(scored.logp, want, rtol=0, atol=allowed)


def test_an_empty_answer_and_no_rows_at_all(made):
    scores = made.score_rows(ROWS[:2], [[4], [5]], [[], [6, 1]], 1.0)
    assert [scored.logp.numel() for scored in scores] == [0, 2]
    assert made.score_rows([], [], [], 1.0) == []


def test_an_empty_prompt_is_refused(made):
    with pytest.raises(TeacherError, match="empty prompt"):
        made.score_rows(ROWS[:2], [[4], []], [[5], [6]], 1.0)


def test_scoring_leaves_the_student_as_it_was(made, model, tokenizer):
    met = adapted(model) if isinstance(made, AdapterOff) else copy.deepcopy(model)
    met.train()
    made.meet(Student(met, tokenizer))
    before = {name: weight.clone() for name, weight in met.state_dict().items()}
    made.score_rows(ROWS, PROMPTS, ANSWERS, 1.0)
    assert met.training
    assert any(weight.requires_grad for weight in met.parameters())
    for name, weight in met.state_dict().items():
        assert torch.equal(weight, before[name])


def test_temperatures_that_a_teacher_cannot_score_at_stop_the_run(made):
    if made.scores_at is None:
        assert made.temperature_at(0.6) == 0.6
        return
    with pytest.raises(TeacherError, match=r"scores at temperature 1 only.*samples at 0\.6"):
        made.temperature_at(0.6)
    made.temperature = 1.0  # the mismatch on purpose
    assert made.temperature_at(0.6) == 1.0


def test_quantised_weights_are_quantised_and_the_head_is_not(student, model):
    torchao = pytest.importorskip("torchao", reason="pip install 'rlkd[quantized]'")
    teacher = LocalTeacher.from_pretrained(student, dtype="float32", quantization="torchao_int8")
    teacher.prepare(torch.device("cpu"))
    inner = teacher.model.model.layers[0].mlp.up_proj.weight
    assert isinstance(inner, torchao.quantization.Int8Tensor)
    assert teacher.model.lm_head.weight.dtype == torch.float32
    (scored,) = teacher.score(PROMPTS[1:2], ANSWERS[1:2], 1.0)
    assert not torch.allclose(scored.logp, direct(model, PROMPTS[1], ANSWERS[1]), atol=1e-4)


# -- each teacher's own ----------------------------------------------------------------------------


def test_a_moving_average_is_the_formula_and_survives_a_checkpoint(model, tokenizer):
    learner = copy.deepcopy(model)
    teacher = SelfTeacher(decay=0.75, every=2)
    teacher.meet(Student(learner, tokenizer))
    name, weight = next(iter(learner.named_parameters()))
    average = weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            weight.add_(float(step))
        teacher.after_update(step)
        if step % 2 == 0:
            average = 0.75 * average + 0.25 * weight.detach()
        torch.testing.assert_close(teacher.state()["averages"][name], average)
    again = SelfTeacher(decay=0.75, every=2)
    again.meet(Student(learner, tokenizer))
    assert "average of" in again.restore(teacher.state())
    for one, two in zip(
        again.score(PROMPTS, ANSWERS, 1.0), teacher.score(PROMPTS, ANSWERS, 1.0), strict=True
    ):
        assert torch.equal(one.logp, two.logp)
    with pytest.raises(Exception, match=r"decay 0\.75, every 2"):
        SelfTeacher(decay=0.5).restore(teacher.state())


def test_a_copy_from_some_steps_ago(model, tokenizer):
    learner = copy.deepcopy(model)
    teacher = SelfTeacher(every=3)
    teacher.meet(Student(learner, tokenizer))
    kept = []
    for step in range(1, 7):
        with torch.no_grad():
            learner.model.embed_tokens.weight.mul_(1.1)
        teacher.after_update(step)
        kept.append(teacher.score(PROMPTS, ANSWERS, 1.0)[0].logp)
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])
    assert torch.equal(kept[2], kept[4])
    now = direct(learner.eval(), PROMPTS[0], ANSWERS[0])
    torch.testing.assert_close(kept[5], now, rtol=0, atol=1e-5)


def test_adapter_off_needs_adapters(model, tokenizer):
    with pytest.raises(TeacherError, match="this student has none"):
        AdapterOff().meet(Student(model, tokenizer))


def test_privileged_reads_the_prompt_with_the_hint(model, tokenizer, student):
    teacher = Privileged(LocalTeacher.from_pretrained(student), "{prompt}{hint};")
    teacher.meet(Student(model, tokenizer))
    row = {"prompt": "2+3=", "hint": "5"}
    (scored,) = teacher.score_rows([row], [[4, 12, 5, 14]], [[7, 8, 1]], 1.0)
    longer = tokenizer("2+3=5;")["input_ids"]
    torch.testing.assert_close(scored.logp, direct(model, longer, [7, 8, 1]), rtol=0, atol=1e-5)
    with pytest.raises(TeacherError, match="nothing in column 'hint'"):
        teacher.score_rows([{"prompt": "2+3=", "hint": ""}], [[4]], [[7]], 1.0)


IN_PARTS = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text if part.type == 'text' else 'd' }}{% endfor %}"
    "{% endif %};{% endfor %}"
)


def test_privileged_fills_the_last_text_of_a_message_in_parts(model, tokenizer, student):
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = IN_PARTS
    teacher = Privileged(LocalTeacher.from_pretrained(student), "{prompt}{hint}")
    teacher.meet(Student(model, tokenizer))

    def shown(*content):
        chat = [
            {"role": "system", "content": "a"},
            *({"role": "user", "content": c} for c in content),
        ]
        row = {"prompt": chat, "hint": "3"}
        teacher.check_rows([row])
        return tokenizer.decode(teacher.prompt_ids(row))

    def text(words):
        return {"type": "text", "text": words}

    assert shown("1+2=") == shown([text("1+2=")]) == "a;1+2=3;"
    parts = [text("b"), text("1+2="), {"type": "image", "text": None}]
    assert shown(parts) == "a;b1+2=3d;"
    assert parts[1] == text("1+2=")  # the row is the caller's
    assert shown([text("b")], [text("c")]) == "a;b;c3;"
    for nothing in ([{"type": "image"}], [], None):
        with pytest.raises(TeacherError, match=r"row 0 cannot fill: .* last message .* no text"):
            shown(nothing)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("no place {hint}", "must hold {prompt} once"),
        ("{prompt} {prompt} {hint}", "must hold {prompt} once"),
        ("{prompt} alone", "names no column"),
        ("{prompt} {0}", "names {0}"),
        ("{prompt {hint}", "is no template"),
    ],
)
def test_a_template_that_shows_nothing_is_refused(student, template, message):
    with pytest.raises(ValueError, match=message):
        Privileged(LocalTeacher.from_pretrained(student), template)


def test_mixed_is_the_mixture_of_the_distributions(model, student, teacher):
    other = AutoModelForCausalLM.from_pretrained(teacher).eval()
    one, two = LocalTeacher.from_pretrained(student), LocalTeacher.from_pretrained(teacher)
    mixed = Mixed({"one": one, "two": two}, {"one": 3.0, "two": 1.0})
    for prompt, answer, scored in zip(
        PROMPTS, ANSWERS, mixed.score(PROMPTS, ANSWERS, 1.0), strict=True
    ):
        p, q = direct(model, prompt, answer).exp(), direct(other, prompt, answer).exp()
        torch.testing.assert_close(scored.logp.exp(), 0.75 * p + 0.25 * q, rtol=1e-4, atol=1e-6)


def test_each_row_goes_to_the_teacher_it_names(model, student, teacher):
    other = AutoModelForCausalLM.from_pretrained(teacher).eval()
    one, two = LocalTeacher.from_pretrained(student), LocalTeacher.from_pretrained(teacher)
    routed = Routed({"sum": one, "other": two}, "kind")
    scores = routed.score_rows(ROWS, PROMPTS, ANSWERS, 1.0)
    for which, prompt, answer, scored in zip(
        (model, other, model), PROMPTS, ANSWERS, scores, strict=True
    ):
        torch.testing.assert_close(scored.logp, direct(which, prompt, answer), rtol=0, atol=1e-5)
    with pytest.raises(TeacherError, match="names teacher None in column 'kind'"):
        routed.score(PROMPTS, ANSWERS, 1.0)


def test_the_cache_asks_once_and_never_serves_another_teacher(student, teacher, tmp_path):
    path = str(tmp_path / "cache.db")

    def cached(**more):
        return Cached(LocalTeacher.from_pretrained(student), path, of="student", **more)

    first = cached()
    want = first.score(PROMPTS, ANSWERS, 1.0)
    assert (first.hits, first.misses) == (0, 3)
    again = cached(offline=True)
    got = again.score(PROMPTS, ANSWERS, 1.0)
    assert (again.hits, again.misses) == (3, 0)
    for one, two in zip(want, got, strict=True):
        assert torch.equal(one.logp, two.logp)
    with pytest.raises(TeacherError, match="1 of 3 answers are not in the cache"):
        again.score(PROMPTS, [*ANSWERS[:2], [5, 5]], 1.0)
    with pytest.raises(TeacherError, match="are not in the cache"):
        again.score(PROMPTS, ANSWERS, 0.5)  # another temperature is another score
    with pytest.raises(TeacherError, match="holds scores of 'student', and this teacher is 'big'"):
        Cached(LocalTeacher.from_pretrained(teacher), path, of="big")
    with pytest.raises(ValueError, match="changes with the student"):
        Cached(SelfTeacher(), path, of="student")


# -- a server that fails ---------------------------------------------------------------------------


def slow(seconds):
    def wait(reply):
        time.sleep(seconds)
        return reply

    return wait


def edited(change):
    def edit(reply):
        change(reply["choices"][0]["prompt_logprobs"])
        return reply

    return edit


def other_token(entries):
    entries[-1] = {str(int(next(iter(entries[-1]))) + 1): {"logprob": -1.0}}


def without_number(entries):
    next(iter(entries[-1].values()))["logprob"] = None


def above_zero(entries):
    next(iter(entries[-1].values()))["logprob"] = 0.5


@pytest.mark.parametrize(
    ("misbehave", "message"),
    [
        (lambda reply: 503, "did not answer for 1 seconds: HTTP 503"),
        (lambda reply: 400, "refuses /v1/completions with HTTP 400"),
        (lambda reply: b"<html>gateway</html>", "did not answer for 1 seconds: no JSON"),
        (lambda reply: b'{"choices": [', "did not answer for 1 seconds: no JSON"),
        (lambda reply: {"choices": []}, "sent no prompt_logprobs"),
        (lambda reply: {"choices": [{"prompt_logprobs": None}]}, "scored 0 tokens where"),
        (edited(lambda entries: entries.pop()), "scored .* tokens where"),
        (edited(lambda entries: entries.insert(0, None)), "added or dropped some"),
        (edited(other_token), "scored other tokens than were sent"),
        (edited(without_number), "sent None as the log-probability of token 2 .* is no number"),
        (edited(above_zero), "log-probability of 0.5"),
        (slow(1.0), "did not answer for 1 seconds: ReadTimeout"),
    ],
    ids=["busy", "refused", "html", "cut", "empty", "no scores", "short", "long", "other token",
         "none", "above zero", "slow"],
)  # fmt: skip
def test_what_a_server_may_do_wrong_never_becomes_a_score(model, tokenizer, misbehave, message):
    with VLLMDouble(model) as double:
        teacher = ServerTeacher(double.url, timeout=0.5, patience=1.0)
        teacher.check_tokenizer(tokenizer, 22)
        teacher.prepare(torch.device("cpu"))
        score_padded(teacher, PROMPTS, ANSWERS, LIKE, 1.0)
        double.misbehave = misbehave
        with pytest.raises(TeacherError, match=message):
            score_padded(teacher, PROMPTS, ANSWERS, LIKE, 1.0)
        teacher.close()


def test_a_server_that_restarts_is_waited_for(model, tokenizer, caplog):
    with VLLMDouble(model) as double:
        teacher = ServerTeacher(double.url, patience=30.0)
        teacher.check_tokenizer(tokenizer, 22)
        teacher.prepare(torch.device("cpu"))
        before = teacher.score(PROMPTS, ANSWERS, 1.0)
    started = []

    def restart():
        time.sleep(1.0)
        started.append(VLLMDouble(model, port=double.port).__enter__())

    threading.Thread(target=restart).start()
    after = teacher.score(PROMPTS, ANSWERS, 1.0)
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one.logp, two.logp)
    assert teacher.retries > 0
    assert sum("does not answer" in record.message for record in caplog.records) == 1
    started[0].__exit__()
    teacher.close()


@pytest.mark.parametrize("column", [["3"], {"a": ["3"]}, [["3", 1]], "3", 3])
def test_a_cache_tells_rows_apart_by_all_that_a_template_can_show(column, student, tmp_path):
    asked = Privileged(LocalTeacher.from_pretrained(student), "{prompt}{hint}")
    cached = Cached(asked, str(tmp_path / "c.db"), of="s")
    cached.meet(Student(asked.inner.model, asked.inner.tokenizer))
    for hint in (column, ["4"], column):
        cached.score_rows([{"prompt": "1+", "hint": hint}], [[3, 14]], [[5, 1]], 1.0)
    assert (cached.hits, cached.misses) == (1, 2)
    cached.close()


def test_a_server_that_got_no_row_yet_is_in_the_checkpoint_too(model, tokenizer, teacher):
    """The main rank's canary is written, and of several teachers it may have asked one only."""
    with VLLMDouble(model) as double:
        kinds = {name: ServerTeacher(double.url) for name in ("a", "b")}
        asked = Routed(kinds, "kind")
        asked.check_tokenizer(tokenizer, 22)
        asked.prepare(torch.device("cpu"))
        asked.score_rows([{"kind": "a"}], PROMPTS[:1], ANSWERS[:1], 1.0)
        state = asked.learnt()["1_canary"].state()
        double.model = AutoModelForCausalLM.from_pretrained(teacher).eval()
        again = ServerTeacher(double.url)
        again.check_tokenizer(tokenizer, 22)
        again.prepare(torch.device("cpu"))
        again.learnt()["canary"].restore(state)
        with pytest.raises(TeacherError, match="another model, or another setting"):
            again.score(PROMPTS, ANSWERS, 1.0)
        for one in (asked, again):
            one.close()


@pytest.mark.parametrize("every", [1, 3])
def test_the_canary_notices_another_model_before_its_scores_are_used(
    every, model, tokenizer, teacher
):
    with VLLMDouble(model) as double:
        asked = ServerTeacher(double.url, canary_every=every)
        asked.check_tokenizer(tokenizer, 22)
        asked.prepare(torch.device("cpu"))
        for _ in range(every):
            asked.score(PROMPTS, ANSWERS, 1.0)
        double.model = AutoModelForCausalLM.from_pretrained(teacher).eval()
        for _ in range(every - 1):  # not its turn
            asked.score(PROMPTS, ANSWERS, 1.0)
        with pytest.raises(TeacherError, match="another model, or another setting"):
            asked.score(PROMPTS, ANSWERS, 1.0)
        asked.close()


def test_a_cache_keeps_nothing_of_a_server_that_took_anothers_place(
    model, tokenizer, teacher, tmp_path
):
    with VLLMDouble(model) as double:
        cached = Cached(ServerTeacher(double.url), str(tmp_path / "c.db"), of="m")
        cached.check_tokenizer(tokenizer, 22)
        cached.prepare(torch.device("cpu"))
        double.model = AutoModelForCausalLM.from_pretrained(teacher).eval()
        with pytest.raises(TeacherError, match="another model, or another setting"):
            cached.score(PROMPTS, ANSWERS, 1.0)
        double.model = model
        found = cached.score(PROMPTS, ANSWERS, 1.0)
        wanted = LocalTeacher(model, tokenizer).score(PROMPTS, ANSWERS, 1.0)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one.logp, other.logp)
        cached.close()


def test_the_key_goes_to_the_server_and_nowhere_else(model, tokenizer, monkeypatch, caplog):
    monkeypatch.setenv("RLKD_TEST_KEY", "geheim-4711")
    caplog.set_level(0)
    with VLLMDouble(model, misbehave=lambda reply: 400) as double:
        teacher = ServerTeacher(double.url, api_key_env="RLKD_TEST_KEY")
        teacher.check_tokenizer(tokenizer, 22)
        with pytest.raises(TeacherError) as error:
            teacher.prepare(torch.device("cpu"))
        assert double.requests[0][0]["Authorization"] == "Bearer geheim-4711"
    assert "geheim" not in f"{error.value} {teacher.name} {caplog.text}"
    with pytest.raises(ValueError, match="password in it") as refused:
        ServerTeacher("http://me:geheim-4711@localhost:8000")
    assert "geheim" not in str(refused.value)
    with pytest.raises(ValueError, match="NO_SUCH_KEY, which is not set"):
        ServerTeacher("http://localhost:8000", api_key_env="NO_SUCH_KEY")


def test_a_server_that_serves_another_model_is_refused(model, tokenizer):
    with VLLMDouble(model) as double:
        teacher = ServerTeacher(double.url, model="mine")
        with pytest.raises(TeacherError, match="no 'mine' is served; it serves the-teacher"):
            teacher.prepare(torch.device("cpu"))
        teacher.close()


def test_a_server_with_another_tokenizer_is_refused(model, tokenizer, tmp_path):
    from tests.conftest import WORDS

    swapped = list(WORDS)
    swapped[5], swapped[12] = swapped[12], swapped[5]
    other = make_model(tmp_path / "other", seed=3, words=swapped)
    with VLLMDouble(model) as double:
        teacher = ServerTeacher(double.url, tokenizer=str(other))
        with pytest.raises(TeacherError, match="numbers its tokens differently"):
            teacher.check_tokenizer(tokenizer, 22)
        teacher.close()


def test_minus_infinity_reaches_the_loss(model, tokenizer):
    def impossible(entries):
        next(iter(entries[-1].values()))["logprob"] = -math.inf

    with VLLMDouble(model, misbehave=edited(impossible)) as double:
        teacher = ServerTeacher(double.url)
        teacher.check_tokenizer(tokenizer, 22)
        teacher.prepare(torch.device("cpu"))
        scored = score_padded(teacher, PROMPTS, ANSWERS, LIKE, 1.0)
        assert scored[2, 0] == -math.inf
        teacher.close()

"""A teacher that writes chats in another format than the student's is told of at the start."""

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from rlkd import RLAD, Trainer
from rlkd.teacher.cached import Cached
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.other_tokenizer import OtherTokenizer
from rlkd.teacher.privileged import Privileged
from rlkd.teacher.server import ServerTeacher
from rlkd.teacher.several import Routed
from rlkd.teacher.template import difference_of_templates
from tests.conftest import make_model
from tests.parity.test_trl import arguments, reward
from tests.vllm_double import VLLMDouble

TURNS = (
    "{%% for message in messages %%}{{ '%s' + message['content'] + ';' }}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '%s' }}{%% endif %%}"
)
A, B = TURNS % ("a", "d"), TURNS % ("b", "d")
OTHER_END = TURNS % ("a", "dd")
BY_ROLE = "{% for m in messages %}{{ m['content'] if m['role'] == 'user' else 1 // 0 }}{% endfor %}"
SWITCHED = A + "{% if thinking is defined and thinking %}{{ '+' }}{% endif %}"
CHATS = [[{"role": "user", "content": "1+2="}], [{"role": "user", "content": "3-"}]]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a model with this chat template."""

    def make(template, seed=2):
        folder = make_model(tmp_path_factory.mktemp("model"), seed=seed)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture(scope="module")
def tokenizer_of(folder_of):
    return lambda template: AutoTokenizer.from_pretrained(folder_of(template))


def difference(tokenizer_of, own, theirs=A, prompts=CHATS, **settings):
    return difference_of_templates(tokenizer_of(theirs), tokenizer_of(own), prompts, settings)


def test_the_first_piece_that_differs_is_shown_from_both_sides(tokenizer_of):
    assert difference(tokenizer_of, B) == (
        "from token 0 on the student's writes 'a1+2=;d' where its own writes 'b1+2=;d'"
    )
    assert difference(tokenizer_of, OTHER_END) == (
        "from token 7 on the student's writes nothing more where its own writes 'd'"
    )
    later = [[{"role": "user", "content": ""}, {"role": "user", "content": "12345"}]]
    assert difference(tokenizer_of, TURNS % ("a", "b"), prompts=later) == (
        "from token 9 on the student's writes 'd' where its own writes 'b'"
    )


def test_a_difference_in_a_later_prompt_counts(tokenizer_of):
    system = [[{"role": "system", "content": "1"}, *CHATS[0]]]
    only_users = "{% for m in messages %}{{ 'a' + m['content'] + ';' if m['role'] == 'user' }}" + (
        "{% endfor %}{{ 'd' }}"
    )
    assert difference(tokenizer_of, only_users) == ""
    assert "from token 2 on" in difference(tokenizer_of, only_users, prompts=CHATS + system)


def test_a_template_that_refuses_is_another_one(tokenizer_of):
    system = [[{"role": "system", "content": "1"}, *CHATS[0]]]
    assert "its own refuses such a chat (ZeroDivisionError" in difference(
        tokenizer_of, BY_ROLE, prompts=system
    )


def test_the_trainers_settings_are_handed_to_both(tokenizer_of):
    assert difference(tokenizer_of, SWITCHED) == ""
    assert "its own writes '+'" in difference(tokenizer_of, SWITCHED, thinking=True)


def test_nothing_is_said_where_nothing_can_be_compared(tokenizer_of):
    assert difference(tokenizer_of, A + "{# the same #}") == ""
    assert difference(tokenizer_of, None) == ""  # a base model
    assert difference(tokenizer_of, B, prompts=["1+2="]) == ""
    assert difference(tokenizer_of, B, prompts=[]) == ""


# -- at the start of a run ------------------------------------------------------------------------


def start(folder_of, tmp_path, teacher, prompts=CHATS):
    rows = Dataset.from_list([{"prompt": prompt, "hint": "1"} for prompt in prompts])
    student = folder_of(A, seed=1)
    return Trainer(student, reward, arguments(tmp_path), rows, algorithm=RLAD(), teacher=teacher)


def told(caplog):
    return [r.getMessage() for r in caplog.records if "chat template" in r.getMessage()]


def test_a_run_says_it_once_for_each_teacher(folder_of, tmp_path, caplog):
    folder = folder_of(B)
    start(folder_of, tmp_path, folder)
    (message,) = told(caplog)
    assert f"teacher {folder} has a chat template other than the student's: from token 0 on" in (
        message
    )
    assert "not trained on" in message
    assert "OtherTokenizer" in message
    caplog.clear()
    start(folder_of, tmp_path, folder, prompts=["1+2=", "3-"])
    start(folder_of, tmp_path, folder_of(A))
    assert told(caplog) == []


def test_whatever_is_around_it(folder_of, tmp_path, caplog):
    def local(template):
        return LocalTeacher.from_pretrained(folder_of(template))

    around = {
        "cached": lambda t: Cached(local(t), str(tmp_path / "c.db"), of=str(len(t))),
        "privileged": lambda t: Privileged(local(t), "{prompt}{hint}"),
        "routed": lambda t: Routed({"1": local(A), "2": local(t)}, "hint"),
    }
    for name, made in around.items():
        caplog.clear()
        start(folder_of, tmp_path, made(B)).teacher.close()
        assert len(told(caplog)) == 1, name
    caplog.clear()
    start(folder_of, tmp_path, around["routed"](A))
    start(folder_of, tmp_path, OtherTokenizer(local(B)))  # it reads its own format
    assert told(caplog) == []


def test_a_server_whose_tokenizer_is_named(folder_of, tmp_path, caplog):
    folder = folder_of(B)
    with VLLMDouble(LocalTeacher.from_pretrained(folder).model) as double:
        start(folder_of, tmp_path, ServerTeacher(double.url, temperature=1.0)).teacher.close()
        assert told(caplog) == []
        named = ServerTeacher(double.url, temperature=1.0, tokenizer=folder)
        start(folder_of, tmp_path, named).teacher.close()
    (message,) = told(caplog)
    assert f"teacher at {double.url} has a chat template" in message

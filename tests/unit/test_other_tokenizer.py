"""A teacher that reads other tokens: exact where they agree, whole spans of text where not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd.teacher.base import Student, TeacherError
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.other_tokenizer import OtherTokenizer, _spans
from tests.conftest import WORDS, make_model


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A model whose tokens are also pairs of digits, in another order of numbers."""
    words = [*reversed(WORDS[2:]), "12", "34", "5=", "<pad>", "<eos>"]
    folder = tmp_path_factory.mktemp("pieces")
    return str(make_model(folder, seed=5, words=words, pieces=("12", "34", "5=")))


def aligned(folder, student):
    teacher = OtherTokenizer(LocalTeacher.from_pretrained(folder))
    model = AutoModelForCausalLM.from_pretrained(student)
    tokenizer = AutoTokenizer.from_pretrained(student)
    teacher.meet(Student(model, tokenizer))
    return teacher, tokenizer


def test_with_equal_tokens_it_is_the_exact_teacher(student):
    teacher, tokenizer = aligned(student, student)
    exact = LocalTeacher.from_pretrained(student)
    prompts = [tokenizer("1+2=")["input_ids"], tokenizer("a")["input_ids"]]
    answers = [[*tokenizer("12;34")["input_ids"], 1], tokenizer("b")["input_ids"]]
    for one, two in zip(
        teacher.score(prompts, answers, 0.7), exact.score(prompts, answers, 0.7), strict=True
    ):
        torch.testing.assert_close(one.logp, two.logp, rtol=0, atol=1e-5)
    assert teacher.single_share == 1.0


def test_a_span_has_the_teachers_log_probability_of_its_text(student, pieces):
    teacher, tokenizer = aligned(pieces, student)
    own, inner = AutoTokenizer.from_pretrained(pieces), LocalTeacher.from_pretrained(pieces)
    answer = [*tokenizer("a12b34")["input_ids"], 1]
    (found,) = teacher.score_rows([{"prompt": "7+5="}], [[4]], [answer], 1.0)
    prompt = own("7+5=")["input_ids"]
    assert len(prompt) == 3  # 7, +, 5=
    theirs = [*own("a12b34")["input_ids"], own.eos_token_id]
    assert len(theirs) == 5  # a, 12, b, 34, end
    (want,) = inner.score([prompt], [theirs], 1.0)
    a, twelve, b, thirtyfour, end = want.logp.tolist()
    wanted = [a, twelve / 2, twelve / 2, b, thirtyfour / 2, thirtyfour / 2, end]
    assert found.logp.tolist() == pytest.approx(wanted, abs=1e-5)
    assert found.token_ids.tolist() == answer
    assert teacher.single_share == pytest.approx(3 / 7)


def test_special_tokens_in_the_middle_are_no_text(student, pieces):
    teacher, _ = aligned(pieces, student)
    with pytest.raises(TeacherError, match="in its middle"):
        teacher.score([[4]], [[5, 1, 6]], 1.0)


def test_a_local_teacher_of_another_family_is_refused_without_this(student, pieces):
    with pytest.raises(TeacherError, match="differently from the student"):
        LocalTeacher.from_pretrained(pieces).check_tokenizer(
            AutoTokenizer.from_pretrained(student), len(WORDS)
        )


cuts = st.lists(st.integers(1, 3), min_size=1, max_size=12)


@given(cuts, cuts)
def test_spans_cover_both_sides_once_and_end_where_both_end(ours, theirs):
    total = min(sum(ours), sum(theirs))

    def bounds(lengths):
        places = [0]
        for length in lengths:
            places.append(places[-1] + length)
        return [place for place in places if place < total] + [total]

    one, two = bounds(ours), bounds(theirs)
    spans = _spans(one, two)
    assert [s[0] for s in spans] == [0, *(s[1] for s in spans[:-1])]
    assert [s[2] for s in spans] == [0, *(s[3] for s in spans[:-1])]
    assert spans[-1][1] == len(one) - 1
    assert spans[-1][3] == len(two) - 1
    common = sorted(set(one) & set(two))
    assert [one[s[1]] for s in spans] == common[1:]
    assert [two[s[3]] for s in spans] == common[1:]

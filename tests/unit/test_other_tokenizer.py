"""A teacher that reads other tokens: exact where they agree, whole spans of text where not."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd import RLAD, Trainer
from rlkd.teacher.base import Student, TeacherError
from rlkd.teacher.check import check_alignment
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.other_tokenizer import OtherTokenizer, _spans
from rlkd.teacher.scores import faults_of
from rlkd.teacher.several import Routed
from rlkd.teacher.wrapping import Wrapping
from rlkd.tracking import glossary
from tests.conftest import WORDS, make_model
from tests.parity.test_trl import arguments, reward


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


def test_an_answer_with_a_special_token_in_its_middle_has_a_fault_and_the_others_scores(
    student, pieces
):
    teacher, _ = aligned(pieces, student)
    prompts, answers = [[4], [4], [4]], [[5, 1, 6], [5, 6, 1], [1, 1]]
    scores = teacher.score(prompts, answers, 1.0)
    faults = faults_of(teacher.name, scores, answers)
    assert faults.keys() == {0, 2}
    assert "holds a special token of the student's in its middle (['3', '<eos>', '4']" in faults[0]
    (alone,) = aligned(pieces, student)[0].score([[4]], [[5, 6, 1]], 1.0)
    torch.testing.assert_close(scores[1].logp, alone.logp, rtol=0, atol=1e-5)
    assert teacher.measures()["single_share"][1] == 3  # of no answer that it could not read


MODELS = Path(__file__).resolve().parents[2] / "configs" / "models"


def test_the_check_at_the_start_leaves_end_tokens_where_they_can_be_read():
    teacher, tokenizer = aligned(MODELS / "tiny_teacher", MODELS / "tiny_student")
    prompts = [tokenizer(f"3+5*{i}+2*{i}=")["input_ids"] for i in range(1, 9)]
    model = AutoModelForCausalLM.from_pretrained(MODELS / "tiny_student")
    torch.manual_seed(0)
    out = model.generate(torch.tensor(prompts), do_sample=True, max_new_tokens=20)
    answers = [row[len(prompts[0]) :] for row in out.tolist()]
    end = tokenizer.eos_token_id
    answers = [ids[: ids.index(end) + 1] for ids in answers if end in ids]
    assert len(answers) >= 4
    exact = LocalTeacher.from_pretrained(str(MODELS / "tiny_teacher"))
    several = Routed({"a": teacher, "b": exact}, "kind")
    for made in (teacher, Echoing(teacher), several):
        asked = prompts[: len(answers)], answers, 1.0
        report = check_alignment(made, *asked, rows=[{"kind": "a"}] * len(answers))
        assert report is not None
        assert report.rows >= 4
        assert report.written > max(report.shifted, report.shuffled) + 1.0


class Echoing(Wrapping):
    """Adds nothing."""


# -- what it logs ----------------------------------------------------------------------------------


def test_the_share_of_single_tokens_is_told_once_through_whatever_is_around_it(student, pieces):
    teacher, tokenizer = aligned(pieces, student)
    answer = [*tokenizer("a12b34")["input_ids"], 1]
    teacher.score([[4]], [answer], 1.0)
    assert Echoing(teacher).measures() == {"single_share": (3, 7)}
    assert Echoing(teacher).measures() == {"single_share": (0, 0)}
    other, _ = aligned(pieces, student)
    for one in (teacher, other):
        one.score([[4]], [answer], 1.0)
    several = Routed({"a": teacher, "b": other, "c": LocalTeacher.from_pretrained(student)}, "kind")
    assert several.measures() == {"single_share": (6, 14)}
    assert teacher.single_share == pytest.approx(3 / 7)
    assert LocalTeacher.from_pretrained(student).measures() == {}


def test_the_share_is_logged_over_the_ranks_by_their_tokens(
    student, prompts, tmp_path, monkeypatch
):
    pairs = [one + other for one in "abcd;=0123456789" for other in "abcd;=0123456789"]
    words = [*WORDS[2:], *pairs, "<pad>", "<eos>"]
    folder = str(make_model(tmp_path / "pairs", seed=5, words=words, pieces=pairs))
    teacher = OtherTokenizer(LocalTeacher.from_pretrained(folder))
    trainer = Trainer(
        student, reward, arguments(tmp_path), prompts, algorithm=RLAD(), teacher=teacher,
        teacher_check="off", on_bad_scores="mask",
    )  # fmt: skip
    trainer.train()
    steps = [line for line in trainer.state.log_history if "loss" in line]
    shares = [line["teacher/single_share"] for line in steps]
    assert len(shares) == 2
    assert 0 < shares[1] < 1
    assert shares[1] != teacher.single_share  # of its own step alone
    assert glossary.explain("train/teacher/single_share")
    assert trainer._teacher_measures() == {}  # nothing was scored since
    monkeypatch.setattr(teacher, "measures", lambda: {"single_share": (3, 7)})
    other_rank = torch.tensor([[1.0, 9.0]], dtype=torch.float64)
    monkeypatch.setattr(trainer, "_sum_over_ranks", lambda mine: mine + other_rank)
    assert trainer._teacher_measures() == {"teacher/single_share": 4 / 16}


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

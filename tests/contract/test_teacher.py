"""What every teacher must do: score the tokens it was sent, as the model itself would."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd.teacher.base import Teacher, TeacherError, TokenScores
from rlkd.teacher.check import check_alignment
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.scores import score_padded
from rlkd.teacher.tokens import describe_difference
from tests.conftest import WORDS, make_model

PROMPTS = [[4, 12, 5, 14], [3, 14], [2, 3, 4, 5, 12, 6, 14]]
ANSWERS = [[7, 8, 1], [9, 9, 10, 11, 2, 3, 15, 1], [5]]


def direct(model, prompt, answer, temperature):
    """The model's own logits, one row at a time, no padding."""
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].float() / temperature
    chosen = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return chosen.gather(-1, torch.tensor(answer).unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("sizes", [(16_384, 1024), (9, 2), (1, 1)], ids=str)
def test_scores_are_the_models_own(student, temperature, sizes):
    teacher = LocalTeacher.from_pretrained(student, max_tokens=sizes[0], chunk_tokens=sizes[1])
    scores = teacher.score(PROMPTS, ANSWERS, temperature)
    for prompt, answer, scored in zip(PROMPTS, ANSWERS, scores, strict=True):
        assert scored.token_ids.tolist() == answer
        want = direct(teacher.model, prompt, answer, temperature)
        torch.testing.assert_close(scored.logp, want, rtol=0, atol=1e-5)


def test_an_empty_answer_has_no_scores_and_an_empty_prompt_is_refused(student):
    teacher = LocalTeacher.from_pretrained(student)
    scores = teacher.score([[4], [5]], [[], [6, 1]], 1.0)
    assert [scored.logp.numel() for scored in scores] == [0, 2]
    assert teacher.score([], [], 1.0) == []
    with pytest.raises(TeacherError, match="row 1 has an empty prompt"):
        teacher.score([[4], []], [[5], [6]], 1.0)


def test_the_teacher_is_frozen_and_in_evaluation_mode(student):
    model = AutoModelForCausalLM.from_pretrained(student).train()
    teacher = LocalTeacher(model)
    assert not teacher.model.training
    assert not any(weight.requires_grad for weight in teacher.model.parameters())


def test_bfloat16_scores_stay_near_float32(student):
    exact = LocalTeacher.from_pretrained(student, dtype="float32").score(PROMPTS, ANSWERS, 1.0)
    rough = LocalTeacher.from_pretrained(student, dtype="bfloat16").score(PROMPTS, ANSWERS, 1.0)
    for want, got in zip(exact, rough, strict=True):
        assert got.logp.dtype == torch.float32
        torch.testing.assert_close(got.logp, want.logp, rtol=0, atol=0.25)


def test_no_tensor_of_batch_by_tokens_by_vocabulary(student):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.rows = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            logits = isinstance(out, torch.Tensor) and out.shape[-1:] == (len(WORDS),)
            if logits and out.shape != (32, len(WORDS)):  # the head's weight, transposed
                self.rows = max(self.rows, out.numel() // len(WORDS))
            return out

    teacher = LocalTeacher.from_pretrained(student, chunk_tokens=3)
    teacher.score(PROMPTS, ANSWERS, 1.0)  # its one-off check of the head asks for a few logits
    with Largest() as largest:
        teacher.score(PROMPTS, ANSWERS, 1.0)
    assert 0 < largest.rows <= 3


def test_a_softcapped_head_is_scored_as_the_model_does(tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0,
        pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(50.0)
    scores = LocalTeacher(model).score(PROMPTS, ANSWERS, 0.7)
    for prompt, answer, scored in zip(PROMPTS, ANSWERS, scores, strict=True):
        torch.testing.assert_close(
            scored.logp, direct(model, prompt, answer, 0.7), rtol=0, atol=1e-4
        )


def test_a_head_that_rlkd_does_not_know_is_refused(student):
    teacher = LocalTeacher.from_pretrained(student)
    teacher._head_settings = {"logit_scale": 0.5, "softcap": None}
    with pytest.raises(TeacherError, match="changes its logits after the head"):
        teacher.score(PROMPTS, ANSWERS, 1.0)


# -- tokenizers -----------------------------------------------------------------------------------


def test_a_teacher_of_another_family_is_refused_and_says_which_tokens(student, tmp_path):
    swapped = list(WORDS)
    swapped[5], swapped[12] = swapped[12], swapped[5]
    other = make_model(tmp_path / "other", seed=3, words=swapped)
    teacher = LocalTeacher.from_pretrained(str(other))
    with pytest.raises(TeacherError) as error:
        teacher.check_tokenizer(AutoTokenizer.from_pretrained(student), len(WORDS))
    text = str(error.value)
    assert "2 of 20 tokens differ" in text
    assert "5 is '3' to the student and '+' to the teacher" in text
    assert "same family" in text


def test_a_teacher_with_more_tokens_is_fine_and_with_fewer_is_not(student, tmp_path):
    more = make_model(tmp_path / "more", seed=3, words=[*WORDS, "x", "y"])
    small = AutoTokenizer.from_pretrained(student)
    LocalTeacher.from_pretrained(str(more)).check_tokenizer(small, len(WORDS))
    with pytest.raises(TeacherError, match="knows 20 tokens, the student's tokenizer has 22"):
        LocalTeacher.from_pretrained(student).check_tokenizer(
            AutoTokenizer.from_pretrained(more), 22
        )


def test_without_a_tokenizer_only_the_sizes_are_compared(student):
    model = AutoModelForCausalLM.from_pretrained(student)
    model.config._name_or_path = ""
    teacher = LocalTeacher(model)
    teacher.check_tokenizer(AutoTokenizer.from_pretrained(student), len(WORDS))
    with pytest.raises(TeacherError, match=r"Pass LocalTeacher\(model, tokenizer="):
        teacher.check_tokenizer(AutoTokenizer.from_pretrained(student), 64)


def test_the_difference_is_named_up_to_five_tokens():
    student = {chr(97 + i): i for i in range(8)}
    teacher = {chr(97 + i): (i + 1) % 8 for i in range(8)}
    text = describe_difference(student, teacher)
    assert text.startswith("8 of 8 tokens differ: 0 is 'a' to the student and 'h' to the teacher")
    assert text.endswith("and 3 more")
    assert describe_difference(student, student | {"z": 99}) == ""


# -- scores on their way to the loss --------------------------------------------------------------


class Scripted(Teacher):
    """Says what it is told to say."""

    name = "scripted teacher"

    def __init__(self, change=lambda rows: rows):
        self.change = change

    def prepare(self, device):
        pass

    def check_tokenizer(self, tokenizer, model_vocab_size):
        pass

    def score(self, prompt_ids, completion_ids, temperature):
        rows = [
            TokenScores(torch.tensor(ids), torch.full((len(ids),), -1.5)) for ids in completion_ids
        ]
        return self.change(rows)


LIKE = torch.zeros(3, 9)


def test_padding_scores_zero():
    padded = score_padded(Scripted(), PROMPTS, ANSWERS, LIKE, 1.0)
    assert padded.shape == LIKE.shape
    assert padded.dtype == torch.float32
    for row, answer in enumerate(ANSWERS):
        assert padded[row, : len(answer)].tolist() == [-1.5] * len(answer)
        assert (padded[row, len(answer) :] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "asked for 3 answers and scored 2"),
        (
            lambda rows: [rows[0], TokenScores(rows[1].token_ids.flip(0), rows[1].logp), rows[2]],
            "scored other tokens than were sent, in row 1",
        ),
        (
            lambda rows: [TokenScores(rows[0].token_ids, rows[0].logp * math.nan), *rows[1:]],
            "log-probability of nan in row 0",
        ),
        (
            lambda rows: [*rows[:2], TokenScores(rows[2].token_ids, rows[2].logp + 2.0)],
            "log-probability of 0.5 in row 2",
        ),
        (
            lambda rows: [rows[0], TokenScores(rows[1].token_ids, rows[1].logp[:-1]), rows[2]],
            "gave 7 scores for the 8 tokens that were sent, in row 1",
        ),
        (
            lambda rows: [TokenScores(rows[0].token_ids, rows[0].logp - math.inf), *rows[1:]],
            r"rules out every token of an answer \(−inf\), in row 0",
        ),
        (
            lambda rows: [
                rows[0],
                TokenScores(rows[1].token_ids, rows[1].logp, fault="gone"),
                rows[2],
            ],
            "^gone$",
        ),
    ],
    ids=["missing row", "other tokens", "nan", "above zero", "too few", "all -inf", "known"],
)
def test_scores_that_cannot_be_right_are_refused(change, message):
    with pytest.raises(TeacherError, match=message):
        score_padded(Scripted(change), PROMPTS, ANSWERS, LIKE, 1.0)


def test_minus_infinity_is_a_score():
    def change(rows):
        rows[0].logp[0] = -math.inf
        rows[2].logp[:] = -math.inf  # an answer of one token
        return rows

    padded = score_padded(Scripted(change), PROMPTS, ANSWERS, LIKE, 1.0)
    assert padded[0, 0] == padded[2, 0] == -math.inf


# -- the self-check at run start ------------------------------------------------------------------


MODELS = Path(__file__).resolve().parents[2] / "configs" / "models"


@pytest.fixture(scope="module")
def sampled():
    """What the shipped student answers; random weights write nothing that an order matters to."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "tiny_student")
    model = AutoModelForCausalLM.from_pretrained(MODELS / "tiny_student")
    prompts = [tokenizer(f"3+5*{i}+2*{i}=")["input_ids"] for i in range(1, 9)] * 2
    torch.manual_seed(0)
    out = model.generate(torch.tensor(prompts), do_sample=True, max_new_tokens=20)
    answers = [row[: row.index(1) + 1] if 1 in row else row for row in out[:, 9 + 1 :].tolist()]
    return prompts, answers


def test_the_check_passes_where_positions_are_right(sampled):
    teacher = LocalTeacher.from_pretrained(str(MODELS / "tiny_teacher"))
    report = check_alignment(teacher, *sampled, 1.0)
    assert report is not None
    assert report.rows >= 4
    assert report.written > max(report.shifted, report.shuffled) + 1.0


def test_the_check_finds_a_teacher_that_reads_one_position_off(sampled):
    class OneOff(LocalTeacher):
        def score(self, prompt_ids, completion_ids, temperature):
            rows = super().score(prompt_ids, completion_ids, temperature)
            return [TokenScores(row.token_ids, row.logp.roll(1)) for row in rows]

        def _logprobs(self, hidden_NH, token_N, temperature):
            return super()._logprobs(hidden_NH.roll(1, 0), token_N, temperature)

        def _verify_head(self, ids):
            pass

    with pytest.raises(TeacherError, match="scores other tokens than it is sent"):
        check_alignment(OneOff.from_pretrained(str(MODELS / "tiny_teacher")), *sampled, 1.0)


def test_answers_too_short_to_shuffle_are_not_judged(student):
    teacher = LocalTeacher.from_pretrained(student)
    assert check_alignment(teacher, [[4]], [[5, 1]], 1.0) is None
    assert check_alignment(teacher, [[4]], [[]], 1.0) is None


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 0.5, -math.inf])
def test_but_their_scores_must_be_scores(wrong):
    def change(rows):
        return [TokenScores(rows[0].token_ids, torch.full_like(rows[0].logp, wrong))]

    with pytest.raises(TeacherError, match=r"log-probability of|rules out every token"):
        check_alignment(Scripted(change), [[4]], [[5, 1]], 1.0)


def test_the_check_compares_what_is_echoed(sampled):
    def change(rows):
        return [TokenScores(row.token_ids.flip(0), row.logp) for row in rows]

    with pytest.raises(TeacherError, match="scored other tokens than were sent, in row 0"):
        check_alignment(Scripted(change), *sampled, 1.0)


class MixesUp(LocalTeacher):
    """Gives each row the scores of the next one, and echoes what was sent."""

    def score(self, prompt_ids, completion_ids, temperature):
        rows = super().score(prompt_ids, completion_ids, temperature)
        moved = [*rows[1:], *rows[:1]]
        return [
            TokenScores(row.token_ids, other.logp) for row, other in zip(rows, moved, strict=True)
        ]


class Forgetful(LocalTeacher):
    """Is not the same each time."""

    def score(self, prompt_ids, completion_ids, temperature):
        rows = super().score(prompt_ids, completion_ids, temperature)
        noise = [torch.rand_like(row.logp) for row in rows]
        return [TokenScores(r.token_ids, r.logp - n) for r, n in zip(rows, noise, strict=True)]


@pytest.mark.parametrize("kind", [MixesUp, Forgetful])
def test_the_check_finds_a_teacher_that_scores_an_answer_otherwise_alone(kind, sampled):
    """Over all rows its means are those of a sound one."""
    prompts, answers = sampled
    chosen = [i for i, ids in enumerate(answers) if len(set(ids)) >= 4 and len(ids) >= 8][:6]
    assert len(chosen) >= 4
    rows = [prompts[i] for i in chosen], [answers[i][:8] for i in chosen]
    torch.manual_seed(0)
    with pytest.raises(TeacherError, match=r"scores answer . alone otherwise than among others"):
        check_alignment(kind.from_pretrained(str(MODELS / "tiny_teacher")), *rows, 1.0)
    assert check_alignment(LocalTeacher.from_pretrained(str(MODELS / "tiny_teacher")), *rows, 1.0)

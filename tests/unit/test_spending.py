"""What a run has spent is counted where it is spent, and goes on counting after a resume."""

import torch

from rlkd.teacher.base import Teacher, Usage
from rlkd.teacher.local import LocalTeacher
from rlkd.training.spending import Spending
from tests.conftest import make_model


def same(totals):
    return totals


class Uncounted(Teacher):
    """A teacher that does not count."""

    def prepare(self, device): ...

    def check_tokenizer(self, tokenizer, model_vocab_size): ...

    def score(self, prompt_ids, completion_ids, temperature):
        return []


def test_a_local_teacher_counts_rows_and_positions(tmp_path):
    teacher = LocalTeacher.from_pretrained(str(make_model(tmp_path / "t", seed=1)))
    assert teacher.usage == Usage(0, 0)
    teacher.score([[3, 4, 5]], [[4, 5, 6]], 1.0)  # also compares the head with the model once
    before = (teacher.usage.rows, teacher.usage.tokens)
    teacher.score([[3, 4, 5], [3]], [[4, 5, 6], [4]], 1.0)
    # Two rows, padded to the longer; the last token of a row predicts nothing and is not read.
    assert (teacher.usage.rows, teacher.usage.tokens) == (before[0] + 2, before[1] + 2 * 5)


def test_what_a_teacher_generates_counts_once_a_token(tmp_path):
    teacher = LocalTeacher.from_pretrained(str(make_model(tmp_path / "t", seed=1)))
    ids = torch.tensor([[3, 4, 5], [4, 5, 6]])
    written = teacher.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, min_new_tokens=4,
        do_sample=False, pad_token_id=0,
    )  # fmt: skip
    assert written.shape == (2, 7)
    assert (teacher.usage.rows, teacher.usage.tokens) == (2, 2 * (3 + 3))


def test_without_a_teacher_it_has_cost_nothing_and_an_uncounted_one_is_left_out():
    spending = Spending(None)
    spending.generated_tokens = 7
    assert spending.metrics(same) == {
        "spent/generated_tokens": 7.0, "spent/teacher_rows": 0.0, "spent/teacher_tokens": 0.0,
    }  # fmt: skip
    assert set(Spending(Uncounted()).metrics(same)) == {"spent/generated_tokens"}


def test_a_resumed_run_goes_on_counting():
    teacher = Uncounted()
    teacher.usage = Usage(3, 30)
    spending = Spending(teacher)
    spending.generated_tokens = 5
    state = spending.state()
    other = Uncounted()
    other.usage = Usage(1, 10)  # its check at the start
    resumed = Spending(other)
    assert resumed.restore(state) == "5 tokens generated so far"
    assert list(resumed.metrics(lambda totals: 2 * totals).values()) == [10.0, 8.0, 80.0]

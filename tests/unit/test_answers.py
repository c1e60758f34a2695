"""Sampled answers: their order, and that a run never notices them."""

import pytest
import torch

from rlkd.evaluation.answers import answer_greedily, sample_answers

ROWS = [{"prompt": "1+2="}, {"prompt": "3+4-5="}, {"prompt": "9="}]


@pytest.fixture(scope="module")
def loaded(student):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)


def test_the_answers_to_a_row_stand_together_and_in_the_order_of_the_rows(loaded):
    cold = sample_answers(*loaded, ROWS, 3, 6, 4, seed=0, temperature=1e-4)
    greedy = answer_greedily(*loaded, ROWS, 6, 4)
    assert cold.ids == [ids for ids in greedy.ids for _ in range(3)]
    assert cold.truncated == [cut for cut in greedy.truncated for _ in range(3)]


def test_the_seed_decides_and_the_runs_own_numbers_stay(loaded):
    model, tokenizer = loaded
    model.train()
    before = torch.get_rng_state()
    first = sample_answers(model, tokenizer, ROWS, 4, 6, 12, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    torch.rand(5)
    assert sample_answers(model, tokenizer, ROWS, 4, 6, 12, seed=1) == first
    assert sample_answers(model, tokenizer, ROWS, 4, 6, 12, seed=2) != first
    assert len({tuple(ids) for ids in first.ids[:4]}) > 1


def test_the_nucleus_leaves_out_what_is_unlikely(loaded):
    only = sample_answers(*loaded, ROWS, 2, 6, 6, seed=0, top_p=1e-6)
    assert only.ids == [ids for ids in answer_greedily(*loaded, ROWS, 6, 6).ids for _ in range(2)]

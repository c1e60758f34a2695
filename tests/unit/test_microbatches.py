"""Cutting an optimiser step into micro-batches: nothing lost, the fewest tokens, nothing larger."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkd.training import microbatches
from rlkd.training.microbatches import cut, cut_packed, trimmed

LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=5)


def size(rows, prompt_B, answer_B) -> int:
    return len(rows) * int(prompt_B[rows].max() + answer_B[rows].max())


def every_cut(order, pieces):
    """All ways to cut the order into so many parts."""
    for ends in itertools.combinations(range(1, len(order)), pieces - 1):
        yield [order[a:b] for a, b in itertools.pairwise([0, *ends, len(order)])]


@given(LENGTHS, st.integers(1, 3))
def test_by_tokens_is_the_best_cut_of_the_sorted_rows(pairs, rows):
    """Against all cuts, under the same bound."""
    pairs = (pairs * 3)[: 3 * rows] if len(pairs) < 3 * rows else pairs[: 3 * rows]
    pairs = (pairs * 3 * rows)[: 3 * rows]
    prompt_B, answer_B = torch.tensor(pairs).T
    found = cut("by_tokens", prompt_B, answer_B, 3)
    assert sorted(itertools.chain(*found)) == list(range(3 * rows))
    assert all(found)
    order = list(itertools.chain(*found))
    most = rows * int(prompt_B.max() + answer_B.max())
    cost = [[size(part, prompt_B, answer_B) for part in parts] for parts in every_cut(order, 3)]
    best = min(sum(sizes) + 1e-3 * sum(s * s for s in sizes) / max(most, 1)
               for sizes in cost if max(sizes) <= most)  # fmt: skip
    mine = [size(part, prompt_B, answer_B) for part in found]
    assert max(mine) <= most
    assert sum(mine) + 1e-3 * sum(s * s for s in mine) / max(most, 1) == pytest.approx(best)


def test_a_few_long_answers_stand_alone():
    answer_B = torch.tensor([3, 90, 2, 4, 3, 80, 2, 5])
    found = cut("by_tokens", torch.full((8,), 2), answer_B, 4)
    assert found[0] == [1]
    assert found[1] == [5]
    assert sorted(found[2] + found[3]) == [0, 2, 3, 4, 6, 7]
    equal = cut("by_length", torch.full((8,), 2), answer_B, 4)
    assert [len(rows) for rows in equal] == [2, 2, 2, 2]
    assert equal[0] == [1, 5]


def test_equal_lengths_are_cut_evenly():
    for way in ("by_tokens", "by_length"):
        found = cut(way, torch.full((12,), 3), torch.full((12,), 7), 4)
        assert [len(rows) for rows in found] == [3, 3, 3, 3]


def test_rows_without_padding_are_balanced_and_groups_stay_together():
    prompts = [(place % 3,) for place in range(12)]  # three groups, dealt out
    prompt_B, answer_B = torch.full((12,), 50), torch.tensor([4, 9, 2] * 4)
    found = cut_packed(prompts, prompt_B, answer_B, 3, share=True)
    assert [len({prompts[row] for row in rows}) for rows in found] == [1, 1, 1]
    lengths = torch.tensor([30, 1, 1, 1, 1, 1, 1, 24])
    found = cut_packed(list(range(8)), torch.ones(8, dtype=torch.long), lengths, 4, share=False)
    tokens = [int((lengths[rows] + 1).sum()) for rows in found]
    assert sorted(itertools.chain(*found)) == list(range(8))
    assert tokens == [31, 25, 6, 6]


def test_trimming_leaves_every_token_and_all_that_belongs_to_it():
    prompt = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 1]])
    answer = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    batch = {
        "prompt_ids": prompt * 7, "prompt_mask": prompt, "completion_ids": answer * 5,
        "completion_mask": answer, "teacher_per_token_logps": -answer.float(),
        "teacher_hidden_BTH": torch.arange(2 * 5 * 3).view(2, 5, 3), "advantages": torch.ones(2),
        "importance_sampling_ratio": torch.ones(2, 1), "num_items_in_batch": torch.tensor(4),
    }  # fmt: skip
    found = trimmed(batch)
    assert found["prompt_ids"].tolist() == [[7, 7], [0, 7]]
    assert found["completion_ids"].shape == found["teacher_per_token_logps"].shape == (2, 3)
    assert torch.equal(found["teacher_hidden_BTH"], batch["teacher_hidden_BTH"][:, :3])
    assert found["importance_sampling_ratio"].shape == (2, 1)
    assert found["advantages"].shape == (2,)
    assert batch["completion_ids"].shape == (2, 5)  # the given one is left alone
    assert found["completion_ids"].untyped_storage().nbytes() == 2 * 3 * 8
    assert trimmed(batch, 4)["completion_ids"].shape == (2, 4)
    assert trimmed(batch, 4)["prompt_ids"].shape == (2, 4)
    images = batch | {"pixel_values": torch.zeros(2, 3)}
    assert trimmed(images) is images


def test_rows_keep_what_is_theirs():
    parts = [
        {
            "row_id": torch.tensor([4, 2]),
            "names": ["e", "c"],
            "num_items_in_batch": torch.tensor(9),
        },
        {
            "row_id": torch.tensor([1, 3]),
            "names": ["b", "d"],
            "num_items_in_batch": torch.tensor(9),
        },
    ]
    whole = microbatches.joined(parts)
    found = microbatches.chosen(whole, [3, 0])
    assert found["row_id"].tolist() == [3, 4]
    assert found["names"] == ["d", "e"]
    assert found["num_items_in_batch"] == 9

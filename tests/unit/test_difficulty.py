"""The formulas of difficulty and length, and the records, against numbers worked by hand and
against their slow twin."""

import dataclasses
import math
import random
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlkd.batch import Groups
from rlkd.difficulty import Difficulty, Rules, prompt_key
from rlkd.objectives import difficulty, lengths
from tests.reference.difficulty import Answer, Record, Records

NAN = math.nan
PAPER = Rules()
CODE = Rules(
    restart_at_zero=True,
    shortest="moving_average",
    unvisited="minus_one",
    hard_from="group",
    hard_bound="at_most",
)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def marks(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def same(found: Tensor, *wanted: float) -> None:
    torch.testing.assert_close(found, tensor(*wanted), rtol=1e-14, atol=0, equal_nan=True)


# --- formulas -----------------------------------------------------------------------------------


def test_pass_rate_by_hand():
    correct = marks([1, 1, 0, 0], [1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0])
    counted = marks([1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1])
    # 2/4; the last answer does not count: 2/3; none counts; all correct; none correct
    same(difficulty.pass_rate(correct, counted), 0.5, 2 / 3, NAN, 1.0, 0.0)
    same(difficulty.pass_rate(marks([1], [0]), marks([1], [1])), 1.0, 0.0)  # groups of one


@pytest.mark.parametrize(
    ("history", "current", "wanted"),
    [
        (0.5, 1.0, 0.6),  # better: .8 · .5 + .2 · 1
        (0.5, 0.0, 0.475),  # worse: .95 · .5 + .05 · 0
        (0.5, 0.5, 0.5),
        (NAN, 0.25, 0.25),  # a first visit
        (NAN, 0.0, 0.0),
        (0.5, NAN, 0.5),  # no answer counted
        (NAN, NAN, NAN),
        (0.0, 1.0, 0.2),
        (1.0, 1.0, 1.0),
        (1.0, 0.0, 0.95),
    ],
)
def test_moving_pass_rate_by_hand(history, current, wanted):
    same(difficulty.moving_pass_rate(tensor(history), tensor(current)), wanted)


@pytest.mark.parametrize(
    ("history", "wanted"), [(0.0, 0.75), (0.25, 0.35), (NAN, 0.75)], ids=["at 0", "above", "first"]
)
def test_a_restart_while_the_history_is_zero(history, wanted):
    # .25 → .8 · .25 + .2 · .75 = .35; without the restart 0 → .15
    found = difficulty.moving_pass_rate(tensor(history), tensor(0.75), restart_at_zero=True)
    same(found, wanted)
    same(difficulty.moving_pass_rate(tensor(0.0), tensor(0.75)), 0.15)


UNIT = st.floats(0.0, 1.0)


@given(UNIT, UNIT, UNIT, UNIT)
def test_the_moving_average_lies_between(history, current, up, down):
    found = difficulty.moving_pass_rate(tensor(history), tensor(current), up, down).item()
    assert min(history, current) <= found <= max(history, current)
    rate = up if history < current else down
    assert found == pytest.approx((1 - rate) * history + rate * current, abs=1e-15)
    if rate == 0.0:
        assert found == history
    if rate == 1.0:
        assert found == current


@given(st.integers(0, 24), st.integers(1, 24), UNIT)
def test_a_rate_that_does_not_move_stays_to_the_last_bit(right, number, rate):
    """The plain formula gives 0.95 · 3/4 + 0.05 · 3/4 < 3/4, and the gate would open."""
    now = tensor(min(right, number) / number)
    assert torch.equal(difficulty.moving_pass_rate(now, now, rate, rate), now)
    assert not lengths.passes_gate(now, difficulty.moving_pass_rate(now, now))
    assert lengths.passes_gate(now, difficulty.moving_pass_rate(now, now), "at_least")
    length = tensor(float(number) / 3)
    assert torch.equal(difficulty.shortest_on_record(length, length, "moving_average"), length)


def test_shortest_correct_by_hand():
    length = torch.tensor([[5, 3, 4, 1]] * 4)
    correct = marks([1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1])
    counted = marks([1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0])
    # wrong answers may be shorter; one that does not count may be too; none correct; none counted
    same(difficulty.shortest_correct(length, correct, counted), 3, 4, NAN, NAN)


@pytest.mark.parametrize(
    ("record", "group", "minimum", "average"),
    [
        (NAN, 70.0, 70.0, 70.0),  # the first solved group
        (100.0, 50.0, 50.0, 90.0),  # .2 · 50 + .8 · 100
        (100.0, 120.0, 100.0, 101.0),  # .05 · 120 + .95 · 100: it drifts up
        (100.0, NAN, 100.0, 100.0),  # none correct
        (NAN, NAN, NAN, NAN),
    ],
)
def test_shortest_on_record_by_hand(record, group, minimum, average):
    at = tensor(record), tensor(group)
    same(difficulty.shortest_on_record(*at), minimum)
    same(difficulty.shortest_on_record(*at, "moving_average"), average)


@given(st.lists(st.integers(1, 999), min_size=1, max_size=20))
def test_the_minimum_never_rises_and_the_average_stays_within_what_was_seen(seen):
    least, average = tensor(NAN), tensor(NAN)
    for length in seen:
        before, now = least, tensor(float(length))
        least = difficulty.shortest_on_record(least, now)
        average = difficulty.shortest_on_record(average, now, "moving_average")
        assert before.isnan() or least <= before
    assert least.item() == min(seen)
    assert min(seen) <= average.item() <= max(seen)


def test_threshold_by_hand():
    known = tensor(0.2, 0.8, NAN, NAN)
    assert difficulty.threshold(known) == pytest.approx(0.5)  # (.2 + .8) / 2
    assert difficulty.threshold(known, "minus_one") == pytest.approx(-0.25)  # (.2 + .8 − 2) / 4
    assert difficulty.threshold(tensor(NAN, NAN)).isnan()
    assert difficulty.threshold(tensor(NAN, NAN), "minus_one") == -1.0
    assert difficulty.threshold(tensor()).isnan()


@pytest.mark.parametrize("number", [3, 7, 10, 1000])
@pytest.mark.parametrize("rate", [0.1, 1 / 3, 0.7, 1.0])
def test_of_prompts_that_are_all_equally_hard_none_is_below_the_mean(number, rate):
    history = torch.full((number,), rate, dtype=torch.float64)
    bound = difficulty.threshold(history)
    assert not difficulty.is_hard(history, bound).any()
    assert difficulty.is_hard(history, bound, "at_most").all()


def test_hard_by_hand():
    rate, bound = tensor(0.4, 0.5, 0.6, NAN), torch.tensor(0.5, dtype=torch.float64)
    assert difficulty.is_hard(rate, bound).tolist() == [True, False, False, False]
    assert difficulty.is_hard(rate, bound, "at_most").tolist() == [True, True, False, False]
    unknown = torch.tensor(NAN, dtype=torch.float64)
    for how in difficulty.BOUNDS:
        assert not difficulty.is_hard(rate, unknown, how).any()


@pytest.mark.parametrize(
    ("length", "term", "contribution"),
    [
        (100, 0.0, 0.0),
        (150, -0.05, -0.05),  # .1 · (100 − 150)/100
        (80, 0.02, 0.02),  # shorter than the record: a bonus
        (1, 0.099, 0.099),
        (300, -0.09, -0.2),  # (100 − 300)/100 = −2: .1 · −.9; or .1 · −2, above the floor
        (1100, -0.09, -0.9),  # .1 · −10 = −1, floored at −.9
    ],
)
def test_length_contribution_by_hand(length, term, contribution):
    at = torch.tensor([[length]]), tensor(100.0)
    same(lengths.length_contribution(*at)[0], term)
    same(lengths.length_contribution(*at, floored="contribution")[0], contribution)


def test_without_a_record_there_is_no_length_term():
    for floored in lengths.FLOORS:
        found = lengths.length_contribution(torch.tensor([[5, 7]]), tensor(NAN), floored=floored)
        assert found.tolist() == [[0.0, 0.0]]


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.01, 2.0), st.floats(-3.0, 0.0))
def test_the_length_term_is_bounded(length, record, beta, floor):
    at = torch.tensor([[length]]), tensor(float(record)), beta, floor
    term = lengths.length_contribution(*at, "term").item()
    contribution = lengths.length_contribution(*at, "contribution").item()
    assert beta * floor <= term < beta
    assert floor <= contribution < beta
    if length <= record:
        assert term == contribution >= 0.0
    shorter = lengths.length_contribution(torch.tensor([[length - 1]]), *at[1:], "term").item()
    assert shorter >= term, "a shorter answer is never worth less"


def test_gates_by_hand():
    now, before = tensor(0.5, 0.5, 0.5, 0.5, NAN, NAN), tensor(0.4, 0.5, 0.6, NAN, 0.5, NAN)
    assert lengths.passes_gate(now, before).tolist() == [True, False, False, False, False, False]
    open_ = lengths.passes_gate(now, before, "at_least").tolist()
    assert open_ == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: difficulty.shortest_on_record(x, x, "least"), "how is 'least'; it is one of"),
        (lambda x: difficulty.threshold(x, "zero"), "unvisited is 'zero'; it is one of left_out"),
        (lambda x: difficulty.is_hard(x, x, "<"), "bound is '<'; it is one of below, at_most"),
        (lambda x: lengths.passes_gate(x, x, ">"), "gate is '>'; it is one of above, at_least"),
        (
            lambda x: lengths.length_contribution(x[None], x, floored="both"),
            "floored is 'both'; it is one of term, contribution",
        ),
    ],
)
def test_unknown_choices(call, message):
    with pytest.raises(ValueError, match=message):
        call(tensor(0.5))


# --- the records --------------------------------------------------------------------------------


def view(records: Difficulty, groups: list[tuple[int, list[Answer]]]) -> Groups:
    """Reward 1 for a correct answer, 0 for a wrong one; ungradable where it does not count."""
    table = lambda name: torch.tensor([[getattr(a, name) for a in row] for _, row in groups])  # noqa: E731
    correct, counted = table("correct"), table("counted")
    return records.view(
        torch.tensor([key for key, _ in groups]),
        correct.double().masked_fill(~counted, NAN),
        table("length"),
        correct,
        counted,
    )


def row_of(records: Difficulty, key: int) -> tuple[float, float, int]:
    table = records.table()
    at = table["key"].tolist().index(key)
    return tuple(table[name][at].item() for name in ("pass_rate", "shortest", "visits"))  # type: ignore[return-value]


def answers(*facts: tuple[int, int]) -> list[Answer]:
    return [Answer(length, bool(correct)) for length, correct in facts]


def test_a_prompts_life_by_hand():
    records = Difficulty([7, 9])
    first = view(records, [(7, answers((40, 1), (60, 1), (30, 0), (50, 0)))])
    assert first.pass_rate_N.tolist() == [0.5]
    assert first.history_N.isnan().all()
    assert first.shortest_N.isnan().all()
    assert first.hard_N.tolist() == [False]  # there is no threshold yet
    assert records.threshold() != records.threshold(), "viewing is not learning"
    records.learn(first)
    assert row_of(records, 7) == (0.5, 40.0, 1)

    second = view(records, [(7, answers((20, 1), (40, 1), (120, 1), (10, 0)))])
    assert (second.history_N.item(), second.shortest_N.item()) == (0.5, 40.0)
    records.learn(second)  # .5 + .2 · (.75 − .5) = .55
    assert row_of(records, 7) == (pytest.approx(0.55), 20.0, 2)

    records.learn(view(records, [(7, answers((25, 1), (25, 1), (5, 0), (5, 0)))]))
    assert row_of(records, 7) == (pytest.approx(0.5475), 20.0, 3)  # .55 − .05 · .05
    assert math.isnan(row_of(records, 9)[0])
    assert row_of(records, 9)[2] == 0


def test_never_solved_then_solved():
    records = Difficulty([7])
    for _ in range(2):
        records.learn(view(records, [(7, answers((4, 0), (5, 0)))]))
    assert row_of(records, 7) == (0.0, pytest.approx(NAN, nan_ok=True), 2)
    records.learn(view(records, [(7, answers((4, 0), (5, 1)))]))
    assert row_of(records, 7) == (pytest.approx(0.1), 5.0, 3)  # 0 + .2 · .5


def test_all_correct_stays_at_one():
    records = Difficulty([7])
    for _ in range(3):
        records.learn(view(records, [(7, answers((4, 1), (5, 1)))]))
    assert row_of(records, 7) == (1.0, 4.0, 3)


def test_a_group_of_one():
    records = Difficulty([7])
    records.learn(view(records, [(7, answers((4, 1)))]))
    records.learn(view(records, [(7, answers((9, 0)))]))
    assert row_of(records, 7) == (0.95, 4.0, 2)


def test_what_does_not_count_updates_nothing():
    records = Difficulty([7, 9])
    records.learn(view(records, [(7, answers((40, 1), (60, 0)))]))
    before = records.state()
    cut = [Answer(1, True, counted=False), Answer(2, False, counted=False)]
    found = view(records, [(7, cut), (9, cut)])
    assert found.pass_rate_N.isnan().all()
    records.learn(found)
    assert all(torch.equal(before[n], t) for n, t in records.table().items() if n == "visits")
    assert row_of(records, 7) == (0.5, 40.0, 1)
    # among answers that count it is left out: 1 of 1 correct, and no record of 1 token
    records.learn(view(records, [(7, [*answers((50, 1)), cut[0]])]))
    assert row_of(records, 7) == (pytest.approx(0.6), 40.0, 2)


def test_hard_is_read_from_the_old_records():
    records = Difficulty([1, 2, 3])
    records.learn(view(records, [(1, answers((9, 1), (9, 0))), (2, answers((9, 1), (9, 1)))]))
    # mean (.5 + 1)/2 = .75: prompt 1 is hard; 3, on its first visit, is not
    found = view(records, [(n, answers((9, 0), (9, 0))) for n in (1, 2, 3)])
    assert found.hard_N.tolist() == [True, False, False]

    code = Difficulty([1, 2, 3], CODE)
    code.learn(view(code, [(1, answers((9, 1), (9, 0))), (2, answers((9, 1), (9, 1)))]))
    assert code.threshold() == pytest.approx(1 / 6)  # (.5 + 1 − 1)/3
    groups = [(1, answers((9, 1), (9, 0))), (2, answers((9, 0), (9, 0))), (3, answers((9, 0)) * 2)]
    assert view(code, groups).hard_N.tolist() == [False, True, True]  # .5, 0 and 0 against 1/6


def test_a_prompt_at_the_threshold_is_hard_where_the_bound_says_at_most():
    groups = [(n, answers((9, 1), (9, 0))) for n in (1, 2)]  # both .5, and so their mean
    for rules, wanted in ((Rules(), False), (Rules(hard_bound="at_most"), True)):
        records = Difficulty([1, 2], rules)
        records.learn(view(records, groups))
        assert view(records, groups).hard_N.tolist() == [wanted, wanted]


def test_each_group_of_a_prompt_has_its_own_pass_rate_and_they_are_learnt_as_one():
    groups = [(7, answers((30, 1), (40, 1))), (7, answers((20, 1), (10, 0)))]
    records = Difficulty([7])
    found = view(records, groups)
    assert found.pass_rate_N.tolist() == [1.0, 0.5]
    records.learn(found)
    assert row_of(records, 7) == (0.75, 20.0, 1)  # 3 of 4


ANSWER = st.builds(Answer, st.integers(1, 40), st.booleans(), st.booleans())
RULES = st.builds(
    Rules,
    restart_at_zero=st.booleans(),
    shortest=st.sampled_from(difficulty.SHORTEST),
    unvisited=st.sampled_from(difficulty.UNVISITED),
    hard_from=st.sampled_from(["history", "group"]),
    hard_bound=st.sampled_from(difficulty.BOUNDS),
)


@st.composite
def histories(draw) -> list[list[tuple[int, list[Answer]]]]:
    """Some batches of groups of three, of prompts 1 to 4."""
    group = st.tuples(st.integers(1, 4), st.lists(ANSWER, min_size=3, max_size=3))
    return draw(st.lists(st.lists(group, min_size=1, max_size=4), min_size=1, max_size=5))


@given(histories(), RULES)
def test_the_records_equal_their_twin(batches, rules):
    records, twin = Difficulty([1, 2, 3, 4], rules), Records(dataclasses.asdict(rules))
    twin.of = {key: Record() for key in (1, 2, 3, 4)}
    for groups in batches:
        found, bound = view(records, groups), twin.threshold()
        for n, (key, row) in enumerate(groups):
            rate = twin.judged_rate(key, row)
            if rate is None or bound is None or abs(rate - bound) > 1e-9:
                assert found.hard_N[n].item() is twin.is_hard(key, row)
        records.learn(found)
        twin.learn(groups)
        bound = twin.threshold()
        assert records.threshold() == pytest.approx(NAN if bound is None else bound, nan_ok=True)
        for key, record in twin.of.items():
            wanted = (record.pass_rate, record.shortest, record.visits)
            for x, y in zip(row_of(records, key), wanted, strict=True):
                assert x == pytest.approx(NAN if y is None else y, nan_ok=True)
            rate = row_of(records, key)[0]
            assert math.isnan(rate) or 0.0 <= rate <= 1.0


def learnt(batches, rules: Rules = PAPER) -> dict[str, Tensor]:
    records = Difficulty([1, 2, 3, 4], rules)
    for groups in batches:
        records.learn(view(records, groups))
    return records.table()


def identical(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name in one:
        assert torch.equal(one[name].nan_to_num(nan=-7), other[name].nan_to_num(nan=-7)), name


@given(histories(), RULES, st.randoms(use_true_random=False))
def test_orders_and_splits_of_a_batch_change_no_bit(batches, rules, rng: random.Random):
    """Order of groups (so: which rank held which), of the answers of a prompt, and whether its
    answers stand in one group or in several."""
    wanted = learnt(batches, rules)
    shuffled = [
        rng.sample([(k, rng.sample(row, len(row))) for k, row in b], len(b)) for b in batches
    ]
    identical(learnt(shuffled, rules), wanted)
    ones = [[(key, [answer]) for key, row in batch for answer in row] for batch in batches]
    identical(learnt(ones, rules), wanted)


def test_prompts_that_turn_up_later_are_added():
    known, found = Difficulty([1, 2, 3, 4]), Difficulty([3])
    groups = [(4, answers((9, 1), (8, 0))), (1, answers((7, 1), (5, 1))), (3, answers((2, 0)) * 2)]
    for records in (known, found):
        records.learn(view(records, groups))
        records.learn(view(records, [(2, answers((1, 1), (1, 0)))]))
    identical(found.table(), known.table())
    assert found.table()["key"].tolist() == [1, 2, 3, 4]


# --- saving, keys, size -------------------------------------------------------------------------


def test_the_state_comes_back_bit_for_bit(tmp_path):
    records = Difficulty([1, 2, 3])
    records.learn(view(records, [(1, answers((9, 1), (9, 0), (9, 0))), (5, answers((3, 1)) * 3)]))
    torch.save(records.state(), tmp_path / "difficulty.pt")
    again = Difficulty([1, 2, 3])
    again.restore(torch.load(tmp_path / "difficulty.pt", weights_only=True))
    identical(again.table(), records.table())
    kept = again.state()
    again.learn(view(again, [(1, answers((1, 1)) * 3)]))
    assert kept["shortest"][0] == 9.0, "a state does not change with the records"


def test_records_kept_by_other_rules_are_refused():
    state = Difficulty([1]).state()
    with pytest.raises(ValueError, match=r"were kept by .*'minimum'.* their numbers do not mean"):
        Difficulty([1], CODE).restore(state)


def test_a_key_is_of_the_content_alone():
    chat = [{"role": "user", "content": "2 + 2?"}]
    assert prompt_key(chat) == prompt_key([{"content": "2 + 2?", "role": "user"}])
    different = [
        "2 + 2?",
        "2 + 3?",
        chat,
        [*chat, *chat],
        '[{"content": "2 + 2?", "role": "user"}]',
    ]
    assert len({prompt_key(p) for p in different}) == len(different)
    keys = [prompt_key(f"prompt {n}") for n in range(64)]
    assert Difficulty(keys).table()["key"].tolist() == sorted(keys), "they fit int64"
    prompt_key("\ud800")  # a lone surrogate, as broken data holds
    code = "from rlkd.difficulty import prompt_key; print(prompt_key('2 + 2?'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == prompt_key("2 + 2?"), "the same in every process"


def test_a_prompt_without_stable_content_is_an_error():
    with pytest.raises(TypeError, match="cannot be told from others by its content"):
        prompt_key([{"role": "user", "content": object()}])


def test_a_hundred_thousand_prompts_are_under_20_mb():
    records = Difficulty(range(100_000))
    size = sum(t.element_size() * t.numel() for t in records.table().values())
    assert size == 28 * 100_000 < 20e6
    held = [t for t in vars(records).values() if isinstance(t, Tensor)]
    assert sum(t.element_size() * t.numel() for t in held) == size, "nothing besides is held"

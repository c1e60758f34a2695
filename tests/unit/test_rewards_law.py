"""The reward law, for every reward of the shelf: any text in, as many values out, never a raise.

The hypothesis tests draw from the words that the rewards look for, so that the odd cases are hit.
"""

import subprocess
import sys
import time
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import (
    answer_span,
    choice,
    countdown,
    exact,
    format,
    knights_knaves,
    length,
    liars,
    repetition,
)
from rlkd.data import check_columns

ANSWER = {"answer": "C"}
KNIGHTS = {"answer": "Zoey is a knight, Liam is a knave"}
GAME = {"numbers": [3, 5, 8], "target": 16}
EXACT = {"of": "rewards.exact:text"}

# Reward, the columns of a gradable row, options; with the name that a failing test shows.
SHELF = {
    "thinking": (format.thinking, {}, {}),
    "prompt_opens": (partial(format.thinking, prompt_opens=True), {}, {}),
    "answer_tags": (format.answer_tags, {}, {}),
    "box": (format.box, {}, {}),
    "choice": (choice.accuracy, ANSWER, {}),
    "text": (exact.text, ANSWER, {}),
    "json": (exact.json_value, {"answer": '{"a": [1, 2]}'}, {}),
    "knights": (knights_knaves.accuracy, KNIGHTS, {}),
    "knights_graded": (knights_knaves.graded, KNIGHTS, {}),
    "countdown": (countdown.accuracy, GAME, {}),
    "liars": (liars.accuracy, {"answer": "aBC"}, {}),
    "liars_format": (liars.well_formed, {}, {}),
    "kimi": (length.kimi, ANSWER, EXACT),
    "shorter_better": (length.shorter_better, ANSWER, EXACT),
    "arora_zanette": (length.arora_zanette, ANSWER, EXACT),
    "l1_exact": (length.l1_exact, {**ANSWER, "budget": 4}, EXACT),
    "l1_max": (length.l1_max, {**ANSWER, "budget": 4}, EXACT),
    "soft_overlong": (length.soft_overlong, {}, {"max_length": 6, "cache": 3}),
    "ngrams": (repetition.ngrams, {}, {"n": 2}),
    "answer_span": (answer_span.answer_span, ANSWER, {"of": "rewards.choice:accuracy"}),
}
GRADED = [name for name, (_, row, _) in SHELF.items() if row]

words = st.sampled_from(
    "<think> </think> <answer> </answer> \\boxed{ \\fbox{ { } [ ] ( ) \\ \" ` ```json C B 3 5 8 16"
    " + * / ^ = , . $ and or is a knight knave Zoey Liam answer option correct the \n :"
    " #aBC #aB # aBC 1e999 true null \u0664 \u00b2 \ud800 \x00".split(" ")
)  # fmt: skip
texts = st.one_of(st.text(max_size=60), st.lists(words, max_size=20).map(" ".join),
                  st.lists(words, max_size=20).map("".join))  # fmt: skip
messages = st.dictionaries(
    st.sampled_from(["role", "content"]),
    st.one_of(st.none(), st.integers(), texts,
              st.lists(st.fixed_dictionaries({"text": texts}), max_size=2)),
)  # fmt: skip
hostile = st.one_of(texts, texts, st.none(), st.integers(), st.binary(max_size=9),
                    st.lists(messages, max_size=3), st.lists(st.text(), max_size=2))  # fmt: skip


def ask(name, completions, row=None, ids=None):
    """A shelf reward's values, called as TRL calls it; the same columns for each completion."""
    reward, gradable, options = SHELF[name]
    columns = {key: [value] * len(completions) for key, value in (row or gradable).items()}
    return reward(
        completions=completions,
        completion_ids=ids or [[1, 2, 3] * (i + 1) for i in range(len(completions))],
        prompts=["p"] * len(completions),
        trainer_state=None,
        **columns,
        **options,
    )


@pytest.mark.parametrize("name", SHELF)
@given(completions=st.lists(hostile, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_text_in_as_many_numbers_out(name, completions):
    values = ask(name, completions)
    assert len(values) == len(completions)
    assert all(isinstance(value, float) and abs(value) <= 2 for value in values)
    assert ask(name, completions) == values


@pytest.mark.parametrize("name", [n for n in SHELF if n not in ("kimi", "shorter_better",
                                                               "arora_zanette")])  # fmt: skip
@given(completions=st.lists(hostile, min_size=2, max_size=4))
@settings(max_examples=25, deadline=None)
def test_values_stand_in_the_order_of_the_completions(name, completions):
    ids = [[1, 2] * (i + 1) for i in range(len(completions))]
    backwards = ask(name, completions[::-1], ids=ids[::-1])
    assert backwards[::-1] == ask(name, completions, ids=ids)
    assert backwards[0] == ask(name, completions[-1:], ids=ids[-1:])[0]


@pytest.mark.parametrize("name", GRADED)
@pytest.mark.parametrize("bad", [None, 7.5, "", "no gold at all?", [], ["x"], {"a": 1}, True])
def test_a_row_without_a_usable_gold_gives_none(name, bad):
    _, row, _ = SHELF[name]
    if name in ("text", "kimi", "shorter_better", "arora_zanette", "l1_exact", "l1_max"):
        bad = None if isinstance(bad, str) else bad  # any text is a gold of rewards.exact:text
    broken = dict.fromkeys(row, bad)
    assert ask(name, ["C", "<answer>3 + 5 + 8</answer>"], broken) == [None, None]


@pytest.mark.parametrize("name", SHELF)
def test_a_config_can_name_it(name):
    reward, row, options = SHELF[name]
    check_columns({name: partial(reward, **options)}, ["prompt", *row, "difficulty"])


@pytest.mark.parametrize("name", SHELF)
def test_an_empty_batch_gives_no_values(name):
    assert ask(name, []) == []


@pytest.mark.parametrize("name", GRADED)
def test_columns_of_another_length_are_the_callers_fault(name):
    reward, row, options = SHELF[name]
    columns = {key: [value] for key, value in row.items()}
    with pytest.raises(ValueError, match="2 completions but 1"):
        reward(completions=["C", "C"], completion_ids=[[1], [1]], prompts=["p", "p"],
               **columns, **options)  # fmt: skip


MEGABYTE = 1_000_000
ENDLESS = {
    "letters": "a" * MEGABYTE,
    "digits": "9" * MEGABYTE,
    "spaces": " " * MEGABYTE,
    "lines": "\n" * MEGABYTE,
    "words": "C or " * (MEGABYTE // 5),
    "brackets": "(" * MEGABYTE,
    "tagged brackets": "<answer>" + "(" * MEGABYTE + "3" + ")" * MEGABYTE + "</answer>",
    "arrays": "[" * MEGABYTE + "]" * MEGABYTE,
    "objects": '{"a":' * (MEGABYTE // 5),
    "opened quotes": '"' + "\\" * MEGABYTE,
    "quotes": '\\"' * (MEGABYTE // 2),
    "boxes": "\\boxed{C}" * (MEGABYTE // 9),
    "opened boxes": "\\boxed{" * (MEGABYTE // 7),
    "box heads": "\\boxed" * (MEGABYTE // 6),
    "deep box": "\\boxed{" + "{" * MEGABYTE + "}" * MEGABYTE + "}",
    "thoughts": "<think>" * (MEGABYTE // 7),
    "closed thoughts": "</think>" * (MEGABYTE // 8) + "C",
    "answers": "<answer>" * (MEGABYTE // 8),
    "answer pairs": "<answer>C</answer>" * (MEGABYTE // 18),
    "claims": "Zoey is a knight " * (MEGABYTE // 17),
    "is": "a is" * (MEGABYTE // 4),
    "the answer": "the answer is " * (MEGABYTE // 14),
    "the answer spaced": "answer" + " " * 500_000 + "is C",
    "options": "option C is correct " * (MEGABYTE // 20),
    "tower": "<answer>" + "9^" * 200 + "9</answer>",
    "product": "<answer>" + "9*" * 240 + "9</answer>",
    "signs": "<answer>" + "-" * MEGABYTE + "3</answer>",
    "long number": "<answer>" + "1" * 499 + "</answer>",
    "huge exponent": "1e" + "9" * 400,
    "fences": "```json" * (MEGABYTE // 7),
    "dollars": "$" * MEGABYTE,
    "layout": "\\boxed{" + "\\text{(" * 100_000 + "C",
    "surrogates": "\ud800" * 100_000,
}


@pytest.mark.parametrize("name", [n for n, (_, row, _) in SHELF.items() if n != "prompt_opens"])
def test_hostile_megabytes_take_bounded_time(name):
    for kind, text in ENDLESS.items():
        start = time.process_time()
        ask(name, [text], ids=[[1, 2]])
        seconds = time.process_time() - start
        assert seconds < 1.0, f"{name} took {seconds:.1f} s of {kind}"


def test_a_hundred_thousand_tokens_take_bounded_time():
    for ids in ([7] * 100_000, list(range(100_000))):
        start = time.process_time()
        ask("ngrams", ["x"], ids=[ids])
        ask("kimi", ["x"], ids=[ids])
        assert time.process_time() - start < 1.0


def test_the_shelf_needs_neither_torch_nor_sympy():
    code = (
        "import sys\n"
        "from rewards import (answer_span, choice, completion, countdown, exact, expression,"
        " format, inner, knights_knaves, length, repetition)\n"
        "from envs import algebra, calculator, countdown, hub, knights_knaves, reasoning_gym\n"
        "heavy = {'torch', 'transformers', 'trl', 'sympy', 'datasets', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

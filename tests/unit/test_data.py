"""Rows: where they come from, how columns are named, and what is refused at the door."""

import functools
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from rlkd.config.schema import Batch, Data, FileSource, FunctionSource
from rlkd.data import (
    check_columns,
    check_enough,
    check_overlap,
    check_types,
    load_rows,
    load_splits,
    prepare,
)
from rlkd.errors import ConfigError
from rlkd.geometry import geometry

ROWS = [{"prompt": "1+2=", "answer": "3"}, {"prompt": "2+2=", "answer": "4"}]

ENVIRONMENT = """
def rows(split, n, seed, start=0):
    if n > 50:
        raise ValueError(f"only 50 problems, not {n}")
    shift = 0 if split == "train" else 100
    return [{"prompt": f"{i + start + shift}", "answer": seed} for i in range(n)]

def short(split, n, seed):
    return rows(split, n - 1, seed)

def none(split, n, seed):
    return []

def generator(split, n, seed):
    return (row for row in rows(split, n, seed))

def buggy(split, n, seed):
    return [][0]
"""


@pytest.fixture(autouse=True)
def environment(project: Path) -> None:
    (project / "env_x.py").write_text(ENVIRONMENT)


def a_function(name: str = "rows", size: int = 3, **settings) -> FunctionSource:
    return FunctionSource(use=f"env_x:{name}", size=size, **settings)


def a_file(text: str, name: str = "rows.jsonl", size: int | None = None) -> FileSource:
    Path(name).write_text(text)
    return FileSource(path=name, size=size)


def some_data(**settings) -> Data:
    return Data(train=a_function(), **settings)


def refusal(call, *arguments, **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **settings)
    return str(caught.value)


# functions


def test_function_is_given_size_seed_and_its_own_arguments():
    rows = load_rows(a_function(size=2, seed=7, kwargs={"start": 5}), "train")
    assert rows == [{"prompt": "5", "answer": 7}, {"prompt": "6", "answer": 7}]


def test_evaluation_asks_for_the_heldout_split_unless_told():
    assert load_rows(a_function(size=1), "eval")[0]["prompt"] == "100"
    assert load_rows(a_function(size=1, split="train"), "eval")[0]["prompt"] == "0"


def test_function_that_refuses():
    text = refusal(load_rows, a_function(size=51), "train")
    assert text == "data.train: env_x:rows refuses: only 50 problems, not 51"


def test_a_bug_of_the_environment_keeps_its_traceback():
    with pytest.raises(IndexError):
        load_rows(a_function("buggy"), "train")


def test_function_with_too_few_rows():
    text = refusal(load_rows, a_function("short"), "eval")
    assert "data.eval: env_x:short gave 2 rows where 3 were asked for" in text


def test_function_without_rows():
    assert "found: a list of 0" in refusal(load_rows, a_function("none"), "train")
    assert "found: a generator" in refusal(load_rows, a_function("generator"), "train")


def test_unknown_argument_of_the_function():
    text = refusal(load_rows, a_function(kwargs={"strat": 1}), "train")
    assert "data.train.kwargs.strat: rows has no such parameter" in text
    assert "did you mean: start" in text


# files


def test_every_kind_of_file_gives_the_same_rows():
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), "rows.parquet")
    sources = [
        a_file("\n".join(map(json.dumps, ROWS)) + "\n\n"),
        a_file(json.dumps(ROWS), "rows.json"),
        a_file("prompt,answer\n1+2=,3\n2+2=,4\n", "rows.csv"),
        FileSource(path="rows.parquet"),
    ]
    for source in sources:
        assert load_rows(source, "train") == ROWS


def test_size_takes_the_first_rows_of_a_file():
    assert load_rows(a_file(json.dumps(ROWS), "rows.json", size=1), "train") == ROWS[:1]


def test_file_with_too_few_rows():
    text = refusal(load_rows, a_file(json.dumps(ROWS), "rows.json", size=3), "train")
    assert "data.train.size: 3 rows are wanted but rows.json has 2" in text


def test_missing_file(project: Path):
    text = refusal(load_rows, FileSource(path="nope.jsonl"), "eval")
    assert "data.eval.path: there is no file nope.jsonl" in text
    assert f"the working directory is {project}" in text


def test_file_of_no_known_kind():
    text = refusal(load_rows, a_file("", "rows.txt"), "train")
    assert "found: the ending '.txt'" in text
    assert "expected: one of .jsonl, .json, .parquet, .csv" in text


def test_file_without_rows():
    assert "rows.jsonl has no rows" in refusal(load_rows, a_file("\n"), "train")


def test_bad_line_of_jsonl():
    text = refusal(load_rows, a_file('{"a": 1}\n{"a": \n'), "train")
    assert "rows.jsonl, line 2 is no JSON: Expecting value" in text
    text = refusal(load_rows, a_file("[1]\n"), "train")
    assert "rows.jsonl, line 1 is a list.\n  expected: an object with columns" in text


def test_bad_json():
    assert "rows.json, line 1 is no JSON" in refusal(load_rows, a_file("{", "rows.json"), "train")
    text = refusal(load_rows, a_file('{"prompt": "a"}', "rows.json"), "train")
    assert "rows.json holds one dict" in text


def test_bad_csv():
    text = refusal(load_rows, a_file("prompt,answer\na,1\nb\n", "rows.csv"), "train")
    assert "rows.csv, line 3 has not as many cells as the header (2)" in text
    text = refusal(load_rows, a_file("prompt,answer\na,1,2\n", "rows.csv"), "train")
    assert "rows.csv, line 2 has not as many cells" in text


def test_bad_parquet():
    text = refusal(load_rows, a_file("no", "rows.parquet"), "train")
    assert "rows.parquet is no parquet file" in text


def test_rows_with_different_columns():
    source = a_file('{"prompt": "a", "x": 1}\n{"prompt": "b"}\n')
    text = refusal(load_rows, source, "train")
    assert "row 1 differs from row 0 in x" in text


# columns and prompts


def test_columns_are_renamed():
    rows = [{"question": "a", "gold": 1, "level": 2}]
    data = some_data(prompt_column="question", columns={"answer": "gold"})
    assert prepare(rows, data, "train") == [{"prompt": "a", "answer": 1, "level": 2}]


def test_columns_can_change_places():
    data = some_data(columns={"a": "b", "b": "a"})
    assert prepare([{"prompt": "p", "a": 1, "b": 2}], data, "train") == [
        {"prompt": "p", "b": 1, "a": 2}
    ]


def test_prompt_column_that_is_not_there():
    text = refusal(prepare, [{"question": "a", "answer": 1}], some_data(), "train")
    assert text.startswith("data.prompt_column: data.train has no column 'prompt'.")
    assert "found: question, answer" in text
    data = some_data(prompt_column="qestion")
    assert "did you mean: question" in refusal(prepare, [{"question": "a"}], data, "train")


def test_renamed_column_that_is_not_there():
    data = some_data(columns={"answer": "golden"})
    text = refusal(prepare, [{"prompt": "a", "gold": 1}], data, "eval")
    assert text.startswith("data.columns.answer: data.eval has no column 'golden'.")
    assert "did you mean: gold" in text


def test_renaming_onto_another_column():
    data = some_data(columns={"answer": "gold"})
    text = refusal(prepare, [{"prompt": "a", "gold": 1, "answer": 2}], data, "train")
    assert "renaming 'gold' to 'answer' would overwrite a column of data.train" in text


def test_prompt_column_with_two_names():
    data = some_data(prompt_column="q", columns={"x": "q"})
    text = refusal(prepare, [{"q": "a"}], data, "train")
    assert text.startswith("data.columns.x: 'q' is already the prompt column")


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        (7, "a int: 7"),
        (None, "a NoneType"),
        (" ", "an empty string"),
        ([], "an empty list"),
        (["hi"], "a message without role and content: hi"),
        ([{"role": "user"}], "a message without role and content: {'role': 'user'}"),
    ],
)
def test_prompt_that_cannot_be_used(prompt, found: str):
    text = refusal(prepare, [{"prompt": "fine"}, {"prompt": prompt}], some_data(), "train")
    assert "data.train: the prompt of row 1 cannot be used" in text
    assert f"found: {found}" in text


def test_chat_prompts_and_mixed_kinds():
    chat = {"prompt": [{"role": "user", "content": "hi"}]}
    assert prepare([chat], some_data(), "train") == [chat]
    text = refusal(prepare, [chat, {"prompt": "hi"}], some_data(), "train")
    assert "found: a string where row 0 has chat messages" in text


# overlap and number


def test_overlap_is_counted_and_shown():
    text = refusal(check_overlap, ROWS, [ROWS[1], {"prompt": "new"}])
    assert "data: 1 of 2 held-out prompts are also training prompts" in text
    assert "for example '2+2='" in text
    assert "set data.allow_overlap to true" in text


def test_overlap_of_chats_ignores_the_order_of_keys():
    one = {"prompt": [{"role": "user", "content": "hi"}]}
    two = {"prompt": [{"content": "hi", "role": "user"}]}
    assert "1 of 1 held-out prompts" in refusal(check_overlap, [one], [two])


def test_splits_are_loaded_and_compared():
    data = some_data(eval=a_function(size=2))
    train, heldout = load_splits(data)
    assert len(train) == 3
    assert heldout is not None
    assert [row["prompt"] for row in heldout] == ["100", "101"]
    same = some_data(eval=a_function(size=2, split="train"))
    assert "2 of 2 held-out prompts" in refusal(load_splits, same)
    allowed = some_data(eval=a_function(size=2, split="train"), allow_overlap=True)
    assert load_splits(allowed)[1] is not None
    assert load_splits(some_data())[1] is None


def test_fewer_rows_than_one_rollout_draws():
    batch = Batch(prompts_per_step=4, group_size=2, micro_batch_size=8, steps_per_rollout=2)
    check_enough(ROWS * 4, geometry(batch, 1))
    text = refusal(check_enough, ROWS, geometry(batch, 1))
    assert "there are 2 rows, but one rollout draws 8 distinct prompts" in text
    assert "lower batch.prompts_per_step" in text


# what rewards are given


def test_columns_that_fit():
    def reward(prompts, completions, answer, weight=1.0, **columns): ...

    def closed(
        prompts, completions, completion_ids, trainer_state, log_extra, log_metric, answer
    ): ...

    def fixed(completions, tolerance, **columns): ...

    rewards = {"a": reward, "b": closed, "c": functools.partial(fixed, tolerance=0.1)}
    check_columns(rewards, ["prompt", "answer"])


def test_reward_without_its_column():
    def accuracy(completions, solution, **columns): ...

    text = refusal(check_columns, {"acc": accuracy}, ["prompt", "answer", "level"])
    assert text.startswith("reward 'acc' needs 'solution', and the data has no such column.")
    assert "found: answer, level\n" in text
    assert "rename a column (data.columns)" in text


def test_reward_that_asks_for_the_prompt_of_one_row():
    def accuracy(completions, prompt, **columns): ...

    text = refusal(check_columns, {"acc": accuracy}, ["prompt"])
    assert "reward 'acc' needs 'prompt'" in text
    assert "call it prompts: a reward is given whole lists" in text


def test_reward_that_does_not_take_all():
    def accuracy(completions, answer): ...

    text = refusal(check_columns, {"acc": accuracy}, ["prompt", "answer", "level"])
    assert "no parameter for completion_ids, level, log_extra" in text
    assert "end its parameters with **columns" in text


def test_reward_with_positional_parameters():
    def accuracy(completions, /, **columns): ...

    text = refusal(check_columns, {"acc": accuracy}, ["prompt"])
    assert "reward 'acc': 'completions' can only be given by position" in text


def test_fixed_argument_that_a_column_would_overwrite():
    def accuracy(completions, answer, **columns): ...

    text = refusal(
        check_columns, {"acc": functools.partial(accuracy, answer=3)}, ["prompt", "answer"]
    )
    assert "reward 'acc': kwargs sets 'answer', which each call is given too" in text


def test_a_column_of_text_and_numbers_is_told_by_its_rows():
    rows = [
        {"prompt": "a", "answer": "5"},
        {"prompt": "b", "answer": 5},
        {"prompt": "c", "answer": 6},
    ]
    with pytest.raises(ConfigError, match="'answer' mixes kinds") as caught:
        check_types(rows, "train")
    assert "int in row 1, str in row 0" in str(caught.value)
    check_types([{"x": 1}, {"x": 2.5}, {"x": None}], "train")

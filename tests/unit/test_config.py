"""A run's YAML: what it means, and what each mistake in it is told."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlkd.config import (
    ConfigError,
    RunConfig,
    check_trl_keys,
    dump,
    load,
    resolved,
    validate,
    yaml12,
)
from rlkd.config.help import describe_fields, list_blocks
from rlkd.config.loading import merge, parse_overrides
from rlkd.config.trl_keys import OWNED, REFUSED
from rlkd.errors import nearest

MINIMAL = """
model: {path: student}
algorithm: {use: "rlkd.algorithms.grpo:GRPO"}
data: {train: {use: "envs.arithmetic:rows", size: 8}}
rewards: [{use: "rewards.arithmetic:accuracy"}]
batch: {prompts_per_step: 2, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 8}
optim: {steps: 5, learning_rate: 1e-3}
run: {name: tiny}
"""

TOY = """
from dataclasses import dataclass
from rlkd.algorithms.base import Algorithm

@dataclass(frozen=True, kw_only=True)
class Toy(Algorithm):
    strength: float
    '''How strong it is.'''
    pair: tuple[int, int] = (1, 2)

    def __post_init__(self):
        if self.strength < 0:
            raise ValueError(f"strength is {self.strength}; it must be at least 0")

    def advantages(self, reward_NG): ...
    def loss(self, batch): ...

@dataclass(frozen=True, kw_only=True)
class Abstract(Algorithm):
    pass

class Bare(Toy):
    extra: int = 1

number = 3
"""


pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def toy(project: Path) -> str:
    (project / "toy_x.py").write_text(TOY)
    return "toy_x"


def write(text: str, name: str = "run.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def minimal(*overrides: str, more: str = "") -> RunConfig:
    return load(write(MINIMAL + more), overrides)


def refusal(call, *arguments, **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **settings)
    return str(caught.value)


# what a config means


def test_a_minimal_config_and_its_defaults():
    config = minimal()
    assert config.model.dtype == "float32"
    assert config.teacher is None
    assert config.optim.learning_rate == 1e-3
    assert config.optim.betas == (0.9, 0.999)
    assert config.eval.at_start
    assert config.folder == Path("runs/tiny")
    assert config.rewards[0].label == "accuracy"


def test_every_field_is_documented():
    def undocumented(model, place=""):
        for name, info in model.model_fields.items():
            if not info.description:
                yield f"{place}{name}"

    from rlkd.config import schema

    blocks = [
        b
        for b in vars(schema).values()
        if isinstance(b, type) and b.__module__.startswith(schema.__name__)
    ]
    assert len(blocks) > 10
    missing = [
        f"{block.__name__}.{name}" for block in [*blocks, RunConfig] for name in undocumented(block)
    ]
    assert missing == []


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        minimal().optim.steps = 3  # pyright: ignore[reportAttributeAccessIssue]


# YAML 1.2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("1e-5", 1e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-02", "2024-01-02"),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_yaml_reads_as_people_do(text: str, value: Any):
    read = yaml12.parse(text, "here")
    assert read == value
    assert type(read) is type(value)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(values)
@example("\x85")
@example("a\u2028b\u2029")
@example({"off": "1e-5"})
def test_yaml_round_trip(value):
    assert yaml12.parse(yaml12.write(value), "here") == value


@given(
    kwargs=st.dictionaries(st.text(), values, max_size=3),
    betas=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
    steps=st.integers(1),
    rate=st.floats(0, 1e300),
    teacher=st.none() | st.fixed_dictionaries({"path": st.text(min_size=1)}),
)
def test_dump_loads_back_to_an_equal_config(kwargs, betas, steps, rate, teacher):
    tree = yaml12.parse(MINIMAL, "here")
    tree["teacher"] = teacher
    tree["algorithm"] |= {"use": "a:b", "settings": kwargs}
    tree["data"]["train"]["kwargs"] = kwargs
    tree["optim"] |= {"betas": list(betas), "steps": steps, "learning_rate": rate}
    config = validate(tree, "here")
    assert validate(yaml12.parse(dump(config), "dump"), "dump") == config


def test_resolved_config_loads_back_to_the_same_algorithm():
    config = minimal("--algorithm.clip_high", "0.28")
    path = write(dump(resolved(config)), "again.yaml")
    again = load(path)
    assert again.build_algorithm() == config.build_algorithm()
    assert again.algorithm.settings["clip_low"] == 0.2
    assert "needs_teacher" not in again.algorithm.settings
    assert resolved(again) == again


def test_a_key_that_is_set_twice():
    text = refusal(load, write("run: {name: a}\nmodel: {}\nrun: {name: b}\n"))
    assert text.startswith("run.yaml, line 3, column 1: the key 'run' is already set in line 1")


def test_a_key_that_is_not_text():
    assert "line 1, column 7: the key 5 is not text" in refusal(load, write("trl: {5: a}\n"))


def test_a_file_that_is_not_yaml():
    text = refusal(load, write("model: {path: a\nrun: b\n"))
    assert text.startswith("run.yaml, line 2")
    assert "there: run: b" in text


def test_a_file_that_holds_no_blocks():
    assert "run.yaml: this is no config.\n  found: an empty file" in refusal(load, write("# x\n"))
    assert "found: a list" in refusal(load, write("- a\n"))


def test_a_value_that_is_no_plain_yaml():
    text = refusal(load, write(MINIMAL + "trl: {a: !!binary aGk=}\n"))
    assert "run.yaml: a value is no plain YAML" in text


def test_a_missing_file_names_the_nearest():
    write(MINIMAL, "configs/quickstart.yaml")
    text = refusal(load, "configs/quickstrat.yaml")
    assert "configs/quickstrat.yaml: there is no such config file" in text
    assert "did you mean: configs/quickstart.yaml" in text


def test_a_file_that_cannot_be_read(project: Path):
    assert f"{project}: this file cannot be read" in refusal(load, project)


# base


def test_base_is_relative_to_the_file_and_lies_below_it():
    write(MINIMAL, "configs/shared/base.yaml")
    write("base: shared/base.yaml\noptim: {steps: 7}\nteacher: {path: t}\n", "configs/mid.yaml")
    top = write("base: mid.yaml\nteacher: null\nrun: {name: top}\n", "configs/top.yaml")
    config = load(top)
    assert (config.optim.steps, config.optim.learning_rate) == (7, 1e-3)
    assert config.teacher is None
    assert config.run.name == "top"


def test_a_block_with_another_use_replaces_the_base_block():
    under = {"use": "a:A", "alpha": 1, "beta": 2}
    assert merge(under, {"use": "a:A", "alpha": 3}) == {"use": "a:A", "alpha": 3, "beta": 2}
    assert merge(under, {"use": "b:B"}) == {"use": "b:B"}
    assert merge({"use": "a:rows", "size": 3}, {"path": "f.csv"}) == {"path": "f.csv"}
    assert merge({"path": "f.csv", "size": 3}, {"use": "a:rows"}) == {"use": "a:rows"}
    assert merge({"path": "a", "dtype": "x"}, {"path": "b"}) == {"path": "b", "dtype": "x"}
    assert merge({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


def test_bases_that_go_round_in_a_circle():
    write("base: b.yaml\n", "a.yaml")
    write("base: a.yaml\n", "b.yaml")
    text = refusal(load, "a.yaml")
    assert text == "base: the files go round in a circle: a.yaml -> b.yaml -> a.yaml"


def test_a_missing_base_says_who_named_it():
    write("base: nope.yaml\n", "a.yaml")
    assert "named by: base in a.yaml" in refusal(load, "a.yaml")


def test_a_base_that_is_no_path():
    assert "base is ['b.yaml']; it must be the path" in refusal(load, write("base: [b.yaml]\n"))


# overrides


def test_overrides_of_every_form():
    config = minimal(
        "--optim.steps", "6", "--run.name=other", "--rewards.0.weight", "-2",
        "--teacher.path", "t", "--data.train.kwargs", "{largest: 3}",
        "--rewards.1.use", "rewards.arithmetic:well_formed", "--optim.betas", "[0.9, 0.95]",
    )  # fmt: skip
    assert (config.optim.steps, config.run.name) == (6, "other")
    assert config.optim.betas == (0.9, 0.95)
    assert [reward.weight for reward in config.rewards] == [-2.0, 1.0]
    assert config.teacher is not None
    assert config.teacher.path == "t"
    assert config.data.train.kwargs == {"largest": 3}  # pyright: ignore


def test_the_last_override_of_a_place_wins():
    assert minimal("--optim.steps", "6", "--optim.steps", "7").optim.steps == 7


def test_null_switches_a_block_off():
    assert minimal("--teacher", "null", more="teacher: {path: t}\n").teacher is None


def test_another_use_replaces_its_block_but_keeps_what_is_given_beside_it():
    config = load(
        write(MINIMAL.replace('GRPO"', 'GRPO", clip_low: 0.1')),
        ["--algorithm.alpha", "0.3", "--algorithm.use", "rlkd.algorithms.rlad:RLAD"],
    )
    assert config.algorithm.settings == {"alpha": 0.3}
    config = minimal("--data.train.path", "rows.csv")
    assert config.data.train.size is None


def test_an_override_without_a_value():
    text = refusal(parse_overrides, ["--optim.steps"])
    assert "command line: --optim.steps has no value.\n  found: the end of the line" in text
    text = refusal(parse_overrides, ["--optim.steps", "--run.name", "a"])
    assert "found: --run.name" in text
    assert "--optim.steps=VALUE" in text


@pytest.mark.parametrize("word", ["optim.steps", "--", "--a..b", "--.a"])
def test_a_word_that_is_no_override(word: str):
    assert f"{word!r} is no override" in refusal(parse_overrides, [word, "1"])


def test_an_override_whose_value_is_no_yaml():
    text = refusal(parse_overrides, ["--optim.betas", "[1, 2"])
    assert text.startswith("command line, --optim.betas, line 1")


def test_an_override_into_a_value():
    text = refusal(minimal, "--optim.steps.more", "1")
    assert "--optim.steps.more goes into optim.steps, which is a value.\n  found: 5" in text


@pytest.mark.parametrize("index", ["2", "accuracy", "-1"])
def test_an_override_of_no_item(index: str):
    text = refusal(minimal, f"--rewards.{index}.weight", "1")
    assert f"--rewards.{index}.weight names no item of a list.\n  found: {index!r}" in text
    assert "expected: 0 to 0 for an item that is there, 1 to add one" in text


# what is refused, and in which words


def test_an_unknown_key_names_the_nearest():
    text = refusal(minimal, "--optim.learning_rat", "1")
    assert "run.yaml with --optim.learning_rat: 1 problem" in text
    assert "optim.learning_rat: there is no such key.\n  did you mean: optim.learning_rate" in text
    assert "known here: steps, learning_rate, schedule" in text


def test_an_unknown_block_names_the_nearest():
    assert "optimiser: there is no such key.\n  did you mean: optim\n" in refusal(
        minimal, more="optimiser: {steps: 3}\n"
    )


def test_an_unknown_key_in_a_list_and_in_a_source():
    assert "rewards.0.wieght: there is no such key.\n  did you mean: rewards.0.weight" in refusal(
        minimal, "--rewards.0.wieght", "1"
    )
    text = refusal(minimal, "--data.train.sede", "1")
    assert "data.train.sede: there is no such key.\n  did you mean: data.train.seed" in text
    assert "known here: use, size, seed, split, kwargs" in text


def test_a_key_in_the_wrong_block_says_the_right_one():
    text = refusal(minimal, "--run.learning_rate", "1")
    assert "did you mean: optim.learning_rate\n" in text


def test_a_name_of_trl_says_ours():
    text = refusal(minimal, "--optim.max_steps", "1")
    assert "did you mean: optim.steps (max_steps is TRL's name for it)" in text


def test_a_missing_key():
    text = refusal(validate, {"model": {}}, "here")
    assert "model.path: this key is missing.\n  expected: text" in text
    assert "  about: Folder of the model and its tokenizer" in text
    assert "optim: this key is missing.\n  expected: a block with the keys steps," in text


@pytest.mark.parametrize(
    ("place", "value", "found", "expected"),
    [
        ("optim.steps", "many", "'many' (text)", "a whole number above 0"),
        ("optim.steps", "2.5", "2.5 (a number)", "a whole number above 0"),
        ("optim.steps", "true", "true", "a whole number above 0"),
        ("optim.steps", "0", "0 (a whole number)", "a whole number above 0"),
        ("optim.steps", "null", "nothing (null)", "a whole number above 0"),
        ("optim.learning_rate", ".inf", "inf (a number)", "a number at least 0, finite"),
        ("sampling.top_p", "2", "2 (a whole number)", "a number above 0 and at most 1"),
        ("optim.schedule", "step", "'step' (text)", "one of constant, linear, cosine"),
        ("optim.betas", "[1]", "a list of 1: [1]", "a list of 2, each a number"),
        ("optim.betas", "0.9", "0.9 (a number)", "a list of 2, each a number"),
        ("eval.at_start", "yes", "'yes' (text)", "true or false"),
        ("run.processes", "two", "'two' (text)", "a whole number above 0, or null"),
        ("run.name", "a/b", "'a/b' (text)", "text"),
        ("model.path", "''", "'' (text)", "text, not empty"),
        ("model.chat_template_kwargs", "[1]", "a list of 1: [1]", "a block of `key: value` lines"),
        ("data.columns", "{a: 1}", "1 (a whole number)", "text"),
        ("rewards", "{use: a}", "a block with the keys use", "a list, each a block with the keys"),
        ("rewards", "[]", "a list of 0: []", "a list, each a block with the keys use"),
        ("teacher", "t", "'t' (text)", "a block with the keys path, dtype"),
        ("data.eval", "t", "'t' (text)", "a block with the keys use, size"),
        ("model.lora", "{r: 1, alpha: 1, target_modules: x}", "'x' (text)", "a list, each text"),
    ],
)  # fmt: skip
def test_a_wrong_value(place: str, value: str, found: str, expected: str):
    text = refusal(minimal, f"--{place}", value)
    assert re.search(rf"^{re.escape(place)}[\w.]*: this value cannot be used\.", text, re.M), text
    assert f"\n  found: {found}" in text
    assert f"\n  expected: {expected}" in text
    assert "pydantic" not in text
    assert "http" not in text
    assert "Input should" not in text


def test_a_wrong_value_is_explained():
    text = refusal(minimal, "--batch.group_size", "1")
    assert "about: Completions per prompt; their mean reward is the baseline" in text


def test_quotes_too_many_or_too_few():
    assert "do: remove the quotes" in refusal(minimal, "--optim.steps", "'5'")
    text = refusal(minimal, "--run.name", "5")
    assert "put it in quotes, also on the command line: --run.name='\"5\"'" in text


def test_a_source_that_is_both_or_neither():
    text = refusal(minimal, "--data.eval", "{use: 'a:b', path: c}")
    assert "data.eval: this value cannot be used.\n  found: both path and use" in text
    assert "expected: a block with either `use` (a function) or `path` (a file)" in text
    assert "found: neither use nor path" in refusal(minimal, "--data.eval", "{size: 3}")


def test_all_problems_are_told_at_once():
    text = refusal(minimal, "--optim.steps", "x", "--batch.grop_size", "3")
    assert ": 2 problems" in text


# what must hold between fields


def test_a_warm_up_longer_than_the_run():
    text = refusal(minimal, "--optim.warmup_steps", "6")
    assert "optim: warmup_steps is 6 but the run ends after 5 steps" in text


def test_betas_out_of_range():
    assert "betas are [0.9, 1.0]; each must be" in refusal(minimal, "--optim.betas", "[0.9, 1]")


def test_two_prompt_columns():
    text = refusal(minimal, "--data.columns", "{prompt: a}", "--data.prompt_column", "b")
    assert "data: the prompt column is set twice" in text


def test_evaluation_without_rows():
    assert "eval.every is 2 but data.eval is null" in refusal(minimal, "--eval.every", "2")


HELDOUT = ["--data.eval={use: 'envs.arithmetic:rows', size: 4}", "--eval.every=1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--eval.best=accuracy", "--eval.every=0"],
            "best is 'accuracy' but every is 0: there is one evaluation",
        ),
        (["--eval.patience=3"], "patience is 3 but best is null: no metric says what is better"),
        (["--eval.best_is=lowest"], "best_is is 'lowest' but best is null"),
        (["--eval.best=length"], "best is 'length', and whether more of it is better"),
        (["--eval.best=acuracy"], "eval.best is 'acuracy', which no evaluation"),
        (["--eval.best=reward/none"], "it gives accuracy, length, truncated, rew"),
    ],
)
def test_what_cannot_be_compared(words: list[str], message: str):
    assert message in refusal(minimal, *HELDOUT, *words)


@pytest.mark.parametrize("name", ["accuracy", "length", "truncated", "reward/accuracy"])
def test_metrics_that_can_be_compared(name: str):
    words = [f"--eval.best={name}", "--eval.best_is=highest"]
    assert minimal(*HELDOUT, *words).eval.best == name


def test_two_rewards_of_one_name():
    text = refusal(minimal, "--rewards.1.use", "other:accuracy")
    assert "rewards.0 and rewards.1 are both called 'accuracy'" in text
    assert "rewards.1.name" in text


# trl


def test_trl_keys_that_are_set_elsewhere():
    text = refusal(minimal, "--trl.beta", "0.1", "--trl.max_steps", "3")
    assert "trl.beta: this is set at algorithm.beta." in text
    assert "do: remove it here and set optim.steps" in text


def test_trl_keys_without_effect():
    text = refusal(minimal, "--trl.entropy_coef", "0.1")
    assert "trl.entropy_coef: this cannot be set.\n  why: it belongs to TRL's own loss" in text


def test_trl_keys_that_pass():
    assert minimal("--trl.logging_steps", "5").trl == {"logging_steps": 5}
    check_trl_keys(["logging_steps"], {"logging_steps"})


def test_unknown_trl_keys_name_the_nearest():
    known = {"logging_steps", "num_generations"}
    text = refusal(check_trl_keys, ["loging_steps", "num_generation", "beta"], known)
    assert text.startswith("trl: 3 problems")
    assert (
        "trl.loging_steps: GRPOConfig has no such field.\n  did you mean: trl.logging_steps" in text
    )
    assert "did you mean num_generations? it is set at batch.group_size" in text
    assert "trl.beta: this is set at algorithm.beta" in text


def test_the_table_of_trl_keys_is_true():
    trl = pytest.importorskip("trl")
    known = {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    assert set(OWNED) - known == set()
    assert set(REFUSED) - known == set()
    assert set(OWNED) & set(REFUSED) == set()
    # One config cannot have both.
    both = [("--data.eval.path", "a.csv"), ("--environment.use", "envs.calculator:Calculator")]
    held, tools = (yaml12.parse(dump(resolved(minimal(*words))), "here") for words in both)
    for place in OWNED.values():
        here: Any = tools if place.startswith("environment") else held
        for part in place.split("."):
            assert (int(part) < len(here)) if isinstance(here, list) else (part in here), place
            here = here[int(part)] if isinstance(here, list) else here[part]


# the algorithm


def test_the_algorithm_is_built_from_its_block():
    algorithm: Any = minimal(
        "--algorithm.use",
        "rlkd.algorithms.rlad:RLAD",
        "--algorithm.alpha",
        "0.3",
        "--teacher.path=t",
    ).build_algorithm()
    assert type(algorithm).__name__ == "RLAD"
    assert (algorithm.alpha, algorithm.clip_high) == (0.3, 0.28)


def test_types_of_the_algorithm_are_converted(toy: str):
    built: Any = minimal(
        "--algorithm.use", f"{toy}:Toy", "--algorithm.pair", "[3, 4]", "--algorithm.strength", "1"
    ).build_algorithm()
    assert built.pair == (3, 4)
    assert isinstance(built.strength, float)


def test_an_algorithm_that_needs_a_teacher():
    config = minimal("--algorithm.use", "rlkd.algorithms.rlad:RLAD")
    text = refusal(config.build_algorithm)
    assert "teacher: rlkd.algorithms.rlad:RLAD learns from a teacher and there is none" in text
    assert "set teacher.path" in text


def test_an_unknown_field_of_the_algorithm():
    text = refusal(minimal("--algorithm.clip_hig", "0.3").build_algorithm)
    assert text.startswith("algorithm (rlkd.algorithms.grpo:GRPO): 1 problem")
    assert "algorithm.clip_hig: there is no such key.\n  did you mean: algorithm.clip_high" in text
    text = refusal(minimal("--algorithm.epsilon", "0.3").build_algorithm)
    assert "did you mean: algorithm.clip_low (epsilon is TRL's name for it)" in text
    text = refusal(minimal("--algorithm.needs_teacher", "true").build_algorithm)
    assert "algorithm.needs_teacher: there is no such key" in text


def test_a_wrong_type_of_an_algorithm_field():
    text = refusal(minimal("--algorithm.clip_low", "'0.2'").build_algorithm)
    assert "algorithm.clip_low: this value cannot be used.\n  found: '0.2' (text)" in text
    assert "expected: a number\n" in text
    assert "about: ε_low: the ratio is clipped" in text
    text = refusal(minimal("--algorithm.reduction", "mean").build_algorithm)
    assert "expected: one of grpo, bnpo, dapo, dr_grpo" in text


def test_a_missing_field_of_the_algorithm(toy: str):
    text = refusal(minimal("--algorithm.use", f"{toy}:Toy").build_algorithm)
    assert "algorithm.strength: this key is missing.\n  expected: a number" in text


def test_a_value_that_the_algorithm_refuses(toy: str):
    config = minimal("--algorithm.use", f"{toy}:Toy", "--algorithm.strength", "-1")
    assert refusal(config.build_algorithm) == (
        "algorithm (toy_x:Toy): strength is -1.0; it must be at least 0"
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("number", "is not an algorithm: a subclass of rlkd.algorithms.base:Algorithm"),
        ("Abstract", "is abstract (it lacks advantages, loss); name a subclass"),
        ("Bare", "is not a dataclass; put @dataclass(frozen=True, kw_only=True) above it"),
    ],
)
def test_something_that_is_no_algorithm(toy: str, name: str, problem: str):
    text = refusal(minimal("--algorithm.use", f"{toy}:{name}").build_algorithm)
    assert text.startswith(f"algorithm.use: '{toy}:{name}' {problem}")


def test_a_reference_of_the_algorithm_that_does_not_resolve():
    text = refusal(minimal("--algorithm.use", "rlkd.algorithms.grpo:GPRO").build_algorithm)
    assert text.startswith("algorithm.use: 'rlkd.algorithms.grpo' has no 'GPRO'")
    assert "did you mean: rlkd.algorithms.grpo:GRPO?" in text


# help


def test_help_lists_every_field_with_its_default():
    text = describe_fields("rlkd.algorithms.rlad:RLAD")
    assert "  optim.steps: a whole number above 0; required\n      Optimiser steps in all." in text
    assert "  optim.betas: a list of 2, each a number; default: [0.9, 0.999]" in text
    assert "  rewards.0.weight: a number; default: 1.0" in text
    assert "  algorithm.alpha: a number; default: 0.5\n      Weight of the old policy" in text
    assert "\noptim: Steps, learning rate, schedule.\n" in text
    assert "  data.train, rows from a local file.\n" in text
    assert "  model, " not in text
    assert text.count("algorithm.alpha:") == 1
    for place in ("data.train.path", "data.eval.seed", "model.lora.r", "\ntrl: ", "base: "):
        assert place in text


def test_blocks_in_one_line_each():
    lines = list_blocks().splitlines()
    assert len(lines) == len(RunConfig.model_fields)
    assert lines[0] == "  model        The student: folder, number format, LoRA."


def test_nearest():
    assert nearest("Learning-Rat", ["steps", "learning_rate"]) == "learning_rate"
    assert nearest("x", []) is None


# components


CEEH = "rlkd.algorithms.ceeh:CEEH"


def carrying(*components: dict) -> RunConfig:
    return minimal(f"--components={json.dumps(components)}")


def test_components_are_built_in_their_order():
    bonus = {"use": "rlkd.algorithms.entropy_bonus:EntropyBonus", "coefficient": 0.01}
    lengths = {"use": CEEH, "entropy": None, "length_beta": 0.2}
    built = carrying(lengths, bonus).build_components()
    assert [type(component).__name__ for component in built] == ["CEEH", "EntropyBonus"]
    assert (built[0].length_beta, built[0].variant, built[1].coefficient) == (0.2, "paper", 0.01)
    assert minimal().build_components() == ()


@pytest.mark.parametrize(
    ("algorithm", "want"),
    [
        ("{use: 'rlkd.algorithms.grpo:GRPO'}", "none"),
        ("{use: 'rlkd.algorithms.grpo:GRPO', advantage_scale: sample_std}", "sample_std"),
        ("{use: 'rlkd.algorithms.rlad:RLAD'}", "none"),
        ("{use: 'rlkd.algorithms.rlad:RLAD', advantage_scale: population_std}", "population_std"),
    ],
)
def test_ceeh_leaves_the_spread_out_unless_the_config_sets_it(algorithm, want):
    config = minimal(
        f"--components=[{{use: '{CEEH}'}}]", f"--algorithm={algorithm}", "--teacher={path: t}"
    )
    assert config.build_algorithm().advantage_scale == want
    full = resolved(config)
    assert full.algorithm.settings["advantage_scale"] == want
    assert full.build_algorithm() == config.build_algorithm()


def test_the_resolved_config_shows_what_the_variant_chose():
    config = resolved(carrying({"use": CEEH, "variant": "official_code", "gate": "above"}))
    settings = config.components[0].settings
    assert (settings["shortest"], settings["gate"]) == ("moving_average", "above")
    again = load(write(dump(config), "again.yaml"))
    assert again.build_components() == config.build_components()


def test_mistakes_in_a_component():
    text = refusal(carrying({"use": CEEH, "length_bet": 0.1}).build_components)
    assert "components.0.length_bet: there is no such key" in text
    assert "did you mean: components.0.length_beta" in text
    text = refusal(carrying({"use": CEEH, "hard_from": "luck"}).build_components)
    assert "components.0.hard_from: this value cannot be used.\n  found: 'luck' (text)" in text
    text = refusal(carrying({"use": "rlkd.algorithms.grpo:GRPO"}).build_components)
    assert "components.0.use: 'rlkd.algorithms.grpo:GRPO' is not a component" in text
    text = refusal(carrying({"use": CEEH, "ea_kappa": 0.5}).build_components)
    assert f"components.0 ({CEEH}): ea_kappa is 0.5; it must be above 1" in text
    text = refusal(carrying({"use": CEEH}, {"use": CEEH, "entropy": None}).build_algorithm)
    assert "components: CEEH and CEEH both set the length reward" in text


def test_help_lists_the_fields_of_the_components():
    text = describe_fields(None, [CEEH])
    assert "  components.0.length_beta: a number; default: 0.1\n      β: weight of" in text


# phases, and numbers that move

RLAD = "rlkd.algorithms.rlad:RLAD"
GRPO = "rlkd.algorithms.grpo:GRPO"


def phased(algorithm: dict, *then: dict, more: tuple[str, ...] = ()) -> RunConfig:
    return minimal(
        f"--algorithm={json.dumps(algorithm)}", f"--then={json.dumps(then)}",
        "--teacher={path: t}", "--optim.steps=100", *more,
    )  # fmt: skip


def test_algorithms_that_follow_each_other():
    from rlkd.algorithms.grpo import GRPO as Free
    from rlkd.algorithms.rlad import RLAD as Taught
    from rlkd.algorithms.schedule import Phase, Schedule

    config = phased({"use": RLAD, "until": 0.3}, {"use": RLAD, "alpha": 0.9, "until": 50},
                    {"use": GRPO, "beta": 0.0})  # fmt: skip
    assert config.build_algorithm() == Schedule(
        (
            Phase(algorithm=Taught(), until=0.3),
            Phase(algorithm=Taught(alpha=0.9), until=50),
            Phase(algorithm=Free(beta=0.0)),
        )
    )
    full = resolved(config)
    assert full.then[0].settings["clip_high"] == 0.28
    again = load(write(dump(full), "again.yaml"))
    assert again.build_algorithm() == config.build_algorithm()
    assert resolved(again) == full


def test_a_component_sets_its_defaults_in_every_phase():
    ceeh = f"--components=[{{use: '{CEEH}'}}]"
    built: Any = phased({"use": RLAD, "until": 0.5}, {"use": GRPO}, more=(ceeh,)).build_algorithm()
    assert [phase.algorithm.advantage_scale for phase in built.phases] == ["none", "none"]


def test_a_number_that_moves():
    from rlkd.algorithms.rlad import RLAD as Taught
    from rlkd.algorithms.schedule import Anneal, Phase, Schedule

    config = phased({"use": RLAD, "alpha": {"to": 1.0, "over": [0, 0.5]},
                     "beta": {"from": 0.005, "to": 0.001, "per_step": 1e-5}})  # fmt: skip
    want = Phase(
        algorithm=Taught(beta=0.005),
        anneal={"alpha": Anneal(to=1.0, over=(0.0, 0.5)), "beta": Anneal(to=1e-3, per_step=1e-5)},
    )
    assert config.build_algorithm() == Schedule((want,))
    full = resolved(config)
    assert full.algorithm.settings["alpha"] == {
        "from": 0.5, "to": 1.0, "shape": "linear", "over": [0.0, 0.5], "per_step": None
    }  # fmt: skip
    again = load(write(dump(full), "again.yaml"), ["--algorithm.alpha.to=0.9"])
    built: Any = again.build_algorithm()
    assert built.phases[0].anneal["alpha"].to == 0.9
    assert built.phases[0].anneal["beta"] == want.anneal["beta"]


def test_a_components_number_that_moves():
    from rlkd.algorithms.schedule import Anneal

    bonus = {"use": "rlkd.algorithms.entropy_bonus:EntropyBonus", "coefficient": {"to": 0}}
    config = carrying({"use": CEEH, "entropy": None}, bonus)
    built: Any = config.build_algorithm()
    assert built.components == ({}, {"coefficient": Anneal(to=0.0)})
    assert config.build_components()[1].coefficient == 0.01
    again = load(write(dump(resolved(config)), "again.yaml"))
    assert again.build_algorithm() == built


PLATEAU = {"plateau": "eval/accuracy"}
BONUS = "rlkd.algorithms.entropy_bonus:EntropyBonus"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (({"use": RLAD}, {"use": GRPO}), "algorithm: RLAD is followed by GRPO and has no `until`"),
        (({"use": RLAD, "until": 3},), "algorithm: until is 3 but nothing follows RLAD"),
        (({"use": RLAD, "until": 100}, {"use": GRPO}), "algorithm.until: RLAD would end after"),
        (({"use": RLAD, "until": 2.5}, {"use": GRPO}), "algorithm: until is 2.5; it must be"),
        (({"use": RLAD, "until": 3}, {"use": GRPO, "alpha": 1}), "then.0.alpha: there is no such"),
        (({"use": RLAD, "alpha": {"to": 2.0}},), "the schedule comes to alpha 2"),
        (({"use": RLAD, "alpha": {"too": 0.9}},), "algorithm.alpha.too: there is no such key"),
        (({"use": RLAD, "alpha": {"from": 0.1}},), "algorithm.alpha.to: this key is missing"),
        (({"use": RLAD, "dual_clip": {"to": 3.0}},), "algorithm.dual_clip.from: this value"),
        (({"use": RLAD, "eos": {"to": 3.0}},), "algorithm.eos: this value cannot be used"),
        (({"use": RLAD, "alpha": {"to": 0.9, "over": [1, 0]}},), "the lower first"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_in_a_schedule(config, message):
    assert message in refusal(phased(*config).build_algorithm)


@pytest.mark.parametrize(
    ("until", "more", "message"),
    [
        ({"plateau": "eval/acuracy"}, "--eval.every=2", "algorithm.until.plateau is 'eval/acur"),
        ({"plateau": "train/rewad"}, "--eval.every=2", "did you mean train/reward?"),
        (PLATEAU, "--eval.every=0", "eval.every is 0: there is no evaluation before the last"),
        (PLATEAU | {"patient": 2}, "--eval.every=2", "algorithm.until.patient: there is no such"),
        (True, "--eval.every=2", "algorithm.until: this value cannot be used"),
    ],
    ids=str,
)
def test_mistakes_in_a_plateau(until, more, message):
    held = "--data.eval={use: 'envs.arithmetic:rows', size: 5}"
    text = refusal(phased, {"use": RLAD, "until": until}, {"use": GRPO}, more=(held, more))
    assert message in text


def test_a_plateau_in_a_config():
    from rlkd.algorithms.schedule import Plateau

    held = "--data.eval={use: 'envs.arithmetic:rows', size: 5}"
    until = PLATEAU | {"patience": 2, "at_latest": 0.9}
    config = phased({"use": RLAD, "until": until}, {"use": GRPO}, more=(held, "--eval.every=2"))
    built: Any = config.build_algorithm()
    assert built.phases[0].until == Plateau(plateau="eval/accuracy", patience=2, at_latest=0.9)
    assert load(write(dump(resolved(config)), "again.yaml")).build_algorithm() == built


def test_help_lists_phases_and_what_moves():
    text = describe_fields(RLAD, (), [GRPO])
    assert "algorithm.until: When `then` takes over" in text
    assert "  then.0.beta: a number; default: 0.04" in text
    assert "  algorithm.<number>.per_step: a number, or null; default: null" in text
    assert "  then.0.until.patience: a whole number above 0; default: 3" in text


def test_dynamic_sampling_beside_an_environment_is_refused():
    config = minimal(
        "--algorithm={use: 'rlkd.algorithms.dapo:DAPO'}", "--environment.use=envs.calculator:Tool"
    )
    assert "environment: DAPO samples dynamically" in refusal(config.build_algorithm)
    config.model_copy(update={"environment": None}).build_algorithm()

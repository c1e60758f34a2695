"""`module:name` references: what they find, and what each mistake is told."""

import sys
from pathlib import Path

import pytest

from rlkd.errors import ConfigError
from rlkd.refs import check_arguments, resolve


def refusal(reference: str, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(reference, **options)
    return str(caught.value)


def test_finds_a_name_in_a_module_of_the_working_directory(project: Path):
    (project / "shelf").mkdir()
    (project / "shelf" / "sums.py").write_text("def right(): return 'mine'\n")
    assert resolve("shelf.sums:right")() == "mine"


def test_the_working_directory_wins_over_what_is_installed(project: Path, tmp_path_factory):
    installed = tmp_path_factory.mktemp("site")
    (installed / "rewards_x.py").write_text("who = 'installed'\n")
    (project / "rewards_x.py").write_text("who = 'mine'\n")
    sys.path.insert(0, str(installed))
    assert resolve("rewards_x:who") == "mine"


def test_sees_a_module_written_after_the_last_look(project: Path):
    (project / "first_x.py").write_text("a = 1\n")
    assert resolve("first_x:a") == 1
    (project / "second_x.py").write_text("a = 2\n")
    assert resolve("second_x:a") == 2


def test_name_may_have_dots():
    assert resolve("pathlib:Path.name") is Path.name


def test_no_colon_says_where_it_goes():
    text = refusal("rewards.arithmetic.accuracy", place="rewards.0.use")
    assert text.startswith("rewards.0.use: 'rewards.arithmetic.accuracy' is not a reference.")
    assert "expected: module:name, like rewards.arithmetic:accuracy" in text
    assert "put a colon before the last name: rewards.arithmetic:accuracy" in text


@pytest.mark.parametrize("reference", ["plain", ":name", "module:", ""])
def test_half_a_reference(reference: str):
    assert "expected: module:name" in refusal(reference)


def test_missing_module_names_the_nearest_and_where_it_looked(project: Path):
    (project / "envs_x").mkdir()
    (project / "envs_x" / "__init__.py").write_text("")
    (project / "envs_x" / "arithmetic.py").write_text("")
    text = refusal("envs_x.arithmetik:rows")
    assert "there is no module 'envs_x.arithmetik' (for 'envs_x.arithmetik:rows')" in text
    assert f"envs_x is {project}/envs_x/__init__.py" in text
    assert "did you mean: envs_x.arithmetic?" in text


def test_missing_top_module_names_the_nearest_of_the_working_directory(project: Path):
    (project / "my_rewards.py").write_text("")
    text = refusal("my_reward:f")
    assert "there is no module 'my_reward'" in text
    assert f"looked first in {project}" in text
    assert "did you mean: my_rewards?" in text


def test_an_import_error_inside_the_module_is_told_apart(project: Path):
    (project / "needy_x.py").write_text("\nimport sympyy_not_there\n")
    text = refusal("needy_x:f")
    assert "the module 'needy_x' is there but fails while it is imported" in text
    assert "ModuleNotFoundError: No module named 'sympyy_not_there' (needy_x.py, line 2)" in text


def test_a_syntax_error_says_its_line(project: Path):
    (project / "broken_x.py").write_text("a = 1\ndef f(:\n")
    assert "SyntaxError: invalid syntax (broken_x.py, line 2) (broken_x.py, line 2)" in refusal(
        "broken_x:f"
    )


def test_missing_name_names_the_nearest(project: Path):
    (project / "sums_x.py").write_text("def accuracy(): ...\ndef length(): ...\n_private = 1\n")
    text = refusal("sums_x:acuracy")
    assert "'sums_x' has no 'acuracy' (for 'sums_x:acuracy')" in text
    assert "found: sums_x.py defines accuracy, length" in text
    assert "did you mean: sums_x:accuracy?" in text
    assert "more" not in text


def test_many_names_are_counted(project: Path):
    (project / "many_x.py").write_text("\n".join(f"a{i:02} = {i}" for i in range(15)))
    assert "many_x.py defines a00, a01," in refusal("many_x:b")
    assert "a11 and 3 more" in refusal("many_x:b")


def test_not_callable_where_a_function_is_wanted():
    assert resolve("math:pi") > 3
    text = refusal("math:pi", want_callable=True, place="data.train.use")
    assert text.startswith("data.train.use: 'math:pi' is not a function.")
    assert "pi in math is float, which cannot be called" in text


def rows(split, n, seed=0, *, largest=9): ...


def rows_of_anything(split, n, seed, **kwargs): ...


def argument_refusal(function, arguments: dict, kwargs: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        check_arguments(function, arguments, kwargs, "data.train")
    return str(caught.value)


GIVEN = {"split": "train", "n": 1, "seed": 0}


def test_arguments_that_fit():
    check_arguments(rows, GIVEN, {"largest": 3}, "data.train")
    check_arguments(rows_of_anything, GIVEN, {"what": 3}, "data.train")


def test_unknown_argument_names_the_nearest():
    text = argument_refusal(rows, GIVEN, {"larges": 3})
    assert text.startswith("data.train.kwargs.larges: rows has no such parameter.")
    assert "did you mean: largest" in text
    assert "found: rows(split, n, seed, largest)" in text


def test_argument_that_rlkd_gives_itself():
    text = argument_refusal(rows, GIVEN, {"n": 3})
    assert text == "data.train.kwargs.n: 'n' is given by rlkd itself; set data.train.size"


def test_function_that_does_not_take_what_it_is_given():
    text = argument_refusal(lambda split, n: [], GIVEN, {})
    assert "does not take 'seed', which rlkd gives it" in text
    assert "(split, n, seed, ...)" in text


def test_function_that_needs_more():
    text = argument_refusal(lambda split, n, seed, level: [], GIVEN, {})
    assert "needs 'level' and is not given it" in text
    assert "do: set data.train.kwargs.level" in text

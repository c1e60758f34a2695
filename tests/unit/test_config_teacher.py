"""The `teacher:` block: a folder, or a class with its arguments, some of them teachers again."""

import pytest

from rlkd import config as configs
from rlkd.config import ConfigError
from rlkd.config.help import describe_fields
from rlkd.config.teacher import build_teacher, check_teacher
from rlkd.door import check_model_folder
from rlkd.teacher import quantized
from rlkd.teacher.inner import SelfTeacher
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.privileged import Privileged
from rlkd.teacher.several import Routed


def read(*words: str):
    return configs.load("configs/quickstart.yaml", list(words))


def block(text: str):
    return read(f"--teacher={text}").teacher


def test_a_folder_is_a_model_of_its_own():
    config = read("--teacher.dtype=bfloat16")
    assert config.local_teacher is config.teacher
    assert isinstance(build_teacher(config.teacher), LocalTeacher)


def test_a_class_gets_its_arguments_and_the_teachers_among_them():
    config = read(
        "--teacher={use: 'rlkd.teacher.privileged:Privileged', template: '{prompt}{answer}',"
        " inner: {use: 'rlkd.teacher.inner:SelfTeacher', decay: 0.9}, check: warn}"
    )
    assert config.local_teacher is None
    assert config.teacher.check == "warn"
    check_teacher(config.teacher, check_model_folder)
    made = build_teacher(config.teacher)
    assert isinstance(made, Privileged)
    assert isinstance(made.inner, SelfTeacher)
    assert made.inner.decay == 0.9


def test_a_mapping_of_teachers():
    text = (
        "{use: 'rlkd.teacher.several:Routed', column: kind, teachers:"
        " {sum: {path: configs/models/tiny_teacher},"
        " other: {use: 'rlkd.teacher.inner:SelfTeacher'}}}"
    )
    made = build_teacher(block(text))
    assert isinstance(made, Routed)
    assert isinstance(made.teachers["sum"], LocalTeacher)
    assert isinstance(made.teachers["other"], SelfTeacher)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{use: 'rlkd.teacher.inner:SelfTeachr'}", "did you mean: rlkd.teacher.inner:SelfTeacher"),
        ("{use: 'rlkd.algorithms.grpo:GRPO'}", r"teacher\.use: .* is not a teacher"),
        ("{use: 'rlkd.teacher.inner:InnerTeacher'}", r"is abstract \(it lacks _weights\)"),
        ("{use: 'rlkd.teacher.inner:SelfTeacher', decaay: 0.5}", "did you mean: decay"),
        (
            "{use: 'rlkd.teacher.several:Mixed', teachers: {a: {path: nowhere}, b: {path: no}}}",
            r"teacher\.teachers\.a\.path: there is no folder nowhere",
        ),
        (
            "{use: 'rlkd.teacher.several:Mixed', teachers: {a: {path: 3}, b: {path: nowhere}}}",
            r"teacher\.teachers\.a\.path: this value cannot be used",
        ),
        ("{use: 'rlkd.teacher.server:ServerTeacher'}", r"do: set teacher\.url"),
        ("{use: 'rlkd.teacher.server:ServerTeacher', uri: x}", r"teacher\.uri: .* no such"),
    ],
)
def test_what_is_wrong_is_told_at_the_door(text, message):
    with pytest.raises(ConfigError, match=message):
        check_teacher(block(text), check_model_folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{use: 'rlkd.teacher.inner:SelfTeacher', decay: 1.0}", r"teacher .*decay is 1\.0"),
        ("{use: 'rlkd.teacher.server:ServerTeacher', url: here}", "it must be like http"),
        ("{use: 'rlkd.teacher.server:ServerTeacher', url: 'http://h:1/?key=x'}", "behind a"),
        ("{use: 'rlkd.teacher.server:ServerTeacher', url: 'http://a', temperature: 0.7}", "at 1"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_block(text, message):
    with pytest.raises(ConfigError, match=message):
        build_teacher(block(text))


@pytest.mark.parametrize(
    ("method", "installed", "gpu", "message"),
    [
        ("torchao_int8", False, True, r"teacher\.quantization: .* needs the package torchao"),
        ("bitsandbytes_8bit", False, True, "needs the package bitsandbytes: pip install"),
        ("bitsandbytes_4bit", True, False, "needs a GPU, and this machine has none: take torchao"),
        ("bitsandbytes_4bit", True, True, None),
        ("bitsandbytes_8bit", True, False, None),
        ("torchao_int8", True, False, None),
    ],
)
def test_weights_that_cannot_be_quantised_here(method, installed, gpu, message, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: name if installed else None)
    monkeypatch.setattr(quantized, "_has_gpu", lambda: gpu)
    teacher = block("{path: configs/models/tiny_teacher, quantization: %s}" % method)  # noqa: UP031
    if message is None:
        check_teacher(teacher, check_model_folder)
        return
    for look in (
        lambda: check_teacher(teacher, check_model_folder),
        lambda: build_teacher(teacher),
    ):
        with pytest.raises(ConfigError, match=message):
            look()


@pytest.mark.parametrize("key", ["quantization=torchao_int8", "device_map=auto"])
def test_weights_are_in_one_place(key):
    with pytest.raises(ConfigError, match="keep one"):
        read("--teacher.offload=true", f"--teacher.{key}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{use: 'rlkd.teacher.inner:SelfTeacher', overlap: on}",
            r"teacher\.use: .*SelfTeacher' scores with the student's own weights.*auto or off",
        ),
        (
            "{use: 'rlkd.teacher.privileged:Privileged', template: '{prompt}{answer}', overlap: on,"
            " inner: {use: 'rlkd.teacher.inner:AdapterOff'}}",
            r"teacher\.inner\.use: .*AdapterOff' scores with the student's own weights",
        ),
        (
            "{use: 'rlkd.teacher.privileged:Privileged', template: '{prompt}{answer}',"
            " inner: {path: configs/models/tiny_teacher, on_bad_scores: mask}}",
            r"teacher\.inner\.on_bad_scores: .*ignored. Write teacher\.on_bad_scores",
        ),
        (
            "{use: 'rlkd.teacher.several:Mixed', teachers: {a: {path: configs/models/tiny_teacher,"
            " check: warn}, b: {path: configs/models/tiny_teacher}}}",
            r"teacher\.teachers\.a\.check: .*ignored",
        ),
    ],
)
def test_how_a_teacher_is_asked_is_said_once_and_where_it_can_be(text, message):
    with pytest.raises(ConfigError, match=message):
        check_teacher(block(text), check_model_folder)


def test_how_a_teacher_is_asked_stands_in_both_kinds_of_block():
    assert read().teacher.overlap == "auto"
    assert read("--teacher.overlap=on", "--teacher.on_bad_scores=mask").teacher.overlap == "on"
    made = block("{use: 'rlkd.teacher.inner:SelfTeacher', overlap: off, on_bad_scores: mask}")
    assert (made.overlap, made.on_bad_scores, made.settings) == ("off", "mask", {})
    with pytest.raises(ConfigError, match=r"teacher\.overlap"):
        read("--teacher.overlap=maybe")


def test_the_help_of_both_blocks_says_it():
    text = describe_fields()
    for name in ("check", "overlap", "on_bad_scores"):
        assert text.count(f"  teacher.{name}: one of ") == 2


@pytest.mark.parametrize("word", ["overlap=on", "on_bad_scores=mask"])
@pytest.mark.parametrize("name", ["luffy", "sft_kd"])
def test_how_a_teacher_is_asked_is_not_said_where_nobody_asks_it(name, word):
    key, value = word.split("=")
    config = configs.load(f"configs/{name}.yaml", [f"--teacher.{word}"])
    with pytest.raises(ConfigError) as error:
        config.build_algorithm()
    said = str(error.value)
    assert f"teacher.{key}: rlkd.algorithms.{name}:" in said
    assert "this would be ignored" in said
    assert f"found: {value}" in said
    assert "do: leave it out" in said
    own = {"overlap": "auto", "on_bad_scores": "stop"}[key]
    configs.load(f"configs/{name}.yaml", [f"--teacher.{key}={own}"]).build_algorithm()
    then = "--then=[{use: 'rlkd.algorithms.rlad:RLAD'}]"
    configs.load(
        f"configs/{name}.yaml", [f"--teacher.{word}", then, "--algorithm.until=2"]
    ).build_algorithm()


def test_the_help_lists_the_arguments_of_a_teachers_class():
    text = describe_fields(teacher="rlkd.teacher.server:ServerTeacher")
    assert "teacher.url: text; required\n      of the server, like" in text
    assert "teacher.api_key_env: text, or null; default: null\n      environment variable" in text
    assert "teacher.patience: a number; default: 300.0\n      seconds to go on asking" in text
    assert "are never learnt from. 0: at the start and on resume alone." in text  # its last line
    around = describe_fields(teacher="rlkd.teacher.privileged:Privileged")
    assert "teacher.inner: a teacher's block; required" in around
    assert "teacher.url" not in describe_fields()

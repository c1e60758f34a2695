"""Traces made by rejection sampling, kept in a file, held against a run's rows."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd import config as configs
from rlkd.cli import main
from rlkd.config import ConfigError
from rlkd.difficulty import prompt_key
from rlkd.traces import file, source
from rlkd.traces.book import Trace
from rlkd.traces.door import check_traces
from rlkd.traces.making import Asked, make
from tests.conftest import WORDS, make_model

TINY = ("configs/models/tiny_student", "configs/models/tiny_teacher")
LUFFY = "configs/luffy.yaml"


def luffy(**traces) -> configs.RunConfig:
    return configs.load(LUFFY, [f"--data.traces={json.dumps(traces)}"])


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY[0])


@pytest.fixture(scope="module")
def made(tokenizer):
    """Eight answers to each of six prompts at a temperature at which the teacher errs."""
    from envs.arithmetic import rows
    from rewards.arithmetic import accuracy

    teacher = AutoModelForCausalLM.from_pretrained(TINY[1])
    asked = Asked(samples=8, temperature=3.0, max_completion_length=24)
    data = rows(split="train", n=6, seed=0)
    rewards = {"accuracy": accuracy}
    result = make(teacher, tokenizer, tokenizer, data, rewards, "accuracy", asked, name="tiny")
    return data, result


# -- making ---------------------------------------------------------------------------------------


def test_only_answers_with_the_full_mark_are_kept(made, tokenizer):
    from rewards.arithmetic import accuracy

    data, result = made
    assert result.answers == 48
    assert 0 < len(result.lines) < 48
    assert result.generated_tokens > sum(len(line["token_ids"]) for line in result.lines)
    rows = {row["prompt"]: row for row in data}
    for line in result.lines:
        row = rows[line["prompt"]]
        columns = {key: [value] for key, value in row.items() if key != "prompt"}
        text = tokenizer.decode(line["token_ids"], skip_special_tokens=True)
        assert accuracy(completions=[text], **columns) == [1.0]
        assert line["reward/accuracy"] == 1.0
        assert line["token_ids"][-1] == tokenizer.eos_token_id
        assert line["token_ids"].count(tokenizer.eos_token_id) == 1
        assert file.encode(line["text"], tokenizer) == Trace(tuple(line["token_ids"]))
        assert line["sampling"] == {
            "teacher": "tiny", "temperature": 3.0, "top_p": 1.0, "max_completion_length": 24,
            "seed": 0,
        }  # fmt: skip
    kept = {line["prompt"] for line in result.lines}
    assert result.without == 6 - len(kept)
    assert f"{len(result.lines)} of 48 answers to 6 prompts kept" in str(result)


def test_answers_that_are_cut_off_are_not_kept(tokenizer):
    from envs.arithmetic import rows

    teacher = AutoModelForCausalLM.from_pretrained(TINY[1])
    asked = Asked(samples=1, max_completion_length=2)
    data = rows(split="train", n=6, seed=0)
    result = make(
        teacher, tokenizer, tokenizer, data,
        {"all": lambda completions, **_: [1.0] * len(completions)}, "all", asked,
    )  # fmt: skip
    assert result.lines == []
    assert result.without == 6


def test_a_reward_that_cannot_grade_keeps_nothing(tokenizer):
    from envs.arithmetic import rows

    teacher = AutoModelForCausalLM.from_pretrained(TINY[1])
    data = rows(split="train", n=4, seed=0)
    result = make(
        teacher, tokenizer, tokenizer, data,
        {"all": lambda completions, **_: [None, 0.5, 1.0, 2.0]}, "all",
        Asked(samples=1, max_completion_length=24),
    )  # fmt: skip
    assert [line["prompt"] for line in result.lines] == [row["prompt"] for row in data[2:]]


def test_a_teacher_that_numbers_tokens_otherwise_gives_its_text(tokenizer, tmp_path):
    """The same words in another order: its ids would be other words to the student."""
    words = [*WORDS[:2], *reversed(WORDS[2:])]
    path = make_model(tmp_path / "other", seed=3, words=words)
    student = AutoTokenizer.from_pretrained(make_model(tmp_path / "student", seed=1))
    teacher, other = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    result = make(
        teacher, other, student, [{"prompt": f"{a}+1="} for a in range(8)],
        {"all": lambda completions, **_: [1.0] * len(completions)}, "all",
        Asked(samples=4, max_completion_length=40),
    )  # fmt: skip
    assert result.lines
    for line in result.lines:
        assert student.decode(line["token_ids"][:-1]) == line["text"]
        assert line["tokenizer"] == file.fingerprint(student) != file.fingerprint(other)


# -- the file -------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written(made, tokenizer, tmp_path):
    _, result = made
    file.write(tmp_path / "traces.jsonl", result.lines)
    pairs = file.read(str(tmp_path / "traces.jsonl"), tokenizer, "data.traces")
    want = [(prompt_key(line["prompt"]), Trace(tuple(line["token_ids"]))) for line in result.lines]
    assert pairs == want


def test_text_alone_is_encoded_with_the_students_end_token(tokenizer, tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_text('{"prompt": "6*7      =", "text": "2#2"}\n')
    ((key, trace),) = file.read(str(path), tokenizer, "data.traces")
    assert key == prompt_key("6*7      =")
    assert tokenizer.decode(trace.ids) == "2#2<eos>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": "0123456789abcdef"}, "are not the student's.*tokenizer 0123456789abcdef"),
        ({"token_ids": [9999]}, "are not the student's"),
        ({"token_ids": []}, "are not the student's"),
        ({"prompt": None}, "row 0 of .* is no trace"),
        ({"token_ids": None, "text": None}, "row 0 of .* is no trace"),
    ],
)
def test_what_is_no_trace_of_this_student_is_refused(change, message, made, tokenizer, tmp_path):
    path = tmp_path / "traces.jsonl"
    file.write(path, [made[1].lines[0] | change])
    with pytest.raises(ConfigError, match=f"(?s)data.traces.path: .*{message}"):
        file.read(str(path), tokenizer, "data.traces")


# -- held against the rows ------------------------------------------------------------------------


ROWS = [{"prompt": f"{a}+1="} for a in range(3)]


def pair(number: int, length: int = 3) -> tuple[int, Trace]:
    return prompt_key(ROWS[number]["prompt"]), Trace((5,) * length)


def test_a_prompt_without_a_trace():
    pairs = [pair(0), pair(2)]
    with pytest.raises(ConfigError, match=r"(?s)1 of 3 training prompts have no trace.*'1\+1='"):
        source.hold_against(luffy(path="x.jsonl"), ROWS, pairs)
    traces, rows = source.hold_against(luffy(path="x.jsonl", missing="skip"), ROWS, pairs)
    assert rows == [ROWS[0], ROWS[2]]
    assert len(traces) == 2
    traces, rows = source.hold_against(luffy(path="x.jsonl", missing="on_policy"), ROWS, pairs)
    assert rows == ROWS
    assert len(traces) == 2


def test_traces_of_other_prompts_are_told_whatever_the_policy():
    for missing in ("skip", "on_policy"):
        config = luffy(path="x.jsonl", missing=missing)
        with pytest.raises(ConfigError, match="3 of 3 training prompts have no trace"):
            source.hold_against(config, ROWS, [(prompt_key("other"), Trace((1,)))])


def test_a_trace_longer_than_the_limit():
    pairs = [pair(0), pair(1), pair(2), pair(2, 25)]
    with pytest.raises(ConfigError, match=r"(?s)1 of 4 traces are longer.*up to 25 tokens.* is 24"):
        source.hold_against(luffy(path="x.jsonl"), ROWS, pairs)
    traces, rows = source.hold_against(luffy(path="x.jsonl", too_long="drop"), ROWS, pairs)
    assert rows == ROWS
    assert traces.longest == 3


def test_traces_of_a_column(tokenizer):
    rows = [{"prompt": "6*7=", "solution": "2#2"}, {"prompt": "1+1=", "solution": None}]
    pairs = source._of_column(rows, "solution", tokenizer)
    assert [(key, tokenizer.decode(trace.ids)) for key, trace in pairs] == [
        (prompt_key("6*7="), "2#2<eos>")
    ]
    with pytest.raises(ConfigError, match=r"(?s)no column 'answer'.*prompt, solution"):
        source._of_column(rows, "answer", tokenizer)
    with pytest.raises(ConfigError, match="holds a int, and a trace is text"):
        source._of_column([{"prompt": "1=", "solution": 4}], "solution", tokenizer)


# -- the door -------------------------------------------------------------------------------------

GRPO, SFT = "rlkd.algorithms.grpo:GRPO", "rlkd.algorithms.sft_kd:SFTKD"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.traces=null"], "learns from answers that the teacher wrote, and there are none"),
        ([f"--algorithm.use={GRPO}"], "GRPO has no use for traces"),
        (["--teacher=null"], "data.traces.samples: the teacher shall write the traces and there"),
        ([f"--algorithm.use={SFT}"], "missing: on_policy, and .*SFTKD learns from traces only"),
        (["--algorithm.off_policy=8"], "off_policy is 8 of groups of 8"),
        (["--data.traces={path: nowhere.jsonl}"], "data.traces.path: there is no file nowhere"),
    ],
)
def test_the_door(words, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        check_traces(configs.load(LUFFY, words))


def test_the_shipped_configs_pass_the_door():
    for name in (LUFFY, "configs/sft_kd.yaml"):
        check_traces(configs.load(name, []))
    check_traces(configs.load("configs/quickstart.yaml", []))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{}", "nothing is set; set exactly one of path"),
        ("{path: a.jsonl, samples: 2}", "path and samples is set; set exactly one"),
        ("{path: a.jsonl, temperature: 0.7}", "temperature says how the run's teacher writes"),
        ("{samples: 0}", "samples"),
    ],
)
def test_the_block(block, message):
    with pytest.raises(ConfigError, match=message):
        configs.load(LUFFY, [f"--data.traces={block}"])


# -- the command ----------------------------------------------------------------------------------


def test_the_command_writes_what_a_run_reads(tmp_path, capsys, tokenizer):
    out = tmp_path / "traces.jsonl"
    words = ["traces", LUFFY, "--samples", "2", "--out", str(out), "--data.train.size=20"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "of 40 answers to 20 prompts kept" in said
    assert f"data.traces: {{path: {out}}}" in said
    pairs = file.read(str(out), tokenizer, "data.traces")
    assert f"traces: {len(pairs)} of 40" in said
    assert main(words) == 2
    assert f"{out} is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher=null"], "the config names no teacher"),
        (["--samples", "0"], "--samples must be above 0"),
        (["--top-p", "1.5"], "--top-p must be above 0 and at most 1"),
        (["--out", "a.txt"], "it must end in .jsonl"),
    ],
)
def test_the_command_refuses(words, message, capsys):
    assert main(["traces", LUFFY, *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_fails_where_nothing_was_kept(tmp_path, capsys):
    out = tmp_path / "traces.jsonl"
    words = ["--out", str(out), "--data.train.size=6", "--sampling.max_completion_length=2"]
    assert main(["traces", LUFFY, *words]) == 1
    assert "0 of 24 answers to 6 prompts kept (0.0%), 6 prompts have none" in (
        capsys.readouterr().out
    )

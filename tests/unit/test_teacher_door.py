"""What a config says of its teacher, held against the algorithm, the student, the folders and the
rows, before any weights are loaded."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rlkd
from rlkd.cli import main
from rlkd.config import ConfigError, RunConfig, load
from rlkd.config.teacher import build_teacher, places_of_teachers
from rlkd.door import check_at_door
from rlkd.evaluation import model as evaluating
from rlkd.planning.plan import plan
from rlkd.run import train
from rlkd.teacher.cached import Cached
from rlkd.teacher.door import check_rows
from rlkd.teacher.probe import check_servers
from tests.conftest import WORDS, make_model
from tests.small_server import Small

CONFIG = """
model: {path: STUDENT}
teacher: {path: TEACHER}
algorithm: {use: "rlkd.algorithms.rlad:RLAD"}
data: {train: {path: rows.jsonl}}
rewards: [{use: "reward_t:right"}]
batch: {prompts_per_step: 2, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 40}
optim: {steps: 5, learning_rate: 1e-3}
run: {name: tiny}
"""
ROWS = [{"prompt": f"{a}+1=", "answer": str(a + 1), "kind": "sum"} for a in range(8)]
OWN = """
from rlkd.teacher.base import Teacher

class Own(Teacher):
    def __init__(self, path, temperature=None):
        raise RuntimeError("loads a model")
    def prepare(self, device): ...
    def check_tokenizer(self, tokenizer, model_vocab_size): ...
    def score(self, prompt_ids, completion_ids, temperature): ...
"""
SELF = "use: 'rlkd.teacher.inner:SelfTeacher'"
OFF = "use: 'rlkd.teacher.inner:AdapterOff'"
SHOWN = "use: 'rlkd.teacher.privileged:Privileged'"
SERVER = "use: 'rlkd.teacher.server:ServerTeacher'"
CACHED = "use: 'rlkd.teacher.cached:Cached'"
ALIGNED = "use: 'rlkd.teacher.other_tokenizer:OtherTokenizer'"
MIXED = "use: 'rlkd.teacher.several:Mixed'"
ROUTED = "use: 'rlkd.teacher.several:Routed'"
NOBODY = "url: 'http://127.0.0.1:9'"
LORA = "--model.lora={r: 2, alpha: 4}"
GRPO = "--algorithm.use=rlkd.algorithms.grpo:GRPO"


@pytest.fixture(autouse=True)
def files(project: Path, student: str, teacher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    Path("run.yaml").write_text(CONFIG.replace("STUDENT", student).replace("TEACHER", teacher))
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    Path("reward_t.py").write_text("def right(completions, **columns): ...\n")
    Path("own_t.py").write_text(OWN)


@pytest.fixture
def local(teacher: str) -> str:
    """The block of the local teacher, for a place inside others."""
    return f"{{path: '{teacher}'}}"


def read(*words: str) -> RunConfig:
    return load("run.yaml", list(words))


def let_pass(*words: str) -> None:
    check_at_door(read(*words), 1)


def refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    """What `rlkd train --dry-run` says; nothing is left behind."""
    before = {path for path in Path().rglob("*") if "__pycache__" not in path.parts}
    assert main(["train", "run.yaml", "--dry-run", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert before == {path for path in Path().rglob("*") if "__pycache__" not in path.parts}
    assert "run tiny: 1 problem" in captured.err
    return captured.err


# an algorithm without a use for a teacher


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([GRPO], "teacher: rlkd.algorithms.grpo:GRPO has no use for a teacher"),
        (["--algorithm.use=rlkd.algorithms.dapo:DAPO"], "dapo:DAPO has no use for a teacher"),
        (
            [GRPO, "--algorithm.until=2", "--then=[{use: 'rlkd.algorithms.gspo:GSPO'}]"],
            "none of rlkd.algorithms.grpo:GRPO, then rlkd.algorithms.gspo:GSPO has a use",
        ),
        ([GRPO, f"--teacher={{{SELF}, decay: 0.9}}"], "found: teacher.use rlkd.teacher.inner:"),
    ],
)  # fmt: skip
def test_a_teacher_that_nothing_learns_from(words, said, capsys):
    text = refused(capsys, *words)
    assert said in text
    assert "do: set teacher to null (--teacher=null)" in text
    with pytest.raises(ConfigError, match="use for a teacher"):
        plan(read(*words), 1, 8, cuda=False)


@pytest.mark.parametrize(
    "words",
    [
        [],
        [GRPO, "--algorithm.until=2", "--then=[{use: 'rlkd.algorithms.rlad:RLAD'}]"],
        # It writes the traces, or has written them.
        ["--algorithm.use=rlkd.algorithms.luffy:LUFFY", "--data.traces={samples: 2}"],
        ["--algorithm.use=rlkd.algorithms.sft_kd:SFTKD", "--data.traces={column: answer}"],
        [GRPO, "--teacher=null"],
    ],
)
def test_a_teacher_that_something_learns_from(words):
    let_pass(*words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--algorithm.until=2", "--then=[{use: 'rlkd.algorithms.grpo:GRPO'}]"],
        [GRPO, "--algorithm.until=2", "--then=[{use: 'rlkd.algorithms.rlad:RLAD'}]"],
    ],
)
def test_no_teacher_where_a_phase_needs_one(words, capsys):
    text = refused(capsys, *words, "--teacher=null")
    assert "rlkd.algorithms.rlad:RLAD learns from a teacher and there is none" in text


def test_a_teacher_without_the_traces_that_it_shall_write_is_one_problem(capsys):
    text = refused(capsys, "--algorithm.use=rlkd.algorithms.luffy:LUFFY")
    assert "data.traces: rlkd.algorithms.luffy:LUFFY learns from answers that the teacher" in text


def test_traces_of_a_teacher_that_only_scores(capsys):
    luffy = ["--algorithm.use=rlkd.algorithms.luffy:LUFFY", "--data.traces={samples: 2}"]
    text = refused(capsys, *luffy, f"--teacher={{{SERVER}, {NOBODY}}}")
    assert "that of teacher.use only scores; a model in a folder (teacher.path) writes" in text
    assert main(["traces", "run.yaml", f"--teacher={{{SERVER}, {NOBODY}}}"]) == 2
    assert "teacher.use only scores, and a model in a folder is to write" in capsys.readouterr().err


def test_a_run_without_a_teacher_is_checked_without_transformers():
    root = str(Path(rlkd.__file__).parents[1])
    code = (
        f"import sys; sys.path.append({root!r}); from rlkd.cli import main; "
        f"print(main(['train', 'run.yaml', '--dry-run', '--teacher=null', {GRPO!r}])); "
        "sys.exit('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("\n0\n"), done.stdout + done.stderr
    assert done.returncode == 0


# the student itself


@pytest.mark.parametrize(
    "block", [f"{{{OFF}}}", f"{{{SHOWN}, template: '{{prompt}}{{answer}}', inner: {{{OFF}}}}}"]
)
def test_adapters_that_are_not_there_cannot_be_switched_off(block, capsys, student):
    text = refused(capsys, f"--teacher={block}")
    assert "AdapterOff is the student without its adapters, and this student has none" in text
    assert f"(teacher.path {student})" in text
    let_pass(f"--teacher={block}", LORA)


def test_the_student_of_this_very_step(capsys):
    text = refused(capsys, f"--teacher={{{SELF}}}")
    assert "SelfTeacher is the student of this very step here.\n  found: decay 0.0, every 1" in text
    assert "found: decay 0.0" in refused(capsys, f"--teacher={{{SELF}, temperature: 1.0}}")
    for lags in ("decay: 0.9", "every: 2", "temperature: 0.5"):
        let_pass(f"--teacher={{{SELF}, {lags}}}")
    let_pass(f"--teacher={{{SHOWN}, template: '{{prompt}}{{answer}}', inner: {{{SELF}}}}}")


# what the algorithm reads, and at which temperature


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (f"{{{SERVER}, {NOBODY}}}", "ServerTeacher gives log-probabilities of sampled tokens only"),
        (f"{{{SELF}, decay: 0.9}}", "the head of SelfTeacher moves with the student"),
        (None, "teacher.offload is true"),
    ],
)
def test_a_loss_over_the_whole_vocabulary(block, said, capsys):
    gkd = "--algorithm.use=rlkd.algorithms.gkd:GKD"
    words = [gkd, f"--teacher={block}" if block else "--teacher.offload=true"]
    text = refused(capsys, *words)
    assert "GKD compares student and teacher over the whole vocabulary" in text
    assert said in text
    let_pass(gkd)


def test_dynamic_sampling_beside_a_teacher_at_work(capsys):
    words = [
        "--algorithm.use=rlkd.algorithms.dapo:DAPO", "--algorithm.until=2",
        "--algorithm.dynamic_sampling=true", "--then=[{use: 'rlkd.algorithms.rlad:RLAD'}]",
    ]  # fmt: skip
    assert "DAPO samples dynamically" in refused(capsys, *words, "--teacher.overlap=on")
    let_pass(*words, "--teacher.overlap=auto")


@pytest.mark.parametrize("around", ["%s", f"{{{CACHED}, path: c.db, of: t, inner: %s}}"])
def test_a_temperature_that_a_server_cannot_score_at(around, capsys):
    words = ["--sampling.temperature=0.7", f"--teacher={around % f'{{{SERVER}, {NOBODY}}}'}"]
    assert "scores at temperature 1 only, and the student samples at 0.7" in refused(capsys, *words)
    words[1] = f"--teacher={around % f'{{{SERVER}, {NOBODY}, temperature: 1.0}}'}"
    let_pass(*words)


# tokens


def test_another_tokenizer(capsys, tmp_path, local):
    words = [*WORDS[:4], WORDS[5], WORDS[4], *WORDS[6:]]
    other = make_model(tmp_path / "other", seed=2, words=words)
    text = refused(capsys, f"--teacher.path={other}")
    assert "numbers its tokens differently from the student: 2 of 20 tokens differ" in text
    assert "OtherTokenizer aligns the text" in text
    mixed = f"{{{MIXED}, teachers: {{a: {local}, b: {{path: {other}}}}}}}"
    assert "teacher.teachers.b: teacher" in refused(capsys, f"--teacher={mixed}")
    let_pass(f"--teacher={{{ALIGNED}, inner: {{path: {other}}}}}")
    served = f"--teacher={{{SERVER}, {NOBODY}, tokenizer: {other}}}"
    assert "2 of 20 tokens differ" in refused(capsys, served)
    (tmp_path / "empty").mkdir()
    empty = f"--teacher={{{SERVER}, {NOBODY}, tokenizer: {tmp_path}/empty}}"
    assert f"teacher.tokenizer: the tokenizer in {tmp_path}/empty cannot be" in refused(
        capsys, empty
    )


def test_a_tokenizer_that_is_not_there(capsys, tmp_path, teacher):
    shutil.copytree(teacher, tmp_path / "bare")
    for file in (tmp_path / "bare").glob("token*"):
        file.unlink()
    text = refused(capsys, f"--teacher.path={tmp_path}/bare")
    assert f"teacher.path: the tokenizer in {tmp_path}/bare cannot be loaded" in text


def test_a_tokenizer_whose_name_on_the_hub_is_in_the_cache(capsys, tmp_path, monkeypatch, teacher):
    cache, revision = tmp_path / "hub", "0" * 40
    named = cache / "models--some--model"
    (named / "refs").mkdir(parents=True)
    (named / "refs" / "main").write_text(revision)
    kept = named / "snapshots" / revision
    kept.mkdir(parents=True)
    for file in Path(teacher).glob("tokenizer*"):
        shutil.copy(file, kept)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    let_pass(f"--teacher={{{SERVER}, {NOBODY}, tokenizer: some/model}}")
    text = refused(capsys, f"--teacher={{{SERVER}, {NOBODY}, tokenizer: some/other}}")
    assert "teacher.tokenizer: there is no folder some/other" in text
    assert "hf download NAME --local-dir FOLDER" in text


def test_what_a_tokenizer_breaks_with(capsys, monkeypatch, teacher):
    from rlkd.teacher import outline

    def breaks(path: str) -> None:
        raise ImportError("needed from one of:\n sentencepiece")

    monkeypatch.setattr(outline.AutoTokenizer, "from_pretrained", breaks)
    text = refused(capsys)
    assert f"teacher.path: the tokenizer in {teacher} cannot be loaded" in text
    assert "found: ImportError: needed from one of: sentencepiece" in text


# folders and devices


def copied(teacher: str) -> Path:
    return Path(shutil.copytree(teacher, "copied"))


def as_adapters(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "models/base"}')


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def as_gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")


def as_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def without_a_part(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (as_adapters, "copied holds adapters, no whole model.\n  found: adapter_config.json (of the"
                      " base model models/base)"),
        (without_weights, "copied has a config.json and no weights"),
        (as_gguf, "note: a .gguf is llama.cpp's format"),
        (as_pointer, "found: a pointer of Git LFS"),
        (without_a_part, "copied lacks 1 of its 2 files of weights.\n  found: no model-2.safe"),
    ],
)  # fmt: skip
def test_a_folder_without_a_whole_model(change, said, teacher, capsys):
    change(copied(teacher))
    for place in ("teacher.path", "model.path"):
        text = refused(capsys, f"--{place}=copied")
        assert f"\n{place}: " in text
        assert said in text
        assert "\n  do: " in text
    check_at_door(read("--model.path=copied"), 1, output=False, teacher=False)


def test_a_file_is_no_model(capsys):
    Path("m.gguf").write_bytes(b"GGUF")
    text = refused(capsys, "--teacher.path=m.gguf")
    assert "teacher.path: m.gguf is a file, and a model is a folder" in text
    assert "do: download the model that it was made from" in text


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("cuda:0", "'cuda:0' is not on this machine.\n  found: no GPU, only the CPU"),
        ("meta", "'meta' is not on this machine"),
        ("atuo", "'atuo' is no device.\n  did you mean: auto"),
    ],
)
def test_devices_that_are_not_there(wanted, said, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert f"teacher.device_map: {said}" in refused(capsys, f"--teacher.device_map={wanted}")
    for there in ("auto", "cpu"):
        let_pass(f"--teacher.device_map={there}")


# values


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (f"{{{SERVER}, url: 'localhost:8000'}}", "url is 'localhost:8000'; it must be like http"),
        (
            f"{{{SERVER}, url: 'http://h:1/v1/completions'}}",
            "one of the server's endpoints; they are put behind it. Give the address alone:"
            " http://h:1",
        ),
        (
            f"{{{SERVER}, {NOBODY}, canary_every: -1}}",
            "canary_every is -1; it counts batches, at least 1 (0: at the start)",
        ),
        (f"{{{SERVER}, {NOBODY}, temperature: 0}}", "temperature is 0; a server scores"),
        (
            f"{{{SERVER}, {NOBODY}, canary_every: often}}",
            "teacher.canary_every: this value cannot be used.\n  found: 'often' (text)\n"
            "  expected: a whole number",
        ),
        (f"{{{SERVER}, {NOBODY}, timeout: 2m}}", "teacher.timeout: this value cannot be used"),
        (
            f"{{{SERVER}, {NOBODY}, api_key_env: NO_SUCH_KEY_X}}",
            "NO_SUCH_KEY_X, which is not set: put",
        ),
        (f"{{{SERVER}, {NOBODY}, concurrency: 0}}", "concurrency is 0; it counts requests"),
        (f"{{{SERVER}, {NOBODY}, timeout: 0}}", "timeout is 0; these are seconds, above 0"),
        (f"{{{SERVER}, {NOBODY}, patience: -1}}", "patience is -1; these are seconds"),
        (f"{{{SERVER}, url: 8000}}", "teacher.url: this value cannot be used"),
        (
            "{use: 'rlkd.teacher.local:LocalTeacher', path: LOCAL_PATH}",
            "do: remove use, and name the model's folder in teacher.path",
        ),
        ("LOCAL_PATH", "do: --teacher.path=/"),
        (
            f"{{{MIXED}, teachers: [LOCAL, LOCAL]}}",
            "expected: names, each with a teacher: a block with path",
        ),
        (f"{{{SERVER}, url: 'http://h:80a0'}}", "url: Port could not be cast to integer value"),
        (
            f"{{{SERVER}, {NOBODY}, tokenizer: modls/a}}",
            "teacher.tokenizer: there is no folder modls/a.\n  found: the working directory is",
        ),
        (
            f"{{{MIXED}, teachers: {{a: LOCAL, b: LOCAL}}, weights: [1, 2]}}",
            "expected: a block of `key: value` lines, or null",
        ),
        (f"{{{CACHED}, of: t, path: ., inner: LOCAL}}", ". is a folder, and a cache is one file"),
        (f"{{{SELF}, decay: 1.5}}", "decay is 1.5; it is the old average's weight, in [0, 1)"),
        (
            f"{{{SHOWN}, template: '{{prompt}}{{answer}}', inner: models/big}}",
            "teacher.inner: this value cannot be used.\n  found: 'models/big' (text)\n"
            "  expected: a teacher: a block with path, or with use and its arguments",
        ),
        (
            f"{{{SHOWN}, template: '{{prompt}}{{answer}}', inner: {{pth: models/big}}}}",
            "teacher.inner: this value cannot be used.\n  found: a block with the keys pth",
        ),
        (
            f"{{{SHOWN}, template: '{{answer}}', inner: {{{SELF}}}}}",
            "it must hold {prompt} once",
        ),
        (
            f"{{{MIXED}, teachers: {{a: LOCAL, b: models/big}}}}",
            "teacher.teachers.b: this is no teacher.\n  found: 'models/big' (text)",
        ),
        (f"{{{MIXED}, teachers: {{a: LOCAL}}}}", "teachers names a; give at least two"),
        (
            f"{{{MIXED}, teachers: {{a: LOCAL, b: LOCAL}}, weights: {{a: 2, b: -1}}}}",
            "each must be above 0 (a teacher without weight",
        ),
        (
            f"{{{MIXED}, teachers: {{a: LOCAL, b: LOCAL}}, weights: {{a: 1}}}}",
            "weights are for a, teachers are a, b; give each teacher a weight",
        ),
        (
            f"{{{MIXED}, teachers: {{a: LOCAL, b: LOCAL}}, weights: {{a: 1, b: half}}}}",
            "teacher.weights.b: this value cannot be used.\n  found: 'half' (text)\n"
            "  expected: a number",
        ),
        (
            f"{{{ALIGNED}, inner: {{{SERVER}, {NOBODY}}}}}",
            "only a local teacher with its own tokenizer (a block with path) can be aligned",
        ),
        (f"{{{CACHED}, of: t, inner: LOCAL}}", "Cached needs 'path' and is not given it"),
        (
            f"{{{CACHED}, of: t, path: c.db, inner: {{{SELF}, decay: 0.9}}}}",
            "is stale, and a cache",
        ),
        (
            f"{{{CACHED}, of: t, path: c.db, inner: LOCAL, offline: true}}",
            "offline is true and there is no file c.db",
        ),
        (f"{{{SELF}, decay: 0.9, overlap: on}}", "teacher.overlap is on. Set that to auto or off"),
        ("{path: LOCAL_PATH, temperature: 0}", "teacher.temperature: this value cannot be used"),
        ("{path: LOCAL_PATH, quantization: int8}", "expected: one of bitsandbytes_8bit, "),
        (
            f"{{{SHOWN}, template: '{{prompt}}{{answer}}',"
            " inner: {path: LOCAL_PATH, temperature: 0}}",
            "teacher.inner.temperature: this value cannot be used.\n  found: 0 (a whole number)",
        ),
    ],
)
def test_a_value_that_cannot_be_used(block, said, capsys, local):
    path = local[len("{path: ") : -1]
    word = f"--teacher={block.replace('LOCAL_PATH', path).replace('LOCAL', local)}"
    assert main(["train", "run.yaml", "--dry-run", word]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert not Path("c.db").exists()


def test_weights_need_not_add_to_one(local):
    let_pass(
        f"--teacher={{{MIXED}, teachers: {{a: {local}, b: {local}}}, weights: {{a: 2, b: 2}}}}"
    )


def test_a_class_of_ones_own_is_not_made_at_the_door(capsys):
    let_pass("--teacher={use: 'own_t:Own', path: x}")
    let_pass(f"--teacher={{{SHOWN}, template: '{{prompt}}{{answer}}',"
             " inner: {use: 'own_t:Own', path: x}}")  # fmt: skip
    let_pass(f"--teacher={{{ALIGNED}, inner: {{use: 'own_t:Own', path: x}}}}")
    assert "needs 'path'" in refused(capsys, "--teacher={use: 'own_t:Own'}")


def test_what_a_class_of_ones_own_computes_is_not_asked_at_the_door():
    Path("own_t.py").write_text(
        OWN
        + """
class Asks(Own):
    @property
    def scores_at(self): return frozenset({9.0})
    @property
    def shares_student(self): return True
    @property
    def computes_here(self): return False
    @property
    def temperature(self): return 9.0
"""
    )
    for overlap in ("auto", "on"):
        let_pass(f"--teacher={{use: 'own_t:Asks', path: x, overlap: {overlap}}}")
    let_pass("--teacher={use: 'own_t:Asks', path: x, temperature: {of: x}}")


def test_a_class_of_ones_own_may_align_other_tokens(tmp_path):
    words = [*WORDS[:4], WORDS[5], WORDS[4], *WORDS[6:]]
    other = make_model(tmp_path / "other", seed=2, words=words)
    Path("own_t.py").write_text(
        """
from rlkd.teacher.base import Teacher
from rlkd.teacher.other_tokenizer import OtherTokenizer
from rlkd.teacher.wrapping import Wrapping

class Aligned(OtherTokenizer): ...

class Wraps(Wrapping):
    def __init__(self, inner: Teacher):
        super().__init__(inner)
    def check_tokenizer(self, tokenizer, model_vocab_size): ...
"""
    )
    for name in ("Aligned", "Wraps"):
        let_pass(f"--teacher={{use: 'own_t:{name}', inner: {{path: {other}}}}}")


@pytest.mark.parametrize(
    ("annotation", "value", "teachers"),
    [
        ("dict[str, Any]", "{path: scores.db}", []),
        ("dict[str, str] | None", "{path: scores.db}", []),
        ("dict[str, Any]", "{a: {path: scores.db}}", []),
        ("Teacher | None", "null", []),
        ("Teacher | str", "text", []),
        ("Teacher | None", "LOCAL", ["teacher.argument"]),
        ("SelfTeacher", f"{{{SELF}}}", ["teacher.argument"]),
        ("Any", "LOCAL", ["teacher.argument"]),
        ("object", "LOCAL", ["teacher.argument"]),
        ("Scorer", "LOCAL", ["teacher.argument"]),
        ("'OnlyCheckersSeeIt'", "LOCAL", ["teacher.argument"]),
        ("dict", "{a: LOCAL}", ["teacher.argument.a"]),
        ("Mapping[str, Teacher] | None", "{path: LOCAL}", ["teacher.argument.path"]),
    ],
)
def test_what_is_a_teacher_among_the_arguments_of_ones_own_class(
    annotation, value, teachers, local
):
    Path("own_t.py").write_text(
        f"""
from collections.abc import Mapping
from typing import Any, Protocol
from rlkd.teacher.base import Teacher
from rlkd.teacher.inner import SelfTeacher

class Scorer(Protocol):
    def score(self, prompt_ids, completion_ids, temperature): ...

class Own(SelfTeacher):
    def __init__(self, argument: {annotation} = None): ...
"""
    )
    word = f"--teacher={{use: 'own_t:Own', argument: {value.replace('LOCAL', local)}}}"
    let_pass(word)
    block = read(word).teacher
    assert block is not None
    assert places_of_teachers(block) == ["teacher", *teachers]


@pytest.mark.parametrize("key", ["sk-made-up-123", "hf_made_up_123"])
def test_a_key_in_the_place_of_its_variables_name_is_not_repeated(key, capsys):
    text = refused(capsys, f"--teacher={{{SERVER}, {NOBODY}, api_key_env: {key}}}")
    assert "api_key_env names ***, which is not set: put the key into" in text
    assert "made" not in text


# caches


def test_a_cache_of_something_else(capsys, local):
    word = f"--teacher={{{CACHED}, of: t, path: c.db, inner: {local}}}"
    Path("c.db").write_text("no database, but longer than a header of SQLite" * 3)
    assert "c.db cannot be used as a cache: file is not a database" in refused(capsys, word)
    Path("c.db").unlink()
    with sqlite3.connect("c.db") as database:
        database.execute("CREATE TABLE runs (name TEXT)")
    text = refused(capsys, word)
    assert "c.db is a database of something else (its tables: runs)" in text
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("runs",)]
    database.close()


def test_a_cache_of_another_teacher(capsys, local, teacher):
    from rlkd.teacher.local import LocalTeacher

    kept = Cached(LocalTeacher.from_pretrained(teacher), "c.db", of="big")
    assert not Path("c.db").exists()
    kept.score([[2]], [[3, 4]], 1.0)
    kept.close()
    word = f"--teacher={{{CACHED}, of: %s, path: c.db, inner: {local}, offline: true}}"
    assert "c.db holds scores of 'big', and this teacher is 'small'" in refused(
        capsys, word % "small"
    )
    let_pass(word % "big")


# rows


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (
            f"{{{SHOWN}, template: '{{prompt}}{{anwser}}', inner: {{{SELF}}}}}",
            "template names the column 'anwser', which the data does not have.\n"
            "  found: prompt, answer, kind\n  did you mean: answer",
        ),
        (
            f"{{{CACHED}, of: t, path: c.db, inner: {{{SHOWN}, template: '{{prompt}}{{hint}}',"
            " inner: LOCAL}}",
            "template names the column 'hint'",
        ),
        (
            f"{{{SHOWN}, template: '{{prompt}}{{answer:.2f}}', inner: {{{SELF}}}}}",
            "template is '{prompt}{answer:.2f}', which row 0 cannot fill: Unknown format code 'f'",
        ),
        (
            f"{{{ROUTED}, column: kid, teachers: {{sum: LOCAL, other: LOCAL}}}}",
            "column names the column 'kid', which the data does not have.\n"
            "  found: prompt, answer, kind\n  did you mean: kind",
        ),
        (
            f"{{{ROUTED}, column: kind, teachers: {{sums: LOCAL, other: LOCAL}}}}",
            "8 of 8 rows name a teacher that is not there.\n  found: in the column 'kind' 'sum';"
            " the teachers are sums, other\n  did you mean: sums for 'sum'",
        ),
        (
            f"{{{ROUTED}, column: kind, teachers: {{other: LOCAL, sum: {{{SHOWN},"
            " template: '{prompt}{hint}', inner: LOCAL}}}",
            "template names the column 'hint'",
        ),
    ],
)
def test_columns_that_the_data_lacks(block, said, local):
    config = read(f"--teacher={block.replace('LOCAL', local)}")
    check_at_door(config, 1)
    with pytest.raises(ConfigError) as refusal:
        check_rows(config, ROWS)
    assert f"teacher: {said}" in str(refusal.value)


def test_rows_with_nothing_to_show():
    shown = f"{{{SHOWN}, template: '{{prompt}}{{answer}}', inner: {{{SELF}}}}}"
    config = read(f"--teacher={shown}")
    check_rows(config, ROWS)
    empty = [row | {"answer": "" if place in (2, 5) else "1"} for place, row in enumerate(ROWS)]
    with pytest.raises(ConfigError, match="2 of 8 rows have nothing in the column 'answer'"):
        check_rows(config, empty)
    # Who is asked about such rows is shown nothing.
    rows = [row | {"kind": "plain"} if not row["answer"] else row for row in empty]
    routed = f"{{{ROUTED}, column: kind, teachers: {{plain: {{{SELF}}}, sum: {shown}}}}}"
    check_rows(read(f"--teacher={routed}"), rows)


def test_a_run_looks_at_its_rows_before_weights(monkeypatch):
    from rlkd import run

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(run, "Trainer", never)
    monkeypatch.setattr(run, "build_teacher", never)
    word = f"--teacher={{{SHOWN}, template: '{{prompt}}{{hint}}', inner: {{{SELF}}}}}"
    with pytest.raises(ConfigError, match="template names the column 'hint'"):
        run.train(read(word))
    short = Small([{"id": "t", "max_model_len": 44}])
    with short as server, pytest.raises(ConfigError, match="reads at most 44 tokens"):
        run.train(read(f"--teacher={{{SERVER}, url: '{server.url}'}}"))


def test_a_run_asks_a_class_of_ones_own_about_its_rows_once_it_is_made(local):
    Path("own_t.py").write_text(
        """
from rlkd.teacher.privileged import Privileged

class Shows(Privileged): ...
"""
    )
    inner = f"{{use: 'own_t:Shows', template: '{{prompt}}{{hint}}', inner: {local}}}"
    for block in (inner, f"{{{CACHED}, of: t, path: c.db, inner: {inner}}}"):
        with pytest.raises(ConfigError, match="teacher: template names the column 'hint'"):
            train(read(f"--teacher={block}"))
        assert not Path("runs/tiny/config.yaml").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}['model']", "KeyError: 'model' (own_t.py, line 5)"),
        ("open('no.db')", "No such file or directory: 'no.db' (own_t.py, line 5)"),
        ("import json; json.loads(5)", "the JSON object must be str"),
    ],
)
def test_a_class_of_ones_own_that_breaks_when_it_is_made(line, said):
    Path("own_t.py").write_text(
        f"""
from rlkd.teacher.inner import SelfTeacher
class Own(SelfTeacher):
    def __init__(self):
        {line}
"""
    )
    block = read("--teacher={use: 'own_t:Own'}").teacher
    assert block is not None
    with pytest.raises(ConfigError, match=r"teacher \(own_t:Own\): Own cannot be made") as refusal:
        build_teacher(block)
    assert said in str(refusal.value)
    assert "(own_t.py, line 5)" in str(refusal.value)


# names


@pytest.mark.parametrize(
    ("use", "full"),
    [
        ("inner:SelfTeacher", "rlkd.teacher.inner:SelfTeacher"),
        ("teacher.inner:SelfTeacher", "rlkd.teacher.inner:SelfTeacher"),
        ("SelfTeacher", "rlkd.teacher.inner:SelfTeacher"),
        ("rlkd.teacher:ServerTeacher", "rlkd.teacher.server:ServerTeacher"),
        ("rlkd.teacher.server.ServerTeacher", "rlkd.teacher.server:ServerTeacher"),
        ("rlkd.teacher.server:SelfTeacher", "rlkd.teacher.inner:SelfTeacher"),
        ("rlkd.teacher.inner:SelfTeachr", "rlkd.teacher.inner:SelfTeacher?"),
    ],
)
def test_a_class_that_is_named_without_its_module(use, full, capsys):
    assert f"  did you mean: {full}\n" in refused(capsys, f"--teacher={{use: '{use}'}}")


def test_a_module_of_ones_own_that_breaks_is_not_taken_for_a_short_name(capsys):
    Path("inner.py").write_text("1 / 0")
    assert "ZeroDivisionError" in refused(capsys, "--teacher={use: 'inner:SelfTeacher'}")


def test_a_block_that_is_neither_a_folder_nor_a_class(capsys):
    assert main(["train", "run.yaml", "--dry-run", f"--teacher={{{NOBODY}}}"]) == 2
    text = capsys.readouterr().err
    assert "found: neither use nor path, but url" in text
    assert "with `use` (a class, like rlkd.teacher.server:ServerTeacher)" in text
    assert main(["train", "run.yaml", "--dry-run", "--teacher={temperature: 0.5}"]) == 2
    assert "teacher.path: this key is missing" in capsys.readouterr().err


# servers


def served(server: Small, more: str = "") -> RunConfig:
    return read(f"--teacher={{{SERVER}, url: '{server.url}'{more}}}")


def test_a_server_that_reads_too_few_tokens(capsys):
    # Prompts of 4 tokens, answers of 40, one that it writes.
    with Small([{"id": "t", "max_model_len": 44}]) as server:
        check_servers(served(server))  # the prompts are not known yet
        with pytest.raises(ConfigError) as refusal:
            check_servers(served(server), ROWS)
        text = str(refusal.value)
        assert f"teacher: {server.url} reads at most 44 tokens (its max_model_len)" in text
        assert "prompts of up to 4 tokens, answers of up to 40" in text
        assert "it writes itself: 45\n" in text
        assert "--max-model-len 45" in text
    with Small([{"id": "t", "max_model_len": 45}]) as server:
        check_servers(served(server), ROWS)
    with Small([{"id": "t", "max_model_len": 41}]) as server:
        text = refused(capsys, f"--teacher={{{SERVER}, url: '{server.url}'}}")
        assert "a prompt, answers of up to 40" in text
        assert "42 or more" in text


def test_answers_that_are_too_long_may_be_left_out(caplog):
    def mask(server: Small, *words: str) -> RunConfig:
        teacher = f"--teacher={{{SERVER}, url: '{server.url}', on_bad_scores: mask}}"
        return read(teacher, *words)

    with Small([{"id": "t", "max_model_len": 44}]) as server:
        check_servers(mask(server), ROWS)
        assert f"{server.url} reads at most 44 tokens" in caplog.text
        assert "mask leaves such answers out" in caplog.text
    rows = [*ROWS, {"prompt": "1" * 90, "answer": "1", "kind": "long"}]
    with Small([{"id": "t", "max_model_len": 6}]) as server:  # the other prompts and one token
        check_servers(mask(server), rows)
    with Small([{"id": "t", "max_model_len": 5}]) as server:
        with pytest.raises(ConfigError, match="and no answer is short enough"):
            check_servers(mask(server), rows)
        with pytest.raises(ConfigError, match="at the first such answer"):
            check_servers(served(server), rows)


def test_what_a_privileged_server_is_shown_counts():
    with Small([{"id": "t", "max_model_len": 47}]) as server:
        inner = f"{{{SERVER}, url: '{server.url}'}}"
        shown = f"{{{SHOWN}, template: '{{prompt}}{{answer}};;', inner: {inner}}}"
        outer = f"{{{SHOWN}, template: '{{prompt}}{{answer}};;;;;;;;', inner: %s}}"
        check_servers(read(f"--teacher={inner}"), ROWS)
        with pytest.raises(ConfigError, match="prompts of up to 7 tokens"):
            check_servers(read(f"--teacher={shown}"), ROWS)
        with pytest.raises(ConfigError, match="prompts of up to 7 tokens"):  # the inner one wins
            check_servers(read(f"--teacher={outer % shown}"), ROWS)


def test_models_that_a_server_does_not_serve(local):
    with Small([{"id": "big", "max_model_len": 99}, {"id": "other"}]) as server:
        with pytest.raises(ConfigError, match=r"teacher\.model: .* serves several models"):
            check_servers(served(server))
        with pytest.raises(ConfigError, match=r"does not serve 'bigg'\.\n.*big, other\n.*big"):
            check_servers(served(server, ", model: bigg"))
        check_servers(served(server, ", model: big"), ROWS)
        check_servers(served(server, ", model: other"), ROWS)
        inner = f"{{a: {local}, b: {{{SERVER}, url: '{server.url}', model: c}}}}"
        with pytest.raises(ConfigError, match=r"teacher\.teachers\.b\.model: "):
            check_servers(read(f"--teacher={{{MIXED}, teachers: {inner}}}"))


def test_adapters_that_a_server_serves_read_what_their_model_reads():
    served_models = [{"id": "base", "max_model_len": 44}, {"id": "lora", "parent": "base"}]
    with Small(served_models) as server, pytest.raises(ConfigError, match="at most 44"):
        check_servers(served(server, ", model: lora"), ROWS)


def test_what_a_class_of_ones_own_shows_a_server_is_not_known():
    Path("own_t.py").write_text(
        """
from rlkd.teacher.privileged import Privileged

class Cuts(Privileged): ...
"""
    )
    with Small([{"id": "t", "max_model_len": 44}]) as server:
        inner = f"{{{SERVER}, url: '{server.url}'}}"
        block = f"{{use: 'own_t:Cuts', template: '{{prompt}}{{answer}}', inner: {inner}}}"
        check_servers(read(f"--teacher={block}"), ROWS)


def test_what_is_routed_to_a_server_counts():
    rows = [*ROWS, {"prompt": "12345678901=", "answer": "1", "kind": "other"}]
    with Small([{"id": "t", "max_model_len": 45}]) as server:
        config = f"{{{ROUTED}, column: kind, teachers: {{%s: {{{SERVER}, url: '{server.url}'}},"
        config += f" %s: {{{SELF}}}}}}}"
        check_servers(read(f"--teacher={config % ('sum', 'other')}"), rows)
        with pytest.raises(ConfigError, match="prompts of up to 12 tokens"):
            check_servers(read(f"--teacher={config % ('other', 'sum')}"), rows)


@pytest.mark.parametrize(
    ("models", "said"),
    [(401, "HTTP 401 to /v1/models"), (404, "HTTP 404"), ([{"name": "t"}], "lists no models")],
)
def test_a_server_that_refuses(models, said, capsys):
    with Small(models) as server:
        text = refused(capsys, f"--teacher={{{SERVER}, url: '{server.url}'}}")
        assert f"teacher: {server.url} is no server of vLLM, or wants a key.\n  found: " in text
        assert said in text


@pytest.mark.parametrize("models", [None, 503, 429])
def test_a_server_that_is_not_up_yet_is_the_runs_to_wait_for(models):
    if models is None:
        check_servers(read(f"--teacher={{{SERVER}, {NOBODY}}}"), ROWS)
        return
    with Small(models) as server:
        check_servers(served(server), ROWS)


def test_an_evaluation_asks_nothing_of_a_teacher(student, monkeypatch):
    config = read("--teacher.path=nowhere")
    with pytest.raises(ConfigError, match="there is no folder nowhere"):
        check_at_door(config, 1, output=False)
    check_at_door(config, 1, output=False, teacher=False)

    def past_the_door(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(evaluating, "_rows", past_the_door)
    with pytest.raises(ZeroDivisionError):
        evaluating.evaluate_model(student, config)

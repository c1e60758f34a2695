"""rlkd doctor: each kind of problem is injected once, and found."""

import io
import json
import os
import shutil
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
from rich.console import Console

from rlkd.cli import main
from rlkd.config import load
from rlkd.doctor import machine, models, software, tracker
from rlkd.doctor.finding import Finding, show
from tests.conftest import WORDS, make_model

CONFIG = """
model: {path: models/student}
teacher: {path: models/teacher}
algorithm: {use: "rlkd.algorithms.rlad:RLAD"}
data:
  train: {path: rows.jsonl}
rewards: [{use: "reward_d:right"}]
batch: {prompts_per_step: 4, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 40}
optim: {steps: 5, learning_rate: 1e-3}
run: {name: tiny}
"""
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def config(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(project / "home"))
    make_model(project / "models" / "student", seed=1)
    make_model(project / "models" / "teacher", seed=2, hidden=48, layers=3)
    (project / "reward_d.py").write_text("def right(completions, **columns): ...\n")
    rows = [{"prompt": f"{a}+{b}="} for a in range(4) for b in range(4)]
    (project / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = project / "run.yaml"
    path.write_text(CONFIG)
    return path


def problems(findings: list[Finding], level: str = "problem") -> str:
    return "\n".join(f"{f.found}\n{f.advice}" for f in findings if f.level == level)


def of_config(*overrides: str) -> list[Finding]:
    return models.look(load(Path("run.yaml"), list(overrides)), 1)


# the command


def test_a_sound_config_on_a_sound_machine(config: Path, capsys):
    before = sorted(map(str, Path().rglob("*")))
    assert main(["doctor", "run.yaml"]) == 0
    shown = capsys.readouterr().out
    assert sorted(map(str, Path().rglob("*"))) == before
    titles = ["packages", "optional packages", "devices", "launch", "folder", "tracking"]
    assert [line for line in shown.splitlines()[:-1] if not line.startswith(" ")] == [
        *titles, "run.yaml",
    ]  # fmt: skip
    assert shown.splitlines()[-1].startswith("0 problems, ")
    assert f"student and teacher number all {len(WORDS)} tokens alike" in shown
    assert "\x1b" not in shown
    # A path is not broken, and may be longer than a line by itself.
    assert all(len(line) <= 80 or "/" in line for line in shown.splitlines())


def test_a_problem_is_exit_code_one(config: Path, capsys):
    shutil.rmtree("models/teacher")
    assert main(["doctor", "run.yaml"]) == 1
    shown = capsys.readouterr().out
    assert "  problem  teacher.path: there is no folder models/teacher." in shown
    assert shown.splitlines()[-1].startswith("1 problem, ")


def test_without_a_config(capsys, config: Path):
    assert main(["doctor"]) == 0
    assert "run.yaml" not in capsys.readouterr().out
    assert main(["doctor", "--optim.steps", "3"]) == 2
    assert "which CONFIG?" in capsys.readouterr().err
    assert main(["doctor", "nowhere.yaml"]) == 2


def test_colours_are_for_terminals():
    findings = [("things", [Finding("problem", "it is\n  broken", "mend it")])]
    texts = []
    for terminal in (False, True):
        stream = io.StringIO()
        console = Console(
            file=stream, force_terminal=terminal, color_system="standard" if terminal else None
        )
        show(findings, console)
        texts.append(stream.getvalue())
    assert texts[0] == "things\n  problem  it is\n             broken\n           do: mend it\n"
    assert "\x1b[1;31mproblem" in texts[1]


# packages


def versions(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in changed:
            if changed[name] is None:
                raise metadata.PackageNotFoundError(name)
            return str(changed[name])
        return real(name)

    monkeypatch.setattr(metadata, "version", version)


def test_a_version_out_of_range(monkeypatch: pytest.MonkeyPatch):
    versions(monkeypatch, trl="1.17.2")
    said = problems(software.look())
    assert "trl 1.17.2: rlkd 0.1.0 asks for <1.17,>=1.16" in said
    assert "pip install 'trl<1.17,>=1.16'" in said
    assert said.count("pip install") == 1


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch):
    versions(monkeypatch, sympy=None)
    assert problems(software.look()).startswith("sympy is missing\npip install 'sympy>=1.13'")


def test_a_version_that_was_not_tested(monkeypatch: pytest.MonkeyPatch):
    versions(monkeypatch, sympy="1.99", torch="2.13.0+cu130")
    findings = software.look()
    assert problems(findings) == ""
    said = problems(findings, "warning")
    assert "sympy 1.99: within >=1.13, but the tests ran with 1.14.0" in said
    assert "torch" not in said  # the build is not the version
    # An installed wheel has no constraints.txt beside it.
    monkeypatch.setattr("rlkd.__file__", "/usr/lib/python3/rlkd/__init__.py")
    assert software.versions_tested() == {}
    assert problems(software.look(), "warning") == ""


def test_an_old_python(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.10.4")
    assert "python 3.10.4: rlkd asks for >=3.11" in problems(software.look())


def test_rlkd_itself_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    def requires(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert "on the path but not installed" in problems(software.look(), "warning")
    assert software.look_at_extras() == []


def test_extras(monkeypatch: pytest.MonkeyPatch):
    changed = {"gguf": "0.1", "reasoning-gym": None, "math-verify": "0.9.0"}
    versions(monkeypatch, **changed, **{"latex2sympy2-extended": "1.11.0"})
    found = software.look_at_extras()
    assert "gguf 0.1: rlkd 0.1.0 asks for >=0.10" in problems(found)
    fine = problems(found, "ok")
    assert "reasoning-gym: not installed (reasoning-gym)" in fine
    assert "math-verify 0.9.0 (==0.9.0 wanted" in fine
    assert "pytest" not in fine


# the machine


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = Usage(100 * machine.GIB, 0, 3 * machine.GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    assert "disk: 3.0 GiB free" in problems(machine.look_at_folder(tmp_path / "runs"), "warning")
    said = problems(machine.look_at_folder(tmp_path / "runs", needed=4 * machine.GIB))
    assert "the run's checkpoints and model take about 4.0" in said
    assert "lower run.keep" in said
    assert not problems(machine.look_at_folder(tmp_path / "runs", needed=machine.GIB))
    usage = Usage(100 * machine.GIB, 0, machine.GIB // 8)
    assert "0.1 GiB free" in problems(machine.look_at_folder(tmp_path / "runs"))


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    said = problems(machine.look_at_folder(tmp_path / "runs"))
    assert "cannot be written: [Errno 13] Permission denied" in said
    (tmp_path / "file").write_text("")
    assert "is a file" in problems(machine.look_at_folder(tmp_path / "file" / "runs"))


def test_a_driver_without_a_gpu_for_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    assert problems(machine.look_at_devices()) == ""
    (tmp_path / "version").write_text("NVRM version: 999\n")
    assert "an NVIDIA driver is here" in problems(machine.look_at_devices())


def test_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What torch would say of one that somebody else uses."""
    answers = {
        "is_available": True, "device_count": 1, "mem_get_info": (8 * 2**30, 80 * 2**30),
        "get_device_capability": (7, 5), "get_device_name": "Some GPU",
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *_, answer=answer: answer)
    said = problems(machine.look_at_devices(), "warning")
    assert "cuda:0 Some GPU: 8.0 of 80.0 GiB free, no bfloat16 in hardware" in said


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert "export OMP_NUM_THREADS=2" in problems(machine.look_at_devices(), "warning")


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR or MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "", "MASTER_PORT": ""}, "RANK is 2"),
        ({"WORLD_SIZE": "two"}, "not numbers: {'WORLD_SIZE': 'two'}"),
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "1"},
            "accelerate was asked for several processes and started one",
        ),
    ],
)
def test_launches_that_would_fail(env, said, tmp_path):
    assert said in problems(machine.look_at_launch(env | {"HF_HOME": str(tmp_path)}))


TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "x",
            "MASTER_PORT": "1"}  # fmt: skip


@pytest.mark.parametrize(
    ("env", "wanted", "gpus", "level", "said"),
    [
        (TORCHRUN, 4, 0, "problem", "4 processes are wanted and this launch has 2"),
        (TORCHRUN, 2, 1, "problem", "2 processes were started on this machine, which shows them 1"),
        (TORCHRUN | {"CUDA_VISIBLE_DEVICES": "3"}, None, 1, "problem",
         "CUDA_VISIBLE_DEVICES is '3'"),
        (TORCHRUN, 2, 2, "ok", "rank 0 of 2 processes"),
        (TORCHRUN, 2, 0, "ok", "rank 0 of 2 processes"),
        ({}, 4, 0, "ok", "run.processes is 4, and this is one process: start it with torchrun"),
        ({}, 4, 4, "ok", "configs/accelerate/ddp.yaml --num_processes 4"),
        ({}, 4, 2, "warning", "this machine shows 2 GPUs, one for each process"),
        ({}, 1, 0, "ok", "one process"),
    ],
)  # fmt: skip
def test_processes_that_the_config_wants(env, wanted, gpus, level, said, tmp_path):
    found = machine.look_at_launch(env | {"HF_HOME": str(tmp_path)}, wanted, gpus)
    assert said in problems(found, level)
    assert level != "ok" or not problems(found)


def test_a_default_config_of_accelerate(tmp_path: Path):
    file = tmp_path / "accelerate" / "default_config.yaml"
    file.parent.mkdir()
    file.write_text("{distributed_type: FSDP, num_processes: 8, mixed_precision: bf16}")
    env = {"HF_HOME": str(tmp_path)}
    said = problems(machine.look_at_launch(env), "ok")
    assert "FSDP, 8 processes, mixed precision bf16" in said
    file.write_text("]")
    assert "cannot be read" in problems(machine.look_at_launch(env), "warning")


# W&B


def test_online_without_a_key(tmp_path: Path):
    env = {"HOME": str(tmp_path)}
    assert "there is no key" in problems(tracker.look("online", env))
    assert "not logged in" in problems(tracker.look("offline", env), "ok")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password made-up\n")
    assert problems(tracker.look("online", env)) == ""
    said = problems(tracker.look("online", env), "ok")
    assert ".netrc" in said
    assert "made-up" not in said
    assert problems(tracker.look("online", {"WANDB_API_KEY": "x", "HOME": "/"})) == ""
    elsewhere = env | {"WANDB_BASE_URL": "https://wandb.example.org"}
    assert "there is no key" in problems(tracker.look("online", elsewhere))


def test_another_mode_in_the_environment(tmp_path: Path):
    env = {"WANDB_MODE": "online", "HOME": str(tmp_path)}
    assert "WANDB_MODE is online" in problems(tracker.look("offline", env), "warning")
    assert problems(tracker.look("disabled", env), "warning") == ""


# a config's models and rows


def test_a_teacher_with_another_tokenizer(config: Path):
    shutil.rmtree("models/teacher")
    words = [*WORDS[:4], WORDS[5], WORDS[4], *WORDS[6:]]
    make_model(Path("models/teacher"), seed=2, words=words)
    said = problems(of_config())
    assert "models/teacher numbers its tokens differently from the student: 2 of 20" in said
    assert "take a teacher of the student's family" in said


def test_a_teacher_whose_head_is_too_small(config: Path):
    file = Path("models/teacher/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 9}))
    assert "models/teacher knows 9 tokens, the student's tokenizer has 20" in problems(of_config())


def test_a_teacher_that_ends_answers_with_another_token(config: Path):
    file = Path("models/teacher/generation_config.json")
    file.write_text(json.dumps({"eos_token_id": [1, 5]}))
    findings = of_config()
    assert "the teacher ends an answer with '<eos>', '3'" in problems(findings, "warning")
    assert problems(findings) == ""


def test_a_teacher_that_writes_chats_otherwise(config: Path):
    chats = [[{"role": "user", "content": row}] for row in ("1+2=", "3-")] * 8
    lines = (json.dumps({"prompt": chat}) for chat in chats)
    Path("rows.jsonl").write_text("\n".join(lines))
    template = "{{ '%s' + messages[0]['content'] }}"
    for name, first in (("student", "a"), ("teacher", "b")):
        Path("models", name, "chat_template.jinja").write_text(template % first)
    findings = of_config()
    assert "from token 0 on the student's writes 'a1+2=' where its own writes 'b1+2='" in (
        problems(findings, "warning")
    )
    assert problems(findings) == ""
    Path("models/teacher/chat_template.jinja").write_text(template % "a")
    assert "chat template" not in problems(of_config(), "warning")


def test_nothing_ends_an_answer(config: Path):
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        file = Path("models/student", name)
        said = json.loads(file.read_text())
        said.pop("eos_token_id", None)
        said.pop("eos_token", None)
        file.write_text(json.dumps(said))
    assert "names an end token" in " ".join(problems(of_config()).split())


def test_chats_without_a_template(config: Path):
    row = {"prompt": [{"role": "user", "content": "1+1="}]}
    rows = [row["prompt"][0] | {"content": f"{i}="} for i in range(8)]
    text = "\n".join(json.dumps({"prompt": [message]}) for message in rows)
    Path("rows.jsonl").write_text(text)
    assert "has no chat template" in problems(of_config())


def test_rows_that_are_not_there_or_too_few(config: Path):
    Path("rows.jsonl").write_text(json.dumps({"prompt": "1+1="}))
    assert "prompts_per_step" in problems(of_config())
    Path("rows.jsonl").unlink()
    assert "rows.jsonl" in problems(of_config())


def test_answers_that_are_too_long_for_the_student(config: Path):
    said = problems(of_config("--sampling.max_completion_length=125"))
    assert "prompts of up to 4 tokens and answers of up to 125" in said
    assert "128 positions" in said
    assert problems(of_config("--sampling.max_completion_length=124")) == ""


def test_broken_files_of_a_model(config: Path):
    Path("models/student/tokenizer.json").write_text("{")
    assert "the tokenizer in models/student cannot be loaded" in problems(of_config())
    Path("models/teacher/config.json").write_text("{")
    assert "models/teacher/config.json is not JSON" in problems(of_config())


def test_float16_weights(config: Path):
    assert "float16" in problems(of_config("--model.dtype=float16"))
    assert problems(of_config("--model.dtype=float16", "--model.lora={r: 2, alpha: 4}")) == ""


def test_a_key_that_grpoconfig_has_not(config: Path):
    assert "trl.max_promt: GRPOConfig has no such field" in problems(of_config("--trl.max_promt=1"))
    assert "GRPOConfig knows trl's optim" in problems(of_config("--trl.optim=sgd"), "ok")


def test_the_bytes_that_a_run_writes(config: Path):
    from rlkd.planning.network import read_network

    size = read_network("models/student", "float32", "model.path").weights
    # The final model; one checkpoint more than are kept, of weights and Adam's two averages.
    assert models.bytes_written(load(config)) == size + 3 * size
    saved = load(config, ["--run.save_every=2", "--run.keep=4"])
    assert models.bytes_written(saved) == size + 5 * 3 * size
    Path("models/student/config.json").unlink()
    assert models.bytes_written(load(config)) is None

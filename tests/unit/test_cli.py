"""The command line: what it runs, what it prints, and how it fails."""

import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import rlkd
from rlkd.checkpoints import manifest
from rlkd.cli import main
from rlkd.config import ConfigError, load
from rlkd.evaluation import Evaluation, Measure, Settings
from rlkd.evaluation.commands import locate

CONFIG = """
model: {path: models/student}
teacher: {path: models/teacher, check: off}
algorithm: {use: "rlkd.algorithms.rlad:RLAD", alpha: 0.3}
data:
  train: {use: "env_x:rows", size: 8}
  eval: {use: "env_x:rows", size: 4}
rewards: [{use: "reward_x:right", kwargs: {tolerance: 1}}]
batch: {prompts_per_step: 2, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 8}
optim: {steps: 5, learning_rate: 1e-3}
run: {name: tiny}
"""


@pytest.fixture(autouse=True)
def files(project: Path, student: str, teacher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with a config, an environment, a reward and two model folders."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (project / "run.yaml").write_text(CONFIG)
    (project / "env_x.py").write_text("def rows(split, n, seed): return []\n")
    (project / "reward_x.py").write_text("def right(completions, tolerance, **columns): ...\n")
    for name, model in (("student", student), ("teacher", teacher)):
        shutil.copytree(model, project / "models" / name)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """Stands in for rlkd.run and the evaluation; what they were called with."""
    made: list = []
    run = types.ModuleType("rlkd.run")

    def train(config, *, resume, force_steps):
        made.append((config, resume, force_steps) if resume else config)

    run.train = train  # pyright: ignore

    def evaluate_model(model, config, **how):
        made.append((model, config))
        assert {how[name] for name in ("samples", "temperature", "ks", "seed")} == {None}
        measures = {"pass@1": Measure(0.5, 0.1, 4)}
        return Evaluation(measures, [{}] * 4, Settings(), {"model": str(model)})

    monkeypatch.setattr("rlkd.evaluation.model.evaluate_model", evaluate_model)
    monkeypatch.setitem(sys.modules, "rlkd.run", run)
    monkeypatch.setattr(rlkd, "run", run, raising=False)
    return made


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def complaint(capsys: pytest.CaptureFixture, *words: str) -> str:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.startswith("rlkd: ")
    return captured.err


# train


def test_train_hands_the_config_over(calls: list):
    words = ["train", "--optim.steps", "6", "run.yaml", "--teacher.check=warn", "--run.seed", "3"]
    assert main(words) == 0
    assert calls == [load("run.yaml", ["--optim.steps=6", "--teacher.check=warn", "--run.seed=3"])]


def test_resume_takes_a_config_or_a_run_wherever_it_lies(run_folder: Path, calls: list):
    assert main(["train", "run.yaml", "--resume", "--run.keep=9"]) == 0
    assert calls.pop() == (load("run.yaml", ["--run.keep=9"]), True, False)
    moved = run_folder.rename(run_folder.parent.parent / "elsewhere")
    assert main(["train", str(moved), "--resume", "--force-steps", "--optim.steps=9"]) == 0
    config, resume, force = calls.pop()
    assert (config.folder, config.optim.steps) == (moved, 9)
    assert (resume, force) == (True, True)


def test_a_mistyped_run_names_the_nearest(run_folder: Path, capsys, calls: list):
    mistyped = str(run_folder) + "x"
    text = complaint(capsys, "train", mistyped, "--resume")
    assert f"there is no run {mistyped} to resume.\n  did you mean: {run_folder}" in text


def test_words_that_make_no_sense_with_or_without_resume(run_folder: Path, capsys, calls: list):
    assert "--force-steps is for --resume" in complaint(
        capsys, "train", "run.yaml", "--force-steps"
    )
    assert "leave out --resume" in complaint(capsys, "train", "run.yaml", "--dry-run", "--resume")
    assert f"{run_folder} is a folder" in complaint(capsys, "train", str(run_folder))
    assert "no such config" in complaint(capsys, "train", "models", "--resume")
    assert calls == []


def test_a_wrong_config_is_told_without_a_traceback(capsys, calls: list):
    text = complaint(capsys, "train", "run.yaml", "--optim.lr", "3")
    assert "did you mean: optim.learning_rate" in text
    assert calls == []


def test_train_without_a_config(capsys):
    assert "which CONFIG?" in complaint(capsys, "train")


def test_an_unknown_option_names_the_nearest(capsys):
    text = complaint(capsys, "train", "run.yaml", "--dryrun")
    assert "there is no option --dryrun.\n  did you mean: --dry-run" in text
    assert "did you mean: --teacher" in complaint(capsys, "train", "run.yaml", "--techer", "null")


def test_what_argparse_refuses_is_a_code_and_not_an_exit(capsys):
    assert main([]) == 2
    assert "required: COMMAND" in capsys.readouterr().err
    assert main(["trian", "run.yaml"]) == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


# dry run


def test_dry_run_prints_the_resolved_config_and_the_geometry(project: Path, capsys, calls: list):
    before = everything(project)
    assert main(["train", "run.yaml", "--dry-run", "--batch.micro_batch_size", "4"]) == 0
    out = capsys.readouterr().out
    text, _, words = out.partition("\n\n")
    (project / "again.yaml").write_text(text)
    again = load("again.yaml")
    assert again.algorithm.settings["alpha"] == 0.3
    assert again.algorithm.settings["clip_high"] == 0.28
    assert again.batch.micro_batch_size == 4
    assert words.startswith("optimiser step: 2 prompts x 4 completions (group size)")
    assert "whole run: 5 optimiser steps, 5 rollouts, 10 prompts drawn, 40 completions" in words
    assert calls == []
    (project / "again.yaml").unlink()
    assert everything(project) == before


def test_dry_run_counts_the_processes(capsys, monkeypatch: pytest.MonkeyPatch):
    words = ["train", "run.yaml", "--dry-run", "--batch.micro_batch_size", "2"]
    assert main([*words, "--run.processes", "4"]) == 0
    assert "on each of 4 processes" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(words) == 0
    assert "on each of 2 processes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--algorithm.use", "nope:A"], "algorithm.use: there is no module 'nope'"),
        (["--algorithm.alpha", "2"], "alpha is 2.0; it is the old policy's weight, in [0, 1]"),
        (["--teacher", "null"], "learns from a teacher and there is none"),
        (["--data.train.use", "env_x:row", "--data.train.size", "3"], "did you mean: env_x:rows?"),
        (["--data.eval.kwargs", "{a: 1}"], "data.eval.kwargs.a: rows has no such parameter"),
        (["--data.eval.path", "no.csv"], "data.eval.path: there is no file no.csv"),
        (["--rewards.0.kwargs.tolerence", "1"], "rewards.0.kwargs.tolerence: right has no such"),
        (["--rewards.1.use", "reward_x:wrong"], "rewards.1.use: 'reward_x' has no 'wrong'"),
        (["--model.path", "models/studnet"], "did you mean: models/student"),
        (["--teacher.path", "env_x.py"], "teacher.path: env_x.py is a file, and a model is a"),
        (["--model.path", "models"], "models holds no model.\n  found: student, teacher"),
        (["--batch.micro_batch_size", "3"], "batch: the 8 completions of an optimiser step cannot"),
        (["--run.dir", ".", "--run.name", "models"], "run.name: models is in use"),
    ],
)  # fmt: skip
def test_dry_run_finds(capsys, words: list[str], problem: str):
    text = complaint(capsys, "train", "run.yaml", "--dry-run", *words)
    assert "run " in text
    assert "1 problem\n" in text
    assert problem in text


def test_dry_run_finds_all_problems_at_once(capsys):
    words = ["--model.path", "nope", "--batch.micro_batch_size", "3", "--teacher", "null"]
    text = complaint(capsys, "train", "run.yaml", "--dry-run", *words)
    assert text.startswith("rlkd: run tiny: 3 problems")


def test_an_output_folder_may_exist_if_it_is_empty(project: Path, capsys):
    # As a start that was refused leaves it.
    (project / "runs" / "tiny" / "checkpoints").mkdir(parents=True)
    assert main(["train", "run.yaml", "--dry-run"]) == 0
    capsys.readouterr()
    (project / "runs" / "tiny" / "checkpoints" / "metrics.jsonl").write_text("")
    text = complaint(capsys, "train", "run.yaml", "--dry-run")
    assert "run.name: runs/tiny is in use.\n  found: a folder with files of another run" in text
    assert "--run.name tiny-2" in text


# rewards


def test_rewards_keep_their_names_and_fixed_arguments(project: Path):
    from rlkd.door import build_rewards

    (project / "reward_x.py").write_text("def right(completions, tolerance): return tolerance\n")
    rewards = build_rewards(load("run.yaml", ["--rewards.0.name", "exact"]))
    assert list(rewards) == ["exact"]
    assert rewards["exact"].__name__ == "exact"
    assert rewards["exact"](completions=[]) == 1


# eval


@pytest.fixture
def run_folder(project: Path) -> Path:
    folder = project / "runs" / "done"
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def test_eval_of_a_run(run_folder: Path, capsys, calls: list):
    words = ["eval", str(run_folder), "--size", "9", "--max-completion-length", "7"]
    assert main([*words, "--batch-size=3", "--sampling.temperature", "0.5"]) == 0
    model, config = calls[0]
    assert model == run_folder / "model"
    assert config.data.eval.size == 9
    assert (config.eval.max_completion_length, config.eval.batch_size) == (7, 3)
    assert config.sampling.temperature == 0.5
    assert capsys.readouterr().out == "rows=4\naccuracy=0.5000\n"


def test_eval_of_an_unfinished_run_takes_the_newest_checkpoint(run_folder: Path):
    (run_folder / "model").rmdir()
    for step in (9, 10, 11):
        folder = run_folder / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        if step < 11:  # the newest was not written to its end
            manifest.write(folder, step, 1, {}, None)
    model, config = locate(run_folder, None)
    assert model.name == "checkpoint-10"
    assert config == run_folder / "config.yaml"


def test_eval_of_a_model_needs_a_config(capsys, calls: list):
    text = complaint(capsys, "eval", "models/student")
    assert "models/student is a model; which held-out rows and rewards?" in text
    assert main(["eval", "models/student", "--config", "run.yaml"]) == 0
    assert calls[0][0] == Path("models/student")


def test_eval_of_neither(run_folder: Path, capsys):
    assert "there is no folder nope" in complaint(capsys, "eval", "nope")
    assert "models is neither a run nor a model" in complaint(capsys, "eval", "models")
    (run_folder / "model").rmdir()
    assert "has neither a model/ nor a whole checkpoint" in complaint(
        capsys, "eval", str(run_folder)
    )


def test_eval_without_heldout_rows(run_folder: Path, capsys):
    text = complaint(capsys, "eval", str(run_folder), "--data.eval", "null")
    assert "has no held-out rows (null)" in text


def test_locate_raises_config_errors(project: Path):
    with pytest.raises(ConfigError):
        locate(project / "nope", None)


# help


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "rlkd train configs/quickstart.yaml --dry-run" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "  optim        Steps, learning rate, schedule." in out
    assert "--rewards.0.weight 2" in out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rlkd {rlkd.__version__}\n"


def test_help_of_every_field(capsys):
    assert main(["train", "--help-config"]) == 0
    out = capsys.readouterr().out
    assert "sampling.temperature: a number above 0; default: 1.0" in out
    assert "algorithm.alpha" not in out
    assert main(["train", "run.yaml", "--help-config"]) == 0
    assert "algorithm.alpha: a number; default: 0.5" in capsys.readouterr().out


def test_the_command_is_light(project: Path):
    """Help and wrong configs answer at once: no torch, no trl, until an algorithm is resolved."""
    code = (
        "import json, sys; from rlkd.cli import main;"
        "main(['train', 'run.yaml', '--optim.lr', '3']);"
        "print(json.dumps([m for m in ('torch', 'trl', 'transformers') if m in sys.modules]))"
    )
    root = str(Path(rlkd.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({root!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []

"""A run is stopped, a folder that it reads gets other weights, and it does not go on with those."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.e2e.runs import differences, newest
from tests.e2e.test_processes import launch
from tests.e2e.test_resume import ROOT, stop_after, train

STUDENT, TEACHER = "configs/models/tiny_student", "configs/models/tiny_teacher"
OF_THE_STUDENT = ("adapter-off", "reference")
"""Kinds whose weights are loaded from the student's folder."""
SMALL = [
    "configs/quickstart.yaml", "--optim.steps=4", "--data.train.size=40", "--data.eval=null",
    "--eval.every=0", "--batch.prompts_per_step=4", "--batch.group_size=4",
    "--batch.micro_batch_size=8", "--tracking.wandb=disabled", "--run.save_every=4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def a_class(name: str, **settings) -> str:
    return f"--teacher={json.dumps({'use': f'rlkd.teacher.{name}'} | settings)}"


def words_of(kind: str, folder: Path) -> list[str]:
    """Of a run whose teacher is loaded from `folder`."""
    own, other = {"path": str(folder)}, {"path": TEACHER}
    if kind == "adapter-off":
        lora = "--model.lora={r: 4, alpha: 8}"
        return [f"--model.path={folder}", lora, a_class("inner:AdapterOff")]
    if kind == "reference":
        return [f"--model.path={folder}", "--algorithm.beta=0.1"]
    if kind == "mixed":
        return [a_class("several:Mixed", teachers={"kept": other, "swapped": own})]
    return [f"--teacher.path={folder}", "--teacher.offload=true", "--teacher.padding_free=true"]


def swap(folder: Path) -> None:
    """Other weights of the same shapes."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    generator = torch.Generator().manual_seed(0)
    for weight in weights.values():
        weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=generator)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["local", "mixed", "adapter-off", "reference"])
def test_other_weights_are_refused_and_the_same_ones_go_on(kind, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(STUDENT if kind in OF_THE_STUDENT else TEACHER, folder)
    words = [*SMALL, *words_of(kind, folder), f"--run.dir={tmp_path}"]
    assert train(*words, "--run.name=whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(2, patch)
        assert train(*words, "--run.name=parts") == 75
    run = tmp_path / "parts"
    shutil.move(folder, tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", folder)
    swap(folder)
    capsys.readouterr()
    assert train(str(run), "--resume") == 2
    said = capsys.readouterr().err
    where = f"the {'student' if kind in OF_THE_STUDENT else 'teacher'}'s folder {folder}"
    assert f"{where} no longer holds the model that the run began with.\n  found: " in said
    assert "do: put it back and resume, or begin a new run" in said
    assert "Traceback" not in said
    assert newest(run).name == "checkpoint-2"
    shutil.rmtree(folder)
    shutil.move(tmp_path / "kept", folder)
    assert train(str(run), "--resume") == 0
    assert re.search(rf"{where} holds the \d+ frozen weights", capsys.readouterr().err)
    assert differences(tmp_path / "whole", run) == []


def test_the_ranks_of_a_run_refuse_together(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TEACHER, folder)
    words = [*SMALL, f"--teacher.path={folder}", "--batch.micro_batch_size=4",
             f"--run.dir={tmp_path}", "--run.name=x", "--run.save_every=2"]  # fmt: skip
    assert launch(2, "scripts/train.py", *words, "--run.processes=2").returncode == 0
    run = tmp_path / "x"
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    shutil.rmtree(run / "model")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"ended": None}))
    swap(folder)
    done = launch(2, "scripts/train.py", str(run), "--resume")
    assert done.returncode != 0
    assert re.search(r"no longer holds the model that the run began with", done.stderr)
    assert newest(run).name == "checkpoint-2"


def test_another_cache_is_refused_and_its_own_goes_on(tmp_path, capsys):
    cache = tmp_path / "scores.db"
    teacher = a_class("cached:Cached", path=str(cache), of="tiny", inner={"path": TEACHER})
    words = [*SMALL, teacher, f"--run.dir={tmp_path}", "--run.name=x"]
    with pytest.MonkeyPatch.context() as patch:
        stop_after(2, patch)
        assert train(*words) == 75
    kept = tmp_path / "kept.db"
    cache.rename(kept)
    assert train(str(tmp_path / "x"), "--resume") == 2
    said = capsys.readouterr().err
    assert f"{cache} is not the cache that the run was scored with" in said
    assert re.search(r"of (\d+) entries that it had, \1 are gone and 0 hold other scores", said)
    kept.replace(cache)
    assert train(str(tmp_path / "x"), "--resume") == 0
    said = capsys.readouterr().err
    assert re.search(r"the \d\d entries of the cache that were looked at are as they were", said)

"""The best checkpoint, an early end, and the folder that `rlkd export` writes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd import cli
from rlkd.trainer import Trainer
from tests.e2e.runs import lines

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "configs/quickstart_grpo.yaml", "--data.train.size=40", "--data.eval.size=20",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=8",
    "--optim.learning_rate=0.01", "--tracking.wandb=disabled", "--run.name=x",
]  # fmt: skip
PROMPTS = ["3+5      =", "3+5*8+2  ="]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def logits(model, tokenizer) -> torch.Tensor:
    encoded = tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left")
    with torch.no_grad():
        return model.eval()(**encoded.to(model.device)).logits


@pytest.fixture
def trained(monkeypatch):
    """The trainers of the runs, with the weights that they ended with."""
    made = []
    real = Trainer.train

    def train(self, *args, **kwargs):
        made.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "train", train)
    return made


@pytest.mark.parametrize(
    ("lora", "dtype"),
    [(None, "float32"), ("{r: 4, alpha: 32}", "float32"), ("{r: 4, alpha: 32}", "bfloat16")],
)
def test_an_exported_model_gives_the_trained_ones_logits(lora, dtype, trained, tmp_path, capsys):
    words = [*SMALL, "--optim.steps=2", "--eval.at_start=false", f"--run.dir={tmp_path}"]
    words += [f"--model.dtype={dtype}", *([f"--model.lora={lora}"] if lora else [])]
    assert cli.main(["train", *words]) == 0
    out = tmp_path / "out"
    assert cli.main(["export", str(tmp_path / "x"), str(out)]) == 0
    assert f"{tmp_path}/x/model -> {out}" in capsys.readouterr().out
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    want = logits(trained[0].model, tokenizer)
    start = AutoModelForCausalLM.from_pretrained(ROOT / "configs/models/tiny_student", dtype=dtype)
    assert (want - logits(start, tokenizer)).abs().max() > 0.1  # it has learnt something
    tolerance = 1e-5 if dtype == "float32" else 0.25  # bfloat16 keeps 8 bits of a merged weight
    assert plain.dtype == getattr(torch, dtype)
    got = logits(plain, tokenizer).float()
    torch.testing.assert_close(got, want.float(), rtol=0, atol=tolerance)
    names = {path.name for path in out.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors",
                     "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
    assert plain.generation_config.eos_token_id == start.generation_config.eos_token_id
    tied = start.config.tie_word_embeddings
    with safe_open(out / "model.safetensors", "pt") as file:
        keys = set(file.keys())
        assert {str(file.get_tensor(key).dtype) for key in keys} == {f"torch.{dtype}"}
    assert ("lm_head.weight" in keys) != tied
    assert not any("lora" in key or "base_model" in key for key in keys)


# -- the best checkpoint --------------------------------------------------------------------------


def scripted(monkeypatch, accuracies: list[float]) -> None:
    """The run's evaluations find these accuracies, one after the other."""
    from rlkd import run

    left = iter(accuracies)
    monkeypatch.setattr(run, "summarise", lambda *_: {"accuracy": next(left), "length": 5.0})


def checkpoints(run: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in run.glob("checkpoints/checkpoint-*"))


def test_the_best_checkpoint_is_kept_beside_the_newest(monkeypatch, tmp_path, capsys):
    scripted(monkeypatch, [0.9, 0.3, 0.7, 0.5, 0.7, 0.1])  # at steps 0 (not compared), 1, 2, …
    words = [*SMALL, "--optim.steps=5", "--eval.every=1", "--eval.best=accuracy",
             "--run.save_every=5", "--run.keep=1", f"--run.dir={tmp_path}"]  # fmt: skip
    assert cli.main(["train", *words]) == 0
    run = tmp_path / "x"
    assert checkpoints(run) == [2, 5]
    best = json.loads((run / "checkpoints/checkpoint-5/manifest.json").read_text())["best"]
    assert best == {"step": 2, "metric": "eval/accuracy", "value": 0.7}
    assert cli.main(["export", str(run), f"{tmp_path}/best", "--checkpoint=best"]) == 0
    assert "checkpoints/checkpoint-2 -> " in capsys.readouterr().out
    assert cli.main(["export", str(run), f"{tmp_path}/five", "--checkpoint", "5"]) == 0
    weights = [AutoModelForCausalLM.from_pretrained(tmp_path / n) for n in ("best", "five")]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "best")
    assert not torch.equal(*(logits(model, tokenizer) for model in weights))


def test_a_run_without_progress_ends_early_and_counts_over_a_resume(monkeypatch, tmp_path, capsys):
    words = [*SMALL, "--optim.steps=9", "--eval.every=1", "--eval.best=length", "--run.keep=1",
             "--eval.best_is=lowest", "--eval.patience=3", f"--run.dir={tmp_path}"]  # fmt: skip
    scripted(monkeypatch, [0.0] * 9)  # the length never changes: the first is the best
    assert cli.main(["train", *words]) == 0
    run = tmp_path / "x"
    assert [line["step"] for line in lines(run) if "train/loss" in line] == [1, 2, 3, 4]
    assert json.loads((run / "run.json").read_text())["ended"]["why"] == "early stop"
    assert checkpoints(run) == [1]
    assert (run / "model").is_dir()
    assert cli.main(["train", str(run), "--resume"]) == 0
    assert "is finished (early stop, 4 of 9)" in capsys.readouterr().out
    # As if killed in its third step: the best of the first is remembered.
    shutil.rmtree(run / "model")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({k: v for k, v in about.items() if k != "ended"}))
    assert cli.main(["train", str(run), "--resume"]) == 0
    assert "best eval/length 5 at step 1" in capsys.readouterr().err
    assert [line["step"] for line in lines(run) if "train/loss" in line] == [1, 2, 3, 4]


def test_what_export_refuses(tmp_path, capsys):
    run = tmp_path / "x"
    words = [*SMALL, "--optim.steps=1", "--data.eval=null", "--eval.every=0"]
    assert cli.main(["train", *words, "--run.save_every=1", f"--run.dir={tmp_path}"]) == 0
    for more, message in {
        ("--checkpoint=7",): "has no checkpoint 7.\n  found: 1\n",
        ("--checkpoint=best",): "no checkpoint of",
    }.items():
        assert cli.main(["export", str(run), f"{tmp_path}/out", *more]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["export", str(run), str(run / "model")]) == 2
    assert "is in use" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path), f"{tmp_path}/out"]) == 2
    assert "is no run" in capsys.readouterr().err
    (run / "checkpoints/checkpoint-1/config.json").write_text("{")
    assert cli.main(["export", str(run), f"{tmp_path}/out", "--checkpoint=1"]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_killed_after_its_early_stop_only_finishes(monkeypatch, tmp_path):
    words = [*SMALL, "--optim.steps=9", "--eval.every=1", "--eval.best=length",
             "--run.save_every=2", "--eval.best_is=lowest", "--eval.patience=3",
             f"--run.dir={tmp_path}"]  # fmt: skip
    scripted(monkeypatch, [0.0] * 9)  # the length never changes: the first is the best
    assert cli.main(["train", *words]) == 0
    run = tmp_path / "x"
    assert checkpoints(run)[-1] == 4  # the last step's own: it knows that the patience is exhausted
    weights = (run / "model/model.safetensors").read_bytes()
    shutil.rmtree(run / "model")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({k: v for k, v in about.items() if k != "ended"}))
    assert cli.main(["train", str(run), "--resume"]) == 0
    assert [line["step"] for line in lines(run) if "train/loss" in line] == [1, 2, 3, 4]
    ended = json.loads((run / "run.json").read_text())["ended"]
    assert (ended["why"], ended["step"]) == ("early stop", 4)
    assert (run / "model/model.safetensors").read_bytes() == weights

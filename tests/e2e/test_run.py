"""`rlkd train` and `rlkd eval` from a config to the folder that a person looks into."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rlkd import cli
from rlkd import config as configs
from rlkd.tracking import glossary, reading, store
from tests import wandb_file
from tests.conftest import WORDS, make_model

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--optim.steps=3", "--data.train.size=200", "--data.eval.size=60", "--eval.every=2",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=8",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("WANDB_MODE")  # the config decides; conftest switched it off


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short RLAD run, as the command line makes it."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.delenv("WANDB_MODE")
        words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={folder}"]
        assert cli.main([*words, "--run.name=one"]) == 0
    return folder / "one"


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_folder_tells_what_was_run(run):
    config = configs.load(run / "config.yaml", [])
    assert config.optim.steps == 3
    assert config.algorithm.settings["alpha"] == 0.5
    about = json.loads((run / "run.json").read_text())
    assert about["processes"] == 1
    assert about["seed"] == 0
    assert about["versions"]["trl"].startswith("1.16")
    assert {"commit", "argv", "device", "python", "rlkd", "started"} <= about.keys()


def test_every_step_and_evaluation_is_a_line_of_metrics(run):
    rows = lines(run)
    steps = [row["step"] for row in rows if "train/loss" in row]
    evaluations = [row["step"] for row in rows if "eval/accuracy" in row]
    assert steps == [1, 2, 3]
    assert evaluations == [0, 2, 3]
    wanted = {
        "train/reward", "train/entropy", "train/teacher/gap", "train/teacher/gap_at_eos",
        "train/teacher/beyond_clamp", "train/groups/no_signal", "train/completions/mean_length",
        "train/first_update/clip_ratio/of_good_tokens",
        "train/first_update/clip_ratio/of_bad_tokens",
    }  # fmt: skip
    for row in rows:
        if "train/loss" in row:
            assert wanted <= row.keys()
            assert all(math.isfinite(value) for value in row.values() if value is not None)


def test_every_logged_name_has_an_entry_in_the_glossary(run):
    names = {name for row in lines(run) for name in row} - {"step", "seconds"}
    assert not [name for name in names if glossary.explain(name) is None]


def test_every_rollout_is_stored_with_its_reward_and_gap(run):
    files = sorted((run / "rollouts").glob("*.parquet"))
    assert [path.name for path in files] == [f"step-00000{i}-rank0.parquet" for i in (1, 2, 3)]
    for path, line in zip(files, [row for row in lines(run) if "train/loss" in row], strict=True):
        table = pq.read_table(path).to_pydict()
        assert len(table["prompt"]) == 16
        rewards = table["reward/accuracy"]
        assert sum(rewards) / 16 == pytest.approx(line["train/reward"], abs=1e-6)
        tokens = table["tokens"]
        mean_gap = sum(g * t for g, t in zip(table["teacher_gap"], tokens, strict=True))
        assert mean_gap / sum(tokens) == pytest.approx(line["train/teacher/gap"], abs=1e-4)
        assert table["policy_version"] == [line["step"] - 1] * 16
        assert table["reward"] == rewards  # the other reward has weight 0
        assert table["status/accuracy"] == ["ok"] * 16
        pieces = [(text, row) for row, text in enumerate(table["token_text"]) if text is not None]
        assert [row for _, row in pieces] == [0, 2, 4, 6, 8, 10, 12, 14]
        for text, row in pieces:
            assert "".join(text) == table["completion"][row]
            ratios = table["token_teacher_log_ratio"][row]
            assert -sum(ratios) / len(text) == pytest.approx(table["teacher_gap"][row], abs=1e-4)
    assert not list((run / "rollouts").glob("*.tmp"))
    manifest = [(entry["step"], entry["rows"]) for entry in reading.manifest(run)]
    assert manifest == [(1, 16), (2, 16), (3, 16)]
    assert not any("train/tracking/errors" in row for row in lines(run))


def test_the_offline_wandb_file_holds_every_number(run):
    rows, config = wandb_file.read(run / "wandb")
    assert config["algorithm"]["alpha"] == 0.5
    assert config["optim"]["steps"] == 3
    for line in lines(run):
        values = {key: value for key, value in line.items() if "/" in key}
        assert any(
            row.get("train/step") == line["step"] and values.items() <= row.items() for row in rows
        ), line["step"]


def test_the_run_is_shown_by_the_commands_that_read_it(run, tmp_path, capsys):
    assert cli.main(["rollouts", str(run), "--step=3", "--status=wrong", "--sort=length"]) == 0
    table = pq.read_table(run / "rollouts" / "step-000003-rank0.parquet").to_pydict()
    wrong = sum(value < 1 for value in table["reward/accuracy"])
    assert f" of {wrong} that pass; 48 stored in 3 steps" in capsys.readouterr().out
    assert cli.main(["report", str(run), "--out", str(tmp_path / "report.html")]) == 0
    assert "train/teacher/gap_at_eos" in (tmp_path / "report.html").read_text()


def test_a_disk_that_is_full_is_a_metric_and_ends_no_run(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(store.pq, "write_table", full)
    words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={tmp_path}", "--run.name=x"]
    assert cli.main([*words, "--tracking.wandb=disabled"]) == 0
    rows = [row for row in lines(tmp_path / "x") if "train/loss" in row]
    assert len(rows) == 3
    assert rows[-1]["train/tracking/errors"] >= 1
    assert caplog.text.count("a batch of rank 0 could not be written") == 1
    assert "No space left on device" in caplog.text


def test_eval_of_the_run_gives_its_last_evaluation(run, capsys):
    last = [row for row in lines(run) if "eval/accuracy" in row][-1]
    assert cli.main(["eval", str(run)]) == 0
    printed = dict(line.split("=") for line in capsys.readouterr().out.split())
    assert float(printed["accuracy"]) == pytest.approx(last["eval/accuracy"], abs=1e-4)
    assert float(printed["length"]) == pytest.approx(last["eval/length"], abs=1e-4)


def test_the_same_seed_gives_the_same_run_and_evaluation_disturbs_nothing(run, tmp_path):
    words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={tmp_path}", "--run.name=two"]
    assert cli.main([*words, "--eval.every=1", "--tracking.wandb=disabled"]) == 0
    mine = [row["train/loss"] for row in lines(tmp_path / "two") if "train/loss" in row]
    assert mine == [row["train/loss"] for row in lines(run) if "train/loss" in row]


def test_evaluation_draws_no_random_number(run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlkd.evaluation.answers import answer_greedily
    from rlkd.evaluation.scoring import score

    model = AutoModelForCausalLM.from_pretrained(run / "model").train()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    before = torch.get_rng_state(), random.getstate()
    prompts = [{"prompt": "3+5      ="}, {"prompt": "3+5*8+2  ="}]
    together = answer_greedily(model, tokenizer, prompts, 24, 2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert model.training
    assert together == answer_greedily(model, tokenizer, prompts, 24, 1)
    assert answer_greedily(model, tokenizer, prompts, 2, 2).truncated == [True, True]

    def drawing(completions, **_):  # a reward in the trainer's own process
        return [random.random() + np.random.rand() + torch.rand(()).item() for _ in completions]

    drawn = np.random.get_state()[1].copy(), np.random.get_state()[2]
    score(together, tokenizer, prompts, {"drawing": drawing})
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (drawn[0] == np.random.get_state()[1]).all()
    assert drawn[1] == np.random.get_state()[2]


def test_lora_trains_adapters_that_eval_reads(tmp_path, capsys):
    words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={tmp_path}", "--run.name=x"]
    words += ["--model.lora={r: 4, alpha: 8}", "--optim.learning_rate=0.02"]
    assert cli.main([*words, "--tracking.wandb=disabled"]) == 0
    saved = {path.name for path in (tmp_path / "x" / "model").iterdir()}
    assert "adapter_model.safetensors" in saved
    last = [row for row in lines(tmp_path / "x") if "eval/accuracy" in row][-1]
    capsys.readouterr()
    assert cli.main(["eval", str(tmp_path / "x")]) == 0
    printed = dict(line.split("=") for line in capsys.readouterr().out.split())
    assert float(printed["accuracy"]) == pytest.approx(last["eval/accuracy"], abs=1e-4)


def test_bfloat16_trains_with_a_bfloat16_teacher(tmp_path):
    words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={tmp_path}", "--run.name=x"]
    words += ["--model.dtype=bfloat16", "--teacher.dtype=bfloat16", "--tracking.wandb=disabled"]
    assert cli.main(words) == 0
    losses = [row["train/loss"] for row in lines(tmp_path / "x") if "train/loss" in row]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)


def test_several_updates_per_batch_and_a_reference_run_together(tmp_path):
    words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={tmp_path}", "--run.name=x"]
    words += ["--batch.iterations=2", "--batch.steps_per_rollout=2", "--algorithm.beta=0.01"]
    assert cli.main([*words, "--optim.steps=4", "--tracking.wandb=disabled"]) == 0
    rows = [row for row in lines(tmp_path / "x") if "train/loss" in row]
    assert [row["train/kl"] >= 0 for row in rows] == [True] * 4
    # One batch of rollouts serves all four updates; only the first step is a first update.
    first = "train/first_update/clip_ratio/of_good_tokens"
    assert [first in row for row in rows] == [True, False, False, False]
    (path,) = (tmp_path / "x" / "rollouts").glob("*.parquet")
    table = pq.read_table(path).to_pydict()
    assert len(table["prompt"]) == 32
    assert all(math.isfinite(value) for value in table["teacher_gap"] + table["entropy"])


# -- the door -------------------------------------------------------------------------------------


def refused(words, capsys) -> str:
    assert cli.main(["train", *words]) == 2
    return capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(run, capsys):
    before = sorted(path.name for path in run.iterdir())
    words = ["configs/quickstart.yaml", f"--run.dir={run.parent}", f"--run.name={run.name}"]
    assert "is in use" in refused(words, capsys)
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_teacher_of_another_family_stops_before_anything_is_written(tmp_path, capsys):
    other = make_model(tmp_path / "other", seed=3, words=WORDS)
    words = ["configs/quickstart.yaml", f"--teacher.path={other}", f"--run.dir={tmp_path}/runs"]
    message = refused(words, capsys)
    assert "tokens differ" in message
    assert "same family" in message
    assert not list(tmp_path.glob("runs/*/config.yaml"))


def test_an_unknown_field_of_trl_names_the_nearest(tmp_path, capsys):
    words = ["configs/quickstart.yaml", f"--run.dir={tmp_path}", "--trl.dataloader_num_worker=2"]
    assert "dataloader_num_workers" in refused(words, capsys)


def test_a_wandb_that_fails_stops_nothing(tmp_path, monkeypatch, caplog):
    import wandb

    def fail(*_, **__):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(wandb, "init", fail)
    words = ["train", "configs/quickstart.yaml", *SMALL, f"--run.dir={tmp_path}", "--run.name=x"]
    assert cli.main(words) == 0
    assert "W&B failed (RuntimeError: the disk is full)" in caplog.text
    assert len(lines(tmp_path / "x")) == 6

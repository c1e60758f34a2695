"""One process, several micro-batches, two processes: the same update."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from rlkd.config import ConfigError
from rlkd.launch import Launch, read_launch
from rlkd.tracking import reading
from tests import wandb_file
from tests.once import made_once

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)  # of the first test, which waits for the launches


def launch(processes: int, *words: str, timeout: int = 240) -> subprocess.CompletedProcess:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "WANDB_MODE"):
        env.pop(name, None)
    return subprocess.run(
        [*command, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout
    )


CUTS = [(1, 24), (1, 4), (2, 12), (2, 3), (2, 3, "by_tokens"), (2, 4, "packed")]


@pytest.fixture(scope="module")
def updates(student, teacher, tmp_path_factory):
    """The gradients of the same 24 rows, cut in several ways."""

    def make(folder: Path) -> None:
        for cut in CUTS:
            processes, micro, *way = cut
            words = [student, teacher, _file(folder, cut), str(micro), *(way or ["default"])]
            done = launch(processes, "tests/e2e/one_update.py", *words)
            assert done.returncode == 0, done.stderr[-3000:]

    folder = made_once(tmp_path_factory, "updates", make)
    return {cut: torch.load(_file(folder, cut)) for cut in CUTS}


def _file(folder: Path, cut: tuple) -> str:
    return str(folder / f"{'-'.join(map(str, cut))}.pt")


ALGORITHMS = ("grpo", "grpo with reference", "dr_grpo", "gspo", "rlad", "rlad dapo",
              "rlad arithmetic", "rlad with lora", "kdrl", "gkd", "opd_loss", "minillm",
              "grpo with ceeh-me", "grpo with ceeh-ea", "rlad with ceeh-me", "luffy",
              "sft-kd")  # fmt: skip


@pytest.mark.parametrize("cut", CUTS[1:], ids=str)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_any_split_gives_the_same_update(name, cut, updates):
    whole, parts = updates[1, 24][name], updates[cut][name]
    assert whole.keys() == parts.keys()
    for key, want in whole.items():
        if key in ("key", "pass_rate", "shortest", "visits"):
            assert torch.equal(parts[key].nan_to_num(), want.nan_to_num()), key
            continue
        # Differences of weights of size about 0.3: float32 leaves 3e-8 of them.
        torch.testing.assert_close(parts[key], want, rtol=1e-5, atol=2e-7)
    assert max(value.abs().max() for key, value in whole.items() if "weight" in key) > 1e-3
    if "ceeh" in name:
        assert whole["ceeh/length_term"] != 0.0
        assert 0.0 < whole["difficulty/hard_set"] < 1.0


def test_a_run_on_two_processes_writes_one_folder(tmp_path):
    words = [
        "scripts/train.py", "configs/quickstart.yaml", "--run.processes=2", "--optim.steps=2",
        "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=4",
        "--data.train.size=100", "--data.eval.size=31", f"--run.dir={tmp_path}", "--run.name=two",
    ]  # fmt: skip
    done = launch(2, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "two"
    assert json.loads((run / "run.json").read_text())["processes"] == 2
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2]
    # Thirty-one rows on two ranks: an uneven share, each row counted once.
    assert [row["eval/rows"] for row in rows if "eval/rows" in row] == [31, 31]
    stored = {path.name: pq.read_table(path).to_pydict() for path in run.glob("rollouts/*.parquet")}
    assert sorted(stored) == [f"step-00000{s}-rank{r}.parquet" for s in (1, 2) for r in (0, 1)]
    # Every rollout of every rank is stored once, and the manifest says so.
    manifest = [(entry["step"], entry["rank"], entry["rows"]) for entry in reading.manifest(run)]
    assert manifest == [(step, rank, 8) for step in (1, 2) for rank in (0, 1)]
    assert reading.rollouts(run).rows == 2 * 16
    for step, line in ((1, rows[1]), (2, rows[2])):
        both = [stored[f"step-00000{step}-rank{rank}.parquet"] for rank in (0, 1)]
        assert [len(part["prompt"]) for part in both] == [8, 8]
        rewards = [value for part in both for value in part["reward/accuracy"]]
        assert sum(rewards) / 16 == pytest.approx(line["train/reward"], abs=1e-6)
        gaps = [
            gap * tokens
            for part in both
            for gap, tokens in zip(part["teacher_gap"], part["tokens"], strict=True)
        ]
        total = sum(tokens for part in both for tokens in part["tokens"])
        assert sum(gaps) / total == pytest.approx(line["train/teacher/gap"], abs=1e-4)
    assert (run / "model" / "model.safetensors").is_file()
    check_tracker(run, rows, stored)
    # Both ranks' groups are in the records, which one of them wrote.
    visits = dict.fromkeys((prompt for part in stored.values() for prompt in part["prompt"]), 0)
    for step in (1, 2):
        both = [stored[f"step-00000{step}-rank{rank}.parquet"] for rank in (0, 1)]
        for prompt in {prompt for part in both for prompt in part["prompt"]}:
            visits[prompt] += 1
    records = pq.read_table(run / "difficulty.parquet").to_pylist()
    assert {row["prompt"]: row["visits"] for row in records if row["visits"]} == visits
    assert sorted(path.name for path in run.glob("*.p*")) == [
        "difficulty.parquet", "length_accuracy.png",
    ]  # fmt: skip


def check_tracker(run: Path, lines: list[dict], stored: dict[str, dict]) -> None:
    """There is one W&B run, its numbers are those over both ranks, its tables have rows of both."""
    history, config = wandb_file.read(run / "wandb")  # of the one file that there is
    assert config["code"]["processes"] == 2
    for line in lines:
        values = {key: value for key, value in line.items() if "/" in key}
        assert any(values.items() <= row.items() for row in history), line["step"]
    (files,) = run.glob("wandb/offline-run-*/files")
    tables = [row for row in history if "rollouts/path" in row]
    assert [row["train/step"] for row in tables] == [1, 2]
    for row in tables:
        table = json.loads((files / row["rollouts/path"]).read_text())
        prompts = [line[table["columns"].index("prompt")] for line in table["data"]]
        ranks = [stored[f"step-00000{row['train/step']}-rank{rank}.parquet"] for rank in (0, 1)]
        assert prompts == [prompt for part in ranks for prompt in part["prompt"]]  # 8 of each
    answers = [row for row in history if "eval/answers/path" in row]
    assert [row["train/step"] for row in answers] == [0, 2]


def test_one_process_where_two_were_wanted_is_an_error():
    done = launch(1, "scripts/train.py", "configs/quickstart.yaml", "--run.processes=2")
    assert done.returncode == 2
    assert "2 processes are wanted and this launch has 1" in done.stderr
    assert "torchrun --nproc_per_node 2" in done.stderr


def test_accelerate_that_was_asked_for_two_and_starts_one_is_an_error():
    words = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = launch(1, *words, "scripts/train.py", "configs/quickstart.yaml")
    assert done.returncode != 0
    assert "accelerate was asked for several processes and started one" in done.stderr
    assert "torchrun --nproc_per_node N" in done.stderr


def test_the_launch_is_read_from_the_environment():
    assert read_launch(None, {}) == Launch(0, 1)
    assert read_launch(4, {"RANK": "3", "WORLD_SIZE": "4"}) == Launch(3, 4)
    # Two were asked for, one is accepted on purpose.
    alone = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"}
    assert read_launch(1, alone) == Launch(0, 1)
    with pytest.raises(ConfigError, match="started one"):
        read_launch(None, alone)
    # A process takes a GPU of its own; on the CPU (0) they are no concern.
    four = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    assert read_launch(8, four, gpus=4) == read_launch(8, four, gpus=0) == Launch(3, 8)
    with pytest.raises(ConfigError, match=r"4 processes were started .* shows them 2 GPUs"):
        read_launch(8, four, gpus=2)
    # One process that accelerate was asked for.
    assert read_launch(None, {"ACCELERATE_MIXED_PRECISION": "no"}) == Launch(0, 1)

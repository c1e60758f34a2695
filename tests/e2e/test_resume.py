"""A run stopped and resumed is the run that was not stopped, bit for bit; and what is refused."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from rlkd import cli
from rlkd.checkpoints import manifest
from rlkd.tracking.callback import LogCallback
from tests import wandb_file
from tests.e2e.runs import differences, lines, newest
from tests.e2e.test_processes import launch

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--optim.steps=6", "--data.train.size=40", "--data.eval.size=20", "--eval.every=2",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=8",
    "--optim.learning_rate=0.002", "--tracking.wandb=disabled", "--run.save_every=6",
]  # fmt: skip
RLAD = "configs/quickstart.yaml"
GRPO = "configs/quickstart_grpo.yaml"
OFF_POLICY = ["--batch.steps_per_rollout=2", "--batch.iterations=2", "--optim.schedule=cosine"]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def train(*words: str) -> int:
    return cli.main(["train", *words])


def stop_after(step: int, patch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """The signal comes in the middle of the loop, one step before the one that it ends."""
    real = LogCallback.on_log

    def on_log(self, args, state, control, logs=None, **more):
        real(self, args, state, control, logs, **more)
        if state.global_step == step - 1:
            signal.raise_signal(number)

    patch.setattr(LogCallback, "on_log", on_log)


# Each stops where something is open: in the middle of the passes over one batch of rollouts, in
# the second epoch (40 rows are 10 steps of 4, 9 rows are 2), with adapters.
CASES = {
    "RLAD, in the middle of a batch's passes": (RLAD, 3, OFF_POLICY),
    "RLAD, second rollout batch": (RLAD, 5, ["--batch.steps_per_rollout=4"]),
    "GRPO with reference, third epoch": (
        GRPO, 5, ["--data.train.size=9", "--algorithm.beta=0.02", "--optim.schedule=linear",
                  "--optim.warmup_steps=2"],
    ),
    "LoRA": (RLAD, 3, [*OFF_POLICY, "--model.lora={r: 4, alpha: 8, dropout: 0.1}"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_stopped_and_resumed_run_is_the_whole_run(case, tmp_path, capsys):
    config, step, more = CASES[case]
    words = [config, *SMALL, *more, f"--run.dir={tmp_path}"]
    assert train(*words, "--run.name=whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(step, patch)
        assert train(*words, "--run.name=parts") == 75
    said = capsys.readouterr().err
    assert f"stopped by a signal after step {step} (exit code 75)" in said
    assert not (tmp_path / "parts" / "model").exists()
    assert train(str(tmp_path / "parts"), "--resume") == 0
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
    assert f"resumed from {tmp_path}/parts/checkpoints/checkpoint-{step}" in capsys.readouterr().err
    about = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert [part["from_step"] for part in about["resumed"]] == [step]
    assert about["ended"]["why"] == "all steps"

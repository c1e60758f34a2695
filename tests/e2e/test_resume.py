"""A run stopped and resumed is the run that was not stopped, bit for bit; and what is refused."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from rlkd import cli
from rlkd.checkpoints import manifest
from rlkd.rewarding.setup import FaultStop
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
    """The signal comes to this process at the beginning of that step."""
    real = FaultStop.on_step_begin

    def on_step_begin(self, args, state, control, **more):
        real(self, args, state, control, **more)
        if state.global_step == step - 1:
            signal.raise_signal(number)

    patch.setattr(FaultStop, "on_step_begin", on_step_begin)


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


@pytest.mark.parametrize("step", [3])
def test_two_processes_stop_together_and_resume_bit_for_bit(step, tmp_path):
    words = [
        RLAD, *SMALL, *OFF_POLICY, "--batch.micro_batch_size=4", "--run.processes=2",
        f"--run.dir={tmp_path}",
    ]  # fmt: skip
    done = launch(2, "-m", "tests.e2e.resumed_pair", str(step), *words)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
    pieces = {path.name for path in newest(tmp_path / "whole").glob("pieces/carried-*")}
    assert pieces == {"carried-rank0.pt", "carried-rank1.pt"}
    assert {path.name for path in newest(tmp_path / "whole").glob("rng_state_*")} == {
        "rng_state_0.pth", "rng_state_1.pth"
    }  # fmt: skip
    # What one process wrote for itself is no use to another number of them.
    refused = launch(1, "scripts/train.py", str(tmp_path / "parts"), "--resume",
                     "--run.processes=1", "--optim.steps=8", "--force-steps")  # fmt: skip
    assert refused.returncode == 2
    assert "was written by 2 process(es) and this launch has 1" in refused.stderr

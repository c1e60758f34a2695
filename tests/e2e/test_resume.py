"""A run stopped and resumed is the run that was not stopped, bit for bit; and what is refused."""

import json
import re
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from envs import arithmetic
from rlkd import cli
from rlkd.checkpoints import manifest
from rlkd.evaluation.commands import locate
from rlkd.rewarding.setup import FaultStop
from rlkd.tracking import reading
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
CEEH = "rlkd.algorithms.ceeh:CEEH"
FEW = ["--data.train.size=9"]  # each prompt is visited twice before the stop
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
    "RLAD with CEEH, third epoch": (
        RLAD, 5, [*FEW, f"--components=[{{use: '{CEEH}', length_beta: 0.5, hard_from: group}}]"],
    ),
    "CEEH's lengths, an adaptive coefficient and Clip-Cov": (
        GRPO, 3, [*FEW, *OFF_POLICY, "--components=["
                  f"{{use: '{CEEH}', entropy: null, variant: official_code}},"
                  "{use: 'rlkd.algorithms.skywork_or1:AdaptiveEntropy', target: 2.0, step: 1e-3},"
                  "{use: 'rlkd.algorithms.covariance:ClipCov', share: 0.1, low: -9, high: 9}]"],
    ),
    "LUFFY, traces of its own teacher, third epoch": (
        "configs/luffy.yaml", 5, [*FEW, "--batch.iterations=2", "--data.traces.samples=3"],
    ),
    "traces alone, second rollout batch": (
        "configs/sft_kd.yaml", 5, ["--batch.steps_per_rollout=4", "--data.traces.samples=2"],
    ),
    "sorted rows without padding, in the middle of a batch's passes": (
        RLAD, 3, [*OFF_POLICY, "--speed={micro_batches: by_tokens, padding_free: true,"
                  " shared_prompts: true}", "--teacher.padding_free=true"],
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
    saved = {path.stem for path in newest(tmp_path / "parts").glob("pieces/*.pt")}
    assert "difficulty" in saved
    assert ("entropy_control" in saved) == ("Adaptive" in str(more))
    assert not (tmp_path / "parts" / "model").exists()
    assert train(str(tmp_path / "parts"), "--resume") == 0
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
    assert f"resumed from {tmp_path}/parts/checkpoints/checkpoint-{step}" in capsys.readouterr().err
    about = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert [part["from_step"] for part in about["resumed"]] == [step]
    assert about["ended"]["why"] == "all steps"
    records = [pq.read_table(tmp_path / run / "difficulty.parquet") for run in ("whole", "parts")]
    assert records[0].equals(records[1])


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


# -- what a discarded attempt leaves behind -------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with a checkpoint at every second step and offline W&B."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.delenv("WANDB_MODE")
        more = ["--run.save_every=2", "--run.keep=9", "--tracking.wandb=offline"]
        assert train(RLAD, *SMALL, *OFF_POLICY, *more, f"--run.dir={folder}", "--run.name=x") == 0
    return folder / "x"


@pytest.fixture
def killed(whole, tmp_path):
    """The same run as a kill after its fifth step would have left it."""
    run = tmp_path / "y"
    shutil.copytree(whole, run, symlinks=True)
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "checkpoint-6")
    about = json.loads((run / "run.json").read_text())
    del about["ended"]
    (run / "run.json").write_text(json.dumps(about))
    kept = [line for line in lines(run) if not (line["step"] == 6 and "train/loss" in line)]
    text = "".join(json.dumps(line) + "\n" for line in kept[:-1]) + '{"step": 6, "seco'
    (run / "metrics.jsonl").write_text(text)
    return run


def resume(run: Path, *words: str) -> int:
    return train(str(run), "--resume", *words)


def test_what_a_killed_attempt_wrote_past_the_checkpoint_is_set_aside(
    whole, killed, monkeypatch, capsys
):
    monkeypatch.delenv("WANDB_MODE")
    torn = (killed / "metrics.jsonl").read_text().splitlines()
    assert resume(killed) == 0
    said = capsys.readouterr().err
    assert differences(whole, killed) == []
    aside = (killed / "discarded" / "attempt-1" / "metrics.jsonl").read_text().splitlines()
    assert aside == [line for line in torn if '"step": 5' in line or '"step": 6' in line] != []
    assert f"{len(aside) - 1} later lines set aside" in said
    assert f"1 files of rollouts, to {killed}/discarded/attempt-1" in said
    moved = {path.name for path in killed.glob("discarded/attempt-1/rollouts/*")}
    assert moved == {"step-000005-rank0.parquet"}
    attempts = {
        path.name: set(pq.read_table(path)["attempt"].to_pylist())
        for path in killed.glob("rollouts/*.parquet")
    }
    # The first batch was drawn before the checkpoint, and on the disk by then.
    assert attempts == {"step-000001-rank0.parquet": {1}, "step-000005-rank0.parquet": {2}}
    listed = [json.loads(line) for line in (killed / "rollouts/manifest.jsonl").open()]
    assert [(line["step"], line["attempt"]) for line in listed] == [(1, 1), (5, 2)]
    # The readers show the latest attempt of each step, and each step once.
    table = reading.rollouts(killed).table(["step", "attempt"]).to_pylist()
    assert [(row["step"], row["attempt"]) for row in table] == [(1, 1)] * 32 + [(5, 2)] * 32
    rows = [row for row in reading.metrics(killed) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    seconds = [line["seconds"] for line in lines(killed)]
    assert seconds == sorted(seconds)


def test_wandb_has_one_id_and_a_file_for_each_attempt(killed, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_MODE")
    assert resume(killed) == 0
    run_id = json.loads((killed / "run.json").read_text())["wandb_id"]
    assert re.search(rf"W&B run +{run_id}", capsys.readouterr().err)
    files = sorted(killed.glob("wandb/offline-run-*/*.wandb"))
    parts = [wandb_file.read_file(path) for path in files]
    assert [found for _, _, found in parts] == [run_id, run_id]
    first, second = ([row["train/step"] for row in rows if "train/loss" in row]
                     for rows, _, _ in parts)  # fmt: skip
    assert first == [1, 2, 3, 4, 5, 6]
    assert second == [5, 6]
    # W&B counts rows itself, and drops those that do not come after what it has.
    counts = [[row["_step"] for row in rows] for rows, _, _ in parts]
    assert counts[1][0] > 0
    assert counts[1] == sorted(counts[1])


# -- what is refused ------------------------------------------------------------------------------


def refused(capsys, run: Path, *words: str) -> str:
    capsys.readouterr()
    assert resume(run, *words) == 2
    return capsys.readouterr().err


def test_another_config_is_refused_and_its_keys_are_shown(killed, capsys):
    before = sorted(path.name for path in killed.rglob("*"))
    message = refused(capsys, killed, "--optim.learning_rate=0.1", "--algorithm.alpha=0.25")
    assert "optim.learning_rate: 0.002 -> 0.1" in message
    assert "algorithm.alpha: 0.5 -> 0.25" in message
    assert sorted(path.name for path in killed.rglob("*")) == before
    message = refused(capsys, killed, "--rewards.1.weight=0.5", "--rewards.1.deadline_s=9")
    assert "rewards.1.weight: 0.0 -> 0.5" in message
    assert "deadline_s" not in message


def test_another_horizon_is_refused_unless_forced(killed, capsys):
    message = refused(capsys, killed, "--optim.steps=7")
    assert "was begun for 6 steps and shall now take 7" in message
    assert "--force-steps" in message
    message = refused(capsys, killed, "--optim.steps=3", "--force-steps")
    assert "has taken 4 steps already" in message
    assert resume(killed, "--optim.steps=7", "--force-steps", "--run.save_every=7") == 0
    assert [line["step"] for line in lines(killed) if "train/loss" in line] == [1, 2, 3, 4, 5, 6, 7]
    # The new interval holds, not the one that transformers keeps in the checkpoint.
    assert newest(killed).name == "checkpoint-7"
    assert not (killed / "checkpoints" / "checkpoint-6").exists()


def test_a_damaged_checkpoint_is_named_and_left_out(whole, killed, capsys):
    for name, damage in {
        "optimizer.pt": lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        "pieces/carried-rank0.pt": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "scheduler.pt": Path.unlink,
        "manifest.json": Path.unlink,
    }.items():
        copy = killed.parent / name.replace("/", "-")
        shutil.copytree(killed, copy, symlinks=True)
        damage(copy / "checkpoints" / "checkpoint-4" / name)
        assert resume(copy) == 0, name
        said = capsys.readouterr().err
        assert "warning: left out: " in said
        assert "checkpoint-4" in said.split("left out")[1].splitlines()[0]
        assert f"resumed from {copy}/checkpoints/checkpoint-2" in said
        assert differences(whole, copy) == []


def test_there_is_nothing_to_resume(killed, capsys, tmp_path):
    for folder in killed.glob("checkpoints/checkpoint-*"):
        (folder / "optimizer.pt").unlink()
    message = refused(capsys, killed)
    assert message.count("warning: left out") == 2
    assert "there is nothing to resume" in message
    assert train(RLAD, "--resume", f"--run.dir={tmp_path}", "--run.name=none") == 2
    assert "no config.yaml of a run in it" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert train(str(killed)) == 2
    assert "--resume to go on with the run in it" in capsys.readouterr().err


def test_metrics_that_were_cut_are_refused(killed, capsys):
    (killed / "metrics.jsonl").write_text("")
    assert "metrics.jsonl has 0 bytes" in refused(capsys, killed)


def test_other_rows_are_refused(killed, capsys, monkeypatch):
    real = arithmetic.rows

    def rows(split, n, seed=0):
        return real(split, n, seed + (split == "train"))

    monkeypatch.setattr(arithmetic, "rows", rows)
    assert "the rows are not those that the run began with" in refused(capsys, killed)


def test_a_finished_run_says_so(whole, capsys):
    before = (whole / "metrics.jsonl").read_bytes()
    assert resume(whole) == 0
    assert f"{whole} is finished (all steps, 6 of 6): {whole}/model" in capsys.readouterr().out
    assert (whole / "metrics.jsonl").read_bytes() == before
    (whole / "model").rename(whole / "elsewhere")
    try:
        said = refused(capsys, whole)
    finally:
        (whole / "elsewhere").rename(whole / "model")
    assert "is finished (all steps, 6 of 6), and its model/ is gone" in said
    assert f"rlkd export {whole} OUT" in said


def test_a_run_killed_after_its_last_step_only_finishes(whole, killed, capsys):
    shutil.copytree(whole / "checkpoints/checkpoint-6", killed / "checkpoints/checkpoint-6")
    shutil.copy(whole / "metrics.jsonl", killed / "metrics.jsonl")
    assert resume(killed) == 0
    assert re.search("step +6 of 6", capsys.readouterr().err)
    assert differences(whole, killed) == []


def test_ctrl_c_saves_and_has_a_code_of_its_own(tmp_path, capsys):
    words = [GRPO, *SMALL, f"--run.dir={tmp_path}", "--run.name=x", "--eval.every=0"]
    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(2, patch, signal.SIGINT)
        assert train(*words) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert "once more stops at once" in capsys.readouterr().err
    run = tmp_path / "x"
    assert manifest.verify(run / "checkpoints" / "checkpoint-2").step == 2
    # Stopped, it measures nothing more and has no final model; eval takes the checkpoint.
    assert [line["step"] for line in lines(run) if "eval/rows" in line] == [0]
    assert locate(run, None)[0].name == "checkpoint-2"
    assert json.loads((run / "run.json").read_text())["ended"]["why"] == "signal"

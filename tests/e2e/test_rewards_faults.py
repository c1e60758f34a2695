"""Runs whose rewards fail: what is learnt, what is written down, when the run stops."""

import json
import logging
import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from rlkd import GRPO, Trainer, cli
from rlkd.tracking import glossary
from tests.e2e.test_processes import launch
from tests.parity.test_trl import arguments

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--optim.steps=8", "--data.train.size=200", "--data.eval.size=20", "--eval.at_start=false",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=16",
    "--tracking.wandb=disabled", "--run.name=x",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def train(tmp_path):
    """Runs the command; its exit code."""

    def run(*words: str) -> int:
        words = ("configs/quickstart_grpo.yaml", *SMALL, f"--run.dir={tmp_path}/runs", *words)
        return cli.main(["train", *words])

    return run


def rewards(**settings) -> str:
    first = {"use": "tests.e2e.faulty_rewards:faulty", "name": "accuracy"} | settings
    return (
        f"--rewards={json.dumps([first, {'use': 'rewards.arithmetic:well_formed', 'weight': 0}])}"
    )


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_few_faults_are_counted_and_the_run_goes_on(train, tmp_path, caplog):
    run = tmp_path / "runs" / "x"
    broken = {"of": "exit", "share": 0.1}
    with caplog.at_level(logging.WARNING, logger="rlkd"):
        assert train(rewards(kwargs=broken, max_fault_share=1), "--eval.every=4") == 0
    steps = [row for row in lines(run) if "train/loss" in row]
    assert len(steps) == 8
    faults = [row["train/rewards/accuracy/faults"] for row in steps]
    assert sum(faults) > 0
    assert all(count % 4 == 0 for count in faults)  # whole groups: faults go by the prompt
    for row, count in zip(steps, faults, strict=True):
        assert row.get("train/rewards/accuracy/faults/crashed", 0) == count
        assert row.get("train/rewards/accuracy/repeats", 0) == bool(count)
        assert row["train/rewards/left_out"] == count / 16
        assert row["train/rewards/well_formed/faults"] == 0
        table = pq.read_table(
            run / "rollouts" / f"step-{row['step']:06d}-rank0.parquet"
        ).to_pydict()
        values = table["reward/accuracy"]
        assert values.count(None) == count
        statuses = ["ok" if value is not None else "crashed" for value in values]
        assert table["status/accuracy"] == statuses
        assert table["status/well_formed"] == ["ok"] * 16
        graded = [value for value in values if value is not None]
        if graded:
            assert row["train/reward"] == pytest.approx(sum(graded) / len(graded), abs=1e-6)
        for value, advantage in zip(values, table["advantage"], strict=True):
            assert value is not None or advantage == 0.0
    evaluations = [row for row in lines(run) if "eval/rows" in row]
    assert sum(row.get("eval/reward/accuracy/faults/crashed", 0) for row in evaluations) > 0
    names = {name for row in lines(run) for name in row} - {"step", "seconds"}
    assert not [name for name in names if glossary.explain(name) is None]
    assert caplog.text.count("reward accuracy: crashed") == 1


@pytest.mark.parametrize(
    ("of", "status", "in_process"),
    [("exit", "crashed", False), ("hang", "timeout", False), ("raise", "crashed", True),
     ("text", "not_a_number", False)],
)  # fmt: skip
def test_many_faults_stop_the_run_and_its_state_is_saved(
    of, status, in_process, train, tmp_path, capsys
):
    run = tmp_path / "runs" / "x"
    settings = {"kwargs": {"of": of}, "in_process": in_process, "deadline_s": 0.4}
    assert train(rewards(**settings)) == 3
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert "rlkd: stopped after step 2: reward 'accuracy': 32 of the last 32 rows" in message
    assert f"32 {status}" in message
    assert f"{run}/checkpoints/checkpoint-2 and {run}/model" in message
    assert "max_fault_share" in message
    state = json.loads((run / "checkpoints/checkpoint-2/trainer_state.json").read_text())
    assert state["global_step"] == 2
    assert (run / "checkpoints/checkpoint-2/optimizer.pt").is_file()
    assert (run / "model/model.safetensors").is_file()
    assert [row["step"] for row in lines(run) if "train/loss" in row] == [1, 2]


def test_nones_are_no_faults(train, tmp_path):
    assert train(rewards(kwargs={"of": "none"}), "--optim.steps=3", "--run.first_batch=warn") == 0
    rows = [row for row in lines(tmp_path / "runs/x") if "train/loss" in row]
    assert [row["train/rewards/left_out"] for row in rows] == [1.0] * 3
    assert [row["train/rewards/accuracy/faults"] for row in rows] == [0] * 3


def test_the_worker_gives_the_same_run_as_a_call_in_the_trainer(train, tmp_path):
    assert train(rewards(), "--optim.steps=3") == 0
    assert train(rewards(in_process=True), "--optim.steps=3", "--run.name=y") == 0
    pairs = zip(lines(tmp_path / "runs/x"), lines(tmp_path / "runs/y"), strict=True)
    for worker, here in pairs:
        changing = ("seconds", "train/step_time", "train/time/", "train/memory/")
        assert {k: v for k, v in worker.items() if not k.startswith(changing)} == {
            k: v for k, v in here.items() if not k.startswith(changing)
        }


def test_eval_leaves_faulted_rows_out_and_says_so(train, tmp_path, capsys):
    assert train(rewards(), "--optim.steps=1") == 0
    capsys.readouterr()
    words = ["eval", f"{tmp_path}/runs/x", rewards(kwargs={"of": "raise", "share": 0.3})]
    assert cli.main(words) == 0
    printed = dict(line.split("=") for line in capsys.readouterr().out.split())
    assert 0 < float(printed["reward/accuracy/faults/crashed"]) < 20
    assert "accuracy" in printed


def test_two_processes_count_and_stop_together(tmp_path):
    words = [
        "scripts/train.py", "configs/quickstart_grpo.yaml", *SMALL, "--run.processes=2",
        "--batch.micro_batch_size=8", f"--run.dir={tmp_path}/runs",
        rewards(kwargs={"of": "exit", "share": 0.5}),
    ]  # fmt: skip
    began = time.monotonic()
    done = launch(2, *words, timeout=100)
    assert done.returncode != 0
    assert done.stderr.count("rlkd: stopped after step") == 2, done.stderr[-3000:]
    assert "exitcode  : 3" in done.stderr
    assert time.monotonic() - began < 100
    run = tmp_path / "runs" / "x"
    assert (run / "model" / "model.safetensors").is_file()
    rows = [row for row in lines(run) if "train/loss" in row]
    assert (run / "checkpoints" / f"checkpoint-{len(rows)}").is_dir()
    for row in rows:
        values: list = []
        for rank in (0, 1):
            path = run / "rollouts" / f"step-{row['step']:06d}-rank{rank}.parquet"
            values += pq.read_table(path).to_pydict()["reward/accuracy"]
        assert row["train/rewards/accuracy/faults"] == values.count(None)


# -- None, with two rewards -----------------------------------------------------------------------


def first(completions, **columns):
    """None for the second row of every four."""
    return [None if row % 4 == 1 else float(row % 4) for row in range(len(completions))]


def second(completions, **columns):
    return [10.0 * (row % 4) for row in range(len(completions))]


class Optional:
    """The same as `first`, marked."""

    __name__ = "first"
    optional = True

    def __call__(self, completions, **columns):
        return first(completions, **columns)


@pytest.mark.parametrize(
    ("function", "weights", "want"),
    [
        # Totals of a group of four: 0, None, 22, 33.
        (first, [1.0, 1.0], [-55 / 3, 0.0, 11 / 3, 44 / 3]),
        # Not graded by the first is graded by the second alone: 0, 10, 22, 33.
        (Optional(), [1.0, 1.0], [-16.25, -6.25, 5.75, 16.75]),
        # Weight 0 only logs.
        (first, [0.0, 1.0], [-15.0, -5.0, 5.0, 15.0]),
        # The second says nothing here: nothing at all is known of the row.
        (Optional(), [1.0, 0.0], [-5 / 3, 0.0, 1 / 3, 4 / 3]),
    ],
)
def test_none_and_two_rewards(function, weights, want, student, prompts, tmp_path):
    given = arguments(tmp_path, max_steps=1, reward_weights=weights)
    algorithm = GRPO(beta=0.0, advantage_scale="none")
    trainer = Trainer(student, [function, second], given, prompts, algorithm=algorithm)
    kept: list = []
    real = trainer._advantages
    trainer._advantages = lambda *a: kept.append(real(*a)) or kept[-1]
    trainer.train()
    advantages = kept[0]["advantages"].view(-1, 4)
    torch.testing.assert_close(advantages, torch.tensor([want] * len(advantages)))
    logged = trainer.state.log_history[0]
    assert logged["rewards/left_out"] == (0.25 if 0.0 in want else 0.0)
    if function is first and weights == [1.0, 1.0]:
        assert logged["reward"] == pytest.approx(55 / 3)


def test_a_reward_of_trls_kind_works_as_it_is(student, prompts, tmp_path):
    """Functions given to Trainer are called by TRL, in the trainer: no worker, no metric."""
    pids = set()

    def length(completions, trainer_state, log_metric, **columns):
        pids.add(os.getpid())
        log_metric("mine", trainer_state.global_step)
        return [float(len(text)) for text in completions]

    async def later(completions, **columns):
        return [1.0] * len(completions)

    trainer = Trainer(student, [length, later], arguments(tmp_path), prompts)
    trainer.train()
    assert pids == {os.getpid()}
    logged = trainer.state.log_history[0]
    assert logged["rewards/later/mean"] == 1.0
    assert "mine" in logged
    assert not [name for name in logged if "faults" in name]


def test_broken_golds_are_listed_count_for_nothing_and_past_a_share_nothing_starts(
    train, tmp_path, capsys
):
    from envs.arithmetic import rows

    def write(name: str, split: str, n: int, bad: int) -> str:
        data = [dict(row) for row in rows(split, n)]
        for row in data[:bad]:
            row["answer"] = "\\frac{1}{"
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in data))
        return f"--data.{name}={json.dumps({'path': str(path)})}"

    words = [
        '--rewards=[{"use": "rewards.math:accuracy"}]', "--optim.steps=3",
        write("eval", "heldout", 12, 1),
    ]  # fmt: skip
    assert train(*words, write("train", "train", 12, 3)) == 2
    said = capsys.readouterr().err
    assert "data.train: reward 'accuracy' cannot grade 3 of 12 rows" in said
    assert not (tmp_path / "runs").exists()
    assert train(*words, write("train", "train", 12, 3), "--data.max_bad_share=0.3") == 0
    said = capsys.readouterr().err
    assert "4 rows cannot be graded" in said
    assert "train row 2, reward accuracy: the gold is neither" in said
    run = tmp_path / "runs" / "x"
    listed = [json.loads(line) for line in (run / "bad_rows.jsonl").read_text().splitlines()]
    assert [(row["split"], row["row"]) for row in listed] == [
        ("train", 0), ("train", 1), ("train", 2), ("eval", 0),
    ]  # fmt: skip
    left_out = [row["train/rewards/left_out"] for row in lines(run) if "train/loss" in row]
    assert 0 < sum(left_out) / 3 < 1

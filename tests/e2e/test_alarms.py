"""Runs in which something goes wrong, and what a person is told of it, when, and where."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from rlkd import cli
from rlkd.teacher.local import LocalTeacher
from rlkd.tracking import glossary
from tests.e2e.test_processes import launch
from tests.wandb_file import _payloads

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--data.train.size=200", "--data.eval=null", "--eval.every=0", "--optim.steps=4",
    "--batch.prompts_per_step=4", "--batch.group_size=4", "--batch.micro_batch_size=8",
    "--run.name=x", "--run.save_every=1", "--run.keep=9",
]  # fmt: skip
WELL_FORMED = {"use": "rewards.arithmetic:well_formed", "weight": 0}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("WANDB_MODE")


@pytest.fixture
def train(tmp_path):
    """Runs the command; its exit code."""

    def run(*words: str, config: str = "quickstart_grpo") -> int:
        words = (f"configs/{config}.yaml", *SMALL, f"--run.dir={tmp_path}", *words)
        if not any("wandb" in word for word in words):
            words = (*words, "--tracking.wandb=disabled")
        return cli.main(["train", *words])

    return run


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict]:
    path = run / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def told(run: Path) -> list[tuple[int, str, str]]:
    return [(row["step"], row["alarm"], row["kind"]) for row in lines(run, "alarms.jsonl")]


def broken(**settings) -> str:
    use = {"use": "tests.e2e.faulty_learning:Broken", "clip_high": 0.28}
    return f"--algorithm={json.dumps(use | settings)}"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def moments(checkpoint: Path) -> list[torch.Tensor]:
    states = torch.load(checkpoint / "optimizer.pt")["state"].values()
    return [value for state in states for value in state.values()]


def test_a_healthy_run_is_told_nothing(train, tmp_path, capsys):
    assert train("--optim.steps=6", "--run.save_every=0") == 0
    run, said = tmp_path / "x", capsys.readouterr().err
    assert told(run) == []
    assert "ALARM" not in said
    assert "WARNING" not in said
    assert said.count("first batch: 16 rollouts  reward ") == 1
    assert not [name for row in lines(run) for name in row if "alarms/" in name]


# -- NaN ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "what"),
    [({}, "loss and gradient"), ({"value": math.inf}, "loss and gradient"),
     ({"only_the_number": True}, "loss")],
)  # fmt: skip
def test_nan_stops_with_the_weights_of_before(settings, what, train, tmp_path, capsys):
    settings = {name: str(v) if isinstance(v, float) else v for name, v in settings.items()}
    words = [broken(**settings)]
    if "value" in settings:
        words = [broken(), "--algorithm.value", ".inf"]
    assert train(*words, "--tracking.rollouts_every=0", "--optim.weight_decay=0.1") == 3
    run, said = tmp_path / "x", capsys.readouterr().err
    assert f"rlkd: stopped at step 3: its {what} is NaN or infinite" in said
    assert "Traceback" not in said
    before, after = run / "checkpoints/checkpoint-2", run / "checkpoints/checkpoint-3"
    assert same_weights(before, after)
    assert same_weights(before, run / "model")
    assert not same_weights(before, run / "checkpoints/checkpoint-1")  # that would show an update
    pairs = list(zip(moments(before), moments(after), strict=True))
    assert pairs
    assert all(torch.equal(one, other) for one, other in pairs)
    kept = run / "rollouts" / "step-000003-rank0.parquet"
    assert list((run / "rollouts").glob("*.parquet")) == [kept]  # nothing else is stored
    assert str(kept) in said
    assert len(pq.read_table(kept)) == 16
    rows = [row for row in lines(run) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[-1]["train/loss"] is None  # and not the 0 that transformers would write
    assert rows[-1]["train/updates/left_out"] == 1
    assert [row.get("train/alarms/not_finite") for row in rows] == [None, None, 1]
    assert told(run) == [(3, "not_finite", "on")]
    assert not [n for row in rows for n in row if "/" in n and glossary.explain(n) is None]
    assert json.loads((run / "run.json").read_text())["ended"]["why"] == "nan"


def test_after_nan_the_run_goes_on_without_that_batch(train, tmp_path, capsys):
    assert train(broken()) == 3
    run = tmp_path / "x"
    assert cli.main(["train", str(run), "--resume", "--run.on_nan=warn"]) == 0
    rows = [row for row in lines(run) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert math.isfinite(rows[-1]["train/loss"])
    assert rows[-1]["train/alarms/not_finite"] == 1  # it is told of, and not clear yet
    assert told(run) == [(3, "not_finite", "on")]
    assert "first batch" not in capsys.readouterr().err.split("resumed from")[1]
    assert not same_weights(run / "checkpoints/checkpoint-3", run / "model")


def test_on_nan_warn_leaves_the_update_out_and_goes_on(train, tmp_path, capsys):
    assert train(broken(at=2), "--run.on_nan=warn") == 0
    run, said = tmp_path / "x", capsys.readouterr().err
    assert "ALARM not_finite (step 2): not a finite number: loss nan, grad_norm nan" in said
    assert "the update was left out" in said
    rows = [row for row in lines(run) if "train/loss" in row]
    assert [row["train/loss"] is None for row in rows] == [False, True, False, False]
    assert all(weight.isfinite().all() for weight in weights(run / "model").values())
    assert same_weights(run / "checkpoints/checkpoint-1", run / "checkpoints/checkpoint-2")
    assert not same_weights(run / "checkpoints/checkpoint-2", run / "checkpoints/checkpoint-3")


def test_two_processes_leave_out_the_same_update(tmp_path):
    words = [
        "scripts/train.py", "configs/quickstart_grpo.yaml", *SMALL, "--run.processes=2",
        "--tracking.wandb=disabled", f"--run.dir={tmp_path}",
        "--algorithm.use=tests.e2e.faulty_learning:BrokenOnOneRank",
    ]  # fmt: skip
    done = launch(2, *words, timeout=150)
    assert done.stderr.count("rlkd: stopped at step 3: its loss is NaN") == 2, done.stderr[-3000:]
    run = tmp_path / "x"
    assert same_weights(run / "checkpoints/checkpoint-2", run / "checkpoints/checkpoint-3")
    assert {path.name for path in (run / "rollouts").glob("step-000003-*")} == {
        "step-000003-rank0.parquet", "step-000003-rank1.parquet",
    }  # fmt: skip
    assert told(run) == [(3, "not_finite", "on")]


def test_a_teacher_that_gives_nan_is_named_with_its_rollouts(train, tmp_path, capsys, monkeypatch):
    real, calls = LocalTeacher.score, []

    def score(self, prompt_ids, completion_ids, temperature):
        scores = real(self, prompt_ids, completion_ids, temperature)
        calls.append(len(prompt_ids))
        if calls.count(16) == 2:
            scores[5].logp[0] = math.nan
        return scores

    monkeypatch.setattr(LocalTeacher, "score", score)
    assert train("--tracking.rollouts_every=0", config="quickstart") == 3
    run, said = tmp_path / "x", capsys.readouterr().err
    assert "rlkd: stopped in step 2: teacher " in said
    assert "in row 5" in said
    kept = run / "rollouts" / "step-000002-rank0.parquet"
    assert str(kept) in said
    assert len(pq.read_table(kept)) == 16
    assert told(run) == [(1, "teacher_failed", "stopped")]


def test_a_teacher_whose_scores_do_not_depend_on_the_answer(train, tmp_path, capsys, monkeypatch):
    real = LocalTeacher.score

    def score(self, prompt_ids, completion_ids, temperature):
        scores = real(self, prompt_ids, completion_ids, temperature)
        if len(scores) == 16:  # a batch, and not the check at the start
            for one in scores:
                one.logp[:] = -2.0
        return scores

    monkeypatch.setattr(LocalTeacher, "score", score)
    assert train("--run.save_every=0", config="quickstart") == 0
    assert (3, "teacher_constant", "on") in told(tmp_path / "x")
    assert "ALARM teacher_constant (step 3): the teacher gives" in capsys.readouterr().err
    last = lines(tmp_path / "x")[-1]
    assert last["train/teacher/logp_std"] < 1e-6
    assert not [n for n in last if "/" in n and glossary.explain(n) is None]


# -- rewards and lengths --------------------------------------------------------------------------


def test_a_constant_reward_is_told_of_at_once_and_again(train, tmp_path, capsys):
    use = [{"use": "tests.e2e.faulty_learning:constant", "name": "flat"}]
    words = (f"--rewards={json.dumps(use)}", "--optim.steps=6", "--run.save_every=0")
    assert train(*words, "--tracking.wandb=offline") == 0
    run, said = tmp_path / "x", capsys.readouterr().err
    assert told(run) == [(0, "constant_reward", "warning"), (5, "constant_reward", "on")]
    assert "every rollout of the first batch got the same reward, 0.25" in said
    assert "ALARM constant_reward (step 5): every rollout got the same reward, 0.25" in said
    rows = [row for row in lines(run) if "train/loss" in row]
    assert [row.get("train/alarms/constant_reward") for row in rows] == [None] * 4 + [1, 1]
    assert alerts(run) == ["constant_reward (step 0)", "constant_reward (step 5)"]


def alerts(run: Path) -> list[str]:
    """Titles of the alerts in the offline W&B file."""
    from wandb.proto import wandb_internal_pb2

    (path,) = (run / "wandb").rglob("*.wandb")
    titles = []
    for payload in _payloads(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        if record.HasField("alert"):
            titles.append(record.alert.title)
    return titles


def test_truncated_answers(train, tmp_path, capsys):
    words = ("--sampling.max_completion_length=1", "--run.save_every=0")
    assert train(*words) == 2
    run, said = tmp_path / "x", capsys.readouterr().err
    assert "rlkd: nothing can be learnt from the first batch, and no update was made" in said
    assert "100 % of the first answers were cut off by the length limit of 1 tokens" in said
    assert not (run / "model").exists()
    assert lines(run) == []
    assert told(run)[-1] == (0, "truncated", "refused")
    kept = run / "rollouts" / "step-000001-rank0.parquet"
    assert pq.read_table(kept).to_pydict()["truncated"] == [True] * 16
    assert str(kept) in said
    assert train(*words, "--run.first_batch=warn", "--run.name=y") == 0
    assert (3, "truncated", "on") in told(tmp_path / "y")
    assert "ALARM truncated (step 3): 100 % of the answers" in capsys.readouterr().err
    last = lines(tmp_path / "y")[-1]
    assert last["train/alarms/truncated"] == 1


def test_a_reward_that_fails_now_and_then(train, tmp_path, capsys):
    use = {"use": "tests.e2e.faulty_rewards:faulty", "name": "accuracy", "max_fault_share": 1,
           "kwargs": {"of": "raise", "share": 0.6}}  # fmt: skip
    words = (f"--rewards={json.dumps([use, WELL_FORMED])}", "--run.save_every=0")
    assert train(*words) == 0
    run, said = tmp_path / "x", capsys.readouterr().err
    faults = [row["train/rewards/accuracy/faults"] for row in lines(run)]
    assert all(count > 0 for count in faults[:3])
    assert (3, "reward_faults", "on") in told(run)
    assert f"failed on rows of this step: accuracy on {faults[2]:g}\n" in said
    assert [row.get("train/alarms/reward_faults") for row in lines(run)] == [None, None, 1, 1]

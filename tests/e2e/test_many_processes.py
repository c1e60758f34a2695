"""One process and many are the same: four ranks under DDP, and two and four whose student is spread
over them by FSDP2 (accelerate's own, see fsdp_on_cpu.py). One launch makes all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlkd.checkpoints import carried
from rlkd.checkpoints.manifest import CheckpointError
from rlkd.planning.network import read_network
from rlkd.planning.phases import Work, estimate
from tests.e2e import late_reward, many_ranks
from tests.e2e.runs import differences, lines
from tests.once import made_once

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)  # of the first test, which waits for the launch
RECORDS = ("key", "pass_rate", "shortest", "visits")


@pytest.fixture(scope="module")
def folder(student, teacher, tmp_path_factory) -> Path:
    def make(place: Path) -> None:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        words = [sys.executable, "tests/e2e/many_ranks.py", student, teacher, str(place)]
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-4000:]

    return made_once(tmp_path_factory, "many", make)


@pytest.mark.parametrize(
    ("cut", "name"),
    [(cut, name) for cut, (*_, names) in many_ranks.CUTS.items() for name in names if cut != "one"],
)
def test_many_ranks_make_the_update_of_one(cut, name, folder):
    want, got = (torch.load(folder / f"{file}.pt")[name] for file in ("one", cut))
    assert want.keys() == got.keys()
    for key, value in want.items():
        if key in RECORDS:
            assert torch.equal(got[key].nan_to_num(), value.nan_to_num()), key
            continue
        # Differences of weights of size about 0.3: float32 leaves 3e-8 of them.
        torch.testing.assert_close(got[key], value, rtol=1e-5, atol=2e-7, msg=key)
    assert max(value.abs().max() for key, value in want.items() if "weight" in key) > 1e-3


def evaluations(run: Path) -> list[dict]:
    return [
        {key: value for key, value in line.items() if key.startswith("eval/")}
        for line in lines(run)
        if "eval/rows" in line
    ]


@pytest.mark.parametrize("run", ["four", "whole"])
def test_uneven_shares_of_held_out_rows_are_counted_once(run, folder):
    first, *_, last = evaluations(folder / run)
    assert first == evaluations(folder / "one")[0]  # the same weights, greedy
    assert first["eval/rows"] == last["eval/rows"] == 33


def training(run: Path, *, times: bool = False) -> list[dict]:
    wall = ("train/time/", "train/memory/", "train/step_time")
    return [
        {k: v for k, v in line.items() if k.startswith("train/") and k.startswith(wall) == times}
        for line in lines(run)
        if "train/loss" in line
    ]


def test_a_reward_that_is_late_on_one_rank_changes_no_number(folder):
    assert training(folder / "late") == training(folder / "four")
    for line in training(folder / "late", times=True):
        # Means over four ranks: one is late, three wait for it.
        assert line["train/time/reward"] > late_reward.SLOW_S / 4
        assert line["train/time/sync"] > late_reward.SLOW_S * 0.7
    assert max(line["train/time/reward"] for line in training(folder / "four", times=True)) < (
        late_reward.SLOW_S / 4
    )
    assert not list((folder / "late").glob("stuck-*"))
    assert json.loads((folder / "late" / "run.json").read_text())["ended"]["why"] == "all steps"


def test_groups_that_straddle_four_ranks_are_remembered_once(folder):
    rows = pq.read_table(folder / "four" / "difficulty.parquet").to_pylist()
    visits: dict[str, int] = {}
    for step in (1, 2):
        prompts = [
            prompt
            for rank in range(4)
            for prompt in pq.read_table(
                folder / "four" / "rollouts" / f"step-00000{step}-rank{rank}.parquet"
            ).to_pydict()["prompt"]
        ]
        assert len(prompts) == 36
        assert all(len(set(prompts[i : i + 6])) == 1 for i in range(0, 36, 6))
        for prompt in set(prompts):
            visits[prompt] = visits.get(prompt, 0) + 1
    assert {row["prompt"]: row["visits"] for row in rows if row["visits"]} == visits


# -- sharded ------------------------------------------------------------------------------------


def test_a_sharded_run_resumes_bit_for_bit(folder):
    assert differences(folder / "whole", folder / "parts") == []
    names = {path.name for path in (folder / "whole" / "checkpoints" / "checkpoint-2").iterdir()}
    assert {"pytorch_model_fsdp.bin", "optimizer.bin", "model.safetensors"} <= names


@pytest.mark.parametrize(("fsdp", "deepspeed", "here"), [
    (True, False, None), (False, False, "DDP or one process"), (False, True, "DeepSpeed"),
])  # fmt: skip
def test_a_sharded_checkpoint_is_of_sharded_launches_only(fsdp, deepspeed, here, folder):
    path = str(folder / "whole" / "checkpoints" / "checkpoint-2")
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(is_main_process=True, num_processes=2),
        is_fsdp_enabled=fsdp, is_deepspeed_enabled=deepspeed,
        pieces=SimpleNamespace(check=lambda checkpoint: None),
    )  # fmt: skip
    if here is None:
        found = carried.find(trainer, path, print)
        assert found is not None
        assert str(found.path) == path
        return
    with pytest.raises(CheckpointError, match=f"written under FSDP, and this launch is {here}"):
        carried.find(trainer, path, print)


def test_a_sharded_runs_model_is_whole(folder):
    model = AutoModelForCausalLM.from_pretrained(folder / "whole" / "model")
    start = AutoModelForCausalLM.from_pretrained(ROOT / "configs/models/tiny_student")
    ours, theirs = model.state_dict(), start.state_dict()
    assert {n: w.shape for n, w in ours.items()} == {n: w.shape for n, w in theirs.items()}
    moved = {n: (w - theirs[n]).abs().max().item() for n, w in ours.items()}
    assert 0.0 < max(moved.values()) < 0.01


def test_a_process_holds_the_share_that_the_plan_says(student, folder):
    net = read_network(student, "float32", "model.path")
    work = Work(prompt=3, completion=8, micro_batch=4, accumulation=1, generated=4, processes=2,
                sharded=True)  # fmt: skip
    planned = {part.name: part.size for part in estimate(net, None, work).phases[-1].parts}
    for name, held in torch.load(folder / "nan.pt")["bytes"].items():
        assert held == pytest.approx(planned[name], rel=0.02), name


def test_a_sharded_update_that_is_not_finite_is_left_out(folder):
    found = torch.load(folder / "nan.pt")
    first, second, third = found["weights"]
    assert found["told"] == [["loss", "gradient"]]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(second[name], third[name]) for name in first)
    assert all(weight.isfinite().all() for weight in third.values())

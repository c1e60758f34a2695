"""DeepSpeed ZeRO-2 and ZeRO-3 on two ranks of a CPU. Outside the default run: pip install deepspeed
(0.19 was tried), then pytest -m deepspeed tests/e2e/test_deepspeed.py."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlkd.checkpoints import carried, manifest
from tests.e2e.runs import differences
from tests.e2e.test_many_processes import RECORDS, evaluations

ROOT = Path(__file__).resolve().parents[2]
UPDATES = ("grpo", "grpo with reference", "rlad", "rlad with lora", "grpo with ceeh-me", "kdrl",
           "luffy")  # fmt: skip
pytestmark = [
    pytest.mark.deepspeed,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="the package deepspeed is missing"),
]


@pytest.fixture(scope="module")
def folder(student, teacher, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("zero")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "tests/e2e/zero_ranks.py", student, teacher, str(place)]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return place


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("name", UPDATES)
def test_two_ranks_make_the_update_of_one(name, stage, folder):
    want, got = (torch.load(folder / f"zero-{number}.pt")[name] for number in (0, stage))
    assert want.keys() == got.keys()
    for key, value in want.items():
        if key in RECORDS:
            assert torch.equal(got[key].nan_to_num(), value.nan_to_num()), key
        else:
            torch.testing.assert_close(got[key], value, rtol=1e-5, atol=2e-7, msg=key)


@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_resumes_bit_for_bit(stage, folder):
    whole = folder / str(stage) / "whole"
    assert differences(whole, folder / str(stage) / "parts") == []
    checkpoint = manifest.verify(whole / "checkpoints" / "checkpoint-2")
    carried.check_spread(checkpoint, fsdp=False, deepspeed=True)
    model = AutoModelForCausalLM.from_pretrained(whole / "written")  # see zero_ranks.unfinish
    start = AutoModelForCausalLM.from_pretrained(ROOT / "configs/models/tiny_student")
    for name, weight in start.state_dict().items():
        assert model.state_dict()[name].shape == weight.shape
    assert [line["eval/rows"] for line in evaluations(whole)] == [33, 33]
    assert evaluations(whole)[0] == evaluations(folder / "2" / "parts")[0]


def test_an_update_from_nan_ends_the_training_on_all_ranks(folder):
    for rank in (0, 1):
        said = (folder / f"broken-{rank}.txt").read_text()
        assert said.startswith("stopped in step 1: its loss and gradient is NaN or infinite, and")
    assert not (folder / "nan.pt").exists()

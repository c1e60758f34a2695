"""Launched by test_deepspeed.py: the same step and the same runs on one rank, and on two under
DeepSpeed ZeRO-2 and ZeRO-3, on a CPU. Arguments: student, teacher, folder of the results."""

import contextlib
import functools
import io
import json
import os
import sys
import time
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed.comm.comm  # noqa: F401  # pyright: ignore[reportMissingImports]
import torch

from rlkd.cli import main as rlkd
from tests import accelerate_launch
from tests.e2e.many_ranks import RUN, expect, is_first, left_out
from tests.e2e.one_update import gradient
from tests.e2e.ranks import fork
from tests.e2e.resumed_pair import codes

# A collective in shared memory that it would compile first; without it gloo does.
sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]

UPDATES = ("grpo", "grpo with reference", "rlad", "rlad with lora", "grpo with ceeh-me", "kdrl",
           "luffy")  # fmt: skip
STAGES = (2, 3)


def split(stage: int) -> None:
    """From here on this process is where `accelerate launch` would have put it."""
    found = accelerate_launch.environment(f"deepspeed_zero{stage}")
    os.environ |= {name: text for name, text in found.items() if name.startswith("ACCELERATE_")}


def updates(stage: int, student: str, teacher: str, folder: Path) -> None:
    if stage:
        split(stage)
    found = {name: gradient(name, student, teacher, 6 if stage else 24) for name in UPDATES}
    if is_first():
        torch.save(found, folder / f"zero-{stage}.pt")


def runs(stage: int, folder: Path) -> None:
    split(stage)
    more = ["--run.processes=2", "--batch.micro_batch_size=6", "--run.save_every=2"]
    words = [*RUN, *more, f"--run.dir={folder / str(stage)}"]
    expect(codes(1, words), [0, 75, 0])
    if is_first():
        unfinish(folder / str(stage) / "whole")
    torch.distributed.barrier()
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        code = rlkd(["train", *words, "--run.name=whole", "--resume"])
    expect((code, "DeepSpeed cannot take the model up" in told.getvalue()), (2, True))


def unfinish(run: Path) -> None:
    """As a kill leaves it that comes after the last checkpoint and before the model is written."""
    (run / "model").rename(run / "written")
    about = json.loads((run / "run.json").read_text())
    del about["ended"]
    (run / "run.json").write_text(json.dumps(about))


def broken(student: str, folder: Path) -> None:
    split(2)
    try:
        left_out(student, folder)
    except RuntimeError as error:
        (folder / f"broken-{os.environ['RANK']}.txt").write_text(str(error))


def main() -> None:
    student, teacher, place = sys.argv[1:]
    folder = Path(place)
    torch.set_num_threads(1)
    update = functools.partial(updates, student=student, teacher=teacher, folder=folder)
    for name, ranks, work in (
        ("one", 1, functools.partial(update, 0)),
        *((f"ZeRO-{stage}", 2, functools.partial(update, stage)) for stage in STAGES),
        *((f"runs, {stage}", 2, functools.partial(runs, stage, folder)) for stage in STAGES),
        ("broken", 2, functools.partial(broken, student, folder)),
    ):
        start = time.perf_counter()
        fork(ranks, work, name)
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()

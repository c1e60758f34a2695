"""Launched by test_many_processes.py: the same step, and the same runs, on one rank and on many.

Arguments: student, teacher, folder of the results. One process that imports once and forks the
ranks of one launch after the other.
"""

import functools
import os
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from trl import GRPOConfig

from rlkd import GRPO, Trainer
from rlkd.cli import main as rlkd
from tests.e2e import fsdp_on_cpu
from tests.e2e.one_update import gradient, weights
from tests.e2e.ranks import fork
from tests.e2e.resumed_pair import codes

UPDATES = ("grpo", "grpo with reference", "rlad", "rlad with lora", "grpo with ceeh-me", "kdrl",
           "luffy")  # fmt: skip
CUTS = {  # ranks, rows per micro-batch, sharded, which
    "one": (1, 24, False, UPDATES),
    "four": (4, 3, False, UPDATES),
    "two sharded": (2, 6, True, UPDATES),
    "four sharded": (4, 6, True, ("rlad",)),
}
RUN = [
    "configs/quickstart.yaml", "--optim.steps=2", "--data.train.size=100", "--data.eval.size=33",
    "--eval.batch_size=4", "--batch.prompts_per_step=6", "--batch.group_size=6",
    "--batch.micro_batch_size=3", "--tracking.wandb=disabled",
]  # fmt: skip
"""Groups of six on four ranks straddle them; of 33 rows one rank has nine, in a pass more than the
others."""
LATE = [
    '--rewards=[{use: "tests.e2e.late_reward:accuracy"},'
    ' {use: "rewards.arithmetic:well_formed", weight: 0}]',
    "--data.eval=null", "--eval.every=0",
]  # fmt: skip


def updates(cut: str, student: str, teacher: str, folder: Path) -> None:
    _, micro, sharded, names = CUTS[cut]
    if sharded:
        fsdp_on_cpu.shard()
    found = {name: gradient(name, student, teacher, micro) for name in names}
    if is_first():
        torch.save(found, folder / f"{cut}.pt")


def sharded_left_out(student: str, folder: Path) -> None:
    fsdp_on_cpu.shard()
    left_out(student, folder)


def left_out(student: str, folder: Path) -> None:
    """A step whose loss is NaN on one rank, and one whose is not."""
    args = GRPOConfig(
        output_dir=str(folder / "nan"), per_device_train_batch_size=4, num_generations=4,
        max_completion_length=8, max_steps=2, learning_rate=0.1, optim="adamw_torch", bf16=False,
        use_cpu=True, report_to="none", save_strategy="no", gradient_checkpointing=False,
        disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": f"{i}+{i + 1}="} for i in range(8)])
    algorithm = GRPO(beta=0.0, advantage_scale="none")
    reward = lambda completions, **_: [float(i % 2) for i in range(4)]  # noqa: E731
    trainer = Trainer(student, reward, args, rows, algorithm=algorithm)
    seen, told = [], []
    trainer.on_not_finite = told.append
    real = trainer._compute_loss

    def compute_loss(*args, **kwargs):
        seen.append(weights(trainer))
        broken = trainer.state.global_step == 0 and trainer.accelerator.process_index == 1
        return real(*args, **kwargs) * (float("nan") if broken else 1.0)

    trainer._compute_loss = compute_loss
    trainer.train()
    seen.append(weights(trainer))
    states = trainer.optimizer.optimizer.state.values()
    held = {
        "student's weights": own_bytes(trainer.model.parameters()),
        "AdamW's states": own_bytes(v for state in states for k, v in state.items() if "exp" in k),
    }
    if is_first():
        torch.save({"weights": seen, "told": told, "bytes": held}, folder / "nan.pt")


def own_bytes(tensors) -> int:
    """Of this rank's shares."""
    return sum(tensor.to_local().nbytes for tensor in tensors)


def runs(kind: str, folder: Path) -> None:
    words = [*RUN, f"--run.dir={folder}"]
    if kind == "sharded":
        fsdp_on_cpu.shard()
        more = ["--run.processes=2", "--batch.micro_batch_size=6", "--run.save_every=2"]
        expect(codes(1, [*words, *more]), [0, 75, 0])
        return
    expect(rlkd(["train", *words, f"--run.name={kind}"]), 0)
    if kind == "four":
        expect(rlkd(["train", *words, *LATE, "--run.name=late"]), 0)


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"exit codes {found}, not {wanted}")


def is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def main() -> None:
    student, teacher, place = sys.argv[1:]
    folder = Path(place)
    torch.set_num_threads(1)
    for name, ranks, work in (
        *(
            (cut, CUTS[cut][0], functools.partial(updates, cut, student, teacher, folder))
            for cut in CUTS
        ),
        ("nan", 2, functools.partial(sharded_left_out, student, folder)),
        ("run on one", 1, functools.partial(runs, "one", folder)),
        ("runs on four", 4, functools.partial(runs, "four", folder)),
        ("sharded runs", 2, functools.partial(runs, "sharded", folder)),
    ):
        start = time.perf_counter()
        fork(ranks, work, name)
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()

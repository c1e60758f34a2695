"""Launched by test_killed.py: runs that are killed (SIGKILL) and resumed, each in a forked child.

One interpreter loads torch; every attempt is a fork of it, which costs milliseconds where a new
process costs seconds. Arguments: a folder, `points` or a number of random kills, and the words of
`rlkd train`. Prints a line of JSON for each attempt.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import rlkd.run  # noqa: F401  loaded once, before the forks
from rlkd.checkpoints import manifest, writer
from rlkd.cli import main
from rlkd.trainer import Trainer

KILLED = -signal.SIGKILL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_step() -> None:
    """In the second micro-batch of the seventh step: its gradient is half there."""
    real = Trainer._compute_loss

    def loss(self, model, inputs):
        if self.state.global_step == 6 and self._step % 2:
            die()
        return real(self, model, inputs)

    Trainer._compute_loss = loss  # type: ignore[method-assign]


def in_a_file() -> None:
    """In the middle of the optimiser's file of checkpoint-6."""
    real = torch.save

    def save(value, path, **more):
        real(value, path, **more)
        if str(path).endswith("checkpoint-6/optimizer.pt"):
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    torch.save = save


def before_the_rename() -> None:
    """checkpoint-6 is complete, under its unfinished name."""
    real = writer._publish

    def publish(written: Path, final: Path) -> None:
        if final.name == "checkpoint-6":
            die()
        real(written, final)

    writer._publish = publish


def in_the_rotation() -> None:
    """checkpoint-6 is there and the oldest is half deleted."""

    def remove(path: Path) -> None:
        (path / "model.safetensors").unlink()
        die()

    writer.shutil = type("shutil", (), {"rmtree": staticmethod(remove)})  # type: ignore[assignment]


POINTS: dict[str, Callable[[], None]] = {
    point.__name__: point for point in (in_a_step, in_a_file, before_the_rename, in_the_rotation)
}


def attempt(
    words: list[str], patch: Callable[[], None] = lambda: None, seconds: float | None = None
) -> int:
    """The exit code of `rlkd train WORDS` in a child, killed after so many seconds."""
    pid = os.fork()
    if pid == 0:
        try:
            patch()
            os._exit(main(["train", *words]))
        finally:
            os._exit(99)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def whole_steps(run: Path) -> list[int]:
    """Steps of the checkpoints that can be resumed from; what else calls itself one is an error."""
    return sorted(
        manifest.verify(path).step for path in manifest.candidates(run / "checkpoints").values()
    )


def at_points(folder: Path, words: list[str]) -> None:
    for name, patch in POINTS.items():
        run = folder / name
        first = attempt([*words, f"--run.dir={folder}", f"--run.name={name}"], patch)
        left = whole_steps(run)
        second = attempt([str(run), "--resume"])
        names = [path.name for path in (run / "checkpoints").iterdir()]
        found = {"point": name, "codes": [first, second], "left": left, "then": whole_steps(run)}
        found["temporary"] = [name for name in names if not name.startswith("checkpoint-")]
        print(json.dumps(found), flush=True)


def at_random(folder: Path, words: list[str], kills: int) -> None:
    draw, run = random.Random(0), folder / "killed"
    start = [*words, f"--run.dir={folder}", "--run.name=killed"]
    began = time.monotonic()
    assert attempt([*words, f"--run.dir={folder}", "--run.name=timed"]) == 0
    length = time.monotonic() - began
    done = 0
    while done < kills:
        left = left_by_the_last(run)
        code = attempt([str(run), "--resume"] if left else start, seconds=draw.uniform(0, length))
        done += code == KILLED
        steps = [line["step"] for line in _readable(run) if "train/loss" in line]
        now = whole_steps(run) if run.exists() else []
        found = {"code": code, "before": left, "seen": max(steps, default=0), "left": now}
        print(json.dumps(found), flush=True)
        if code == 0:
            shutil.rmtree(run)
    code = attempt([str(run), "--resume"] if left_by_the_last(run) else start)
    print(json.dumps({"code": code}), flush=True)


def left_by_the_last(run: Path) -> list[int]:
    """Steps to resume from. A run killed before its first checkpoint lost nothing but its start."""
    left = whole_steps(run) if run.exists() else []
    if run.exists() and not left:
        shutil.rmtree(run)
    return left


def _readable(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    text = path.read_text()
    if not text.endswith("\n"):  # torn by the kill; the next attempt cuts it
        text = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    target, kind, *rest = sys.argv[1:]
    if kind == "points":
        at_points(Path(target), rest)
    else:
        at_random(Path(target), rest, int(kind))

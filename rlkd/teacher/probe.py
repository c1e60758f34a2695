"""A teacher's server, looked at once and with little patience: what it serves, how many tokens it
reads, whether it scores. The run itself asks for longer (`rlkd.teacher.server`)."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import httpx

from rlkd.config import ConfigError, RunConfig
from rlkd.config.schema import OtherTeacher
from rlkd.config.teacher import teacher_classes
from rlkd.errors import nearest, together
from rlkd.teacher.base import TeacherError
from rlkd.teacher.door import scores
from rlkd.teacher.outline import Outlines
from rlkd.teacher.patient import is_busy
from rlkd.teacher.prompt_lengths import Lengths, prompt_lengths
from rlkd.teacher.reply import read_reply
from rlkd.teacher.scores import fault_of
from rlkd.teacher.server import ServerTeacher

logger = logging.getLogger(__name__)

_WAIT = httpx.Timeout(5.0, connect=3.0)
_WRITTEN = 1
"""Tokens that the server writes itself: vLLM has no request for scores alone."""


class Silent(Exception):
    """It did not answer, or not with what it was asked for."""


class Busy(Silent):
    """It answered that it cannot now."""


class Refused(Silent):
    """It answered that it will not: asking again gives the same."""


class Server:
    """A server and the key for it. No message of its holds the key.

    Args:
        place: of the teacher's block.
        teacher: made from that, and asked for nothing.
        block: the block.
    """

    def __init__(self, place: str, teacher: ServerTeacher, block: OtherTeacher) -> None:
        name = block.settings.get("api_key_env")
        self._key = os.environ.get(name, "") if name else ""
        self.place, self.url, self.wanted = place, teacher.url, teacher.model
        self.shown = teacher.name.removeprefix("teacher at ")
        """Its URL, for messages."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._http = httpx.Client(headers=headers, timeout=_WAIT)

    def close(self) -> None:
        self._http.close()

    def models(self) -> dict[str, int | None]:
        """The names that it serves, and how many tokens each reads, prompt and answer together;
        None: it does not say.

        Raises:
            Silent: it does not answer. Refused: it is another kind of server, or wants another key.
        """
        said = self._ask("GET", "/v1/models")
        try:
            entries = {str(entry["id"]): entry for entry in said["data"]}
        except (KeyError, TypeError) as error:
            raise Refused(f"/v1/models lists no models: {self._clean(str(said))}") from error
        return {name: _limit(entry, entries) for name, entry in entries.items()}

    def scores(self, model: str) -> float:
        """Seconds that it took to score a token after another.

        Raises:
            Silent: it did not.
        """
        body = {
            "model": model, "prompt": [0, 1], "max_tokens": _WRITTEN, "temperature": 1.0,
            "prompt_logprobs": 0, "add_special_tokens": False,
        }  # fmt: skip
        start = time.monotonic()
        said = self._ask("POST", "/v1/completions", body)
        seconds = time.monotonic() - start
        try:
            scored = read_reply(said, 1, [1], "it")
            fault = fault_of("it", scored, [1], "in a request of two tokens")
        except (TeacherError, AttributeError, TypeError, ValueError) as error:
            fault = str(error)
        if fault is not None:
            raise Silent(self._clean(fault))
        return seconds

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            reply = self._http.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise Silent(self._clean(f"{type(error).__name__} {error}".strip())) from error
        if reply.status_code != 200:
            kind = Busy if is_busy(reply.status_code) else Refused
            raise kind(f"HTTP {reply.status_code} to {path}: {self._clean(reply.text)!r}")
        try:
            return reply.json()
        except ValueError as error:
            raise Silent(f"no JSON to {path} but {self._clean(reply.text)!r}") from error

    def _clean(self, text: str) -> str:
        """Without the key, should the server repeat it; and not long."""
        return (text.replace(self._key, "***") if self._key else text)[:200]


def has_servers(config: RunConfig) -> bool:
    """Is a server among those who are asked for scores?"""
    if config.teacher is None or not scores(config):
        return False
    return any(issubclass(kind, ServerTeacher) for kind in teacher_classes(config.teacher))


def servers_of(outlines: Outlines) -> dict[str, Server]:
    """The servers of a teacher, by their places."""
    return {
        place: Server(place, made, block)
        for place, made in outlines.by_place.items()
        if isinstance(made, ServerTeacher)
        and isinstance(block := outlines.blocks[place], OtherTeacher)
    }


def refused(server: Server, error: Refused) -> str:
    """The message of a server that refuses to say what it serves."""
    return (
        f"{server.place}: {server.shown} is no server of vLLM, or wants a key.\n"
        f"  found: {error}\n"
        "  do: mend the url, or name the environment variable that holds the key in"
        f" {server.place}.api_key_env"
    )


def chosen(server: Server, models: Mapping[str, int | None]) -> str:
    """The name that the run will ask for, of those that are served.

    Raises:
        ConfigError: it names one that is not, or none of several.
    """
    served, wanted = ", ".join(models) or "nothing", server.wanted
    if wanted is None and len(models) == 1:
        return next(iter(models))
    if wanted in models:
        return str(wanted)
    if wanted is None:
        raise ConfigError(
            f"{server.place}.model: {server.shown} serves several models, or none, and the"
            f" config names none.\n  found: {served}\n"
            f"  do: set {server.place}.model to one of them"
        )
    raise ConfigError(
        f"{server.place}.model: {server.shown} does not serve {wanted!r}.\n"
        f"  found: {served}\n  did you mean: {nearest(wanted, models)}\n"
        f"  do: set {server.place}.model to a name that is served, or serve it by this one"
        " (--served-model-name)"
    )


class TooShort(NamedTuple):
    """A server that reads fewer tokens than a row may have."""

    message: str
    ends_run: bool
    """Or can the run go on without the scores of what is too long?"""


def too_short(
    server: Server, limit: int | None, config: RunConfig, prompts: Lengths | None
) -> TooShort | None:
    """None: the server is not known to read too few tokens.

    Args:
        limit: tokens that it reads; None: it does not say.
        prompts: that it is shown; None: not known, at least one token.
    """
    answer = config.sampling.max_completion_length
    shortest, longest = prompts if prompts is not None else (1, 1)
    needed = longest + answer + _WRITTEN
    if limit is None or needed <= limit:
        return None
    masks = config.teacher is not None and config.teacher.on_bad_scores == "mask"
    ends_run = not masks or shortest + 1 + _WRITTEN > limit
    then, instead = "and the run would end at the first such answer", ""
    if ends_run and masks:
        then = "and no answer is short enough"
    elif masks:
        then = (
            "and teacher.on_bad_scores: mask leaves such answers out; the run ends where they are"
            " too many"
        )
    else:
        instead = ", or leave such answers out (teacher.on_bad_scores: mask)"
    shown = "a prompt" if prompts is None else f"prompts of up to {longest} tokens"
    return TooShort(
        f"{server.place}: {server.shown} reads at most {limit} tokens (its max_model_len).\n"
        f"  found: {shown}, answers of up to {answer} (sampling.max_completion_length) and"
        f" {_WRITTEN} token that it writes itself: {needed}{' or more' * (prompts is None)}\n"
        f"  why: it refuses what is longer, {then}\n"
        f"  do: start it with --max-model-len {needed} or more, or lower"
        f" sampling.max_completion_length{instead}",
        ends_run,
    )


def check_servers(config: RunConfig, rows: Sequence[dict[str, Any]] = ()) -> None:
    """What a teacher's servers say of themselves fits the run. One that does not answer at once is
    left to the run, which waits for it. Warns of one that reads too few tokens for some answers,
    where these may be left out.

    Args:
        config: what `rlkd.teacher.door.check_teaching` has let pass.
        rows: for training, what `check_rows` has let pass; none: the prompts are not known.

    Raises:
        ConfigError: a server refuses, does not serve the model that is named, or reads too few
            tokens.
    """
    if not has_servers(config):
        return
    assert config.teacher is not None
    problems = []
    with Outlines(config.teacher) as outlines:
        for place, server in servers_of(outlines).items():
            try:
                models = server.models()
                limit = models[chosen(server, models)]
            except Refused as error:
                problems.append(refused(server, error))
                continue
            except Silent:
                continue
            except ConfigError as error:
                problems.append(str(error))
                continue
            finally:
                server.close()
            known = limit is not None and bool(rows)
            prompts = prompt_lengths(config, rows, outlines).get(place) if known else None
            short = too_short(server, limit, config, prompts)
            if short is not None and short.ends_run:
                problems.append(short.message)
            elif short is not None:
                logger.warning("%s", short.message)
    if problems:
        raise together(problems, f"run {config.run.name}")


def _limit(entry: Mapping[str, Any], entries: Mapping[str, Any]) -> int | None:
    """Of adapters that it serves vLLM gives their model's name alone."""
    own = entry.get("max_model_len")
    if own is None:
        own = entries.get(str(entry.get("parent")), {}).get("max_model_len")
    return own if isinstance(own, int) else None

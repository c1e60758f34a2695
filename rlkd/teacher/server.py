"""A teacher behind HTTP: vLLM's OpenAI-compatible server (`vllm serve`; `trl vllm-serve`, which
since TRL 1.16 starts that one with flags of its own, and has no other endpoint for this). It is
asked for the log-probabilities of the tokens that it is sent (`prompt_logprobs`), nothing else."""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import httpx
import tenacity
import torch

from rlkd.teacher.address import check_address, shown
from rlkd.teacher.base import (
    Teacher,
    TeacherError,
    TokenScores,
    Usage,
    fault_of,
    refuse_empty_prompts,
)
from rlkd.teacher.canary import Canary
from rlkd.teacher.reply import SHOWN, read_models, read_reply
from rlkd.teacher.threads import Threads, result_of

logger = logging.getLogger(__name__)

_CANARY_TOKENS = 8
_Tokens = tuple[tuple[int, ...], tuple[int, ...]]
"""Of a prompt and its answer."""
_BACK_OFF = tenacity.wait_random_exponential(multiplier=0.5, max=15.0)
_OF_ONE_REQUEST = (400, 413, 422)
"""Statuses that refuse what one request holds; any other refuses whoever asks."""
_BLAME = (
    "another model, or another setting of the server, has taken its place. Serve the model that "
    "the run began with and resume, or begin a new run."
)


class Unreachable(Exception):
    """The server did not answer, or said that it cannot now."""


class Refused(TeacherError):
    """The server refuses what one request holds; it may take another."""


class ServerTeacher(Teacher):
    """Scores tokens over HTTP.

    vLLM gives the log-probabilities of prompt tokens at temperature 1 whatever the request says.

    Args:
        url: of the server, like ``http://localhost:8000``.
        model: the name it serves the model by; None: the only one it serves.
        tokenizer: folder of the teacher's tokenizer, to compare with the student's token by token;
            None: the student's tokens must mean the same there by agreement, and what the
            self-check on the first answers can see is all that is checked.
        temperature: 1 accepts that the student samples at another temperature.
        concurrency: requests at a time, from each process.
        timeout: seconds to wait for one answer.
        patience: seconds to go on asking a server that does not answer (one that restarts, say);
            then the run stops.
        canary_every: optimiser steps between two looks whether the server still holds the model
            that it held at the start; 0: never.
        api_key_env: environment variable that holds the key; None: no key.

    Raises:
        ValueError: a setting cannot be used.
    """

    scores_at: frozenset[float] = frozenset({1.0})
    computes_here = False
    begins = True
    _own: Any = None
    """Its tokenizer, where one is named."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        tokenizer: str | None = None,
        *,
        temperature: float | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        patience: float = 300.0,
        canary_every: int = 50,
        api_key_env: str | None = None,
    ) -> None:
        check_address(url)
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it counts requests, at least 1")
        if canary_every < 0:
            raise ValueError(
                f"canary_every is {canary_every}; it counts optimiser steps, at least 1 (0: never)"
            )
        if timeout <= 0.0:
            raise ValueError(f"timeout is {timeout:g}; these are seconds, above 0")
        if patience < 0.0:
            raise ValueError(f"patience is {patience:g}; these are seconds, at least 0")
        if temperature is not None and temperature not in self.scores_at:
            raise ValueError(
                f"temperature is {temperature:g}; a server scores prompt tokens at 1 whatever is "
                "asked for"
            )
        key = os.environ.get(api_key_env, "") if api_key_env else ""
        if api_key_env and not key:
            # Someone may have written the key itself: it stays out of logs.
            named = api_key_env if api_key_env.isidentifier() and api_key_env.isupper() else "***"
            raise ValueError(
                f"api_key_env names {named}, which is not set: put the key into an environment "
                "variable (export NAME=…), and its name here"
            )
        self.temperature, self.model = temperature, model
        self.url = url.rstrip("/").removesuffix("/v1")
        self.name = f"teacher at {shown(self.url)}"
        self._tokenizer_path, self._patience = tokenizer, patience
        self._canary_every, self._canary = canary_every, Canary(self.name, self._sing, _BLAME)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(headers=headers, timeout=httpx.Timeout(timeout, connect=10.0))
        self._threads = Threads(concurrency, "teacher-request")
        self._begun: dict[_Tokens, list[Future]] = {}
        self._warned, self._given_up = threading.Lock(), threading.Event()
        self.retries, self._spent, self._met = 0, Usage(), False
        self.usage = self._spent

    # -- before the first score ---------------------------------------------------------------

    def prepare(self, device: torch.device) -> None:
        served = read_models(self._ask("GET", "/v1/models"), self.name)
        self._met = True
        if self.model is None and len(served) == 1:
            self.model = served[0]
        if self.model not in served:
            asked = "no model is named" if self.model is None else f"no {self.model!r} is served"
            raise TeacherError(f"{self.name}: {asked}; it serves {', '.join(served) or 'nothing'}")

    def check_tokenizer(self, tokenizer: Any, model_vocab_size: int) -> None:
        from transformers import AutoTokenizer

        from rlkd.teacher.tokens import describe_difference

        if self._tokenizer_path is not None:
            self._own = AutoTokenizer.from_pretrained(self._tokenizer_path)
            difference = describe_difference(tokenizer.get_vocab(), self._own.get_vocab())
            if difference:
                raise TeacherError(
                    f"{self.name} numbers its tokens differently from the student: {difference}. "
                    "Its scores would be those of other words. Serve a teacher of the same family."
                )
        # A few tokens of the student's own, to be asked for again later on.
        ids = sorted(tokenizer.get_vocab().values())
        stride = max(1, len(ids) // _CANARY_TOKENS)
        self._canary_ids = ids[::stride][:_CANARY_TOKENS]

    def readers(self) -> Mapping[str, Any]:
        return {} if self._own is None else {self.name: self._own}

    # -- scores -------------------------------------------------------------------------------

    def score(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        if temperature not in self.scores_at:
            raise TeacherError(f"{self.name} scores at temperature 1, not at {temperature:g}")
        refuse_empty_prompts(prompt_ids)
        self._given_up.clear()
        self._canary.hear()
        # Longest first: the last to come back is then a short one.
        order = sorted(
            range(len(prompt_ids)), key=lambda i: -len(prompt_ids[i]) - len(completion_ids[i])
        )
        futures = {i: self._begun_or_new(prompt_ids[i], completion_ids[i]) for i in order}
        self._forget_begun()
        scores = []
        try:
            for i, (prompt, answer) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
                scores.append(result_of(futures[i], self._look, every_s=0.5))
                if len(answer):
                    self._spent.rows += 1
                    self._spent.tokens += len(prompt) + len(answer)
        finally:
            for future in futures.values():
                future.cancel()
        return scores

    def begin(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], temperature: float
    ) -> bool:
        if not self._canary.is_heard:
            return False
        self._given_up.clear()
        future = self._threads.submit(self._score_one, prompt_ids, completion_ids)
        self._begun.setdefault(_tokens(prompt_ids, completion_ids), []).append(future)
        return True

    def _begun_or_new(self, prompt: Sequence[int], answer: Sequence[int]) -> Future:
        begun = self._begun.get(_tokens(prompt, answer))
        return begun.pop() if begun else self._threads.submit(self._score_one, prompt, answer)

    def _forget_begun(self) -> None:
        """What nobody asked for: the batch was another in the end, or its sampling failed."""
        for futures in self._begun.values():
            for future in futures:
                future.cancel()
        self._begun.clear()

    def after_update(self, step: int) -> None:
        if self._canary_every and step % self._canary_every == 0 and self._canary.is_heard:
            self._canary.look()

    def learnt(self) -> Mapping[str, Any]:
        return {"canary": self._canary}

    def _sing(self) -> torch.Tensor:
        """The canary's scores, (T,).

        Raises:
            TeacherError: they are none.
        """
        scored = self._score_one(self._canary_ids[:1], self._canary_ids[1:])
        fault = fault_of(self.name, scored, self._canary_ids[1:], "of the canary")
        if fault is not None:
            raise TeacherError(fault)
        return scored.logp

    def _look(self) -> None:
        if self._given_up.is_set():
            raise TeacherError(f"{self.name} is not asked any longer")

    def give_up(self) -> None:
        self._given_up.set()

    def close(self) -> None:
        self.give_up()
        self._threads.close()
        self._http.close()

    def _score_one(self, prompt: Sequence[int], answer: Sequence[int]) -> TokenScores:
        if not len(answer):
            return TokenScores(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        body = {
            "model": self.model,
            "prompt": [*prompt, *answer],
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
            "add_special_tokens": False,
        }
        try:
            reply = self._ask("POST", "/v1/completions", body)
        except Refused as error:
            return TokenScores.faulty(answer, str(error))
        return read_reply(reply, len(prompt), answer, self.name)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of one request, asked again with longer and longer pauses while the server is
        not there.

        Raises:
            Refused: it refuses this request.
            TeacherError: it is not there for `patience` seconds, or refuses any.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unreachable),
            wait=self._pause,
            stop=tenacity.stop_any(
                tenacity.stop_after_delay(self._patience),
                tenacity.stop_when_event_set(self._given_up),
            ),
            sleep=tenacity.sleep_using_event(self._given_up),
            before_sleep=self._say_that_it_waits,
            reraise=True,
        )
        try:
            return retrying(self._ask_once, method, path, body)
        except Unreachable as error:
            if self._given_up.is_set():
                raise TeacherError(f"{self.name} is not asked any longer: {error}") from error
            then = " again and resume" if self._met else ", then start"
            raise TeacherError(
                f"{self.name} did not answer for {self._patience:g} seconds: {error}. Start it"
                f"{then} the run; `patience` is how long it is waited for."
            ) from error

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds until it is asked again: at most what is left of the patience."""
        left = self._patience - (state.seconds_since_start or 0.0)
        return max(0.0, min(_BACK_OFF(state), left))

    def _ask_once(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            reply = self._http.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise Unreachable(f"{type(error).__name__} {error}".strip()) from error
        if reply.status_code in (408, 425, 429) or reply.status_code >= 500:
            raise Unreachable(f"HTTP {reply.status_code} {reply.text[:200]!r}")
        if reply.status_code != 200:
            kind = Refused if reply.status_code in _OF_ONE_REQUEST else TeacherError
            raise kind(
                f"{self.name} refuses {path} with HTTP {reply.status_code}: {reply.text[:SHOWN]}"
            )
        try:
            return reply.json()
        except ValueError as error:
            raise Unreachable(f"no JSON but {reply.text[:200]!r}") from error

    def _say_that_it_waits(self, state: tenacity.RetryCallState) -> None:
        self.retries += 1
        error = state.outcome.exception() if state.outcome is not None else None
        if self._warned.acquire(blocking=False):  # once: sixteen threads find out together
            logger.warning(
                "%s does not answer (%s); asking again for %g seconds",
                self.name, error, self._patience,
            )  # fmt: skip


def _tokens(prompt: Sequence[int], answer: Sequence[int]) -> _Tokens:
    return tuple(prompt), tuple(answer)

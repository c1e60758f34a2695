"""A teacher behind HTTP: vLLM's OpenAI-compatible server (`vllm serve`; `trl vllm-serve`, which
since TRL 1.16 starts that one with flags of its own, and has no other endpoint for this). It is
asked for the log-probabilities of the tokens that it is sent (`prompt_logprobs`), nothing else."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import torch

from rlkd.teacher.address import check_address
from rlkd.teacher.base import Teacher, TeacherError, TokenScores, Usage, refuse_empty_prompts
from rlkd.teacher.canary import Canary
from rlkd.teacher.patient import Patient, Refused
from rlkd.teacher.reply import read_models, read_reply
from rlkd.teacher.scores import fault_of, faults_of
from rlkd.teacher.threads import Threads, result_of

_CANARY_TOKENS = 8
_Tokens = tuple[tuple[int, ...], tuple[int, ...]]
"""Of a prompt and its answer."""


class _NoCanary(TeacherError):
    """The canary has no scores that could be compared."""


class ServerTeacher(Teacher):
    """Scores tokens over HTTP.

    vLLM gives the log-probabilities of prompt tokens at temperature 1 whatever the request says.

    Args:
        url: of the server, like ``http://localhost:8000``.
        model: the name it serves the model by; None: the only one it serves.
        tokenizer: folder of the teacher's tokenizer, or its name in the hub's cache, to compare
            with the student's token by token; None: the student's tokens must mean the same there
            by agreement, and what the self-check on the first answers can see is all that is
            checked.
        temperature: 1 accepts that the student samples at another temperature.
        concurrency: requests at a time, from each process.
        timeout: seconds to wait for one answer.
        patience: seconds to go on asking a server that does not answer (one that restarts, say);
            then the run stops.
        canary_every: batches of answers between two looks whether the server still holds the model
            that it held at the start; they are made before the scores of a batch are handed on, so
            that with 1 another model's are never learnt from. 0: at the start and on resume alone.
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
        canary_every: int = 1,
        api_key_env: str | None = None,
    ) -> None:
        check_address(url)
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it counts requests, at least 1")
        if canary_every < 0:
            raise ValueError(
                f"canary_every is {canary_every}; it counts batches, at least 1 (0: at the start)"
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
        self._server = Patient(self.url, key, timeout, patience)
        self.name, self._tokenizer_path = self._server.name, tokenizer
        self._canary_every, self._canary = canary_every, Canary(self.name, self._sing)
        self._threads = Threads(concurrency, "teacher-request")
        self._begun: dict[_Tokens, list[Future]] = {}
        self._batches = 0
        self.usage = self._spent = Usage()

    @property
    def retries(self) -> int:
        """Requests that were sent again so far."""
        return self._server.retries

    # -- before the first score ---------------------------------------------------------------

    def prepare(self, device: torch.device) -> None:
        served = read_models(self._server.ask("GET", "/v1/models"), self.name)
        if self.model is None and len(served) == 1:
            self.model = served[0]
        if self.model not in served:
            asked = "no model is named" if self.model is None else f"no {self.model!r} is served"
            raise TeacherError(f"{self.name}: {asked}; it serves {', '.join(served) or 'nothing'}")
        # On every rank: with several teachers some ranks may get no row for this one for long, and
        # the main rank's canary is the one in the checkpoint.
        self._canary.hear()

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
        self._server.begin()
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
        self._batches += 1
        if self._canary_every and self._batches % self._canary_every == 0:
            self._look_again(scores, completion_ids)
        return scores

    def _look_again(
        self, scores: Sequence[TokenScores], completion_ids: Sequence[Sequence[int]]
    ) -> None:
        """Is it still the same model, now that the scores are there?"""
        try:
            self._canary.look()
        except _NoCanary:
            # Whoever asked will find what is wrong with the answers, and keep them in a file.
            if not faults_of(self.name, scores, completion_ids):
                raise

    def begin(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], temperature: float
    ) -> bool:
        if not self._canary.is_heard:
            return False
        self._server.begin()
        future = self._threads.submit(self._score_one, prompt_ids, completion_ids)
        self._begun.setdefault(_tokens(prompt_ids, completion_ids), []).append(future)
        return True

    def _begun_or_new(self, prompt: Sequence[int], answer: Sequence[int]) -> Future:
        begun = self._begun.get(_tokens(prompt, answer))
        future = begun.pop() if begun else None
        if future is not None and not (future.done() and future.exception() is not None):
            return future
        # None, or its patience has ended: the server may be back since.
        return self._threads.submit(self._score_one, prompt, answer)

    def _forget_begun(self) -> None:
        """What nobody asked for: the batch was another in the end, or its sampling failed."""
        for futures in self._begun.values():
            for future in futures:
                future.cancel()
        self._begun.clear()

    def learnt(self) -> Mapping[str, Any]:
        return {"canary": self._canary}

    def _sing(self) -> torch.Tensor:
        """The canary's scores, (T,).

        Raises:
            _NoCanary: they are none.
            TeacherError: the server is not there, or refuses to be asked.
        """
        scored = self._score_one(self._canary_ids[:1], self._canary_ids[1:])
        fault = fault_of(self.name, scored, self._canary_ids[1:], "of the canary")
        if fault is not None:
            raise _NoCanary(fault)
        return scored.logp

    def _look(self) -> None:
        if self._server.has_given_up:
            raise TeacherError(f"{self.name} is not asked any longer")

    def give_up(self) -> None:
        self._server.give_up()

    def close(self) -> None:
        self._server.close()
        self._threads.close()

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
            reply = self._server.ask("POST", "/v1/completions", body)
        except Refused as error:
            return TokenScores.faulty(answer, str(error))
        return read_reply(reply, len(prompt), answer, self.name)


def _tokens(prompt: Sequence[int], answer: Sequence[int]) -> _Tokens:
    return tuple(prompt), tuple(answer)

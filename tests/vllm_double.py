"""A server that answers as vLLM's OpenAI-compatible one does, with a model of ours behind it, and
that can be told to misbehave. `tests/contract/test_vllm.py` holds the real one to the same form."""

import json
import threading
from collections.abc import Callable
from typing import Any

import torch

from tests.serving import Handler, Served


class VLLMDouble(Served):
    """`with VLLMDouble(model) as server:` serves at `server.url`.

    Args:
        model: answers `prompt_logprobs` at temperature 1.
        misbehave: gets the reply's dictionary and may change it, sleep, or return bytes or a
            status number instead, a pair of a status and a dictionary, or None: the connection is
            cut.
    """

    def __init__(self, model: Any, misbehave: Callable[[dict], Any] | None = None, port: int = 0):
        self.model, self.misbehave, self.requests = model, misbehave, []
        self.models: Any = {"data": [{"id": "the-teacher"}]}
        self._lock = threading.Lock()
        super().__init__(self._handler(), port)

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = body["prompt"]
        with torch.no_grad(), self._lock:
            logp = self.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        entries: list[Any] = [None]
        for place, token in enumerate(ids[1:]):
            row = logp[place]
            entries.append({str(token): {"logprob": row[token].item(), "rank": 1}})
        return {"choices": [{"text": "?", "prompt_logprobs": entries}]}

    def _handler(self) -> type[Handler]:
        double = self

        class Answers(Handler):
            def do_GET(self) -> None:
                self.send(double.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                double.requests.append((dict(self.headers), body))
                reply = double.reply(body)
                self.send(double.misbehave(reply) if double.misbehave else reply)

        return Answers

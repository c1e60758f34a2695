"""A server that lists models as vLLM's does and scores every token alike, or says what it is told
to: for who asks it once. `tests/vllm_double.py` has a model behind it."""

import json
from collections.abc import Callable
from typing import Any

from tests.serving import Handler, Served


class Small(Served):
    """`with Small([{"id": "t"}]) as server:` serves at `server.url`.

    Args:
        models: as /v1/models lists them; a number: that status instead.
        reply: what it answers to a request for scores, of its headers and body; None: scores.

    `asked` holds the paths that were asked for.
    """

    def __init__(
        self, models: Any, reply: Callable[[dict[str, str], dict[str, Any]], Any] | None = None
    ) -> None:
        self.asked: list[str] = []
        small = self

        class Answers(Handler):
            def do_GET(self) -> None:
                small.asked.append(self.path)
                self.send(models if isinstance(models, int) else {"data": models})

            def do_POST(self) -> None:
                small.asked.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if reply is not None:
                    self.send(reply(dict(self.headers), body))
                    return
                scores = [{str(token): {"logprob": -1.0}} for token in body["prompt"][1:]]
                self.send({"choices": [{"prompt_logprobs": [None, *scores]}]})

        super().__init__(Answers)

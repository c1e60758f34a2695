"""A server that answers as vLLM's OpenAI-compatible one does, with a model of ours behind it, and
that can be told to misbehave. `tests/contract/test_vllm.py` holds the real one to the same form."""

import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up: stderr is the run's own, which tests read."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class VLLMDouble:
    """`with VLLMDouble(model) as server:` serves at `server.url`.

    Args:
        model: answers `prompt_logprobs` at temperature 1.
        misbehave: gets the reply's dictionary and may change it, sleep, or return bytes or a
            status number instead, or None: the connection is cut.
    """

    def __init__(self, model: Any, misbehave: Callable[[dict], Any] | None = None, port: int = 0):
        self.model, self.misbehave, self.requests = model, misbehave, []
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", port), self._handler())
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "VLLMDouble":
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = body["prompt"]
        with torch.no_grad(), self._lock:
            logp = self.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        entries: list[Any] = [None]
        for place, token in enumerate(ids[1:]):
            row = logp[place]
            entries.append({str(token): {"logprob": row[token].item(), "rank": 1}})
        return {"choices": [{"text": "?", "prompt_logprobs": entries}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self._send({"data": [{"id": "the-teacher"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                double.requests.append((dict(self.headers), body))
                reply = double.reply(body)
                self._send(double.misbehave(reply) if double.misbehave else reply)

            def _send(self, reply: Any) -> None:
                if reply is None:
                    self.close_connection = True
                    return
                if isinstance(reply, int):
                    self.send_error(reply)
                    return
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                with suppress(OSError):  # whoever asked does not wait any more
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

        return Handler

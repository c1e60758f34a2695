"""A server that says of itself what a vLLM server says at TRL's door: `/health`, `/server_info`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SamplerDouble:
    """`with SamplerDouble(...) as server:` serves at `server.url`.

    Args:
        logprobs_mode, max_model_len: as /server_info gives them; the form is vLLM 0.22's to 0.31's,
            as TRL 1.16 reads it.
        developing: does it have /server_info (VLLM_SERVER_DEV_MODE=1)?
        busy: first answers to /health that say 503.
    """

    def __init__(
        self,
        logprobs_mode: str = "processed_logprobs",
        max_model_len: int = 512,
        developing: bool = True,
        busy: int = 0,
    ) -> None:
        model = {"logprobs_mode": logprobs_mode, "max_model_len": max_model_len}
        self.info = {"vllm_config": {"model_config": model}} if developing else None
        self.busy = busy
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "SamplerDouble":
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path == "/health":
                    double.busy -= 1
                    self._send({} if double.busy < 0 else 503)
                elif self.path.startswith("/server_info") and double.info is not None:
                    self._send(double.info)
                else:
                    self._send(404)

            def _send(self, reply: Any) -> None:
                if isinstance(reply, int):
                    self.send_error(reply)
                    return
                data = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler

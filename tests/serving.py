"""What the fake servers of the tests share."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Abstract: logs nothing; answers with `send`."""

    def log_message(self, *args: object) -> None:
        pass

    def send(self, reply: Any) -> None:
        """A dictionary as JSON, bytes as they are, a number as that status, a pair as a status and
        its dictionary; None cuts the connection."""
        if reply is None:
            self.close_connection = True
            return
        if isinstance(reply, int):
            self.send_error(reply)
            return
        status, reply = reply if isinstance(reply, tuple) else (200, reply)
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up: stderr is the run's own, which tests read."""

    daemon_threads = True
    request_queue_size = 128  # of five, the default, some of sixteen clients are turned away

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Served:
    """Abstract: `with Served(handler) as server:` serves at `server.url`."""

    def __init__(self, handler: type[Handler], port: int = 0) -> None:
        self._http = _Server(("127.0.0.1", port), handler)
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Any:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

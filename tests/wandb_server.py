"""A W&B server on this machine that fails as it is told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers every request with an HTTP 500.

    Args:
        opens: but answers what opens a run or saves a view.
        hangs: answers nothing until it is closed.
    """

    daemon_threads = True

    def __init__(self, opens: bool, hangs: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.opens = opens
        self.closing = threading.Event()
        if not hangs:
            self.closing.set()
        self.paths: list[str] = []
        self.queries: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.paths.append(self.path)
        self.server.closing.wait(120)
        answer = None
        if self.path == "/graphql":
            asked = json.loads(body)
            self.server.queries.append(asked)
            answer = self._answer(asked) if self.server.opens else None
        text = json.dumps({"data": answer}).encode() if answer is not None else b""
        self.send_response(200 if answer is not None else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        with suppress(BrokenPipeError):  # who asked has given up
            self.end_headers()
            self.wfile.write(text)

    do_GET = do_PUT = do_POST

    def _answer(self, asked: dict[str, Any]) -> Any:
        query, given = asked["query"], asked.get("variables") or {}
        if "upsertBucket" in query:
            entity = {"id": "ZTE=", "name": "me"}
            project = {"id": "cDE=", "name": given.get("project"), "entity": entity}
            bucket = {"id": "YjE=", "name": given.get("name"), "displayName": "x",
                      "description": None, "config": "{}", "sweepName": None,
                      "historyLineCount": 0, "project": project}  # fmt: skip
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "upsertView" in query:
            view = {"id": "VmlldzE=", "name": given["name"]}
            return {"upsertView": {"view": view, "inserted": True}}
        if "viewer" in query:
            return {"viewer": {"id": "VTE=", "entity": "me", "username": "me", "flags": "{}",
                               "teams": {"edges": []}, "apiKeys": {"edges": []}}}  # fmt: skip
        return None

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(*, opens: bool = False, hangs: bool = False) -> Iterator[Server]:
    """A server while the block runs."""
    server = Server(opens, hangs)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()

"""A service on this machine that is not ours: it pulls like the old one, and has its own `GET /`.

with Foreign("html", answers=[page, None]) as service:    # None: the answer is cut off
    client = Client(service.address, ...)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

from tests.harness import PATIENCE_S


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append("GET")
        ROOTS[self.server.root](self)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append("POST")
        answer = self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
        else:
            self.say(200, answer)

    def say(self, http_status: int, content: bytes, **headers: str) -> None:
        self.send_response(http_status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def silent(self) -> None:
        self.server.over.wait(10 * PATIENCE_S)
        self.close_connection = True

    def closed(self, content: bytes) -> None:
        """Without a word that the connection is over, too."""
        self.say(404, content)
        self.close_connection = True

    def trickle(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.server.over.wait(0.02):
            self.wfile.write(b" ")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


ROOTS: Final[dict[str, Callable[[_Handler], None]]] = {
    "404": lambda handler: handler.say(404, b""),
    "404 and closed": lambda handler: handler.closed(b"no"),
    "html": lambda handler: handler.say(200, b"<html>Welcome</html>"),
    "refusal": lambda handler: handler.say(200, b'{"result":60009,"errmsg":"no"}'),
    "redirect": lambda handler: handler.say(302, b"", Location="http://127.0.0.1:9/"),
    "error": lambda handler: handler.say(500, b""),
    "huge": lambda handler: handler.say(200, b" " * 10_000_000),
    "cut": lambda handler: setattr(handler, "close_connection", True),
    "silent": _Handler.silent,
    "trickle": _Handler.trickle,
}


class _Server(ThreadingHTTPServer):
    root: str
    answers: list[bytes | None]
    asked: list[str]
    over: threading.Event

    def handle_error(self, *_arguments: object) -> None:
        """Its peers may go away when they like."""


class Foreign:
    """That service.

    Attributes:
        address: where it is.
        asked: the methods of the requests so far.
    """

    def __init__(self, root: str, answers: Sequence[bytes | None]) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.root, self._server.answers = root, list(answers)
        self.asked = self._server.asked = []
        self._server.over = threading.Event()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

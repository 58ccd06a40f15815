"""Answers that do not end, or not in time, and a service that says them over real connections."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import TypeVar

import httpcore
import pytest

from tests.harness import PATIENCE_S
from tests.unit.client.conftest import page

TIMEOUT_S = 0.4
EVERY_S = 0.02  # between two pieces of what trickles
TRICKLE = 400  # pieces of it: many times as long as the timeout
FLOOD = 40_000  # pieces of what comes at once, of a KiB or more
CALM = b"HTTP/1.1 200 OK\r\n"
CHUNKED = CALM + b"Transfer-Encoding: chunked\r\n"
PLAIN = b"\r\n"
GZIP = b"Content-Encoding: gzip\r\n\r\n"
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
NAMED = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03"
NOTHING = b"\x00\x00\x00\xff\xff"  # a stored block of no bytes
BODY = page(1, waiting=0).content

T = TypeVar("T")
Script = Callable[[], Iterable[bytes]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def later(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces with a pause before each."""
    for piece in pieces:
        time.sleep(EVERY_S)
        yield piece


def trickle(*begin: bytes, piece: bytes) -> Script:
    return lambda: chain(begin, later(repeat(piece, TRICKLE)))


def flood(*begin: bytes, piece: bytes) -> Script:
    return lambda: chain(begin, repeat(piece, FLOOD))


def whole(data: bytes, encoding: bytes = b"") -> bytes:
    coded = b"Content-Encoding: %b\r\n" % encoding if encoding else b""
    return CALM + coded + b"Content-Length: %d\r\n\r\n%b" % (len(data), data)


def request(connection: socket.socket) -> bytes:
    """What is asked: with unread bytes the end of a connection would be a reset."""
    with connection.makefile("rb") as file:
        head = b"".join(iter(file.readline, b"\r\n"))
        found = re.search(rb"(?i)content-length: (\d+)", head)
        return head + file.read(int(found[1]) if found else 0)


class Service:
    """Says the same to whoever calls, until that ends or the caller has gone."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.came_to_its_end = False
        self._asked = b""
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._asked = request(connection)
                    self._heard.set()
                    for piece in self._script():
                        connection.sendall(piece)
                        if self._over.is_set():
                            break
                    else:
                        self.came_to_its_end = True
                except OSError:
                    pass  # the caller has gone

    @property
    def asked(self) -> bytes:
        """What it was asked last, once it was asked anything."""
        assert self._heard.wait(PATIENCE_S)
        return self._asked

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """To connect may take long, as on a busy machine: what times out is the answer alone."""

    def patiently(connect: Callable[..., T]) -> Callable[..., T]:
        return lambda *here, **options: connect(*here, **options | {"timeout": PATIENCE_S})

    with pytest.MonkeyPatch.context() as patch:
        for backend in (httpcore.SyncBackend, httpcore.AnyIOBackend):
            patch.setattr(backend, "connect_tcp", patiently(backend.connect_tcp))
        yield


@contextlib.contextmanager
def services() -> Iterator[Callable[[Script], Service]]:
    """What starts services, which end with it; see `patient`."""
    made: list[Service] = []

    def start(script: Script) -> Service:
        made.append(Service(script))
        return made[-1]

    try:
        with patient():
            yield start
    finally:
        for service in made:
            service.close()


HEADS = {
    "head": trickle(CALM, piece=b"X"),
    "headers": trickle(CALM, piece=b"X: 1\r\n"),
    "status line": trickle(b"HTTP/1.1 200 ", piece=b"O"),
    "continue": trickle(piece=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early hints": trickle(piece=b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"),
    "continue at once": flood(piece=b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
}
BODIES = {
    "body": trickle(CHUNKED, PLAIN, piece=chunk(b" ")),
    "until the end": trickle(CALM, PLAIN, piece=b" "),
    "chunk extension": trickle(CHUNKED, PLAIN, b"1;", piece=b"x"),
    "chunk size": trickle(CHUNKED, PLAIN, piece=b"0"),
    "trailer": trickle(CHUNKED, PLAIN, chunk(BODY), b"0\r\nX: ", piece=b"x"),
}
PACKED = {
    "nothing": trickle(CHUNKED, GZIP, chunk(HEADER), piece=chunk(NOTHING)),
    "nothing, of deflate": trickle(
        CHUNKED, b"Content-Encoding: deflate\r\n\r\n", chunk(b"\x78\x9c"), piece=chunk(NOTHING)
    ),
    "name": trickle(CHUNKED, GZIP, chunk(NAMED), piece=chunk(b"x")),
    "name at once": flood(CHUNKED, GZIP, chunk(NAMED), piece=chunk(b"x" * 4096)),
    "nothing at once": flood(CHUNKED, GZIP, chunk(HEADER), piece=chunk(NOTHING * 1000)),
    "behind it": flood(CHUNKED, GZIP, chunk(gzip.compress(BODY)), piece=chunk(b"x" * 4096)),
    "another behind it": lambda: [whole(gzip.compress(b"{") + gzip.compress(b"}"), b"gzip")],
    "no gzip": lambda: [whole(BODY, b"gzip")],
    "twice": lambda: [whole(gzip.compress(gzip.compress(BODY)), b"gzip, gzip")],
    "twice, said twice": lambda: [
        CALM + b"Content-Encoding: gzip\r\n" + whole(gzip.compress(BODY), b"gzip")[len(CALM) :]
    ],
    "in another way": lambda: [whole(BODY, b"br")],
    "bomb": lambda: [whole(bomb(), b"gzip")],
    "bomb of deflate": lambda: [whole(zlib.compress(bytes(1 << 27)), b"deflate")],
}
ENDLESS = HEADS | BODIES | PACKED


def bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(128)) + packer.flush()

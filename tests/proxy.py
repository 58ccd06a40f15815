"""A proxy on this machine that loses answers, and holds requests up.

with CuttingProxy(program.host, program.port) as proxy:
    proxy.cut(0, 17, None)      # the next answers: nothing of it, 17 bytes of it, all of it
    proxy.cut(rng.randrange)    # so many bytes of it as this says when it is told the size
    proxy.hold()                # the request behind those does not arrive, and its peer is cut off
    client = Client(proxy.address, ...)
    ...                         # its repeats have been answered; records come in
    with proxy.still():         # nothing else goes through
        proxy.release()         # now the held one arrives, and is carried out
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final, Literal, Self, TypeAlias

from tests.harness import PATIENCE_S

HELD: Final = "held"
Size: TypeAlias = int | Callable[[int], int] | None


class CuttingProxy:
    """Carries requests to one server; of each answer as much as it was told.

    Attributes:
        address: where it listens.
        upstream: where the server is; one that was started again may be elsewhere.
        requests: how many were answered by the server.
        cuts: how many of these answers did not get through whole.
        held: requests that have yet to arrive.
    """

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = 0
        self.cuts = 0
        self.held: list[bytes] = []
        self._plan: list[Size | Literal["held"]] = []
        self._lock = threading.Lock()
        self._gate = _Gate()
        self._open: set[socket.socket] = {self._listener}
        self._threads = [threading.Thread(target=self._accept)]

    def cut(self, *sizes: Size) -> None:
        """Plan the next answers: how many bytes of each get through, None for all."""
        with self._lock:
            self._plan += sizes

    def cut_no_more(self) -> None:
        """Forget what was planned and has not come to pass."""
        with self._lock:
            self._plan.clear()

    def hold(self, count: int = 1) -> None:
        """Plan so many requests to be held up, behind what is planned already."""
        with self._lock:
            self._plan += [HELD] * count

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Let nobody's request through meanwhile."""
        with self._gate.closed():
            yield

    def release(self) -> None:
        """Let what was held arrive, in order; on return the server has answered all of it."""
        with socket.create_connection(self.upstream, PATIENCE_S) as server:
            while self.held:
                server.sendall(self.held.pop(0))
                assert _message(server)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open.clear()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer,))
            with self._lock:
                self._open.add(peer)
                self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(self.upstream, PATIENCE_S) as server,
        ):
            while request := _message(peer):
                with self._lock:
                    size = self._plan.pop(0) if self._plan else None
                    if size == HELD:
                        self.held.append(request)
                        break
                with self._gate.passing():
                    server.sendall(request)
                    answer = _message(server)
                if not answer:
                    break  # the server has gone, and so does the peer's connection
                with self._lock:
                    self.requests += 1
                if callable(size):
                    size = size(len(answer))
                if size is not None and size < len(answer):
                    with self._lock:
                        self.cuts += 1
                    peer.sendall(answer[:size])
                    break
                peer.sendall(answer)
        with self._lock:
            self._open.discard(peer)
        peer.close()


class _Gate:
    """Many pass at once; while it is closed nobody does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._passing = 0

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._passing += 1
        try:
            yield
        finally:
            with self._changed:
                self._passing -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._passing)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


def _message(peer: socket.socket) -> bytes:
    """One HTTP message, with a Content-Length if it has a body; b"" at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = peer.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    assert length is not None or head.startswith(b"GET ")
    while length is not None and len(body) < int(length[1]):
        part = peer.recv(65536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body

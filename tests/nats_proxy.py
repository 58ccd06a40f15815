"""A proxy before a NATS node that loses what the node answers, and keeps what it is told.

    with NatsProxy(node.port) as proxy:
        connect(port=proxy.port)
        proxy.drop(2)               # the next two acknowledgements of writes do not get through
        proxy.lose(1)               # nor does the next write get there
        proxy.hold(1)               # nor the one behind, for now
        proxy.release()             # now it arrives

A write is a message of a client's that a stream is to acknowledge: one for a reply, of a subject
that is not the API's. The messages of a batch before its last are none, and go through.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final, Self

WRITES: Final = (b"PUB", b"HPUB")
MESSAGES: Final = (b"MSG", b"HMSG")
WITHOUT_REPLY: Final = {b"PUB": 3, b"HPUB": 4}  # words in the line of such a message


class NatsProxy:
    """Carries connections to one node.

    Attributes:
        port: where it listens.
        dropped, lost, held: how many acknowledgements, and writes, did not get through so far, and
            how many writes were kept for a while.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.dropped = self.lost = self.held = 0
        self._drops = self._losses = self._holds = 0
        self._held: list[bytes] = []
        self._nodes: list[socket.socket] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = {self._listener}
        self._threads = [threading.Thread(target=self._accept)]

    def drop(self, count: int) -> None:
        """Let the next so many acknowledgements not get through."""
        with self._lock:
            self._drops += count

    def lose(self, count: int) -> None:
        """Let the next so many writes not get through."""
        with self._lock:
            self._losses += count

    def spare(self) -> None:
        """Let everything get through from now on."""
        with self._lock:
            self._drops = self._losses = self._holds = 0

    def hold(self, count: int) -> None:
        """Keep the next so many writes."""
        with self._lock:
            self._holds += count

    def release(self) -> None:
        """Let those arrive that are kept, over any connection there is, and keep no more."""
        with self._lock:
            self._holds = 0
            while self._held:
                self._nodes[-1].sendall(self._held.pop(0))

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                node = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                return
            with self._lock:
                self._open |= {client, node}
                self._nodes.append(node)
                for way in ((client, node), (node, client)):
                    self._threads.append(threading.Thread(target=self._carry, args=way))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for line, message in _messages(source):
                with self._lock:
                    if not self._stays(line, message):
                        target.sendall(message)
        with self._lock:
            self._nodes = [node for node in self._nodes if node not in (source, target)]
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _stays(self, line: list[bytes], message: bytes) -> bool:
        """Whether a message goes no further."""
        if _is_acknowledgement(line, message) and self._drops:
            self._drops -= 1
            self.dropped += 1
            return True
        if not _is_write(line):
            return False
        if self._losses:
            self._losses -= 1
            self.lost += 1
            return True
        if self._holds:
            self._holds -= 1
            self.held += 1
            self._held.append(message)
            return True
        return False


def _is_acknowledgement(line: list[bytes], message: bytes) -> bool:
    return line[0] in MESSAGES and b'"stream":' in message and b'"seq":' in message


def _is_write(line: list[bytes]) -> bool:
    return (
        line[0] in WRITES
        and len(line) > WITHOUT_REPLY[line[0]]
        and not line[1].startswith((b"$", b"_"))
    )


def _messages(source: socket.socket) -> Iterator[tuple[list[bytes], bytes]]:
    """What comes, one message of the protocol after the other: the words of its line, all of it."""
    with source.makefile("rb") as stream:
        while line := stream.readline():
            words = line.split() or [b""]
            words[0] = words[0].upper()
            rest = b""
            if words[0] in (*WRITES, *MESSAGES):
                rest = stream.read(int(words[-1]) + 2)
            yield words, line + rest

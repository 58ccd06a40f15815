"""A load generator of a constant rate, for the scenarios where the rate is given.

Requests are due at fixed times, whatever the server does; a latency is counted from the moment a
request was due, so that waiting for a free connection or a stalled server is part of it. Raw
sockets on uvloop: some thousands of requests a second take a fraction of a core.
"""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import msgspec
import uvloop

from pullstatus.cli.load import LoadFailed, Measured

TICK_S = 0.001
LINGER_S = 30.0  # how long the last answers may take

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
COUNT = re.compile(rb'"count":(\d+)')
REFUSED = re.compile(rb'"result":[1-9]')


class Stream(msgspec.Struct, frozen=True):
    """Requests of one kind.

    Attributes:
        make: the next request as bytes on the wire.
        per_s: how many are due a second.
    """

    make: Callable[[], bytes]
    per_s: float
    connections: int


class Paced(msgspec.Struct, frozen=True):
    """What came of a stream; `records` is how many its answers held."""

    measured: Measured
    records: int


def run(port: int, streams: Sequence[Stream], seconds: float) -> list[Paced]:
    """Send the streams for a while, all at once; results are in their order.

    Raises:
        LoadFailed: an answer was an error, or a connection broke.
    """
    before = resource.getrusage(resource.RUSAGE_SELF)
    ended = uvloop.run(_run(port, streams, seconds))
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [
        Paced(each.latencies.measured(seconds, spent / seconds / len(ended)), each.records)
        for each in ended
    ]


async def _run(port: int, streams: Sequence[Stream], seconds: float) -> list[_Sender]:
    senders = [_Sender(stream) for stream in streams]
    try:
        for sender in senders:
            await sender.connect(port)
        await asyncio.gather(*(sender.send_for(seconds) for sender in senders))
    finally:
        for sender in senders:
            sender.close()
    return senders


class Latencies:
    """How long answers took, in seconds.

    Attributes:
        answer_bytes: of all of them, heads included.
    """

    def __init__(self) -> None:
        self._all: list[float] = []
        self.answer_bytes = 0

    def add(self, latency_s: float, answer_bytes: int) -> None:
        """Count one."""
        self._all.append(latency_s)
        self.answer_bytes += answer_bytes

    def measured(self, seconds: float, generator_cores: float) -> Measured:
        """What a run of so many seconds came to."""
        ordered = sorted(self._all)
        return Measured(
            seconds=seconds,
            requests=len(ordered),
            answer_bytes=self.answer_bytes,
            http_errors=0,
            socket_errors=0,
            p50_ms=percentile(ordered, 0.5) * 1000,
            p99_ms=percentile(ordered, 0.99) * 1000,
            max_ms=percentile(ordered, 1.0) * 1000,
            generator_cores=generator_cores,
        )


class _Sender:
    """Sends one stream over its connections."""

    def __init__(self, stream: Stream) -> None:
        self.records = 0
        self.failure = ""
        self.latencies = Latencies()
        self._stream = stream
        self._open: list[Connection] = []
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._under_way = 0

    async def connect(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._stream.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", port
            )
            self._open.append(connection)
        self._idle.extend(self._open)

    async def send_for(self, seconds: float) -> None:
        begun = time.perf_counter()
        count = round(self._stream.per_s * seconds)
        sent = 0
        while sent < count and not self.failure:
            now = time.perf_counter() - begun
            while sent < count and sent / self._stream.per_s <= now:
                self._due.append(begun + sent / self._stream.per_s)
                sent += 1
            self._send_due()
            await asyncio.sleep(TICK_S)
        waited = time.perf_counter()
        while (self._due or self._under_way) and not self.failure:
            if time.perf_counter() - waited > LINGER_S:
                self.failure = f"{self._under_way} answers did not come in {LINGER_S:.0f} s"
            await asyncio.sleep(TICK_S)
        if self.failure:
            raise LoadFailed(self.failure)

    def answered(self, connection: Connection, due: float, head: bytes, body: bytes) -> None:
        self.latencies.add(time.perf_counter() - due, len(head) + len(body))
        self._under_way -= 1
        if refused(head, body):
            self.failure = f"answered {head[:16]!r} {body[:200]!r}"
            return
        found = COUNT.search(body, 0, 100)
        if found:
            self.records += int(found[1])
        self._idle.append(connection)
        self._send_due()

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def failed(self, why: str) -> None:
        self.failure = why

    def _send_due(self) -> None:
        while self._due and self._idle:
            self._under_way += 1
            self._idle.popleft().send(self._stream.make(), self._due.popleft())


class Owner(Protocol):
    """Whose requests go over a connection."""

    def answered(self, connection: Connection, due: float, head: bytes, body: bytes) -> None:
        """The answer to a request that was due at that time."""
        ...

    def failed(self, why: str) -> None:
        """The connection broke."""
        ...


class Connection(asyncio.Protocol):
    """One connection; at most one request is under way."""

    def __init__(self, owner: Owner) -> None:
        """For requests of `owner`."""
        self._owner = owner
        self._closing = False
        self._buffer = b""
        self._due = 0.0
        self._transport: asyncio.Transport

    def send(self, request: bytes, due: float) -> None:
        """Send a request that is, or was, due at that time."""
        self._due = due
        self._transport.write(request)

    def close(self) -> None:
        """Close it, which is no failure."""
        self._closing = True
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        # uvloop's is one, but not by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        """It is gone."""
        if not self._closing:
            self._owner.failed("the server closed a connection")

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        self._buffer += data
        cut = cut_answer(self._buffer)
        if cut is not None:
            head, body = cut
            self._buffer = b""
            self._owner.answered(self, self._due, head, body)


def refused(head: bytes, body: bytes) -> bool:
    """Whether an answer is an error."""
    return b" 200 " not in head[:16] or REFUSED.search(body, 0, 64) is not None


def cut_answer(received: bytes) -> tuple[bytes, bytes] | None:
    """Head and body of an answer that says its length, once all of it is there."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    length = LENGTH.search(head)
    if length is None:
        raise LoadFailed(f"an answer without a length: {head!r}")
    return (head + separator, body) if len(body) >= int(length[1]) else None


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send one request over a connection and wait for its answer, which is returned whole.

    Raises:
        LoadFailed: it is an error, or there is none.
    """
    connection.sendall(request)
    received = b""
    while (cut := cut_answer(received)) is None:
        piece = connection.recv(65536)
        if not piece:
            raise LoadFailed("the server closed a connection")
        received += piece
    if b" 200 " not in cut[0][:16]:
        raise LoadFailed(f"answered {cut[0][:16]!r}")
    return received


def as_measured(took: Sequence[float], seconds: float) -> Measured:
    """What came of exchanges that took so long each, in seconds, within a while."""
    ordered = sorted(took)
    at = [percentile(ordered, share) * 1000 for share in (0.5, 0.99, 1.0)]
    return Measured(seconds, len(took), 0, 0, 0, *at)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below or at which this share of the values lies; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered)) - 1))]

"""Records for pulls that are held: how long after its record was accepted each is answered.

Every mailbox has a pair of connections, one that posts and one whose pull waits. Posts of a record
are due at fixed times, each to the pair that has waited longest, as in `bench.paced`.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import deque
from collections.abc import Sequence

import msgspec
import uvloop

from bench.paced import COUNT, LINGER_S, TICK_S, Connection, Latencies, refused
from bench.server import ingest_request, pull_request
from pullstatus import limits
from pullstatus.cli.load import LoadFailed, Measured


def run(
    port: int, token: str, sdkappids: Sequence[int], per_s: float, seconds: float
) -> tuple[Measured, Measured]:
    """Post for a while; returns what came of the posts, and of the held pulls.

    A post's latency is counted from when it was due; a pull's from when the post was answered whose
    record it hands out, and is 0 if it was there earlier.

    Raises:
        LoadFailed: an answer was an error, or a connection broke.
    """
    before = resource.getrusage(resource.RUSAGE_SELF)
    posts, pulls = uvloop.run(_run(port, token, sdkappids, per_s, seconds))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cores = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / seconds / 2
    return posts.measured(seconds, cores), pulls.measured(seconds, cores)


async def _run(
    port: int, token: str, sdkappids: Sequence[int], per_s: float, seconds: float
) -> tuple[Latencies, Latencies]:
    field = _Field()
    pairs = [_Pair(field, token, sdkappid) for sdkappid in sdkappids]
    try:
        for pair in pairs:
            await pair.connect(port)
        await field.post_for(seconds, per_s)
    finally:
        for pair in pairs:
            pair.close()
    return field.posts, field.pulls


class _Field:
    """All pairs together, and what they measured."""

    def __init__(self) -> None:
        self.posts = Latencies()
        self.pulls = Latencies()
        self.idle: deque[_Pair] = deque()
        self.failure = ""
        self.under_way = 0

    async def post_for(self, seconds: float, per_s: float) -> None:
        begun = time.perf_counter()
        count = round(per_s * seconds)
        sent = 0
        while (sent < count or self.under_way) and not self.failure:
            now = time.perf_counter()
            while sent < count and self.idle and begun + sent / per_s <= now:
                self.under_way += 1
                self.idle.popleft().post(begun + sent / per_s)
                sent += 1
            if now - begun > seconds + LINGER_S:
                self.failure = f"{self.under_way} records were not handed out"
            await asyncio.sleep(TICK_S)
        if self.failure:
            raise LoadFailed(self.failure)


class _Pair:
    """A mailbox: who posts to it, and who waits for what is posted."""

    def __init__(self, field: _Field, token: str, sdkappid: int) -> None:
        self._field = field
        self._record = ingest_request(token, 1, sdkappid).encode()
        wait = {"Pullstatus-Wait": str(limits.PULL_WAIT_S_MAX)}
        self._pull = msgspec.structs.replace(pull_request(sdkappid), headers=wait).encode()
        self._poster = Connection(self)
        self._waiter = Connection(self)
        self._accepted = self._handed_out = 0.0

    async def connect(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        for connection in (self._poster, self._waiter):
            await loop.create_connection(lambda one=connection: one, "127.0.0.1", port)  # type: ignore[misc]
        self._hold()

    def close(self) -> None:
        for connection in (self._poster, self._waiter):
            connection.close()

    def post(self, due: float) -> None:
        self._accepted = self._handed_out = 0.0
        self._poster.send(self._record, due)

    def failed(self, why: str) -> None:
        self._field.failure = why

    def answered(self, connection: Connection, due: float, head: bytes, body: bytes) -> None:
        now = time.perf_counter()
        if refused(head, body):
            self._field.failure = f"answered {head[:16]!r} {body[:200]!r}"
        elif connection is self._poster:
            self._field.posts.add(now - due, len(head) + len(body))
            self._accepted = now
            self._see()
        elif (found := COUNT.search(body, 0, 100)) and int(found[1]):
            self._field.pulls.answer_bytes += len(head) + len(body)
            self._handed_out = now
            self._see()
        else:
            self._waiter.send(self._pull, now)  # it has waited as long as one may

    def _see(self) -> None:
        if self._accepted and self._handed_out:
            self._field.pulls.add(max(0.0, self._handed_out - self._accepted), 0)
            self._field.under_way -= 1
            self._hold()

    def _hold(self) -> None:
        self._waiter.send(self._pull, time.perf_counter())
        self._field.idle.append(self)

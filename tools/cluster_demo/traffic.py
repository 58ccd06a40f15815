"""A gateway that sends, and an application that pulls, over two servers in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import httpx
import msgspec

from pullstatus.emulator.scenario import APPKEY, SDKAPPID
from pullstatus.records import Kind
from pullstatus.wire.v5.pull import pull_request
from tools.cluster_demo.servers import Server

BATCH = 20
TICK_S = 0.1
PAUSE_S = 0.05  # before somebody is asked again
LINES_MAX = 8  # of what has happened
NO_HEADERS: Mapping[str, str] = {}


@dataclass
class Tally:
    """What gateway and application know of their own.

    Attributes:
        accepted: records that a server has said it has.
        seen: how many times the application has got each record.
        unsure: attempts without an answer, or refused for now; each was made again.
        happened: what is told, with the second of the run.
    """

    accepted: set[str] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    happened: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=LINES_MAX))


class Traffic:
    """A gateway that sends, and an application that pulls, over two servers in turn."""

    def __init__(self, servers: list[Server], token: str, tally: Tally) -> None:
        self._servers = itertools.cycle(servers)
        self._token = token
        self._tally = tally
        self._client = httpx.AsyncClient(timeout=30, trust_env=False)
        self._wanted = self._feeding = True

    def stop(self) -> None:
        """Have the gateway end with the batch that it has begun, and then the application."""
        self._wanted = False

    async def feed(self, rate: int) -> None:
        """Send batches until `stop`, and what was begun is accepted."""
        numbers = itertools.count(1)
        while self._wanted:
            began = time.monotonic()
            sids = [f"8:{next(numbers)}" for _ in range(BATCH)]
            body = msgspec.json.encode([_status(sid) for sid in sids])
            path = f"/ingest/{SDKAPPID}/{Kind.DELIVERY_STATUS.path}"
            headers = {
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            }
            await self._ask(partial(_constant, (path, body)), sids[0], headers)
            self._tally.accepted.update(sids)
            await asyncio.sleep(max(0, BATCH / rate - (time.monotonic() - began)))
        self._feeding = False

    async def pull(self) -> None:
        """Take pages, each under a key of its own, until nothing comes in and none is left."""
        while True:
            last = not self._feeding
            page = await self._ask(_signed, secrets.token_hex(8))
            found = msgspec.json.decode(page)
            self._tally.seen.update(record["sid"] for record in found["data"])
            if not found["data"]:
                if last:
                    return
                await asyncio.sleep(TICK_S)

    async def _ask(
        self,
        request: Callable[[], tuple[str, bytes]],
        key: str,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> bytes:
        """Ask one server after the other until one of them has an answer; returns that.

        Args:
            request: makes path and body, anew for each attempt, since a pull is signed.
            key: by which an attempt is known for the same as the one before.
        """
        headers = {**headers, "Idempotency-Key": key}
        while True:
            server = next(self._servers)
            path, body = request()
            with contextlib.suppress(httpx.TransportError):
                answer = await self._client.post(
                    server.address + path, content=body, headers=headers
                )
                if answer.status_code == httpx.codes.OK and b'"result":1007' not in answer.content:
                    server.answers += 1
                    return answer.content
            self._tally.unsure += 1
            await asyncio.sleep(PAUSE_S)


def _constant(request: tuple[str, bytes]) -> tuple[str, bytes]:
    return request


def _signed() -> tuple[str, bytes]:
    random_text = str(secrets.randbelow(10**10))
    kind = Kind.DELIVERY_STATUS
    return pull_request(SDKAPPID, APPKEY, kind, 100, random_text, int(time.time()))


def _status(sid: str) -> dict[str, str]:
    return {
        "user_receive_time": time.strftime(
            "%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 8 * 3600)
        ),
        "nationcode": "86",
        "mobile": "13800000000",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "description": "made up",
        "sid": sid,
    }

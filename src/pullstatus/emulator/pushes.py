"""What the emulator pushes by itself: statuses and replies of sends, to the scenario's callback.

    due records -> bodies in the service's own form -> POST, in order, some more times if refused

Statuses leave as arrays, each reply as an object of its own. The fault `half-bad` spoils one item
of an array, so that a receiver can be tested against a carrier that does.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence

import httpx
import msgspec
import structlog

from pullstatus import limits
from pullstatus.emulator.faults import Bad, Faults
from pullstatus.emulator.receivers import call_receiver
from pullstatus.records import Kind

__all__ = ["Pushes", "spoil"]

log = structlog.get_logger(__name__)

TRIES = 3
PAUSE_S = 1.0
TIMEOUT_S = 10.0


class Pushes:
    """What waits to be pushed, and the task that does it; within one event loop."""

    def __init__(self, url: str | None) -> None:
        """Nothing waits: see `begin`. `url`: where to; None: nowhere."""
        self._url = url
        self._waiting: deque[bytes] = deque()
        self._bytes = 0  # of what waits
        self._more = asyncio.Event()
        self._begun = 0
        self._faults = Faults(random.Random())  # noqa: S311 - of nothing
        self._chance = random.Random()  # noqa: S311 - no secret

    @property
    def wanted(self) -> bool:
        """Whether what comes of sends is pushed."""
        return self._url is not None

    def begin(self, faults: Faults, chance: random.Random) -> None:
        """Forget what waits. `faults` may strike from now on, at places that `chance` draws."""
        self._waiting.clear()
        self._bytes = 0
        self._begun += 1
        self._faults = faults
        self._chance = chance

    def add(self, kind: Kind, entries: Sequence[bytes]) -> None:
        """Push encoded records soon.

        Beyond `limits.PUSHES_MAX` pushes, or `limits.PUSHES_BYTES_MAX`, the oldest are dropped.
        """
        if kind is Kind.REPLY:
            bodies = list(entries)
        else:
            size = limits.INGEST_RECORDS_MAX
            parts = [entries[start : start + size] for start in range(0, len(entries), size)]
            bodies = [b"[" + b",".join(self._struck(part)) + b"]" for part in parts]
        self._waiting.extend(bodies)
        self._bytes += sum(map(len, bodies))
        dropped = 0
        while len(self._waiting) > limits.PUSHES_MAX or self._bytes > limits.PUSHES_BYTES_MAX:
            self._next()
            dropped += 1
        if dropped:
            log.warning("pushes dropped", count=dropped, reason="too many wait")
        self._more.set()

    def _next(self) -> bytes:
        body = self._waiting.popleft()
        self._bytes -= len(body)
        return body

    def _struck(self, items: Sequence[bytes]) -> list[bytes]:
        spoilt = list(items)
        if len(spoilt) > 1 and (armed := self._faults.strike("push", None)) is not None:
            place = self._chance.randrange(len(spoilt))
            spoilt[place] = spoil(spoilt[place], armed.fault.bad or "value")
        return spoilt

    async def run(self) -> None:
        """Push what waits, until cancelled."""
        if self._url is None:
            return
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as http:
            while True:
                self._more.clear()
                while self._waiting:
                    await self._push(http, self._url, self._next())
                await self._more.wait()

    async def _push(self, http: httpx.AsyncClient, url: str, body: bytes) -> None:
        """Push until it is a success, or `TRIES` times, or forgotten.

        The address is in no log: it holds a token.
        """
        why = ""
        begun = self._begun
        for tries in range(TRIES):
            if tries:
                await asyncio.sleep(PAUSE_S)
            if begun != self._begun:
                return
            headers = {"content-type": "application/json"}
            status, _, fault = await call_receiver(http, "POST", url, headers, body)
            if 200 <= status < 300:
                log.info("pushed", bytes=len(body), http_status=status, tries=tries + 1)
                return
            why = fault or f"HTTP status {status}"
        log.warning("push dropped", bytes=len(body), tries=TRIES, reason=why)


def spoil(item: bytes, bad: Bad) -> bytes:
    """A delivery status that cannot be read any more, in the way that `bad` says."""
    members: dict[str, object] = msgspec.json.decode(item)
    match bad:
        case "value":
            members["mobile"] = f"{members['mobile']}x"
        case "missing":
            del members["mobile"]
        case "type":
            members["mobile"] = [members["mobile"]]
        case "object":
            return msgspec.json.encode(str(members["sid"]))
        case "json":
            return item[:-1]
    return msgspec.json.encode(members)

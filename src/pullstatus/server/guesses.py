"""What the server does about failed tries: it counts them, tells of them, and takes its time.

The log tells at once; the record of acts, once an hour, how many there were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pullstatus import limits
from pullstatus.apps import Operator, Registry
from pullstatus.apps.operator import SERVER
from pullstatus.apps.tally import Tally
from pullstatus.apps.tries import Failed, Tries
from pullstatus.server.figures import Figures
from pullstatus.server.http import Scope, whose
from pullstatus.server.pauses import Pauses
from pullstatus.store import Act, Store

log = structlog.get_logger(__name__)


class Guesses:
    """The failed tries of a server, over all its calls.

    Attributes:
        tries: those that count.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        figures: Figures,
        *,
        monotonic_s: Callable[[], float],
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        sharers: int = 1,
    ) -> None:
        self.tries = Tries(monotonic_s)
        self._store = store
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._tally = Tally(now_ms())
        self._due: list[Act] = []  # what is to go on record, and may have
        self._registry = registry
        self._figures = figures
        self._pauses = Pauses(max(1, limits.FAILED_TRIES_HELD_MAX // sharers))

    async def failed(self, scope: Scope, what: str) -> None:
        """Note a failed try, and return when it may be answered.

        At once, unless its address has had many. The answer is the same then: nothing is learned
        from the wait but that.

        Args:
            what: was wrong, one of `figures.WRONG`.
        """
        self._figures.failed_tries[what] += 1
        known = whose(scope)
        sdkappid = known.get("sdkappid")
        if sdkappid not in self._registry.applications:
            sdkappid = None  # strangers can make up as many as they like
        assert sdkappid is None or isinstance(sdkappid, int)
        address = str(known.get("address"))
        late, of_address, at_application = await self._count(what, sdkappid, address)
        if of_address:
            log.warning("many failed tries of an address", tries=of_address, what=what, **known)
        if at_application:
            log.warning(
                "many failed tries at an application", tries=at_application, what=what, **known
            )
        if late and self._pauses.free:
            self._figures.failed_tries_late += 1
            await self._pauses.pause(scope, limits.FAILED_TRY_PAUSE_S)

    def note(self, what: str, sdkappid: int | None, address: str) -> Failed:
        """Count a failed try, by application and by address; what it makes of these."""
        self._tally.count(what, sdkappid, address)
        return self.tries.failed(address, sdkappid)

    async def _count(self, what: str, sdkappid: int | None, address: str) -> Failed:
        return self.note(what, sdkappid, address)

    async def record(self, *, stopping: bool = False) -> None:
        """Put the failed tries of an hour that is over on record; nothing if there were none.

        What could not be written is written the next time, and not twice: a store knows an act by
        its ticket. Until then what fails goes on being counted, over more than an hour.

        Args:
            stopping: put on record what is not yet, however short a time that is.
        """
        await self._write()
        now_ms = self._now_ms()
        if stopping or self._tally.hour_over(now_ms):
            by = Operator(SERVER, now_ms, lambda size: self._random_bytes(size).hex())
            self._due = self._tally.take(by)
            await self._write()

    async def _write(self) -> None:
        await asyncio.gather(*(self._store.change(act=act) for act in self._due))
        self._due = []

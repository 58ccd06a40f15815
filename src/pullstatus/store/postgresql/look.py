"""What waits in a mailbox, asked for as little as can be, and never answered from memory.

Beside it, of which revision settings are: a pull that finds nothing rests on one, too; and what the
store says of its migration, of the same moment: a store that is shut says nothing.

Polls that come while a look is under way share the next one: none may share one that began before
it came, which may not see what was accepted since. A look reads rows and commits nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Final, TypeVar

from pullstatus.errors import StoreUnavailable, WorldError
from pullstatus.store.gate import Gate, decoded
from pullstatus.store.postgresql.reads import Reads, Rows
from pullstatus.store.postgresql.statements import ints, names
from pullstatus.store.texts import encoded

T = TypeVar("T")

WATCH_S: Final = (
    0.5  # how long what another process has brought may stay unseen by who waits for it
)

_LOOK: Final = """
SELECT w.box, coalesce(c.last, b.tail, 0) - coalesce(j.last, b.cursor, 0), NULL::bytea
FROM unnest(%s::bigint[]) w(box)
LEFT JOIN LATERAL (SELECT tail, cursor FROM pullstatus.base
    WHERE box = w.box ORDER BY purged DESC LIMIT 1) b ON true
LEFT JOIN LATERAL (SELECT first_seq + count - 1 AS last FROM pullstatus.chunk
    WHERE box = w.box ORDER BY first_seq DESC LIMIT 1) c ON true
LEFT JOIN LATERAL (SELECT first_seq + count - 1 AS last FROM pullstatus.journal
    WHERE box = w.box ORDER BY first_seq DESC LIMIT 1) j ON true
UNION ALL
SELECT -w.place, s.revision, NULL::bytea FROM unnest(%s::bytea[]) WITH ORDINALITY w(name, place)
JOIN pullstatus.setting s ON s.name = w.name
UNION ALL
SELECT NULL, NULL, state FROM pullstatus.transfer
"""


class Looks:
    """Looks of one event loop, over a connection of their own."""

    def __init__(self, reads: Reads, gate: Gate) -> None:
        """Take over `reads`, closed by `close`, and `gate`."""
        self._reads = reads
        self._gate = gate
        self._wanted: dict[int, asyncio.Future[int]] = {}  # of mailboxes
        self._named: dict[str, asyncio.Future[int]] = {}  # of settings
        self._looking: asyncio.Task[None] | None = None
        self._watched: dict[int, Callable[[], None]] = {}
        self._watching: asyncio.Task[None] | None = None

    def waiting(self, box: int) -> asyncio.Future[int]:
        """How many entries wait in a mailbox, all that was accepted before this call included.

        The future is shared, so it must not be cancelled.
        """
        return self._future(self._wanted, box)

    def revision(self, name: str) -> asyncio.Future[int]:
        """Of which revision a setting is, 0 if it was never written; likewise."""
        return self._future(self._named, name)

    def _future(self, wanted: dict[T, asyncio.Future[int]], of: T) -> asyncio.Future[int]:
        future = wanted.get(of)
        if future is None:
            future = wanted[of] = asyncio.get_running_loop().create_future()
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
        return future

    def watch(self, box: int, on_arrival: Callable[[], None]) -> Callable[[], None]:
        """Have `on_arrival` called within a second when something waits in a mailbox."""
        assert box not in self._watched
        self._watched[box] = on_arrival
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        return partial(self._watched.__delitem__, box)

    async def close(self) -> None:
        """End what is under way."""
        for task in (self._watching, self._looking):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        _refuse(self._wanted.values(), StoreUnavailable("the store is closed"))
        _refuse(self._named.values(), StoreUnavailable("the store is closed"))
        self._wanted, self._named = {}, {}
        await self._reads.close()

    async def _look(self) -> None:
        """Look, as long as somebody wants it."""
        while self._wanted or self._named:
            await asyncio.sleep(0)  # what this turn of the loop brings shares it
            wanted, self._wanted = self._wanted, {}
            named, self._named = self._named, {}
            futures = [*wanted.values(), *named.values()]
            try:
                rows = await self._reads.ask(_LOOK, ints(wanted), names(map(encoded, named)))
                found = self._admitted(rows)
            except asyncio.CancelledError:
                _refuse(futures, StoreUnavailable("the store is closed"))
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
                _refuse(futures, error)
                continue
            for key, future in (*wanted.items(), *zip(count(-1, -1), named.values(), strict=False)):
                future.set_result(found.get(key, 0))

    def _admitted(self, rows: Rows) -> dict[int, int]:
        """What a look has found, by box or by the place of a setting, if the store is open.

        Raises:
            StoreSealed, StoreMovedOn, StoreCorrupt: it is not, in that moment.
        """
        found: dict[int, int] = {}
        state = None
        for key, number, said in rows:
            if key is None:
                state = said
            else:
                found[key] = number
        self._gate.found = decoded(state)
        refusal = self._gate.refusal()
        if refusal is not None:
            raise refusal
        return found

    async def _watch(self) -> None:
        """Tell watchers what other processes have brought."""
        while self._watched:
            await asyncio.sleep(WATCH_S)
            looks = {box: self.waiting(box) for box in self._watched}
            for box, look in looks.items():
                with contextlib.suppress(WorldError):  # it is tried again
                    if await asyncio.shield(look) and box in self._watched:
                        self._watched[box]()


def _refuse(futures: Iterable[asyncio.Future[int]], error: Exception) -> None:
    for future in futures:
        future.set_exception(error)
        future.exception()  # perhaps nobody waits for it any more

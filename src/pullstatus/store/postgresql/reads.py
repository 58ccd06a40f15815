"""Questions to the database beside the lane that commits, one at a time over one connection.

They ask the server that writes, and no replica: a replica shows commits later, and in another
order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8Dumper

from pullstatus import limits
from pullstatus.errors import StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.postgresql import refusals, schema
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.session import SETTINGS, arguments, final, is_lost, meaning

Rows = list[TupleRow]

_RETRY_S: Final = 0.05


class Reads:
    """A connection that asks; it is made when it is needed, and anew when it is lost."""

    def __init__(
        self,
        location: Location,
        known: refusals.Known,
        newest: Callable[[], int],
        answer_s: float,
    ) -> None:
        """For the store at `location`.

        Args:
            known: what each connection is held against.
            newest: the newest timeline that was committed to. A former primary that goes on
                somewhere is not asked any more.
            answer_s: how long an answer may take; the connection counts as lost then.
        """
        self._newest = newest
        self._answer_s = answer_s
        self._timeline = 0
        self._location = location
        self._known = known
        self._connection: psycopg.AsyncConnection[TupleRow] | None = None
        self._turn = asyncio.Lock()
        self._silent_since_s: float | None = None
        self._closed = False

    def silent_s(self) -> float:
        """For how long whoever asked has had no answer; 0 while the database answers."""
        since_s = self._silent_since_s
        return 0.0 if since_s is None else asyncio.get_running_loop().time() - since_s

    async def ask(self, sql: str, *values: Any) -> Rows:  # noqa: ANN401 - as a driver takes them
        """The rows of an answer; asked again if the connection is lost.

        Raises:
            StoreUnavailable: closed, or no server answers in time.
            StoreFailed, StoreCorrupt: the server is not safe to use.
        """
        # In a task of its own, which a server's request has not, and a limit of time needs.
        return await asyncio.create_task(self._ask(sql, *values))

    async def _ask(self, sql: str, *values: Any) -> Rows:  # noqa: ANN401 - as a driver takes them
        loop = asyncio.get_running_loop()
        due_s = loop.time() + limits.STORE_WAIT_S
        async with self._turn:
            if self._silent_since_s is None:
                self._silent_since_s = loop.time()
            while True:
                connection = await self._connected(due_s)
                try:
                    async with asyncio.timeout(self._answer_s):
                        rows = await Ask(connection)(sql, *values)
                except TimeoutError as error:
                    await self._drop()
                    raise StoreUnavailable("the database does not answer in time") from error
                except psycopg.Error as error:
                    await self._drop()
                    if not is_lost(error) or loop.time() > due_s:
                        raise meaning(error) from error
                except BaseException:
                    await self._drop()  # whatever it is in the middle of
                    raise
                else:
                    self._silent_since_s = None
                    return rows

    @contextlib.asynccontextmanager
    async def moment(self) -> AsyncIterator[Ask]:
        """Several questions about one moment; for a task of its own.

        Raises:
            StoreUnavailable, StoreCorrupt: as of `ask`.
        """
        due_s = asyncio.get_running_loop().time() + limits.STORE_WAIT_S
        async with self._turn:
            connection = await self._connected(due_s, proven=True)
            try:
                async with asyncio.timeout(self._answer_s):
                    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    yield Ask(connection)
                    await connection.execute("COMMIT")
            except BaseException as error:
                await self._drop()
                if isinstance(error, TimeoutError):
                    raise StoreUnavailable("the database does not answer in time") from error
                if isinstance(error, psycopg.Error):
                    raise meaning(error) from error
                raise

    async def hold(self, number: int) -> bool:
        """Take a lock until `let_go` or the end of the connection; whether it was free."""
        rows = await self.ask("SELECT pg_try_advisory_lock(%s)", number)
        return rows == [(True,)]

    async def let_go(self, number: int) -> None:
        """Release what `hold` took; the connection may have been lost meanwhile, and it with it."""
        with contextlib.suppress(StoreUnavailable, StoreRefused):
            await self.ask("SELECT pg_advisory_unlock(%s)", number)

    async def close(self) -> None:
        """Let the question under way end, then close."""
        self._closed = True
        async with self._turn:
            await self._drop()

    async def _connected(
        self, due_s: float, *, proven: bool = False
    ) -> psycopg.AsyncConnection[TupleRow]:
        """A connection; `proven`: one that has just answered."""
        while True:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._known.timeline = max(self._known.timeline, self._newest())
            if self._timeline < self._known.timeline:
                await self._drop()
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect()
                elif proven:
                    await self._connection.execute("SELECT 1")
                return self._connection
            except StoreRefused as error:
                await self._drop()
                raise final(error) from error
            except (psycopg.Error, StoreUnavailable) as error:
                await self._drop()
                late = asyncio.get_running_loop().time() > due_s
                if isinstance(error, psycopg.Error):
                    if late:
                        raise meaning(error) from error
                elif late or isinstance(error, StoreFailed):
                    raise
            await asyncio.sleep(_RETRY_S)

    async def _connect(self) -> psycopg.AsyncConnection[TupleRow]:
        connection = await psycopg.AsyncConnection.connect(**arguments(self._location, self._known))
        try:
            connection.adapters.register_dumper(int, Int8Dumper)
            cursor = await connection.execute(refusals.QUESTION, (list(SETTINGS),))
            found = refusals.check(await cursor.fetchone(), SETTINGS, self._known)
            cursor = await connection.execute(schema.FORMATS)
            for row in await cursor.fetchall():
                schema.check_format(*row)
            self._timeline = found.timeline
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()


class Ask:
    """Asks over one connection."""

    def __init__(self, connection: psycopg.AsyncConnection[TupleRow]) -> None:
        self._connection = connection

    async def __call__(self, sql: str, *values: Any) -> Rows:  # noqa: ANN401 - as a driver takes
        """The rows of an answer."""
        cursor = await self._connection.execute(sql, values, binary=True)
        return await cursor.fetchall()

"""Questions to the database beside the lane that commits, one at a time over one connection.

They ask the server that writes, and no replica: a replica shows commits later, and in another
order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8Dumper

from pullstatus import limits
from pullstatus.errors import StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.postgresql import refusals, schema
from pullstatus.store.postgresql.hangs import shut
from pullstatus.store.postgresql.location import CONNECT_S, Location
from pullstatus.store.postgresql.session import (
    SETTINGS,
    arguments,
    final,
    is_lost,
    meaning,
)

Rows = list[TupleRow]

_RETRY_S: Final = 0.05
_LET_GO_S: Final = 1.0  # whoever closes a connection does not wait for longer


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
            answer_s: how long an answer may take; the connection counts as lost then. Whoever asks
                has his turn and an answer within that time, or `limits.STORE_WAIT_S` if that is
                longer, or is refused.
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
        async with self._own_turn() as due_s:
            again_due_s = loop.time() + limits.STORE_WAIT_S
            if self._silent_since_s is None:
                self._silent_since_s = loop.time()
            while True:
                # Where an answer may take long, one that hangs would be waited for as long.
                long = self._answer_s > limits.STORE_WAIT_S
                connection = await self._connected(due_s, proven=long)
                try:
                    with _answers(connection, self._answer_due_s(due_s)):
                        rows = await Ask(connection)(sql, *values)
                except psycopg.Error as error:
                    await self._drop()
                    if not is_lost(error) or loop.time() > again_due_s:
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
        async with self._proven() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield Ask(connection)
            await connection.execute("COMMIT")

    @contextlib.asynccontextmanager
    async def _proven(self) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
        """A connection that has just answered, to oneself; dropped if anything goes wrong."""
        async with self._own_turn() as due_s:
            connection = await self._connected(due_s, proven=True)
            try:
                with _answers(connection, self._answer_due_s(due_s)):
                    yield connection
            except BaseException as error:
                await self._drop()
                if isinstance(error, psycopg.Error):
                    raise meaning(error) from error
                raise

    @contextlib.asynccontextmanager
    async def _own_turn(self) -> AsyncIterator[float]:
        """Have the connection to oneself, and know by when all must be answered."""
        due_s = asyncio.get_running_loop().time() + max(limits.STORE_WAIT_S, self._answer_s)
        async with _late_at(due_s):
            await self._turn.acquire()
        try:
            yield due_s
        finally:
            self._turn.release()

    def _answer_due_s(self, due_s: float) -> float:
        """By when what is asked now must be answered."""
        return min(due_s, asyncio.get_running_loop().time() + self._answer_s)

    async def hold(self, number: int, idle_s: float) -> bool:
        """Begin a transaction that lasts until `let_go`, and try to take a lock with it.

        It ends, and the lock with it, once nothing was asked for `idle_s`.

        Returns:
            Whether the lock was free.

        Raises:
            StoreUnavailable, StoreFailed, StoreCorrupt: as of `ask`.
        """
        cursor = await self._say(_HOLD.format(idle_ms=round(idle_s * 1000), number=number))
        while cursor.nextset():
            pass
        return await cursor.fetchone() == (True,)

    async def stay(self) -> None:
        """Have what `hold` began go on; nothing if the connection was lost meanwhile.

        Raises:
            StoreUnavailable, StoreFailed, StoreCorrupt: as of `ask`.
        """
        await self._say("SELECT 1")

    async def let_go(self, *, kept: bool) -> None:
        """End what `hold` began; the connection may have been lost meanwhile, and it with it.

        A server that is busy may take a while to notice that a connection was closed, and the lock
        would stay until then.

        Args:
            kept: leave the connection open.
        """
        with contextlib.suppress(StoreUnavailable, StoreRefused, psycopg.Error):
            await (self._say("COMMIT") if kept else asyncio.create_task(self._end()))

    async def _end(self) -> None:
        async with self._turn:
            try:
                if self._connection is not None:
                    due_s = asyncio.get_running_loop().time() + _LET_GO_S
                    with _answers(self._connection, due_s):
                        await self._connection.execute("COMMIT", prepare=False)
            finally:
                await self._drop()

    async def _say(self, sql: str) -> psycopg.AsyncCursor[TupleRow]:
        """Have the server do something, and keep no snapshot of it, as it does of what is asked."""
        return await asyncio.create_task(self._tell(sql))

    async def _tell(self, sql: str) -> psycopg.AsyncCursor[TupleRow]:
        async with self._proven() as connection:
            return await connection.execute(sql, prepare=False)

    async def close(self) -> None:
        """Let the question under way end, then close."""
        self._closed = True
        async with self._turn:
            await self._drop()

    async def _connected(
        self, due_s: float, *, proven: bool = False
    ) -> psycopg.AsyncConnection[TupleRow]:
        """A connection; `proven`: one that has just answered."""
        loop = asyncio.get_running_loop()
        due_s = min(due_s, loop.time() + limits.STORE_WAIT_S)
        last: psycopg.Error | StoreUnavailable | None = None
        while True:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._known.timeline = max(self._known.timeline, self._newest())
            if self._timeline < self._known.timeline:
                await self._drop()
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect(due_s)
                elif proven:
                    with _answers(self._connection, self._answer_due_s(loop.time() + CONNECT_S)):
                        await self._connection.execute("SELECT 1")
                return self._connection
            except StoreRefused as error:
                await self._drop()
                raise final(error) from error
            except StoreFailed:
                await self._drop()
                raise
            except (psycopg.Error, StoreUnavailable) as error:
                await self._drop()
                # What an earlier try came to says more than that the last one was cut off.
                last = error if last is None or str(error) != _LATE else last
                if loop.time() >= due_s:
                    if isinstance(last, psycopg.Error):
                        raise meaning(last) from last
                    raise last  # noqa: B904 - it is this one, or says more
            await asyncio.sleep(_RETRY_S)

    async def _connect(self, due_s: float) -> psycopg.AsyncConnection[TupleRow]:
        async with _late_at(due_s):
            connection = await psycopg.AsyncConnection.connect(
                **arguments(self._location, self._known)
            )
        try:
            connection.adapters.register_dumper(int, Int8Dumper)
            with _answers(connection, due_s):
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


@contextlib.asynccontextmanager
async def _late_at(due_s: float) -> AsyncIterator[None]:
    """Give up then; not while something is asked: see `_answers`."""
    try:
        async with asyncio.timeout_at(due_s):
            yield
    except TimeoutError as error:
        raise StoreUnavailable(_LATE) from error


@contextlib.contextmanager
def _answers(connection: psycopg.AsyncConnection[TupleRow], due_s: float) -> Iterator[None]:
    """While something is asked; the connection is shut at that time.

    The driver, if its task was cancelled, would ask the server to cancel the question, and wait for
    one that hangs.

    Raises:
        StoreUnavailable: it did not answer in time.
    """
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        shut(connection)

    timer = asyncio.get_running_loop().call_at(due_s, give_up)
    try:
        yield
    except psycopg.Error as error:
        if late:
            raise StoreUnavailable(_LATE) from error
        raise
    finally:
        timer.cancel()


_LATE: Final = "the database does not answer in time"

_HOLD: Final = (
    "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {idle_ms};"
    " SELECT pg_try_advisory_xact_lock({number})"
)


class Ask:
    """Asks over one connection."""

    def __init__(self, connection: psycopg.AsyncConnection[TupleRow]) -> None:
        self._connection = connection

    async def __call__(self, sql: str, *values: Any) -> Rows:  # noqa: ANN401 - as a driver takes
        """The rows of an answer."""
        cursor = await self._connection.execute(sql, values, binary=True)
        return await cursor.fetchall()

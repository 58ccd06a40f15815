"""`wire` spoken to real nodes: a thread with an event loop, in which all connections are.

any thread -> Bus, which blocks -> one loop: links, and over them reading, writing, api
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.jetstream import holdings, nodes
from pullstatus.store.jetstream.api import Api
from pullstatus.store.jetstream.copies import Copies
from pullstatus.store.jetstream.links import Links, end
from pullstatus.store.jetstream.location import Location, Login
from pullstatus.store.jetstream.meta import Meta
from pullstatus.store.jetstream.reading import Reading
from pullstatus.store.jetstream.streams import Streams
from pullstatus.store.jetstream.wire import Cluster, Message, Put, Space
from pullstatus.store.jetstream.writing import Writing

PROVE_S: Final = 60.0
AWAY_S: Final = 1.0  # while a node does not answer
ANSWER_TRIES: Final = 5
ANSWER_PAUSE_S: Final = 0.2  # for what is on its way to all nodes
SILENT_S: Final = 5.0  # until a stream is looked at again of which a node did not answer

T = TypeVar("T")


class Bus:
    """See `wire.Bus`. To be made in the process that uses it, and closed.

    Nodes are proven now, and with the streams of the store at every new connection, every minute,
    and when one comes back that was away: it may have other settings. Once one is refused nothing
    is done any more: whatever is asked raises `StoreFailed`.

    Attributes:
        warnings: what an operator is told of the nodes.

    Raises:
        StoreRefused: a node is not safe.
        StoreUnavailable: no node can be reached; the text says why.
    """

    def __init__(self, location: Location, login: Login) -> None:
        self._location, self._login = location, login
        self._partitions: int | None = None
        self._refusal: StoreRefused | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="pullstatus-bus", daemon=True
        )
        self._thread.start()
        self._closed = False
        self._silent_until_s: dict[str, float] = {}  # streams of which a node does not answer
        self._lock = threading.Lock()
        try:
            self.warnings = self._wait(self._open())
        except BaseException:
            self._stop()
            raise

    async def _open(self) -> list[str]:
        proof = await nodes.prove(self._location, self._login, start=True)
        self._proof = proof
        self._connected = asyncio.Event()
        self._links = Links(self._location, self._login, self._connected.set)
        self._reading = Reading(self._links)
        self._api = Api(self._links)
        self._writing = Writing(self._links, self._reading, self._api)
        self._streams = Streams(self._location, self._api, self._reading, self._writing)
        await self._links.open()
        self._watching = asyncio.create_task(self._watch())
        return proof.warnings

    async def _watch(self) -> None:
        """Ask nodes and streams about themselves again, until one is refused."""
        pause_s = PROVE_S
        while self._refusal is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._connected.wait()
            self._connected.clear()
            try:
                proof = await nodes.prove(self._location, self._login, start=False)
                pause_s = PROVE_S if proof.whole else AWAY_S
                self._proof = proof
                if self._partitions is not None:
                    await self._streams.prove(self._partitions)
            except StoreRefused as error:
                self._refusal = error
            except StoreUnavailable:
                pass  # soon there is another connection

    def open(self) -> Meta:
        """Prove the streams of the store; returns what it is.

        Raises:
            StoreRefused: there is none, or it is not as it must be.
        """
        meta = self._wait(self._streams.open())
        self._partitions = meta.partitions
        return meta

    def there(self) -> bool:
        """Whether there is a store, or one that was begun."""
        return self._wait(self._streams.there())

    def init(self, partitions: int | None = None) -> bool:
        """Make the store, or what is missing of one that was begun; returns whether it did.

        Args:
            partitions: how many it is to have; None: as many as it has, or as is usual.

        Raises:
            StoreRefused: there is one that is not as it must be, or has other partitions.
        """
        return self._wait(self._streams.init(partitions, os.urandom))

    def close(self) -> None:
        """Be connected no more; whoever waits gets no answer."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._wait(self._links.close())
            self._stop()

    def write(self, stream: str, puts: Sequence[Put], op: bytes) -> int:
        """See `wire.Bus`."""
        try:
            return self.begin(self._writing.write(stream, puts, op)).result()
        except concurrent.futures.CancelledError:
            raise OutcomeUnknown("the store was closed in the middle of a write") from None

    def last(self, stream: str, subject: str, *, leader: bool = False) -> Message | None:
        """See `wire.Bus`."""
        return self._asked(self._reading.last(stream, subject, leader=leader))

    def newest(self, stream: str) -> int:
        """See `wire.Bus`."""
        return self._asked(self._api.newest(stream))

    def lasts(
        self, stream: str, subjects: Sequence[str], *, at_least: int = 0
    ) -> dict[str, Message]:
        """See `wire.Bus`.

        Raises:
            ValueError: it would be more subjects than a node answers at once.
        """
        return self._asked(self._reading.lasts(stream, subjects, at_least=at_least))

    def following(
        self,
        stream: str,
        subject: str,
        sequence: int,
        *,
        count: int,
        bytes_max: int = 1 << 20,
        leader: bool = False,
    ) -> list[Message]:
        """See `wire.Bus`."""
        return self._asked(
            self._reading.following(
                stream, subject, sequence, count=count, bytes_max=bytes_max, leader=leader
            )
        )

    def last_of_each(
        self, stream: str, subjects: Sequence[str], *, leader: bool = True
    ) -> list[Message | None]:
        """See `wire.Bus`."""
        last = partial(self._reading.last, stream, leader=leader)
        return self._asked(_all([last(subject) for subject in subjects]))

    def following_each(
        self,
        stream: str,
        starts: Sequence[tuple[str, int]],
        *,
        count: int,
        bytes_max: int,
        leader: bool = False,
    ) -> list[list[Message]]:
        """See `wire.Bus`."""
        following = partial(
            self._reading.following, count=count, bytes_max=bytes_max, leader=leader
        )
        return self._asked(_all([following(stream, subject, at) for subject, at in starts]))

    def subjects(self, stream: str, pattern: str) -> Sequence[str]:
        """See `wire.Bus`."""
        return self._asked(self._api.subjects(stream, pattern))

    def size(self, stream: str) -> int:
        """See `wire.Bus`."""
        return self._asked(self._api.size(stream))

    def space(self, stream: str) -> Space | None:
        """See `wire.Bus`. What nodes have left is as they have said when they were proven last."""
        found = (self._asked(self._api.space(stream)), self._proof.space)
        return min((each for each in found if each is not None), key=_left, default=None)

    def cluster(self, streams: Sequence[str]) -> Cluster:
        """See `wire.Bus`."""
        led = self._asked(_all([self._api.led(stream) for stream in streams]))
        proof = self._proof
        return Cluster(led, proof.space, proof.unnamed, proof.older)

    def copies(self) -> Copies:
        """See `wire.Bus`."""
        return self._asked(holdings.copies(self._location.monitors))

    def all_answer(self, stream: str) -> bool:
        """See `wire.Bus`."""
        return self._asked(self._all_answer(stream))

    async def _all_answer(self, stream: str) -> bool:
        if self._loop.time() < self._silent_until_s.get(stream, 0.0):
            return False
        for _ in range(ANSWER_TRIES):
            if await self._all_answer_now(stream):
                return True
            await asyncio.sleep(ANSWER_PAUSE_S)
        self._silent_until_s[stream] = self._loop.time() + SILENT_S
        return False

    async def _all_answer_now(self, stream: str) -> bool:
        newest = await self._api.newest(stream)
        led = await self._api.led(stream)
        if led is None or not led.group:
            return led is not None
        if any(copy.away for copy in led.copies):
            return False  # asking it would take seconds
        return await holdings.all_answer(self._location.monitors, stream, led, newest)

    def purge(self, stream: str, subject: str, *, below: int) -> int:
        """See `wire.Bus`."""
        return self._asked(self._api.purge(stream, subject, below=below))

    def purge_each(self, stream: str, ends: Sequence[tuple[str, int]]) -> None:
        """See `wire.Bus`."""
        purge = partial(self._api.purge, stream)
        self._asked(_all([purge(subject, below=below) for subject, below in ends]))

    def delete(self, stream: str, sequence: int) -> None:
        """See `wire.Bus`."""
        return self._asked(self._api.delete(stream, sequence))

    def step_down(self, stream: str, to: str | None = None) -> None:
        """See `wire.Bus`."""
        return self._asked(self._api.step_down(stream, to))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have it done in the loop of the connections.

        Raises:
            StoreFailed: a node or a stream is not safe any more.
            StoreUnavailable: the bus was closed.
        """
        with self._lock:
            if not self._closed and self._refusal is None:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        if self._refusal is not None:
            raise StoreFailed(str(self._refusal))
        raise StoreUnavailable("the store was closed")

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _asked(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self.begin(work).result()
        except concurrent.futures.CancelledError:
            raise StoreUnavailable("the store was closed") from None

    def _stop(self) -> None:
        self._wait(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _left(space: Space) -> int:
    return space.left


async def _cancel_all() -> None:
    this = asyncio.current_task()
    await end({task for task in asyncio.all_tasks() if task is not this})


async def _all(questions: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers, in order, to questions that are asked at once; or the first error."""
    return list(await asyncio.gather(*questions))

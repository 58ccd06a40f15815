"""How a server and its workers speak: each may ask the other, and is answered when that is known.

Over a socket that only these two have, in frames of pickles: each believes the other, since the one
has started the other.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pullstatus.errors import StoreFailed
from pullstatus.server.logs import LogLines
from pullstatus.server.metrics import ConnectionCounts
from pullstatus.server.serve import ServeOptions
from pullstatus.store import Share, UnderWay
from pullstatus.store.gathering.frames import frame

LENGTH_BYTES = 8


class Brief(msgspec.Struct, frozen=True):
    """What a worker is to do, as the server tells it first.

    Attributes:
        number: which worker it is, from 1.
        options: of the server.
        log_level: what is logged.
        share: what it joins the store by; None: it opens it itself.
        listener, ledger: file descriptors that it has inherited.
        secret: for the ledger.
    """

    number: int
    options: ServeOptions
    log_level: str
    share: Share | None
    listener: int
    ledger: int
    secret: bytes


class Snapshot(msgspec.Struct, frozen=True):
    """What one worker has counted, and how it stands.

    Attributes:
        counts: see `Figures.counts`.
        shed: requests that were refused since too much was in hand, by whose part was used up.
        without_writes: streams whose leader has answered none of this worker's for a minute.
    """

    counts: dict[str, Any]
    held: int
    log: LogLines
    under_way: UnderWay
    connections: ConnectionCounts
    in_hand_bytes: int
    shed: dict[str, int]
    without_writes: int = 0


# What a worker says to the server.


class AskBrief(msgspec.Struct, frozen=True):
    """What am I to do? Answered with a `Brief`."""


class Started(msgspec.Struct, frozen=True):
    """It answers requests from now on."""


class Refused(msgspec.Struct, frozen=True):
    """It cannot start, for this reason."""

    reason: str


class StoreEnded(msgspec.Struct, frozen=True):
    """The store takes no more work, for this reason, so the worker ends."""

    reason: str


class CountFailed(msgspec.Struct, frozen=True):
    """Count a failed try; answered with a `Failed`."""

    what: str
    sdkappid: int | None
    address: str


class AskMetrics(msgspec.Struct, frozen=True):
    """All figures, of all workers; answered with their text."""


# What the server says to a worker.


class AskSnapshot(msgspec.Struct, frozen=True):
    """How do you stand? Answered with a `Snapshot`."""


class Stop(msgspec.Struct, frozen=True):
    """Stop, and be gone by this time of the monotonic clock."""

    by_s: float


class Reload(msgspec.Struct, frozen=True):
    """Take in new options and TLS files."""

    options: ServeOptions


Answer = Callable[[Any], Awaitable[object]]
"""Hears what the other says, and answers what it asks."""


class Control:
    """One end of the way between a server and one of its workers."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
    ) -> None:
        """For `over`."""
        self._reader, self._writer = reader, writer
        self._answer = answer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def over(cls, end: socket.socket, answer: Answer) -> Control:
        """Speak over a socket; `listen` has to run, too."""
        return cls(*await asyncio.open_unix_connection(sock=end), answer)

    async def listen(self) -> None:
        """Hear what the other says until it is gone."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "little")
                self._heard(*pickle.loads(await self._reader.readexactly(size)))  # noqa: S301 - ours # nosec B301
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(StoreFailed("the other process of this server is gone"))
            self._asked.clear()
            self._writer.close()

    async def ask(self, question: object) -> Any:  # noqa: ANN401 - as the question says
        """What the other answers.

        Raises:
            StoreFailed: it is gone.
        """
        if self._writer.is_closing():
            raise StoreFailed("the other process of this server is gone")
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._say(number, question)
        try:
            return await future
        finally:
            self._asked.pop(number, None)

    def tell(self, statement: object) -> None:
        """Say something that needs no answer."""
        self._say(0, statement)

    def _say(self, number: int, said: object) -> None:
        if not self._writer.is_closing():
            self._writer.writelines(frame(pickle.dumps((number, said))))

    def _heard(self, number: int, said: object) -> None:
        """Numbers of answers are those of their questions, negative; 0 needs none."""
        if number < 0:
            future = self._asked.get(-number)
            if future is not None and not future.done():
                if isinstance(said, Exception):
                    future.set_exception(said)
                else:
                    future.set_result(said)
            return
        task = asyncio.get_running_loop().create_task(self._see_to(number, said))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _see_to(self, number: int, said: object) -> None:
        try:
            answer = await self._answer(said)
        except Exception as error:
            if not number:
                raise
            answer = error
        if number:
            self._say(-number, answer)

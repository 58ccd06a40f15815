"""An engine over clusters in memory, for the tests that know a store by its URL alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar, cast
from unittest import mock

import msgspec

from pullstatus.store import copying, engines
from pullstatus.store.jetstream import epochs, meta
from pullstatus.store.jetstream.audit import audit_streams
from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.messages import (
    ActMessage,
    ChunkPart,
    Value,
    opened,
    sealed,
)
from pullstatus.store.jetstream.streams import FORMAT
from pullstatus.store.jetstream.subjects import Layout, Place
from pullstatus.store.jetstream.wire import OP_BYTES, Bus
from pullstatus.store.values import Accept, Act, AuditReport, Mailbox, Progress, ProveSetting
from tests.store.jetstream.memory import MemoryBus

T = TypeVar("T", bound=Value)

SCHEME: Final = "jetstream-memory"
LAYOUT: Final = Layout("s", 4)

_numbers = itertools.count()
_clusters: dict[str, MemoryBus] = {}


@contextlib.contextmanager
def cluster(_folder: Path) -> Iterator[str]:
    """The URL of a new one, in which a store can be made."""
    url = f"{SCHEME}://{next(_numbers)}"
    lose(url)
    rows = cast("dict[str, engines.Row]", engines.ENGINES)
    try:
        with mock.patch.dict(rows, {SCHEME: engines.Row(__name__, SCHEME)}):
            yield url
    finally:
        del _clusters[url]


def lose(url: str) -> None:
    """Have nothing left of a store."""
    bus = _clusters[url] = MemoryBus(LAYOUT.streams)
    choose = random.Random(0)
    bus.lag = lambda _stream: choose.choice([0, 0, 1, 2, 5, 100])
    bus.loses = lambda _stream: choose.random() < 0.1


def bus_of(url: str) -> Bus:
    """A connection to one."""
    return _clusters[url].door()


def damage(url: str, mailbox: Mailbox) -> None:
    """Change the last byte of the newest chunk of a mailbox."""
    place = LAYOUT.application(mailbox.sdkappid)

    def other(part: ChunkPart) -> ChunkPart:
        *rest, last = part.body
        return msgspec.structs.replace(part, body=bytes([*rest, last ^ 1]))

    _rewrite(url, place, place.log(mailbox.holds), ChunkPart, other)


def forge_acts(url: str) -> None:
    """Say that somebody else did what was done."""

    def other(act: ActMessage) -> ActMessage:
        return msgspec.structs.replace(act, actor=b"somebody else")

    _rewrite(url, LAYOUT.common, LAYOUT.common.act(1), ActMessage, other)


def _rewrite(url: str, place: Place, subject: str, held: type[T], other: Callable[[T], T]) -> None:
    """Have something else in the newest message of a subject."""
    stream = _clusters[url]._streams[place.stream]
    message = stream.messages[stream.last_of(subject, stream.newest)]
    told = sealed(message.data[:OP_BYTES], subject, other(opened(message, held)))
    stream.messages[message.sequence] = message._replace(data=told)


def limit(url: str, size: int) -> None:
    """How many bytes each partition may hold."""
    for partition in range(LAYOUT.partitions):
        _clusters[url].limits[LAYOUT.stream(partition)] = size


def check(url: str) -> None:
    assert url.startswith(SCHEME)


def cautions(_url: str) -> list[str]:
    return []


def file(_url: str) -> Path | None:
    return None


async def open(  # noqa: A001 - as engines' modules have it
    url: str,
    *,
    create: bool,
    server: bool,
    reserve_bytes: int,
    on_failure: Callable[[BaseException], None] | None,
) -> JetStreamStore:
    created = create and await init(url, partitions=None)
    return await _open(url, created=created, server=server, on_failure=on_failure)


async def _open(
    url: str,
    *,
    created: bool = False,
    server: bool = False,
    moving: bool = False,
    on_failure: Callable[[BaseException], None] | None = None,
) -> JetStreamStore:
    bus = bus_of(url)
    told, _ = meta.read(bus, LAYOUT)
    return await JetStreamStore.open(
        *(url, bus, LAYOUT, told.secret, told.epoch),
        created=created,
        on_failure=on_failure,
        server=server,
        moving=moving,
    )


async def open_end(url: str, *, target: bool) -> JetStreamStore:
    return await _open(url, moving=True)


async def holds_store(url: str) -> bool:
    place = LAYOUT.common
    return bus_of(url).last(place.stream, place.meta, leader=True) is not None


async def init(url: str, *, partitions: int | None) -> bool:
    if await holds_store(url):
        return False
    op = os.urandom(16)
    told = meta.Meta(FORMAT, LAYOUT.partitions, os.urandom(32), [(1, 0)], whole=True)
    bus_of(url).write(LAYOUT.common.stream, [meta.put(LAYOUT.common, told, 0, op)], op)
    return True


async def upgrade(url: str, *, post: bool) -> list[int]:
    return []


async def begin_epoch(url: str, act: Act) -> int:
    return await asyncio.to_thread(epochs.begin_epoch, bus_of(url), LAYOUT, act)


async def backup(url: str, file: Path, progress: Progress) -> None:
    store = await _open(url, moving=True)
    await copying.backup(store, file, progress)
    await store.close()


async def restore(
    url: str,
    file: Path,
    *,
    act: Act,
    progress: Progress,
    prove_setting: ProveSetting,
    accept: Accept,
) -> int:
    return await copying.restore(
        url, file, act=act, progress=progress, prove_setting=prove_setting, accept=accept
    )


async def rewrite(_url: str, *, serving: bool) -> None:
    pass


async def audit(url: str, progress: Progress, *, prove_setting: ProveSetting) -> AuditReport:
    bus = bus_of(url)
    told, _ = meta.read(bus, LAYOUT)
    return await asyncio.to_thread(
        audit_streams, bus, LAYOUT, told.epoch, progress, prove_setting=prove_setting
    )

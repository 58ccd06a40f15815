"""An engine over clusters in memory, for the tests that know a store by its URL alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast
from unittest import mock

from pullstatus.store import engines
from pullstatus.store.jetstream.audit import audit_streams
from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus
from pullstatus.store.values import AuditReport, Progress, ProveSetting
from tests.store.jetstream.memory import MemoryBus

SCHEME: Final = "jetstream-memory"
LAYOUT: Final = Layout("s", 4)

_numbers = itertools.count()
_clusters: dict[str, MemoryBus] = {}
_made: set[str] = set()


@contextlib.contextmanager
def cluster(_folder: Path) -> Iterator[str]:
    """The URL of a new one."""
    url = f"{SCHEME}://{next(_numbers)}"
    bus = _clusters[url] = MemoryBus(LAYOUT.streams)
    choose = random.Random(0)
    bus.lag = lambda _stream: choose.choice([0, 0, 1, 2, 5, 100])
    bus.loses = lambda _stream: choose.random() < 0.1
    rows = cast("dict[str, engines.Row]", engines.ENGINES)
    try:
        with mock.patch.dict(rows, {SCHEME: engines.Row(__name__, SCHEME)}):
            yield url
    finally:
        del _clusters[url]


def bus_of(url: str) -> Bus:
    """A connection to one."""
    return _clusters[url].door()


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
    bus = bus_of(url)
    created = url not in _made
    _made.add(url)
    return await JetStreamStore.open(
        bus, LAYOUT, bytes(32), 1, created=created, on_failure=on_failure
    )


async def rewrite(_url: str, *, serving: bool) -> None:
    pass


async def audit(url: str, progress: Progress, *, prove_setting: ProveSetting) -> AuditReport:
    bus = bus_of(url)
    return await asyncio.to_thread(
        audit_streams, bus, LAYOUT, 1, progress, prove_setting=prove_setting
    )

"""The engine over real nodes, for the tests that know a store by its URL alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast
from unittest import mock

from pullstatus.store import engines
from pullstatus.store.jetstream.audit import audit_streams
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.location import Login, parse_url
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.values import AuditReport, Progress, ProveSetting
from tests.store import engines as tested

SCHEME: Final = "jetstream"
PARTITIONS: Final = 1

_numbers = itertools.count()
_made: set[str] = set()


@contextlib.contextmanager
def place(_folder: Path) -> Iterator[str]:
    """The URL of a new store, on the nodes that all tests share."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    url = tested.cluster().url(name)
    with Bus(parse_url(url), Login()) as bus:
        bus.init(PARTITIONS)
        rows = cast("dict[str, engines.Row]", engines.ENGINES)
        try:
            with mock.patch.dict(rows, {SCHEME: engines.Row(__name__, SCHEME)}):
                yield url
        finally:
            for stream, _ in Layout(name, PARTITIONS).streams:
                bus._wait(bus._api._said(f"STREAM.DELETE.{stream}", {}))


def check(url: str) -> None:
    parse_url(url)


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
    location = parse_url(url)
    bus = await asyncio.to_thread(Bus, location, Login())
    meta = await asyncio.to_thread(bus.open)
    created = url not in _made
    _made.add(url)
    layout = Layout(location.store, meta.partitions)
    return await JetStreamStore.open(
        bus, layout, meta.secret, meta.epoch, created=created, on_failure=on_failure
    )


async def rewrite(_url: str, *, serving: bool) -> None:
    pass


async def audit(url: str, progress: Progress, *, prove_setting: ProveSetting) -> AuditReport:
    location = parse_url(url)

    def proven() -> AuditReport:
        with Bus(location, Login()) as bus:
            meta = bus.open()
            layout = Layout(location.store, meta.partitions)
            return audit_streams(bus, layout, meta.epoch, progress, prove_setting=prove_setting)

    return await asyncio.to_thread(proven)

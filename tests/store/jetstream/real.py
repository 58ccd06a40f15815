"""Stores on real nodes, for the tests that know a store by its URL alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store import init_store
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.location import parse_url
from pullstatus.store.jetstream.opening import opened
from tests.store import engines as tested
from tools.nats import PATIENCE_S

PARTITIONS: Final = 1

_numbers = itertools.count()


def make_store(url: str, partitions: int) -> None:
    """Make a store on nodes that may yet be too busy to say what they are."""
    by_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            asyncio.run(init_store(url, partitions=partitions))
        except StoreRefused as error:
            if "does not answer" not in str(error) or time.monotonic() >= by_s:
                raise
        else:
            return


@contextlib.contextmanager
def place(_folder: Path, partitions: int = PARTITIONS) -> Iterator[str]:
    """The URL of a new store, on the nodes that all tests share."""
    url = tested.cluster().url(f"t{os.getpid()}_{next(_numbers)}")
    make_store(url, partitions)
    try:
        yield url
    finally:
        remove(url)


def remove(url: str) -> None:
    """Have nothing left of a store."""
    with opened(parse_url(url)) as found:
        for stream, _ in found.layout.streams:
            found.bus._wait(found.bus._api._said(f"STREAM.DELETE.{stream}", {}))


def until_all_answer(url: str) -> None:
    """Wait until each node is asked for what it has: seconds after it has begun to have it.

    By then all have the same: what one has removed the others have, too.
    """
    by_s = time.monotonic() + PATIENCE_S
    with opened(parse_url(url)) as found:
        for stream, _ in found.layout.streams:
            while not _alike(found.bus, stream):
                assert time.monotonic() < by_s
                time.sleep(0.1)


def _alike(bus: Bus, stream: str) -> bool:
    """Whether each node is asked, and has the same; not as long as one does not say."""
    try:
        all_answer = bus._wait(bus._all_answer_now(stream))
    except StoreUnavailable:
        return False
    [led] = bus.cluster([stream]).streams
    if led is None or not all_answer:
        return False
    held = bus.copies().get(led.group, {})
    return len(held) == 1 + len(led.copies) and len(set(held.values())) == 1

"""Opening a store: nodes and streams are proven, and the store says what it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.location import Location, login
from pullstatus.store.jetstream.meta import Meta
from pullstatus.store.jetstream.subjects import Layout


class Opened(NamedTuple):
    """A store that was found; `bus` is the caller's from now on."""

    bus: Bus
    layout: Layout
    meta: Meta


def open_store(location: Location) -> Opened:
    """Connect to a store, as whoever the environment says that we are.

    Raises:
        StoreRefused: there is none, or a node or a stream of it is not safe.
        InvalidSetting: the environment says half of who we are.
        StoreUnavailable: the cluster does not answer; nothing was done.
    """
    bus = connect(location)
    try:
        meta = bus.open()
    except BaseException:
        bus.close()
        raise
    return Opened(bus, Layout(location.store, meta.partitions), meta)


def connect(location: Location) -> Bus:
    """Connections at the start of a command or a server: a cluster that is not there is told.

    Raises:
        StoreRefused: no node can be reached, or one is not safe.
        InvalidSetting: the environment says half of who we are.
    """
    try:
        return Bus(location, login(os.environ))
    except StoreUnavailable as error:
        raise StoreRefused(f"{location.shown} cannot be used: {error}") from error


@contextlib.contextmanager
def opened(location: Location) -> Iterator[Opened]:
    """The same as `open_store`, until the block ends."""
    found = open_store(location)
    with found.bus:
        yield found


def holds_store(location: Location) -> bool:
    """Whether there is a store on nodes that can be reached.

    Raises:
        StoreRefused: none can, or one is not safe.
    """
    with connect(location) as bus:
        return bus.there()


def init(location: Location, partitions: int | None) -> bool:
    """Make a store, or what is missing of one that was begun; returns whether this did it.

    Args:
        partitions: how many; None: as many as there are, or as is usual.

    Raises:
        StoreRefused: nodes are not safe, have no room, or there is one that has others.
    """
    with connect(location) as bus:
        return bus.init(partitions)


def cautions_of(location: Location) -> list[str]:
    """What an operator is told of nodes that are not refused; nothing of those not there.

    Raises:
        StoreRefused: one is not safe.
    """
    try:
        bus = Bus(location, login(os.environ))
    except StoreUnavailable:
        return []
    with bus:
        return bus.warnings

"""PostgreSQL servers of the bench's own, on the disk that stores are on, and what stands over them.

    database, pair     a server; one with a synchronous standby, on the same disk and cores
    over               the product over such a one
    skip_locked        what people build instead over one: see `bench.peers`

All are set alike, as the manual says for a machine like this; durable, as they are by default.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.process import Running
from bench.server import Product
from tools.postgresql import Pair, PostgreSQL

CHECKOUT = Path(__file__).parents[1]
PEERS = CHECKOUT / ".venv-peers"
MEMORY_MIB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
SETTINGS = {
    "shared_buffers": f"{MEMORY_MIB // 4}MB",
    "effective_cache_size": f"{MEMORY_MIB // 2}MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "64MB",
    "random_page_cost": "1.1",
    "jit": "off",
    # Without it, a plan made while a queue was empty would be kept for when it is long.
    "plan_cache_mode": "force_custom_plan",
    "autovacuum_naptime": "5s",
    # Servers that wait for their turn are held still, for longer than either would wait.
    "wal_sender_timeout": "0",
    "wal_receiver_timeout": "0",
}


class PeersMissing(Exception):
    """The packages of the peers are not installed; the text says how to install them."""


class Over(NamedTuple):
    """Something that answers, and the processes of the database behind it."""

    running: Running
    behind: tuple[int, ...]


@contextlib.contextmanager
def database(folder: Path) -> Iterator[PostgreSQL]:
    """A server."""
    with PostgreSQL(None, place=folder, **SETTINGS) as server:
        yield server


@contextlib.contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Two, of which the primary waits for the standby before each answer."""
    with Pair(None, place=folder, **SETTINGS) as servers:
        yield servers


@contextlib.contextmanager
def over(server: PostgreSQL, folder: Path, applications: int = 1, *flags: str) -> Iterator[Product]:
    """The product over a new database of a server, being served."""
    with server.database() as url, Product(folder, applications, url) as product:
        product.serve(*flags)
        yield product


@contextlib.contextmanager
def skip_locked(server: PostgreSQL, folder: Path) -> Iterator[Running]:
    """A row a record, taken with DELETE and SKIP LOCKED, without a framework.

    Raises:
        PeersMissing: see there.
    """
    python = peers_python()
    with server.database() as url:
        command = [str(python), "-m", "bench.peers.front", "lean", "postgresql", url, "1"]
        log = folder / "skip-locked.log"
        try:
            with Running(command, log, cwd=CHECKOUT) as running:
                yield running
        finally:
            log.unlink(missing_ok=True)


def peers_python() -> Path:
    """What fronts of the peers run in.

    Raises:
        PeersMissing: see there.
    """
    python = PEERS / "bin" / "python"
    if not python.exists():
        raise PeersMissing(f"there is no {python}; `make bench-peers ARGS=--help` makes it")
    return python

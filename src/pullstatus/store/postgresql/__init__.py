"""The engine for many servers on many machines: one PostgreSQL, perhaps with a standby.

    lane    commits groups of operations, two trips each (`log`, `group`, `tables`)
    gate    whether the store takes anything on, read in each of these trips and looks
    looks   what waits, shared by all polls of a process (`look`)
    reads   lists, sums, one setting (`lists`, `totals`), what is derived (`derived`)

Every connection is proven when it is made (`session`, `refusals`). What a commit without an answer
came to is learned by its mark (`marks`). The stored format is `schema`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from pullstatus.errors import InvalidSetting, extra_missing
from pullstatus.store.values import Act, AuditReport, Progress, ProveSetting

try:
    import psycopg as _  # noqa: F401
except ImportError as error:
    raise InvalidSetting(extra_missing(error)) from error

from pullstatus.store.postgresql import epochs, opening
from pullstatus.store.postgresql.audit import audit_database
from pullstatus.store.postgresql.engine import PostgresStore
from pullstatus.store.postgresql.location import parse_url
from pullstatus.store.postgresql.opening import cautions_of, open_store
from pullstatus.store.postgresql.rewriting import rewrite_tables

__all__ = [
    "PostgresStore",
    "audit",
    "begin_epoch",
    "cautions",
    "check",
    "file",
    "holds_store",
    "init",
    "open",
    "open_end",
    "rewrite",
    "upgrade",
]


def check(url: str) -> None:
    """See `EngineModule.check`."""
    parse_url(url)


def file(url: str) -> Path | None:
    """See `store_file`."""
    parse_url(url)
    return None


def cautions(url: str) -> list[str]:
    """See `store_cautions`."""
    return cautions_of(parse_url(url))


async def open(  # noqa: A001 - as every engine's module calls it
    url: str,
    *,
    create: bool,
    server: bool,
    reserve_bytes: int,
    on_failure: Callable[[BaseException], None] | None,
) -> PostgresStore:
    """See `open_store`. The room on the server's disk is not known here: see `max-bytes`."""
    del reserve_bytes
    return await PostgresStore.open(
        parse_url(url), create=create, server=server, on_failure=on_failure
    )


async def open_end(url: str, *, target: bool) -> PostgresStore:
    """See `MovingModule`. A target must have been made, by whoever is to own it."""
    del target
    location = msgspec.structs.replace(parse_url(url), apart=False)
    return await PostgresStore.open(location, create=False, server=False, moving=True)


async def holds_store(url: str) -> bool:
    """See `MovingModule`."""
    return await asyncio.to_thread(opening.holds_store, parse_url(url))


async def init(url: str, *, partitions: int | None) -> bool:
    """See `init_store`."""
    if partitions is not None:
        raise InvalidSetting("a store in PostgreSQL has no partitions: leave --partitions out")
    opened = await asyncio.to_thread(open_store, parse_url(url), create=True)
    opened.session.close()
    return opened.created


async def upgrade(url: str, *, post: bool) -> list[int]:
    """See `upgrade_store`."""
    return await asyncio.to_thread(opening.upgrade, parse_url(url), post=post)


async def begin_epoch(url: str, act: Act) -> int:
    """See `begin_epoch` of `pullstatus.store`."""
    return await asyncio.to_thread(epochs.begin_epoch, parse_url(url), act)


async def rewrite(url: str, *, serving: bool) -> None:
    """See `rewrite_store`."""
    await asyncio.to_thread(rewrite_tables, parse_url(url), serving=serving)


async def audit(url: str, progress: Progress, *, prove_setting: ProveSetting) -> AuditReport:
    """See `audit_store`."""
    location = parse_url(url)
    return await asyncio.to_thread(audit_database, location, progress, prove_setting=prove_setting)

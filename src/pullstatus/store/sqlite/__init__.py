"""The embedded engine: one SQLite file, one writer with group commit, separate readers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pullstatus.store.gate import check_here
from pullstatus.store.sqlite import copies, place
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.engine import SqliteStore, real
from pullstatus.store.sqlite.location import parse_url
from pullstatus.store.sqlite.place import check_there
from pullstatus.store.sqlite.rewriting import rewrite_file
from pullstatus.store.values import Accept, Act, AuditReport, Progress, ProveSetting, Share

if TYPE_CHECKING:  # which may be importing this
    from pullstatus.store import Store

__all__ = [
    "SqliteStore",
    "audit",
    "backup",
    "cautions",
    "check",
    "file",
    "holds_store",
    "join",
    "open",
    "open_end",
    "open_shared",
    "restore",
    "rewrite",
    "share",
]


def check(url: str) -> None:
    """See `EngineModule.check`."""
    parse_url(url)


def file(url: str) -> Path:
    """See `store_file`."""
    return real(parse_url(url).path.absolute())


async def open(  # noqa: A001 - as every engine's module calls it
    url: str,
    *,
    create: bool,
    server: bool,
    reserve_bytes: int,
    on_failure: Callable[[BaseException], None] | None,
) -> SqliteStore:
    """See `open_store`."""
    return await SqliteStore.open(
        parse_url(url),
        create=create,
        server=server,
        reserve_bytes=reserve_bytes,
        on_failure=on_failure,
    )


async def open_to_read(url: str) -> SqliteStore:
    """See `read_store`."""
    return await SqliteStore.read(parse_url(url))


async def open_shared(
    url: str, *, reserve_bytes: int, on_failure: Callable[[BaseException], None] | None
) -> SqliteStore:
    """See `open_store`."""
    return await SqliteStore.open(
        parse_url(url),
        server=True,
        shared=True,
        reserve_bytes=reserve_bytes,
        on_failure=on_failure,
    )


def share(store: Store, sharers: int) -> Share:
    """See `share_store`."""
    assert isinstance(store, SqliteStore)
    return store.share(sharers)


async def join(
    url: str, share: Share, *, on_failure: Callable[[BaseException], None] | None
) -> SqliteStore:
    """See `join_store`."""
    return await SqliteStore.join(parse_url(url), share, on_failure=on_failure)


def cautions(url: str) -> list[str]:
    """See `store_cautions`."""
    location = parse_url(url)
    path = Path(os.path.realpath(location.path))
    place.check_place(path, any_file_system=location.any_file_system)
    return place.cautions(path)


async def open_end(url: str, *, target: bool) -> SqliteStore:
    """See `MovingModule`. A target is locked as by a server, and its commits are made here."""
    location = msgspec.structs.replace(parse_url(url), apart=False)
    return await SqliteStore.open(location, create=target, server=target, moving=True)


async def holds_store(url: str) -> bool:
    """See `MovingModule`."""
    return file(url).exists()


async def rewrite(url: str, *, serving: bool) -> None:
    """See `rewrite_store`."""
    path = file(url)
    check_there(path)
    await asyncio.to_thread(rewrite_file, path, serving=serving)


async def audit(url: str, progress: Progress, *, prove_setting: ProveSetting) -> AuditReport:
    """See `audit_store`."""
    path = parse_url(url).path
    return await asyncio.to_thread(audit_file, path, progress, prove_setting=prove_setting)


async def backup(url: str, file: Path, progress: Progress) -> None:
    """See `backup_store`."""
    location = parse_url(url)
    store = await SqliteStore.open(location, create=False)  # refuses what is not safe to copy
    try:
        check_here(await store.migration())
        await asyncio.to_thread(copies.backup, store.path, file, progress)
    finally:
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
    """See `restore_store`."""
    return await asyncio.to_thread(
        copies.restore,
        file,
        parse_url(url),
        act=act,
        progress=progress,
        prove_setting=prove_setting,
        accept=accept,
    )

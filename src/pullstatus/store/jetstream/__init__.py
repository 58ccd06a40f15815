"""The engine for many servers over a cluster of NATS JetStream, which keeps three copies.

    messages    what lies there, and on which subjects (`subjects`, `messages`)
    lane        commits groups of operations of a partition, two trips each (`log`, `tables`);
                `settings` is the one of what is of no application
    snapshots   rows with the commit that they are of, and what lies in order; `chunks` those of a
                mailbox; `proven` asks all nodes for what one has damaged
    routing     what takes parked items to an application of another partition, in several writes;
                `spread` parts records of very many hours
    engine      `JetStreamStore`: a lane for each partition behind one writer (`lanes`), and what is
                listed (`lists`) or was derived (`derived`); `audit` is the proof
    survey      how all applications stand, brought up to date by what was committed; `looks` are
                shared by those who ask at once; `lease` says whose turn upkeep is,
                and following
    watchdog    tells how nodes are, `copies` which of them have lost messages by what they say in
                `holdings`, and `vitals` what a process meets on its way to them
    bus         says to nodes what `wire` asks, and proves nodes and streams

A condition on the newest commit of each application guards all that a group has read of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pullstatus.errors import InvalidSetting, StoreRefused, extra_missing
from pullstatus.store.values import Accept, Act, AuditReport, Progress, ProveSetting

try:
    import nats as _  # noqa: F401
except ImportError as error:
    raise InvalidSetting(extra_missing(error)) from error

from pullstatus.store import copying
from pullstatus.store.jetstream import epochs, opening
from pullstatus.store.jetstream.audit import audit_streams
from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.location import Location, parse_url

__all__ = [
    "JetStreamStore",
    "audit",
    "backup",
    "begin_epoch",
    "cautions",
    "check",
    "file",
    "holds_store",
    "init",
    "open",
    "open_end",
    "restore",
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
    return opening.cautions_of(parse_url(url))


async def open(  # noqa: A001 - as every engine's module calls it
    url: str,
    *,
    create: bool,
    server: bool,
    reserve_bytes: int,
    on_failure: Callable[[BaseException], None] | None,
) -> JetStreamStore:
    """See `open_store`. Nobody but `init` makes one: a cluster that has lost one must not have it.

    Any number of servers may open it. The room on the nodes' disks is not known here.
    """
    del create, reserve_bytes
    return await _open(parse_url(url), server=server, on_failure=on_failure)


async def _open(
    location: Location,
    *,
    server: bool = False,
    moving: bool = False,
    on_failure: Callable[[BaseException], None] | None = None,
) -> JetStreamStore:
    found = await asyncio.to_thread(opening.open_store, location)
    try:
        return await JetStreamStore.open(
            *(location.name, found.bus, found.layout, found.meta.secret, found.meta.epoch),
            created=False,
            on_failure=on_failure,
            server=server,
            moving=moving,
        )
    except BaseException as error:
        await asyncio.to_thread(found.bus.close)
        if isinstance(error, StoreRefused):
            raise StoreRefused(f"{location.shown}: {error}") from error
        raise


async def open_end(url: str, *, target: bool) -> JetStreamStore:
    """See `MovingModule`. A target must have been made."""
    del target
    return await _open(parse_url(url), moving=True)


async def holds_store(url: str) -> bool:
    """See `MovingModule`."""
    return await asyncio.to_thread(opening.holds_store, parse_url(url))


async def backup(url: str, file: Path, progress: Progress) -> None:
    """See `backup_store`."""
    store = await _open(parse_url(url), moving=True)
    try:
        await copying.backup(store, file, progress)
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
    """See `restore_store`: into a store that was made, and is empty."""
    return await copying.restore(
        url, file, act=act, progress=progress, prove_setting=prove_setting, accept=accept
    )


async def init(url: str, *, partitions: int | None) -> bool:
    """See `init_store`."""
    return await asyncio.to_thread(opening.init, parse_url(url), partitions)


async def upgrade(url: str, *, post: bool) -> list[int]:
    """See `upgrade_store`. There has been one format so far."""
    del post
    await asyncio.to_thread(_prove, url)
    return []


async def begin_epoch(url: str, act: Act) -> int:
    """See `begin_epoch` of `pullstatus.store`."""

    def begin() -> int:
        with opening.opened(parse_url(url)) as found:
            return epochs.begin_epoch(found.bus, found.layout, act)

    return await asyncio.to_thread(begin)


async def rewrite(url: str, *, serving: bool) -> None:
    """See `rewrite_store`. Nodes do that by themselves, in time; nobody can tell them to.

    They write over what was erased in a chunk, and what a setting was, at once; the rest when they
    compact a file.
    """
    del serving
    await asyncio.to_thread(_prove, url)


async def audit(url: str, progress: Progress, *, prove_setting: ProveSetting) -> AuditReport:
    """See `audit_store`."""

    def proven() -> AuditReport:
        with opening.opened(parse_url(url)) as found:
            return audit_streams(
                *(found.bus, found.layout, found.meta.epoch, progress), prove_setting=prove_setting
            )

    return await asyncio.to_thread(proven)


def _prove(url: str) -> None:
    with opening.opened(parse_url(url)):
        pass

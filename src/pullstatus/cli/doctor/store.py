"""The store: whether it opens, what it says of itself, and what in it somebody is to see to."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from pullstatus import apps
from pullstatus.apps import Masters
from pullstatus.cli.doctor.findings import Finding, fault, ok, warning
from pullstatus.cli.master_keys import shut_told
from pullstatus.errors import MasterKeyMissing, PullstatusError, StoreCorrupt
from pullstatus.mailbox import done
from pullstatus.mailbox.done import Task
from pullstatus.records import Kind
from pullstatus.records.hours import HOUR_MS
from pullstatus.store import Aside, Store, read_store

WAITING_OLD_MS = 6 * HOUR_MS  # as the alarm has it
DAMAGED = "pullstatus audit, then docs/how-to/back-up.md"
SHUT = (
    "put those master keys there, each as a line; or make new keys: pullstatus app rotate-key"
    " --drop-old, secret revoke and create, token set"
)


class Look(msgspec.Struct, frozen=True):
    """How a store stands.

    Attributes:
        stored: records and parked items that lie in it, handed out or not.
        newest_ms: of all moments that are at hand of what happened in it; 0: none.
        oldest_ms: when the oldest record that waits was accepted; None: none does.
        traces: its files are to be written anew, since traces of what was removed are in them.
        leaving: numbers of the applications whose removal was cut off, or is just under way.
    """

    epoch: int
    bytes: int
    stored: int
    waiting: int
    parked: int
    quarantined: int
    newest_ms: int
    oldest_ms: int | None
    done_ms: Mapping[Task, int]
    traces: bool = False
    leaving: tuple[int, ...] = ()


async def look(url: str, masters: Masters | None) -> tuple[Look | None, list[Finding]]:
    """How a store stands, None if it cannot be read, and whether `masters` open its keys."""
    try:
        store = await read_store(url)
        try:
            await store.check_served()
            found = await _look(store)
            findings = standing(found)
            if masters is not None:
                findings.append(await _keys(store, masters))
            return found, findings
        finally:
            await store.close()
    except PullstatusError as error:
        return None, [unreadable(error)]
    except msgspec.DecodeError:
        return None, [fault("store", "it holds what is no JSON", DAMAGED)]


async def _look(store: Store) -> Look:
    rows = await store.backlog()
    done_ms = await done.noted_ms(store)
    moments = [*done_ms.values()]
    moments += [at_ms for row in rows for at_ms in (row.oldest_ms, row.last_pull_ms) if at_ms]
    async for row in store.acts(newest_first=True):
        moments.append(row.act.at_ms)
        break
    records = [row for row in rows if row.mailbox.kind in set(Kind)]
    engine = await store.engine()
    return Look(
        epoch=store.epoch,
        bytes=engine.bytes,
        stored=sum(row.accepted - row.purged for row in rows),
        waiting=sum(row.waiting for row in records),
        parked=sum(row.waiting for row in rows if row.mailbox.kind is Aside.PARKED),
        quarantined=sum(row.quarantined for row in rows),
        newest_ms=max(moments, default=0),
        oldest_ms=min((row.oldest_ms for row in records if row.oldest_ms), default=None),
        done_ms=done_ms,
        traces=await apps.rewrite_is_due(store),
        leaving=await _leaving(store),
    )


async def _leaving(store: Store) -> tuple[int, ...]:
    with contextlib.suppress(StoreCorrupt):  # which is told with the keys
        return tuple(each.sdkappid for each in await apps.applications(store) if each.leaving)
    return ()


async def _keys(store: Store, masters: Masters) -> Finding:
    settings = [
        (setting.name, setting.value)
        async for setting in store.settings()
        if setting.value is not None
    ]
    try:
        shut = apps.check_opens(settings, masters)
    except StoreCorrupt as error:
        return unreadable(error)
    except PullstatusError as error:
        return unkeyed(error)
    if shut:
        return fault("master key", shut_told(shut, masters), SHUT)
    return ok("master key", "the keys of all applications open")


def unkeyed(error: Exception) -> Finding:
    """The master key is not at hand, or cannot be read."""
    return fault(
        "master key",
        str(error),
        "name it with --master-key-file; docs/how-to/protect-what-lies-on-the-disk.md",
    )


def unreadable(error: PullstatusError) -> Finding:
    """The store cannot be read; what our errors say names the fix."""
    if isinstance(error, MasterKeyMissing):
        return unkeyed(error)
    if isinstance(error, StoreCorrupt):
        return fault("store", str(error), DAMAGED)
    return fault("store", str(error), "change what it says, or name another store with --store")


def standing(found: Look) -> list[Finding]:
    """Judge what a store says of itself, but for how long something waits."""
    findings = [
        ok("store", f"epoch {found.epoch}; {found.stored:,} stored, {found.waiting:,} waiting")
    ]
    if found.quarantined:
        findings.append(
            fault("damage", f"{found.quarantined:,} records were found damaged", DAMAGED)
        )
    if found.parked:
        findings.append(
            warning("parked", f"{found.parked:,} items could not be read", "pullstatus parked list")
        )
    if found.traces:
        findings.append(
            warning(
                "traces",
                "something is just being removed, or traces of what was are left in the files",
                "pullstatus rewrite; in PostgreSQL as the role that owns the tables",
            )
        )
    if found.leaving:
        numbers = ", ".join(map(str, found.leaving))
        findings.append(
            warning(
                "applications",
                f"being removed, or that was cut off, so refused everything: {numbers}",
                f"pullstatus app delete {found.leaving[0]}",
            )
        )
    return findings


def waiting(oldest_ms: int | None, now_ms: int) -> Finding:
    """Judge how long the oldest record has waited."""
    if oldest_ms is None:
        return ok("waiting", "nothing waits")
    hours = (now_ms - oldest_ms) / HOUR_MS
    said = f"the oldest record has waited for {hours:,.1f} hours"
    if now_ms - oldest_ms > WAITING_OLD_MS:
        return warning("waiting", said, "tell the customer: pullstatus app list")
    return ok("waiting", said)

"""Backups of stores whose engine has no file to copy: all that they hold, as an embedded store.

So there is one form of backups for all engines. Each application is copied as of one of its
commits, while it is in use. What repeats are known by is copied before: what comes meanwhile may
come again, and is never taken for a repeat of what the copy lacks. What operators did is copied
behind: it is on record wherever it shows. Of two applications they are two moments: an item that
changes from one to the other between them is in the copy twice, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store.engines import copying_engine_of, engine_of, moving_engine_of
from pullstatus.store.gate import check_here
from pullstatus.store.migration import CLOSING_MAX, Copy, check_empty, counted, enter_target
from pullstatus.store.scratch import scratch_store
from pullstatus.store.transfer import (
    OF_APPLICATIONS,
    OF_MAILBOXES,
    OF_THE_STORE,
    REMEMBERED,
    Key,
    Migration,
    Part,
    Role,
    Row,
    Stage,
    Standing,
    Stored,
    Tallied,
    Transfer,
    key_of,
)
from pullstatus.store.values import (
    TICKET_BYTES,
    Accept,
    Act,
    Mailbox,
    Progress,
    ProveSetting,
    any_setting,
)

TRIES: Final = 20  # to copy an application in which retention removes what is just read


class Frozen(Transfer, Protocol):
    """A store whose applications can be read as of one moment each.

    Of an application that is frozen its tallies are read, too, and no other's.
    """

    async def applications(self) -> Sequence[int]:
        """The numbers of all there are."""
        ...

    async def freeze(self, sdkappid: int) -> Sequence[Standing]:
        """Have rows of these mailboxes read as of now, until `thaw`; how they stand."""
        ...

    async def thaw(self) -> bool:
        """Read as of the moment of each step again; whether nothing was removed meanwhile."""
        ...


async def backup(source: Frozen, file: Path, progress: Progress) -> None:
    """See `backup_store`; `progress` is told applications done and to do."""
    if await asyncio.to_thread(file.exists):
        raise StoreRefused(f"{file} exists already; name a new file")
    check_here(await source.migration())
    with scratch_store("backup", file.parent) as url:
        target = await moving_engine_of(url).open_end(url, target=True)
        try:
            began = Migration(bytes(TICKET_BYTES), Role.TARGET, Stage.COPYING, source.name)
            await target.enter(began, expected=None)
            for part in REMEMBERED:
                await _copy(source, target, part)
            numbers = await source.applications()
            for done, sdkappid in enumerate(numbers, 1):
                await _copy_application(source, target, sdkappid)
                progress(done, len(numbers))
            for part in OF_THE_STORE:
                if part not in OF_APPLICATIONS:
                    await _copy(source, target, part)
            await target.enter(None, expected=began)
        finally:
            await target.close()
        await copying_engine_of(url).backup(url, file, lambda _done, _total: None)


async def restore(
    url: str,
    file: Path,
    *,
    act: Act,
    progress: Progress,
    prove_setting: ProveSetting,
    accept: Accept,
) -> int:
    """See `restore_store`: into a store that was made, and is empty.

    One that was cut off is gone on with. The backup is copied to a temporary folder for it.
    """
    with scratch_store("restore") as scratch:
        epoch = await copying_engine_of(scratch).restore(
            scratch,
            file,
            act=act,
            progress=lambda _done, _total: None,
            prove_setting=prove_setting,
            accept=accept,
        )
        source = await moving_engine_of(scratch).open_end(scratch, target=False)
        try:
            target = await moving_engine_of(url).open_end(url, target=True)
            try:
                began = await _begin(target, file, act)
                await _fill(source, target, scratch, url, progress)
                ready = msgspec.structs.replace(began, stage=Stage.READY)
                if not await target.enter(ready, expected=began):
                    raise StoreRefused(f"somebody else has a hand in {target.name}: end that")
            finally:
                await target.close()
        finally:
            await source.close()
    return epoch


async def _begin(target: Transfer, file: Path, act: Act) -> Migration:
    theirs = await target.migration()
    began = Migration(act.ticket, Role.TARGET, Stage.COPYING, f"backup {file.name}")
    advice = "make another one to restore into"
    if theirs is None:
        await check_empty(target, advice)
    elif (theirs.role, theirs.stage, theirs.peer) != (began.role, began.stage, began.peer):
        raise StoreRefused(f"{target.name} is or was filled from {theirs.peer}: make another one")
    await enter_target(target, began, theirs, advice)
    return began


async def _fill(
    source: Transfer, target: Transfer, source_url: str, target_url: str, progress: Progress
) -> None:
    copy = Copy(source, target)
    for _ in range(CLOSING_MAX):
        if not await copy.once(progress):
            break
    else:
        raise StoreRefused(f"{target.name} does not become what the backup holds")
    theirs, ours = [
        await engine_of(url).audit(url, lambda _done, _total: None, prove_setting=any_setting)
        for url in (source_url, target_url)
    ]
    if (ours.findings, counted(ours)) != (theirs.findings, counted(theirs)):
        raise StoreRefused(f"{target.name} does not count what the backup does")


async def _copy_application(source: Frozen, target: Transfer, sdkappid: int) -> None:
    for _ in range(TRIES):
        standings = await source.freeze(sdkappid)
        if standings:
            await target.replace(Standing, [], standings)
        tallies = await _rows_of(source, Tallied)
        if tallies:
            await target.replace(Tallied, [], tallies)
        mailboxes = [row.mailbox for row in standings]
        whole = True
        for part in OF_MAILBOXES:
            copied = await _copy(source, target, part, mailboxes)
            if part is Stored:
                whole = all(copied.get(row.mailbox, row.purged) == row.tail for row in standings)
        if await source.thaw() and whole:
            return
        if standings:
            await target.replace(Standing, standings, [])
        if tallies:
            await target.replace(Tallied, tallies, [])
    raise StoreUnavailable(
        f"application {sdkappid} could not be read as of one moment; try again, and run"
        " `pullstatus audit` if it stays so"
    )


async def _rows_of(source: Transfer, part: Part) -> list[Row]:
    """All rows of a part."""
    found: list[Row] = []
    while rows := await source.rows(part, key_of(found[-1]) if found else None):
        found += rows
    return found


async def _copy(
    source: Transfer, target: Transfer, part: Part, mailboxes: Sequence[Mailbox] = ()
) -> dict[Mailbox, int]:
    """Copy a part; of chunks, up to which entry they reach without a gap."""
    reached: dict[Mailbox, int] = {}
    after: Key | None = None
    while rows := await source.rows(part, after, mailboxes):
        await target.replace(part, [], rows)
        after = key_of(rows[-1])
        for row in rows:
            if isinstance(row, Stored):
                before = reached.get(row.mailbox, row.first_seq - 1)
                if before + 1 == row.first_seq:
                    reached[row.mailbox] = before + row.count
    return reached

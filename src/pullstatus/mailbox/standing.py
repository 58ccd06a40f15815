"""How mailboxes stand, of which the store lists all of an application."""

from __future__ import annotations

from pullstatus.store import Backlog, Mailbox, Store

__all__ = ["of_records", "standing_now", "standing_of"]


async def standing_of(store: Store, mailbox: Mailbox) -> Backlog | None:
    """How a mailbox stands; None: nothing has come to it yet."""
    rows = await store.backlog(mailbox.sdkappid)
    return next((row for row in rows if row.mailbox == mailbox), None)


async def standing_now(store: Store, mailbox: Mailbox) -> Backlog:
    """How one stands now that stood in some way before: a mailbox that there is stays."""
    row = await standing_of(store, mailbox)
    assert row is not None
    return row


async def of_records(store: Store, sdkappid: int | None = None) -> list[Backlog]:
    """How the mailboxes of records stand, of one application or of all."""
    return [row for row in await store.backlog(sdkappid) if not row.mailbox.aside]

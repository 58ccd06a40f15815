"""What could not be read of a callback: kept as it came, until somebody can read it.

    push  ->  records  +  parked items, in one commit

Its sender repeats a refused push a few times and then drops it, the good records in it included. So
nothing is refused for what it says. What is parked waits in a mailbox of its own, bounded in items,
bytes and days: `limits.PARKED_ITEMS_MAX` and those behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from pullstatus import limits
from pullstatus.apps import Live
from pullstatus.json import ascii_json
from pullstatus.mailbox import append_of, scope_of
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.formats import Request
from pullstatus.records import Kind
from pullstatus.store import Aside, Fingerprints, Mailbox, Park, Store

__all__ = ["Item", "park", "parked_mailbox"]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """A parked item, as it is stored: one JSON object, in ASCII, with the bytes in base64.

    Attributes:
        format: the name of the format that it was read in.
        token: the name of the token that it came with.
        at_ms: when it came.
        address: from where.
        reason: why it could not be read, with the fix; nothing of what it says.
        raw: its bytes, as they came.
        member: the member at fault, if it was one.
        kind: what it was to be a record of, as far as that shows.
        index: its place in the push, from 0; None: it is all of it.
        method, query, content_type: of the push.
    """

    format: str
    token: str
    at_ms: int
    address: str
    reason: str
    raw: bytes
    member: str | None = None
    kind: Kind | None = None
    index: int | None = None
    method: str = "POST"
    query: bytes = b""
    content_type: str = ""

    def encoded(self) -> bytes:
        """As it is stored."""
        return ascii_json(msgspec.json.encode(self))


def parked_mailbox(sdkappid: int) -> Mailbox:
    """Where an application's parked items are."""
    return Mailbox(sdkappid, Aside.PARKED)


async def park(
    store: Store,
    live: Live,
    receipts: Receipts,
    *,
    form: str,
    request: Request,
    address: str,
    sender: str,
    now_ms: int,
    ticket: bytes,
) -> int:
    """Store what could be read and park what could not, durable on return.

    The same push again within `limits.INGEST_REPEAT_S` is stored and parked once.

    Args:
        form: the name of the format.
        address: who sent it.
        sender: the name of its token.
        ticket: what the store knows this by; see `store.Tickets`.

    Returns:
        how many of the oldest parked items left, since there was no more room.

    Raises:
        SettingChanged: the application is no longer as `live` knows it; nothing happened.
        StoreUnavailable: nothing happened; trying again can help.
        OutcomeUnknown: it may have happened; do not answer.
    """
    mailbox = parked_mailbox(live.application.sdkappid)
    items = [_item(each, form, request, address, sender, now_ms) for each in receipts.unread]
    return await store.park(
        Park(
            append_of(live, receipts, sender=sender, now_ms=now_ms, ticket=ticket),
            mailbox,
            [item.encoded() for item in items],
            Fingerprints(scope_of(live, mailbox, sender), _fingerprints(items)),
            limits.PARKED_ITEMS_MAX,
            limits.PARKED_BYTES_MAX,
        )
    )


def _item(
    unread: Unread, form: str, request: Request, address: str, sender: str, now_ms: int
) -> Item:
    return Item(
        format=form,
        token=sender,
        at_ms=now_ms,
        address=address,
        reason=unread.reason,
        raw=unread.raw,
        member=unread.member,
        kind=unread.kind,
        index=unread.index,
        method=request.method,
        query=request.query,
        content_type=request.content_type,
    )


def _fingerprints(items: Sequence[Item]) -> list[tuple[int, bytes]]:
    """Of the bytes alone: nothing else about them is known."""
    return [(0, hashlib.blake2b(item.raw, digest_size=16).digest()) for item in items]

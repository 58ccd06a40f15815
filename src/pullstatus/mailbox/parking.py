"""What could not be read of a callback: kept as it came, until somebody can read it.

    push  ->  records  +  parked items, in one commit

Its sender repeats a refused push a few times and then drops it, the good records in it included. So
nothing is refused for what it says. What is parked waits in a mailbox of its own, bounded in items,
bytes and days: `limits.PARKED_ITEMS_MAX` and those behind it. How it leaves that: `unparking`.

What came with a platform's token and is nobody's is parked, too, under number 0, which no
application has. There the bounds are each token's own, and `bounds` keeps them.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps import Application, LiveApplication, stored_application
from pullstatus.apps.values import NOBODY
from pullstatus.errors import UnknownApplication
from pullstatus.json import ascii_json
from pullstatus.mailbox import append_of, scope_of
from pullstatus.mailbox.following import let_others
from pullstatus.mailbox.standing import standing_of
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.brief import known_briefly
from pullstatus.receipts.reports import beside
from pullstatus.receipts.request import Request
from pullstatus.records import Kind
from pullstatus.store import (
    Append,
    Aside,
    Backlog,
    Fingerprints,
    Gone,
    Mailbox,
    Park,
    PutAside,
    Store,
)

__all__ = [
    "NOBODYS",
    "NO_BOUND",
    "Item",
    "Parked",
    "aside_of",
    "decode_item",
    "gathered",
    "in_turn",
    "item_of",
    "live_application",
    "most_apart",
    "park",
    "parked",
    "parked_mailbox",
]

NOBODYS: Final = LiveApplication(Application(NOBODY, (), 0), 0)
"""Whose items are that nobody owns: no application. Its setting was never written, so that it is
always as this says."""

NO_BOUND: Final = 1 << 53
"""More items, and bytes, than a store has."""


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
        number: the first one that it had, once it was put back under another.
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
    number: int = 0

    def encoded(self) -> bytes:
        """As it is stored."""
        return ascii_json(msgspec.json.encode(self))


decode_item: Final = msgspec.json.Decoder(Item).decode


def parked_mailbox(sdkappid: int) -> Mailbox:
    """Where an application's parked items are."""
    return Mailbox(sdkappid, Aside.PARKED)


async def park(
    store: Store,
    live: LiveApplication,
    receipts: Receipts,
    *,
    form: str,
    request: Request,
    address: str,
    sender: str,
    now_ms: int,
    ticket: bytes,
    gone: Gone | None = None,
) -> PutAside:
    """Store what could be read and park what could not, durable on return.

    The same push again within `limits.INGEST_REPEAT_S` is stored and parked once; what may be a
    reply is parked once within `limits.BRIEF_REPEAT_S`.

    Args:
        form: the name of the format.
        address: who sent it.
        sender: the name of its token.
        ticket: what the store knows this by; see `store.Tickets`.
        gone: as that of `append`.

    Returns:
        how much of it is new; and how many of the oldest parked items left, since there was no more
        room: none under number 0.

    Raises:
        SettingChanged: the application is no longer as `live` knows it; nothing happened.
        StoreUnavailable: nothing happened; trying again can help.
        OutcomeUnknown: it may have happened; do not answer.
    """
    mailbox = parked_mailbox(live.application.sdkappid)
    entries: list[bytes] = []
    digests: list[tuple[int, bytes]] = []
    for number, each in enumerate(receipts.unread, 1):
        item = item_of(each, form, request, address, sender, now_ms)
        entries.append(item.encoded())
        digests.append((0, _digest(item)))
        if not number % _TURN:
            await let_others()
    records = append_of(live, receipts, sender=sender, now_ms=now_ms, ticket=ticket)
    known = Fingerprints(scope_of(live, mailbox, sender), digests)
    return await store.park(_aside(records, mailbox, entries, known), gone)


_TURN: Final = 500  # items after which others have their turn


def aside_of(target: LiveApplication, items: Sequence[Item], now_ms: int, ticket: bytes) -> Park:
    """Items for an application that has seen none of them before, as a part of an `Unpark`."""
    mailbox = parked_mailbox(target.application.sdkappid)
    nothing = Receipts(Kind.DELIVERY_STATUS, [])
    records = append_of(target, nothing, sender="", now_ms=now_ms, ticket=ticket)
    return _aside(records, mailbox, [item.encoded() for item in items], None)


def _aside(
    records: Append, mailbox: Mailbox, entries: list[bytes], known: Fingerprints | None
) -> Park:
    most = limits.PARKED_ITEMS_MAX, limits.PARKED_BYTES_MAX
    if mailbox.sdkappid == NOBODY:
        most = NO_BOUND, NO_BOUND
    return Park(records, mailbox, entries, known, *most)


def item_of(
    unread: Unread, form: str, request: Request, address: str, sender: str, now_ms: int
) -> Item:
    """What is parked of a part of a request; see `park`."""
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
        method=sys.intern(request.method),  # a default is left out where it is the same object
        query=request.query,
        content_type=request.content_type,
    )


def most_apart(request: Request) -> int:
    """How many items of a request may each have beside them what is kept of all of it."""
    kept = ascii_json(msgspec.json.encode((request.query, request.content_type)))
    return limits.SPREAD_BYTES_MAX // (_ITEM_BYTES + len(kept))


_ITEM_BYTES: Final = 256
"""Of an item as it is stored, beside what it says and what is kept of the request, the fewest."""


def gathered(unread: Iterable[Unread]) -> tuple[Unread, ...]:
    """The same in a few, as a retry leaves what is left of an item: parts with commas between.

    Those of each are of one kind, no more than `limits.INGEST_RECORDS_MAX`, and no longer than a
    body, but for one that is so alone.
    """
    begun: dict[tuple[Kind | None, bool], list[Unread]] = {}
    sizes: Counter[tuple[Kind | None, bool]] = Counter()
    found: list[Unread] = []
    for each in unread:
        if each.index is None:  # all of the request
            found.append(each)
            continue
        key = each.kind, each.raw[:1] == b"{"  # what is no object may be read in a way of its own
        run = begun.setdefault(key, [])
        sizes[key] += len(each.raw) + 1
        is_long = sizes[key] > limits.INGEST_BODY_BYTES_MAX
        if run and (is_long or len(run) == limits.INGEST_RECORDS_MAX):
            found.append(_as_one(run))
            begun[key], sizes[key] = [], len(each.raw) + 1
        begun[key].append(each)
    return (*found, *map(_as_one, begun.values()))


def _as_one(parts: Sequence[Unread]) -> Unread:
    return msgspec.structs.replace(parts[0], raw=b",".join([each.raw for each in parts]))


def _digest(item: Item) -> bytes:
    """Of the bytes, the query, and what they were taken for: nothing else about them is known.

    What may be a reply is known for minutes: it may be one that has neither an id nor a time. What
    is parked twice for that becomes one record, as far as it has.
    """
    hashing = hashlib.blake2b(item.format.encode() + b"\0", digest_size=16)
    hashing.update(beside(item.raw, item.query))
    digest = hashing.digest()
    if item.kind is Kind.DELIVERY_STATUS:
        return digest
    return known_briefly(digest, item.at_ms // 1000)


class Parked(msgspec.Struct, frozen=True):
    """An item that waits, under its number of now; no item if it is damaged."""

    seq: int
    item: Item | None

    @property
    def number(self) -> int:
        """The number that it had first, by which people know it."""
        return self.item.number or self.seq if self.item else self.seq


async def parked(store: Store, sdkappid: int) -> list[Parked]:
    """What waits of an application's parked items, in order: `limits.PARKED_ITEMS_MAX` at most.

    Of nobody's there may be so many of each token, and more for a moment.
    """
    mailbox = parked_mailbox(sdkappid)
    row = await standing_of(store, mailbox)
    if row is None:
        return []
    first, last = row.accepted - row.waiting + 1, row.accepted
    found: dict[int, Item] = {}
    async for entry in store.entries(mailbox, first):
        if entry.seq > last:
            break
        found[entry.seq] = decode_item(entry.data)
    return [Parked(seq, found.get(seq)) for seq in range(first, last + 1)]


async def in_turn(store: Store, sdkappid: int | None = None) -> AsyncIterator[tuple[int, Backlog]]:
    """Mailboxes of parked items as they stand, and once more those that have got some since.

    From one application to another one an item may go past whoever looks at them in turn.

    Args:
        sdkappid: of one application; None: of all.

    Yields:
        each with the number of the round, from 0 to below `limits.OVERTAKEN_MAX`.
    """
    looked: dict[Mailbox, int] = {}
    for round_number in range(limits.OVERTAKEN_MAX):
        came = [
            row
            for row in await store.backlog(sdkappid)
            if row.mailbox.parked and row.accepted != looked.get(row.mailbox)
        ]
        if not came:
            return
        for row in came:
            looked[row.mailbox] = row.accepted
            yield round_number, row


async def live_application(store: Store, sdkappid: int) -> LiveApplication:
    """An application as it is now; of number 0 that of nobody.

    Raises:
        UnknownApplication: there is none of that number.
    """
    if sdkappid == NOBODY:
        return NOBODYS
    found = await stored_application(store, sdkappid)
    if found is None:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    return found

"""What was read and waits for something else before it becomes a record: durable, and bounded.

    a receipt whose send is not registered     for its name             limits.PENDING_NAME_S
    the receipt of a part of a message         for the other parts      limits.PENDING_PARTS_S
    a part of a long reply                     for the other parts      limits.PENDING_PARTS_S

It is put aside before its sender is answered, and leaves by itself: in one commit it leaves and is
a record, under the fingerprint that it would have had at the door. So cut off anywhere nothing is
lost, and nothing is there twice. What is overdue leaves as far as it is there: a receipt with its
gateway's id as `sid`, parts as `receipts.joining` marks them.

    PENDING  [1 of 2] [receipt] [2 of 2] [receipt]
                 '--- a reply ---'                     leaves; what stands before it and stays goes
                                                       to the tail, since a cursor never moves back

What has no application yet waits with number 0: a platform's token brought it, and only its name
can tell whose it is. Overdue it is whose a rule says by now, or else parked there. Tokens that
flood have others stand behind them. So what has its name is handed over in that turn, wherever it
stands; the item leaves when the cursor comes to it, and is nothing twice.

    number 0  [part 1] ---.                        brought before its message was registered
    its owner's           '--> [part 1] [part 2]   brought behind that: there all parts meet

So nothing is joined with number 0, and a part is handed over to wait where the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.apps.values import NOBODY
from pullstatus.errors import SettingChanged
from pullstatus.json import ascii_json
from pullstatus.mailbox import append_of, parking, scope_of
from pullstatus.mailbox.names import Name
from pullstatus.mailbox.standing import standing_of
from pullstatus.receipts import Receipts
from pullstatus.receipts.joining import Piece
from pullstatus.receipts.reports import Report, Whose, fingerprint
from pullstatus.records import Kind
from pullstatus.records.hours import HOUR_MS
from pullstatus.store import (
    Append,
    Aside,
    Backlog,
    Fingerprints,
    Gone,
    Mailbox,
    Noted,
    Outcome,
    Park,
    PutAside,
    Store,
    Unpark,
)

__all__ = [
    "NOBODYS_PENDING",
    "CameWith",
    "Item",
    "Used",
    "aside_of",
    "decode_item",
    "drop",
    "fits",
    "items_of",
    "overdue_ms",
    "pending_mailbox",
    "piece_of",
    "told",
    "wait",
    "waiting",
    "waits_for",
]

_USED_MS: Final = HOUR_MS
_UNUSED_MS: Final = 1_000
_USED_MAX: Final = 10_000  # applications of which it is known at a time
_NOTHING: Final = Receipts(Kind.DELIVERY_STATUS, [])


class CameWith(msgspec.Struct, frozen=True, array_like=True):
    """The request that something came with, as a `parking.Item` has it, to be read again by."""

    address: str = ""
    method: str = "POST"
    query: bytes = b""
    content_type: str = ""


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """What waits, as it is stored: one JSON object, in ASCII, with bytes in base64.

    Attributes:
        source, token: the names of what said it, and of what it came with.
        at_ms: when it came.
        since_ms: from when on it waits; 0: from then.
        owner: whose application it came for.
        name: its send, once that is known.
        unowned: what is parked of it if nobody turns out to own it; of number 0 alone.
        asked: the request, for what is parked of it if it can be no record.
    """

    source: str
    token: str
    at_ms: int
    report: Report
    whose: Whose = Whose()
    owner: str = ""
    name: Name | None = None
    unowned: parking.Item | None = None
    asked: CameWith = CameWith()
    since_ms: int = 0

    def encoded(self) -> bytes:
        """As it is stored."""
        return ascii_json(msgspec.json.encode(self))


decode_item: Final = msgspec.json.Decoder(Item).decode


def told(item: Item) -> list[bytes]:
    """All that tells whose it is: what it is known by here, and what came, as it came."""
    return [item.encoded(), item.report.raw, item.report.query]


def pending_mailbox(sdkappid: int) -> Mailbox:
    """Where what is pending of an application is; of 0: of what has none yet."""
    return Mailbox(sdkappid, Aside.PENDING)


NOBODYS_PENDING: Final = pending_mailbox(NOBODY)
"""Where what nobody owns yet is."""


def waits_for(report: Report, name: Name | None, *, named: bool, is_owned: bool = True) -> int:
    """For how many seconds a report waits at most; 0: it is a record as it is.

    Args:
        name: its send, if it is registered.
        named: whether sends are registered at all by whom it is for: else none is waited for.
        is_owned: whether it is known whose it is: else it waits for its name alone.
    """
    if is_owned and piece_of(report, name) is not None:
        return limits.PENDING_PARTS_S
    final = report.kind is Kind.DELIVERY_STATUS and not report.passes
    nameless = name is None and report.id and not report.sid
    return limits.PENDING_NAME_S if named and final and nameless else 0


class Used:
    """Whether an application has its sends registered, so that a receipt may wait for that.

    Nobody else's receipts wait, or are looked up. That it does is noted in the store now and then,
    and asked for now and then: where it begins, that is seen at once by the server that was told,
    and by others within a second.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: dict[int, int] = {}  # when it was, by this process
        self._known: dict[int | None, tuple[bool, int]] = {}  # and until when that is known

    async def note(self, sdkappid: int, now_ms: int) -> None:
        """It has registered some now.

        Raises:
            StoreUnavailable: it could not be noted.
        """
        if now_ms - self._noted.get(sdkappid, 0) >= _USED_MS:
            await self._store.mark({_used(each): Noted(now_ms) for each in (sdkappid, None)})
            _keep(self._noted, sdkappid, now_ms)
            for each in (sdkappid, None):
                _keep(self._known, each, (True, now_ms + _USED_MS))

    async def by(self, sdkappid: int | None, now_ms: int) -> bool:
        """Whether it, or any if it is None, has within `limits.NAMES_HOURS`, or an hour more.

        Raises:
            StoreUnavailable: it could not be asked now.
        """
        used = self.known(sdkappid, now_ms)
        if used is None:
            name = _used(sdkappid)
            noted = (await self._store.marks(name)).get(name)
            since_ms = now_ms - (limits.NAMES_HOURS + 1) * _USED_MS  # it is noted once in an hour
            used = noted is not None and noted.at_ms > since_ms
            _keep(self._known, sdkappid, (used, now_ms + (_USED_MS if used else _UNUSED_MS)))
        return used

    def known(self, sdkappid: int | None, now_ms: int) -> bool | None:
        """The same, as far as that is known without asking; None: it is not."""
        used, until_ms = self._known.get(sdkappid, (False, 0))
        return used if until_ms - _USED_MS <= now_ms < until_ms else None


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _used(sdkappid: int | None) -> str:
    """The name of the mark."""
    return f"names/{'any' if sdkappid is None else sdkappid}"


def _keep(known: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(known) >= _USED_MAX:
        known.clear()
    known[key] = value


def fits(item: Item) -> bool:
    """Whether it is small enough to wait; one that is not leaves at once, as it is."""
    return len(item.encoded()) <= limits.PENDING_ITEM_BYTES_MAX


async def wait(
    store: Store,
    live: LiveApplication | None,
    items: Sequence[Item],
    *,
    receipts: Receipts = _NOTHING,
    sender: str,
    now_ms: int,
    ticket: bytes,
    gone: Gone | None = None,
) -> PutAside:
    """Put items aside, beside records that came with them, durable on return.

    One that came before within `limits.INGEST_REPEAT_S`, or a brief one within
    `limits.BRIEF_REPEAT_S`, and has left or not, is passed over.

    Args:
        live: whose they are; None: nobody's yet, and there are no records then.
        sender: the name of the token.
        ticket: what the store knows this by; see `store.Tickets`.
        gone: as that of `append`.

    Returns:
        how much of it is new; none leaves for it.

    Raises: as `parking.park`.
    """
    live = live or parking.NOBODYS
    records = append_of(live, receipts, sender=sender, now_ms=now_ms, ticket=ticket)
    return await store.park(aside_of(live, items, records, sender), gone)


def aside_of(live: LiveApplication, items: Sequence[Item], records: Append, sender: str) -> Park:
    """What puts items aside for an application, beside records that came with them."""
    mailbox = pending_mailbox(live.application.sdkappid)
    prints = [fingerprint(item.report, item.source, item.at_ms // 1000) for item in items]
    known = Fingerprints(scope_of(live, mailbox, sender), prints)
    entries = [item.encoded() for item in items]
    most = parking.NO_BOUND  # what there is no room for does not come here
    return Park(records, mailbox, entries, known, most, most)


async def drop(
    store: Store,
    mailbox: Mailbox,
    is_meant: Callable[[Item], bool],
    *,
    now_ms: int,
    new_ticket: Callable[[], bytes],
) -> int:
    """Erase what waits and is meant, as a part of an act that is on record; returns how many.

    Raises:
        SettingChanged: what waits changed again and again meanwhile.
    """
    for tries_left in reversed(range(limits.OVERTAKEN_MAX)):
        row = await standing_of(store, mailbox)
        if row is None:
            return 0
        first = row.accepted - row.waiting + 1
        items = await waiting(store, row)
        meant = {seq for seq, item in items.items() if item is not None and is_meant(item)}
        if not meant:
            return 0
        outcomes: list[Outcome] = []
        back: list[bytes] = []
        for seq in range(first, max(meant) + 1):
            item = items[seq]
            if item is None:
                outcomes.append(Outcome.QUARANTINED)
            elif seq in meant:
                outcomes.append(Outcome.ERASED)
            else:
                outcomes.append(Outcome.PUT_BACK)
                back.append(item.encoded())
        try:
            await store.unpark(
                Unpark(mailbox, first, outcomes, [], back, now_ms, None, ticket=new_ticket())
            )
        except SettingChanged:
            if not tries_left:
                raise
        else:
            return len(meant)
    raise AssertionError


async def waiting(store: Store, row: Backlog) -> dict[int, Item | None]:
    """As `items_of`, of all that waited when a mailbox stood so."""
    return await items_of(store, row.mailbox, row.accepted - row.waiting + 1, row.accepted)


async def items_of(store: Store, mailbox: Mailbox, first: int, last: int) -> dict[int, Item | None]:
    """All that waits, by number; None of what is damaged."""
    found: dict[int, Item | None] = dict.fromkeys(range(first, last + 1))
    async for entry in store.entries(mailbox, first):
        if entry.seq > last:
            break
        found[entry.seq] = decode_item(entry.data)
    return found


def overdue_ms(item: Item, wait_s: int) -> int:
    """When an item has waited for so long."""
    return (item.since_ms or item.at_ms) + wait_s * 1000


def piece_of(report: Report, name: Name | None) -> Piece | None:
    """Which part of which message a report is; None: of none that has others."""
    if report.kind is Kind.DELIVERY_STATUS:
        if report.passes:
            return None
        if name is not None and name.parts > 1:
            return Piece(("status", name.sid, str(name.message)), name.parts, name.part, report, 0)
    part = report.part
    if part is None or part.alone:
        return None
    key = (report.kind.name, report.number, report.to, part.reference, str(part.count))
    return Piece(key, part.count, part.number, report, 0)

"""What could not be read of a callback: kept as it came, until somebody can read it.

    push  ->  records  +  parked items, in one commit

Its sender repeats a refused push a few times and then drops it, the good records in it included. So
nothing is refused for what it says. What is parked waits in a mailbox of its own, bounded in items,
bytes and days: `limits.PARKED_ITEMS_MAX` and those behind it.

    retry  ->  what reads by now leaves as records; what stands before it and does not, goes to the
               tail once more, since a cursor never moves back

What is read moves in one commit, under the fingerprints it would have had at the door: cut off
anywhere, a retry can be repeated, and no record is stored twice. An item of which a part reads
leaves that part as records, and stays as the rest.

    route  ->  the same for another application, whose items these should have been: what reads is a
               record there, and what does not is parked there
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps import LiveApplication, Operator
from pullstatus.apps.values import application_setting, read_application
from pullstatus.errors import InvalidSetting, SettingChanged, UnknownApplication
from pullstatus.json import ascii_json
from pullstatus.mailbox import append_of, scope_of
from pullstatus.mailbox.upkeep import DAY_MS
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.formats import FORMATS, Request
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.store import (
    Act,
    Append,
    Aside,
    Fingerprints,
    Gone,
    Mailbox,
    Outcome,
    Park,
    Store,
    Unpark,
)

__all__ = [
    "Item",
    "Parked",
    "Told",
    "decode_item",
    "drop",
    "park",
    "parked",
    "parked_mailbox",
    "retry",
    "route",
]

_STEP_ITEMS = 100  # items of one commit, which everybody else waits for
_STEP_BYTES = 4 * 1024 * 1024


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
) -> int:
    """Store what could be read and park what could not, durable on return.

    The same push again within `limits.INGEST_REPEAT_S` is stored and parked once.

    Args:
        form: the name of the format.
        address: who sent it.
        sender: the name of its token.
        ticket: what the store knows this by; see `store.Tickets`.
        gone: as that of `append`.

    Returns:
        how many of the oldest parked items left, since there was no more room.

    Raises:
        SettingChanged: the application is no longer as `live` knows it; nothing happened.
        StoreUnavailable: nothing happened; trying again can help.
        OutcomeUnknown: it may have happened; do not answer.
    """
    mailbox = parked_mailbox(live.application.sdkappid)
    items = [_item(each, form, request, address, sender, now_ms) for each in receipts.unread]
    records = append_of(live, receipts, sender=sender, now_ms=now_ms, ticket=ticket)
    known = Fingerprints(scope_of(live, mailbox, sender), _fingerprints(items))
    return await store.park(_aside(records, mailbox, items, known), gone)


def _aside(
    records: Append, mailbox: Mailbox, items: Sequence[Item], known: Fingerprints | None
) -> Park:
    return Park(
        records,
        mailbox,
        [item.encoded() for item in items],
        known,
        limits.PARKED_ITEMS_MAX,
        limits.PARKED_BYTES_MAX,
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
        method=sys.intern(request.method),  # a default is left out where it is the same object
        query=request.query,
        content_type=request.content_type,
    )


def _fingerprints(items: Sequence[Item]) -> list[tuple[int, bytes]]:
    """Of the bytes alone: nothing else about them is known."""
    return [(0, hashlib.blake2b(item.raw, digest_size=16).digest()) for item in items]


class Parked(msgspec.Struct, frozen=True):
    """An item that waits, under its number of now; no item if it is damaged."""

    seq: int
    item: Item | None

    @property
    def number(self) -> int:
        """The number that it had first, by which people know it."""
        return self.item.number or self.seq if self.item else self.seq


class Told(msgspec.Struct, frozen=True):
    """What became of parked items.

    Attributes:
        items: how many left, those included that are too old to be put back.
        records: how many records are new of them.
        left: how many wait still.
        parked: how many wait now with another application.
    """

    items: int
    records: int
    left: int
    parked: int = 0


async def parked(store: Store, sdkappid: int) -> list[Parked]:
    """What waits of an application's parked items, in order; at most `limits.PARKED_ITEMS_MAX`."""
    mailbox = parked_mailbox(sdkappid)
    rows = [row for row in await store.backlog(sdkappid) if row.mailbox == mailbox]
    if not rows:
        return []
    first, last = rows[0].accepted - rows[0].waiting + 1, rows[0].accepted
    found: dict[int, Item] = {}
    async for entry in store.entries(mailbox, first):
        if entry.seq > last:
            break
        found[entry.seq] = decode_item(entry.data)
    return [Parked(seq, found.get(seq)) for seq in range(first, last + 1)]


async def retry(
    store: Store, sdkappid: int, *, by: Operator, numbers: Sequence[int] | None = None
) -> Told:
    """Read parked items again by the rules of now; what can be read becomes records.

    A damaged one is set aside. What is not read and came `limits.PARKED_DAYS` ago expires.

    Args:
        numbers: of which items; None: of all.

    Raises:
        UnknownApplication: there is none of that number.
        InvalidSetting: one of the items is not parked.
        SettingChanged: the application, or what is parked, changed again and again meanwhile.
    """
    act = _act(by, "parked retry", sdkappid, numbers)
    return await _settle(store, sdkappid, sdkappid, act, numbers, by, _read_again)


async def drop(
    store: Store,
    sdkappid: int,
    *,
    by: Operator,
    numbers: Sequence[int] | None = None,
    act: Act | None = None,
) -> Told:
    """Erase parked items, or set aside damaged ones; arguments and errors are those of `retry`.

    Args:
        act: what this is a part of; None: it is an act of its own.
    """
    act = act or _act(by, "parked drop", sdkappid, numbers)
    return await _settle(store, sdkappid, sdkappid, act, numbers, by, _erase)


async def route(
    store: Store, sdkappid: int, to: int, *, by: Operator, numbers: Sequence[int] | None = None
) -> Told:
    """Give parked items to the application that they should have come to; otherwise as `retry`.

    What can be read becomes records there; the rest is parked there, under numbers of that
    application, within its bounds: for more its oldest leave. An item leaves here in the commit
    that stores it there.

    Args:
        to: the number of the other application.

    Raises:
        UnknownApplication: there is none of one of the numbers.
        InvalidSetting: one of the items is not parked, or both numbers are the same.
        SettingChanged: either application, or what is parked, changed again and again meanwhile.
    """
    if to == sdkappid:
        raise InvalidSetting(f"the items of {to} are there: `parked retry` reads them again")
    act = _act(by, "parked route", sdkappid, numbers, to=to)
    return await _settle(store, sdkappid, to, act, numbers, by, _give_away)


def _act(
    by: Operator, action: str, sdkappid: int, numbers: Sequence[int] | None, **detail: int
) -> Act:
    items = "all" if numbers is None else sorted(numbers)
    return by.act(action, sdkappid=sdkappid, items=items, **detail)


class _Fate(msgspec.Struct, frozen=True):
    """What becomes of an item: how it leaves, and what another mailbox gets of it.

    Attributes:
        records: what it says, as far as it could be read.
        left: what is left of it and parked anew, here or with another application.
    """

    outcome: Outcome
    records: Append | None = None
    left: Item | None = None


_Decide = Callable[[LiveApplication, Item, Operator], _Fate | None]


async def _settle(
    store: Store,
    sdkappid: int,
    to: int,
    act: Act,
    numbers: Sequence[int] | None,
    by: Operator,
    decide: _Decide,
) -> Told:
    """Have `decide` say what becomes of items, and do it.

    Args:
        to: the application that gets what comes of them.
    """
    last = None
    gone = records = moved = 0
    for tries_left in reversed(range(limits.OVERTAKEN_MAX)):
        live = await _live(store, sdkappid)
        target = live if to == sdkappid else await _live(store, to)
        waiting = await parked(store, sdkappid)
        if last is None:
            last = waiting[-1].seq if waiting else 0
            if unknown := set(numbers or ()) - {each.number for each in waiting}:
                raise InvalidSetting(
                    f"item {min(unknown)} of {sdkappid} is not parked, or no longer"
                )
        due = [each for each in waiting if each.seq <= last]  # not what this has put back itself
        fates = {
            each.seq: fate
            for each in due
            if (
                fate := _fate(
                    target, each, by, decide if numbers is None or each.number in numbers else None
                )
            )
            is not None
        }
        try:
            for step in _steps(due, fates):
                records += await store.unpark(_unpark(live, target, step, fates, act, by))
                met = [fates[each.seq] for each in step if each.seq in fates]
                gone += sum(fate.outcome is not Outcome.PUT_BACK for fate in met)
                moved += sum(fate.outcome is Outcome.ROUTED and bool(fate.left) for fate in met)
        except SettingChanged:
            if not tries_left:
                raise
            continue
        break
    return Told(gone, records, len(await parked(store, sdkappid)), moved)


def _fate(
    target: LiveApplication, each: Parked, by: Operator, decide: _Decide | None
) -> _Fate | None:
    """What becomes of an item; None: it stays.

    Args:
        decide: what the operator asks for; None: nothing of this one.
    """
    if each.item is None:
        return None if decide is None else _Fate(Outcome.QUARANTINED)
    fate = None if decide is None else decide(target, each.item, by)
    # Parked anew it would have its days anew, and with a retry now and then stay for ever.
    stays = fate is None or fate.left is not None
    if stays and each.item.at_ms < by.now_ms - limits.PARKED_DAYS * DAY_MS:
        return _Fate(Outcome.EXPIRED, None if fate is None else fate.records)
    return fate


async def _live(store: Store, sdkappid: int) -> LiveApplication:
    name = application_setting(sdkappid)
    setting = await store.setting(name)
    if setting is None or setting.value is None:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    return LiveApplication(read_application(name, setting.value), setting.revision)


def _read_again(target: LiveApplication, item: Item, by: Operator) -> _Fate | None:
    records, rest = _read(target, item, by)
    if rest is None:
        return _Fate(Outcome.PULLED, records)
    return None if records is None else _Fate(Outcome.PUT_BACK, records, rest)


def _give_away(target: LiveApplication, item: Item, by: Operator) -> _Fate:
    records, rest = _read(target, item, by)
    return _Fate(Outcome.ROUTED, records, rest and msgspec.structs.replace(rest, number=0))


def _read(target: LiveApplication, item: Item, by: Operator) -> tuple[Append | None, Item | None]:
    """What an item says by the rules of now, and what of it can't be read yet."""
    form = FORMATS[item.format]
    whole = item.index is None
    request = Request(
        method=item.method,
        query=item.query,
        content_type=item.content_type,
        body=item.raw if whole else form.alone(item.raw),
        arrived_s=item.at_ms // 1000,
    )
    receipts = done(form.read(request))
    records = append_of(target, receipts, sender=item.token, now_ms=by.now_ms, ticket=by.ticket())
    if not receipts.entries:
        return None, item if receipts.unread else None
    return records, _rest(item, receipts.unread) if receipts.unread else None


def _rest(item: Item, unread: Sequence[Unread]) -> Item:
    """What is left of an item of which some could be read: its other parts, under its number."""
    first = unread[0]
    return msgspec.structs.replace(
        item,
        raw=b",".join([each.raw for each in unread]),
        reason=first.reason,
        member=first.member,
        kind=first.kind,
        index=first.index if item.index is None else item.index,
    )


def _erase(_target: LiveApplication, _item: Item, _by: Operator) -> _Fate:
    return _Fate(Outcome.ERASED)


def _steps(due: Sequence[Parked], fates: dict[int, _Fate]) -> Iterator[list[Parked]]:
    """Items from the head to the last that leaves, in steps that nobody notices."""
    last = max(fates, default=0)
    step: list[Parked] = []
    size = 0
    for each in due:
        if each.seq > last:
            break
        step.append(each)
        size += len(each.item.raw) if each.item else 0
        if len(step) == _STEP_ITEMS or size >= _STEP_BYTES:
            yield step
            step, size = [], 0
    if step:
        yield step


def _unpark(
    live: LiveApplication,
    target: LiveApplication,
    step: Sequence[Parked],
    fates: dict[int, _Fate],
    act: Act,
    by: Operator,
) -> Unpark:
    outcomes: list[Outcome] = []
    records: list[Append] = []
    moved: list[Item] = []
    back: list[bytes] = []
    for each in step:
        fate = fates.get(each.seq, _Fate(Outcome.PUT_BACK, left=each.item))
        if each.item is None:
            fate = _Fate(Outcome.QUARANTINED)
        outcomes.append(fate.outcome)
        records += [fate.records] if fate.records else []
        if fate.outcome is Outcome.PUT_BACK and fate.left is not None:
            back.append(msgspec.structs.replace(fate.left, number=each.number).encoded())
        elif fate.left is not None:
            moved.append(fate.left)
    return Unpark(
        parked_mailbox(live.application.sdkappid),
        step[0].seq,
        outcomes,
        records,
        back,
        by.now_ms,
        act,
        live.while_set,
        by.ticket(),
        [_moved(target, moved, by)] if moved else [],
    )


def _moved(target: LiveApplication, items: Sequence[Item], by: Operator) -> Park:
    """Items for another application, which has seen none of them before."""
    mailbox = parked_mailbox(target.application.sdkappid)
    nothing = Receipts(Kind.DELIVERY_STATUS, [])
    records = append_of(target, nothing, sender="", now_ms=by.now_ms, ticket=by.ticket())
    return _aside(records, mailbox, items, None)

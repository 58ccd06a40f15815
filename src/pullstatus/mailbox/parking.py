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

What came with a platform's token and is nobody's is parked, too, under number 0, which no
application has. A retry there gives each item to whom it belongs by now (`mailbox.owning`), as a
route would, in steps of one application each: of two that change owners in the middle of one, an
engine in which applications lie apart could know only of the first.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps import Application, LiveApplication, Operator, rules, sources
from pullstatus.apps.routing import Rules
from pullstatus.apps.values import NOBODY, application_setting, read_application
from pullstatus.errors import InvalidSetting, SettingChanged, UnknownApplication
from pullstatus.json import ascii_json
from pullstatus.mailbox import append_of, scope_of
from pullstatus.mailbox.owning import NO_RULE, Known, Stored, owned
from pullstatus.mailbox.upkeep import DAY_MS
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.reading import read, read_again, read_records
from pullstatus.receipts.reports import Report, Reports, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import Source, builtin
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
    PutAside,
    Store,
    Unpark,
)

__all__ = [
    "NOBODYS",
    "Item",
    "Parked",
    "Told",
    "aside_of",
    "decode_item",
    "drop",
    "live_application",
    "park",
    "parked",
    "parked_mailbox",
    "retry",
    "route",
]

NOBODYS: Final = LiveApplication(Application(NOBODY, (), 0), 0)
"""Whose items are that nobody owns: no application. Its setting was never written, so that it is
always as this says."""

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
) -> PutAside:
    """Store what could be read and park what could not, durable on return.

    The same push again within `limits.INGEST_REPEAT_S` is stored and parked once.

    Args:
        form: the name of the format.
        address: who sent it.
        sender: the name of its token.
        ticket: what the store knows this by; see `store.Tickets`.
        gone: as that of `append`.

    Returns:
        how much of it is new; and how many of the oldest parked items left, since there was no more
        room.

    Raises:
        SettingChanged: the application is no longer as `live` knows it; nothing happened.
        StoreUnavailable: nothing happened; trying again can help.
        OutcomeUnknown: it may have happened; do not answer.
    """
    mailbox = parked_mailbox(live.application.sdkappid)
    items = [item_of(each, form, request, address, sender, now_ms) for each in receipts.unread]
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

    Those of nobody, under `NOBODY`, become records of whom they belong to by now.

    Args:
        numbers: of which items; None: of all.

    Raises:
        UnknownApplication: there is none of that number.
        InvalidSetting: one of the items is not parked.
        SettingChanged: the application, or what is parked, changed again and again meanwhile.
    """
    act = _act(by, "parked retry", sdkappid, numbers)
    if sdkappid != NOBODY:
        told, _ = await _settle(store, sdkappid, sdkappid, act, numbers, by, _read_again)
        return told
    told, parts = await _settle(store, NOBODY, NOBODY, act, numbers, by, _give_back)
    while parts:  # of an item that is several applications' each step takes one's
        more, parts = await _settle(store, NOBODY, NOBODY, act, parts, by, _give_back)
        told = Told(
            told.items + more.items,
            told.records + more.records,
            more.left,
            told.parked + more.parked,
        )
    return told


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
    told, _ = await _settle(store, sdkappid, sdkappid, act, numbers, by, _erase)
    return told


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
    told, _ = await _settle(store, sdkappid, to, act, numbers, by, _give_away)
    return told


def _act(
    by: Operator, action: str, sdkappid: int, numbers: Sequence[int] | None, **detail: int
) -> Act:
    items = "all" if numbers is None else sorted(numbers)
    return by.act(action, sdkappid=sdkappid, items=items, **detail)


class _Fate(msgspec.Struct, frozen=True):
    """What becomes of an item: how it leaves, and what another mailbox gets of it.

    Attributes:
        target: the application that gets something of it; None: nothing is left of it.
        records: what it says, as far as it could be read.
        left: what is left of it and put back.
        moved: what is parked anew with `target`.
    """

    outcome: Outcome
    target: LiveApplication | None = None
    records: Sequence[Append] = ()
    left: Item | None = None
    moved: Item | None = None


_Decide = Callable[
    [Store, LiveApplication, Sequence[Parked], Operator], Awaitable[Mapping[int, _Fate]]
]
"""What becomes of items, by their numbers of now, none of which is damaged; others stay."""


async def _settle(
    store: Store,
    sdkappid: int,
    to: int,
    act: Act,
    numbers: Sequence[int] | None,
    by: Operator,
    decide: _Decide,
) -> tuple[Told, list[int]]:
    """Have `decide` say what becomes of items, and do it.

    Args:
        to: the application that gets what comes of them.

    Returns:
        that, and the numbers of items of which a part has left, and the rest waits.
    """
    last = None
    gone = records = moved = 0
    parts: list[int] = []
    for tries_left in reversed(range(limits.OVERTAKEN_MAX)):
        live = await live_application(store, sdkappid)
        target = live if to == sdkappid else await live_application(store, to)
        waiting = await parked(store, sdkappid)
        if last is None:
            last = waiting[-1].seq if waiting else 0
            if unknown := set(numbers or ()) - {each.number for each in waiting}:
                raise InvalidSetting(
                    f"item {min(unknown)} of {sdkappid} is not parked, or no longer"
                )
        due = [each for each in waiting if each.seq <= last]  # not what this has put back itself
        wanted = None if numbers is None else frozenset(numbers)
        meant = [each for each in due if wanted is None or each.number in wanted]
        damaged = _Fate(Outcome.QUARANTINED)
        decided = {
            **{each.seq: damaged for each in meant if each.item is None},
            **await decide(store, target, [each for each in meant if each.item], by),
        }
        fates = {
            each.seq: fate
            for each in due
            if (fate := _fate(each, by, decided.get(each.seq))) is not None
        }
        try:
            for step in _steps(due, fates):
                records += await store.unpark(_unpark(live, step, fates, act, by))
                met = [(each.number, fates[each.seq]) for each in step if each.seq in fates]
                gone += sum(fate.outcome is not Outcome.PUT_BACK for _, fate in met)
                moved += sum(fate.moved is not None for _, fate in met)
                parts += [number for number, fate in met if fate.target and fate.left]
        except SettingChanged:
            if not tries_left:
                raise
            continue
        break
    return Told(gone, records, len(await parked(store, sdkappid)), moved), parts


def _fate(each: Parked, by: Operator, decided: _Fate | None) -> _Fate | None:
    """What becomes of an item for which this was decided; None: it stays."""
    if each.item is None:
        return decided
    # Parked anew it would have its days anew, and with a retry now and then stay for ever.
    stays = decided is None or decided.left is not None or decided.moved is not None
    if stays and each.item.at_ms < by.now_ms - limits.PARKED_DAYS * DAY_MS:
        if decided is None:
            return _Fate(Outcome.EXPIRED)
        return _Fate(Outcome.EXPIRED, decided.target, decided.records)
    return decided


async def live_application(store: Store, sdkappid: int) -> LiveApplication:
    """An application as it is now; of number 0 that of nobody.

    Raises:
        UnknownApplication: there is none of that number.
    """
    if sdkappid == NOBODY:
        return NOBODYS
    name = application_setting(sdkappid)
    setting = await store.setting(name)
    if setting is None or setting.value is None:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    return LiveApplication(read_application(name, setting.value), setting.revision)


async def _read_again(
    store: Store, target: LiveApplication, meant: Sequence[Parked], by: Operator
) -> Mapping[int, _Fate]:
    spoken = await _sources(store)
    fates = {}
    for each in meant:
        assert each.item is not None
        records, rest = await _read(store, spoken, target, each.item, by)
        if rest is None:
            fates[each.seq] = _Fate(Outcome.PULLED, target, records)
        elif records:
            fates[each.seq] = _Fate(Outcome.PUT_BACK, target, records, left=rest)
    return fates


async def _give_away(
    store: Store, target: LiveApplication, meant: Sequence[Parked], by: Operator
) -> Mapping[int, _Fate]:
    spoken = await _sources(store)
    fates = {}
    for each in meant:
        assert each.item is not None
        records, rest = await _read(store, spoken, target, each.item, by)
        fates[each.seq] = _Fate(Outcome.ROUTED, target, records, moved=_anew(rest))
    return fates


async def _erase(
    _store: Store, _target: LiveApplication, meant: Sequence[Parked], _by: Operator
) -> Mapping[int, _Fate]:
    return {each.seq: _Fate(Outcome.ERASED) for each in meant}


async def _give_back(
    store: Store, _target: LiveApplication, meant: Sequence[Parked], by: Operator
) -> Mapping[int, _Fate]:
    """Items of nobody to whom they belong by now."""
    known = Stored(store, await rules(store))
    spoken = await _sources(store)
    fates = {}
    for each in meant:
        assert each.item is not None
        fate = await _whose(store, spoken, known, each.item, by)
        if fate is not None:
            fates[each.seq] = fate
    return fates


async def _sources(store: Store) -> Mapping[str, Source]:
    """By name: ours, and those that operators have added."""
    return {**builtin(), **{source.name: source for source in await sources(store)}}


async def _whose(
    store: Store, spoken: Mapping[str, Source], known: Known, item: Item, by: Operator
) -> _Fate | None:
    """What becomes of an item of nobody: it is the first one's that something of it belongs to."""
    source = spoken.get(item.format)
    if source is None:
        return None
    reports = _reports(source, item)
    found = await owned(store, known, reports.reports, token=item.token, source=source, own=None)
    told = list(zip(reports.reports, found, strict=True))
    target = next((each.live for each in found if each.live is not None), None)
    lost = [report for report, each in told if each.live is not target and not each.dropped]
    if target is None:
        lost = [report for report, each in told if not each.dropped]
        return None if lost or reports.unread else _Fate(Outcome.ERASED)
    theirs = [(report, each.whose) for report, each in told if each.live is target]
    records, unread = _records(target, source, theirs, item, by)
    rest = sorted(
        [*reports.unread, *(_unowned(report) for report in lost)], key=lambda one: one.index or 0
    )
    return _Fate(
        Outcome.PUT_BACK if rest else Outcome.ROUTED,
        target,
        records,
        left=_rest(item, rest) if rest else None,
        moved=_anew(_rest(item, unread)) if unread else None,
    )


def _unowned(report: Report) -> Unread:
    return Unread(report.raw, NO_RULE, None, report.kind, report.index)


def _anew(item: Item | None) -> Item | None:
    """An item that gets a number with another application."""
    return item and msgspec.structs.replace(item, number=0)


async def _read(
    store: Store,
    spoken: Mapping[str, Source],
    target: LiveApplication,
    item: Item,
    by: Operator,
) -> tuple[Sequence[Append], Item | None]:
    """What an item says by the rules of now, and what of it can't be read yet."""
    source = spoken.get(item.format)
    if source is None:
        return (), item
    if source.records:
        receipts = _receipts(item)
        unread = list(receipts.unread)
        records = [_append(target, receipts, item, by)] if receipts.entries else []
    else:
        reports = _reports(source, item)
        nobody = Stored(store, Rules())
        found = await owned(
            store, nobody, reports.reports, token=item.token, source=source, own=target
        )
        theirs = [(report, each.whose) for report, each in zip(reports.reports, found, strict=True)]
        records, unread = _records(target, source, theirs, item, by)
        unread = [*reports.unread, *unread]
    if not records:
        return (), item if unread else None
    return records, _rest(item, unread) if unread else None


def _receipts(item: Item) -> Receipts:
    body = item.raw if item.index is None else b"[" + item.raw + b"]"
    return done(read_records(_request(item, body)))


def _reports(source: Source, item: Item) -> Reports:
    reader = read if item.index is None else read_again
    body = b"" if item.raw == item.query else item.raw  # it is that where there was no body
    return done(reader(source, _request(item, body)))


def _request(item: Item, body: bytes) -> Request:
    return Request(
        method=item.method,
        query=item.query,
        content_type=item.content_type,
        body=body,
        arrived_s=item.at_ms // 1000,
    )


def _records(
    target: LiveApplication,
    source: Source,
    reports: Sequence[tuple[Report, Whose]],
    item: Item,
    by: Operator,
) -> tuple[list[Append], list[Unread]]:
    """Records of an application's reports, and what can be none."""
    records: list[Append] = []
    unread: list[Unread] = []
    for kind in Kind:
        alike = [each for each in reports if each[0].kind is kind]
        receipts = receipts_of(kind, source.name, alike, item.at_ms // 1000)
        records += [_append(target, receipts, item, by)] if receipts.entries else []
        unread += receipts.unread
    return records, unread


def _append(target: LiveApplication, receipts: Receipts, item: Item, by: Operator) -> Append:
    return append_of(target, receipts, sender=item.token, now_ms=by.now_ms, ticket=by.ticket())


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


def _steps(due: Sequence[Parked], fates: Mapping[int, _Fate]) -> Iterator[list[Parked]]:
    """Items from the head to the last that leaves, in steps that nobody notices.

    Each step is for one application at most.
    """
    last = max(fates, default=0)
    step: list[Parked] = []
    size = 0
    whose: LiveApplication | None = None
    for each in due:
        if each.seq > last:
            break
        fate = fates.get(each.seq)
        target = None if fate is None else fate.target
        if target is not None and whose not in (None, target):
            yield step
            step, size, whose = [], 0, None
        whose = target or whose
        step.append(each)
        size += len(each.item.raw) if each.item else 0
        if len(step) == _STEP_ITEMS or size >= _STEP_BYTES:
            yield step
            step, size, whose = [], 0, None
    if step:
        yield step


def _unpark(
    live: LiveApplication,
    step: Sequence[Parked],
    fates: Mapping[int, _Fate],
    act: Act,
    by: Operator,
) -> Unpark:
    target = live
    outcomes: list[Outcome] = []
    records: list[Append] = []
    moved: list[Item] = []
    back: list[bytes] = []
    for each in step:
        fate = fates.get(each.seq, _Fate(Outcome.PUT_BACK, left=each.item))
        if each.item is None:
            fate = _Fate(Outcome.QUARANTINED)
        target = fate.target or target
        outcomes.append(fate.outcome)
        records += fate.records
        if fate.left is not None:
            back.append(msgspec.structs.replace(fate.left, number=each.number).encoded())
        if fate.moved is not None:
            moved.append(fate.moved)
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
        [aside_of(target, moved, by.now_ms, by.ticket())] if moved else [],
    )


def aside_of(target: LiveApplication, items: Sequence[Item], now_ms: int, ticket: bytes) -> Park:
    """Items for an application that has seen none of them before, as a part of an `Unpark`."""
    mailbox = parked_mailbox(target.application.sdkappid)
    nothing = Receipts(Kind.DELIVERY_STATUS, [])
    records = append_of(target, nothing, sender="", now_ms=now_ms, ticket=ticket)
    return _aside(records, mailbox, items, None)

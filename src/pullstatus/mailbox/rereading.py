"""What parked items say by the rules of now, and what is to become of each by that.

    of an application    what reads is its records      `reread`; of another one's, `give_away`
    of nobody            whose it is by now             `give_back`, by what `owning` says
    a part of a message  it waits for the others, as it would have at the door

Nothing happens here: `unparking` does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pullstatus.apps import LiveApplication, Operator, rules, sources
from pullstatus.apps.routing import Rules
from pullstatus.mailbox import append_of, pending
from pullstatus.mailbox.owning import NO_RULE, Known, Owned, Stored, owned
from pullstatus.mailbox.parking import Item, Parked
from pullstatus.mailbox.room import HandedOver
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.reading import read, read_again, read_records
from pullstatus.receipts.reports import Report, Reports, Whose, receipts_of
from pullstatus.receipts.request import Request, charset_of
from pullstatus.receipts.source import Source, builtin
from pullstatus.receipts.text import NO_SIGN, decoded
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.store import Append, Outcome, Store

__all__ = ["Fate", "give_away", "give_back", "in_charset", "reread", "sources_of"]


class Fate(msgspec.Struct, frozen=True):
    """What becomes of an item: how it leaves, and what another mailbox gets of it.

    Attributes:
        target: the application that gets something of it; None: nothing is left of it.
        records: what it says, as far as it could be read.
        left: what is left of it and put back.
        moved: what is parked anew with `target`.
        waits: parts of it that wait with `target` for the others of their message.
    """

    outcome: Outcome
    target: LiveApplication | None = None
    records: Sequence[Append] = ()
    left: Item | None = None
    moved: Item | None = None
    waits: Sequence[pending.Item] = ()


class _Said(msgspec.Struct, frozen=True):
    """What an item says by the rules of now.

    Attributes:
        records: as far as these are none of parts.
        waits: those of which others are to come.
        unread: what can't be read yet.
    """

    records: Sequence[Append] = ()
    waits: Sequence[pending.Item] = ()
    unread: Sequence[Unread] = ()


async def reread(
    store: Store, target: LiveApplication, meant: Sequence[Parked], by: Operator
) -> Mapping[int, Fate]:
    """What is to become of items of an application, by their numbers of now; others stay.

    Args:
        target: the application.
        meant: none of which is damaged.
    """
    spoken, room = await sources_of(store), HandedOver(store)
    fates = {}
    for each in meant:
        assert each.item is not None
        said, rest = await _read(store, spoken, room, target, each.item, by)
        if rest is None:
            outcome = Outcome.ROUTED if said.waits else Outcome.PULLED
            fates[each.seq] = Fate(outcome, target, said.records, waits=said.waits)
        elif said.records or said.waits:
            fates[each.seq] = Fate(
                Outcome.PUT_BACK, target, said.records, left=rest, waits=said.waits
            )
    return fates


async def give_away(
    store: Store,
    target: LiveApplication,
    meant: Sequence[Parked],
    by: Operator,
    *,
    nobodys: bool = False,
) -> Mapping[int, Fate]:
    """The same of items that are all another application's, the target.

    Args:
        nobodys: whether they are parked under number 0.
    """
    spoken, room = await sources_of(store), HandedOver(store)
    fates = {}
    for each in meant:
        assert each.item is not None
        said, rest = await _read(store, spoken, room, target, each.item, by, nobodys=nobodys)
        fates[each.seq] = Fate(
            Outcome.ROUTED, target, said.records, moved=_anew(rest), waits=said.waits
        )
    return fates


async def give_back(
    store: Store, _target: LiveApplication, meant: Sequence[Parked], by: Operator
) -> Mapping[int, Fate]:
    """The same of items of nobody, each to whom it belongs by now; the target is not looked at."""
    known = Stored(store, await rules(store))
    spoken, room = await sources_of(store), HandedOver(store)
    fates = {}
    for each in meant:
        assert each.item is not None
        fate = await _whose(store, spoken, known, room, each.item, by)
        if fate is not None:
            fates[each.seq] = fate
    return fates


def in_charset(parked: Parked, charset: str) -> Parked:
    """The same, with a content type that names this charset, if all of the body can be in it.

    Args:
        charset: "": whatever its content type says.
    """
    item = parked.item
    if item is None or item.index is not None or not charset:  # a part, which is in UTF-8
        return parked
    form, _, _ = item.content_type.partition(";")
    named = f"{form or 'application/json'}; charset={charset}"
    if NO_SIGN in decoded(item.raw, charset_of(named)):
        return parked
    return msgspec.structs.replace(parked, item=msgspec.structs.replace(item, content_type=named))


async def sources_of(store: Store) -> Mapping[str, Source]:
    """By name, those of a store: ours, and those that operators have added."""
    return {**builtin(), **{source.name: source for source in await sources(store)}}


async def _whose(
    store: Store,
    spoken: Mapping[str, Source],
    known: Known,
    room: HandedOver,
    item: Item,
    by: Operator,
) -> Fate | None:
    """What becomes of an item of nobody: it is the first one's that something of it belongs to."""
    source = spoken.get(item.format)
    if source is None:
        return None
    reports = _reports(source, item)
    kept = [report for report in reports.reports if not report.passes]
    found = await owned(store, known, kept, token=item.token, source=source, own=None)
    told = list(zip(kept, found, strict=True))
    target = next((each.live for each in found if each.live is not None), None)
    lost = [report for report, each in told if each.live is not target and not each.dropped]
    if target is None:
        lost = [report for report, each in told if not each.dropped]
        return None if lost or reports.unread else Fate(Outcome.ERASED)
    theirs = [(report, each) for report, each in told if each.live is target]
    said = await _said(target, source, theirs, room, item, by)
    rest = sorted(
        [*reports.unread, *(_unowned(report) for report in lost)], key=lambda one: one.index or 0
    )
    return Fate(
        Outcome.PUT_BACK if rest else Outcome.ROUTED,
        target,
        said.records,
        left=_rest(item, rest) if rest else None,
        moved=_anew(_rest(item, said.unread)) if said.unread else None,
        waits=said.waits,
    )


def _unowned(report: Report) -> Unread:
    return Unread(report.raw, NO_RULE, None, report.kind, report.index)


def _anew(item: Item | None) -> Item | None:
    """An item that gets a number with another application."""
    return item and msgspec.structs.replace(item, number=0)


async def _read(
    store: Store,
    spoken: Mapping[str, Source],
    room: HandedOver,
    target: LiveApplication,
    item: Item,
    by: Operator,
    *,
    nobodys: bool = False,
) -> tuple[_Said, Item | None]:
    """What an item says by the rules of now, and what is left of it."""
    source = spoken.get(item.format)
    if source is None:
        return _Said(), item
    # What came with a platform's token was read by keys, and is known by what these say of it.
    by_keys = not source.records or nobodys or _is_keyed(item)
    reports = _reports(source, item) if by_keys else Reports([])
    if source.records and not reports.reports:
        receipts = _receipts(item)
        records = [_append(target, receipts, item, by)] if receipts.entries else []
        said, unread = _Said(records), [*receipts.unread]
    else:
        nobody = Stored(store, Rules())
        found = await owned(
            store, nobody, reports.reports, token=item.token, source=source, own=target
        )
        theirs = list(zip(reports.reports, found, strict=True))
        said = await _said(target, source, theirs, room, item, by)
        unread = [*reports.unread, *said.unread]
    if not (said.records or said.waits):
        return said, item if unread else None
    return said, _rest(item, unread) if unread else None


def _is_keyed(item: Item) -> bool:
    """Whether it shows that keys made it out: a reply of records is none of several parts."""
    return item.kind is Kind.REPLY and item.index is not None


async def _said(
    target: LiveApplication,
    source: Source,
    reports: Sequence[tuple[Report, Owned]],
    room: HandedOver,
    item: Item,
    by: Operator,
) -> _Said:
    """What reports of an item are that belong to one application."""
    whole: list[tuple[Report, Whose]] = []
    waits: list[pending.Item] = []
    for report, each in reports:
        part = _part(target, source, report, each, item, by)
        if part is not None and await room.take(target.application.sdkappid):
            waits.append(part)
        else:
            whole.append((report, each.whose))
    records, unread = _records(target, source, whole, item, by)
    return _Said(records, waits, unread)


def _part(
    target: LiveApplication, source: Source, report: Report, own: Owned, item: Item, by: Operator
) -> pending.Item | None:
    """What waits of a report; None: it is no part of a message that has others.

    It waits from now on: the others may be parked, too, and leave a moment later.
    """
    if pending.piece_of(report, own.name) is None:
        return None
    part = pending.Item(
        source=source.name,
        token=item.token,
        at_ms=item.at_ms,
        report=report,
        whose=own.whose,
        owner=target.application.owner,
        name=own.name,
        asked=pending.CameWith(item.address, item.method, item.query, item.content_type),
        since_ms=by.now_ms,
    )
    return part if pending.fits(part) else None


def _receipts(item: Item) -> Receipts:
    request = _request(item, item.raw)
    if item.index is not None:  # a part, which is in UTF-8, whatever the whole came in
        body = b"[" + item.raw + b"]"
        request = msgspec.structs.replace(request, body=body, content_type="")
    return done(read_records(request))


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

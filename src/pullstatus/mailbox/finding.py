"""Where is the report for this number? All that is known of it, for an operator who was asked.

What was found in the log has come by some token, waits at some place or has left, and may have
copies. What could not be read is looked through as it came. Whoever looks leaves that on record:
records are personal data. The number itself, or the `sid`, is in no act.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from pullstatus.apps import Operator
from pullstatus.mailbox import parking, pending, search
from pullstatus.mailbox.erasing import Number
from pullstatus.mailbox.parking import Parked
from pullstatus.mailbox.search import Found
from pullstatus.mailbox.senders import Senders
from pullstatus.mailbox.spelling import AFTER, BEFORE, in_a_row, is_found
from pullstatus.records import Kind
from pullstatus.store import NO_TICKET, Aside, Backlog, Mailbox, Store

ACTION = "find"

_Has: TypeAlias = Callable[[bytes], bool]  # whether what was looked for is in what came


class Traced(msgspec.Struct, frozen=True):
    """A record that was found, or a run of them, with what else is known of it.

    Attributes:
        place: at which it waits, 1 being the next to leave; what was erased before it has one, too,
            until it leaves. None: it has left.
        tokens: by which it came; of more than one it is not known which. See `Senders`.
        copies: the numbers of its copies.
    """

    found: Found
    place: int | None = None
    tokens: Sequence[str] = ()
    copies: Sequence[int] = ()


class Awaited(NamedTuple):
    """What is pending, and has what was looked for somewhere: it is no record yet."""

    mailbox: Mailbox
    item: pending.Item


class Findings(msgspec.Struct, frozen=True):
    """What there is of a number or a `sid`.

    Attributes:
        pending: what waits for its name, or for other parts.
        parked: items that have it somewhere, each with the number of its application.
        damaged: how many entries of the mailboxes that were looked through can't be read any more.
        oldest_ms: when the oldest record in these was accepted; None if there is none.
    """

    records: list[Traced]
    pending: list[Awaited]
    parked: list[tuple[int, Parked]]
    damaged: int
    oldest_ms: int | None

    def between(self, from_ms: int | None, to_ms: int | None) -> Findings:
        """What of it was accepted from one moment until before another."""

        def within(at_ms: int) -> bool:
            return (from_ms is None or from_ms <= at_ms) and (to_ms is None or at_ms < to_ms)

        return msgspec.structs.replace(
            self,
            records=[
                one
                for one in self.records
                if one.found.entry is None or within(one.found.entry.accepted_ms)
            ],
            pending=[one for one in self.pending if within(one.item.at_ms)],
            parked=[one for one in self.parked if one[1].item and within(one[1].item.at_ms)],
        )


async def by_number(
    store: Store, number: str, sdkappid: int | None = None, *, by: Operator
) -> Findings:
    """All of one telephone number, with or without its calling code; puts that on record.

    Raises:
        InvalidSetting: it is no number.
    """
    digits = search.digits_of(number)
    has = _has_number(digits, whole=digits != number)
    aside = await _aside(store, has, sdkappid)
    records = await search.by_number(store, number, sdkappid)
    return await _findings(store, "number", records, aside, sdkappid, by)


async def by_sid(store: Store, sid: str, sdkappid: int | None = None, *, by: Operator) -> Findings:
    """All of one SMS, by what the send call returned; puts that on record.

    Raises:
        InvalidSetting: it is empty.
    """
    search.check_sid(sid)
    spelt = b"|".join(map(re.escape, {sid.encode(), msgspec.json.encode(sid)[1:-1]}))
    pattern = re.compile(rb"(?<![0-9A-Za-z])(?:%b)(?![0-9A-Za-z])" % spelt)
    aside = await _aside(store, _holds(pattern), sdkappid)
    records = await search.by_sid(store, sid, sdkappid)
    return await _findings(store, "sid", records, aside, sdkappid, by)


async def _findings(
    store: Store,
    how: str,
    records: Sequence[Found],
    aside: tuple[list[Awaited], list[tuple[int, Parked]]],
    sdkappid: int | None,
    by: Operator,
) -> Findings:
    kinds = (Kind.DELIVERY_STATUS,) if how == "sid" else tuple(Kind)
    standing = [row for row in await store.backlog(sdkappid) if row.mailbox.kind in kinds]
    awaited, parked = aside
    found = Findings(
        await trace(store, records, standing),
        awaited,
        parked,
        sum(row.quarantined for row in standing),
        await search.oldest_ms(store, sdkappid),
    )
    named = {} if sdkappid is None else {"sdkappid": sdkappid}
    mailboxes = {str(one.mailbox) for one in records}
    mailboxes |= {str(parking.parked_mailbox(number)) for number, _ in parked}
    mailboxes |= {str(one.mailbox) for one in awaited}
    count = len(records) + len(awaited) + len(parked)
    act = by.act(ACTION, by=how, **named, count=count, mailboxes=sorted(mailboxes))
    await store.change(act=act, ticket=by.ticket())
    return found


async def trace(
    store: Store, records: Sequence[Found], standing: Sequence[Backlog]
) -> list[Traced]:
    """What else is known of records that were found."""
    senders = await Senders.read(store)
    cursors = {row.mailbox: row.accepted - row.waiting for row in standing}
    tickets = {(one.mailbox, one.first_seq): one.entry.ticket for one in records if one.entry}
    copies: dict[tuple[Mailbox, int | None], list[int]] = defaultdict(list)
    for one in records:
        copies[one.mailbox, one.copy_of].append(one.first_seq)

    def traced(one: Found) -> Traced:
        # A copy came as its original did, if that is still there.
        ticket = tickets.get((one.mailbox, one.copy_of or one.first_seq), NO_TICKET)
        return Traced(
            one,
            place=max(1, one.first_seq - cursors[one.mailbox]) if one.row is None else None,
            tokens=senders.of(ticket, one.mailbox.sdkappid),
            copies=copies.get((one.mailbox, one.first_seq), ()),
        )

    return [traced(one) for one in records]


async def _aside(
    store: Store, has: _Has, sdkappid: int | None
) -> tuple[list[Awaited], list[tuple[int, Parked]]]:
    """What is no record yet. Whoever looks for records does so behind this: it may become some.

    What is parked may have gone to wait for the others of its message, so that is looked at again.
    """
    awaited = await _pending(store, has, sdkappid)
    parked = await _parked(store, has, sdkappid)
    later = await _pending(store, has, sdkappid)
    came = [_as_it_came(each) for each in later]
    return [*(each for each in awaited if _as_it_came(each) not in came), *later], parked


def _as_it_came(awaited: Awaited) -> tuple[object, ...]:
    """What stays of an item that waits when it gets its name, and goes to whose that is."""
    item = awaited.item
    return item.source, item.token, item.at_ms, item.report


async def _pending(store: Store, has: _Has, sdkappid: int | None) -> list[Awaited]:
    return [
        Awaited(row.mailbox, item)
        for row in await store.backlog(sdkappid)
        if row.mailbox.kind is Aside.PENDING and row.waiting
        for item in (await pending.waiting(store, row)).values()
        if item is not None and any(map(has, pending.told(item)))
    ]


async def _parked(store: Store, has: _Has, sdkappid: int | None) -> list[tuple[int, Parked]]:
    found: dict[int, list[Parked]] = {}
    async for _, row in parking.in_turn(store, sdkappid):
        waiting = await parking.parked(store, row.mailbox.sdkappid) if row.waiting else []
        found[row.mailbox.sdkappid] = [
            each
            for each in waiting
            if each.item is not None and (has(each.item.raw) or has(each.item.query))
        ]
    return [(number, each) for number, items in found.items() for each in items]


def _has_number(digits: str, *, whole: bool) -> _Has:
    """Whether what came has these digits in a row, also without the calling code.

    Args:
        whole: they begin with it. Else nobody knows whether they do: it may be in front of them.
    """
    number = Number(digits)
    front = BEFORE if whole else rb""
    holds = _holds(re.compile(front + in_a_row(digits) + AFTER), digits)
    return lambda came: holds(came) or number.is_in(came)


def _holds(pattern: re.Pattern[bytes], digits: str = "") -> _Has:
    return lambda came: is_found(pattern, came, digits)

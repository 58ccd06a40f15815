"""What of all that waits may leave, and what becomes of it: of one mailbox, in one commit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.apps.routing import Rules
from pullstatus.mailbox import append_of, parking
from pullstatus.mailbox.owning import Owned, Stored
from pullstatus.mailbox.pending import (
    Item,
    aside_of,
    overdue_ms,
    piece_of,
)
from pullstatus.mailbox.room import HandedOver
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.joining import Piece, is_whole, join, sorted_out
from pullstatus.receipts.reports import Report, receipts_of
from pullstatus.records import Kind
from pullstatus.store import Append, Outcome, Park, Store

__all__ = ["STEP_ITEMS", "Ready", "Turn", "is_late_part", "is_nameless", "is_part", "ready"]

STEP_ITEMS: Final = 1_000
"""Of one commit, where what leaves lies so near together."""

_STEP_PARTS: Final = 100  # of one commit: a store may write what each application gets by itself


class Ready(NamedTuple):
    """What leaves together, and becomes a record.

    Attributes:
        seqs: the items, in order.
        item: the one that says whose it is.
        report: what it says, joined.
        apart: its parts, if that can be no record.
        whole: it has all it waited for; else it is overdue.
    """

    seqs: tuple[int, ...]
    item: Item
    report: Report
    apart: tuple[Item, ...]
    whole: bool


def ready(
    items: Iterable[tuple[int, Item]], now_ms: int, *, apart: bool = False
) -> tuple[list[Ready], int | None]:
    """What may leave of all that waits, in order, and when the next of the others is overdue.

    Args:
        items: by number, in order.
        apart: parts are not joined here: each leaves alone, once it has its name.
    """
    found: list[Ready] = []
    next_ms: list[int] = []
    of = dict(items)
    pieces: list[Piece] = []
    for seq, item in of.items():
        piece = None if apart else piece_of(item.report, item.name)
        if piece is not None:
            key = item.token, item.source, *piece.key
            pieces.append(piece._replace(key=key, seq=seq))
        elif item.name is not None or overdue_ms(item, limits.PENDING_NAME_S) <= now_ms:
            found.append(Ready((seq,), item, item.report, (), item.name is not None))
        else:
            next_ms.append(overdue_ms(item, limits.PENDING_NAME_S))
    for message in sorted_out(pieces):
        some = [of[each.seq] for each in message]
        first = next((item for item in some if item.name is not None), some[0])
        due_ms = min(overdue_ms(item, limits.PENDING_PARTS_S) for item in some)
        whole = is_whole(message)
        if whole:
            due_ms = overdue_ms(first, limits.PENDING_NAME_S) if is_nameless(first) else 0
        if due_ms <= now_ms:
            seqs = tuple(piece.seq for piece in message)
            found.append(Ready(seqs, first, join(message), tuple(some), whole))
        else:
            next_ms.append(due_ms)
    return sorted(found, key=lambda each: each.seqs[-1]), min(next_ms, default=None)


def is_nameless(item: Item) -> bool:
    """Whether nothing says yet by which `sid` it is known."""
    is_status = item.report.kind is Kind.DELIVERY_STATUS
    return is_status and item.name is None and not item.report.sid


def is_part(each: Ready) -> bool:
    """Whether it is of a message of which other parts may wait elsewhere."""
    return each.item.name is not None and piece_of(each.item.report, each.item.name) is not None


def is_late_part(each: Ready) -> bool:
    """The same, where it leaves without them."""
    return is_part(each) and not each.whole


class Turn:
    """What becomes of items that leave in one commit, gathered by whose it is and what brought it.

    Attributes:
        known: the applications, each as it was when it was asked for first.
    """

    def __init__(self, store: Store, now_ms: int, new_ticket: Callable[[], bytes]) -> None:
        self.known = Stored(store, Rules())
        self._store = store
        self._now_ms = now_ms
        self._new_ticket = new_ticket
        self._records: dict[tuple[int, Kind, str], tuple[LiveApplication, Receipts]] = {}
        self._waits: dict[tuple[int, str], tuple[LiveApplication, list[Item]]] = {}
        self._parked: dict[int, tuple[LiveApplication, list[parking.Item]]] = {}
        self._room = HandedOver(store)

    @property
    def is_full(self) -> bool:
        """Whether it is of as many applications and tokens as one commit may be."""
        return len(self._records) + len(self._waits) + len(self._parked) >= _STEP_PARTS

    async def let_leave(
        self, each: Ready, live: LiveApplication | None, said: Owned | None
    ) -> Outcome:
        """Have something become of what leaves.

        Args:
            live: whose it is; None: it is of number 0.
            said: what rules say of it, if they were asked.
        """
        if live is not None:
            self._record(live, _readable(each))
            return Outcome.PULLED
        if said is not None and said.dropped:
            return Outcome.ERASED
        target = said.live if said else await self._owner(each.item)
        if target is None:
            self._park(parking.NOBODYS, [each.item.unowned] if each.item.unowned else [])
            return Outcome.ROUTED
        if said is not None:
            each = each._replace(item=msgspec.structs.replace(each.item, whose=said.whose))
        await self._hand_over(target, each)
        return Outcome.ROUTED

    async def let_ahead(self, far: Sequence[Ready]) -> set[int]:
        """Hand over what is named of number 0 while others leave; which items that is of.

        Whoever comes to these without knowing that stores nothing: their fingerprints are known.
        What would be parked has none, and waits until the cursor is there. So does a part that is
        overdue, as long as others of its message may still be behind it.
        """
        ahead = set[int]()
        for each in far:
            if self.is_full or len(ahead) >= STEP_ITEMS:
                break
            late = is_part(each) and overdue_ms(each.item, limits.PENDING_PARTS_S) <= self._now_ms
            target = None if late else await self._owner(each.item)
            if target is not None and await self._hand_over(target, each, whole=True):
                ahead.update(each.seqs)
        return ahead

    def appends(self) -> list[Append]:
        """Records, for each application, kind and token together."""
        return [
            self._append(target, receipts, token)
            for (_, _, token), (target, receipts) in self._records.items()
        ]

    def parks(self) -> list[Park]:
        """What waits or is parked elsewhere from now on."""
        nothing = Receipts(Kind.DELIVERY_STATUS, [])
        return [
            *(
                aside_of(target, items, self._append(target, nothing, token), token)
                for (_, token), (target, items) in self._waits.items()
            ),
            *(
                parking.aside_of(target, items, self._now_ms, self._new_ticket())
                for target, items in self._parked.values()
            ),
        ]

    async def _owner(self, item: Item) -> LiveApplication | None:
        """Whose an item is that came for no application; None: nobody's."""
        live = None if item.name is None else await self.known.application(item.name.sdkappid)
        if live is None or item.name is None or not item.name.belongs_to(live.application.owner):
            return None
        return live

    async def _hand_over(
        self, target: LiveApplication, each: Ready, *, whole: bool = False
    ) -> bool:
        """Have what was nobody's wait with other parts of its message, or be a record; whether so.

        Args:
            whole: not if it would be parked.
        """
        piece = piece_of(each.item.report, each.item.name)
        if piece is not None and await self._room.take(target.application.sdkappid):
            item = msgspec.structs.replace(each.item, owner=target.application.owner, unowned=None)
            key = target.application.sdkappid, item.token
            self._waits.setdefault(key, (target, []))[1].append(item)
            return True
        read = _readable(each)
        if whole and any(receipts.unread for _, receipts in read):
            return False
        self._record(target, read)
        return True

    def _record(self, target: LiveApplication, read: Iterable[tuple[Item, Receipts]]) -> None:
        """Have receipts be records, and parked as far as they can be none."""
        for item, receipts in read:
            if receipts.entries:
                key = target.application.sdkappid, receipts.kind, item.token
                _, all_of = self._records.setdefault(key, (target, Receipts(receipts.kind, [], [])))
                all_of.entries.extend(receipts.entries)
                assert all_of.fingerprints is not None
                all_of.fingerprints.extend(receipts.fingerprints or ())
            self._park(target, [_parked(item, unread) for unread in receipts.unread])

    def _park(self, target: LiveApplication, items: Sequence[parking.Item]) -> None:
        if items:
            self._parked.setdefault(target.application.sdkappid, (target, []))[1].extend(items)

    def _append(self, target: LiveApplication, receipts: Receipts, token: str) -> Append:
        return append_of(
            target, receipts, sender=token, now_ms=self._now_ms, ticket=self._new_ticket()
        )


def _readable(each: Ready) -> list[tuple[Item, Receipts]]:
    """What it says, joined; if that can be no record, part by part: each with what said it."""
    receipts = _receipts(each.item, each.report)
    if not (receipts.unread and each.apart):
        return [(each.item, receipts)]
    singly = [msgspec.structs.replace(item.report, part=None) for item in each.apart]
    return [
        (item, _receipts(each.item, report))
        for item, report in zip(each.apart, singly, strict=True)
    ]


def _receipts(item: Item, report: Report) -> Receipts:
    whose = item.whose
    if item.name is not None:
        name = item.name
        whose = msgspec.structs.replace(whose, sid=name.sid, ext=name.ext, number=name.number)
    return receipts_of(report.kind, item.source, [(report, whose)], item.at_ms // 1000)


def _parked(item: Item, unread: Unread) -> parking.Item:
    return parking.Item(
        format=item.source,
        token=item.token,
        at_ms=item.at_ms,
        address=item.asked.address,
        reason=unread.reason,
        raw=unread.raw,
        member=unread.member,
        kind=unread.kind,
        index=unread.index,
        method=sys.intern(item.asked.method),  # as `parking.item_of` has it
        query=item.asked.query,
        content_type=item.asked.content_type,
    )

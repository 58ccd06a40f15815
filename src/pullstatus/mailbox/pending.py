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

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from pullstatus import limits
from pullstatus.apps import LiveApplication, rules
from pullstatus.apps.routing import Rules
from pullstatus.apps.values import NOBODY
from pullstatus.errors import SettingChanged, StoreDamaged, StoreUnavailable
from pullstatus.json import ascii_json
from pullstatus.mailbox import append_of, parking, scope_of
from pullstatus.mailbox.names import Name, Names, Told, names_of
from pullstatus.mailbox.owning import Owned, Stored, owned
from pullstatus.mailbox.rereading import sources_of
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.joining import Piece, join, sorted_out
from pullstatus.receipts.reports import Report, State, Whose, fingerprint, receipts_of
from pullstatus.records import Kind
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
    "Asked",
    "Item",
    "Pending",
    "Used",
    "decode_item",
    "fits",
    "pending_mailbox",
    "wait",
    "waits_for",
]

_STEP_ITEMS: Final = 1_000  # of one commit, where what leaves lies so near together
_STEP_PARTS: Final = 100  # of one commit: a store may write what each application gets by itself
_USED_MS: Final = 3_600_000  # an hour
_UNUSED_MS: Final = 1_000
_USED_MAX: Final = 10_000  # applications of which it is known at a time
_NOTHING: Final = Receipts(Kind.DELIVERY_STATUS, [])


class Asked(msgspec.Struct, frozen=True, array_like=True):
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
    asked: Asked = Asked()

    def encoded(self) -> bytes:
        """As it is stored."""
        return ascii_json(msgspec.json.encode(self))


decode_item: Final = msgspec.json.Decoder(Item).decode


def pending_mailbox(sdkappid: int) -> Mailbox:
    """Where what is pending of an application is; of 0: of what has none yet."""
    return Mailbox(sdkappid, Aside.PENDING)


_NOBODYS: Final = pending_mailbox(NOBODY)


def waits_for(report: Report, name: Name | None, *, named: bool, is_owned: bool = True) -> int:
    """For how many seconds a report waits at most; 0: it is a record as it is.

    Args:
        name: its send, if it is registered.
        named: whether sends are registered at all by whom it is for: else none is waited for.
        is_owned: whether it is known whose it is: else it waits for its name alone.
    """
    if is_owned and _piece(report, name) is not None:
        return limits.PENDING_PARTS_S
    final = report.kind is Kind.DELIVERY_STATUS and report.state is not State.INTERMEDIATE
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

    One that came before within `limits.INGEST_REPEAT_S`, and has left or not, is passed over.

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
    return await store.park(_aside(live, items, records, sender), gone)


def _aside(live: LiveApplication, items: Sequence[Item], records: Append, sender: str) -> Park:
    mailbox = pending_mailbox(live.application.sdkappid)
    prints = [fingerprint(item.report, item.source) for item in items]
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
        rows = [row for row in await store.backlog(mailbox.sdkappid) if row.mailbox == mailbox]
        if not rows:
            return 0
        first, last = rows[0].accepted - rows[0].waiting + 1, rows[0].accepted
        items = await _items(store, mailbox, first, last)
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
    return 0


async def _items(store: Store, mailbox: Mailbox, first: int, last: int) -> dict[int, Item | None]:
    """All that waits, by number; None of what is damaged."""
    found: dict[int, Item | None] = dict.fromkeys(range(first, last + 1))
    async for entry in store.entries(mailbox, first):
        if entry.seq > last:
            break
        found[entry.seq] = decode_item(entry.data)
    return found


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
        piece = None if apart else _piece(item.report, item.name)
        if piece is not None:
            key = item.token, item.source, *piece.key
            pieces.append(piece._replace(key=key, seq=seq))
        elif item.name is not None or _overdue_ms(item, limits.PENDING_NAME_S) <= now_ms:
            found.append(Ready((seq,), item, item.report, (), item.name is not None))
        else:
            next_ms.append(_overdue_ms(item, limits.PENDING_NAME_S))
    for message in sorted_out(pieces):
        some = [of[each.seq] for each in message]
        first = next((item for item in some if item.name is not None), some[0])
        joined = join(message)
        overdue_ms = min(_overdue_ms(item, limits.PENDING_PARTS_S) for item in some)
        if joined.whole:
            overdue_ms = _overdue_ms(first, limits.PENDING_NAME_S) if _is_nameless(first) else 0
        if overdue_ms <= now_ms:
            seqs = tuple(piece.seq for piece in message)
            found.append(Ready(seqs, first, joined.report, tuple(some), joined.whole))
        else:
            next_ms.append(overdue_ms)
    return sorted(found, key=lambda each: each.seqs[-1]), min(next_ms, default=None)


def _overdue_ms(item: Item, wait_s: int) -> int:
    return item.at_ms + wait_s * 1000


def _piece(report: Report, name: Name | None) -> Piece | None:
    """Which part of which message a report is; None: of none that has others."""
    if report.kind is Kind.DELIVERY_STATUS:
        if report.state is State.INTERMEDIATE:
            return None
        if name is not None and name.parts > 1:
            return Piece(("status", name.sid, str(name.message)), name.parts, name.part, report, 0)
    part = report.part
    if part is None or part.alone:
        return None
    key = (report.kind.name, report.number, report.to, part.reference, str(part.count))
    return Piece(key, part.count, part.number, report, 0)


class Pending:
    """What lets everything leave that may, in all mailboxes of a store."""

    def __init__(self, store: Store, names: Names, new_ticket: Callable[[], bytes]) -> None:
        """To be told the time; any number of processes may do this beside each other.

        Args:
            names: what knows the names of sends: the store, as a rule.
        """
        self._store = store
        self._names = names
        self._new_ticket = new_ticket
        self._idle: dict[Mailbox, tuple[int, int]] = {}  # how many came, and until when it rests
        self._ahead: set[int] = set()  # of number 0: what is handed over, and has not left
        self._apart: set[int] | None = set()  # whose parts number 0 may have; None: it is not known

    async def release(self, now_ms: int) -> int:
        """Let leave what has all it waited for, and what is overdue; returns how many items did.

        Where nothing has come and nothing is due, nothing is read.

        Raises:
            StoreUnavailable: some are left for the next time, for which this is to be called again.
        """
        count = 0
        failed: StoreUnavailable | None = None
        self._apart = set()
        async for row in self._rows():
            came, until_ms = self._idle.get(row.mailbox, (0, 0))
            if came == row.accepted and now_ms < until_ms:
                continue
            try:
                count += await self._release(row, now_ms)
            except SettingChanged:  # with the next turn
                self._idle.pop(row.mailbox, None)
            except StoreDamaged:  # its own calls are told; what cannot be read nobody waits for
                self._idle.pop(row.mailbox, None)
                if row.mailbox == _NOBODYS:
                    self._apart = self._apart or set()
            except StoreUnavailable as error:  # what others have the store may take
                failed = failed or error
        if failed is not None:
            raise failed
        return count

    async def _rows(self) -> AsyncIterator[Backlog]:
        """How mailboxes stand, number 0 first: how others do is read behind what it hands over."""
        rows: list[Backlog] = []
        with contextlib.suppress(StoreDamaged):
            rows = await self._store.backlog(NOBODY)
        for row in rows:
            if row.mailbox == _NOBODYS and row.waiting:
                yield row
        rows = await self._store.pending(limits.PENDING_MAILBOXES_MAX)
        standing = {row.mailbox for row in rows}
        self._idle = {each: rest for each, rest in self._idle.items() if each in standing}
        for row in rows:
            if row.mailbox != _NOBODYS:
                yield row

    async def _release(self, row: Backlog, now_ms: int) -> int:
        """What leaves of one mailbox, in one commit, or as much of it as lies near together."""
        sdkappid, nobodys = row.mailbox.sdkappid, row.mailbox == _NOBODYS
        first, last = row.accepted - row.waiting + 1, row.accepted
        self._apart = None if nobodys else self._apart
        turn = _Turn(self._store, now_ms, self._new_ticket)
        live = None if nobodys else await turn.known.application(sdkappid)
        out, items = await self._standing(row, live)
        named = await self._named(items, sdkappid, live)
        items |= named
        found, next_ms = ready(items.items(), now_ms, apart=nobodys)
        if nobodys:
            parts = [each.item.name for each in found if _is_part(each)]
            self._apart = {name.sdkappid for name in parts if name is not None}
        elif self._apart is None or sdkappid in self._apart:
            found, next_ms = [each for each in found if not _is_late_part(each)], None
        reach = min([*out, *(each.seqs[-1] for each in found)], default=last) + _STEP_ITEMS
        near = [each for each in found if each.seqs[-1] < reach]
        ruled = await self._ruled(near) if nobodys else {}
        for each in near:
            if turn.is_full:
                reach = each.seqs[-1]
                break
            outcome = await turn.let_leave(each, live, ruled.get(each.seqs))
            out |= dict.fromkeys(each.seqs, outcome)
        out = {seq: outcome for seq, outcome in out.items() if seq < reach}
        far = [each for each in found if each.seqs[-1] >= reach] if nobodys else []
        ahead = await turn.let_ahead(far)
        if out or named:
            end = max((*out, *named) if reach > last else out)
            stays = [seq for seq in range(first, end + 1) if seq not in out]
            await self._store.unpark(
                Unpark(
                    row.mailbox,
                    first,
                    [out.get(seq, Outcome.PUT_BACK) for seq in range(first, end + 1)],
                    turn.appends(),
                    [items[seq].encoded() for seq in stays],
                    now_ms,
                    None,
                    live.while_set if live else None,
                    self._new_ticket(),
                    turn.parks(),
                )
            )
            if nobodys:
                self._ahead = {seq for seq in self._ahead | ahead if seq > end}
        elif next_ms is not None and not any(
            _is_nameless(item) and now_ms < _overdue_ms(item, limits.PENDING_NAME_S)
            for item in items.values()
        ):
            self._idle[row.mailbox] = row.accepted, next_ms
        return len(out)

    async def _standing(
        self, row: Backlog, live: LiveApplication | None
    ) -> tuple[dict[int, Outcome], dict[int, Item]]:
        """What leaves of a mailbox whatever it says, and the items that wait there, in order.

        Args:
            live: whose mailbox it is, if there is still such an application.
        """
        nobodys = row.mailbox == _NOBODYS
        out: dict[int, Outcome] = {}
        items: dict[int, Item] = {}
        first = row.accepted - row.waiting + 1
        for seq, item in (await _items(self._store, row.mailbox, first, row.accepted)).items():
            if item is None:
                out[seq] = Outcome.QUARANTINED
            elif not nobodys and (live is None or live.application.owner != item.owner):
                out[seq] = Outcome.ERASED  # whom it came for is gone, with all that was theirs
            elif nobodys and seq in self._ahead:
                out[seq] = Outcome.ROUTED
            else:
                items[seq] = item
        return out, items

    async def _named(
        self, items: dict[int, Item], sdkappid: int, live: LiveApplication | None
    ) -> dict[int, Item]:
        """Those that have a name by now, and had none."""
        nameless = [(seq, item) for seq, item in items.items() if _is_nameless(item)]
        names = await names_of(
            self._names,
            [Told(item.report.id, item.report.number) for _, item in nameless],
            sdkappid=sdkappid or None,
            owner=live.application.owner if live else None,
        )
        return {
            seq: msgspec.structs.replace(item, name=name)
            for (seq, item), name in zip(nameless, names, strict=True)
            if name is not None
        }

    async def _ruled(self, found: Sequence[Ready]) -> dict[tuple[int, ...], Owned]:
        """Whose rules say that items are which no name has come for: a rule may be a new one."""
        overdue = [each for each in found if each.item.name is None]
        if not overdue:
            return {}
        known, spoken = Stored(self._store, await rules(self._store)), await sources_of(self._store)
        said: dict[tuple[int, ...], Owned] = {}
        for each in overdue:
            source = spoken.get(each.item.source)
            if source is not None:
                of = [each.item.report]
                token = each.item.token
                [said[each.seqs]] = await owned(
                    self._names, known, of, token=token, source=source, own=None, named=False
                )
        return said


def _is_nameless(item: Item) -> bool:
    """Whether nothing says yet by which `sid` it is known."""
    is_status = item.report.kind is Kind.DELIVERY_STATUS
    return is_status and item.name is None and not item.report.sid


def _is_part(each: Ready) -> bool:
    """Whether it is of a message of which other parts may wait elsewhere."""
    return each.item.name is not None and _piece(each.item.report, each.item.name) is not None


def _is_late_part(each: Ready) -> bool:
    return _is_part(each) and not each.whole


class _Turn:
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
        self._room: dict[int, int] = {}

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
            if self.is_full or len(ahead) >= _STEP_ITEMS:
                break
            late = _is_part(each) and _overdue_ms(each.item, limits.PENDING_PARTS_S) <= self._now_ms
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
                _aside(target, items, self._append(target, nothing, token), token)
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
        piece = _piece(each.item.report, each.item.name)
        if piece is not None and await self._has_room(target.application.sdkappid):
            item = msgspec.structs.replace(each.item, owner=target.application.owner, unowned=None)
            key = target.application.sdkappid, item.token
            self._waits.setdefault(key, (target, []))[1].append(item)
            return True
        read = _readable(each)
        if whole and any(receipts.unread for _, receipts in read):
            return False
        self._record(target, read)
        return True

    async def _has_room(self, sdkappid: int) -> bool:
        """Take a place for a part with an application, beside those that `room` gives."""
        if sdkappid not in self._room:
            mailbox = pending_mailbox(sdkappid)
            rows = [row for row in await self._store.backlog(sdkappid) if row.mailbox == mailbox]
            waiting = sum(row.waiting for row in rows)
            self._room[sdkappid] = 2 * limits.PENDING_ITEMS_MAX - waiting
        self._room[sdkappid] -= 1
        return self._room[sdkappid] >= 0

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

"""Parked items that leave for applications of other partitions, which no one write can hold.

    begun     the mailbox that they leave says so, and keeps the operation: until it is done its
              head stays where it is, whoever comes
    stored    in each application that they go to, in order of number, with a row that says so; the
              first of these decides: if what the operation rests on there has changed, its row says
              that it is refused
    left      they leave, or stay if it was refused; the mailbox says no more

Each step is one write, and is found done by whoever takes it again. So whoever comes next to such a
mailbox goes on with what somebody began, who may be dead or busy: every item leaves once, and is
stored once where it goes.

The rows stay as long as repeats are known, and until the mailbox says no more. Who finds none asks
the mailbox once more before it stores: what has left meanwhile has been stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec

from pullstatus.errors import OutcomeUnknown, SettingChanged, StoreFailed, StoreUnavailable
from pullstatus.records.hours import DAY_MS
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import Answer, Erase, Operation, Purge
from pullstatus.store.jetstream.asked import Asked, Group
from pullstatus.store.jetstream.messages import Commit, RepeatMessage, opened
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.tables import JetTables
from pullstatus.store.jetstream.wire import Bus
from pullstatus.store.texts import encoded
from pullstatus.store.values import Append, Discard, Mailbox, Park, RepeatKey, Unpark, While
from pullstatus.store.verbs import acts
from pullstatus.store.verbs.conditions import refuses
from pullstatus.store.verbs.parking import append_new, has_changed, park, unpark
from pullstatus.store.verbs.tables import Recalled

SCOPE: Final = "\x00route"
KEPT_MS: Final = 30 * DAY_MS  # rows tell a later time: by that alone older versions forget them
REFUSED: Final = -1
_NO_BOUND: Final = (1 << 62) - 1
_SCOPE: Final = encoded(SCOPE)

T = TypeVar("T")


def row_ms(row: RepeatMessage) -> int | None:
    """When what a row tells was begun, if it is one of these rows."""
    return row.at_ms - KEPT_MS if row.scope == _SCOPE else None


def rows_in_use(bus: Bus, layout: Layout) -> set[str]:
    """The last parts of the subjects of the rows of all that is on its way now.

    Raises:
        StoreUnavailable, StoreDamaged: what is cannot be learned.
    """
    found: set[str] = set()
    for partition in range(layout.partitions):
        stream = layout.stream(partition)
        for subject in bus.subjects(stream, f"{layout.name}.{partition}.*.*.route"):
            place = layout.application(int(subject.split(".")[2]))
            newest = bus.last(stream, place.commits, leader=True)
            for box in opened(newest, Commit).boxes if newest else ():
                if box.routing:
                    found.add(last_part(place.repeat(SCOPE, box.routing.hex())))
    return found


def last_part(subject: str) -> str:
    """What a row of one application has the same as that of another."""
    return subject.rpartition(".")[2]


class Pending(Exception):
    """Items are on their way out of a mailbox, whose head must stay until they have left."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__(mailbox)
        self.mailbox = mailbox


class Lane(Protocol):
    """What commits to the applications of one partition."""

    def until_done(self, asked: Group, do: Callable[[JetTables], T]) -> T:
        """Do something to what is asked as one write, again and again if others are faster."""
        ...


def is_split(operation: Operation, layout: Layout) -> bool:
    """Whether it concerns more than one partition."""
    if not isinstance(operation, Unpark):
        return False
    every = [operation.mailbox, *(each.mailbox for each in _parts(operation))]
    return len({layout.partition(each.sdkappid) for each in every}) > 1


def partitions_of(operation: Operation, layout: Layout) -> set[int]:
    """Those that a split operation stores something in."""
    assert isinstance(operation, Unpark)
    return {layout.partition(each.mailbox.sdkappid) for each in _parts(operation)}


def check(tables: JetTables, operation: Operation) -> Operation:
    """The operation as it may be done beside what is on its way.

    Raises:
        Pending: not before that has left.
    """
    heads: Sequence[Mailbox] = ()
    if isinstance(operation, Unpark | Discard | Erase):
        heads = (operation.mailbox,)
    elif isinstance(operation, Purge):
        heads = operation.mailboxes
    for mailbox in heads:
        if tables.routing(mailbox):
            raise Pending(mailbox)
    if isinstance(operation, Park):
        return _parked(tables, operation)
    if isinstance(operation, Unpark) and operation.aside:
        aside = [_parked(tables, each) for each in operation.aside]
        return msgspec.structs.replace(operation, aside=aside)
    return operation


def _parked(tables: JetTables, operation: Park) -> Park:
    """Where the oldest items are on their way, none of them makes room for others."""
    if not tables.routing(operation.mailbox):
        return operation
    return msgspec.structs.replace(operation, items_max=_NO_BOUND, bytes_max=_NO_BOUND)


class Routes:
    """What one process begins, and what it goes on with."""

    def __init__(
        self, layout: Layout, lane: Lane, other: Callable[[int], Lane], new_id: Callable[[], bytes]
    ) -> None:
        """For mailboxes of one lane; `other` tells the one of a partition."""
        self._layout = layout
        self._lane = lane
        self._other = other
        self._new_id = new_id

    def route(self, operation: Unpark) -> Answer:
        """Carry out a split operation; see `verbs.parking.unpark`.

        Raises:
            OutcomeUnknown: it was begun, and is gone on with by whoever comes next.
        """
        asked = Group([operation], self._layout)
        only = asked.only(operation.mailbox.sdkappid)
        for each in asked.by.values():
            only.by[operation.mailbox.sdkappid].conditions |= each.conditions
        ident = self._new_id()
        refusal = self._lane.until_done(only, partial(_begin, operation, ident))
        if refusal is not None:
            return refusal
        try:
            return self.go_on(operation.mailbox, (ident, operation))
        except StoreFailed:
            raise
        except (StoreUnavailable, Undone) as error:
            raise OutcomeUnknown(
                "parked items are on their way to another application, and arrive when it can be"
                " reached"
            ) from error

    def go_on(self, mailbox: Mailbox, begun: tuple[bytes, Unpark] | None = None) -> Answer:
        """Go on with what was begun, by whomever, to its end; what it is answered."""
        source = self._asked(mailbox.sdkappid)
        begun = begun or self._lane.until_done(source, partial(_begun, mailbox))
        if begun is None:
            return 0
        ident, operation = begun
        total = 0
        for number, sdkappid in enumerate(_targets(operation)):
            parts = [each for each in _parts(operation) if each.mailbox.sdkappid == sdkappid]
            asked = Group(parts, self._layout)
            asked.ask_repeat(sdkappid, _key(ident))
            lane = self._other(self._layout.partition(sdkappid))
            do = partial(_store, operation, ident, sdkappid, parts, obeys=number == 0)
            count = lane.until_done(asked, do)
            if count == REFUSED:
                total = REFUSED
                break
            total += count
        total = self._lane.until_done(source, partial(_leave, operation, ident, total))
        return total if total != REFUSED else SettingChanged(_CHANGED)

    def _asked(self, sdkappid: int) -> Group:
        asked = Group((), self._layout)
        asked.by[sdkappid] = Asked(sdkappid, self._layout.application(sdkappid))
        return asked


_CHANGED: Final = "a setting that this rests on was changed; try again"


def _parts(operation: Unpark) -> Iterator[Append | Park]:
    """What is stored of it, in that order."""
    yield from operation.aside
    yield from operation.records


def _targets(operation: Unpark) -> list[int]:
    """The applications that something goes to, but for its own."""
    found = {each.mailbox.sdkappid for each in _parts(operation)}
    return sorted(found - {operation.mailbox.sdkappid})


def _key(ident: bytes) -> RepeatKey:
    return RepeatKey(SCOPE, ident.hex(), ident)


def _conditions(parts: Sequence[Append | Park]) -> Iterator[While | None]:
    for each in parts:
        yield each.records.while_set if isinstance(each, Park) else each.while_set


def _free(part: Append | Park) -> Append | Park:
    """The same, whatever it rested on."""
    if isinstance(part, Park):
        records = msgspec.structs.replace(part.records, while_set=None)
        return msgspec.structs.replace(part, records=records)
    return msgspec.structs.replace(part, while_set=None)


def _begin(operation: Unpark, ident: bytes, tables: JetTables) -> SettingChanged | None:
    """Have its mailbox say that items are on their way."""
    refusal = refuses(tables, operation.while_set, *_conditions(list(_parts(operation))))
    if refusal is not None:
        return refusal
    if tables.routing(operation.mailbox):
        raise Pending(operation.mailbox)
    state = tables.draft(operation.mailbox)
    if state is None or has_changed(state, operation):
        return SettingChanged("what is parked has changed meanwhile; try again")
    if operation.act is not None:
        acts.record(tables, operation.act)
    tables.put_route(state, ident, _encode(operation))
    return None


def _begun(mailbox: Mailbox, tables: JetTables) -> tuple[bytes, Unpark] | None:
    ident, state = tables.routing(mailbox), tables.draft(mailbox)
    if state is None or not ident:
        return None
    return ident, _decode(tables.route(state))


def _store(
    operation: Unpark,
    ident: bytes,
    sdkappid: int,
    parts: Sequence[Append | Park],
    tables: JetTables,
    *,
    obeys: bool,
) -> int:
    """Store what goes to one application, unless it is there; how many records are new.

    Args:
        obeys: it is refused if what it rests on has changed.

    Raises:
        StoreUnavailable: others have stored it so long ago that it is forgotten.
    """
    known = tables.recall(sdkappid, _key(ident))
    if known is not None:
        return known.accepted
    if tables.routing_now(operation.mailbox) != ident:
        raise StoreUnavailable("parked items have arrived meanwhile; try again")
    count = 0
    if obeys and refuses(tables, *_conditions(parts)) is not None:
        count = REFUSED
    else:
        for part in map(_free, parts):
            if isinstance(part, Park):
                park(tables, _parked(tables, part))
            else:
                count += append_new(tables, [part])
    _remember(tables, operation, ident, sdkappid, count)
    return count


def _leave(operation: Unpark, ident: bytes, total: int, tables: JetTables) -> int:
    """Let the items leave, unless they have, or it was refused; returns what that came to."""
    sdkappid = operation.mailbox.sdkappid
    state = tables.draft(operation.mailbox)
    if state is None or tables.routing(operation.mailbox) != ident:
        known = tables.recall(sdkappid, _key(ident))
        return REFUSED if known is None else known.accepted
    if total != REFUSED:
        own = [_free(each) for each in _parts(operation) if each.mailbox.sdkappid == sdkappid]
        answer = unpark(
            tables,
            msgspec.structs.replace(
                operation,
                records=[each for each in own if isinstance(each, Append)],
                aside=[each for each in own if isinstance(each, Park)],
                while_set=None,
            ),
        )
        assert isinstance(answer, int), "its head has stayed"
        total += answer
    tables.drop_route(state)
    _remember(tables, operation, ident, sdkappid, total)
    return total


def _remember(
    tables: JetTables, operation: Unpark, ident: bytes, sdkappid: int, count: int
) -> None:
    tables.remember(sdkappid, _key(ident), Recalled(ident, count, operation.at_ms + KEPT_MS))


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Unpark).decode  # see `nodes`

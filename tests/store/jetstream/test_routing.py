"""Parked items that go to an application of another partition: each leaves once, and arrives once.

Whoever has begun it may die between any two writes, or be overtaken; whoever comes next to the
mailbox goes on with it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from pullstatus.errors import (
    OutcomeUnknown,
    PullstatusError,
    SettingChanged,
    StoreDamaged,
    StoreUnavailable,
)
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.records.hours import DAY_MS
from pullstatus.store import (
    Aside,
    Discard,
    Follow,
    Followed,
    Mailbox,
    Outcome,
    Park,
    PutAside,
    Tickets,
    Unpark,
    While,
)
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import (
    Answer,
    Changes,
    Enter,
    Forget,
    Operation,
    Purge,
    Removed,
)
from pullstatus.store.jetstream.chunks import chunks_of_box
from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.forgetting import QUIET_S, Quiet
from pullstatus.store.jetstream.gate import LaneGate
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.log import Log
from pullstatus.store.jetstream.moved import Moved
from pullstatus.store.jetstream.proven import ProvenBus
from pullstatus.store.jetstream.routing import Routes
from pullstatus.store.jetstream.settings import SettingLog
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.survey import Survey
from pullstatus.store.transfer import Migration, Role, Stage
from pullstatus.store.values import Change
from tests.store.build import (
    NOW_MS,
    OTHERS,
    REPLIES,
    STATUSES,
    append,
    new_act,
    parked,
    repeat_key,
    ticket,
)
from tests.store.jetstream.lanes import SECRET, Clock
from tests.store.jetstream.memory import MemoryBus

LAYOUT = Layout("s", 4)
PARKED = Mailbox(STATUSES.sdkappid, Aside.PARKED)
THEIRS = Mailbox(OTHERS.sdkappid, Aside.PARKED)
THIRD = Mailbox(max(STATUSES.sdkappid, OTHERS.sdkappid) + 1, STATUSES.kind)
SETTING = f"application/{OTHERS.sdkappid}"


class Killed(BaseException):
    """What a process sees of its end."""


class Server:
    """What one process has: a lane for each partition."""

    def __init__(self, bus: MemoryBus, clock: Callable[[], float] = time.monotonic) -> None:
        self.bus = ProvenBus(bus)
        new_op = Tickets(os.urandom)
        gate = LaneGate(self.bus, LAYOUT, new_op)
        moved = Moved(self.bus, LAYOUT, time.monotonic)
        self.quiet = Quiet(self.bus, LAYOUT, clock)
        lane = partial(Log, gate=gate, moved=moved, quiet=self.quiet)
        self.logs = [lane(self.bus, LAYOUT, number, SECRET, new_op, clock) for number in range(4)]
        self.settings = SettingLog(self.bus, LAYOUT, new_op, gate=gate)
        self.lists = Lists(self.bus, LAYOUT)

    def do(self, operation: Operation, sdkappid: int = PARKED.sdkappid) -> object:
        """What is answered, or raised."""
        try:
            [answer] = self.logs[LAYOUT.partition(sdkappid)].commit([operation])
        except Undone as undone:
            return undone.error
        except PullstatusError as error:
            return error
        return answer

    def entries(self, mailbox: Mailbox, *, left: bool = False) -> list[bytes]:
        """All that came, or all that waits."""
        standing = self.lists.standing(mailbox.sdkappid)
        box = standing.box(mailbox.holds) if standing else None
        if standing is None or box is None:
            return []
        first = box.cursor + 1 if left else 1
        chunks = chunks_of_box(self.bus, standing.place, box, first, standing.newest)
        found = [entry for chunk in chunks for entry in chunk.row.body.split(b",")]
        return found[len(found) - box.tail + first - 1 :]


@pytest.fixture
def bus() -> MemoryBus:
    assert LAYOUT.partition(STATUSES.sdkappid) != LAYOUT.partition(OTHERS.sdkappid)
    return MemoryBus(LAYOUT.streams)


def routed() -> Unpark:
    """Three items leave: one is read there, two are parked there, and one was read here."""
    aside = Park(append(OTHERS, []), THEIRS, [b"1", b"2"], None, 10, 1000)
    outcomes = [Outcome.ROUTED, Outcome.ROUTED, Outcome.ROUTED, Outcome.PULLED]
    records = [append(OTHERS, [b"read"]), append(STATUSES, [b"here"])]
    act = new_act("route")
    return Unpark(PARKED, 1, outcomes, records, [], NOW_MS, act, None, ticket(), [aside])


def begun(bus: MemoryBus) -> Server:
    """One that has five items parked."""
    server = Server(bus)
    server.do(parked(append(STATUSES, []), [b"1", b"2", b"3", b"4", b"5"]))
    server.do(parked(append(OTHERS, []), [b"0"]), OTHERS.sdkappid)
    return server


def before_write(number: int, do: Callable[[], object]) -> Callable[[str], None]:
    """For `overtake`: does this before a write, counted from 0, and only then."""
    count = itertools.count()

    def overtake(_stream: str) -> None:
        if next(count) == number:
            do()

    return overtake


def done(server: Server) -> bool:
    """Whether all of it happened; else nothing has, and neither stands in the middle."""
    box = server.lists.standing(PARKED.sdkappid).box(PARKED.holds)  # type: ignore[union-attr]
    assert box is not None
    assert not box.routing
    assert not server.bus.subjects(LAYOUT.application(PARKED.sdkappid).stream, "s.*.*.*.route.>")
    there, theirs = server.entries(OTHERS), server.entries(THEIRS)
    if not there:
        assert theirs == [b"0"]
        assert not server.entries(STATUSES)
        return False
    assert (there, theirs) == ([b"read"], [b"0", b"1", b"2"])
    assert server.entries(STATUSES) == [b"here"]
    assert (box.routed, box.handed_out) == (3, 1)
    return True


def kill() -> None:
    raise Killed


def test_it_is_done_once_and_answered_what_it_came_to(bus: MemoryBus) -> None:
    server, operation = begun(bus), routed()
    assert server.do(operation) == 2
    assert done(server)
    assert server.entries(PARKED, left=True) == [b"5"]
    assert isinstance(server.do(operation), SettingChanged)
    assert done(server)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("how", ["upkeep", "again", "another", "discard", "park"])
def test_who_comes_next_goes_on_with_it(bus: MemoryBus, number: int, how: str) -> None:
    """Killed before each of its writes: the act, what is begun, what is stored, what leaves."""
    server, operation = begun(bus), routed()
    bus.overtake = before_write(number, kill)
    with pytest.raises(Killed):
        server.logs[LAYOUT.partition(PARKED.sdkappid)].commit([operation])
    bus.overtake = lambda _stream: None
    other = Server(bus)
    if how == "park":  # nothing that waits leaves for it, whatever the bounds are
        other.do(parked(append(STATUSES, []), [b"6"], items_max=1))
        assert (b"1" in other.entries(PARKED, left=True)) == (number > 1)
    if how in ("upkeep", "park"):
        assert PARKED in due(other) or number < 2
        other.do(Purge((PARKED,), 0, 100, 1.0))
    elif how == "again":
        answer = other.do(operation)
        assert answer == 2 if number < 2 else isinstance(answer, SettingChanged)
    elif how == "another":
        answer = other.do(Unpark(PARKED, 1, [Outcome.ERASED], [], [], NOW_MS, new_act()))
        assert answer == 0 if number < 2 else isinstance(answer, SettingChanged)
    else:
        assert other.do(Discard(PARKED, Outcome.EXPIRED, NOW_MS)) == (5 if number < 2 else 1)
    assert done(other) == (number > 1 or how == "again")
    assert not due(other)


def due(server: Server) -> list[Mailbox]:
    """The mailboxes that upkeep goes to, though nothing there is old."""
    return Survey(server.bus, LAYOUT, server.lists).due_for_purge(0)


@pytest.mark.parametrize("number", range(1, 5))
def test_who_is_overtaken_is_answered_the_same(bus: MemoryBus, number: int) -> None:
    """Somebody else has gone on with it meanwhile, or moves its items, as soon as that may be."""
    server, other, operation = begun(bus), Server(bus), routed()
    meanwhile: list[object] = []

    def overtake() -> None:
        meanwhile.append(other.do(Purge((PARKED,), 0, 100, 1.0)))
        meanwhile.append(other.do(Discard(PARKED, Outcome.EXPIRED, NOW_MS)))

    bus.overtake = before_write(number, overtake)
    answer = server.do(operation)
    assert done(server) == (answer == 2)
    if meanwhile:
        assert isinstance(answer, SettingChanged) if number == 1 else answer == 2
        assert meanwhile[1] == (5 if number == 1 else 1)


@pytest.mark.parametrize("number", range(5))
def test_what_it_rests_on_there_may_refuse_it_until_it_is_stored(
    bus: MemoryBus, number: int
) -> None:
    server, other = begun(bus), Server(bus)
    assert other.settings.commit([Changes((Change(SETTING, b"1", None),))]) == [True]
    operation = routed()
    resting = [
        msgspec.structs.replace(each, while_set=While(SETTING, 1))
        if each.mailbox == OTHERS
        else each
        for each in operation.records
    ]
    operation = msgspec.structs.replace(operation, records=resting)

    def change() -> None:
        assert other.settings.commit([Changes((Change(SETTING, b"2", b"1"),))]) == [True]

    bus.overtake = before_write(number, change)
    answer = server.do(operation)
    assert done(server) == (answer == 2)
    assert isinstance(answer, SettingChanged) == (number < 3)
    assert len(server.entries(PARKED, left=True)) == (5 if number < 3 else 1)


def test_a_setting_of_another_application_is_believed_from_no_memory(bus: MemoryBus) -> None:
    """Of what goes to several only the first looks again, so each beginning asks the leader."""
    server, other = begun(bus), Server(bus)
    assert OTHERS.sdkappid < THIRD.sdkappid
    name = f"application/{THIRD.sdkappid}"
    assert other.settings.commit([Changes((Change(name, b"1", None),))]) == [True]
    resting = msgspec.structs.replace(append(THIRD, [b"x"]), while_set=While(name, 1))

    def operation(first_seq: int) -> Unpark:
        parts = [append(OTHERS, [b"y"]), resting]
        return Unpark(PARKED, first_seq, [Outcome.ROUTED], parts, [], NOW_MS, None, None, ticket())

    assert server.do(operation(1)) == 2
    assert other.settings.commit([Changes((Change(name, b"2", b"1"),))]) == [True]
    assert isinstance(server.do(operation(2)), SettingChanged)
    assert server.entries(THIRD) == [b"x"]


def test_what_cannot_be_reached_is_gone_on_with_when_it_can(bus: MemoryBus) -> None:
    """Until then nobody is told that it has happened, or that it has not; pulls go on."""
    server, operation = begun(bus), routed()
    away = LAYOUT.stream(LAYOUT.partition(OTHERS.sdkappid))

    def overtake(stream: str) -> None:
        if stream == away:
            raise StoreUnavailable("away")

    bus.overtake = overtake
    assert isinstance(server.do(operation), OutcomeUnknown)
    other = Server(bus)
    assert isinstance(other.do(Discard(PARKED, Outcome.EXPIRED, NOW_MS)), StoreUnavailable)
    assert other.do(append(STATUSES, [b"x"])) == 1
    assert other.do(parked(append(STATUSES, []), [b"6"], items_max=1)) == PutAside(0, 1, 0)
    assert other.do(Discard(STATUSES, Outcome.EXPIRED, NOW_MS)) == 1
    bus.overtake = lambda _stream: None
    assert other.do(Discard(PARKED, Outcome.EXPIRED, NOW_MS)) == 2
    assert server.entries(THEIRS) == [b"0", b"1", b"2"]
    assert server.entries(OTHERS) == [b"read"]
    assert server.entries(STATUSES) == [b"x", b"here"]


def remembered(bus: MemoryBus) -> int:
    """How many rows there are of what repeats, and what was routed, is known by."""
    patterns = [(LAYOUT.stream(number), f"s.{number}.*.repeat.*") for number in range(4)]
    return sum(len(bus.subjects(stream, pattern)) for stream, pattern in patterns)


def forget(server: Server, days: int) -> None:
    """Forget, so many days later, what repeats were known by for three days."""
    at_ms = NOW_MS + days * DAY_MS
    server.quiet.look()
    for log in server.logs:
        [answer] = log.commit([Forget(at_ms - 3 * DAY_MS, at_ms, 1000, 60.0)])
        assert isinstance(answer, Removed)
        assert not answer.more


def test_what_was_routed_is_forgotten_with_the_repeats_around_it(bus: MemoryBus) -> None:
    """However many of them there are: no row holds up what lies behind it."""
    server = Server(bus)
    for number in range(40):
        items = [b"%d" % each for each in range(4 * number, 4 * number + 4)]
        server.do(parked(append(STATUSES, []), items))
        operation = msgspec.structs.replace(routed(), first_seq=4 * number + 1)
        assert server.do(operation) == 2
        server.do(append(OTHERS, [b"x"], key=repeat_key(f"{number}")), OTHERS.sdkappid)
    forget(server, 2)
    assert remembered(bus) == 3 * 40
    forget(server, 4)
    assert remembered(bus) == 0


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_row_stays_while_something_rests_on_it(bus: MemoryBus, spoilt: bool) -> None:
    """What was stored, and cannot leave for longer than repeats are known, is stored once."""
    server, operation = begun(bus), routed()
    bus.overtake = before_write(3, kill)
    with pytest.raises(Killed):
        server.logs[LAYOUT.partition(PARKED.sdkappid)].commit([operation])
    bus.overtake = lambda _stream: None
    place = LAYOUT.application(PARKED.sdkappid)
    newest = bus.last(place.stream, place.commits)
    assert newest is not None
    if spoilt:  # nobody can tell then what it rests on
        bus.damage(place.stream, newest._replace(data=newest.data[:-1]))
    other = Server(bus)
    forget(other, 25)
    bus.damage(place.stream, newest)
    forget(other, 50)
    assert remembered(bus) == 1
    other.do(Purge((PARKED,), 0, 100, 1.0))
    assert done(other)
    forget(other, 50)
    assert remembered(bus) == 0


def test_a_row_that_a_replica_has_lost_does_not_go_with_what_lies_around_it(bus: MemoryBus) -> None:
    """That one tells of none, and what it tells of goes; others still have the row."""
    server = begun(bus)
    bus.overtake = before_write(3, kill)
    with pytest.raises(Killed):
        server.logs[LAYOUT.partition(PARKED.sdkappid)].commit([routed()])
    bus.overtake = lambda _stream: None
    place = LAYOUT.application(OTHERS.sdkappid)
    [row] = bus.following(place.stream, place.remembered[1], 1, count=10, leader=True)
    other = Server(bus)
    for number in range(3):
        other.do(append(OTHERS, [b"x"], key=repeat_key(f"{number}")), OTHERS.sdkappid)
    bus.has = lambda _stream, message, _leader: None if message == row else message
    forget(other, 50)
    bus.has = lambda _stream, message, _leader: message
    assert bus.following(place.stream, place.remembered[1], 1, count=10, leader=True) == [row]


def test_no_lane_waits_for_what_may_be_on_its_way(bus: MemoryBus) -> None:
    """It is looked at before; until then, and for long behind it, nothing goes as one."""
    clock = Clock()
    server = Server(bus, clock)
    lane = server.logs[LAYOUT.partition(OTHERS.sdkappid)]

    def purges() -> list[str]:
        server.do(append(OTHERS, [b"x"], key=repeat_key("0")), OTHERS.sdkappid)
        bus.asked.clear()
        lane.commit([Forget(NOW_MS + 1, NOW_MS + 1, 1000, 60.0)])
        assert "subjects" not in bus.asked
        return [each for each in bus.asked if each.startswith("purge")]

    assert purges() == ["purge each"]
    server.quiet.look()
    clock.now_s += QUIET_S - 1
    assert purges() == ["purge"]
    clock.now_s += 1
    assert purges() == ["purge each"]


@pytest.mark.anyio
async def test_a_store_looks_before_its_lanes_forget(bus: MemoryBus) -> None:
    store = await JetStreamStore.open("s", bus, LAYOUT, SECRET, 1, created=False)
    for number in range(3):
        await store.append(append(OTHERS, [b"x"], key=repeat_key(f"{number}")))
    bus.asked.clear()
    assert await store.forget(accepted_before_ms=NOW_MS + 1, now_ms=0) == 3
    assert "purge each" not in bus.asked
    assert remembered(bus) == 0
    await store.close()


def test_who_comes_too_late_for_a_row_stores_nothing(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at the mailbox and at the other application all of it is done by others."""
    server, operation = begun(bus), routed()
    bus.overtake = before_write(2, kill)
    with pytest.raises(Killed):
        server.do(operation)
    bus.overtake = lambda _stream: None
    late, other = Server(bus), Server(bus)
    lane = late.logs[LAYOUT.partition(PARKED.sdkappid)]

    def other_lane(partition: int) -> Log:
        other.do(Purge((PARKED,), 0, 100, 1.0))
        forget(other, 50)
        assert remembered(bus) == 0
        return lane._other(partition)

    monkeypatch.setattr(lane._routes, "_other", other_lane)
    assert isinstance(late.do(Purge((PARKED,), 0, 100, 1.0)), StoreUnavailable)
    assert done(server)
    monkeypatch.undo()
    assert late.do(Discard(PARKED, Outcome.EXPIRED, NOW_MS)) == 1


@pytest.mark.anyio
async def test_what_goes_to_what_is_damaged_holds_up_nobody_else(bus: MemoryBus) -> None:
    """Its own mailbox waits until that is mended; retention goes on everywhere else."""
    server, operation = begun(bus), routed()
    theirs = LAYOUT.application(OTHERS.sdkappid)
    newest = bus.last(theirs.stream, theirs.commits)
    assert newest is not None
    bus.damage(theirs.stream, newest._replace(data=newest.data[:-1]))
    assert isinstance(server.do(operation), OutcomeUnknown)
    server.do(append(REPLIES, [b"old"]))
    assert server.do(Discard(REPLIES, Outcome.EXPIRED, NOW_MS)) == 1
    store = await JetStreamStore.open("s", bus, LAYOUT, SECRET, 1, created=False)
    assert await store.follow(Follow(REPLIES, Followed(), 1, None, []))
    assert set(due(server)) == {PARKED}
    with pytest.raises(StoreDamaged, match="cannot arrive before this is mended: message"):
        await store.discard(Discard(PARKED, Outcome.EXPIRED, NOW_MS))
    assert await clean_up(store, [], now_ms=NOW_MS + 90 * DAY_MS, retention_days=1) == 0
    assert [row.purged for row in await store.backlog() if row.mailbox == REPLIES] == [1]
    bus.damage(theirs.stream, newest)
    assert await store.purge(left_before_ms=0) == 0
    assert done(server)
    await store.close()


def test_what_cannot_be_reached_leaves_most_of_the_time_to_others(bus: MemoryBus) -> None:
    """A lane that waits for another partition does nothing else meanwhile."""
    begun(bus)
    clock, operation = Clock(), routed()
    server = Server(bus, clock)
    away = LAYOUT.stream(LAYOUT.partition(OTHERS.sdkappid))

    def overtake(stream: str) -> None:
        if stream == away:
            clock.now_s += 20
            raise StoreUnavailable("away")

    bus.overtake = overtake
    discard = Discard(PARKED, Outcome.EXPIRED, NOW_MS)
    began_s = clock.now_s
    assert isinstance(server.do(operation), OutcomeUnknown)
    for _ in range(3):
        for each in (operation, discard):
            assert isinstance(server.do(each), StoreUnavailable)
        assert server.do(append(STATUSES, [b"x"])) == 1
    assert clock.now_s == began_s + 20
    clock.now_s += 60
    assert isinstance(server.do(discard), StoreUnavailable)
    assert clock.now_s == began_s + 100
    bus.overtake = lambda _stream: None
    assert isinstance(server.do(discard), StoreUnavailable)
    clock.now_s += 60
    assert server.do(discard) == 1
    assert server.entries(OTHERS) == [b"read"]


def test_what_is_damaged_is_said_to_be_so_while_others_come_first(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to learn: by that, retention goes on with others."""
    begun(bus)
    clock, operation = Clock(), routed()
    server = Server(bus, clock)
    theirs = LAYOUT.application(OTHERS.sdkappid)
    newest = bus.last(theirs.stream, theirs.commits)
    assert newest is not None
    bus.damage(theirs.stream, newest._replace(data=newest.data[:-1]))
    go_on = Routes.go_on

    def slowly(*args: Any) -> Answer:  # noqa: ANN401 - whatever it takes
        clock.now_s += 1.2
        return go_on(*args)

    monkeypatch.setattr(Routes, "go_on", slowly)
    assert isinstance(server.do(operation), OutcomeUnknown)
    for _ in range(3):
        assert isinstance(server.do(Discard(PARKED, Outcome.EXPIRED, NOW_MS)), StoreDamaged)


@pytest.mark.anyio
@pytest.mark.parametrize("write", [2, 3])
async def test_a_store_is_not_sealed_before_they_have_arrived(bus: MemoryBus, write: int) -> None:
    """What takes items from one partition to another is no row that could be moved."""
    server = begun(bus)
    bus.overtake = before_write(write, kill)
    with pytest.raises(Killed):
        server.do(routed())
    bus.overtake = lambda _stream: None
    end = await JetStreamStore.open("s", bus, LAYOUT, SECRET, 1, created=False, moving=True)
    sealed = Migration(bytes(16), Role.SOURCE, Stage.SEALED, "peer")
    assert await end.enter(sealed, expected=None)
    assert done(server)
    await end.close()


@pytest.mark.anyio
async def test_a_store_that_a_kill_left_sealed_is_opened_for_them(bus: MemoryBus) -> None:
    server = begun(bus)
    bus.overtake = before_write(2, kill)
    with pytest.raises(Killed):
        server.do(routed())
    bus.overtake = lambda _stream: None
    end = await JetStreamStore.open("s", bus, LAYOUT, SECRET, 1, created=False, moving=True)
    sealed = Migration(bytes(16), Role.SOURCE, Stage.SEALED, "peer")
    assert await end._writer.submit(Enter(sealed, None))
    copying = msgspec.structs.replace(sealed, stage=Stage.COPYING)
    assert await end.migration() == copying
    assert await end.enter(sealed, expected=copying)
    assert await end.migration() == sealed
    assert done(server)
    await end.close()

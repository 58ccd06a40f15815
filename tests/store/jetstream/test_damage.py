"""Messages that are not what was written, or not there: on one node, or on all.

What one node has lost another is asked for. What all have lost is set aside and counted, if it held
entries, and those behind it go on; of an application whose commits are damaged nothing is done, and
all others go on. The audit names each.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from pullstatus.errors import (
    AcknowledgementRefused,
    CommitsLost,
    OutcomeUnknown,
    PullstatusError,
    SettingChanged,
    StoreDamaged,
    StoreUnavailable,
)
from pullstatus.store import Mailbox, Page, Pull, Reader, While, audit_store, open_store
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import Erase, Forget, Purge
from pullstatus.store.jetstream import log as lane
from pullstatus.store.jetstream.audit import audit_streams
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.location import parse_url
from pullstatus.store.jetstream.log import BACK_S
from pullstatus.store.jetstream.opening import opened
from pullstatus.store.jetstream.proven import Unproven, of_anybody
from pullstatus.store.jetstream.survey import Survey
from pullstatus.store.jetstream.wire import OP_BYTES, Message
from tests.store.build import (
    NOW_MS,
    OTHERS,
    REPLIES,
    STATUSES,
    append,
    fingerprinted,
    incompressible,
    once,
    page,
    pull,
    records,
    redeliver,
    repeat_key,
)
from tests.store.jetstream import real
from tests.store.jetstream.lanes import COMMON, LAYOUT, PARTITION, Clock, Process, cluster
from tests.store.jetstream.memory import MemoryBus
from tools.nats import PATIENCE_S, Cluster, Node

PLACE = LAYOUT.application(STATUSES.sdkappid)
LOG = PLACE.log(STATUSES.holds)


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


@pytest.fixture
def one(bus: MemoryBus) -> Process:
    return Process(bus)


def flipped(message: Message, at: int, bit: int = 3) -> Message:
    """The same with one bit changed."""
    at %= len(message.data)
    changed = bytes([message.data[at] ^ 1 << bit])
    return message._replace(data=message.data[:at] + changed + message.data[at + 1 :])


def stored(bus: MemoryBus, subject: str) -> list[Message]:
    """All there is on a subject, on nodes that are not damaged."""
    return bus.following(PARTITION, subject, 1, count=1000, leader=True)


def spoil(bus: MemoryBus, subject: str, place: int = 0, at: int = -20) -> None:
    """Flip a bit of one message on all nodes."""
    bus.damage(PARTITION, flipped(stored(bus, subject)[place], at))


def lose(bus: MemoryBus, subject: str, place: int = 0) -> None:
    """Have one message gone from all nodes."""
    bus.delete(PARTITION, stored(bus, subject)[place].sequence)


def audited(bus: MemoryBus) -> list[str]:
    """What the audit says is wrong."""
    report = audit_streams(
        bus, LAYOUT, 1, lambda _done, _total: None, prove_setting=lambda _name, _value: None
    )
    return [finding.problem for finding in report.findings]


def drained(process: Process, mailbox: Mailbox = STATUSES) -> list[bytes]:
    """All that waits."""

    def entries() -> Iterator[bytes]:
        while (found := process.pull(pull(mailbox))).count:
            yield from msgspec.json.decode(b"[%b]" % found.data, type=list[msgspec.Raw])

    return [bytes(entry) for entry in entries()]


@pytest.mark.parametrize("older", [False, True])
def test_who_removes_is_not_misled_by_a_replica_that_lost_a_reader(
    bus: MemoryBus, one: Process, *, older: bool
) -> None:
    """Its page in hand is to be kept for it; no condition tells of a row that is not written."""
    one.do(append(STATUSES, records(4)))
    reading = Pull(STATUSES, 2 if older else 4, NOW_MS, reader=Reader("r"))
    if older:
        first = one.pull(reading).first_seq
        reading = msgspec.structs.replace(reading, reader=Reader("r", first))
    hand = one.pull(reading)
    newest = bus.last(PARTITION, PLACE.reader(STATUSES.holds, "r"), leader=True)

    def has(_stream: str, message: Message, leader: bool) -> Message | None:
        return None if message == newest and not leader else message

    bus.has = has
    Process(bus).purge(STATUSES)
    bus.has = lambda _stream, message, _leader: message
    again = Process(bus).pull(reading)
    assert (again.data, again.repeated) == (hand.data, True)


def quarantined(process: Process, mailbox: Mailbox = STATUSES) -> int:
    return process._box(mailbox)[0].quarantined


def refusal(process: Process, operation: object) -> BaseException:
    """Why nothing is done of an operation."""
    with pytest.raises(Undone) as undone:
        process.do(operation)  # type: ignore[arg-type]
    return undone.value.error


# --- one node -------------------------------------------------------------------------------------


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_what_one_node_has_damaged_or_lost_another_has(
    bus: MemoryBus, one: Process, leads: bool, lost: bool
) -> None:
    """Each of its messages of entries and journal is not what was written, and of all else, too."""
    entries = records(12)
    for start in range(0, 12, 3):
        one.do(append(STATUSES, entries[start : start + 3], key=repeat_key(f"{start}")))
    one.do(fingerprinted(STATUSES, records(2), [1, 2]))
    keyed = pull(STATUSES, 4, key="k")
    first = one.pull(keyed)
    rng = Random(0)
    lost_subjects = {LOG}
    for pattern in PLACE.remembered:
        lost_subjects |= set(bus.subjects(PARTITION, pattern))

    def has(_stream: str, message: Message, leader: bool) -> Message | None:
        damaged = leads if leader else rng.random() < 1 / 3
        if not damaged:
            return message
        return None if lost and message.subject in lost_subjects else flipped(message, 40)

    bus.has = has
    for process in (Process(bus), Process(bus)):
        again = process.pull(keyed)
        assert (again.data, again.repeated) == (first.data, True)
        assert process.do(append(STATUSES, entries[:3], key=repeat_key("0"))) == 0
        assert process.do(fingerprinted(STATUSES, records(2), [1, 2])) == 0
        assert process.pull(pull(STATUSES, 1)).count == 1
    for _ in range(8):
        assert Process(bus).do(fingerprinted(STATUSES, records(2), [1, 2])) == 0
    assert drained(Process(bus))[:6] == entries[6:]
    assert not audited(bus)
    assert not quarantined(one)
    bus.has = lambda _stream, message, _leader: message
    assert one.standing(STATUSES) == (14, 14)


@pytest.mark.parametrize("leads", [False, True])
def test_nobody_is_refused_for_a_row_that_one_node_has_lost(
    bus: MemoryBus, one: Process, leads: bool
) -> None:
    """The row before it would tell that another page is in hand, or another key was used."""
    one.do(append(STATUSES, records(40)))

    def read(process: Process, ack: int | None = None) -> Page:
        return process.pull(msgspec.structs.replace(pull(STATUSES, 2), reader=Reader("r", ack)))

    def has(_stream: str, message: Message, leader: bool) -> Message | None:
        damaged = leads if leader else rng.random() < 2 / 3
        return None if damaged and message == newest else message

    rng, newest = Random(1), None
    bus.has = has
    hand = read(one)
    for first_seq in range(3, 40, 2):
        newest = stored(bus, PLACE.reader(STATUSES.holds, "r"))[-1]
        assert read(Process(bus)).data == hand.data
        newest = stored(bus, PLACE.reader(STATUSES.holds, "r"))[-1]
        hand = read(Process(bus), hand.first_seq)
        assert hand.first_seq == first_seq


@pytest.mark.parametrize("seed", range(3))
def test_what_a_node_has_lost_lies_where_others_say(
    bus: MemoryBus, one: Process, seed: int
) -> None:
    """A search that asks one which has lost what it looks for is sent behind it."""
    entries = records(240)
    for start in range(0, 240, 3):
        one.do(append(STATUSES, entries[start : start + 3]))
        one.pull(pull(STATUSES, 3, key=f"{start}"))
    subjects = (LOG, PLACE.commits)
    places = [message.sequence for each in subjects for message in stored(bus, each)]
    begin, end = max(places) // 4, max(places) * 3 // 4
    rng = Random(seed)

    def has(_stream: str, message: Message, leader: bool) -> Message | None:
        damaged = asked_damaged and not leader
        return None if damaged and begin < message.sequence < end else message

    asked_damaged = False
    following = bus.following

    def of_one_node(*args: Any, **more: Any) -> list[Message]:  # noqa: ANN401 - as it is
        nonlocal asked_damaged
        asked_damaged = rng.random() < 1 / 3
        return following(*args, **more)

    bus.has = has
    bus.following = of_one_node  # type: ignore[method-assign]
    for start in range(0, 240, 3):
        process = Process(bus)
        copied = process.do(redeliver(STATUSES, (start + 1, 3)))
        assert not isinstance(copied, Exception), copied
        found = process.pull(pull(STATUSES, 3))
        assert found.data == b",".join(entries[start : start + 3])


def test_a_leader_that_has_lost_what_others_have_leads_no_more(
    bus: MemoryBus, one: Process
) -> None:
    """It refuses whatever rests on that; and one that only is asked too early goes on leading."""
    one.do(append(STATUSES, records(4)))
    reading = msgspec.structs.replace(pull(STATUSES, 2), reader=Reader("r", None))
    one.pull(reading)
    row = PLACE.reader(STATUSES.holds, "r")

    def has(_stream: str, message: Message, leader: bool) -> Message | None:
        return None if leader and message.subject == row and not bus.stepped_down else message

    bus.has, bus.judges_by_loss = has, True
    next_page = msgspec.structs.replace(reading, reader=Reader("r", 1))
    assert Process(bus).pull(next_page).first_seq == 3
    assert bus.stepped_down == [PARTITION]
    bus.has = lambda _stream, message, _leader: message
    assert one.pull(msgspec.structs.replace(reading, reader=Reader("r", 3))).count == 0
    assert bus.stepped_down == [PARTITION]


def test_a_refusal_asks_all_nodes_at_once_and_for_its_own_row_alone(
    bus: MemoryBus, one: Process
) -> None:
    one.do(append(STATUSES, records(4)))
    keyed = pull(STATUSES, 2, key="k")
    refused = msgspec.structs.replace(pull(STATUSES, 1), reader=Reader("r", 1))
    one.pull(keyed)
    seen: list[str] = []

    def has(_stream: str, message: Message, _leader: bool) -> Message | None:
        seen.append(message.subject)
        return message

    bus.has = has
    bus.asked.clear()
    page, answer = Process(bus).log.commit([keyed, refused])
    assert isinstance(page, Page)
    assert page.repeated
    assert isinstance(answer, AcknowledgementRefused)
    assert "last" not in bus.asked
    assert seen.count(PLACE.key("k")) == 1


# --- while a node cannot be asked -----------------------------------------------------------------


def test_a_node_that_went_while_all_were_asked_was_not_asked(bus: MemoryBus, one: Process) -> None:
    """It may be the one that has it whole, and could still be asked when that was looked at."""
    one.do(append(STATUSES, records(3)))
    looks = iter((False, True))
    bus.silent = lambda _stream: next(looks)
    with pytest.raises(Unproven):
        of_anybody(bus.door(), PARTITION, LOG, 1, lambda _told: False, count=1)


@pytest.mark.parametrize("lost", [False, True])
def test_nothing_is_given_up_that_a_node_may_have_which_cannot_be_asked(
    bus: MemoryBus, one: Process, lost: bool
) -> None:
    """It was started just now, and those that are there have lost it."""
    entries = records(9)
    for start in (0, 3, 6):
        one.do(append(STATUSES, entries[start : start + 3]))
    [_, gone, _] = stored(bus, LOG)

    def has(_stream: str, message: Message, _leader: bool) -> Message | None:
        if message != gone:
            return message
        return None if lost else flipped(message, 60)

    assert one.pull(pull(STATUSES, 3)).count == 3
    before = bus.newest(PARTITION)
    bus.has, bus.silent = has, lambda _stream: True
    assert "cannot be asked now" in str(refusal(Process(bus), pull(STATUSES, 3)))
    with pytest.raises(StoreUnavailable, match="cannot be asked now"):
        audited(bus)
    assert bus.newest(PARTITION) == before
    bus.has, bus.silent = lambda _stream, message, _leader: message, lambda _stream: False
    assert drained(Process(bus)) == entries[3:]
    assert not quarantined(one)
    bus.has, bus.silent = has, lambda _stream: True
    assert "cannot be asked now" in str(refusal(Process(bus), redeliver(STATUSES, (4, 3))))


def test_a_commit_is_not_missed_that_a_node_may_have_which_cannot_be_asked(
    bus: MemoryBus, one: Process
) -> None:
    for number in range(3):
        one.do(append(STATUSES, records(1), key=repeat_key(f"{number}")))
        one.pull(pull(STATUSES, 1))
    [_, _, gone, *_] = stored(bus, PLACE.commits)
    bus.has = lambda _stream, message, _leader: None if message == gone else message
    bus.silent = lambda _stream: True
    with pytest.raises(StoreUnavailable, match="cannot be asked now"):
        audited(bus)


# --- entries, on all nodes ------------------------------------------------------------------------


def test_an_entry_that_is_damaged_is_set_aside_alone(bus: MemoryBus, one: Process) -> None:
    entries = [b'"%d"' % number for number in range(5)]
    one.do(append(STATUSES, entries[:3]))
    one.do(append(STATUSES, entries[3:]))
    [message, _] = stored(bus, LOG)
    spoil(bus, LOG, 0, at=message.data.index(b'"1"') + 1)
    other = Process(bus)
    assert audited(bus) == ["1 stored entries are damaged, the first is 2"]
    assert drained(other) == [entries[0], *entries[2:]]
    assert quarantined(other) == 1
    assert not audited(bus)
    assert len(bus.subjects(PARTITION, PLACE.bad(STATUSES.holds))) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_a_bit_anywhere_in_what_holds_entries_costs_these_at_most(packed: bool) -> None:
    """Nothing that was not accepted is handed out, nothing twice, nothing of others is lost."""
    make = _large if packed else records
    for at in range(0, 400, 7):
        bus = cluster()
        one = Process(bus)
        entries = make(9)
        for start in (0, 3, 6):
            one.do(append(STATUSES, entries[start : start + 3]))
        message = stored(bus, LOG)[1]
        bus.damage(PARTITION, flipped(message, at, at % 8))
        other = Process(bus)
        named = audited(bus)
        found = drained(other)
        assert found[:3] == entries[:3]
        assert found[-3:] == entries[6:]
        left = iter(entries[3:6])
        assert all(entry in left for entry in found[3:-3])
        assert quarantined(other) == 9 - len(found)
        assert bool(named) == bool(quarantined(other))
        assert not audited(bus)


def _large(size: int) -> list[bytes]:
    return [b'"%b"' % (b"%d" % number * 1000) for number in range(size)]


@pytest.mark.parametrize("places", [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]])
def test_entries_that_are_missing_are_set_aside_as_many_as_they_were(
    bus: MemoryBus, one: Process, places: list[int]
) -> None:
    entries = [b'"%d"' % number for number in range(9)]
    for start in (0, 3, 6):
        one.do(append(STATUSES, entries[start : start + 3]))
    for place in reversed(places):
        lose(bus, LOG, place)
    other = Process(bus)
    assert audited(bus)
    kept = [entry for place, entry in enumerate(entries) if place // 3 not in places]
    assert drained(other) == kept
    assert quarantined(other) == 3 * len(places)
    assert not audited(bus)
    assert other.do(append(STATUSES, entries[:1])) == 1
    assert drained(other) == entries[:1]


def test_a_chunk_of_which_a_message_is_missing_is_set_aside(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullstatus.store.jetstream.messages.PART_BYTES_MAX", 1000)
    large = [b'"%b"' % incompressible(3000, number) for number in (1, 2, 3)]
    for entry in large:
        one.do(append(STATUSES, [entry]))
    lose(bus, LOG, 5)
    other = Process(bus)
    assert drained(other) == [large[0], large[2]]
    assert quarantined(other) == 1
    assert not audited(bus)


def test_a_page_that_was_taken_and_is_missing_does_not_come_again(
    bus: MemoryBus, one: Process
) -> None:
    """And neither does part of it, nor anything else in its place."""
    entries = records(6)
    one.do(append(STATUSES, entries[:3]))
    one.do(append(STATUSES, entries[3:]))
    one.pull(pull(STATUSES, 4, key="k"))
    one.pull(Pull(STATUSES, 2, NOW_MS, reader=Reader("r")))
    lose(bus, LOG, 1)
    other = Process(bus)
    for operation in (pull(STATUSES, 4, key="k"), Pull(STATUSES, 2, NOW_MS, reader=Reader("r"))):
        assert isinstance(other.do(operation), StoreUnavailable)
    assert audited(bus) == ["3 stored entries are damaged, the first is 4"]


@pytest.mark.parametrize("how", ["gone", "damaged", "damaged, and what was before is still there"])
def test_what_was_written_anew_and_is_damaged_is_set_aside(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What was erased in it does not come back."""
    entries = [b'"%d"' % number for number in range(9)]
    for start in (0, 3, 6):
        one.do(append(STATUSES, entries[start : start + 3]))
    with monkeypatch.context() as patch:
        if "before" in how:
            patch.setattr(bus, "delete", lambda _stream, _sequence: None)
        one.do(Erase(STATUSES, 1, 100, NOW_MS, ((b'"4"',),), frozenset()))
    anew = PLACE.anew(STATUSES.holds, 4)
    if how == "gone":
        lose(bus, anew)
    else:
        [message] = stored(bus, anew)
        spoil(bus, anew, at=message.data.index(b'"5"') + 1)
    other = Process(bus)
    assert audited(bus)
    found = drained(other)
    assert found[:3] + found[-3:] == entries[:3] + entries[6:]
    assert entries[4] not in found
    assert quarantined(other) == 9 - len(found) - other._box(STATUSES)[0].erased
    assert not audited(bus)


@pytest.mark.parametrize("large", [False, True])
def test_what_was_erased_by_who_died_behind_the_commit_is_gone_when_it_is_done_again(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """Once before the log was cleared of it, once before the first of what was written anew was."""
    entries = _large(3) if large else [b'"%d"' % number for number in range(9)]
    held = [entry[-20:] for entry in entries[:3]]
    for entry in entries:
        one.do(append(STATUSES, [entry, b'"kept"']))

    def every() -> bytes:
        messages = bus.following(PARTITION, f"{PLACE.prefix}.>", 1, count=1000, leader=True)
        return b"".join(message.data for message in messages)

    def erase(seq: int) -> None:
        Process(bus).do(Erase(STATUSES, 1, 100, NOW_MS, (), frozenset((seq,))))

    with monkeypatch.context() as patch:
        patch.setattr(bus, "delete", lambda *_: dies())
        patch.setattr(bus, "purge", lambda *_, **__: dies())
        erase(1)
        erase(2)
        erase(3)
    assert held[0] in every()
    assert b'"kept"' in stored(bus, PLACE.anew(STATUSES.holds, 1))[0].data
    erase(3)
    found = every()
    assert held[0] not in found
    assert held[1] not in found
    assert held[2] in found
    assert len(stored(bus, PLACE.anew(STATUSES.holds, 1))) == 1
    assert not audited(bus)


def test_what_was_erased_is_gone_from_parts_that_are_no_more(bus: MemoryBus, one: Process) -> None:
    """A large chunk becomes a small one in two steps."""
    entries = [b'"%s"' % (b"%02d" % number * 8000) for number in range(99)]
    one.do(append(STATUSES, entries))
    for seqs in (range(1, 10), range(2, 99)):
        one.do(Erase(STATUSES, 1, 100, NOW_MS, (), frozenset(seqs)))
    messages = bus.following(PARTITION, f"{PLACE.prefix}.>", 1, count=1000, leader=True)
    assert sum(len(message.data) for message in messages) < 3 * len(entries[0])
    assert drained(Process(bus)) == entries[98:]
    assert not audited(bus)


def dies() -> None:
    raise StoreUnavailable("planted")


def test_what_nobody_has_is_erased_with_what_it_may_hold(bus: MemoryBus, one: Process) -> None:
    entries = _large(6)
    one.do(append(STATUSES, entries[:3]))
    one.do(append(STATUSES, entries[3:]))
    spoil(bus, LOG, 0, at=OP_BYTES + 1)  # where it says what it holds
    held = stored(bus, LOG)[0].data[-28:-16]
    other = Process(bus)
    assert drained(other) == entries[3:]
    other.do(Erase(STATUSES, 1, 100, NOW_MS, ((b"x",),), frozenset()))
    other.do(Erase(STATUSES, 7, 100, NOW_MS, ((b"x",),), frozenset()))
    every = bus.following(PARTITION, f"{PLACE.prefix}.>", 1, count=1000, leader=True)
    assert not any(held in message.data for message in every)


def test_what_proves_itself_is_copied_though_its_message_is_damaged(
    bus: MemoryBus, one: Process
) -> None:
    """It is found by its number, and has not to be told apart from what is around it."""
    entries = records(9)
    for start in (0, 3, 6):
        one.do(append(STATUSES, entries[start : start + 3]))
    assert drained(one) == entries
    spoil(bus, LOG, 1, at=0)
    other = Process(bus)
    assert other.do(redeliver(STATUSES, (4, 3))) == 3
    assert drained(other) == entries[3:6]


def test_entries_that_are_missing_on_real_nodes_are_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may be late with what all nodes say, without which nothing is set aside.
    monkeypatch.setattr("pullstatus.store.jetstream.bus.ANSWER_TRIES", 1000)
    monkeypatch.setattr("pullstatus.store.jetstream.nodes.LOOK_S", 60.0)
    entries = [b'"%d"' % number for number in range(9)]

    async def fill(url: str) -> None:
        store = await open_store(url)
        for start in (0, 3, 6):
            await store.append(append(STATUSES, entries[start : start + 3]))
        await store.close()

    def lose_one(url: str) -> None:
        with opened(parse_url(url)) as found:
            place = found.layout.application(STATUSES.sdkappid)
            messages = found.bus.following(
                place.stream, place.log(STATUSES.holds), 1, count=9, leader=True
            )
            found.bus.delete(place.stream, messages[1].sequence)

    async def drain(url: str) -> list[bytes]:
        store = await open_store(url)
        [found] = (await audit_store(url, lambda _done, _total: None)).findings
        assert found.problem == "3 stored entries are damaged, the first is 4"
        data = [(await store.pull(pull(STATUSES, 3))).data for _ in range(3)]
        [row] = await store.backlog()
        assert (row.quarantined, row.handed_out, row.waiting) == (3, 6, 0)
        assert not (await audit_store(url, lambda _done, _total: None)).findings
        await store.close()
        return data

    with real.place(tmp_path) as url:
        asyncio.run(fill(url))
        lose_one(url)
        real.until_all_answer(url)
        expected = [b",".join(entries[:3]), b",".join(entries[6:]), b""]
        assert asyncio.run(drain(url)) == expected


# --- commits --------------------------------------------------------------------------------------


def test_an_application_whose_newest_commit_is_damaged_is_refused_alone(
    bus: MemoryBus, one: Process
) -> None:
    """Also in a group with others; and by who knew it before, once somebody else has been there."""
    entries = records(3)
    one.do(append(STATUSES, entries))
    one.do(append(OTHERS, entries))
    spoil(bus, PLACE.commits, -1)
    other = Process(bus)
    for operation in (append(STATUSES, entries), pull(STATUSES), pull(REPLIES)):
        assert isinstance(refusal(other, operation), StoreDamaged)
    assert drained(other, OTHERS) == entries
    [problem] = audited(bus)
    assert f"application {STATUSES.sdkappid}: message" in problem
    assert not other.log.is_final(refusal(other, pull(STATUSES)))


@pytest.mark.parametrize("gone", [False, True])
def test_what_needs_a_commit_that_is_damaged_is_refused_and_all_else_goes_on(
    bus: MemoryBus, one: Process, gone: bool
) -> None:
    entries = records(9)
    one.do(append(STATUSES, entries))
    keyed = pull(STATUSES, 3, key="k")
    for operation in (pull(STATUSES, 3), keyed, pull(STATUSES, 1)):
        one.pull(operation)
    if gone:
        lose(bus, PLACE.commits, 2)
    else:
        spoil(bus, PLACE.commits, 2)
    other = Process(bus)
    assert other.pull(keyed).repeated
    assert other.pull(pull(STATUSES)) == page(8, entries[7:], 0)
    assert other.do(append(STATUSES, entries)) == 9
    assert isinstance(refusal(other, Purge((STATUSES,), NOW_MS + 1, 100, 1.0)), StoreDamaged)
    assert len(audited(bus)) == 1


def test_a_state_that_went_back_is_refused_at_last_for_good(bus: MemoryBus) -> None:
    """At first it may be that of a leader that is cut off."""
    clock = Clock()
    one = Process(bus, clock)
    one.do(append(STATUSES, records(2)))
    one.pull(pull(STATUSES))
    newest = stored(bus, PLACE.commits)[-1]
    bus.has = lambda _stream, message, _leader: None if message == newest else message
    for _ in range(2):
        assert isinstance(refusal(one, pull(STATUSES)), StoreUnavailable)
        clock.now_s += BACK_S / 4
    bus.has = lambda _stream, message, _leader: message
    assert one.pull(pull(STATUSES)).count == 0
    bus.delete(PARTITION, newest.sequence)
    for _ in range(3):
        assert isinstance(refusal(one, append(STATUSES, records(1))), StoreUnavailable)
        clock.now_s += BACK_S / 3
    with pytest.raises(CommitsLost) as lost:
        one.do(append(STATUSES, records(1)))
    assert one.log.is_final(lost.value)


@pytest.mark.parametrize("error", [OutcomeUnknown("?"), RuntimeError("?")])
@pytest.mark.parametrize("more", [None, OTHERS, STATUSES])
def test_a_state_that_went_back_is_noticed_behind_what_had_all_else_forgotten(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch, error: Exception, more: Mailbox | None
) -> None:
    """A write of which nothing is known, or a mistake of ours."""
    clock = Clock()
    one = Process(bus, clock)
    one.do(append(STATUSES, records(2)))
    one.pull(pull(STATUSES))
    handed_out = stored(bus, PLACE.commits)[-1]

    def write(*_: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bus, "write", write)
        with pytest.raises((OutcomeUnknown, Undone)):
            one.do(append(STATUSES, records(1)))
    bus.delete(PARTITION, handed_out.sequence)
    if more is not None:  # the stream has gone on meanwhile
        Process(bus).do(append(more, records(5)))
    for _ in range(2):
        assert isinstance(refusal(one, pull(STATUSES)), StoreUnavailable)
        clock.now_s += BACK_S / 2
    with pytest.raises(CommitsLost):
        one.do(pull(STATUSES, key="k"))


def test_a_state_that_went_back_is_noticed_where_another_has_gone_on_from_there(
    bus: MemoryBus,
) -> None:
    """What it has written says which commit was before it."""
    clock = Clock()
    one = Process(bus, clock)
    one.do(append(STATUSES, records(2)))
    one.pull(pull(STATUSES, 1))
    bus.delete(PARTITION, stored(bus, PLACE.commits)[-1].sequence)
    Process(bus).do(append(STATUSES, records(5)))
    for _ in range(2):
        assert isinstance(refusal(one, pull(STATUSES)), StoreUnavailable)
        clock.now_s += BACK_S / 2
    with pytest.raises(CommitsLost):
        one.do(pull(STATUSES))


def test_nodes_whose_folders_went_back_are_refused_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has brought back what all of them had before: nobody gets a page of that."""
    monkeypatch.setattr(lane, "BACK_S", 1.0)
    failures: list[BaseException] = []

    def keep(node: Node) -> None:
        shutil.copytree(node.folder / "data", tmp_path / node.name)

    def set_back(node: Node) -> None:
        shutil.rmtree(node.folder / "data")
        shutil.copytree(tmp_path / node.name, node.folder / "data")

    async def play(cluster: Cluster, url: str) -> None:
        store = await open_store(url, on_failure=failures.append)
        await store.append(append(STATUSES, records(2)))
        while_none_runs(cluster, keep)
        await store.append(append(STATUSES, records(2)))
        assert (await store.pull(pull(STATUSES, 3))).count == 3
        while_none_runs(cluster, set_back)
        async with asyncio.timeout(PATIENCE_S):
            while not failures:
                with pytest.raises(StoreUnavailable):
                    await store.pull(pull(STATUSES))
        [failure] = failures
        assert isinstance(failure, CommitsLost)
        with pytest.raises(StoreUnavailable):
            await store.append(append(STATUSES, records(1)))
        await store.close()

    with Cluster() as cluster:
        url = cluster.url("mailboxes")
        real.make_store(url, 1)
        cluster.settle()
        asyncio.run(play(cluster, url))


def while_none_runs(cluster: Cluster, do: Callable[[Node], None]) -> None:
    """Have something done to each node of a cluster that has ended in order."""
    for node in cluster.nodes:
        node.stop()
    for node in cluster.nodes:
        do(node)
    cluster.heal()


def test_an_older_state_of_a_node_is_none_that_went_back(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing else is known any more: who leads has the newest."""
    one = Process(bus)
    one.do(append(STATUSES, entries := records(2)))
    before = stored(bus, PLACE.commits)[-1]
    assert one.pull(pull(STATUSES, 1)).count == 1
    newest = stored(bus, PLACE.commits)[-1]
    one.log._forget([STATUSES.sdkappid])
    bus.has = lambda _stream, message, leader: (
        before if message == newest and not leader else message
    )
    assert drained(one, STATUSES) == entries[1:]


# --- settings -------------------------------------------------------------------------------------


def test_whether_a_pair_is_good_is_told_by_the_leader_of_many_at_once(
    bus: MemoryBus, one: Process
) -> None:
    """A replica that has lost what revoked it would let it in."""
    one.do(append(STATUSES, records(4)))
    pairs = [f"secret/{number}" for number in range(4)]
    held = [While(name, one.change(name, b"good")) for name in pairs]
    good = one.bus.last(COMMON, LAYOUT.common.setting(pairs[0]), leader=True)
    assert good is not None
    one.change(pairs[0], b"revoked")
    bus.has = lambda _stream, message, leader: (
        good if message.subject == good.subject and not leader else message
    )
    pulls = [Pull(STATUSES, 1, NOW_MS, while_proven=each) for each in held]
    answers = Process(bus).log.commit(pulls)
    assert [isinstance(answer, SettingChanged) for answer in answers] == [True, *[False] * 3]


# --- what is remembered ---------------------------------------------------------------------------


def test_of_what_is_remembered_only_what_is_damaged_is_refused(
    bus: MemoryBus, one: Process
) -> None:
    """But for fingerprints: a repeat is taken for new rather than to refuse what is."""
    key = repeat_key("k")
    one.do(append(STATUSES, entries := records(6), key=key))
    one.pull(pull(STATUSES, 1, key="p"))
    one.do(once(STATUSES, "n"))
    one.do(Pull(STATUSES, 1, NOW_MS, reader=Reader("r")))
    printed = fingerprinted(STATUSES, records(2), [1, 2])
    one.do(printed)
    subjects = [subject for each in PLACE.remembered for subject in bus.subjects(PARTITION, each)]
    subjects += bus.subjects(PARTITION, PLACE.readers(STATUSES.holds))
    assert len(subjects) == 5
    for subject in subjects:
        spoil(bus, subject)
    other = Process(bus)
    for operation in (
        append(STATUSES, entries, key=key),
        pull(STATUSES, 1, key="p"),
        once(STATUSES, "n"),
        Pull(STATUSES, 1, NOW_MS, reader=Reader("r")),
    ):
        assert isinstance(refusal(other, operation), StoreDamaged)
    assert other.do(printed) == 2
    assert other.standing(STATUSES) == (10, 3)
    assert other.pull(pull(STATUSES, 1, key="q")).count == 1
    assert any("4 messages of what is remembered" in problem for problem in audited(bus))
    survey = Survey(other.bus, LAYOUT, Lists(other.bus, LAYOUT))
    assert survey.totals().of[STATUSES.kind].waiting == other.standing(STATUSES)[0] - 4
    assert survey.due_for_purge(NOW_MS + 1) == [STATUSES]
    assert [row.mailbox for row in survey.behind(10)] == [STATUSES]
    assert survey.pending(10) == []


def test_what_is_damaged_of_what_is_remembered_goes_with_what_lies_behind_it(
    bus: MemoryBus, one: Process
) -> None:
    for number, at_ms in enumerate((NOW_MS, NOW_MS + 5, NOW_MS + 10)):
        each = append(STATUSES, records(1), key=repeat_key(f"{number}"))
        one.do(msgspec.structs.replace(each, at_ms=at_ms))
    repeats = PLACE.remembered[1]
    spoil(bus, repeats, 0)
    one.do(Forget(NOW_MS + 3, NOW_MS + 3, 100, 1.0))
    assert len(stored(bus, repeats)) == 3
    one.do(Forget(NOW_MS + 6, NOW_MS + 6, 100, 1.0))
    assert len(stored(bus, repeats)) == 1


def test_an_answer_is_never_what_was_not_written() -> None:
    """Any bit of any message, on all nodes: each answer is true, or says what is wrong."""
    rng = Random(7)
    for _ in range(120):
        bus = cluster()
        one = Process(bus)
        entries = [b'"%d"' % number for number in range(8)]
        for start in (0, 4):
            one.do(append(STATUSES, entries[start : start + 4], key=repeat_key(f"{start}")))
        first = one.pull(pull(STATUSES, 3, key="k"))
        every = bus.following(PARTITION, ">", 1, count=100, leader=True)
        message = rng.choice(every)
        bus.damage(PARTITION, flipped(message, rng.randrange(1 << 20), rng.randrange(8)))
        other = Process(bus)
        named = bool(audited(bus))
        troubled = False
        found: list[bytes] = []
        try:
            again = other.do(pull(STATUSES, 3, key="k"))
            if isinstance(again, Page):
                assert again.data == first.data
            troubled |= isinstance(again, PullstatusError)
            found = drained(other)
        except Undone as undone:
            troubled = isinstance(undone.error, StoreDamaged)
            if not troubled:
                raise
        left = iter(entries[3:])
        assert all(entry in left for entry in found)
        if not troubled:
            assert len(found) + quarantined(other) == 5
            if quarantined(other):
                assert named
        assert named or not troubled

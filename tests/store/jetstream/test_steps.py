"""Steps of one group, each of which finds what those before it have only begun to write.

What is written and removed then is as if each had been a group of its own: nothing that was to go
stays stored, and nothing goes that a later step has written.
"""

from __future__ import annotations

import math

import pytest

from pullstatus import limits
from pullstatus.errors import OutcomeUnknown, StoreUnavailable
from pullstatus.store import Count, Follow, Pull, Reader, Release, Tally, Unfollow, chunk
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import Erase, ErasedStep, Purge, Removed
from pullstatus.store.jetstream import log, tables
from pullstatus.store.jetstream.log import LEFT_S
from pullstatus.store.jetstream.messages import ChunkPart, opened
from tests.store.build import (
    EMPTY,
    NOW_MS,
    REPLIES,
    STATUSES,
    append,
    incompressible,
    new_act,
    pull,
    records,
)
from tests.store.jetstream.lanes import LAYOUT, PARTITION, Process, cluster
from tests.store.jetstream.memory import MemoryBus

PLACE = LAYOUT.application(STATUSES.sdkappid)
KIND = STATUSES.holds
ASIDE = f"{PLACE.bad(KIND, '')}>"
LARGE = [b'"%b"' % incompressible(600, number) for number in range(6)]
BEYOND = 1 << 39  # of an erasing step that sees to what lies elsewhere


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


@pytest.fixture
def one(bus: MemoryBus) -> Process:
    return Process(bus)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than a message is so soon."""
    monkeypatch.setattr("pullstatus.store.jetstream.messages.PART_BYTES_MAX", 1000)


def erase(entry: bytes, first_seq: int = 1) -> Erase:
    return Erase(STATUSES, first_seq, 100, NOW_MS, ((entry,),), frozenset())


def purge(through: int | None = None) -> Purge:
    return Purge((STATUSES,), NOW_MS + 1, 1000, 1.0, through)


def read(name: str, ack: int | None = None, count_max: int = 100) -> Pull:
    return Pull(STATUSES, count_max, NOW_MS, reader=Reader(name, ack))


def stored(bus: MemoryBus, pattern: str = ">") -> list[bytes]:
    """Of `LARGE`, those of which any message holds anything."""
    held = b"".join(
        message.data
        for subject in bus.subjects(PARTITION, pattern)
        for message in bus.following(PARTITION, subject, 1, count=1000, leader=True)
    )
    pieces = [slice(begin, begin + 20) for begin in range(0, 580, 20)]
    return [entry for entry in LARGE if any(entry[piece] in held for piece in pieces)]


def follow(process: Process) -> None:
    """Have all of it followed, so that it may go."""
    box, _ = process._box(STATUSES)
    assert process.do(Follow(STATUSES, box.mark, box.tail, None, []))


def spoil(bus: MemoryBus) -> None:
    """Have the chunk be damaged in the first of its parts."""
    [first, *_] = bus.following(PARTITION, PLACE.log(KIND), 1, count=9, leader=True)
    at = first.data.index(LARGE[0][:20])
    data = first.data[:at] + bytes([first.data[at] ^ 8]) + first.data[at + 1 :]
    bus.damage(PARTITION, first._replace(data=data))


def set_aside(bus: MemoryBus, one: Process) -> None:
    """Have a chunk of several parts be damaged, and put aside."""
    one.do(append(STATUSES, LARGE))
    spoil(bus)
    Process(bus).pull(pull(STATUSES))
    assert readable(bus) == LARGE[1:]


def readable(bus: MemoryBus) -> list[bytes]:
    """Of `LARGE`, what can be read of the one chunk that was set aside."""
    parts = [
        opened(message, ChunkPart)
        for subject in sorted(bus.subjects(PARTITION, ASIDE))
        for message in bus.following(PARTITION, subject, 1, count=9, leader=True)
    ]
    assert [part.part for part in parts] == list(range(parts[0].parts))
    joined = chunk.readable(parts[0].bounds, b"".join(part.body for part in parts))
    assert joined is not None
    return [entry for entry in LARGE if entry in joined]


# --- erasing --------------------------------------------------------------------------------------


def test_what_was_set_aside_loses_what_each_step_erases_and_nothing_else(
    bus: MemoryBus, one: Process
) -> None:
    set_aside(bus, one)
    Process(bus).log.commit([erase(LARGE[3], BEYOND), erase(LARGE[4], BEYOND)])
    assert readable(bus) == [LARGE[1], LARGE[2], LARGE[5]]
    Process(bus).do(erase(LARGE[2], BEYOND))
    assert readable(bus) == [LARGE[1], LARGE[5]]
    assert stored(bus, ASIDE) == [*LARGE[:2], LARGE[5]]


def test_nothing_of_what_each_step_erases_stays(bus: MemoryBus, one: Process) -> None:
    """Also not in a part more that the first had written."""
    one.do(append(STATUSES, LARGE))
    Process(bus).log.commit([erase(LARGE[0]), *(erase(entry) for entry in LARGE[3:])])
    assert stored(bus) == LARGE[1:3]
    assert Process(bus).pull(pull(STATUSES)).data == b",".join(LARGE[1:3])


def test_a_step_reads_over_what_another_has_erased(bus: MemoryBus, one: Process) -> None:
    """It begins with an entry before, and comes with the messages of what is behind."""
    for start in (0, 3):
        one.do(append(STATUSES, LARGE[start : start + 3]))
    seqs = Erase(STATUSES, 4, 100, NOW_MS, (), frozenset([4]))
    Process(bus).log.commit([seqs, erase(LARGE[5], 1)])
    assert stored(bus) == [*LARGE[:3], LARGE[4]]
    assert Process(bus).pull(pull(STATUSES)).data == b",".join([*LARGE[:3], LARGE[4]])


def test_a_step_erases_no_more_than_one_write_can_hold(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is changed is not packed any more, however small it was."""
    monkeypatch.setattr(tables, "STEP_BYTES", 4000)
    for _ in range(5):
        one.do(append(STATUSES, [b'"x%b"' % (b"y" * 100)] * 20))
    assert bus.size(PARTITION) < 4000
    steps = [erase(b"x", first_seq) for first_seq in (1, 41, 81)]
    assert [one.do(step) for step in steps] == [
        ErasedStep(40, 0, 41),
        ErasedStep(40, 0, 81),
        ErasedStep(20, 0, 101),
    ]
    assert one.pull(pull(STATUSES)) == EMPTY


def test_what_is_more_than_one_write_can_hold_is_refused_in_words(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "BYTES_MAX", 3000)
    with pytest.raises(Undone) as undone:
        one.do(append(STATUSES, LARGE))
    assert isinstance(undone.value.error, StoreUnavailable)
    assert one.do(append(STATUSES, LARGE[:2])) == 2


# --- what fails behind a commit -------------------------------------------------------------------


def failing(bus: MemoryBus, patch: pytest.MonkeyPatch) -> None:
    """Nobody leads the stream when something is to be removed."""

    def fails(*_args: object, **_kwargs: object) -> int:
        raise StoreUnavailable("no node leads the stream")

    for name in ("delete", "purge"):
        patch.setattr(bus, name, fails)


def keep_a_page(one: Process) -> None:
    one.do(append(STATUSES, LARGE))
    one.pull(read("r"))
    one.purge(STATUSES)


@pytest.mark.parametrize("where", ["log", "aside", "page"])
@pytest.mark.parametrize("again", ["anybody", "itself"])
def test_erasing_is_not_said_to_be_done_before_it_is(
    bus: MemoryBus, one: Process, where: str, again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does it again finishes it, and so does who did it, if it is still there."""
    if where == "log":
        one.do(append(STATUSES, LARGE))
    elif where == "aside":
        set_aside(bus, one)
    else:
        keep_a_page(one)
    due = erase(LARGE[3], 1 if where == "log" else BEYOND)
    there = ASIDE if where == "aside" else ">"
    eraser = Process(bus)
    with monkeypatch.context() as patch:
        failing(bus, patch)
        assert isinstance(eraser.do(due), OutcomeUnknown)
        assert LARGE[3] in stored(bus, there)
        assert eraser.do(append(REPLIES, records(1))) == 1
    if again == "anybody":
        assert Process(bus).do(due) == ErasedStep(0, 0, 0 if where != "log" else 7)
    else:
        assert eraser.log.due_in_s() == LEFT_S
        eraser.clock.now_s += LEFT_S
        eraser.log.tend()
        assert eraser.log.due_in_s() == math.inf
    assert stored(bus, there) == [*LARGE[:3], *LARGE[4:]]


@pytest.mark.parametrize("where", ["log", "anew", "page"])
def test_an_application_is_not_said_to_be_erased_before_it_is(
    bus: MemoryBus, one: Process, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "page":
        keep_a_page(one)
    else:
        one.do(append(STATUSES, LARGE))
        follow(one)
        if where == "anew":
            one.do(erase(LARGE[5]))
        one.pull(pull(STATUSES))
    eraser = Process(bus)
    with monkeypatch.context() as patch:
        failing(bus, patch)
        if where == "page":
            eraser.do(Release(STATUSES, "r", 1, NOW_MS, new_act("erase")))
        assert isinstance(eraser.do(purge(through=100)), OutcomeUnknown)
        assert stored(bus)
    assert Process(bus).do(purge(through=100)) == Removed(0, more=False)
    assert stored(bus) == []


# --- removal --------------------------------------------------------------------------------------


def test_nothing_stays_of_what_is_written_anew_and_removed(bus: MemoryBus, one: Process) -> None:
    one.do(append(STATUSES, LARGE))
    follow(one)
    one.pull(pull(STATUSES))
    Process(bus).log.commit([erase(LARGE[5]), purge()])
    assert stored(bus) == []


def test_nothing_stays_of_what_is_set_aside_and_removed(bus: MemoryBus, one: Process) -> None:
    one.do(append(STATUSES, LARGE))
    follow(one)
    spoil(bus)
    Process(bus).log.commit([pull(STATUSES), purge(len(LARGE)), erase(LARGE[5], BEYOND)])
    assert stored(bus) == []


# --- readers --------------------------------------------------------------------------------------


def test_a_reader_that_made_room_and_comes_back_keeps_its_page(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READERS_MAX", 2)
    one.do(append(STATUSES, records(9)))
    for name in ("a", "b"):
        first = one.pull(read(name, count_max=1)).first_seq
        one.do(read(name, first, 0))
    one.log.commit([read("new", count_max=1), read("a", count_max=1)])
    assert Process(bus).pull(read("a")).repeated


def test_a_page_that_takes_the_place_of_another_is_kept(bus: MemoryBus, one: Process) -> None:
    """Of the one before nothing stays."""
    one.do(append(STATUSES, LARGE))
    one.pull(read("r", count_max=4))
    one.purge(STATUSES)
    assert stored(bus) == LARGE
    Process(bus).log.commit([read("r", 1), purge()])
    assert stored(bus) == LARGE[4:]
    page = Process(bus).pull(read("r"))
    assert (page.data, page.repeated) == (b",".join(LARGE[4:]), True)


def test_a_kept_page_loses_what_each_step_erases(bus: MemoryBus, one: Process) -> None:
    one.do(append(STATUSES, LARGE))
    one.pull(read("r"))
    one.purge(STATUSES)
    Process(bus).log.commit([erase(entry, BEYOND) for entry in LARGE[2:]])
    assert stored(bus) == LARGE[:2]
    assert Process(bus).pull(read("r")).data == b",".join(LARGE[:2])


# --- tallies --------------------------------------------------------------------------------------


def test_what_is_counted_behind_tallies_that_go_stays(bus: MemoryBus, one: Process) -> None:
    one.do(append(STATUSES, records(1)))
    hour, series = 2_026_010_100, int(STATUSES.kind)
    tally = Tally(series, hour, (1,))
    one.do(Count(STATUSES.sdkappid, [tally], NOW_MS))
    box, _ = one._box(STATUSES)
    due = Unfollow(STATUSES, box.mark, 0, 0)
    assert Process(bus).log.commit([due, Count(STATUSES.sdkappid, [tally], NOW_MS)]) == [True, True]
    assert bus.subjects(PARTITION, PLACE.tallies())


def test_nothing_stays_of_what_is_appended_and_erased_together(
    bus: MemoryBus, one: Process
) -> None:
    """What is only to be written is written without it."""
    one.do(append(STATUSES, LARGE[:1]))
    Process(bus).log.commit([append(STATUSES, LARGE[1:]), erase(LARGE[5]), erase(LARGE[2])])
    assert stored(bus) == [*LARGE[:2], *LARGE[3:5]]
    assert Process(bus).pull(pull(STATUSES)).data == b",".join([*LARGE[:2], *LARGE[3:5]])

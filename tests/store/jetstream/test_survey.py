"""What is asked about all applications costs by what was written since, and by nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pullstatus.records import Kind
from pullstatus.store import Mailbox, Pull, Reader
from pullstatus.store.jetstream import survey
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.looks import Looks
from pullstatus.store.jetstream.survey import Survey
from tests.store.build import NOW_MS, OTHERS, REPLIES, STATUSES, append, pull, records
from tests.store.jetstream.lanes import LAYOUT, Process, cluster
from tests.store.jetstream.memory import MemoryBus


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


@pytest.fixture
def one(bus: MemoryBus) -> Process:
    return Process(bus)


def surveying(bus: MemoryBus) -> Survey:
    return Survey(bus, LAYOUT, Lists(bus, LAYOUT))


def test_where_nothing_was_written_nothing_is_read(bus: MemoryBus, one: Process) -> None:
    one.do(append(STATUSES, records(3)))
    found = surveying(bus)
    before = found.totals()
    assert before.of[Kind.DELIVERY_STATUS].waiting == 3
    bus.asked.clear()
    assert found.totals() == before
    assert found.due_for_purge(NOW_MS + 1) == []
    assert bus.asked == ["newest"] * 2


@pytest.mark.parametrize(("followed_max", "together_max"), [(0, 10_000), (1000, 10_000), (0, 7)])
def test_what_was_written_since_is_known_and_the_rest_is_not_read_again(
    bus: MemoryBus,
    one: Process,
    monkeypatch: pytest.MonkeyPatch,
    followed_max: int,
    together_max: int,
) -> None:
    """However far replicas are behind, and however much was written."""
    monkeypatch.setattr(survey, "FOLLOWED_MAX", followed_max)
    monkeypatch.setattr(survey, "TOGETHER_MAX", together_max)
    for number in range(40):
        one.do(append(Mailbox(1_400_000_000 + number, Kind.REPLY), records(1)))
    found = surveying(bus)
    assert found.totals().of[Kind.REPLY].waiting == 40
    for lag in (0, 1, 3, 1000):
        bus.lag = lambda _stream, lag=lag: lag  # type: ignore[misc]
        one.do(append(STATUSES, records(2)))
        one.do(append(OTHERS, records(1)))
        one.pull(pull(STATUSES, 1))
        one.pull(Pull(REPLIES, 1, NOW_MS, reader=Reader("r")))
        bus.asked.clear()
        assert found.totals() == surveying(bus).totals()
        assert found.due_for_purge(NOW_MS + 1) == surveying(bus).due_for_purge(NOW_MS + 1)
    bus.lag = lambda _stream: 0
    one.do(append(REPLIES, records(1)))
    one.pull(Pull(REPLIES, 1, NOW_MS, reader=Reader("r")))
    bus.asked.clear()
    told = found.totals()
    assert len(bus.asked) < 10
    assert told == surveying(bus).totals()
    assert told.in_hand.pages == 1
    one.pull(Pull(REPLIES, 1, NOW_MS, reader=Reader("r")))
    assert found.totals() == told
    one.pull(Pull(REPLIES, 0, NOW_MS, reader=Reader("r", 1)))
    assert found.totals().in_hand.pages == 0


@pytest.mark.parametrize("fresh", [False, True])
def test_the_oldest_that_waits_is_told_wherever_the_head_is(bus: MemoryBus, fresh: bool) -> None:
    """Of processes that have read what is at the head, and of those that have not."""
    found, process = surveying(bus), Process(bus)
    for number in range(4):
        process.do(append(STATUSES, records(100), NOW_MS + number))
    for cursor, taken in enumerate([40, 60, 30, 70, 100, 50, 50], 1):
        process = Process(bus) if fresh else process
        assert process.pull(pull(STATUSES, taken)).count == taken
        left = sum([40, 60, 30, 70, 100, 50, 50][:cursor])
        expected = None if left == 400 else NOW_MS + left // 100
        assert found.totals().of[Kind.DELIVERY_STATUS].oldest_ms == expected


@pytest.mark.anyio
async def test_polls_that_come_together_share_one_look_and_none_that_began_before() -> None:
    asked: list[list[str]] = []
    begun: asyncio.Queue[list[str]] = asyncio.Queue()
    waits = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(things: Sequence[str]) -> dict[str, int | Exception]:
        asked.append(sorted(things))
        number = len(asked)
        loop.call_soon_threadsafe(begun.put_nowait, asked[-1])
        asyncio.run_coroutine_threadsafe(waits.wait(), loop).result()
        return dict.fromkeys(things, number)

    looks: Looks[str, int] = Looks(look, lambda thing: thing[0])
    first = [asyncio.create_task(looks.at(thing)) for thing in ("a1", "a1", "a2")]
    assert await begun.get() == ["a1", "a2"]
    other = asyncio.create_task(looks.at("b1"))
    assert await begun.get() == ["b1"]
    later = [asyncio.create_task(looks.at(thing)) for thing in ("a1", "a3")]
    await asyncio.sleep(0)
    waits.set()
    await asyncio.gather(*first, other, *later)
    assert asked == [["a1", "a2"], ["b1"], ["a1", "a3"]]
    assert {task.result() for task in first} == {1}
    assert {task.result() for task in later} == {3}
    await looks.close()


@pytest.mark.anyio
async def test_a_look_that_fails_fails_those_who_share_it_and_no_other() -> None:
    def look(things: Sequence[int]) -> dict[int, int | Exception]:
        if 0 in things:
            raise ZeroDivisionError
        return {thing: LookupError() if thing < 0 else 1 for thing in things}

    looks: Looks[int, int] = Looks(look)
    found = await asyncio.gather(looks.at(0), looks.at(0), looks.at(1), return_exceptions=True)
    assert [type(each) for each in found] == [ZeroDivisionError] * 3
    others = await asyncio.gather(looks.at(-1), looks.at(2), return_exceptions=True)
    assert [type(each) for each in others] == [LookupError, int]
    assert await looks.at(1) == 1


@pytest.mark.anyio
async def test_a_journal_is_told_with_what_came_of_its_rows_however_long_it_is(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of it meanwhile has a bound."""
    one.do(append(STATUSES, records(40)))
    one.pull(Pull(STATUSES, 2, NOW_MS, reader=Reader("r")))
    for _ in range(5):
        one.pull(pull(STATUSES, 3))
    one.pull(Pull(STATUSES, 2, NOW_MS + 7, reader=Reader("r", 1)))
    lists = Lists(bus, LAYOUT)
    told = [row async for row in lists.journal(STATUSES, 1, newest_first=False)]
    assert [row.count for row in told] == [2, *[3] * 5, 2]
    assert told[0].acked_ms == NOW_MS + 7
    bus.asked.clear()
    for kept in (1, 2, 6, 7, 8):
        monkeypatch.setattr("pullstatus.store.jetstream.lists.KEPT_MAX", kept)
        for first_seq in (1, 3, 4, 18):
            again = [row async for row in lists.journal(STATUSES, first_seq, newest_first=False)]
            assert again == [row for row in told if row.first_seq >= first_seq]

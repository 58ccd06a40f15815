"""Several processes at one committer: in what order each learns what the others did."""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreUnavailable
from pullstatus.store.gathering import committer
from pullstatus.store.gathering.committer import LOOK_LEAST_S, NOTICE_S, Committer, Report
from pullstatus.store.gathering.frames import Frames, frame
from pullstatus.store.gathering.hub import Hub
from pullstatus.store.gathering.messages import END, Watch, ask, ask_to_watch, read_told
from pullstatus.store.gathering.operations import Operation
from pullstatus.store.gathering.process import JoinedChannel, ProcessChannel
from pullstatus.store.gathering.waiting import WaitingTable, make_table
from pullstatus.store.gathering.writer import Writer
from tests.harness import PATIENCE_S
from tests.store.build import STATUSES, append, pull, until
from tests.store.gathering.memory import BOX, MemoryLog, open_memory

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


class End:
    """One process's end, by hand."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._frames = Frames(read_told)
        self._told: list[Any] = []

    def send(self, message: bytes) -> None:
        self.socket.sendall(b"".join(frame(message)))

    def do(self, *operations: Operation) -> None:
        self.send(ask(operations))

    @property
    def readable(self) -> bool:
        return bool(self._told or select.select([self.socket], [], [], 0)[0])

    def report(self) -> Report:
        while not self._told:
            count = self.socket.recv_into(self._frames.free())
            assert count
            self._told += self._frames.arrived(count)
        report = self._told.pop(0)
        assert isinstance(report, Report)
        return report

    def answered(self) -> Report:
        """The next report that answers something."""
        while not (report := self.report()).answers:
            pass
        return report


class Watching(WaitingTable):
    """Calls before it writes."""

    before: Callable[[Mapping[int, int]], None] = staticmethod(lambda _: None)

    def tell(self, waiting: Mapping[int, int]) -> None:
        self.before(waiting)
        super().tell(waiting)


class Poll:
    """Passes everything on to a poll, and keeps how long it was to wait, in milliseconds."""

    def __init__(self, real: select.poll) -> None:
        self.waits: list[float] = []
        self._real = real

    def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
        if timeout_ms:
            self.waits.append(timeout_ms)
        return self._real.poll(timeout_ms)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the real one
        return getattr(self._real, name)


class Running:
    """A hub on a thread of its own, over a log in memory."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self._table = make_table()
        self.table = Watching(self._table, writes=True)
        owner, theirs = socket.socketpair()
        self._door, its_side = socket.socketpair()
        self.ends = [owner, theirs, self._door, its_side]
        self.owner = End(owner)
        self.hub = Hub(Committer(self.log), theirs, its_side, self.table)
        self.poll = self.hub._poll = Poll(self.hub._poll)  # type: ignore[assignment]
        self.raised: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.owner.report()

    def _run(self) -> None:
        try:
            self.hub.work()
        except BaseException as error:  # noqa: BLE001 - for whoever looks
            self.raised.append(error)

    def join(self) -> End:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._door, [b"."], [theirs.fileno()])
        ours.settimeout(PATIENCE_S)
        end = End(ours)
        self.ends.append(ours)
        assert end.report().waiting == {}
        return end

    def close(self) -> None:
        for member in self.hub._members.values():
            member.end.close()
        for end in self.ends:
            end.close()
        self.table.close()
        os.close(self._table)

    def over(self) -> None:
        self.owner.send(END)
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    if made.thread.is_alive():
        made.over()
    made.close()


def test_what_waits_is_in_the_table_before_anybody_is_answered(running: Running) -> None:
    """Else whoever has an answer finds nothing through another process for a moment."""
    one, other = running.join(), running.join()
    seen: list[tuple[bool, bool]] = []

    def before(waiting: Mapping[int, int]) -> None:
        if waiting:
            seen.append((one.readable, other.readable))

    running.table.before = before
    other.send(ask_to_watch(Watch(BOX, 1.0)))
    other.do(pull(STATUSES))
    other.answered()
    seen.clear()
    one.do(append(STATUSES, [b"1"]))
    assert one.answered().answers == [1]
    assert running.table.get(BOX) == 1
    assert seen == [(False, False)], "the answer came first"
    assert other.report().waiting == {BOX: 1}, "who watches is told"


def test_answers_go_to_who_has_asked_in_order(running: Running) -> None:
    ends = [running.join() for _ in range(3)]
    for _ in range(50):
        for number, end in enumerate(ends, 1):
            end.do(*[append(STATUSES, [b"x"] * number)] * number)
    for number, end in enumerate(ends, 1):
        answers: list[object] = []
        while len(answers) < 50 * number:
            answers += end.answered().answers
        assert answers == [number] * (50 * number)


def test_only_who_watches_is_told_of_what_others_do(running: Running) -> None:
    one, other, third = running.join(), running.join(), running.join()
    other.send(ask_to_watch(Watch(BOX, 1.0)))
    other.do(append(STATUSES, [b"1"]))
    other.answered()
    other.send(ask_to_watch(Watch(BOX, None)))
    other.do(append(STATUSES, [b"2"]))
    other.answered()
    one.do(append(STATUSES, [b"3"]))
    one.answered()
    assert not other.readable
    assert not third.readable
    assert not running.owner.readable
    running.owner.do(append(STATUSES, [b"4"]))
    report = running.owner.answered()
    assert report.waiting == {BOX: 4}, "the owner, for its sums, with its next answer"
    assert report.took is not None
    assert sum(report.took[1]) == 4


def test_who_begins_to_watch_learns_what_has_come_since_it_looked(running: Running) -> None:
    one, other = running.join(), running.join()
    one.do(append(STATUSES, [b"1"]))
    one.answered()
    other.send(ask_to_watch(Watch(BOX, 1.0)))
    assert other.report().waiting == {BOX: 1}


def test_who_waits_longest_is_told_and_then_the_next(running: Running) -> None:
    """Whose first came first, whatever became of those before it."""
    one, other, third = running.join(), running.join(), running.join()
    for end, since_s in ((one, 3.0), (other, 1.0), (third, 2.0)):
        end.send(ask_to_watch(Watch(BOX, since_s)))
        end.do(pull(STATUSES))
        end.answered()
    running.owner.do(append(STATUSES, [b"1"]))
    running.owner.answered()
    assert other.report().waiting == {BOX: 1}
    assert not one.readable
    assert not third.readable
    other.send(ask_to_watch(Watch(BOX, 4.0)))  # its first has left, and something is left
    assert third.report().waiting == {BOX: 1}
    third.socket.close()
    assert one.report().waiting == {BOX: 1}
    one.do(pull(STATUSES))
    one.answered()
    one.send(ask_to_watch(Watch(BOX, None)))
    one.do(append(STATUSES, [b"2"]))
    one.answered()
    assert other.report().waiting == {BOX: 1}
    assert not one.readable


def test_one_that_reads_nothing_holds_up_nobody(running: Running) -> None:
    """As one that is stopped: its answers wait for it, however much they are."""
    slow, other = running.join(), running.join()
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    big = b"x" * 1_000_000
    for _ in range(8):
        slow.do(append(STATUSES, [big]), pull(STATUSES))
    for _ in range(20):
        other.do(append(STATUSES, [b"1"]))
        assert other.answered().answers == [1]
        other.do(pull(STATUSES))
        other.answered()
    taken = b""
    answers: list[Any] = []
    while len(answers) < 16:
        answers += slow.answered().answers
    for page in answers[1::2]:
        taken += page.data if isinstance(page.data, bytes) else bytes(page.data)
    assert taken.count(b"x") == 8_000_000


def test_one_that_stands_still_leaves_arrivals_to_others_that_watch(running: Running) -> None:
    """However much has come, and whoever is first; and it learns of it when it goes on."""
    still, next_one, last = (running.join() for _ in range(3))
    for since_s, end in enumerate((still, next_one, last), 1):
        end.send(ask_to_watch(Watch(BOX, float(since_s))))
        end.do(pull(STATUSES))
        end.answered()
    running.owner.do(append(STATUSES, [b"1"]))
    running.owner.answered()
    assert not next_one.readable
    for _ in range(3):
        running.owner.do(append(STATUSES, [b"2"]))
        running.owner.answered()
        assert next_one.report().waiting == {BOX: 1}
        assert not last.readable
        next_one.do(pull(STATUSES))
        next_one.answered()
    running.owner.do(append(STATUSES, [b"3"]))
    running.owner.answered()
    assert still.report().waiting == {BOX: 1}


def behind(running: Running) -> tuple[End, Any]:
    """One that watches and reads nothing, of which the kernel takes no more; and its member."""
    still = running.join()
    still.send(ask_to_watch(Watch(BOX, 1.0)))
    still.do(append(STATUSES, [b"1"]))
    still.answered()
    [member] = running.hub._watchers[BOX]
    member.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    while not member.owed:
        running.owner.do(append(STATUSES, [b"1"]))
        running.owner.answered()
    return still, member


def test_no_more_is_kept_for_one_that_stands_still_than_it_has_asked_for(running: Running) -> None:
    still, member = behind(running)
    kept = len(member._unsent)
    for _ in range(50):
        running.owner.do(append(STATUSES, [b"1"]))
        running.owner.answered()
    assert len(member._unsent) == kept
    assert set(member.untold) == {BOX}
    still.do(pull(STATUSES))
    assert still.answered().answers
    assert member.untold == {}


def test_one_that_is_behind_learns_how_everything_stands_when_it_goes_on(running: Running) -> None:
    still, _ = behind(running)
    running.log.fails["commit"] = OutcomeUnknown("the disk")
    running.owner.do(append(STATUSES, [b"1"]))
    running.owner.answered()
    while (report := still.report()).failure is None:
        pass
    assert report.waiting == {BOX: 1}


def test_one_that_is_gone_is_forgotten_and_the_others_go_on(running: Running) -> None:
    one, other = running.join(), running.join()
    one.send(ask_to_watch(Watch(BOX, 1.0)))
    one.do(append(STATUSES, [b"1"]))
    one.socket.close()
    other.do(pull(STATUSES))
    other.answered()
    other.do(append(STATUSES, [b"2"]))
    assert other.answered().answers == [1]
    assert len(running.hub._members) == 2
    assert running.hub._watchers == {}


def test_one_that_leaves_has_its_answers_first(running: Running) -> None:
    one = running.join()
    one.do(append(STATUSES, [b"1"]))
    one.send(END)
    assert one.answered().answers == [1]
    assert one.socket.recv(1) == b""


def test_a_failure_is_told_to_all_at_once(running: Running) -> None:
    one, other = running.join(), running.join()
    running.log.fails["commit"] = OutcomeUnknown("the disk")
    one.do(append(STATUSES, [b"1"]))
    assert isinstance(one.answered().answers[0], OutcomeUnknown)
    for end in (other, running.owner):
        assert isinstance(end.report().failure, OutcomeUnknown)
    other.do(append(STATUSES, [b"1"]))
    assert isinstance(other.answered().answers[0], StoreUnavailable)


async def test_it_waits_briefly_while_something_is_due(running: Running) -> None:
    """And looks then; else as long as others' changes may stay unseen."""
    waits, calls = running.poll.waits, running.log.calls
    await until(lambda: waits[-1:] == [1000 * NOTICE_S])
    running.log.due_s = 0.0
    await until(lambda: waits[-3:] == [1000 * LOOK_LEAST_S] * 3)
    assert calls[-2:] == ["watch"] * 2
    running.log.due_s = math.inf
    await until(lambda: waits[-1] == 1000 * NOTICE_S)


def test_what_comes_wakes_it(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it would wait, whether something is due or not."""
    monkeypatch.setattr(committer, "NOTICE_S", 3600.0)
    one = running.join()
    for running.log.due_s in (math.inf, 1800.0):
        for _ in range(2):
            one.do(append(STATUSES, [b"1"]))
            assert one.answered().answers == [1]


def test_without_its_owner_it_works_no_more(running: Running) -> None:
    running.join()
    running.owner.socket.close()
    running.thread.join(PATIENCE_S)
    assert [type(error) for error in running.raised] == [EOFError]


# --- over real channels ---------------------------------------------------------------------------


@pytest.fixture
async def owner(monkeypatch: pytest.MonkeyPatch) -> ProcessChannel:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the process imports the log from here
    return await ProcessChannel.open(open_memory, shared=True)


async def test_two_writers_at_one_committer(owner: ProcessChannel) -> None:
    first = Writer(owner, None)
    told: list[BaseException] = []
    workers = [
        Writer(await JoinedChannel.join(owner.share(2)), told.append, sharers=2) for _ in range(2)
    ]
    answers = [
        worker.submit(append(STATUSES, [b"1", b"2"])) for _ in range(300) for worker in workers
    ]
    assert await asyncio.gather(*answers) == [2] * 600
    await first.submit(append(STATUSES, [b"3"]))
    assert first.waiting == {BOX: 1202}
    assert owner.table.get(BOX) == 1
    assert sum(first.commits.counts) == first.report.figures.commits
    assert first.report.figures.operations == 601
    await workers[0].close()
    assert await workers[1].submit(append(STATUSES, [b"4"])) == 1
    await workers[1].close()
    await first.close()
    assert told == []


async def test_the_end_of_the_process_ends_all_who_joined(owner: ProcessChannel) -> None:
    told: asyncio.Queue[BaseException] = asyncio.Queue()
    writers = [Writer(owner, told.put_nowait)]
    for _ in range(2):
        channel = await JoinedChannel.join(owner.share(2))
        writers.append(Writer(channel, told.put_nowait))
    owner._process.kill()
    async with asyncio.timeout(PATIENCE_S):
        assert [type(await told.get()) for _ in range(3)] == [StoreFailed] * 3
    for writer in writers:
        with pytest.raises(StoreUnavailable):
            writer.submit(append(STATUSES, [b"1"]))
        await writer.close()

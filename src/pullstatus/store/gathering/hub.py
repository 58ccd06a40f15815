"""Several processes of one server at one committer, each over a socket of its own.

    the server   -- operations --.                        .-- table of what waits, for all
    worker 1     -- operations ---+->  one group, commit -+-> answers to each
    worker 2     -- operations --'                        '-> arrivals, to who watches

What all have sent by the time a commit begins shares it, and each has a window of its own of what
it may send; so none stands before another. Nobody is waited for: what one does not read waits here
for it, and is no more than it has asked.

The *owner*, which has started this process, is told of all changes, for its sums. The others learn
what waits from the table, which is written before any answer is sent. Of those who watch a mailbox,
since pulls wait there, one is told that something has come: whose first came first. If nothing was
heard of it since it was told the last time, the next one is told, too: it may stand still.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from pullstatus.durations import Durations
from pullstatus.store.gathering.committer import Committer, Report
from pullstatus.store.gathering.frames import Frames, frame
from pullstatus.store.gathering.groups import GROUP_MAX
from pullstatus.store.gathering.messages import Asked, Told, Watch, read_asked, tell
from pullstatus.store.gathering.operations import Operation
from pullstatus.store.gathering.waiting import WaitingTable


class _Member:
    """One process that has operations committed.

    Attributes:
        untold: what waits in mailboxes that it is to be told of, with its next report.
        watched: numbers of those that it watches.
        called: nothing was heard of it since it was told that something waits.
        owed: whether it is to be told how everything stands, once it takes more.
        leaves: it sends nothing more.
    """

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(0)
        self.end = end
        self.untold: dict[int, int] = {}
        self.watched: set[int] = set()
        self.called = self.owed = False
        self.leaves = False
        self._frames: Frames[Asked] = Frames(read_asked)
        self._unsent: deque[memoryview] = deque()

    def receive(self) -> Sequence[Asked]:
        """What has come.

        Raises:
            EOFError, ConnectionError: the process is gone.
        """
        try:
            count = self.end.recv_into(self._frames.free())
        except BlockingIOError:
            return ()
        if not count:
            raise EOFError
        return self._frames.arrived(count)

    def send(self, told: Told) -> None:
        """Send a message, or as much of it as is taken now: see `flush`."""
        self._unsent += map(memoryview, frame(tell(told)))
        self.flush()

    def report(self, report: Report, answers: Sequence[object] = ()) -> None:
        """Tell how everything stands, with answers to what it has asked."""
        untold, self.untold = self.untold, {}
        self.owed = False
        self.send(msgspec.structs.replace(report, answers=answers, waiting=untold))

    def flush(self) -> None:
        """Send what is left, as much as is taken; one that is gone is noticed by `receive`."""
        unsent = self._unsent
        try:
            while unsent:
                sent = self.end.sendmsg(list(islice(unsent, 16)))
                while unsent and sent >= len(unsent[0]):
                    sent -= len(unsent.popleft())
                if unsent:
                    unsent[0] = unsent[0][sent:]
        except BlockingIOError:
            return
        except OSError:
            unsent.clear()

    @property
    def behind(self) -> bool:
        """Whether something is left to be sent."""
        return bool(self._unsent)


class Hub:
    """A committer, and all who have operations committed by it."""

    def __init__(
        self, committer: Committer, owner: socket.socket, door: socket.socket, table: WaitingTable
    ) -> None:
        """Nobody is told anything yet: see `work`.

        Args:
            owner: the end of the process that has started this one.
            door: brings the ends of further ones.
            table: written here, read by all.
        """
        self._committer = committer
        self._door = door
        self._table = table
        self._owner = _Member(owner)
        self._members = {owner.fileno(): self._owner}
        self._leaving: set[_Member] = set()
        self._watchers: dict[int, dict[_Member, float]] = {}  # since when each one's first waits
        self._commits = Durations()
        self._commit_s = 0.0
        self._poll = select.poll()
        for end in (owner, door):
            self._poll.register(end, select.POLLIN)

    def work(self) -> None:
        """Commit what comes until the owner wants no more.

        Raises:
            EOFError, ConnectionError: the owner is gone.
        """
        self._greet(self._owner)
        while not self._owner.leaves:
            asked = self._receive()
            if asked is None:
                news = self._committer.watch()
            elif asked:
                self._commit(asked)
                news = self._committer.tend()
            else:
                news = None
            if news is not None:
                self._tell_all(news)
            for member in [one for one in self._leaving if not one.behind]:
                self._let_go(member)

    def _receive(self) -> list[tuple[_Member, Sequence[Operation]]] | None:
        """What has come from everybody; None: nothing did for a while."""
        asked: list[tuple[_Member, Sequence[Operation]]] = []
        count, timeout_s = 0, self._committer.patience_s()
        while count < GROUP_MAX and (ready := self._poll.poll(1000 * timeout_s)):
            for number, event in ready:
                if number == self._door.fileno():
                    self._let_in()
                    continue
                member = self._members[number]
                if event & select.POLLOUT:
                    self._flush(member)
                if event & ~select.POLLOUT:
                    for operations in self._read(member):
                        asked.append((member, operations))
                        count += len(operations)
            timeout_s = 0
        return None if timeout_s else asked

    def _read(self, member: _Member) -> list[Sequence[Operation]]:
        try:
            messages = member.receive()
        except (EOFError, ConnectionError):
            if member is self._owner:
                raise
            self._let_go(member)
            return []
        if messages:
            member.called = False
        found: list[Sequence[Operation]] = []
        for message in messages:
            if isinstance(message, Watch):
                self._watch(member, message)
            elif message is None:
                member.leaves = True
                if member is not self._owner:
                    self._leaving.add(member)  # with its answers
            else:
                assert isinstance(message, list)
                found.append(message)
        return found

    def _commit(self, asked: Sequence[tuple[_Member, Sequence[Operation]]]) -> None:
        report = self._committer.commit(
            [operation for _, operations in asked for operation in operations]
        )
        commit_s = report.figures.commit_s
        if commit_s != self._commit_s:
            self._commits.add(commit_s - self._commit_s)
            self._commit_s = commit_s
        answers: dict[_Member, list[object]] = {}
        left = iter(report.answers)
        for member, operations in asked:
            own = answers.setdefault(member, [])
            own += [next(left) for _ in operations]
        # Before any answer: whoever has one may ask through another process what it has made.
        woken = self._note(report.waiting)
        told = self._members.values() if report.failure is not None else answers.keys() | woken
        for member in list(told):
            if member.end.fileno() != -1:
                self._report(member, report, answers.get(member, ()))

    def _note(self, waiting: Mapping[int, int]) -> set[_Member]:
        """Let all know what waits now; returns those that are to be told, since they watch."""
        self._table.tell(waiting)
        self._owner.untold.update(waiting)
        woken = (
            self._wake(number)
            for number in waiting.keys() & self._watchers.keys()
            if waiting[number]
        )
        return set().union(*woken)

    def _wake(self, number: int) -> set[_Member]:
        """Who is to be told that something waits: whose first came first, and who may stand still.

        Those of whom nothing was heard since the last time are told, too: they may have found
        nothing to do.
        """
        watchers = self._watchers[number]
        woken: set[_Member] = set()
        for member in sorted(watchers, key=watchers.__getitem__):
            member.untold[number] = 1
            woken.add(member)
            if not member.called:
                member.called = True
                break
        return woken

    def _tell_all(self, report: Report) -> None:
        self._note(report.waiting)
        for member in list(self._members.values()):
            self._report(member, report)

    def _report(self, member: _Member, report: Report, answers: Sequence[object] = ()) -> None:
        """Tell a member how everything stands; if it is behind, and has asked nothing, later."""
        if member.behind and not answers:
            member.owed = True
            return
        if member is self._owner:
            took = (self._commits.sum_s, self._commits.counts)
            report = msgspec.structs.replace(report, took=took)
        member.report(report, answers)
        self._see_to(member)

    def _greet(self, member: _Member) -> None:
        """Tell a new one how everything stands."""
        report = self._committer.opening()
        self._note(report.waiting)
        self._report(member, report)

    def _let_in(self) -> None:
        """Take in another process, whose end has come through the door."""
        _, ends, _, _ = socket.recv_fds(self._door, 1, 1)
        for number in ends:
            member = _Member(socket.socket(fileno=number))
            self._members[number] = member
            self._poll.register(number, select.POLLIN)
            self._greet(member)

    def _let_go(self, member: _Member) -> None:
        """Forget one that is gone. What it had asked was done, and nobody hears of it."""
        self._leaving.discard(member)
        del self._members[member.end.fileno()]
        self._poll.unregister(member.end)
        member.end.close()
        for number in member.watched:
            self._watched(member, number, None)

    def _watch(self, member: _Member, watch: Watch) -> None:
        if watch.since_s is None:
            member.watched.discard(watch.number)
        else:
            member.watched.add(watch.number)
        self._watched(member, watch.number, watch.since_s)

    def _watched(self, member: _Member, number: int, since_s: float | None) -> None:
        """Know who watches now, and tell who is first now, if there may be something for him."""
        watchers = self._watchers.setdefault(number, {})
        if since_s is None:
            watchers.pop(member, None)
        else:
            watchers[member] = since_s
        if not watchers:
            del self._watchers[number]
        elif self._table.get(number) != 0:
            for woken in self._wake(number):
                self._report(woken, self._committer.standing())

    def _flush(self, member: _Member) -> None:
        member.flush()
        if member.owed and not member.behind:
            self._report(member, self._committer.standing())
        self._see_to(member)

    def _see_to(self, member: _Member) -> None:
        """Wake up when a member takes more, as long as something is left for it."""
        events = select.POLLIN | (select.POLLOUT if member.behind else 0)
        self._poll.modify(member.end, events)

"""A store, all its clients and the machine under it, under one seed.

Clients begin operations in groups, as the writer does, and remember what they were told. When
power is cut, the operations in flight have an unknown outcome. What is found on the disk afterwards
must make sense with everything that was answered before: `Life.recover` looks at once.

What clients do is told in `workload.py`. Here it is only a `Plan`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import astuple, dataclass, field
from pathlib import Path
from random import Random
from typing import cast
from unittest import mock

import apsw

from pullstatus import limits
from pullstatus.errors import (
    OutcomeUnknown,
    PullstatusError,
    StoreCorrupt,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
)
from pullstatus.records import Kind
from pullstatus.store.gathering.operations import Answer, Changes, PackedPage, packed
from pullstatus.store.gathering.operations import Operation as StoreOperation
from pullstatus.store.sqlite import fingerprints
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.recovery import check_sound
from pullstatus.store.sqlite.states import States
from pullstatus.store.values import Act, Append, Mailbox, Page
from tests.sim import checker
from tests.sim.checker import Delivery, Seen, Verb
from tests.sim.disk import NEVER, VFS_NAME, Disk, DiskPath, PowerCut
from tests.sim.found import Found, PromiseBroken, Range, look

MAILBOXES = (
    Mailbox(1400000001, Kind(0)),
    Mailbox(1400000001, Kind(1)),
    Mailbox(1400000002, Kind(0)),
)
HOUR_MS = 3_600_000
BORN_MS = 1_750_000_000_000
REST_MS = 80 * HOUR_MS  # between two lives of one store: longer than anything is remembered


@contextlib.contextmanager
def remembering_little() -> Iterator[None]:
    """With few fingerprints in memory: the index takes some of them in many a commit."""
    with (
        mock.patch.object(limits, "FINGERPRINTS_RECENT_MAX", 12),
        mock.patch.object(fingerprints, "INDEXED_KEYS", 5),
    ):
        yield


STOPS = (OutcomeUnknown, StoreFailed, StoreRefused)
"""After one of these a log is used no more. `StoreCorrupt` is one of the last."""


def unchanged(connection: apsw.Connection) -> apsw.Connection:
    """The connection as the product sets it up."""
    return connection


@dataclass(frozen=True)
class Setup:
    """What a life runs on. The harness is tested by planting bugs here.

    Attributes:
        connect: what the log is given for a connection that was set up.
        make_log: makes the log.
        folds: whether the store is opened as a server does it.
        ignores_sync: see `Disk`.
    """

    connect: Callable[[apsw.Connection], apsw.Connection] = unchanged
    make_log: Callable[[apsw.Connection, States], Log] = Log
    folds: bool = True
    ignores_sync: bool = False


@dataclass
class Plan:
    """One operation before its commit.

    Attributes:
        operation: what the log is given.
        entry: its line in the history, if the checker cares.
        settle: judges and remembers its answer.
        refusals: errors that may be its answer.
        happened: says after a cut whether the store shows it; None if that cannot be told.
        looks: its answer can only be judged by looking at the store.
        beside: another line in the history, of what it puts into a second mailbox.
    """

    operation: StoreOperation
    entry: checker.Operation | None = None
    settle: Callable[[Answer], None] = lambda _answer: None
    refusals: tuple[type[PullstatusError], ...] = ()
    happened: Callable[[Found], bool | None] = lambda _found: None
    looks: bool = False
    beside: checker.Operation | None = None

    @property
    def lines(self) -> list[checker.Operation]:
        """Its lines in the history."""
        return [line for line in (self.entry, self.beside) if line is not None]


@dataclass
class Batch:
    """An append that its sender may send again."""

    operation: Append
    entry: checker.Operation


@dataclass
class Push:
    """Records and what could not be read beside them, as a sender sends them again."""

    mailbox: Mailbox
    records: list[Delivery]
    items: list[Delivery]


@dataclass
class KeyedPull:
    """A pull that its client may send again, and the page it was given, once it was."""

    mailbox: Mailbox
    count_max: int
    key: str
    page: Page | None = None


@dataclass
class Consumer:
    """A program that comes as a reader, and what it knows.

    Attributes:
        ack: first number of the page that it would acknowledge: the last one that it was handed.
        hand: the page that is in its hand, if it was told of one.
        unsure: an acknowledgement of its may have happened, or not.
        done: first numbers of the pages that were certainly acknowledged.
    """

    mailbox: Mailbox
    name: str
    ack: int | None = None
    hand: Page | None = None
    unsure: bool = False
    done: set[int] = field(default_factory=set)


@dataclass
class Signature:
    """What may be used once, and whether it certainly was."""

    sdkappid: int
    nonce: str
    until_ms: int
    used: bool = False


@dataclass
class Tally:
    """What some lives came to. Records that a life began with do not count."""

    cycles: int = 0
    cuts: int = 0
    operations: int = 0
    acknowledged: int = 0
    delivered: int = 0
    recovered: int = 0
    limbo: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(sum(pair) for pair in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.cuts:,} cuts in {self.cycles:,} lives with {self.operations:,} operations: "
            f"0 lost of {self.acknowledged:,} acknowledged, 0 twice of {self.delivered:,} "
            f"delivered ({self.recovered:,} recovered, {self.limbo:,} in lost answers)"
        )


class Life:
    """See above.

    Attributes:
        rng: every choice of this life.
        disk: where the store is now.
        history: what all clients did and saw.
        cuts: how often power was cut.
        now_ms: the true time.
        settings: as clients know them.
        found: the newest look at the store.
        report: what the checker said at the end.
        batches, pushes, keyed_pulls, signatures, pages, acts: what clients may come back to.
        later: to be done when the group that is being planned has been answered.
        consumers: readers, by mailbox and name.
        takers: all operations that take entries, by the name the journal has for them.
        taken: these names, by mailbox and first number of what was taken.
        copies: the records that redeliveries make, by their detail and range.
        left: the ids that each taker took, also once they are purged.
        followed: up to where each mailbox was, as it was answered.
        names: when each block of names was accepted that was answered, or seen.
        forgotten_ms: what was accepted before may be forgotten.
    """

    def __init__(self, seed: str, setup: Setup | None = None, before: Life | None = None) -> None:
        """Begin on an empty disk, or go on days after `before`, which stays as it is."""
        self.seed = seed
        self.rng = Random(seed)
        self.setup = setup or Setup()
        self.cuts = 0
        self.disk: Disk = Disk() if before is None else before.disk.copy()
        self.disk.ignores_sync = self.setup.ignores_sync
        self.history: list[checker.Operation] = []
        self.now_ms = BORN_MS
        self.settings: dict[str, bytes | None] = {}
        self.found = Found()
        self.report: checker.Report | None = None
        self.batches: list[Batch] = []
        self.pushes: list[Push] = []
        self.keyed_pulls: list[KeyedPull] = []
        self.signatures: list[Signature] = []
        self.pages: list[tuple[Range, list[bytes]]] = []
        self.acts: list[Act] = []
        self.later: list[Callable[[], None]] = []
        self.consumers: dict[tuple[Mailbox, str], Consumer] = {}
        self.takers: dict[str, checker.Operation] = {}
        self.taken: dict[tuple[Mailbox, int], str] = {}
        self.copies: dict[str, dict[Range, list[Delivery]]] = {}
        self.left: dict[str, list[int]] = {}
        self.followed: dict[Mailbox, int] = {}
        self.names: dict[bytes, int] = {}
        self.forgotten_ms = 0
        self._copy_ids: dict[tuple[Mailbox, int], int] = {}
        self._inherited = 0
        self._ticks = 0
        self._record_count = 0
        self._connection: apsw.Connection | None = None
        self._log: Log | None = None
        self._in_flight: Sequence[Plan] = ()
        self._refused: list[Plan] = []
        if before is not None:
            self._inherit(before)

    def _inherit(self, before: Life) -> None:
        self.history += before.history
        self._inherited = len(before.history)
        self.now_ms = before.now_ms + REST_MS
        self.settings |= before.settings
        self.pages += before.pages
        self.consumers = deepcopy(before.consumers)
        self.takers |= before.takers
        self.taken |= before.taken
        self.copies |= before.copies
        self.left |= before.left
        self.followed |= before.followed
        self.names |= before.names
        self.forgotten_ms = before.forgotten_ms
        self._copy_ids |= before._copy_ids
        self._ticks = before._ticks
        self._record_count = before._record_count

    # -- clients -----------------------------------------------------------------------------------

    def commit(self, group: Sequence[Plan]) -> None:
        """Begin operations and learn what became of them.

        Raises:
            PowerCut, StoreUnavailable, OutcomeUnknown, StoreCorrupt: as the store did.
            PromiseBroken: an answer was wrong.
        """
        if self._refused:
            self._judge_refused(self.look())  # before their clients try again
        self._in_flight = group
        for plan in group:
            for line in plan.lines:
                line.invoked = self._tick()
                self.history.append(line)
        try:
            # As at the two ends of a channel.
            operations = [
                packed(operation) if isinstance(operation, Append) else operation
                for operation in (plan.operation for plan in group)
            ]
            with remembering_little():
                answers = [
                    answer.opened() if isinstance(answer, PackedPage) else answer
                    for answer in self.log.commit(operations)
                ]
        except (StoreUnavailable, StoreCorrupt):
            self._in_flight = ()
            self._refused += group
            for plan in group:
                self._end(plan, Seen.FAIL)
            raise
        finally:
            for remember in self.later:
                remember()
            self.later.clear()
        self.notice_cut()
        self._in_flight = ()
        for plan, answer in zip(group, answers, strict=True):
            refused = isinstance(answer, PullstatusError)
            if refused and not isinstance(answer, plan.refusals):
                raise PromiseBroken(f"{plan.operation} was refused: {answer!r}")
            self._end(plan, Seen.FAIL if refused else Seen.OK)
        if any(plan.looks for plan in group):
            self.look()
        for plan, answer in zip(group, answers, strict=True):
            if not isinstance(answer, PullstatusError):
                plan.settle(answer)

    def _end(self, plan: Plan, outcome: Seen) -> None:
        for line in plan.lines:
            line.completed = self._tick()
            line.outcome = outcome

    def _tick(self) -> int:
        self._ticks += 1
        return self._ticks

    def at_ms(self) -> int:
        """The time by a wall clock that is off by minutes."""
        return self.now_ms + self.rng.randrange(-300_000, 300_000)

    def records(self, sizes: Iterable[int]) -> list[Delivery]:
        """New records. Their data tell the id and hold no comma, so that a page can be taken apart.

        Args:
            sizes: of each, in bytes besides the id.
        """
        return [(record := self.new_id(), _data(record, size)) for size in sizes]

    def new_id(self) -> int:
        """The id of a new record."""
        self._record_count += 1
        return self._record_count

    def deliveries(self, taken: Range, data: Iterable[bytes]) -> list[Delivery]:
        """What a range holds, copies under ids of their own."""
        return [
            (self._copy_ids.get((taken.mailbox, seq)) or record_id(piece), piece)
            for seq, piece in enumerate(data, start=taken.first_seq)
        ]

    def tally(self) -> Tally:
        """What this life came to."""
        own = self.history[self._inherited :]
        ok = [entry for entry in own if entry.outcome is Seen.OK]
        report = self.report or checker.Report()
        return Tally(
            1,
            self.cuts,
            len(own),
            len({id_ for entry in ok if entry.verb is Verb.INGEST for id_, _ in entry.records}),
            len({id_ for entry in ok if entry.verb is Verb.PULL for id_, _ in entry.records}),
            report.recovered,
            report.limbo,
        )

    # -- the store and its machine -----------------------------------------------------------------

    @property
    def log(self) -> Log:
        """The log, opened if it is not."""
        if self._log is None:
            self._connection = self.setup.connect(
                open_writer(self.disk.path(), fold=self.setup.folds, vfs=VFS_NAME)
            )
            states = States(self._connection, server=self.setup.folds)
            self._log = self.setup.make_log(self._connection, states)
        return self._log

    @property
    def connection(self) -> apsw.Connection:
        """The open log's connection, to look at the store with."""
        _ = self.log
        return cast("apsw.Connection", self._connection)

    def close(self, *, fold: bool = True) -> None:
        """Close the store, in peace or after a failure."""
        log, self._log = self._log, None
        connection, self._connection = self._connection, None
        if log is not None and connection is not None:
            try:
                log.close(fold=fold)
            except apsw.Error:
                # SQLite itself tells nobody what went wrong when it closes.
                connection.close(True)
            self.notice_cut()

    def notice_cut(self) -> None:
        """End here if there is no power, even if nobody has noticed."""
        if self.disk.dark:
            raise PowerCut

    def cut(self) -> None:
        """Cut power, unless it is gone already; find the disk that is left."""
        self.cuts += 1
        self.move(self.disk.crash(self.rng))

    def kill(self) -> None:
        """End the process, but not the machine: what was written stays, synced or not."""
        self.move(self.disk.copy())

    def move(self, disk: Disk) -> None:
        """Go on with another disk; the process on the old one is no more."""
        self.disk.abandoned = True
        if self._connection is not None:
            with contextlib.suppress(apsw.Error):
                self._connection.close(True)
        self._log = self._connection = None
        self.disk = disk

    def recover(self, *, cut_again: float = 0.0) -> None:
        """Open the store, look at all of it, and learn what became of what was in flight.

        Args:
            cut_again: how likely power is cut while it recovers, each time it tries.

        Raises:
            PromiseBroken: it is not as it may be.
        """
        while True:
            self.disk.left = NEVER
            if self.rng.random() < cut_again:
                self.disk.left = self.rng.randrange(self.rng.choice((6, 40)))
            try:
                if self.rng.random() < 0.3:
                    self.check_sound()
                _ = self.log
                self.notice_cut()
            except PowerCut:
                self.cut()
                continue
            self.disk.left = NEVER
            break
        found = self.look()
        verdicts = {
            verdict for plan in self._in_flight if (verdict := plan.happened(found)) is not None
        }
        if len(verdicts) > 1:
            raise PromiseBroken("a commit came back in part")
        self._judge_refused(found)
        self._learn_settings(found)
        self._in_flight = ()

    def _judge_refused(self, found: Found) -> None:
        if any(plan.happened(found) for plan in self._refused):
            raise PromiseBroken("what was refused happened")
        self._refused.clear()

    def check_sound(self) -> None:
        """What a server asks before it serves: a cut must never look like damage.

        Raises:
            StoreCorrupt: it does.
        """
        path = DiskPath(self.disk)
        if not path.exists() or not path.stat().st_size:
            return
        connection = apsw.Connection(
            self.disk.path(), flags=apsw.SQLITE_OPEN_READONLY, vfs=VFS_NAME
        )
        # With locks, a connection that only reads could not get the one that this takes.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        try:
            check_sound(connection, cast("Path", path))
        finally:
            connection.close()

    def _learn_settings(self, found: Found) -> None:
        possible = {name: {value} for name, value in self.settings.items()}
        for plan in self._in_flight:
            if isinstance(plan.operation, Changes):
                for change in plan.operation.changes:
                    possible.setdefault(change.name, {None}).add(change.value)
        for name, values in possible.items():
            value = found.settings.get(name)
            if value not in values:
                raise PromiseBroken(f"setting {name} is {value!r}")
            self.settings[name] = value

    def look(self) -> Found:
        """Look at the store, and remember what left and was copied before it can be purged."""
        connection, states = self.connection, self.log.states
        fault, self.disk.fault = self.disk.fault, None  # only the store's own calls fail
        self.found = found = look(connection, states)
        self.disk.fault = fault
        for mailbox, through in self.followed.items():
            if found.marks[mailbox].through < through:
                raise PromiseBroken(f"the mark of {mailbox} is back behind {through}")
        for body, at_ms in self.names.items():
            if body not in found.names and at_ms >= self.forgotten_ms:
                raise PromiseBroken(f"names that came at {at_ms} are lost")
        self.names = dict(found.names)
        for detail, places in found.copies.items():
            for source, first_seq in places.items():
                for seq, (record, _) in enumerate(self.copies[detail][source], start=first_seq):
                    self._copy_ids[source.mailbox, seq] = record
        for name, taken in found.left.items():
            self.taken[taken.mailbox, taken.first_seq] = name
            if name not in self.left:
                pieces = found.entries(taken)
                self.left[name] = [record for record, _ in self.deliveries(taken, pieces)]
        return found


def record_id(data: bytes) -> int:
    """The id that an entry tells; -1 if it is none of ours."""
    head, separator, _ = data.partition(b":")
    return int(head[1:]) if separator and head[1:].isdigit() else -1


def _data(record: int, size: int) -> bytes:
    return b'"%d:%s"' % (record, b"abcdefgh"[record % 8 :][:1] * size)

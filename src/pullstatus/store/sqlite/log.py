"""The log with a cursor in SQLite: groups of operations, one transaction each. No threads here.

`Log.commit` takes all that waits and makes it one transaction: `verbs` carry it out, and one sync
makes all of it durable.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import apsw

from pullstatus.errors import (
    OutcomeUnknown,
    PullstatusError,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    StoreMoved,
    StoreUnavailable,
)
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import (
    Answer,
    Enter,
    Moving,
    Operation,
    adds,
    weight,
)
from pullstatus.store.gathering.pace import STEP_S
from pullstatus.store.sqlite import pairing, transfer
from pullstatus.store.sqlite.gate import FileGate
from pullstatus.store.sqlite.place import is_full
from pullstatus.store.sqlite.states import States
from pullstatus.store.sqlite.tables import SqliteTables
from pullstatus.store.verbs.group import carry_out

# Everybody waits for a fold: some 5 ms for each MiB that is not in the file yet. Of what is written
# over and over, as by small commits, the log holds much and the file gets little.
CHECKPOINT_PAGES = 2048  # of the log, 8 MiB
CHECKPOINT_PAGES_IDLE = 256  # while nothing comes: who comes then waits about as for a join
CHECKPOINT_BYTES = 1024 * 1024  # of new entries

# Joining waits until there is enough to do for a commit, which has its price whatever is in it, and
# takes a tenth of the time at most, or half of it while nothing comes.
JOIN_PAUSE_S = 0.5
JOIN_PAUSES = 10  # times what the commit before took, if it did not do all
JOIN_PAUSES_IDLE = 1

_T = TypeVar("_T")


class Log:
    """One writing connection. Not for use by two threads at a time.

    Attributes:
        states: how each mailbox stands after the newest commit.
        gate: whether the store takes anything on.
        commits, commit_s, operations: how many wrote something, how long they took, and what
            shared them.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        states: States | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Commit to a connection that `open_writer` has set up.

        Args:
            states: of this connection; made for a command beside a server when not given.
            clock: of seconds, by which steps of upkeep end in time.

        Raises:
            StoreCorrupt: the file lacks what it knows repeated records by.
        """
        self._connection = connection
        self._clock = clock
        self.states = states or States(connection)
        with translated():
            self._tables = SqliteTables(connection, self.states)
            self.gate = FileGate(connection)
        self.commits = 0
        self.commit_s = 0.0
        self.operations = 0
        self._wal_pages = 0
        self._new_bytes = 0  # of entries, since the log was folded
        self._join_from_s = 0.0
        connection.set_wal_hook(self._count_wal_pages)
        self.notice_others()

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        """Carry out `group` as one transaction; one answer each, in order.

        An operation that breaks a rule (`KeyReused`, `ReplayRefused`, ...) gets that as its answer
        and leaves no trace; the others are durable on return.

        Raises:
            Undone: nothing happened, by a mistake of ours.
            StoreUnavailable: another process holds the file; nothing happened.
            StoreFull: no space is left; nothing happened.
            StoreFailed: the file can't be read or written; nothing happened; use this no more.
            StoreCorrupt: the file contradicts itself; nothing happened; use this no more.
            OutcomeUnknown: the commit failed on its way to the disk; use this no more.
            StoreMovedOn: what it held is elsewhere; nothing happened; use this no more.
        """
        connection = self._connection
        started = time.monotonic()
        changes = connection.total_changes()
        answers = self._durably(lambda: self._admitted(group))
        self._new_bytes += sum(map(weight, filter(adds, group)))
        if connection.total_changes() != changes:
            self.commits += 1
            self.operations += len(group)
            self.commit_s += time.monotonic() - started
        return answers

    def join(self, *, idle: bool = False) -> None:
        """Join small chunks for a moment, if there are some and it is time again.

        Changes nothing that can be asked for.

        Args:
            idle: nothing has come for a while, so what is left may follow soon.

        Raises: as `commit`.
        """
        joins = self._tables.joins
        if not joins.due or (began_s := self._clock()) < self._join_from_s:
            return
        self._join_from_s = began_s + JOIN_PAUSE_S

        def work() -> None:
            if not self.gate.shut:  # or both ends of a migration would go on differing
                joins.work(lambda: self._clock() < began_s + STEP_S)

        self._durably(work)
        if joins.due:
            now_s = self._clock()
            pauses = JOIN_PAUSES_IDLE if idle else JOIN_PAUSES
            self._join_from_s = now_s + pauses * (now_s - began_s)

    def join_in_s(self) -> float:
        """Seconds until `join` has something to do; infinite if there is nothing."""
        if not self._tables.joins.due or self.gate.shut:
            return math.inf
        return max(0.0, self._join_from_s - self._clock())

    def _durably(self, work: Callable[[], _T]) -> _T:
        """Do something as one transaction; it is durable on return. Raises as `commit`."""
        connection = self._connection
        with translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                self.states.begin()
                if self._tables.conditions.begin():
                    self.gate.look()
                self._tables.remembered.begin()
                answer = work()
                self._tables.remembered.write()
                self.states.write()
            except BaseException as error:
                # A full disk and some errors of it have SQLite roll back by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, Exception) and not isinstance(error, _FORESEEN):
                    raise Undone(error) from error
                raise
        try:
            connection.execute("COMMIT")
        except apsw.FullError as error:
            # A write fell short, so the log has no valid end of this commit: it did not happen.
            raise StoreFull(_FULL) from error
        except apsw.Error as error:
            raise OutcomeUnknown("the disk did not say whether a commit reached it") from error
        self.states.publish()
        self._tables.remembered.publish()
        self._tables.conditions.settle()
        return answer

    def recall(self) -> None:
        """Read what is remembered of records, in as far as it is to be in memory.

        For a server, so that no request waits for that. A command reads it when it needs it.
        """
        with translated():
            self._connection.execute("BEGIN")
            try:
                self._tables.remembered.begin()
                self._tables.remembered.recall()
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    def notice_others(self) -> None:
        """Learn what other processes changed since the last commit."""
        with translated():
            self._connection.execute("BEGIN")  # rows of one moment, or they seem to contradict
            try:
                self.states.begin()
                self.gate.look()
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    def checkpoint(self, least_pages: int = CHECKPOINT_PAGES) -> bool:
        """Fold the write-ahead log into the file once it is due; whether it did.

        It is once the log holds `least_pages`, or `CHECKPOINT_BYTES` of entries have come.

        Called between commits instead of SQLite's automatic one, which ignores its own errors: a
        sync that failed must stop the store, since a second try may report success for pages that
        the kernel has dropped.
        """
        if self._wal_pages < least_pages and self._new_bytes < CHECKPOINT_BYTES:
            return False
        with translated():
            pairing.fold(self._connection)
        self._wal_pages = self._new_bytes = 0
        return True

    def check_pair(self) -> None:
        """Refuse to go on with a file that the log does not belong to, or a log that was cut.

        Raises:
            StoreMoved: another file was written over the one that was opened, or over its log.
        """
        with translated():
            paired = pairing.is_paired(self._connection)
        if not paired:
            raise StoreMoved(
                f"{self._connection.filename} or its log was written over while it was in use, so"
                " what they hold is not known: restore a backup to a new name, and stop the server"
                " before anything of the kind"
            )

    def fold_for_good(self) -> None:
        """Fold all of the log into the file and empty it, by the handles that are open.

        For a file or log that has lost its name: closing would remove whatever bears the log's.
        What readers hold up stays in the log.
        """
        with contextlib.suppress(apsw.Error):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self, *, fold: bool = True) -> None:
        """Close the connection; the last one to close folds the log into the file.

        Args:
            fold: False after a failure: folding would sync again what could not be synced, and
                the second sync may report success for pages that the kernel has dropped.
        """
        if fold:
            pairing.close(self._connection)
            return
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()

    def _admitted(self, group: Sequence[Operation]) -> list[Answer]:
        """Carry out a group, or of one that a store takes on no more what makes it another."""
        moves = [operation for operation in group if isinstance(operation, Moving)]
        if len(moves) == len(group):
            return [self._move(operation) for operation in moves]
        refusal = self.gate.refusal()
        if refusal is not None:
            return [refusal] * len(group)
        self.gate.open_if_ready()
        return carry_out(self._tables, group, self._clock, self._move)

    def _move(self, operation: Moving) -> Answer:
        if isinstance(operation, Enter):
            return self.gate.enter(operation)
        refusal = self.gate.refusal_to_fill()
        return transfer.replace(self._connection, operation) if refusal is None else refusal

    def _count_wal_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK


_FORESEEN = (apsw.Error, PullstatusError, UnicodeDecodeError)
_FULL = "no space is left for the store; free some and try again"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Say what SQLite's errors mean for the caller; no name of its own climbs from here."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreUnavailable("another process holds the store; try again") from error
    except (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError) as error:
        raise StoreCorrupt(
            "the store's file is damaged: keep a copy of it, then restore a backup"
        ) from error
    except apsw.Error as error:
        if is_full(error):
            raise StoreFull(_FULL) from error
        raise StoreFailed(f"the store's file cannot be read or written ({error})") from error

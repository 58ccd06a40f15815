"""The log with a cursor in PostgreSQL: groups of operations, two trips each.

    trip 1    BEGIN; lock the group's mailboxes, in order; read all that it needs
    between   the verbs, on what was read
    trip 2    write; put down the group's mark; COMMIT

A connection that is lost is no failure of the store: this connects anew, to whichever server of the
URL can be written to, learns by the mark whether the last group happened, and goes on.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple

import psycopg

from pullstatus import limits
from pullstatus.errors import (
    OutcomeUnknown,
    StoreCorrupt,
    StoreDamaged,
    StoreFailed,
    StoreFull,
    StoreMovedOn,
    StoreRefused,
    StoreUnavailable,
)
from pullstatus.store.gathering.log import Figures, Undone
from pullstatus.store.gathering.operations import Answer, Enter, Moving, Operation
from pullstatus.store.postgresql import group as trips
from pullstatus.store.postgresql import marks, schema, statements, transfer
from pullstatus.store.postgresql.asked import Asked
from pullstatus.store.postgresql.gate import LaneGate
from pullstatus.store.postgresql.hangs import Hangs
from pullstatus.store.postgresql.location import Location
from pullstatus.store.postgresql.opening import Opened
from pullstatus.store.postgresql.rights import check_rights
from pullstatus.store.postgresql.session import (
    Session,
    final,
    is_lost,
    meaning,
    open_session,
    translated,
)
from pullstatus.store.postgresql.standbys import missed
from pullstatus.store.postgresql.statements import ints
from pullstatus.store.postgresql.stranded import end_stranded
from pullstatus.store.postgresql.tables import MissingMailboxes, Overtaken, PostgresTables
from pullstatus.store.postgresql.writes import Due
from pullstatus.store.values import Append, Page, PutAside
from pullstatus.store.verbs.group import carry_out

TIMELINE_BYTES: Final = 4
RESOLVE_S: Final = 20.0  # how long it is tried to learn whether a commit happened
RETRY_S: Final = 0.05
COLLISIONS_MAX: Final = 10  # of one group: others may be faster, but not again and again
ALIVE_S: Final = 30.0  # between two notes that this lane works
SIZE_S: Final = 30.0  # between two looks at the size of the database
GATE_S: Final = 1.0  # how long an idle server may not know that its store was moved
FULL_S: Final = 30.0  # after a disk was full, until entries are accepted again

_AGAIN: Final = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.SerializationFailure,
    psycopg.errors.UniqueViolation,
)


class Draft(NamedTuple):
    """A group that is about to be committed."""

    answers: list[Answer]
    waiting: dict[int, int]
    writes: bool


class Log:
    """One lane: one connection at a time. See `pullstatus.store.gathering.log.Log`."""

    def __init__(
        self,
        location: Location,
        opened: Opened,
        *,
        server: bool,
        moving: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over what `open_store` has opened.

        Args:
            server: this lane is one of a server's, for as long as it runs.
            moving: it is for one end of a migration, so it does not end when the store is moved.
                Any other lane but a server's is a command's, of which nothing is on record until it
                writes: one that only reads needs no right to, and no standby.
            clock: of seconds.
        """
        self._location = location
        self._known = opened.known
        self._secret = opened.meta.secret
        self._session: Session | None = opened.session
        self._server = server
        self._moving = moving
        self._gate = LaneGate(opened.meta.moving)
        self._clock = clock
        self._hangs = Hangs()
        self._begin_lane()
        self._kept: marks.Mark | None = None  # the newest that was answered, of whichever lane
        self._draft: Draft | None = None  # whose commit was sent and not answered
        self._failure: BaseException | None = None
        self._waiting: dict[int, int] = {}
        self._commits = self._operations = 0
        self._commit_s = 0.0
        self._alive_due_s = clock() + ALIVE_S
        self._size_due_s = 0.0
        self._gate_due_s = 0.0
        self._full_until_s = 0.0
        self._room = True
        self._recorded = False
        try:
            if server or moving:
                with missed(location, self._known), self._setting_up(opened.session):
                    if server:
                        check_rights(opened.session)
                    self._put_on_record(opened.session)
        except BaseException:
            self.close(failed=True)
            raise

    # -- what the committer asks

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        """Carry out `group` as one transaction; see `Log.commit` of the seam.

        Raises:
            Undone: nothing happened: the database refuses what is written, or a mistake of ours.
            StoreUnavailable, StoreFull: nothing happened.
            OutcomeUnknown: the database did not say in time whether it happened.
            StoreFailed, StoreCorrupt, CommitsLost, StoreMovedOn: use this no more.
        """
        # Many wait for a server, so it looks for no reason.
        command = not (self._server or self._moving)
        with missed(self._location, self._known) if command else contextlib.nullcontext():
            return self._commit(group)

    def _commit(self, group: Sequence[Operation]) -> list[Answer]:
        began_s = self._clock()
        due_s = began_s + RESOLVE_S
        collisions = 0
        lacking: Collection[int] = ()
        while True:
            try:
                session = self._connected()
                with self._hangs.watching(session):
                    draft = self._resolved(session)
                    if draft is None:
                        self._make(session, lacking)
                        draft = self._attempt(session, group)
            except MissingMailboxes as missing:
                self._roll_back()
                lacking = missing.boxes
            except (Overtaken, *_AGAIN) as error:
                self._roll_back()
                self._draft = None
                if isinstance(error, psycopg.errors.LockNotAvailable):
                    self._attempt_aside(end_stranded)
                collisions += isinstance(error, Overtaken | psycopg.errors.UniqueViolation)
                if collisions > COLLISIONS_MAX:
                    raise Undone(StoreUnavailable(_COLLIDES)) from error
                self._give_up(due_s, error)
            except StoreDamaged as error:  # of one application
                self._in_doubt(error)
                self._roll_back()
                raise Undone(error) from error
            except (psycopg.Error, marks.Unsure, StoreUnavailable, StoreRefused) as error:
                self._lose(error)
                self._give_up(due_s, error)
                time.sleep(RETRY_S)
            except BaseException as error:
                self._in_doubt(error)
                self._roll_back()
                if isinstance(error, Exception):
                    raise Undone(error) from error
                raise
            else:
                self._settle(draft, len(group), self._clock() - began_s)
                return draft.answers

    def tend(self) -> None:
        """Note from time to time that this lane works, and how large the database is."""
        if self._failure is not None:
            raise self._failure
        now_s = self._clock()
        if now_s >= self._alive_due_s and self._recorded:
            self._alive_due_s = now_s + ALIVE_S
            self._attempt_aside(self._note_alive)
        if now_s >= self._size_due_s:
            self._size_due_s = now_s + SIZE_S
            self._attempt_aside(self._look_for_room)

    def watch(self) -> None:
        """As `tend`; what other lanes do is learned by asking.

        Raises:
            StoreMovedOn: what the store held is elsewhere.
            StoreFailed: of a server's: the store was filled since it was opened.
        """
        self.tend()
        now_s = self._clock()
        if now_s < self._gate_due_s or self._moving:
            return
        self._gate_due_s = now_s + GATE_S
        self._attempt_aside(self._look_at_gate)
        self._gate.check_moved()
        if self._server and self._gate.outdated and not self._gate.shut:
            raise StoreFailed("the store was filled from another one since it was opened")

    def due_in_s(self) -> float:
        """Never: what `tend` does from time to time may wait for the next look."""
        return math.inf

    def has_room(self) -> bool:
        """Whether the database may grow, and its disk was not full of late."""
        return self._room and self._clock() >= self._full_until_s

    def take_waiting(self) -> dict[int, int]:
        """By box, as of this lane's newest commit of each: others may have changed it since."""
        waiting, self._waiting = self._waiting, {}
        return waiting

    def as_of(self) -> bytes:
        """The newest timeline that this lane has worked on: no reader may look at an older one."""
        return self._known.timeline.to_bytes(TIMELINE_BYTES)

    def figures(self) -> Figures:
        """What it has done since it was opened."""
        return Figures(self._commits, self._commit_s, self._operations)

    def is_final(self, error: BaseException) -> bool:
        """What does not heal: an unsafe server, damage, commits lost, a store that is elsewhere."""
        return isinstance(error, StoreFailed | StoreCorrupt | StoreMovedOn)

    def close(self, *, failed: bool) -> None:  # noqa: ARG002 - nothing of it is here
        """Close the connection."""
        self._drop()
        self._hangs.close()

    # -- connections

    def _begin_lane(self) -> None:
        self._lane = marks.new_lane()
        self._number = 1

    def _connected(self) -> Session:
        """The connection; a new one is proven first.

        Registering waits for the standby, as any commit does. So nothing is sent to a server that
        waits for one in vain, and no more is left waiting there than this: the next try finds the
        lane's row locked.

        Raises:
            StoreUnavailable, StoreRefused: none can be had, and nothing of a group was sent over
                it. No error of the database's own, which would be one of the group's.
        """
        if self._session is None:
            session = open_session(self._location, self._known, self._hangs.watching)
            try:
                with self._setting_up(session):
                    found = schema.needed(session.connection, self._location.shown)
                    schema.check_format(found.format, found.works_with)
                    if self._kept is not None:
                        marks.prove_kept(session, self._kept)
                    self._put_on_record(session)
            except BaseException:
                session.close()
                raise
            self._session = session
        elif not self._recorded:
            with self._setting_up(self._session):
                self._put_on_record(self._session)
        return self._session

    def _put_on_record(self, session: Session) -> None:
        """Register the lane; on return the standby has it, too."""
        if self._recorded:
            schema.register(session.connection, self._lane, server=self._server)
        else:
            schema.register_first(session.connection, self._lane, server=self._server)
        self._recorded = True

    @contextlib.contextmanager
    def _setting_up(self, session: Session) -> Iterator[None]:
        """While a connection is no group's yet."""
        with self._hangs.watching(session), translated():
            yield

    def _is_lost(self, error: psycopg.Error) -> bool:
        """Whether to go on with another connection."""
        return self._session is None or self._session.connection.closed or is_lost(error)

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _roll_back(self) -> None:
        session = self._session
        if session is not None:
            session.forgotten.clear()
            try:
                with self._hangs.watching(session):
                    session.connection.execute("ROLLBACK")
            except psycopg.Error:
                self._drop()

    def _lose(self, error: Exception) -> None:
        """Drop the connection behind an error, for another try over a new one.

        Raises:
            PullstatusError: what callers are told where there is none.
        """
        if isinstance(error, psycopg.Error) and not self._is_lost(error):
            self._draft = None
            self._roll_back()
            raise self._refusal(error) from error
        self._drop()
        if isinstance(error, StoreRefused):
            error = final(error)
        if self.is_final(error):
            self._fail(error)
            raise error
        if isinstance(error, StoreFull):
            self._note_full()
            if self._draft is None:
                raise error

    def _give_up(self, due_s: float, error: BaseException) -> None:
        """Raise what callers are told once it takes too long."""
        wait_s = RESOLVE_S - limits.STORE_WAIT_S if self._draft is None else 0.0
        if self._clock() < due_s - wait_s:
            return
        self._in_doubt(error)
        if isinstance(error, StoreUnavailable):
            raise error
        raise StoreUnavailable("the database does not answer in time; try again") from error

    def _in_doubt(self, error: BaseException) -> None:
        """Raise that nobody knows, if that is so: a commit was sent, and nothing said of it."""
        if self._draft is None:
            return
        self._draft = None
        self._begin_lane()  # the number of that group may still be taken, or not
        self._drop()
        raise OutcomeUnknown("the database did not say whether a commit happened") from error

    def _fail(self, error: BaseException) -> None:
        """What does not heal; told behind the answers of a group of which nothing is known."""
        self._failure = error
        self._in_doubt(error)

    def _refusal(self, error: psycopg.Error) -> Exception:
        """What a group gets of which a statement was refused, over a connection that works."""
        meant = meaning(error)
        if isinstance(meant, StoreFull):
            self._note_full()
        if isinstance(error, psycopg.errors.InsufficientPrivilege):  # a trigger's, or of one verb
            meant = StoreUnavailable(str(meant))
        return Undone(meant) if type(meant) is StoreUnavailable else meant

    def _note_full(self) -> None:
        """Accept no more entries for a while."""
        self._full_until_s = self._clock() + FULL_S

    # -- a group

    def _resolved(self, session: Session) -> Draft | None:
        """The group whose commit had no answer, if it happened; else it is to be done again."""
        draft = self._draft
        if draft is None:
            return None
        try:
            did = marks.happened(session, self._lane, self._number, server=self._server)
        except psycopg.Error as error:
            raise marks.Unsure from error  # as long as it cannot be asked
        self._draft = None
        if did:
            return draft
        self._number += 1  # that one is fenced off
        return None

    def _attempt(self, session: Session, group: Sequence[Operation]) -> Draft:
        """Carry out a group; it is committed when this returns."""
        tables = trips.first_trip(session, Asked(group, self._secret), self._gate)
        moves = [operation for operation in group if isinstance(operation, Moving)]
        if moves:  # nothing else is asked of an end of a migration
            answers = [self._move(tables, operation) for operation in moves]
        else:
            answers = self._admitted(tables, group)
        due = tables.take_writes()
        waiting = {box: state.tail - state.cursor for box, state in tables.states.items()}
        if not (due or tables.changed or any(map(_rests_on_rows, group, answers))):
            trips.end_without_trace(session)
            return Draft(answers, waiting, writes=False)
        if not moves:
            due += self._gate.due()
        draft = Draft(answers, waiting, writes=True)
        mark = (self._lane, self._number, False, ints(sorted(tables.changed)))
        session.warned = False
        self._draft = draft
        trips.second_trip(session, [*due, Due(statements.MARK, mark)])
        if session.warned:
            raise marks.Unsure
        self._draft = None
        return draft

    def _admitted(self, tables: PostgresTables, group: Sequence[Operation]) -> list[Answer]:
        """Carry a group out, if the store takes anything on, as it says in this transaction."""
        refusal = self._gate.refusal()
        if refusal is not None:
            return [refusal] * len(group)
        return carry_out(tables, group, self._clock)

    def _move(self, tables: PostgresTables, operation: Moving) -> Answer:
        if isinstance(operation, Enter):
            return self._gate.enter(tables, operation)
        refusal = self._gate.refusal_to_fill()
        if refusal is not None:
            return refusal
        tables.write(transfer.due(operation))
        return len(operation.drop) + len(operation.put)

    def _settle(self, draft: Draft, operations: int, took_s: float) -> None:
        """The group is durable."""
        self._waiting.update(draft.waiting)
        if draft.writes:
            self._kept = marks.Mark(self._lane, self._number)
            self._number += 1
            self._commits += 1
            self._operations += operations
            self._commit_s += took_s

    def _make(self, session: Session, boxes: Collection[int]) -> None:
        """Make mailboxes, in a transaction of their own, before the group is done again.

        In order, and before the locks of a group: of two who make and lock the same in different
        orders each would wait for the other.
        """
        if boxes:
            session.connection.execute(statements.MAKE_MAILBOXES, (ints(sorted(boxes)),))
            session.heard_s = time.monotonic()

    def _attempt_aside(self, work: Callable[[Session], None]) -> None:
        """Do what nobody waits for, if there is a connection."""
        session = self._session
        if session is None:
            return
        try:
            with self._hangs.watching(session):
                work(session)
        except psycopg.Error as error:
            if self._is_lost(error):
                self._drop()  # the next group connects anew

    def _note_alive(self, session: Session) -> None:
        schema.register(session.connection, self._lane, server=self._server)
        marks.tidy(session, self._lane)
        end_stranded(session)

    def _look_at_gate(self, session: Session) -> None:
        self._gate.know(session.connection.execute(statements.GATE, binary=True).fetchall())

    def _look_for_room(self, session: Session) -> None:
        if self._location.bytes_max is not None:
            row = session.connection.execute(
                "SELECT pg_database_size(current_database())"
            ).fetchone()
            assert row is not None
            self._room = row[0] < self._location.bytes_max


_COLLIDES: Final = "the database says again and again that this is there already; try again"


def _rests_on_rows(operation: Operation, answer: Answer) -> bool:
    """Whether an answer tells of what an earlier commit left, which a standby may not have yet.

    It goes out behind a commit of its own, which waits for the standby like any other.
    """
    if isinstance(answer, Page):
        return answer.count > 0
    if isinstance(answer, bool | PutAside):
        return True
    if isinstance(operation, Append):  # of a repeat nothing is new, and it is acknowledged
        return isinstance(answer, int) and operation.count > 0
    return isinstance(answer, int) and answer > 0

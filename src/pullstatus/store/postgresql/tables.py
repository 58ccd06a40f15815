"""The rows of the open transaction of a group: what the verbs ask and say.

What most groups need is read ahead, in one trip, while the locks are taken; what they write waits
until it goes with the commit, in another. So an append or a pull asks nothing here. A rarer
question is a trip of its own, behind what was written so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from psycopg import Cursor
from psycopg.rows import TupleRow

from pullstatus.errors import StoreDamaged
from pullstatus.store.chunk import COUNT_MAX
from pullstatus.store.fingerprints import KEY, halves_of
from pullstatus.store.gathering.operations import Forget
from pullstatus.store.postgresql import statements
from pullstatus.store.postgresql.asked import Asked
from pullstatus.store.postgresql.session import Session
from pullstatus.store.postgresql.statements import ints
from pullstatus.store.postgresql.writes import Due, Writes, totals
from pullstatus.store.segments import Segment
from pullstatus.store.texts import decoded, encoded
from pullstatus.store.values import (
    Act,
    Fingerprints,
    Followed,
    JournalRow,
    Mailbox,
    Naming,
    Noted,
    Once,
    RepeatKey,
    Tally,
)
from pullstatus.store.verbs.repeats import REPEAT_MS
from pullstatus.store.verbs.state import State, key_of, mailbox_of, slot
from pullstatus.store.verbs.tables import ChunkRow, KeyedRow, ReaderRow, Recalled

_CHUNKS_MAX = 32  # read at once beyond what was read ahead


class MissingMailboxes(Exception):
    """Mailboxes get their first entry ever; they are to be made, and the group done again."""

    def __init__(self, boxes: set[int]) -> None:
        super().__init__(boxes)
        self.boxes = boxes


class Overtaken(Exception):
    """Somebody else has written what was seen to be free; the group is to be done again."""


def state_of(row: Sequence[int]) -> State:
    """A mailbox, by a row of `statements.STATE`."""
    box, _, *counts = row
    return State(mailbox_of(box), box, key_of(box), *counts)


class PostgresTables:
    """The rows of one group's transaction; see `verbs.tables` for what each method does."""

    def __init__(self, session: Session, asked: Asked) -> None:
        """The transaction is open and has the group's locks; what was read ahead comes next."""
        self._session = session
        self._asked = asked
        self._writes = Writes()
        self.states: dict[int, State] = {}
        self._locked: set[int] = set()
        self.changed: set[int] = set()
        self._heads: dict[int, list[ChunkRow]] = {}
        self._whole: set[int] = set()  # the heads are all that is there from the first of them on
        self._rebased: dict[int, int] = {}  # up to where each had been removed before
        self._revisions: dict[str, int] = {}
        self._keyed: dict[tuple[bytes, int], KeyedRow] = {}
        self._recalled: dict[tuple[bytes, bytes], Recalled] = {}
        self._prints: dict[bytes, int] = {}
        self._once: dict[tuple[int, bytes], int] = {}
        self._readers: dict[tuple[int, bytes], tuple[int, ReaderRow | None]] = {}

    # -- what was read ahead

    def know_locked(self, rows: Sequence[tuple[int]]) -> None:
        """The mailboxes that are there and this group's own; before all that is read of them.

        Another lane may make one at any time after that. It is none for this group, whatever a
        later statement sees of it.
        """
        self._locked.update(box for (box,) in rows)

    def _own(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Rows that begin with a box, without those of mailboxes that are not locked."""
        return (row for row in rows if row[0] in self._locked)

    def know_states(self, rows: Sequence[tuple[int, ...]]) -> None:
        """How the mailboxes stand that are locked."""
        for row in self._own(rows):
            state = state_of(row)
            state.read_from = state.cursor + 1
            self.states[state.number] = state
            if state.cursor == state.tail:
                self._whole.add(state.number)

    def know_heads(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """The chunks that pulls begin with, in order."""
        for box, *rest in self._own(rows):
            self._heads.setdefault(box, []).append(ChunkRow(*rest))
        for box, found in self._heads.items():
            state, first, last = self.states[box], found[0], found[-1]
            if first.first_seq + first.size > state.cursor + 1:
                state.read_from = first.first_seq
            if last.first_seq + last.size - 1 == state.tail:
                self._whole.add(box)

    def know_revisions(self, rows: Sequence[tuple[bytes, int]]) -> None:
        """The settings that operations rest on."""
        for name, revision in rows:
            self._revisions[decoded(name)] = revision

    def know_keyed(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Journal rows by their keys."""
        for box, key, *rest in self._own(rows):
            self._keyed[key, box] = KeyedRow(*rest)

    def know_repeats(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """What is remembered of batches."""
        for scope, key, *rest in rows:
            self._recalled[scope, key] = Recalled(*rest)

    def know_prints(self, rows: Sequence[tuple[int, int, int]]) -> None:
        """What is remembered of records."""
        for slot_, short, accepted_ms in rows:
            self._prints[KEY.pack(slot_, short)] = accepted_ms

    def know_once(self, rows: Sequence[tuple[int, bytes, int]]) -> None:
        """What must not come twice."""
        for sdkappid, nonce, until_ms in rows:
            self._once[sdkappid, nonce] = until_ms

    def know_readers(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Readers by their names; of those that were asked for, the others do not exist."""
        for name in self._asked.readers:
            self._readers[name] = (0, None)
        for box, name, version, *rest in self._own(rows):
            self._readers[box, name] = (version, ReaderRow(*rest))

    # -- what goes with the commit

    def take_writes(self) -> list[Due]:
        """All that is left to be sent."""
        for box, purged in sorted(self._rebased.items()):
            state = self.states[box]
            values = (box, state.purged, state.tail, state.cursor, *totals(state))
            self._writes.other(statements.ADD_BASE, *values)
            self._writes.other(statements.DROP_BASE, box, purged)
        self._rebased.clear()
        return [*self._writes.take(), *self._writes.take_tallies()]

    def write(self, due: Iterable[Due]) -> None:
        """Have statements carried out behind all that was written so far."""
        for each in due:
            self._writes.other(each.sql, *each.values)

    def _ask(self, sql: str, *values: Any) -> Cursor[TupleRow]:  # noqa: ANN401 - as a driver takes
        """Ask behind all that was written so far."""
        connection = self._session.connection
        if self._writes:
            send(self._session, self._writes.take())
        found = connection.execute(sql, values, binary=True)
        self._session.heard_s = time.monotonic()  # hundreds of questions may take their time
        return found

    def _one(self, sql: str, *values: Any) -> Any:  # noqa: ANN401 - of whatever type it is
        row = self._ask(sql, *values).fetchone()
        return None if row is None else row[0]

    # -- mailboxes

    def draft(self, mailbox: Mailbox) -> State | None:
        state = self.states.get(slot(mailbox))
        if state is not None and state.cursor > state.tail:  # what comes would never be handed out
            raise StoreDamaged(
                f"entries of {mailbox} are missing behind {state.tail}: {state.cursor} have left;"
                " run `pullstatus audit`, and restore a backup"
            )
        return state

    def create(self, mailbox: Mailbox) -> State:
        raise MissingMailboxes({slot(mailbox)} | (self._asked.adds - self.states.keys()))

    # -- chunks

    def add_chunk(self, state: State, row: ChunkRow, accepted_ms: int, label: bytes) -> None:
        box = state.number
        self._writes.chunk(box, row, accepted_ms, label)
        self.changed.add(box)
        if box in self._whole and box in self._asked.due:
            self._heads.setdefault(box, []).append(row)

    def chunks(self, state: State, first_seq: int) -> Iterator[ChunkRow]:
        box, after = state.number, first_seq - 1
        begun = False
        for row in self._heads.get(box, ()):
            begun = begun or row.first_seq == first_seq
            if begun:
                yield row
                after = row.first_seq
        if begun and box in self._whole:
            return
        while rows := self._step(_CHUNKS, box, after, _CHUNKS_MAX):
            yield from rows
            after = rows[-1].first_seq

    def bounds(self, state: State, first_seq: int) -> Iterator[tuple[int, int, bytes]]:
        after = first_seq - 1
        while rows := self._ask(_BOUNDS, state.number, after, 4 * _CHUNKS_MAX).fetchall():
            yield from cast("list[tuple[int, int, bytes]]", rows)
            after = rows[-1][0]

    def chunk_step(self, state: State, first_seq: int, rows_max: int) -> Sequence[ChunkRow]:
        return self._step(_CHUNKS, state.number, first_seq - 1, rows_max)

    def _step(self, sql: str, *values: int) -> list[ChunkRow]:
        return [ChunkRow(*row) for row in self._ask(sql, *values)]

    def chunk_at(self, state: State, seq: int) -> int:
        row = self._ask(_CHUNK_AT, state.number, seq).fetchone()
        if row is None:
            return seq
        first, size = row
        return cast("int", first) if first + size > seq else seq

    def lay_in(self, state: State, chunks: int) -> None:
        """Nothing is joined here."""

    def first_young(self, state: State, accepted_ms: int) -> int | None:
        from_seq = state.read_from
        return cast(
            "int | None", self._one(_YOUNG, accepted_ms, state.number, from_seq, accepted_ms)
        )

    def change_chunk(self, state: State, row: ChunkRow, *, aside: bool) -> None:
        self._ask(
            _CHANGE_ASIDE if aside else _CHANGE,
            *(row.checksum, row.bounds, row.body, state.number, row.first_seq),
        )
        self._forget_heads(state)

    def set_aside(self, state: State, first_seq: int, last_seq: int) -> None:
        self._ask(_SET_ASIDE, state.number, first_seq, last_seq)

    def aside(self, state: State) -> Sequence[ChunkRow]:
        return self._step(_ASIDE, state.number)

    def _forget_heads(self, state: State) -> None:
        """What was read ahead of a mailbox is not what is there."""
        self._heads.pop(state.number, None)
        self._whole.discard(state.number)
        self.changed.add(state.number)

    # -- the journal

    def add_journal(self, state: State, row: JournalRow) -> None:
        self._writes.journal(state, row)
        self.changed.add(state.number)
        if row.key is not None:
            self._keyed[encoded(row.key), state.number] = KeyedRow(
                row.first_seq, row.count, row.at_ms, row.count_max
            )

    def next_row(self, state: State, first_seq: int) -> int | None:
        return cast("int | None", self._one(_NEXT_ROW, state.number, first_seq))

    def keyed(self, state: State, pull_key: str) -> KeyedRow | None:
        return self._keyed.get((encoded(pull_key), state.number))

    def count_given(self, state: State, first_seq: int) -> None:
        self._writes.other(statements.COUNT_GIVEN, state.number, first_seq)

    def note_acked(self, state: State, first_seq: int, at_ms: int) -> None:
        self._writes.other(statements.NOTE_ACKED, at_ms, state.number, first_seq)

    def note_released(self, state: State, first_seq: int, at_ms: int) -> None:
        self._writes.other(statements.NOTE_RELEASED, at_ms, state.number, first_seq)

    def oldest_rows(self, state: State, rows_max: int) -> Sequence[tuple[int, int, int]]:
        return cast(
            "list[tuple[int, int, int]]",
            self._ask(_OLDEST_ROWS, state.number, state.purged, rows_max).fetchall(),
        )

    def cut_row(self, state: State, first_seq: int, count: int) -> None:
        self._ask(_CUT_ROW, count, count, state.number, first_seq)

    # -- readers

    def reader(self, state: State, name: str) -> ReaderRow | None:
        return self._reader(state.number, encoded(name))[1]

    def _reader(self, box: int, name: bytes) -> tuple[int, ReaderRow | None]:
        """The version of a reader's row, and the row."""
        known = self._readers.get((box, name))
        if known is None:
            row = self._ask(_READER, box, name).fetchone()
            known = (0, None) if row is None else (row[0], ReaderRow(*row[1:]))
            self._readers[box, name] = known
        return known

    def readers(self, state: State) -> Sequence[tuple[str, ReaderRow]]:
        found = []
        for name, version, *rest in self._ask(_READERS, state.number):
            row = ReaderRow(*rest)
            self._readers[state.number, name] = (version, row)
            found.append((decoded(name), row))
        return found

    def put_reader(self, state: State, name: str, row: ReaderRow) -> None:
        box, stored = state.number, encoded(name)
        version, _ = self._reader(box, stored)
        self._writes.other(
            statements.PUT_READER,
            *(box, stored, version + 1, row.at_ms, row.acked_seq, row.first_seq, row.count),
            *(row.taken_ms, row.given, box, stored, version, row.kept),
        )
        if version:
            self._writes.other(statements.DROP_READER, box, stored, version)
        self._readers[box, stored] = (version + 1, row)

    def drop_reader(self, state: State, name: str) -> None:
        box, stored = state.number, encoded(name)
        version, _ = self._reader(box, stored)
        self._writes.other(statements.DROP_READER, box, stored, version)
        self._readers[box, stored] = (0, None)

    def page(self, state: State, name: str) -> bytes:
        stored = encoded(name)
        version, _ = self._reader(state.number, stored)
        return cast("bytes", self._one(_PAGE, state.number, stored, version))

    def keep_page(self, state: State, name: str, page: bytes) -> None:
        stored = encoded(name)
        version, row = self._reader(state.number, stored)
        assert row is not None
        self._ask(_KEEP_PAGE, page, state.number, stored, version)
        del self._readers[state.number, stored]

    # -- what is remembered to know repeats by

    def recall(
        self,
        sdkappid: int,  # noqa: ARG002 - names are of the whole store here
        repeat_key: RepeatKey,
    ) -> Recalled | None:
        return self._recalled.get((encoded(repeat_key.scope), encoded(repeat_key.key)))

    def remember(
        self,
        sdkappid: int,  # noqa: ARG002 - names are of the whole store here
        repeat_key: RepeatKey,
        row: Recalled,
    ) -> None:
        name = encoded(repeat_key.scope), encoded(repeat_key.key)
        before = self._recalled.get(name)
        self._writes.repeat(name, row, None if before is None else before.accepted_ms)
        self._recalled[name] = row

    def unseen(
        self,
        sdkappid: int,  # noqa: ARG002 - names are of the whole store here
        fingerprints: Fingerprints,
        at_ms: int,
    ) -> Sequence[int]:
        fresh = []
        known, old_ms = self._prints, at_ms - REPEAT_MS
        named, further = self._asked.keys_of(fingerprints)
        for place, key in enumerate(named):
            if known.get(key, old_ms - 1) >= old_ms:
                continue
            fresh.append(place)
            for each in (key, *further.get(place, ())):
                seen = known.get(each)
                if seen is None or seen < old_ms:
                    self._writes.fingerprint(each, at_ms, seen)
                    known[each] = at_ms
        return fresh

    def spend(self, sdkappid: int, once: Once, at_ms: int) -> bool:
        name = sdkappid, encoded(once.nonce)
        seen = self._once.get(name)
        if seen is not None and seen >= at_ms:
            return False
        self._writes.once(name, once.until_ms, seen)
        self._once[name] = once.until_ms
        return True

    # -- acts, and the copies that they made

    def act_number(self, ticket: bytes) -> int | None:
        return cast("int | None", self._one(_ACT_NUMBER, ticket))

    def newest_act(self) -> tuple[int, bytes] | None:
        return cast("tuple[int, bytes] | None", self._ask(_NEWEST_ACT).fetchone())

    def add_act(self, act_id: int, act: Act, proof: bytes) -> None:
        texts = (act.actor, act.action, act.reason, act.detail)
        self._ask(_ADD_ACT, act_id, act.ticket, act.at_ms, *map(encoded, texts), proof)

    def add_again(
        self, state: State, first_seq: int, count: int, source_seq: int, act_id: int
    ) -> None:
        self._writes.other(_ADD_AGAIN, state.number, first_seq, count, source_seq, act_id)

    def copied(
        self, state: State, act_id: int, first_seq: int, last_seq: int
    ) -> Sequence[tuple[int, int]]:
        values = (act_id, state.number)
        return cast(
            "list[tuple[int, int]]",
            self._ask(_COPIED, *values, *values, first_seq, first_seq, last_seq).fetchall(),
        )

    # -- settings and notes

    def revision(self, name: str) -> int:
        return self._revisions.get(name, 0)

    def setting(self, name: str) -> tuple[bytes | None, int]:
        return cast(
            "tuple[bytes | None, int]",
            self._ask(_SETTING, encoded(name)).fetchone() or (None, 0),
        )

    def put_setting(self, name: str, value: bytes | None, ticket: bytes) -> None:
        self._revisions[name] = self._one(_PUT_SETTING, encoded(name), value, ticket)

    def note(self, name: str, noted: Noted) -> None:
        self._writes.other(_NOTE, encoded(name), noted.at_ms, encoded(noted.place))

    def drop_note(self, name: str) -> None:
        self._writes.other(_DROP_NOTE, encoded(name))

    # -- what is derived of entries

    def followed(self, state: State) -> Followed:
        row = self._ask(_FOLLOWED, state.number).fetchone()
        through, tallied, turn = row or (0, 0, 0)
        return Followed(max(through, state.purged), max(tallied, state.purged), turn)

    def put_followed(self, state: State, mark: Followed) -> None:
        self._writes.other(_PUT_FOLLOWED, state.number, mark.turn, mark.through, mark.tallied)
        self._writes.other(_DROP_FOLLOWED, state.number, mark.turn, mark.through)
        self.changed.add(state.number)

    def segments(self, state: State, first_seq: int, last_seq: int) -> Sequence[Segment]:
        found = self._ask(_SEGMENTS, state.number, last_seq, first_seq)
        return [Segment(*row) for row in found]

    def put_segment(self, state: State, segment: Segment) -> None:
        first, last = segment.first_seq, segment.last_seq
        self._ask(_DROP_WITHIN, state.number, first, last)
        self._ask(_PUT_SEGMENT, state.number, first, segment.count, segment.numbers, segment.sids)

    def drop_segments(self, state: State, through: int | None) -> None:
        last = state.tail if through is None else through
        self._writes.other(_DROP_SEGMENTS, state.number, last)

    def add_tally(self, sdkappid: int, tally: Tally, *, anew: bool) -> None:
        self._writes.tally((sdkappid, tally.series, tally.hour), tally.counts, anew=anew)

    def drop_tallies(self, sdkappid: int, series: int, from_hour: int) -> None:
        self.write(self._writes.take_tallies())
        self._writes.other(_DROP_TALLIES, sdkappid, series, from_hour)

    # -- removal

    def remove(self, state: State, through: int) -> None:
        # Not from the first number on: a snapshot keeps all that was removed since it was taken.
        box, behind = state.number, through + 1
        self._ask(_CUT_AGAIN, behind, behind, behind, box, state.purged, through, through)
        for sql in (_REMOVE_JOURNAL, _REMOVE_AGAIN):
            self._ask(sql, state.number, state.purged, through)
        # A chunk that reaches further stays whole until all of it may go.
        begun = state.purged - COUNT_MAX
        self._ask(_REMOVE_CHUNKS, state.number, begun, through, through)
        self._rebased.setdefault(state.number, state.purged)
        self._forget_heads(state)

    def remove_aside(self, state: State, through: int) -> None:
        self._ask(_REMOVE_ASIDE, state.number, through)

    # -- names of sends

    def add_names(self, sdkappid: int, names: Sequence[Naming], at_ms: int) -> None:
        slots, bodies = [ints(block.slots) for block in names], [block.body for block in names]
        self._writes.other(_ADD_NAMES, sdkappid, at_ms, slots, bodies)

    def forgetters(self, operation: Forget) -> Sequence[Callable[[int], int | None]]:
        before_ms = operation.accepted_before_ms
        return (
            lambda _count: self._forget_prints(before_ms),
            partial(self._forget_some, "repeats", _FORGET_REPEATS, before_ms),
            partial(self._forget_some, "once", _FORGET_ONCE, operation.now_ms),
            lambda count: self._ask(_FORGET_HOURS, operation.hours_before, count).rowcount or None,
            partial(self._forget_some, "names", _FORGET_NAMES, before_ms),
        )

    def _forget_some(self, kind: str, sql: str, before_ms: int, count: int) -> int | None:
        forgotten = self._session.forgotten
        times = self._ask(sql, forgotten[kind], before_ms, count).fetchall()
        if not times:
            return None
        forgotten[kind] = max(time_ms for (time_ms,) in times)
        return len(times)

    def _forget_prints(self, before_ms: int) -> int | None:
        forgotten = self._session.forgotten
        row = self._ask(_OLDEST_PRINTS, forgotten["prints"], before_ms).fetchone()
        if row is None:
            return None
        step, joined, forgotten["prints"] = row
        halves = halves_of(joined)
        slots, shorts = ints(slot_ for slot_, _ in halves), ints(short for _, short in halves)
        dropped = self._ask(_FORGET_PRINTS, slots, shorts, before_ms).rowcount
        self._ask(_FORGET_STEP, step)
        return dropped


def send(session: Session, due: Sequence[Due]) -> list[Cursor[TupleRow]]:
    """Have statements carried out in one trip, inside the open transaction.

    Raises:
        Overtaken: one wrote other than as many rows as it must.
    """
    execute = session.connection.execute
    with session.connection.pipeline():
        sent = [execute(each.sql, each.values) for each in due]
    for each, cursor in zip(due, sent, strict=True):
        if each.rows not in (None, cursor.rowcount):
            raise Overtaken
    return sent


_CHUNK = "SELECT first_seq, count, checksum, bounds, body FROM"
_CHUNKS = f"{_CHUNK} pullstatus.chunk WHERE box = %s AND first_seq > %s ORDER BY first_seq LIMIT %s"
_BOUNDS = (
    "SELECT first_seq, count, bounds FROM pullstatus.chunk WHERE box = %s AND first_seq > %s"
    " ORDER BY first_seq LIMIT %s"
)
_CHUNK_AT = (
    "SELECT first_seq, count FROM pullstatus.chunk WHERE box = %s AND first_seq <= %s"
    " ORDER BY first_seq DESC LIMIT 1"
)
_YOUNG = (
    "SELECT first_seq + (SELECT count(*) FROM unnest(apart_ms) each WHERE each < %s)"
    " FROM pullstatus.chunk WHERE box = %s AND first_seq >= %s AND accepted_ms >= %s"
    " ORDER BY first_seq LIMIT 1"
)
_CHANGE = (
    "UPDATE pullstatus.chunk SET checksum = %s, bounds = %s, body = %s"
    " WHERE box = %s AND first_seq = %s"
)
_CHANGE_ASIDE = _CHANGE.replace("pullstatus.chunk", "pullstatus.quarantine")
_SET_ASIDE = (
    "INSERT INTO pullstatus.quarantine SELECT * FROM pullstatus.chunk WHERE box = %s"
    " AND first_seq BETWEEN %s AND %s ON CONFLICT DO NOTHING"
)
_ASIDE = f"{_CHUNK} pullstatus.quarantine WHERE box = %s ORDER BY first_seq"

_NEXT_ROW = (
    "SELECT first_seq FROM pullstatus.journal WHERE box = %s AND first_seq > %s"
    " ORDER BY first_seq LIMIT 1"
)
_OLDEST_ROWS = (
    "SELECT first_seq, count, at_ms FROM pullstatus.journal WHERE box = %s AND first_seq > %s"
    " ORDER BY first_seq LIMIT %s"
)
_CUT_ROW = (
    "UPDATE pullstatus.journal SET first_seq = first_seq + %s, count = count - %s"
    " WHERE box = %s AND first_seq = %s"
)

_READER = (
    f"SELECT {statements.READER_COLUMNS} FROM pullstatus.reader"  # noqa: S608 - ours
    " WHERE box = %s AND name = %s ORDER BY version DESC LIMIT 1"
)
# From name to name, backwards: so the newest row of each comes first, whatever a snapshot keeps.
_READERS = f"""
WITH RECURSIVE r AS (
    (SELECT * FROM pullstatus.reader WHERE box = %s ORDER BY name DESC, version DESC LIMIT 1)
    UNION ALL
    SELECT n.* FROM r CROSS JOIN LATERAL (SELECT * FROM pullstatus.reader WHERE box = r.box
        AND name < r.name ORDER BY name DESC, version DESC LIMIT 1) n
)
SELECT name, {statements.READER_COLUMNS} FROM r ORDER BY name
"""  # noqa: S608 - ours
_PAGE = "SELECT page FROM pullstatus.reader WHERE box = %s AND name = %s AND version = %s"
_KEEP_PAGE = "UPDATE pullstatus.reader SET page = %s WHERE box = %s AND name = %s AND version = %s"

_ACT_NUMBER = "SELECT id FROM pullstatus.act WHERE ticket = %s"
_NEWEST_ACT = "SELECT id, hash FROM pullstatus.act ORDER BY id DESC LIMIT 1"
_ADD_ACT = "INSERT INTO pullstatus.act VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
_ADD_AGAIN = "INSERT INTO pullstatus.again VALUES (%s, %s, %s, %s, %s)"
# Of one act no two ranges overlap, so at most one that begins before reaches into those asked for.
_COPIED = (
    "SELECT source_seq, count FROM pullstatus.again WHERE act_id = %s AND box = %s AND source_seq"
    " BETWEEN coalesce((SELECT max(source_seq) FROM pullstatus.again WHERE act_id = %s AND box = %s"
    " AND source_seq < %s), %s) AND %s"
)

_SETTING = "SELECT value, revision FROM pullstatus.setting WHERE name = %s"
_PUT_SETTING = (
    "INSERT INTO pullstatus.setting (name, value, ticket, revision) VALUES (%s, %s, %s,"
    " (SELECT coalesce(max(revision), 0) + 1 FROM pullstatus.setting))"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value, ticket = excluded.ticket,"
    " revision = excluded.revision RETURNING revision"
)
_NOTE = (
    "INSERT INTO pullstatus.note AS n VALUES (%s, %s, %s) ON CONFLICT (name) DO UPDATE"
    " SET at_ms = excluded.at_ms, place = excluded.place WHERE n.at_ms < excluded.at_ms"
)
_DROP_NOTE = "DELETE FROM pullstatus.note WHERE name = %s"

_FOLLOWED = (
    "SELECT through, tallied, turn FROM pullstatus.followed WHERE box = %s"
    " ORDER BY turn DESC, through DESC LIMIT 1"
)
_PUT_FOLLOWED = (
    "INSERT INTO pullstatus.followed (box, turn, through, tallied) VALUES (%s, %s, %s, %s)"
)
_DROP_FOLLOWED = (
    "DELETE FROM pullstatus.followed WHERE box = %s AND (turn, through) < (%s::bigint, %s::bigint)"
)
_SEGMENTS = (
    "SELECT first_seq, count, numbers, sids FROM pullstatus.segment WHERE box = %s"
    " AND first_seq <= %s AND first_seq + count > %s ORDER BY first_seq"
)
_DROP_WITHIN = "DELETE FROM pullstatus.segment WHERE box = %s AND first_seq BETWEEN %s AND %s"
_PUT_SEGMENT = "INSERT INTO pullstatus.segment VALUES (%s, %s, %s, %s, %s)"
_DROP_SEGMENTS = "DELETE FROM pullstatus.segment WHERE box = %s AND first_seq + count - 1 <= %s"
_DROP_TALLIES = "DELETE FROM pullstatus.tally WHERE sdkappid = %s AND series = %s AND hour >= %s"

_WHAT_LEFT = "WHERE box = %s AND first_seq > %s AND first_seq <= %s"
_REMOVE_JOURNAL = f"DELETE FROM pullstatus.journal {_WHAT_LEFT}"  # noqa: S608 - ours
# What is left of a range that reaches further, beside it until that is removed.
_CUT_AGAIN = (
    "INSERT INTO pullstatus.again SELECT box, %s, first_seq + count - %s,"  # noqa: S608 - ours
    f" source_seq + %s - first_seq, act_id FROM pullstatus.again {_WHAT_LEFT}"
    " AND first_seq + count - 1 > %s"
)
_REMOVE_AGAIN = f"DELETE FROM pullstatus.again {_WHAT_LEFT}"  # noqa: S608 - ours
_REMOVE_CHUNKS = f"DELETE FROM pullstatus.chunk {_WHAT_LEFT} AND first_seq + count - 1 <= %s"  # noqa: S608 - ours
_REMOVE_ASIDE = "DELETE FROM pullstatus.quarantine WHERE box = %s AND first_seq <= %s"

_OLDEST_PRINTS = (
    "SELECT id, keys, accepted_ms FROM pullstatus.fingerprint_step"
    " WHERE accepted_ms >= %s AND accepted_ms < %s ORDER BY accepted_ms, id LIMIT 1"
)
_FORGET_PRINTS = (
    "DELETE FROM pullstatus.fingerprint f USING unnest(%s::bigint[], %s::bigint[]) w(slot, short)"
    " WHERE f.slot = w.slot AND f.short = w.short AND f.accepted_ms < %s"
)
_FORGET_STEP = "DELETE FROM pullstatus.fingerprint_step WHERE id = %s"
_ADD_NAMES = (
    "INSERT INTO pullstatus.naming (sdkappid, accepted_ms, slots, body)"
    " SELECT %s, %s, slots::int[], body"
    " FROM unnest(%s::text[], %b::bytea[]) WITH ORDINALITY w(slots, body, place) ORDER BY place"
)
_FORGET_NAMES = (
    "DELETE FROM pullstatus.naming n USING (SELECT id FROM pullstatus.naming"
    " WHERE accepted_ms >= %s AND accepted_ms < %s ORDER BY accepted_ms, id LIMIT %s) w"
    " WHERE n.id = w.id RETURNING n.accepted_ms"
)
_FORGET_REPEATS = (
    "DELETE FROM pullstatus.repeat_key r USING (SELECT scope, key FROM pullstatus.repeat_key"
    " WHERE accepted_ms >= %s AND accepted_ms < %s ORDER BY accepted_ms LIMIT %s) w"
    " WHERE r.scope = w.scope AND r.key = w.key RETURNING r.accepted_ms"
)
_FORGET_HOURS = (
    "DELETE FROM pullstatus.tally t USING (SELECT sdkappid, series, hour FROM pullstatus.tally"
    " WHERE hour < %s ORDER BY hour LIMIT %s) w WHERE t.sdkappid = w.sdkappid"
    " AND t.series = w.series AND t.hour = w.hour"
)
_FORGET_ONCE = (
    "DELETE FROM pullstatus.once o USING (SELECT sdkappid, nonce FROM pullstatus.once"
    " WHERE until_ms >= %s AND until_ms < %s ORDER BY until_ms LIMIT %s) w"
    " WHERE o.sdkappid = w.sdkappid AND o.nonce = w.nonce RETURNING o.until_ms"
)

"""The rows of the open transaction of a connection: what the verbs ask and say, in SQL.

Each statement is carried out at once, so what was written is what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import apsw

from pullstatus.store import tallies
from pullstatus.store.gathering.operations import Forget
from pullstatus.store.segments import Segment
from pullstatus.store.sqlite import blocks, joining, naming, schema
from pullstatus.store.sqlite.acts import ActRows
from pullstatus.store.sqlite.conditions import Conditions
from pullstatus.store.sqlite.fingerprints import Remembered
from pullstatus.store.sqlite.joining import Joins
from pullstatus.store.sqlite.states import States
from pullstatus.store.values import (
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
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import ChunkRow, KeyedRow, ReaderRow, Recalled

_MASK = schema.SEQ_MASK


class SqliteTables(ActRows):
    """Shared by the operations of one connection; see `verbs.tables` for what each method does."""

    def __init__(self, connection: apsw.Connection, states: States) -> None:
        super().__init__(connection)
        self._states = states
        self.conditions = Conditions(connection)
        self.remembered = Remembered(connection)
        self.joins = Joins(connection, states)

    # -- mailboxes

    def draft(self, mailbox: Mailbox) -> State | None:
        return self._states.draft(mailbox)

    def create(self, mailbox: Mailbox) -> State:
        return self._states.create(mailbox)

    # -- chunks

    def add_chunk(self, state: State, row: ChunkRow, accepted_ms: int, label: bytes) -> None:
        first_seq, count, *proof = row
        self._connection.execute(
            "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)",
            (state.key | first_seq, count, accepted_ms, *proof, label),
        )
        self.joins.put(state, count)

    def chunks(self, state: State, first_seq: int) -> Iterator[ChunkRow]:
        for key, *rest in self._connection.execute(
            f"{_CHUNKS} FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key",
            (state.key | first_seq, state.key | _MASK),
        ):
            yield ChunkRow(key & _MASK, *rest)

    def bounds(self, state: State, first_seq: int) -> Iterator[tuple[int, int, bytes]]:
        for key, count, bounds in self._connection.execute(
            "SELECT key, count, bounds FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key",
            (state.key | first_seq, state.key | _MASK),
        ):
            yield key & _MASK, count, bounds

    def chunk_step(self, state: State, first_seq: int, rows_max: int) -> Sequence[ChunkRow]:
        rows = self._connection.execute(
            f"{_CHUNKS} FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
            (state.key | first_seq, state.key | _MASK, rows_max),
        )
        return [ChunkRow(key & _MASK, *rest) for key, *rest in rows]

    def chunk_at(self, state: State, seq: int) -> int:
        return self._states.chunk_at(state.key, seq)

    def lay_in(self, state: State, chunks: int) -> None:
        self.joins.read(state, chunks)

    def first_young(self, state: State, accepted_ms: int) -> int | None:
        return joining.first_young(self._connection, state, accepted_ms)

    def change_chunk(self, state: State, row: ChunkRow, *, aside: bool) -> None:
        first_seq, _, *proof = row
        table = "quarantine" if aside else "chunk"
        self._connection.execute(
            f"UPDATE {table} SET checksum = ?, bounds = ?, body = ? WHERE key = ?",  # noqa: S608 - ours
            (*proof, state.key | first_seq),
        )

    def set_aside(self, state: State, first_seq: int, last_seq: int) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO quarantine SELECT * FROM chunk WHERE key BETWEEN ? AND ?",
            (state.key | first_seq, state.key | last_seq),
        )

    def aside(self, state: State) -> Sequence[ChunkRow]:
        rows = self._connection.execute(
            f"{_CHUNKS} FROM quarantine WHERE key BETWEEN ? AND ?", (state.key, state.key | _MASK)
        )
        return [ChunkRow(key & _MASK, *rest) for key, *rest in rows]

    # -- the journal

    def add_journal(self, state: State, row: JournalRow) -> None:
        self._connection.execute(
            "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (
                state.key | row.first_seq,
                row.count,
                row.outcome,
                row.at_ms,
                row.address,
                row.key,
                row.count_max,
                row.proof,
                row.ticket,
                row.reader,
                None if row.reader is None else row.given,
            ),
        )

    def next_row(self, state: State, first_seq: int) -> int | None:
        key: int | None = self._connection.execute(
            "SELECT min(key) FROM journal WHERE key > ? AND key <= ?",
            (state.key | first_seq, state.key | _MASK),
        ).get
        return None if key is None else key & _MASK

    def keyed(self, state: State, pull_key: str) -> KeyedRow | None:
        # Of one key the index has the rows in order of theirs, so in order of mailbox: any number
        # of other applications may use the same key.
        row = self._connection.execute(
            "SELECT key, count, at_ms, count_max FROM journal INDEXED BY journal_by_pull_key"
            " WHERE pull_key = ? AND key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
            (pull_key, state.key, state.key | _MASK),
        ).fetchone()
        return None if row is None else KeyedRow(row[0] & _MASK, *row[1:])

    def count_given(self, state: State, first_seq: int) -> None:
        self._connection.execute(
            "UPDATE journal SET given = given + 1 WHERE key = ?", (state.key | first_seq,)
        )

    def note_acked(self, state: State, first_seq: int, at_ms: int) -> None:
        self._connection.execute(
            "UPDATE journal SET acked_ms = ? WHERE key = ?", (at_ms, state.key | first_seq)
        )

    def note_released(self, state: State, first_seq: int, at_ms: int) -> None:
        self._connection.execute(
            "UPDATE journal SET released_ms = ? WHERE key = ?", (at_ms, state.key | first_seq)
        )

    def oldest_rows(self, state: State, rows_max: int) -> Sequence[tuple[int, int, int]]:
        rows = self._connection.execute(
            "SELECT key, count, at_ms FROM journal WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
            (state.key | state.purged, state.key | _MASK, rows_max),
        )
        return [(key & _MASK, count, at_ms) for key, count, at_ms in rows]

    def cut_row(self, state: State, first_seq: int, count: int) -> None:
        self._connection.execute(
            "UPDATE journal SET key = key + ?1, count = count - ?1 WHERE key = ?2",
            (count, state.key | first_seq),
        )

    # -- readers

    def reader(self, state: State, name: str) -> ReaderRow | None:
        row = self._connection.execute(f"{_READERS} AND name = ?", (state.number, name)).fetchone()
        return None if row is None else _reader_row(*row[1:])

    def readers(self, state: State) -> Sequence[tuple[str, ReaderRow]]:
        rows = self._connection.execute(f"{_READERS} ORDER BY name", (state.number,))
        return [(name, _reader_row(*row)) for name, *row in rows]

    def put_reader(self, state: State, name: str, row: ReaderRow) -> None:
        self._connection.execute(
            "INSERT INTO reader VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO UPDATE SET"
            " at_ms = excluded.at_ms, acked_seq = excluded.acked_seq,"
            " first_seq = excluded.first_seq, count = excluded.count,"
            " taken_ms = excluded.taken_ms, given = excluded.given, page = iif(?, page, NULL)",
            (
                *(state.number, name, row.at_ms, row.acked_seq),
                *(row.first_seq, row.count, row.taken_ms, row.given, row.kept),
            ),
        )

    def drop_reader(self, state: State, name: str) -> None:
        self._connection.execute(
            "DELETE FROM reader WHERE mailbox = ? AND name = ?", (state.number, name)
        )

    def page(self, state: State, name: str) -> bytes:
        return cast(
            "bytes",
            self._connection.execute(
                "SELECT page FROM reader WHERE mailbox = ? AND name = ?", (state.number, name)
            ).get,
        )

    def keep_page(self, state: State, name: str, page: bytes) -> None:
        self._connection.execute(
            "UPDATE reader SET page = ? WHERE mailbox = ? AND name = ?", (page, state.number, name)
        )

    # -- what is remembered to know repeats by

    def recall(
        self,
        sdkappid: int,  # noqa: ARG002 - names are of the whole store here
        repeat_key: RepeatKey,
    ) -> Recalled | None:
        row = self._connection.execute(
            "SELECT digest, accepted, accepted_ms FROM repeat_key WHERE scope = ? AND key = ?",
            (repeat_key.scope, repeat_key.key),
        ).fetchone()
        return None if row is None else Recalled(*row)

    def remember(
        self,
        sdkappid: int,  # noqa: ARG002 - names are of the whole store here
        repeat_key: RepeatKey,
        row: Recalled,
    ) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO repeat_key (scope, key, digest, accepted, accepted_ms)"
            " VALUES (?, ?, ?, ?, ?)",
            (repeat_key.scope, repeat_key.key, *row),
        )

    def unseen(
        self,
        sdkappid: int,  # noqa: ARG002 - names are of the whole store here
        fingerprints: Fingerprints,
        at_ms: int,
    ) -> Sequence[int]:
        return self.remembered.unseen(fingerprints, at_ms)

    def spend(self, sdkappid: int, once: Once, at_ms: int) -> bool:
        self._connection.execute(
            "INSERT INTO once VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET until_ms = excluded.until_ms WHERE until_ms < ?",
            (sdkappid, once.nonce, once.until_ms, at_ms),
        )
        return self._connection.changes() > 0

    # -- the copies that acts made

    def add_again(
        self, state: State, first_seq: int, count: int, source_seq: int, act_id: int
    ) -> None:
        self._connection.execute(
            "INSERT INTO again VALUES (?, ?, ?, ?)",
            (state.key | first_seq, count, source_seq, act_id),
        )

    def copied(
        self, state: State, act_id: int, first_seq: int, last_seq: int
    ) -> Sequence[tuple[int, int]]:
        return cast(
            "list[tuple[int, int]]",
            self._connection.execute(
                _COPIED, (act_id, state.key >> schema.SEQ_BITS, first_seq, last_seq)
            ).fetchall(),
        )

    # -- what is derived of entries

    def followed(self, state: State) -> Followed:
        purged = state.purged
        return Followed(max(purged, state.followed), max(purged, state.tallied), state.turn)

    def put_followed(self, state: State, mark: Followed) -> None:
        state.followed, state.tallied, state.turn = mark.through, mark.tallied, mark.turn

    def segments(self, state: State, first_seq: int, last_seq: int) -> Sequence[Segment]:
        rows: list[Any] = self._connection.execute(
            f"SELECT {blocks.COLUMNS} FROM segment WHERE key BETWEEN coalesce((SELECT max(key) FROM"  # noqa: S608
            " segment WHERE key BETWEEN ?1 AND ?2), ?2) AND ?3 AND key + count > ?2 ORDER BY key",
            (state.key, state.key | first_seq, state.key | last_seq),
        ).fetchall()
        return [blocks.segment_of(self._connection, blocks.Row(*row)) for row in rows]

    def put_segment(self, state: State, segment: Segment) -> None:
        blocks.put_segment(self._connection, state.key, segment)

    def drop_segments(self, state: State, through: int | None) -> None:
        blocks.drop_segments(self._connection, state.key, through)

    def add_tally(self, sdkappid: int, tally: Tally, *, anew: bool) -> None:
        place = sdkappid, tally.series, tally.hour
        before: bytes | None = self._connection.execute(
            "SELECT counts FROM tally WHERE sdkappid = ? AND series = ? AND hour = ?", place
        ).get
        known = () if before is None else tallies.readable(before)
        if before is not None and bool(known) is anew:
            return  # what is damaged stays so until it is begun anew
        self._connection.execute(
            "INSERT OR REPLACE INTO tally VALUES (?, ?, ?, ?)",
            (*place, tallies.packed(tallies.summed(known, tally.counts))),
        )

    def drop_tallies(self, sdkappid: int, series: int, from_hour: int) -> None:
        self._connection.execute(
            "DELETE FROM tally WHERE sdkappid = ? AND series = ? AND hour >= ?",
            (sdkappid, series, from_hour),
        )

    # -- settings and marks

    def revision(self, name: str) -> int:
        return self.conditions.revision(name)

    def setting(self, name: str) -> tuple[bytes | None, int]:
        return cast(
            "tuple[bytes | None, int]",
            self._connection.execute(
                "SELECT value, revision FROM setting WHERE name = ?", (name,)
            ).fetchone()
            or (None, 0),
        )

    def put_setting(self, name: str, value: bytes | None, ticket: bytes) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO setting"
            " SELECT ?, ?, coalesce(max(revision), 0) + 1, ? FROM setting",
            (name, value, ticket),
        )
        self.conditions.written(name)

    def note(self, name: str, noted: Noted) -> None:
        self._connection.execute(
            "INSERT INTO mark VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET at_ms = excluded.at_ms, place = excluded.place WHERE at_ms < excluded.at_ms",
            (name, *noted),
        )

    def drop_note(self, name: str) -> None:
        self._connection.execute("DELETE FROM mark WHERE name = ?", (name,))

    # -- removal

    def remove(self, state: State, through: int) -> None:
        # A range that reaches further tells of what stays.
        self._connection.execute(
            "UPDATE again SET source_seq = source_seq + ?2 + 1 - key, count = key + count - ?2 - 1,"
            " key = ?2 + 1 WHERE key BETWEEN ?1 AND ?2 AND key + count - 1 > ?2",
            (state.key, state.key | through),
        )
        for table in ("journal", "again"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE key BETWEEN ? AND ?",  # noqa: S608 - ours
                (state.key, state.key | through),
            )
        self._connection.execute(
            "DELETE FROM chunk WHERE key BETWEEN ?1 AND ?2 AND key + count - 1 <= ?2",
            (state.key, state.key | through),
        )
        joining.cut(self._connection, state, through)

    def remove_aside(self, state: State, through: int) -> None:
        self._connection.execute(
            "DELETE FROM quarantine WHERE key BETWEEN ? AND ?", (state.key, state.key | through)
        )

    # -- names of sends

    def add_names(self, sdkappid: int, names: Sequence[Naming], at_ms: int) -> None:
        naming.add(self._connection, sdkappid, names, at_ms)

    def forgetters(self, operation: Forget) -> Sequence[Callable[[int], int | None]]:
        connection, before_ms = self._connection, operation.accepted_before_ms
        return (
            lambda _count: self.remembered.forget(before_ms),
            lambda count: _forget_of(connection, _FORGET_BATCHES, before_ms, count),
            lambda count: _forget_of(connection, _FORGET_ONCE, operation.now_ms, count),
            lambda count: _forget_of(connection, _FORGET_HOURS, operation.hours_before, count),
            lambda _count: naming.forget(connection, before_ms),
        )


def _reader_row(
    at_ms: int,
    acked_seq: int,
    first_seq: int,
    count: int,
    taken_ms: int,
    given: int,
    kept: int,
) -> ReaderRow:
    return ReaderRow(at_ms, acked_seq, first_seq, count, taken_ms, given, bool(kept))


def _forget_of(
    connection: apsw.Connection, statement: str, before: int, count_max: int
) -> int | None:
    """Drop the oldest that one table remembers; returns how many, None if there are none."""
    connection.execute(statement, (before, count_max))
    return connection.changes() or None


_CHUNKS = "SELECT key, count, checksum, bounds, body"
_READERS = (
    "SELECT name, at_ms, acked_seq, first_seq, count, taken_ms, given, page IS NOT NULL FROM reader"
    " WHERE mailbox = ?"
)
# Of one act no two ranges overlap, so at most one that begins before reaches into those asked for.
_COPIED = (
    "SELECT source_seq, count FROM again WHERE act_id = ?1 AND key >> 40 = ?2 AND source_seq"
    " BETWEEN coalesce((SELECT max(source_seq) FROM again WHERE act_id = ?1 AND key >> 40 = ?2"
    " AND source_seq < ?3), ?3) AND ?4"
)
_FORGET_BATCHES = (
    "DELETE FROM repeat_key WHERE id IN (SELECT id"
    " FROM repeat_key WHERE accepted_ms < ? ORDER BY accepted_ms LIMIT ?)"
)
_FORGET_HOURS = (
    "DELETE FROM tally WHERE (sdkappid, series, hour) IN (SELECT sdkappid, series, hour"
    " FROM tally WHERE hour < ? ORDER BY hour LIMIT ?)"
)
_FORGET_ONCE = (
    "DELETE FROM once WHERE (sdkappid, nonce) IN (SELECT sdkappid, nonce"
    " FROM once WHERE until_ms < ? ORDER BY until_ms LIMIT ?)"
)

"""The log with a cursor in SQLite: groups of operations, one transaction each. No threads here.

`Log.commit` takes all appends and pulls that wait and makes them one transaction: the appends of a
mailbox become chunks, its pulls share one read, and one sync makes all of it durable. Appends come
before pulls: none of the group has been answered yet, so any order is a true one, and this one
lets a pull see what came with it.

What is in memory (tail, cursor, where to read on) is a copy that makes counting and empty pulls
free. Another process may change the file, so it is read anew whenever SQLite says somebody did.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import apsw
import msgspec

from pullstatus import limits
from pullstatus.errors import (
    KeyReused,
    OutcomeUnknown,
    PullstatusError,
    ReplayRefused,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    StoreUnavailable,
)
from pullstatus.records import Kind
from pullstatus.store.sqlite import chunk, schema
from pullstatus.store.values import Append, Fingerprints, Mailbox, Outcome, Page, Pull, RepeatKey

CHUNK_COUNT_MAX = limits.PULL_COUNT_MAX  # a full page is then one read
CHECKPOINT_PAGES = 4096  # 32 MiB of log before it is folded into the file
CACHE_KIB = 65_536


class Change(msgspec.Struct, frozen=True):
    """Set the setting `name` if its value is still `expected`."""

    name: str
    value: bytes | None
    expected: bytes | None


class Forget(msgspec.Struct, frozen=True):
    """Drop up to `count_max` remembered batches, records and signatures from before `before_ms`."""

    before_ms: int
    count_max: int


Operation = Append | Pull | Change | Forget
Answer = int | Page | bool | PullstatusError


class State:
    """How a mailbox stands: its row, and where the next page begins to be read."""

    __slots__ = ("cursor", "handed_out", "key", "mailbox", "read_from", "tail")

    def __init__(
        self, mailbox: Mailbox, number: int, tail: int, cursor: int, handed_out: int, read_from: int
    ) -> None:
        self.mailbox = mailbox
        self.key = number << schema.SEQ_BITS
        self.tail = tail
        self.cursor = cursor
        self.handed_out = handed_out
        self.read_from = read_from

    @property
    def number(self) -> int:
        """Its row's id."""
        return self.key >> schema.SEQ_BITS

    def draft(self) -> State:
        """A copy to change while the transaction is open."""
        return State(
            self.mailbox, self.number, self.tail, self.cursor, self.handed_out, self.read_from
        )


def slot(mailbox: Mailbox) -> int:
    """A mailbox as one small integer, for dictionaries on the hot path."""
    return mailbox.sdkappid << 1 | mailbox.kind


class Log:
    """One writing connection. Not for use by two threads at a time.

    Attributes:
        states: how each mailbox stands after the newest commit, by `slot`.
        waiting: entries that wait, by `slot`; safe to read from any thread.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        """Set up `connection` for safe writing, bring its format up to date, read the mailboxes.

        Raises:
            StoreRefused: the file is not ours, too new, or cannot be made safe.
            StoreCorrupt: the file contradicts itself.
        """
        self._connection = connection
        self.states: dict[int, State] = {}
        self.waiting: dict[int, int] = {}
        self.commits = 0
        self.commit_s = 0.0
        self.operations = 0
        self._drafts: dict[int, State] = {}
        self._wal_pages = 0
        connection.wal_autocheckpoint(0)  # it would hide a failed sync: see `checkpoint`
        connection.set_wal_hook(self._count_wal_pages)
        self._others_version = -1
        self.notice_others()

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        """Carry out `group` as one transaction; one answer each, in order.

        An operation that breaks a rule (`KeyReused`, `ReplayRefused`) gets that as its answer and
        leaves no trace; the others are durable on return.

        Raises:
            StoreUnavailable: another process holds the file; nothing happened.
            StoreFull: no space is left; nothing happened.
            StoreFailed: the file can't be read or written; nothing happened; use this no more.
            OutcomeUnknown: the commit failed on its way to the disk; use this no more.
        """
        connection = self._connection
        started = time.monotonic()
        changes = connection.total_changes()
        self._drafts = {}
        with _translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._notice_others()
                answers = self._run(group)
                self._write_states()
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        try:
            connection.execute("COMMIT")
        except apsw.Error as error:
            raise OutcomeUnknown("the disk did not say whether a commit reached it") from error
        self._publish()
        if connection.total_changes() != changes:
            self.commits += 1
            self.operations += len(group)
            self.commit_s += time.monotonic() - started
        return answers

    def notice_others(self) -> None:
        """Learn what other processes changed since the last commit."""
        with _translated():
            self._connection.execute("BEGIN")  # rows of one moment, or they seem to contradict
            try:
                self._notice_others()
            finally:
                self._connection.execute("COMMIT")

    def checkpoint(self, *, least_pages: int = CHECKPOINT_PAGES) -> None:
        """Fold the write-ahead log into the file once it holds `least_pages`.

        Called between commits instead of SQLite's automatic one, which ignores its own errors: a
        sync that failed must stop the store, since a second try may report success for pages that
        the kernel has dropped.
        """
        if self._wal_pages >= least_pages:
            with _translated():
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal_pages = 0

    def close(self) -> None:
        """Close the connection; the last one to close folds the log into the file."""
        self._connection.close()

    # -- the group, by kind of operation -----------------------------------------------------

    def _run(self, group: Sequence[Operation]) -> list[Answer]:
        answers: list[Answer] = [0] * len(group)
        appends: dict[int, list[int]] = {}
        pulls: dict[int, list[int]] = {}
        for place, operation in enumerate(group):
            if isinstance(operation, Append):
                appends.setdefault(slot(operation.mailbox), []).append(place)
            elif isinstance(operation, Pull):
                pulls.setdefault(slot(operation.mailbox), []).append(place)
            elif isinstance(operation, Change):
                answers[place] = self._change(operation)
            else:
                answers[place] = self._forget(operation)
        for places in appends.values():
            self._append(cast("Sequence[Append]", group), places, answers)
        for places in pulls.values():
            self._pull(cast("Sequence[Pull]", group), places, answers)
        return answers

    def _append(self, group: Sequence[Append], places: list[int], answers: list[Answer]) -> None:
        """Pack what the appends of one mailbox bring into chunks at its tail."""
        fresh: list[bytes] = []
        for place in places:
            operation = group[place]
            answers[place] = len(operation.entries)
            if operation.repeat_key is not None:
                known = self._recall(operation.repeat_key, operation)
                if known is not None:
                    answers[place] = known
                    continue
            if operation.fingerprints is None:
                fresh += operation.entries
            else:
                fresh += self._unseen(operation, operation.fingerprints)
        if not fresh:
            return
        operation = group[places[-1]]
        state = self._draft(operation.mailbox) or self._create(operation.mailbox)
        for start in range(0, len(fresh), CHUNK_COUNT_MAX):
            entries = fresh[start : start + CHUNK_COUNT_MAX]
            key = state.key | (state.tail + 1)
            checksum, bounds, body = chunk.pack(key, entries)
            self._connection.execute(
                "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?)",
                (key, len(entries), operation.at_ms, checksum, bounds, body),
            )
            state.tail += len(entries)

    def _recall(self, repeat_key: RepeatKey, operation: Append) -> int | KeyReused | None:
        """What a batch's key was answered before; None, and remembered from now on, if never."""
        old_ms = operation.at_ms - limits.INGEST_REPEAT_S * 1000
        for digest, accepted, accepted_ms in self._connection.execute(
            "SELECT digest, accepted, accepted_ms FROM repeat_key WHERE scope = ? AND key = ?",
            (repeat_key.scope, repeat_key.key),
        ):
            if accepted_ms >= old_ms:
                if digest != repeat_key.digest:
                    return KeyReused("this Idempotency-Key came before with another body")
                return cast("int", accepted)
        self._connection.execute(
            "INSERT OR REPLACE INTO repeat_key (scope, key, digest, accepted, accepted_ms)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                repeat_key.scope,
                repeat_key.key,
                repeat_key.digest,
                len(operation.entries),
                operation.at_ms,
            ),
        )
        return None

    def _unseen(self, operation: Append, fingerprints: Fingerprints) -> Iterator[bytes]:
        """The entries whose fingerprints are new, remembered from now on."""
        connection = self._connection
        old_ms = operation.at_ms - limits.INGEST_REPEAT_S * 1000
        for entry, (record_s, digest) in zip(operation.entries, fingerprints.items, strict=True):
            connection.execute(
                "INSERT INTO fingerprint VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"
                " SET accepted_ms = excluded.accepted_ms WHERE accepted_ms < ?5",
                (record_s, digest, fingerprints.scope, operation.at_ms, old_ms),
            )
            if connection.changes():
                yield entry

    def _pull(self, group: Sequence[Pull], places: list[int], answers: list[Answer]) -> None:
        """Serve the pulls of one mailbox, in order of arrival, from one read of its head."""
        state = self._draft(group[places[0]].mailbox)
        head = _Head(self._connection, state) if state is not None else None
        rows = []
        for place in places:
            operation = group[place]
            before = self._before(operation)
            if before is not None:
                answers[place] = before
                continue
            if state is None or head is None or state.tail == state.cursor:
                answers[place] = Page(0, 0, b"", 0)
                continue
            first_seq = state.cursor + 1
            count, data = head.take(operation.count_max)
            rows.append(
                (
                    state.key | first_seq,
                    count,
                    Outcome.PULLED,
                    operation.at_ms,
                    operation.address,
                    operation.key,
                    operation.count_max,
                    operation.random,
                    operation.time_s,
                )
            )
            state.handed_out += count
            answers[place] = Page(first_seq, count, data, state.tail - state.cursor)
            if operation.key is not None:
                self._write_journal(rows)  # a twin in this group must find it
                rows = []
        self._write_journal(rows)

    def _write_journal(self, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._connection.executemany(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                cast("Iterable[tuple[apsw.SQLiteValue, ...]]", rows),
            )

    def _before(self, operation: Pull) -> Page | PullstatusError | None:
        """What answers a pull without a new page: its key's page, or a refusal."""
        if operation.key is not None:
            repeated = self._repeated(operation, operation.key)
            if repeated is not None:
                return repeated
        if operation.single_use:
            self._connection.execute(
                "INSERT OR IGNORE INTO used_signature VALUES (?, ?, ?)",
                (operation.time_s, operation.mailbox.sdkappid, operation.random),
            )
            if not self._connection.changes():
                return ReplayRefused("this signature was used before; sign each request anew")
        return None

    def _repeated(self, operation: Pull, pull_key: str) -> Page | KeyReused | None:
        """The page that a key got before."""
        old_ms = operation.at_ms - limits.PULL_KEY_S * 1000
        states = {
            state.number: state
            for kind in Kind
            if (state := self._draft(Mailbox(operation.mailbox.sdkappid, kind))) is not None
        }
        for key, count, at_ms, count_max in self._connection.execute(
            "SELECT key, count, at_ms, count_max FROM journal WHERE pull_key = ?", (pull_key,)
        ):
            state = states.get(key >> schema.SEQ_BITS)
            if state is None or at_ms < old_ms:
                continue
            if state.mailbox != operation.mailbox or count_max != operation.count_max:
                return KeyReused("this Idempotency-Key came before with another type or max")
            first_seq = key & schema.SEQ_MASK
            past = State(state.mailbox, state.number, first_seq + count - 1, first_seq - 1, 0, 0)
            past.read_from = self._chunk_at(past.key, first_seq)
            _, data = _Head(self._connection, past).take(count)
            return Page(first_seq, count, data, state.tail - state.cursor, repeated=True)
        return None

    def _change(self, operation: Change) -> bool:
        row = self._connection.execute(
            "SELECT value FROM setting WHERE name = ?", (operation.name,)
        ).get
        if row != operation.expected:
            return False
        self._connection.execute(
            "INSERT OR REPLACE INTO setting"
            " SELECT ?, ?, coalesce(max(revision), 0) + 1 FROM setting",
            (operation.name, operation.value),
        )
        return True

    def _forget(self, operation: Forget) -> int:
        """Drop what is too old to matter, a bounded step at a time, oldest first."""
        connection = self._connection
        before_ms, count_max = operation.before_ms, operation.count_max
        # A fingerprint's place is its record's own time, which is rarely later than its arrival:
        # looking no further than `before_ms` keeps this from reading the young ones.
        connection.execute(
            "DELETE FROM fingerprint WHERE (record_s, digest, scope) IN (SELECT record_s, digest,"
            " scope FROM fingerprint WHERE record_s < ?1 / 1000 AND accepted_ms < ?1 LIMIT ?2)",
            (before_ms, count_max),
        )
        forgotten = connection.changes()
        connection.execute(
            "DELETE FROM repeat_key WHERE id IN (SELECT id FROM repeat_key"
            " WHERE id <= (SELECT min(id) FROM repeat_key) + ?2 AND accepted_ms < ?1)",
            (before_ms, count_max),
        )
        forgotten += connection.changes()
        connection.execute(
            "DELETE FROM used_signature WHERE (time_s, sdkappid, random) IN (SELECT time_s,"
            " sdkappid, random FROM used_signature WHERE time_s < ?1 / 1000 LIMIT ?2)",
            (before_ms, count_max),
        )
        return forgotten + connection.changes()

    # -- how the mailboxes stand --------------------------------------------------------------

    def _draft(self, mailbox: Mailbox) -> State | None:
        """How a mailbox stands inside the open transaction; None if it does not exist."""
        place = slot(mailbox)
        draft = self._drafts.get(place)
        if draft is None and (state := self.states.get(place)) is not None:
            draft = self._drafts[place] = state.draft()
        return draft

    def _create(self, mailbox: Mailbox) -> State:
        self._connection.execute(
            "INSERT INTO mailbox (sdkappid, kind, tail, cursor, handed_out) VALUES (?, ?, 0, 0, 0)",
            (mailbox.sdkappid, int(mailbox.kind)),
        )
        draft = State(mailbox, self._connection.last_insert_rowid(), 0, 0, 0, 1)
        self._drafts[slot(mailbox)] = draft
        return draft

    def _write_states(self) -> None:
        rows = [
            (draft.tail, draft.cursor, draft.handed_out, draft.number)
            for place, draft in self._drafts.items()
            if (state := self.states.get(place)) is None
            or state.tail != draft.tail
            or state.cursor != draft.cursor
        ]
        if rows:
            self._connection.executemany(
                "UPDATE mailbox SET tail = ?, cursor = ?, handed_out = ? WHERE id = ?", rows
            )

    def _publish(self) -> None:
        for place, draft in self._drafts.items():
            self.states[place] = draft
            self.waiting[place] = draft.tail - draft.cursor
        self._drafts = {}

    def _notice_others(self) -> None:
        version = self._connection.execute("PRAGMA data_version").get
        if version != self._others_version:
            self._load()
            self._others_version = version

    def _load(self) -> None:
        for number, sdkappid, kind, tail, cursor, handed_out in self._connection.execute(
            "SELECT id, sdkappid, kind, tail, cursor, handed_out FROM mailbox"
        ):
            mailbox = Mailbox(sdkappid, Kind(kind))
            old = self.states.get(slot(mailbox))
            if old is not None and old.tail == tail and old.cursor == cursor:
                continue
            key = number << schema.SEQ_BITS
            self._check_ends(mailbox, key, tail, cursor)
            read_from = self._chunk_at(key, cursor + 1)
            self.states[slot(mailbox)] = State(mailbox, number, tail, cursor, handed_out, read_from)
            self.waiting[slot(mailbox)] = tail - cursor

    def _check_ends(self, mailbox: Mailbox, key: int, tail: int, cursor: int) -> None:
        """A mailbox's row, its newest chunk and its newest journal row must tell one story."""
        for table, expected in (("chunk", tail), ("journal", cursor)):
            newest = self._connection.execute(
                f"SELECT key, count FROM {table} WHERE key BETWEEN ? AND ?"  # noqa: S608 - ours
                " ORDER BY key DESC LIMIT 1",
                (key, key | schema.SEQ_MASK),
            ).fetchone()
            if newest is not None and (newest[0] & schema.SEQ_MASK) + newest[1] - 1 != expected:
                raise StoreCorrupt(
                    f"mailbox {mailbox} and its {table} rows contradict each other: "
                    "run `pullstatus audit`, and restore a backup if it confirms this"
                )

    def _chunk_at(self, key: int, seq: int) -> int:
        """First number of the chunk that holds `seq`; `seq` itself when none does."""
        found = self._connection.execute(
            "SELECT key, count FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
            (key, key | seq),
        ).fetchone()
        if found is None:
            return seq
        first: int = found[0] & schema.SEQ_MASK
        return first if first + found[1] > seq else seq

    def _count_wal_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK


class _Head:
    """Reads a mailbox from its cursor on, a chunk at a time, and moves the draft's cursor."""

    def __init__(self, connection: apsw.Connection, state: State) -> None:
        self._state = state
        self._rows = connection.execute(
            "SELECT key, count, checksum, bounds, body FROM chunk"
            " WHERE key BETWEEN ? AND ? ORDER BY key",
            (state.key | state.read_from, state.key | state.tail),
        )
        self._first = state.read_from
        self._count = 0
        self._bounds = self._body = b""

    def take(self, count_max: int) -> tuple[int, bytes]:
        """The next entries, joined by commas, and how many they are."""
        state = self._state
        wanted = min(count_max, state.tail - state.cursor)
        pieces = []
        left = wanted
        while left:
            start = state.cursor + 1 - self._first
            if start >= self._count:
                self._next()
                continue
            stop = min(start + left, self._count)
            pieces.append(chunk.cut(self._bounds, self._body, start, stop))
            state.cursor += stop - start
            left -= stop - start
        ended = state.cursor + 1 >= self._first + self._count
        state.read_from = state.cursor + 1 if ended else self._first
        return wanted, pieces[0] if len(pieces) == 1 else b",".join(pieces)

    def _next(self) -> None:
        row = next(self._rows, None)
        if row is None or row[0] & schema.SEQ_MASK > self._state.cursor + 1:
            raise StoreCorrupt(f"entries of mailbox {self._state.mailbox} are missing")
        key, self._count, checksum, self._bounds, self._body = row
        if chunk.checksum(key, self._bounds, self._body) != checksum:
            raise StoreCorrupt(f"entries of mailbox {self._state.mailbox} are damaged")
        self._first = key & schema.SEQ_MASK


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Say what SQLite's errors mean for the caller; no name of its own climbs from here."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreUnavailable("another process holds the store; try again") from error
    except apsw.FullError as error:
        raise StoreFull("no space is left for the store; free some and try again") from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreCorrupt(
            "the store's file is damaged: keep a copy of it, then restore a backup"
        ) from error
    except apsw.Error as error:
        raise StoreFailed(f"the store's file cannot be read or written ({error})") from error

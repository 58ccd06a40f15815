"""SQLite as a target: records, and which page they are, change in one transaction."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pullstatus import Page
from pullstatus.client.keys import NextPage, decode_next_page
from pullstatus.client.records import DeliveryStatus, Record
from pullstatus.client.slots import bears, name_lost, open_file
from pullstatus.consumer.forms import COLUMNS, one_line
from pullstatus.consumer.state import (
    Known,
    Source,
    at_another_address,
    is_at,
    refuse_moved,
    refuse_renamed,
)
from pullstatus.errors import StoreFailed, StoreRefused
from pullstatus.mounts import mounted_alone, mounts_here
from pullstatus.records import MEMBERS, Kind

TABLES = {Kind.DELIVERY_STATUS: "delivery_statuses", Kind.REPLY: "replies"}
TIMES = {
    Kind.DELIVERY_STATUS: ("received_at", "user_receive_time with its zone, NULL if it is none"),
    Kind.REPLY: ("replied_at", "time as text with its zone, NULL if it is none"),
}
SQL_TYPES = {str: "TEXT NOT NULL DEFAULT ''", int: "INTEGER NOT NULL DEFAULT 0"}


def _members(kind: Kind) -> dict[str, str]:
    """Name and SQL of each column that is a member of the record."""
    return {member.name: f"{member.name} {SQL_TYPES[member.type]}" for member in MEMBERS[kind]}


def _table(kind: Kind) -> str:
    at, said = TIMES[kind]
    return "\n    ".join(
        [
            f"CREATE TABLE IF NOT EXISTS {TABLES[kind]} (",
            "number INTEGER PRIMARY KEY,  -- in the order of their hand-out",
            "sdkappid INTEGER NOT NULL,",
            f"{at} TEXT,  -- {said}",
            *(f"{sql}," for sql in _members(kind).values()),
            "json TEXT NOT NULL  -- the record as it was sent",
            ");",
        ]
    )


PULLS = """
CREATE TABLE IF NOT EXISTS pullstatus_pull (
    url       TEXT NOT NULL,
    sdkappid  INTEGER NOT NULL,
    type      INTEGER NOT NULL,
    keyed     INTEGER,                      -- does the service know Idempotency-Key?
    in_flight TEXT,                         -- the page that was asked for, or will be, JSON
    reader    TEXT,                         -- the name under which it is pulled
    written   TEXT,                         -- the last page of this reader that was stored
    PRIMARY KEY (url, sdkappid, type)
);
"""


LATER = ("reader", "written")
"""Columns of that table which format 1 had not."""

LOG = ("-wal", "-shm")
"""What a write-ahead log and its index are called behind the name of the file."""

JOURNAL = "-journal"
"""What is called so takes back a commit that was cut off."""

FORMAT = 2
"""What the tables look like. 1 had no table that says so, no indexes and no readers. A member that
comes to records is a column more, and no new format."""

FORMATS = """
CREATE TABLE IF NOT EXISTS pullstatus_format (
    format INTEGER NOT NULL                 -- of these tables, for versions of pullstatus to come
);
"""

INDEXES = {Kind.DELIVERY_STATUS: ("sid", "mobile"), Kind.REPLY: ("mobile",)}
"""What people look records up by."""


class SqliteTarget:
    """A database with a table for each kind; it may have other tables and mailboxes, too."""

    def __init__(
        self, path: Path, source: Source, *, moved: bool = False, abandon: bool = False
    ) -> None:
        self._path = path
        self._source = source
        self._known = Known()
        self._where = (source.url, source.sdkappid, int(source.kind))
        names = [TIMES[source.kind][0], "sdkappid", *COLUMNS[source.kind], "json"]
        holes = ", ".join("?" * len(names))
        self._insert = f"INSERT INTO {TABLES[source.kind]} ({', '.join(names)}) VALUES ({holes})"  # noqa: S608 - our own names
        self._files: dict[Path, os.stat_result] = {}
        with self._engine():
            _refuse_mounted_alone(Path(os.path.realpath(path)))
            _make_private(path)
            _refuse_other_names(Path(os.path.realpath(path)))
            self._files[path] = path.stat()
            # Absolute, since `:memory:` is no file.
            self._connection = sqlite3.connect(path.absolute(), timeout=30, isolation_level=None)
            try:
                self._prepare(moved=moved, abandon=abandon)
                self._check_names()
            except BaseException:
                self._connection.close()
                raise

    @property
    def known(self) -> Known:
        """As `Target` says."""
        return self._known

    def read_as(self, reader: str) -> None:
        """As `Target` says."""
        refuse_renamed(self._known.reader, reader, self._path)
        if self._known.reader is None:
            self._change(reader=reader)

    def ask(self, page: NextPage) -> None:
        """As `Target` says."""
        self._change(next_page=page)

    def settle(self, page: Page[Record]) -> None:
        """As `Target` says; no page is in flight under a key then, unless this one is empty."""
        self._known = msgspec.structs.replace(self._known, keyed=page.keyed)
        if page and page.key:
            self._change(page, next_page=None)
        elif page:
            self._change(page, written=page.pull_id or self._known.written)

    def rest(self, kept: NextPage | None = None) -> None:
        """As `Target` says."""
        if self._known.next_page != kept:
            self._change(next_page=kept)

    def give_up(self) -> None:
        """As `Target` says; a page is written whole or not at all."""
        self.rest()

    def forget(self) -> None:
        """As `Target` says."""
        self._change(written=None)

    def close(self) -> None:
        """As `Target` says."""
        self._connection.close()

    def _prepare(self, *, moved: bool, abandon: bool) -> None:
        [(made_by,)] = self._connection.execute("PRAGMA application_id")
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_schema")}
        if made_by and not tables >= {"pullstatus_pull"}:
            # It says whose it is; a server's own store does.
            raise StoreRefused(f"{self._path} belongs to another program: give another file")
        # FULL leaves it to chance whether a journal's removal, which is the commit, is on disk.
        self._connection.execute("PRAGMA synchronous = EXTRA")
        with self._transaction():
            self._bring_up_to_date()
            self._known = self._find(moved=moved, abandon=abandon)

    def _bring_up_to_date(self) -> None:
        """Make the tables, or what a file of an older version lacks of them: all or nothing."""
        for statement in (FORMATS, PULLS, *map(_table, Kind)):
            self._connection.execute(statement)
        found = self._connection.execute("SELECT max(format) FROM pullstatus_format").fetchone()[0]
        if found is not None and found > FORMAT:
            raise StoreRefused(
                f"{self._path} has tables of format {found}, and this version knows {FORMAT} at"
                " most: install the newer pullstatus, or give another file"
            )
        there = self._columns("pullstatus_pull")
        for name in LATER:
            if name not in there:
                self._connection.execute(f"ALTER TABLE pullstatus_pull ADD COLUMN {name} TEXT")
        for kind in Kind:
            self._complete(kind)
        if found != FORMAT:
            self._connection.execute("DELETE FROM pullstatus_format")
            self._connection.execute("INSERT INTO pullstatus_format VALUES (?)", (FORMAT,))

    def _complete(self, kind: Kind) -> None:
        """Add the members that came since, and the indexes."""
        table = TABLES[kind]
        there = self._columns(table)
        if not there >= {"number", "sdkappid", "json"}:
            return  # a table of this name that is not ours
        for name, sql in _members(kind).items():
            if name not in there:
                self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {sql}")
        for name in INDEXES[kind]:
            self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS {table}_{name} ON {table} ({name})"
            )

    def _columns(self, table: str) -> set[str]:
        return {name for _, name, *_ in self._connection.execute(f"PRAGMA table_info({table})")}

    def _find(self, *, moved: bool, abandon: bool) -> Known:
        """What is known of the mailbox, and is from now on known of it at this address.

        Args:
            moved: a page that is waited for at another one is gone on with.
            abandon: or it is given up.
        """
        here, found = self._source.url, self._rows()
        rows = {here: Known(), **found}

        def rank(url: str) -> tuple[bool, ...]:
            known, own = rows[url], is_at(here, url)
            return known.in_doubt, known.in_doubt and own, known.reader is not None, own

        at = max(rows, key=rank)
        known = rows[at]
        if not is_at(here, at):
            if known.in_doubt and not (moved or abandon):
                refuse_moved(at, self._path)
            known = at_another_address(known, moved=moved)
        if known != found.get(here):
            self._replace(known, at)
        return known

    def _rows(self) -> dict[str, Known]:
        """What is known of the mailbox by the service's address, the newest first."""
        rows = self._connection.execute(
            "SELECT url, keyed, in_flight, reader, written FROM pullstatus_pull"
            " WHERE sdkappid = ? AND type = ? ORDER BY rowid DESC",
            self._where[1:],
        )
        return {
            url: Known(
                keyed=None if keyed is None else bool(keyed),
                next_page=None if in_flight is None else decode_next_page(in_flight),
                reader=reader,
                written=written,
            )
            for url, keyed, in_flight, reader, written in rows
        }

    def _replace(self, known: Known, was: str) -> None:
        """Have this known at our address, and nothing where it was known."""
        for url in {was, self._source.url}:
            self._connection.execute(
                "DELETE FROM pullstatus_pull WHERE url = ? AND sdkappid = ? AND type = ?",
                (url, *self._where[1:]),
            )
        self._connection.execute(
            "INSERT INTO pullstatus_pull"
            " (url, sdkappid, type, keyed, in_flight, reader, written)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*self._where, known.keyed, *_row_of(known)),
        )

    def _change(self, page: Iterable[Record] = (), **changes: Any) -> None:  # noqa: ANN401 - members of `Known`
        """Store records and what is known from now on: only if nobody else has meanwhile."""
        was = self._known
        now = msgspec.structs.replace(was, **changes)
        with self._engine(), self._transaction():
            self._connection.executemany(self._insert, [self._row(record) for record in page])
            changed = self._connection.execute(
                "UPDATE pullstatus_pull SET keyed = ?, in_flight = ?, reader = ?, written = ?"
                " WHERE url = ? AND sdkappid = ? AND type = ?"
                " AND in_flight IS ? AND reader IS ? AND written IS ?",
                (now.keyed, *_row_of(now), *self._where, *_row_of(was)),
            )
            if changed.rowcount != 1:
                raise StoreRefused(
                    f"another process pulls the same mailbox into {self._path}, or one of another"
                    " service with the same sdkappid: give each a database of its own"
                )
        with self._engine():
            self._check_names()
        self._known = now

    def _check_names(self) -> None:
        """Behind a commit, that it is in files that others find.

        With a write-ahead log SQLite does not notice that they have lost their names.
        """
        [(mode,)] = self._connection.execute("PRAGMA journal_mode")
        real = self._path.resolve()
        log = [real.with_name(real.name + end) for end in LOG] if mode == "wal" else []
        self._files = {path: self._files.get(path) or path.stat() for path in [self._path, *log]}
        for path, found in self._files.items():
            if not bears(path, found):
                raise StoreFailed(name_lost(path))
        _refuse_other_names(real)

    def _row(self, record: Record) -> list[object]:
        at = record.received_at if isinstance(record, DeliveryStatus) else record.replied_at
        values = [getattr(record, name) for name in COLUMNS[self._source.kind]]
        values = [_in_range(value) for value in values]
        json = one_line(record.json).decode()
        return [None if at is None else at.isoformat(), self._source.sdkappid, *values, json]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _engine(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path} cannot be used: {error}") from error
        except OSError as error:
            raise StoreFailed(f"{self._path} cannot be used: {error.strerror}") from error


def _refuse_mounted_alone(path: Path) -> None:
    """A container that is given the database alone would keep it without its newest records.

    Those of a write-ahead log are in another file, and so is the journal by which a commit that was
    cut off is taken back.
    """
    files = [path, *(path.with_name(path.name + end) for end in (*LOG, JOURNAL))]
    alone = mounted_alone(files, mounts_here())
    if alone is not None:
        raise StoreRefused(
            f"{alone} is mounted by itself, so what SQLite keeps beside it would stay behind, and"
            " the newest records in it: mount the folder it lies in"
        )


def _refuse_other_names(path: Path) -> None:
    """SQLite looks for log and journal by the name that it is given, and finds none by another one.

    What it goes on without there, it would write over what came meanwhile, once it finds it again.
    """
    for end in ("", *LOG, JOURNAL):
        file = path.with_name(path.name + end)
        try:
            found = file.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise StoreRefused(
                f"{file} is no ordinary file, but what SQLite keeps of a database lies beside it in"
                " one folder: put it there, or give another file"
            )
        if found.st_nlink > 1:
            raise StoreRefused(
                f"{file} has {found.st_nlink} names (hard links): by another one it would be a"
                " database without its log or journal; remove the others (find them with: find /"
                f" -inum {found.st_ino}), or give another file"
            )


def _make_private(path: Path) -> None:
    """Make the file, if it is not there, for its owner alone; its journal follows it."""
    os.close(open_file(path))


def _row_of(known: Known) -> tuple[str | None, ...]:
    """What tells one state of a mailbox from another: columns in_flight, reader and written."""
    page = known.next_page
    in_flight = None if page is None else msgspec.json.encode(page).decode()
    return in_flight, known.reader, known.written


def _in_range(value: object) -> object:
    """An integer that SQLite can't hold becomes 0; what was sent is in `json`."""
    return 0 if isinstance(value, int) and not -(2**63) <= value < 2**63 else value

"""The rows of a file in the neutral form of `store.transfer`, out of it and into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from pullstatus.store import chunk
from pullstatus.store.fingerprints import halves_of
from pullstatus.store.gathering.operations import Replace
from pullstatus.store.sqlite import acts, blocks, naming, reading, schema
from pullstatus.store.tallies import packed, unpacked
from pullstatus.store.transfer import (
    STEP_BYTES_MAX,
    STEP_ROWS_MAX,
    Batch,
    Copied,
    Epoch,
    Hand,
    Key,
    Mark,
    Names,
    Nonce,
    Part,
    Prints,
    Row,
    Secret,
    SetAside,
    Standing,
    Stored,
    Tallied,
    key_of,
    weight,
)
from pullstatus.store.values import (
    NO_TICKET,
    ActRow,
    JournalRow,
    Mailbox,
    Naming,
    Setting,
    contents,
)
from pullstatus.store.verbs import readers

_Binding = int | str | bytes | None


def rows(
    connection: apsw.Connection, part: Part, after: Key | None, mailboxes: Sequence[Mailbox]
) -> list[Row]:
    """See `Transfer.rows`."""
    found: list[Row] = []
    size = 0
    for row in _TABLES[part].read(connection, after, mailboxes):
        found.append(row)
        size += weight(row)
        if len(found) == STEP_ROWS_MAX or size >= STEP_BYTES_MAX:
            break
    return found


def replace(connection: apsw.Connection, operation: Replace) -> int:
    """See `Transfer.replace`; in the open transaction."""
    table = _TABLES[operation.part]
    if operation.drop:
        table.drop(connection, operation.drop)
    if operation.put:
        table.put(connection, operation.put)
    return len(operation.drop) + len(operation.put)


class _Table(NamedTuple):
    """A part of a store, as the file has it."""

    read: Callable[[apsw.Connection, Key | None, Sequence[Mailbox]], Iterator[Row]]
    put: Callable[[apsw.Connection, Sequence[Any]], object]
    drop: Callable[[apsw.Connection, Sequence[Any]], object]


# -- parts that are tables with a column for each member -------------------------------------------


def _plain(row: type[Any], table: str, columns: Sequence[str], key_columns: int) -> _Table:
    """A part whose rows are those of a table.

    Args:
        columns: one for each member of `row`, in order.
        key_columns: how many of them, the first ones, are its key.
    """
    names, places = ", ".join(columns), ", ".join("?" * len(columns))
    keys, bindings = ", ".join(columns[:key_columns]), ", ".join("?" * key_columns)
    # What has no ticket was written before there were any.
    told = names.replace("ticket", f"coalesce(ticket, zeroblob({len(NO_TICKET)}))")
    select = f"SELECT {told} FROM {table}"  # noqa: S608 - all of it is ours
    behind = f"{select} WHERE ({keys}) > ({bindings}) ORDER BY {keys}"
    select += f" ORDER BY {keys}"
    insert = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})"  # noqa: S608
    delete = f"DELETE FROM {table} WHERE ({keys}) = ({bindings})"  # noqa: S608

    def read(
        connection: apsw.Connection, after: Key | None, _mailboxes: Sequence[Mailbox]
    ) -> Iterator[Row]:
        for found in connection.execute(*((select,) if after is None else (behind, after))):
            yield row(*found)

    def put(connection: apsw.Connection, rows: Sequence[Any]) -> None:
        connection.executemany(insert, map(msgspec.structs.astuple, rows))

    def drop(connection: apsw.Connection, rows: Sequence[Any]) -> None:
        connection.executemany(delete, [msgspec.structs.astuple(row)[:key_columns] for row in rows])

    return _Table(read, put, drop)


def _read_secret(
    connection: apsw.Connection, after: Key | None, _mailboxes: Sequence[Mailbox]
) -> Iterator[Row]:
    if after is None:
        yield Secret(connection.execute("SELECT value FROM fingerprint_secret").get)


def _put_secret(connection: apsw.Connection, rows: Sequence[Secret]) -> None:
    connection.execute("INSERT OR REPLACE INTO fingerprint_secret VALUES (1, ?)", (rows[0].value,))


def _keep_secret(_connection: apsw.Connection, _rows: Sequence[Secret]) -> None:
    """A store has one always."""


def _read_acts(
    connection: apsw.Connection, after: Key | None, _mailboxes: Sequence[Mailbox]
) -> Iterator[Row]:
    first = -schema.ACT_ID_MAX if after is None else after[0] + 1
    yield from acts.step(connection, first, schema.ACT_ID_MAX, STEP_ROWS_MAX, backwards=False)


def _put_acts(connection: apsw.Connection, rows: Sequence[ActRow]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO act (id, ticket, at_ms, actor, action, reason, detail, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row.act_id,
                None if row.act.ticket == NO_TICKET else row.act.ticket,
                row.act.at_ms,
                row.act.actor,
                row.act.action,
                row.act.reason,
                row.act.detail,
                row.hash,
            )
            for row in rows
        ],
    )


def _drop_acts(connection: apsw.Connection, rows: Sequence[ActRow]) -> None:
    connection.executemany("DELETE FROM act WHERE id = ?", [(row.act_id,) for row in rows])


# -- mailboxes, and what is in them ----------------------------------------------------------------

_COUNTS = (
    "tail, cursor, handed_out, expired, erased, quarantined, put_back, routed, purged, tallied"
)


_TOLD = _COUNTS.replace("tallied", "max(tallied, purged)")


def _read_standings(
    connection: apsw.Connection, after: Key | None, _mailboxes: Sequence[Mailbox]
) -> Iterator[Row]:
    behind = (-1, 0) if after is None else (after[0].sdkappid, after[0].holds)
    for sdkappid, kind, *counts in connection.execute(
        f"SELECT sdkappid, kind, {_TOLD} FROM mailbox"  # noqa: S608 - ours
        " WHERE (sdkappid, kind) > (?, ?) ORDER BY sdkappid, kind",
        behind,
    ):
        yield Standing(Mailbox(sdkappid, schema.known(contents, kind)), *counts)


def _put_standings(connection: apsw.Connection, rows: Sequence[Standing]) -> None:
    connection.executemany(
        f"INSERT INTO mailbox (sdkappid, kind, {_COUNTS})"  # noqa: S608 - ours
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sdkappid, kind) DO UPDATE SET"
        + ", ".join(f" {name} = excluded.{name}" for name in _COUNTS.split(", ")),
        [
            (row.mailbox.sdkappid, int(row.mailbox.kind), *msgspec.structs.astuple(row)[1:])
            for row in rows
        ],
    )


def _drop_standings(connection: apsw.Connection, rows: Sequence[Standing]) -> None:
    for row in rows:
        key = reading.base(connection, row.mailbox)
        if key is None:
            continue
        blocks.drop_segments(connection, key, None)
        for table in ("chunk", "quarantine", "journal", "again"):
            connection.execute(
                f"DELETE FROM {table} WHERE key BETWEEN ? AND ?",  # noqa: S608 - ours
                (key, key | schema.SEQ_MASK),
            )
        number = key >> schema.SEQ_BITS
        connection.execute("DELETE FROM reader WHERE mailbox = ?", (number,))
        connection.execute("DELETE FROM mailbox WHERE id = ?", (number,))


def _base(connection: apsw.Connection, mailbox: Mailbox) -> int:
    """Where a mailbox's keys begin; it is made if it is not there."""
    key = reading.base(connection, mailbox)
    if key is None:
        _put_standings(connection, [Standing(mailbox, *(0,) * 9)])
        key = reading.base(connection, mailbox)
        assert key is not None
    return key


def _keyed(
    table: str,
    columns: Sequence[str],
    order: Sequence[str],
    members: Callable[[int, Any], tuple[_Binding, ...]],
    row: Callable[..., Row],
) -> _Table:
    """A part whose rows have a mailbox's number and a place in it for their key.

    Args:
        columns: those behind the key.
        order: of them, those by which rows of the same place are ordered.
        members: what goes into the columns; given the key, too.
        row: makes a row of a mailbox, the key, and the columns.
    """
    names = ", ".join(("key", *columns))
    keys = ", ".join(("key", *order))
    select = (
        f"SELECT {names} FROM {table} WHERE ({keys}) > (?{', ?' * len(order)}) AND key <= ?"  # noqa: S608
        f" ORDER BY {keys}"
    )
    insert = f"INSERT OR REPLACE INTO {table} ({names}) VALUES (?{', ?' * len(columns)})"  # noqa: S608
    delete = f"DELETE FROM {table} WHERE ({keys}) = (?{', ?' * len(order)})"  # noqa: S608

    def read(
        connection: apsw.Connection, after: Key | None, mailboxes: Sequence[Mailbox]
    ) -> Iterator[Row]:
        for mailbox, base, behind in _bases(connection, after, mailboxes):
            place, *rest = behind or (0, *(0,) * len(order))
            lowest = (base | place, *rest)
            for found in connection.execute(select, (*lowest, base | schema.SEQ_MASK)):
                yield row(mailbox, *found)

    def put(connection: apsw.Connection, rows: Sequence[Any]) -> None:
        for mailbox, own in groupby(rows, lambda one: one.mailbox):
            base = _base(connection, mailbox)
            connection.executemany(
                insert, [(base | one.first_seq, *members(base | one.first_seq, one)) for one in own]
            )

    def drop(connection: apsw.Connection, rows: Sequence[Any]) -> None:
        for mailbox, own in groupby(rows, lambda one: one.mailbox):
            base = _base(connection, mailbox)
            connection.executemany(
                delete,
                [(base | one.first_seq, *(getattr(one, name) for name in order)) for one in own],
            )

    return _Table(read, put, drop)


def _bases(
    connection: apsw.Connection, after: Key | None, mailboxes: Sequence[Mailbox]
) -> Iterator[tuple[Mailbox, int, Key | None]]:
    """Those that are to be read on, where their keys begin, and what of the key is behind."""
    for mailbox in mailboxes:
        if after is not None and mailbox < after[0]:
            continue
        base = reading.base(connection, mailbox)
        if base is not None:
            yield mailbox, base, after[1:] if after is not None and mailbox == after[0] else None


_CHUNK = ("count", "accepted_ms", "checksum", "bounds", "body", "tickets")


def _chunk_members(key: int, row: Stored) -> tuple[_Binding, ...]:
    checksum = chunk.checksum(key, row.bounds, row.body)
    if not row.sound:
        checksum ^= 1  # what was damaged stays so
    return row.count, row.accepted_ms, checksum, row.bounds, row.body, row.label


def _chunk_row(kind: type[Stored]) -> Callable[..., Row]:
    def row(
        mailbox: Mailbox,
        key: int,
        count: int,
        accepted_ms: int,
        checksum: int,
        bounds: bytes,
        body: bytes,
        label: bytes | None,
    ) -> Row:
        sound = chunk.checksum(key, bounds, body) == checksum
        first_seq = key & schema.SEQ_MASK
        return kind(mailbox, first_seq, count, accepted_ms, bounds, body, label, sound)

    return row


_JOURNAL = (
    "count",
    "outcome",
    "at_ms",
    "address",
    "pull_key",
    "count_max",
    "proof",
    "ticket",
    "reader",
    "given",
    "acked_ms",
    "released_ms",
)


def _journal_members(_key: int, row: JournalRow) -> tuple[_Binding, ...]:
    return (
        row.count,
        int(row.outcome),
        row.at_ms,
        row.address,
        row.key,
        row.count_max,
        row.proof,
        None if row.ticket == NO_TICKET else row.ticket,
        row.reader,
        None if row.reader is None else row.given,
        row.acked_ms,
        row.released_ms,
    )


def _journal_row(mailbox: Mailbox, key: int, *members: Any) -> Row:  # noqa: ANN401
    given = 1 if members[-3] is None else members[-3]
    return reading.journal_row(mailbox, key, *(*members[:-3], given, *members[-2:]))


def _copied_members(_key: int, row: Copied) -> tuple[_Binding, ...]:
    return row.count, row.source_seq, row.act_id


def _copied_row(mailbox: Mailbox, key: int, count: int, source_seq: int, act_id: int) -> Row:
    return Copied(mailbox, key & schema.SEQ_MASK, act_id, count, source_seq)


# -- what was counted ------------------------------------------------------------------------------


def _read_tallies(
    connection: apsw.Connection, after: Key | None, _mailboxes: Sequence[Mailbox]
) -> Iterator[Row]:
    for sdkappid, series, hour, counts in connection.execute(
        "SELECT sdkappid, series, hour, counts FROM tally"
        " WHERE (sdkappid, series, hour) > (?, ?, ?) ORDER BY sdkappid, series, hour",
        (-1, 0, 0) if after is None else after,
    ):
        yield Tallied(sdkappid, series, hour, unpacked(counts))


def _put_tallies(connection: apsw.Connection, rows: Sequence[Tallied]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO tally VALUES (?, ?, ?, ?)",
        [(row.sdkappid, row.series, row.hour, packed(row.counts)) for row in rows],
    )


def _drop_tallies(connection: apsw.Connection, rows: Sequence[Tallied]) -> None:
    connection.executemany(
        "DELETE FROM tally WHERE (sdkappid, series, hour) = (?, ?, ?)", map(key_of, rows)
    )


# -- readers ---------------------------------------------------------------------------------------


def _read_hands(
    connection: apsw.Connection, after: Key | None, mailboxes: Sequence[Mailbox]
) -> Iterator[Row]:
    for mailbox, base, behind in _bases(connection, after, mailboxes):
        for name, at_ms, acked_seq, first_seq, count, taken_ms, given, page in connection.execute(
            "SELECT name, at_ms, acked_seq, first_seq, count, taken_ms, given, page FROM reader"
            " WHERE mailbox = ? AND name > ? ORDER BY name",
            (base >> schema.SEQ_BITS, *(behind or ("",))),
        ):
            hand = Hand(mailbox, name, at_ms, acked_seq, first_seq, count, taken_ms, given)
            if page is not None:
                entries = readers.unsealed(base | first_seq, page)
                hand = msgspec.structs.replace(hand, kept=True, page=entries)
            yield hand


def _put_hands(connection: apsw.Connection, rows: Sequence[Hand]) -> None:
    for row in rows:
        base = _base(connection, row.mailbox)
        connection.execute(
            "INSERT OR REPLACE INTO reader (mailbox, name, at_ms, acked_seq, first_seq, count,"
            " taken_ms, given, page) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                base >> schema.SEQ_BITS,
                *msgspec.structs.astuple(row)[1:8],
                readers.sealed(base | row.first_seq, row.page) if row.kept else None,
            ),
        )


def _drop_hands(connection: apsw.Connection, rows: Sequence[Hand]) -> None:
    for row in rows:
        connection.execute(
            "DELETE FROM reader WHERE mailbox = ? AND name = ?",
            (_base(connection, row.mailbox) >> schema.SEQ_BITS, row.name),
        )


# -- what is remembered of records -----------------------------------------------------------------

# The order of acceptance is all that is remembered; the index is made of it.
_prints = _plain(Prints, "fingerprint_step", ("accepted_ms", "keys"), 2)


def _put_prints(connection: apsw.Connection, rows: Sequence[Prints]) -> None:
    _prints.put(connection, rows)
    connection.executemany(
        "INSERT INTO fingerprint VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET accepted_ms = max(accepted_ms, excluded.accepted_ms)",
        sorted((*halves, row.accepted_ms) for row in rows for halves in halves_of(row.keys)),
    )
    connection.execute(
        "UPDATE fingerprint_indexed SET through = (SELECT max(id) FROM fingerprint_step)"
    )


def _drop_prints(connection: apsw.Connection, rows: Sequence[Prints]) -> None:
    _prints.drop(connection, rows)
    connection.executemany(
        "DELETE FROM fingerprint WHERE (slot, short, accepted_ms) = (?, ?, ?)",
        [(*halves, row.accepted_ms) for row in rows for halves in halves_of(row.keys)],
    )


def _read_names(
    connection: apsw.Connection, after: Key | None, _mailboxes: Sequence[Mailbox]
) -> Iterator[Row]:
    return naming.blocks(connection, None if after is None else Names(*after))


def _put_names(connection: apsw.Connection, rows: Sequence[Names]) -> None:
    _drop_names(connection, rows)
    for row in rows:
        naming.add(connection, row.sdkappid, [Naming(list(row.slots), row.body)], row.accepted_ms)


def _drop_names(connection: apsw.Connection, rows: Sequence[Names]) -> None:
    for row in rows:
        naming.remove(connection, row)


_TABLES: Final[dict[Part, _Table]] = {
    Secret: _Table(_read_secret, _put_secret, _keep_secret),
    Epoch: _plain(Epoch, "epoch", ("number", "began_ms"), 1),
    Setting: _plain(Setting, "setting", ("name", "value", "revision", "ticket"), 1),
    ActRow: _Table(_read_acts, _put_acts, _drop_acts),
    Mark: _plain(Mark, "mark", ("name", "at_ms", "place"), 1),
    Standing: _Table(_read_standings, _put_standings, _drop_standings),
    Tallied: _Table(_read_tallies, _put_tallies, _drop_tallies),
    Stored: _keyed("chunk", _CHUNK, (), _chunk_members, _chunk_row(Stored)),
    SetAside: _keyed("quarantine", _CHUNK, (), _chunk_members, _chunk_row(SetAside)),
    JournalRow: _keyed("journal", _JOURNAL, (), _journal_members, _journal_row),
    Copied: _keyed(
        "again", ("count", "source_seq", "act_id"), ("act_id",), _copied_members, _copied_row
    ),
    Hand: _Table(_read_hands, _put_hands, _drop_hands),
    Batch: _plain(Batch, "repeat_key", ("scope", "key", "digest", "accepted", "accepted_ms"), 2),
    Prints: _Table(_prints.read, _put_prints, _drop_prints),
    Names: _Table(_read_names, _put_names, _drop_names),
    Nonce: _plain(Nonce, "once", ("sdkappid", "nonce", "until_ms"), 2),
}

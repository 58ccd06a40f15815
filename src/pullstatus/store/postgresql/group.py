"""The two trips of a group to the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from psycopg import Cursor
from psycopg.rows import TupleRow

from pullstatus.errors import StoreUnavailable
from pullstatus.store.fingerprints import halves_of
from pullstatus.store.postgresql import schema, statements
from pullstatus.store.postgresql.asked import Asked
from pullstatus.store.postgresql.gate import LaneGate
from pullstatus.store.postgresql.session import Session
from pullstatus.store.postgresql.statements import ints, names
from pullstatus.store.postgresql.tables import PostgresTables, send
from pullstatus.store.postgresql.writes import Due
from pullstatus.store.texts import encoded

_Learn = Callable[[list[Any]], None]


def ordered(boxes: Iterable[int]) -> list[int]:
    """The order in which mailboxes are locked, everywhere."""
    return sorted(boxes)


def first_trip(session: Session, asked: Asked, gate: LaneGate) -> PostgresTables:
    """Begin a transaction, take its locks, and read ahead what it needs.

    Locks are taken in one order: the gate, mailboxes, then settings, then acts.

    Raises:
        StoreRefused: the format is none any more that this version can work with.
    """
    tables = PostgresTables(session, asked)
    learn: list[tuple[_Learn, Cursor[TupleRow]]] = []
    with session.connection.pipeline():
        for sql, values, then in _questions(asked, gate, tables):
            cursor = session.connection.execute(sql, values, binary=True)
            if then is not None:
                learn.append((then, cursor))
    for then, cursor in learn:
        then(cursor.fetchall())
    return tables


def _questions(
    asked: Asked, gate: LaneGate, tables: PostgresTables
) -> Iterable[tuple[str, Sequence[Any], _Learn | None]]:
    yield "BEGIN", (), None
    yield schema.FORMATS, (), _check_formats
    if asked.enters:
        yield statements.OWN_GATE, (), None
    yield statements.GATE, (), gate.know
    boxes = ints(ordered(asked.boxes))
    if asked.boxes:
        yield statements.LOCK, (boxes,), tables.know_locked
    if asked.changes:
        yield statements.OWN_SETTINGS, (), None
    elif asked.settings:
        yield statements.SHARE_SETTINGS, (), None
    if asked.acts:
        yield statements.OWN_ACTS, (), None
    if asked.boxes:
        yield statements.STATE, (boxes,), tables.know_states
    if asked.due:
        yield statements.HEADS, (ints(asked.due), ints(asked.due.values())), tables.know_heads
    if asked.settings:
        wanted = names(map(encoded, asked.settings))
        yield statements.REVISIONS, (wanted,), tables.know_revisions
    if asked.keyed:
        keys, places = zip(*asked.keyed, strict=True)
        yield statements.KEYED, (names(keys), ints(places)), tables.know_keyed
    if asked.repeats:
        scopes, keys = zip(*asked.repeats, strict=True)
        yield statements.REPEATS, (names(scopes), names(keys)), tables.know_repeats
    prints = asked.prints()
    if prints:
        slots, shorts = zip(*halves_of(b"".join(prints)), strict=True)
        yield statements.PRINTS, (ints(slots), ints(shorts)), tables.know_prints
    if asked.once:
        owners, nonces = zip(*asked.once, strict=True)
        yield statements.ONCE, (ints(owners), names(nonces)), tables.know_once
    if asked.readers:
        places, readers = zip(*asked.readers, strict=True)
        yield statements.READERS, (ints(places), names(readers)), tables.know_readers


def _check_formats(rows: list[tuple[int, int]]) -> None:
    """Whoever was stopped for long may not have been waited for when the format was changed."""
    for row in rows:
        schema.check_format(*row)


_COMMIT: Final = Due("COMMIT", ())


def second_trip(session: Session, due: Sequence[Due]) -> None:
    """Write what is due, and commit. What must write so many rows goes first, and is looked at.

    Raises:
        Overtaken, StoreUnavailable: nothing happened.
    """
    counted = [each for each in due if each.rows is not None]
    if counted:
        send(session, counted)
    [*_, end] = send(session, [*(each for each in due if each.rows is None), _COMMIT])
    if end.statusmessage != "COMMIT":
        raise StoreUnavailable("the database has rolled a commit back; try again")


def end_without_trace(session: Session) -> None:
    """End a transaction that has written nothing.

    It took locks, so that its end would be synced for nothing. It is no ROLLBACK, at whose sight
    the driver drops all its statements, and in a pipeline loses track of them.
    """
    send(session, [Due("SET LOCAL synchronous_commit = off", ()), _COMMIT])

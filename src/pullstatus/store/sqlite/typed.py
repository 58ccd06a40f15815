"""Rows of the types that their columns have: a damaged or foreign file may hold anything anywhere.

SQLite proves the types of what it writes, and believes those of what it reads. So a connection that
reads a file which nobody has proven proves each row.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

import apsw

from pullstatus.errors import StoreCorrupt
from pullstatus.store.sqlite import schema

_KINDS: Final[Mapping[str | None, tuple[type, ...]]] = {
    "INTEGER": (int,),
    "TEXT": (str,),
    "BLOB": (bytes,),
    None: (int, str, bytes),  # of an expression; nothing here is a fraction
}


def prove_rows(connection: apsw.Connection) -> None:
    """Have a connection raise `StoreCorrupt` for a row with a value that its column cannot have."""
    connection.row_trace = _proven


def _proven(cursor: apsw.Cursor, row: apsw.SQLiteValues) -> apsw.SQLiteValues:
    for value, (name, declared, _, table, column) in zip(row, cursor.description_full, strict=True):
        if value is None:
            # A question in place of a column has that one's name for its origin, and may find none.
            if name == column and (table, column) in _never_null():
                raise _wrong(name)
        elif type(value) not in _KINDS.get(declared, _KINDS[None]):
            raise _wrong(name)
    return row


@functools.cache
def _never_null() -> frozenset[tuple[str, str]]:
    """The columns, each with its table, in which there is always a value."""
    with schema.empty(schema.MIGRATIONS) as connection:
        return frozenset(
            (str(table), str(column))
            for table, column in connection.execute(
                "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c"
                " WHERE m.type = 'table' AND c.\"notnull\""
            )
        )


def integer(name: str, value: object) -> int:
    """A value that must be an integer; `name` says which.

    Raises:
        StoreCorrupt: it is none.
    """
    if type(value) is not int:
        raise _wrong(name)
    return value


def optional_integer(name: str, value: object) -> int | None:
    """A value that must be an integer, or be missing.

    Raises:
        StoreCorrupt: it is neither.
    """
    return None if value is None else integer(name, value)


def _wrong(name: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"the file is damaged: a value of {name} is of no type that was stored;"
        " keep a copy of it, then restore a backup"
    )

"""What a file is made of, object by object: tables, indexes, and whatever somebody put beside them.

A file that comes from elsewhere can hold more than rows. A trigger acts when somebody else writes,
a view answers in place of a table, an index can be wrong on purpose. So a file is a store only if
it is made of what a store is made of: nothing more, nothing less, nothing else of the same name.
"""

from __future__ import annotations

import functools
import re

import apsw

from pullstatus.errors import StoreCorrupt

NAME_CHARS_MAX = 64  # of an object that somebody else has named, in an error
STATEMENTS_KEPT = 128  # a store is made of some twenty, in whatever format

Shape = dict[tuple[str, str], tuple[str, str]]
"""By type and name of an object: whose it is, and the statement that makes it."""


def shape_of(connection: apsw.Connection) -> Shape:
    """The shape of what a connection sees now.

    Raises:
        StoreCorrupt: some of it is no text.
    """
    try:
        return {
            (str(kind), str(name)): (str(table), _plain("" if sql is None else str(sql)))
            for kind, name, table, sql in connection.execute(
                "SELECT type, name, tbl_name, sql FROM sqlite_schema"
            )
        }
    except UnicodeDecodeError as error:
        raise StoreCorrupt(
            "the file is damaged where it says what it is made of; keep a copy of it, then restore"
            " a backup"
        ) from error


def difference(found: Shape, expected: Shape) -> str | None:
    """The first thing in which a shape is not the expected one, as the rest of a sentence."""
    for kind, name in sorted(found.keys() | expected.keys()):
        told = f"{kind} {name[:NAME_CHARS_MAX]}"
        if (kind, name) not in expected:
            return f"holds what no store holds ({told})"
        if (kind, name) not in found:
            return f"lacks what every store has ({told})"
        if found[kind, name] != expected[kind, name]:
            return f"holds something else in place of what every store has ({told})"
    return None


@functools.lru_cache(STATEMENTS_KEPT)
def _plain(sql: str) -> str:
    """A statement without what means nothing: comments, blanks, and quotes round a name."""
    words = re.sub(r'--[^\n]*|\s|"', " ", sql)
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r" +", " ", words)).strip()

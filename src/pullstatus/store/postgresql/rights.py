"""What a server's role must be let do, proven at its start: a right that somebody forgot to grant.

Else whoever needs it first would find that out, such as a reader, days later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store.postgresql.session import NOT_AS_LEFT, TO_GRANT, Session

NEEDED: Final[Mapping[str, str]] = {
    "SELECT": "meta epoch transfer mailbox base chunk quarantine journal repeat_key fingerprint"
    " fingerprint_step once setting setting_turn act act_turn transfer_turn again note reader mark"
    " lane followed segment tally naming",
    "INSERT": "mailbox base chunk quarantine journal repeat_key fingerprint fingerprint_step once"
    " setting act again note reader mark lane followed segment tally naming",
    "UPDATE": "mailbox chunk quarantine journal repeat_key fingerprint once setting note reader"
    " lane setting_turn act_turn transfer transfer_turn tally",
    "DELETE": "base chunk quarantine journal repeat_key fingerprint fingerprint_step once again"
    " note reader mark lane followed segment tally naming",
}
"""By rights, the tables on which a server needs them; it has more of those that are granted."""


def check_rights(session: Session) -> None:
    """Prove that a server's role has them, on tables that are there.

    Raises:
        StoreCorrupt: a table is not there.
        StoreRefused: a right is missing; the text says which, and on what.
        psycopg.Error: the database does not tell.
    """
    pairs = [(right, table) for right, tables in NEEDED.items() for table in tables.split()]
    rows = session.connection.execute(_LACKING, tuple(map(list, zip(*pairs, strict=True))))
    lacking: dict[str, list[str]] = {}
    for right, table, there in rows:
        if not there:
            raise StoreCorrupt(f"table pullstatus.{table} is missing: {NOT_AS_LEFT}")
        lacking.setdefault(right, []).append(table)
    if lacking:
        told = "; ".join(f"{right} on {', '.join(tables)}" for right, tables in lacking.items())
        raise StoreRefused(f"the database does not let this role serve ({told}): {TO_GRANT}")


_LACKING: Final = """
SELECT w.name, w.relation, t.oid IS NOT NULL
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY w(name, relation, place)
    LEFT JOIN pg_class t ON t.relname = w.relation AND t.relkind IN ('r', 'p')
        AND t.relnamespace = 'pullstatus'::regnamespace
WHERE t.oid IS NULL OR NOT has_table_privilege(t.oid, w.name)
ORDER BY w.place
"""

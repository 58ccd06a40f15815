"""How the database looks for what a table has much of: by the index meant for it, from the start.

A statement keeps the plan that it got while the table was empty, and for all that comes later.
"""

from __future__ import annotations

import psycopg
import pytest
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Literal

from pullstatus import limits
from pullstatus.store import Naming, init_store, open_store
from pullstatus.store.postgresql import derived, session, totals
from pullstatus.store.values import Count
from tests.store.build import NOW_MS, STATUSES

pytestmark = pytest.mark.anyio

SLOTS = "{" + ",".join(map(str, range(100))) + "}"


def plan(admin: psycopg.Connection[TupleRow], sql: str, values: tuple[object, ...]) -> str:
    """Of a statement, in a session like ours."""
    for name, value in session.SETTINGS.items():
        admin.execute(SQL("SELECT set_config({}, {}, false)").format(name, Literal(value)))
    marks = SQL(", ").join(map(Literal, values))
    for place in range(1, len(values) + 1):
        sql = sql.replace("%s", f"${place}", 1)
    admin.execute("DEALLOCATE ALL")
    admin.execute(f"PREPARE asked AS {sql}")
    rows = admin.execute(SQL("EXPLAIN EXECUTE asked({})").format(marks)).fetchall()
    return "\n".join(line for (line,) in rows)


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("whose", [(), (STATUSES.sdkappid,)])
async def test_names_are_found_by_their_keys_and_read_where_they_lie(
    url: str, admin: psycopg.Connection[TupleRow], whose: tuple[int, ...], *, filled: bool
) -> None:
    await init_store(url)
    if filled:
        store = await open_store(url)
        names = [Naming([*range(at, at + 3000, 30)], b"body") for at in range(30)]
        for _ in range(20):
            await store.count(Count(STATUSES.sdkappid, [], NOW_MS, names=names))
        await store.close()
        admin.execute("ANALYZE pullstatus.naming")
    found = plan(admin, derived.NAMED[bool(whose)], (SLOTS, *whose, limits.NAMES_FOUND_MAX))
    assert "Bitmap Index Scan on naming_by_key" in found, found
    assert "Tid Scan on naming" in found, found
    assert "Seq Scan" not in found, found
    assert "Index Scan using" not in found, found
    assert "Materialize" not in found, found


async def test_marks_are_looked_for_lane_by_lane(
    url: str, admin: psycopg.Connection[TupleRow]
) -> None:
    """However many lanes there are, none is compared with all others."""
    await init_store(url)
    admin.execute(
        "INSERT INTO pullstatus.lane (lane, version, format, server)"
        " SELECT lane, '', 1, false FROM generate_series(1, 2000) lane"
    )
    admin.execute(
        "INSERT INTO pullstatus.mark SELECT lane, 1, false, now(), '{}' FROM pullstatus.lane"
    )
    admin.execute("ANALYZE pullstatus.lane, pullstatus.mark")
    found = plan(admin, totals.NEWS, ("{1,2}", "{0,0}"))
    assert "Index Scan using mark_pkey" in found, found
    assert "Index Cond: ((lane = k.lane) AND (number > k.number))" in found, found
    assert "Filter" not in found, found

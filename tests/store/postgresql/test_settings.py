"""Whatever a database or a role sets for its sessions, ours mean the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import psycopg
import pytest
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier, Literal

from pullstatus.store import Change, Count, Naming, audit_store, open_store
from pullstatus.store.postgresql import log
from pullstatus.store.postgresql.session import SETTINGS
from tests.harness import PATIENCE_S
from tests.store.build import (
    NOW_MS,
    STATUSES,
    acts_of,
    append,
    data_of,
    derive_all,
    forget,
    journal_of,
    new_act,
    page,
    parked,
    pull,
    purge,
    records,
    repeat_key,
    settings_of,
    until,
    waiting_in,
)
from tools.postgresql import Pair

pytestmark = pytest.mark.anyio

NAMES = 100  # blocks that have one slot in common


async def go_round(url: str) -> None:
    """A bit of everything that is asked of a store."""
    store = await open_store(url)
    entries = records(3)
    key = repeat_key("NULL")
    assert await store.append(append(STATUSES, entries, key=key)) == 3
    assert await store.append(append(STATUSES, entries, key=key)) == 0
    assert await store.pull(pull(STATUSES, 1)) == page(1, entries[:1], 2)
    assert await store.pull(pull(STATUSES, 1, key="NULL")) == page(2, entries[1:2], 1)
    again = page(2, entries[1:2], 1, repeated=True)
    assert await store.pull(pull(STATUSES, 1, key="NULL")) == again
    assert [row.key for row in await journal_of(store, STATUSES)] == [None, "NULL"]
    assert [row.first_seq for row in await store.keyed(STATUSES.sdkappid, "NULL")] == [2]
    await store.park(parked(append(STATUSES, []), [b"odd"]))
    await store.change(Change("a", b"NULL", None), act=new_act())
    await store.change(Change("a", None, b"NULL"), act=new_act())
    assert [each.value for each in await settings_of(store)] == [None]
    names = [Naming([5, number * NAMES], b"%d" % number) for number in range(1, NAMES + 1)]
    assert await store.count(Count(STATUSES.sdkappid, [], NOW_MS, names=names))
    assert len(await store.named([5])) == NAMES
    assert len(await acts_of(store)) == 2
    assert await waiting_in(store, STATUSES) == 1
    assert (await store.totals()).of[STATUSES.kind].waiting == 1
    await derive_all(store)
    assert await purge(store, left_before_ms=NOW_MS + 1) == 2
    await forget(store, NOW_MS + 1)
    await store.close()
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


# By default, or as our sessions are set: another value each.
OURS = {
    "synchronous_commit": "local",
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "1ms",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "on",
    "enable_bitmapscan": "on",
    "enable_hashjoin": "on",
    "enable_mergejoin": "on",
    "enable_nestloop": "off",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "jit": "on",
    "search_path": "public",
    "client_min_messages": "error",
    "array_nulls": "off",
    "gin_fuzzy_search_limit": "1",
    "client_encoding": "SQL_ASCII",
}

# All else that a session may set and that could change what a statement means, what is told of it,
# how values are written, or for how long it may go on.
OTHERS = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "check_function_bodies": "off",
    "commit_delay": "1000",
    "constraint_exclusion": "on",
    "cursor_tuple_fraction": "1",
    "default_transaction_deferrable": "on",
    "escape_string_warning": "on",
    "event_triggers": "off",
    "exit_on_error": "on",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "row_security": "off",
    "session_replication_role": "replica",
    "standard_conforming_strings": "off",
    "stats_fetch_consistency": "none",
    "track_activities": "off",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "xmloption": "document",
}


def test_every_setting_of_ours_is_among_them() -> None:
    assert {*SETTINGS, "client_encoding"} == {*OURS}


async def test_what_a_database_sets_for_sessions_changes_nothing(
    url: str, admin: psycopg.Connection[TupleRow]
) -> None:
    """As `ALTER ROLE` would, which is no different here."""
    set_for_sessions(admin, OURS | OTHERS)
    await go_round(url)


def set_for_sessions(admin: psycopg.Connection[TupleRow], settings: Mapping[str, str]) -> None:
    """Have a database set these for all sessions that begin from now on, if it knows them."""
    known = {name for (name,) in admin.execute("SELECT name FROM pg_settings").fetchall()}
    database = Identifier(admin.info.dbname)
    for name, value in settings.items():
        if name in known:  # else it is of a newer major version
            change = SQL("ALTER DATABASE {} SET {} TO {}")
            admin.execute(change.format(database, Identifier(name), Literal(value)))


async def test_a_cancelled_wait_for_a_standby_is_heard_of_though_a_database_silences_warnings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is on the primary alone then is not acknowledged, so it may be lost with it."""
    monkeypatch.setattr(log, "RESOLVE_S", PATIENCE_S)
    with Pair() as pair:
        name = pair.primary.create()
        with pair.primary.connect(name) as admin:
            set_for_sessions(admin, {"client_min_messages": "error"})
        store = await open_store(f"{pair.url(name)}?commits=thread")
        [first, second] = records(2)
        await store.append(append(STATUSES, [first]))
        pair.cut_off()
        appending = asyncio.create_task(store.append(append(STATUSES, [second])))
        await until(lambda: pair.cancel_waits() > 0)
        # It asks what became of it, by a commit that waits for the standby, too.
        await until(lambda: appending.done() or pair.primary.ask(WAITS))
        pair.standby.set(synchronous_standby_names="")
        await asyncio.to_thread(pair.fail_over)
        assert await appending == 1
        assert await data_of(store, STATUSES) == [first, second]
        await store.close()


WAITS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')"

"""Making a store, bringing it up to date while others work on it, going on after a restore."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import cast

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.rows import TupleRow

from pullstatus.cli import main
from pullstatus.errors import StoreDamaged, StoreFailed, StoreRefused
from pullstatus.mailbox.following import pass_over
from pullstatus.store import (
    Append,
    Count,
    Follow,
    Followed,
    Named,
    Naming,
    Pull,
    Sums,
    Tally,
    audit_store,
    begin_epoch,
    init_store,
    open_store,
    upgrade_store,
)
from pullstatus.store.postgresql import PostgresStore, marks, schema
from pullstatus.store.postgresql.schema import Step
from pullstatus.store.verbs.state import slot
from tests.store.build import (
    NOW_MS,
    OTHERS,
    STATUSES,
    acts_of,
    again_of,
    append,
    data_of,
    new_act,
    pull,
    records,
    together,
)
from tests.store.postgresql.conftest import log_of

pytestmark = pytest.mark.anyio

APP = STATUSES.sdkappid

Admin = psycopg.Connection[TupleRow]


async def test_a_store_is_made_once_whoever_comes(url: str) -> None:
    made = await asyncio.gather(*[init_store(url) for _ in range(4)])
    assert sorted(made) == [False, False, False, True]
    store = await open_store(url, create=False)
    assert not store.created
    await store.close()


LITTLE = """
CREATE SCHEMA pullstatus;
CREATE TABLE pullstatus.transfer (state bytea);
CREATE TABLE pullstatus.meta AS SELECT 1 format, 1 works_with, 1 system, ''::bytea secret;
"""
"""What is looked at of a store; news of all of one would have the connection catch up by itself."""


def test_a_store_that_is_made_as_its_maker_is_waited_for_is_seen(
    database: str, admin: Admin
) -> None:
    """What tables there are was looked at before, and is remembered by the connection."""

    class Meanwhile:
        """A connection of which each transaction begins before another makes a store."""

        execute = admin.execute

        @contextlib.contextmanager
        def transaction(self) -> Iterator[None]:
            with admin.transaction():
                with psycopg.connect(database) as other:
                    other.execute(LITTLE)
                yield

    admin.prepare_threshold = 0
    for _ in range(2):
        with schema._alone(admin):
            assert schema.meta(admin) is None
    with schema._alone(cast("Admin", Meanwhile())):
        assert schema.meta(admin) is not None


async def test_without_leave_none_is_made(url: str, admin: Admin) -> None:
    for opening in (open_store(url, create=False), upgrade_store(url), begin_epoch(url, new_act())):
        with pytest.raises(StoreRefused, match="store init"):
            await opening
    assert admin.execute("SELECT to_regnamespace('pullstatus')").fetchall() == [(None,)]


async def test_steps_are_taken_while_older_processes_go_on(
    url: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await open_store(url)
    await old.append(append(STATUSES, records(1)))
    adds = Step("ALTER TABLE pullstatus.note ADD COLUMN more int")
    removes = Step("ALTER TABLE pullstatus.note DROP COLUMN more", removes=True)
    now, least = admin.execute(schema.FORMATS).fetchall()[0]
    assert now == schema.FORMAT
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, adds, removes))
    monkeypatch.setattr(schema, "FORMAT", now + 2)
    with pytest.raises(StoreRefused, match="store upgrade"):
        await open_store(url)
    assert await upgrade_store(url) == [now + 1]
    assert await upgrade_store(url) == []  # what is left can wait
    both = await open_store(url)  # and is nothing that either version is in need of
    await both.append(append(STATUSES, records(1)))
    await both.close()
    assert admin.execute("SELECT format, works_with FROM pullstatus.meta").fetchall() == [
        (now + 1, least)
    ]
    await old.append(append(STATUSES, records(1)))  # beside the newer format
    admin.execute("UPDATE pullstatus.lane SET format = %s", (now,))
    with pytest.raises(StoreRefused, match="still work with the format before"):
        await upgrade_store(url, post=True)
    await old.close()
    admin.execute("UPDATE pullstatus.lane SET seen = now() - interval '5 minutes'")
    assert await upgrade_store(url, post=True) == [now + 2]
    assert await upgrade_store(url) == []
    new = await open_store(url)
    assert len(await data_of(new, STATUSES)) == 3
    await new.close()
    monkeypatch.setattr(schema, "STEPS", schema.STEPS[:now])
    monkeypatch.setattr(schema, "FORMAT", now)
    with pytest.raises(StoreRefused, match="install a newer one"):
        await open_store(url)


async def test_what_was_stored_before_anything_was_derived_is_behind_its_mark(
    url: str, admin: Admin
) -> None:
    """By the step from the first format, whose tables are all that there was."""
    store = await open_store(url)
    await store.append(append(STATUSES, records(3)))
    await store.close()
    admin.execute("DROP TABLE pullstatus.followed, pullstatus.segment, pullstatus.tally")
    without_names(admin)
    admin.execute("UPDATE pullstatus.meta SET format = 1, works_with = 1")
    with pytest.raises(StoreRefused, match="store upgrade"):
        await open_store(url)
    assert await upgrade_store(url) == [2, 3, 4]
    store = await open_store(url)
    [row] = await store.behind(9)
    assert (row.accepted, row.followed) == (3, Followed())
    assert await store.follow(Follow(STATUSES, row.followed, 3, None, [Tally(0, 1, (3,))]))
    assert await store.behind(9) == []
    await store.append(append(STATUSES, records(1)))
    [row] = await store.behind(9)
    assert await store.follow(Follow(STATUSES, row.followed, 4, None, []))
    marks = admin.execute("SELECT turn, through, tallied FROM pullstatus.followed").fetchall()
    assert marks == [(0, 4, 4)]  # those before are gone
    await store.close()


def without_names(admin: Admin) -> None:
    """As a store was before the third format."""
    admin.execute("DROP TABLE pullstatus.naming")
    admin.execute("DROP FUNCTION pullstatus.name_keys")


async def test_a_store_of_the_second_format_keeps_names_from_its_upgrade_on(
    url: str, admin: Admin
) -> None:
    store = await open_store(url)
    await store.append(append(STATUSES, records(3)))
    await store.close()
    without_names(admin)
    admin.execute("UPDATE pullstatus.meta SET format = 2, works_with = 1")
    with pytest.raises(StoreRefused, match="needs 4: run `pullstatus store upgrade`"):
        await open_store(url)
    assert await upgrade_store(url) == [3, 4]
    store = await open_store(url)
    assert len(await data_of(store, STATUSES)) == 3
    assert await store.count(Count(STATUSES.sdkappid, [], NOW_MS, names=[Naming([7], b"names")]))
    assert await store.named([7]) == [Named(STATUSES.sdkappid, [7], b"names")]
    await store.close()


async def test_names_of_the_third_format_are_found_before_and_behind_its_index_is_gone(
    url: str, admin: Admin
) -> None:
    """And what a process of that format registers meanwhile, which knows nothing of keys."""

    async def found(slot: int) -> list[bytes]:
        store = await open_store(url, create=False)
        blocks = await store.named([slot])
        assert await store.count(Count(APP, [], NOW_MS, names=[Naming([slot], b"more")]))
        await store.close()
        return [block.body for block in blocks]

    await init_store(url)
    admin.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    admin.execute("DROP INDEX pullstatus.naming_by_key")
    admin.execute("DROP FUNCTION pullstatus.name_keys")
    admin.execute("CREATE INDEX naming_by_slot ON pullstatus.naming USING gin (slots)")
    admin.execute("UPDATE pullstatus.meta SET format = 3, works_with = 1")
    of_the_third = (
        "INSERT INTO pullstatus.naming (sdkappid, accepted_ms, slots, body) VALUES (%s, 1, %s, %s)"
    )
    admin.execute(of_the_third, (APP, [7, -7], b"before"))
    assert await upgrade_store(url) == [4]
    as_any_role = "SELECT has_function_privilege('pg_monitor', 'pullstatus.name_keys(int[])', %s)"
    assert admin.execute(as_any_role, ("EXECUTE",)).fetchall() == [(True,)]
    admin.execute(of_the_third, (APP, [7], b"meanwhile"))
    assert await found(7) == [b"meanwhile", b"before"]
    assert await found(-7) == [b"before"]
    admin.execute("DELETE FROM pullstatus.lane")
    assert await upgrade_store(url, post=True) == [5]
    assert await found(7) == [b"more", b"meanwhile", b"before"]
    assert await found(-7) == [b"more", b"before"]
    indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'naming' ORDER BY indexname"
    left = [name for (name,) in admin.execute(indexes)]
    assert left == ["naming_by_key", "naming_by_time", "naming_pkey"]
    assert admin.execute(schema.FORMATS).fetchall() == [(5, 5)]


async def test_a_new_store_is_refused_by_versions_that_its_last_removal_ended(
    url: str, admin: Admin
) -> None:
    """As one is that has come there by steps."""
    await init_store(url)
    last = max(number for number, step in enumerate(schema.STEPS, 1) if step.removes)
    assert admin.execute(schema.FORMATS).fetchall() == [(schema.FORMAT, last)]


@pytest.mark.parametrize("asked", ["pull", "settings"])
async def test_who_connects_anew_behind_a_later_format_is_told_that_nothing_happened(
    url: str, admin: Admin, asked: str
) -> None:
    """By whatever asks first; and the store ends with the first operation."""
    ended: list[BaseException] = []
    store = await open_store(url, on_failure=ended.append)
    await store.pull(pull(STATUSES))
    admin.execute("UPDATE pullstatus.meta SET format = 9, works_with = 9")
    others = "application_name = 'pullstatus' AND datname = current_database()"
    admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    if asked == "settings":
        with pytest.raises(StoreFailed, match="install a newer one"):
            await store.setting("a")
        assert not ended
    with pytest.raises(StoreFailed, match="install a newer one"):
        await store.pull(pull(STATUSES))
    assert len(ended) == 1
    await store.close()


async def test_a_step_that_fails_leaves_the_format_before(
    url: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await init_store(url)
    wrong = Step("ALTER TABLE pullstatus.note ADD COLUMN more int; SELECT 1 / 0")
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, wrong))
    before = schema.FORMAT
    monkeypatch.setattr(schema, "FORMAT", before + 1)
    with pytest.raises(Exception, match="division by zero"):
        await upgrade_store(url)
    assert admin.execute("SELECT format FROM pullstatus.meta").fetchall() == [(before,)]
    columns = "SELECT 1 FROM pg_attribute WHERE attrelid = 'pullstatus.note'::regclass"
    assert admin.execute(f"{columns} AND attname = 'more'").fetchall() == []


async def test_a_restored_dump_is_refused_until_a_new_epoch(url: str, admin: Admin) -> None:
    store = await open_store(url)
    await store.append(append(STATUSES, records(5)))
    await store.pull(pull(STATUSES, 2))
    await store.close()
    admin.execute("UPDATE pullstatus.meta SET system = 1")  # made in another cluster
    for _ in range(2):
        with pytest.raises(StoreRefused, match="new-epoch"):
            await open_store(url)
    act = new_act("store new-epoch", at_ms=NOW_MS)
    assert await begin_epoch(url, act) == 2
    store = await open_store(url)
    assert store.epoch == 2
    [again] = await again_of(store, STATUSES)
    assert (again.first_seq, again.count, again.source_seq) == (3, 3, 3)
    [row] = await acts_of(store)
    assert row.act.ticket == act.ticket
    assert json.loads(row.act.detail) == {"epoch": 2}
    await store.close()
    report = await audit_store(url, lambda _done, _total: None)
    assert (report.findings, report.epoch) == ([], 2)


def test_commands_say_what_they_did(database: str) -> None:
    def run(*words: str) -> object:
        done = CliRunner().invoke(main, ["store", *words, "--store", database])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    assert run("init") == {"created": True}
    assert run("init") == {"created": False}
    assert run("upgrade") == {"formats": []}
    assert run("new-epoch", "--reason", "a test") == {"epoch": 2}


async def test_sums_begin_anew_when_marks_are_gone(url: str, admin: Admin) -> None:
    """As after a long time without asking."""
    one, other = await open_store(url), await open_store(url)
    await other.append(append(STATUSES, records(1)))
    assert (await one.totals()).of[STATUSES.kind] == Sums(NOW_MS, 1, 1, 0, 1)
    for _ in range(3):
        await other.append(append(STATUSES, records(1)))
    admin.execute("DELETE FROM pullstatus.mark WHERE number < 4")
    assert (await one.totals()).of[STATUSES.kind] == Sums(NOW_MS, 1, 4, 0, 4)
    await one.close()
    await other.close()


async def test_lanes_that_are_gone_are_forgotten_by_sums(url: str, admin: Admin) -> None:
    """Each command that changes something is one, for a day."""
    one = await open_store(url)
    assert isinstance(one, PostgresStore)
    await one.append(append(STATUSES, records(1)))
    for count in range(2, 5):
        other = await open_store(url)
        await other.append(append(STATUSES, records(1)))
        assert (await one.totals()).of[STATUSES.kind] == Sums(NOW_MS, 1, count, 0, count)
        await other.close()
    assert len(one._survey._lanes) == 4
    log = log_of(one)
    assert log._session is not None
    admin.execute("UPDATE pullstatus.lane SET seen = seen - interval '2 days'")
    marks.tidy(log._session, log._lane)
    assert (await one.totals()).of[STATUSES.kind] == Sums(NOW_MS, 1, 4, 0, 4)
    assert one._survey._lanes == {log._lane: 1}
    await one.append(append(STATUSES, records(1)))
    assert (await one.totals()).of[STATUSES.kind] == Sums(NOW_MS, 1, 5, 0, 5)
    await one.close()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE pullstatus.chunk SET body = body || 'x' WHERE first_seq = 1", "damaged"),
        ("DELETE FROM pullstatus.chunk WHERE first_seq = 1", "missing at 1"),
        ("DELETE FROM pullstatus.chunk", "is not waiting -6"),
        (
            "DELETE FROM pullstatus.chunk; DELETE FROM pullstatus.journal",
            "followed to entry 6, the tail stands at 0",
        ),
        (
            "DELETE FROM pullstatus.chunk WHERE first_seq > 4; TRUNCATE pullstatus.journal",
            "followed to entry 6, the tail stands at 4",
        ),
        ("DELETE FROM pullstatus.journal WHERE first_seq = 1", "hole"),
        ("UPDATE pullstatus.journal SET handed_out = 7 WHERE first_seq = 5", "is not waiting"),
        ("DELETE FROM pullstatus.mailbox", "mailboxes that do not exist"),
        ("UPDATE pullstatus.act SET reason = 'other'", "act 1 is not what was recorded"),
    ],
)
async def test_an_audit_sees_damage(url: str, admin: Admin, damage: str, told: str) -> None:
    store = await open_store(url)
    await store.change(act=new_act())
    for _ in range(3):
        await store.append(append(STATUSES, records(2)))
        await store.pull(pull(STATUSES, 2))
    await pass_over(store)
    await store.close()
    assert (await audit_store(url, lambda _done, _total: None)).findings == []
    admin.execute(damage)
    report = await audit_store(url, lambda _done, _total: None)
    assert any(told in finding.problem for finding in report.findings), report.findings


@pytest.mark.parametrize("operation", [append(STATUSES, records(1)), pull(STATUSES, 1)])
async def test_where_all_entries_are_missing_nothing_is_accepted_or_handed_out(
    url: str, admin: Admin, operation: Append | Pull
) -> None:
    """What comes would have numbers of entries that have left. Others go on, and are removed."""
    store = await open_store(url)
    for mailbox in (STATUSES, OTHERS):
        await store.append(append(mailbox, records(2)))
        await store.pull(pull(mailbox, 2))
    await pass_over(store)
    admin.execute("DELETE FROM pullstatus.chunk WHERE box = %s", (slot(STATUSES),))
    refused, answer = await together(store, operation, append(OTHERS, records(1)))
    assert isinstance(refused, StoreDamaged)
    assert "missing behind 0: 2 have left" in str(refused)
    assert answer == 1
    assert await store.purge(left_before_ms=NOW_MS + 1) == 2
    assert [row.purged for row in await store.backlog() if row.mailbox == OTHERS] == [2]
    await store.close()


async def test_a_process_of_its_own_makes_the_commits_of_a_server(database: str) -> None:
    store = await open_store(database, server=True)
    entries = records(120)
    assert await store.append(append(STATUSES, entries)) == 120
    assert (await store.pull(pull(STATUSES))).data == b",".join(entries[:100])
    assert (await store.pull(pull(STATUSES, 100, key="k"))).count == 20
    assert (await store.pull(pull(STATUSES, 100, key="k"))).repeated
    assert (await store.engine()).commits == 4
    await store.close()

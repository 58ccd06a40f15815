"""A serving role needs no more rights than these: it owns nothing, and is no superuser."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus import limits
from pullstatus.errors import StoreCorrupt, StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.mailbox import proving
from pullstatus.store import (
    Change,
    Count,
    Follow,
    Index,
    Naming,
    Tally,
    Unfollow,
    audit_store,
    init_store,
    open_store,
    read_store,
    rewrite_store,
)
from pullstatus.store.postgresql import log, rights
from pullstatus.store.postgresql.session import Session
from pullstatus.store.segments import build, word
from tests.store.build import (
    NOW_MS,
    STATUSES,
    acts_of,
    append,
    data_of,
    derive_all,
    fingerprinted,
    forget,
    journal_of,
    new_act,
    parked,
    pull,
    purge,
    records,
    redeliver,
    repeat_key,
    settings_of,
)
from tests.store.postgresql import roles
from tests.store.test_readers import read

pytestmark = pytest.mark.anyio


@pytest.fixture
def serving(url: str, admin: psycopg.Connection[TupleRow]) -> str:
    """The store as the serving role sees it."""
    roles.make(admin)
    return roles.named(url)


# No more than a start looks for, which looks for no more than that.
LEAST = [
    "GRANT USAGE ON SCHEMA pullstatus TO serving",
    *[
        f"GRANT {right} ON pullstatus.{table} TO serving"
        for right, tables in rights.NEEDED.items()
        for table in tables.split()
    ],
]


@pytest.mark.parametrize("grants", [roles.grants(), LEAST], ids=["documented", "least"])
async def test_a_plain_role_can_serve(
    url: str, serving: str, admin: psycopg.Connection[TupleRow], grants: list[str]
) -> None:
    await init_store(url)
    with pytest.raises((StoreRefused, StoreFailed)):
        await open_store(serving)
    for grant in grants:
        admin.execute(grant)
    store = await open_store(serving, server=True)
    entries = records(3)
    await store.append(append(STATUSES, entries, key=repeat_key("k")))
    await store.append(fingerprinted(STATUSES, records(1), [1]))
    await store.park(parked(append(STATUSES, []), [b"odd"]))
    assert (await store.pull(pull(STATUSES, 2, key="p"))).count == 2
    await store.change(Change("a", b"1", None), act=new_act())
    await store.redeliver(redeliver(STATUSES, (1, 1)))
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=[3])
    [row] = await store.behind(1)
    found = build(1, row.accepted, [word(7, 0)], [])
    tally = [Tally(0, 1, (1,))]
    assert await store.follow(Follow(STATUSES, row.followed, row.accepted, found, tally))
    names = [Naming([1], b"names")]
    assert await store.count(Count(STATUSES.sdkappid, tally, NOW_MS, names=names))
    assert len(await store.named([1])) == 1
    assert await store.sought(STATUSES, Index.NUMBER, 7) == [1]
    row = next(row for row in await store.backlog() if row.mailbox == STATUSES)
    assert await store.unfollow(Unfollow(STATUSES, row.followed, 0, 1))
    assert await purge(store, left_before_ms=NOW_MS + 1) > 0
    await forget(store, NOW_MS + 1)
    assert (await store.totals()).of[STATUSES.kind].mailboxes == 1
    with pytest.raises(StoreRefused, match="another role: as postgres, run `pullstatus rewrite`"):
        await rewrite_store(serving)
    await store.close()
    assert (await audit_store(serving, lambda _done, _total: None)).findings == []


async def test_a_right_that_is_missing_is_told_at_a_start(
    url: str, serving: str, admin: psycopg.Connection[TupleRow]
) -> None:
    """Each that a server needs, before somebody needs it."""
    await init_store(url)
    for grant in roles.grants():
        admin.execute(grant)
    for right, tables in rights.NEEDED.items():
        for table in tables.split():
            with admin.transaction(force_rollback=True):
                admin.execute(f"REVOKE {right} ON pullstatus.{table} FROM serving")
                admin.execute("SET LOCAL ROLE serving")
                with pytest.raises(StoreRefused, match=rf"\({right} on {table}\): .* grant again"):
                    rights.check_rights(Session(admin))
    admin.execute("REVOKE INSERT, DELETE ON pullstatus.reader, pullstatus.tally FROM serving")
    told = r"\(INSERT on reader, tally; DELETE on reader, tally\)"
    with pytest.raises(StoreRefused, match=told):
        await open_store(serving, server=True)
    await (await open_store(serving)).close()  # a command may need less


async def test_what_a_role_may_not_is_refused_to_whom_it_is_for(
    url: str, serving: str, admin: psycopg.Connection[TupleRow]
) -> None:
    await init_store(url)
    for grant in roles.grants():
        admin.execute(grant)
    failures: list[BaseException] = []
    store = await open_store(serving, server=True, on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    admin.execute("REVOKE INSERT ON pullstatus.reader FROM serving")
    with pytest.raises(StoreUnavailable, match="permission denied for table reader"):
        await store.pull(read())
    assert (await store.pull(pull(STATUSES))).count == 1
    assert failures == []
    await store.close()


@pytest.mark.parametrize("commits", ["thread", "process"])
async def test_a_role_that_may_only_read_is_refused_in_a_line(
    url: str,
    serving: str,
    admin: psycopg.Connection[TupleRow],
    capfd: pytest.CaptureFixture[str],
    commits: str,
) -> None:
    """Wherever commits are made."""
    await init_store(url)
    admin.execute("GRANT USAGE ON SCHEMA pullstatus TO serving")
    admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA pullstatus TO serving")
    with pytest.raises(StoreRefused, match=r"\(INSERT on mailbox, base.* or grant again"):
        await open_store(serving.replace("=thread", f"={commits}"), server=True)
    assert capfd.readouterr() == ("", "")


async def test_a_role_that_may_only_read_can_do_all_that_only_reads(
    url: str, serving: str, admin: psycopg.Connection[TupleRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "ALIVE_S", 0.0)
    store = await open_store(url)
    entries = records(2)
    await store.append(append(STATUSES, entries))
    await store.pull(pull(STATUSES, 1))
    await store.change(Change("a", b"1", None), act=new_act())
    await derive_all(store)
    await store.close()
    admin.execute("GRANT USAGE ON SCHEMA pullstatus TO serving")
    admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA pullstatus TO serving")
    assert (await audit_store(serving, lambda _done, _total: None)).findings == []
    store = await read_store(serving)
    assert await data_of(store, STATUSES) == entries
    assert len(await journal_of(store, STATUSES)) == 1
    assert len(await acts_of(store)) == 1
    assert (await settings_of(store))[0].name == "a"
    assert (await store.totals()).of[STATUSES.kind].waiting == 1
    assert await proving.problems(store) == []
    with pytest.raises(StoreFailed, match=r"permission denied for table lane.* or grant again"):
        await store.change(act=new_act())
    await store.close()


async def test_a_role_that_has_no_connection_left_is_told(
    url: str, serving: str, admin: psycopg.Connection[TupleRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the database does not answer."""
    monkeypatch.setattr(limits, "STORE_WAIT_S", 1)
    await init_store(url)
    admin.execute("GRANT USAGE ON SCHEMA pullstatus TO serving")
    admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA pullstatus TO serving")
    store = await open_store(serving)
    admin.execute("ALTER ROLE serving CONNECTION LIMIT 1")
    with pytest.raises(StoreUnavailable, match="no connection left for this role: let it have"):
        await store.setting("a")
    await store.close()
    admin.execute("ALTER ROLE serving CONNECTION LIMIT 0")
    with pytest.raises(StoreRefused, match='too many connections for role "serving"'):
        await open_store(serving)


async def test_a_role_that_may_make_nothing_is_told(serving: str) -> None:
    with pytest.raises(StoreRefused, match="right to CREATE"):
        await open_store(serving)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("CREATE SCHEMA pullstatus", "no store in it: drop that, since the store makes it itself"),
        (
            "CREATE SCHEMA pullstatus; CREATE TABLE pullstatus.meta (id int)",
            "a schema `pullstatus` that is none of ours",
        ),
    ],
    ids=["empty", "foreign"],
)
async def test_a_schema_of_that_name_that_is_not_ours_is_told(
    url: str, admin: psycopg.Connection[TupleRow], made: str, told: str
) -> None:
    admin.execute(made)
    with pytest.raises(StoreRefused, match=told):
        await init_store(url)


async def test_a_table_that_is_missing_is_no_missing_right(
    url: str, admin: psycopg.Connection[TupleRow]
) -> None:
    store = await open_store(url)
    admin.execute("DROP TABLE pullstatus.journal")
    with pytest.raises(StoreFailed, match=r"missing \(relation .*journal.*; restore a backup"):
        await store.append(append(STATUSES, records(1)))
    await store.close()
    with pytest.raises(StoreCorrupt, match=r"table pullstatus.journal is missing: .* a backup"):
        await open_store(url, server=True)

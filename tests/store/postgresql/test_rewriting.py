"""Tables are written anew by whom they belong to, beside nobody for long, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store import init_store, open_store, rewrite_store
from pullstatus.store.postgresql import rewriting
from pullstatus.store.postgresql.standbys import prove_answering
from tests.harness import PATIENCE_S
from tests.store.build import NOW_MS, STATUSES, append, data_of, records
from tests.store.postgresql import roles
from tools.postgresql import Pair

pytestmark = pytest.mark.anyio

Admin = psycopg.Connection[TupleRow]


def file_of(admin: Admin, table: str = "chunk") -> object:
    """Which file a table is in."""
    return admin.execute("SELECT pg_relation_filenode(%s)", (f"pullstatus.{table}",)).fetchone()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table is as one that nobody can spare for long."""
    monkeypatch.setattr(rewriting, "SERVING_BYTES_MAX", 0)


async def test_a_store_can_be_written_anew(url: str, admin: Admin) -> None:
    """Beside a server, too: it is small."""
    store = await open_store(url, server=True)
    entries = records(3)
    await store.append(append(STATUSES, entries))
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=[2])
    before = file_of(admin)
    await rewrite_store(url)
    assert file_of(admin) != before
    assert await data_of(store, STATUSES) == [entries[0], entries[2]]
    await store.close()


@pytest.mark.usefixtures("large")
async def test_a_large_store_is_written_anew_once_no_server_is_alive(
    url: str, admin: Admin
) -> None:
    await (await open_store(url, server=True)).close()
    before = file_of(admin)
    with pytest.raises(StoreRefused, match="stop them, and run `pullstatus rewrite`; each counts"):
        await rewrite_store(url)
    assert file_of(admin) == before
    admin.execute("UPDATE pullstatus.lane SET seen = seen - interval '121 seconds'")
    store = await open_store(url)  # of a command
    await store.append(append(STATUSES, records(1)))
    await rewrite_store(url)
    assert file_of(admin) != before
    await store.close()


@pytest.mark.usefixtures("large")
async def test_a_start_writes_a_large_store_anew_beside_no_other_server(
    url: str, admin: Admin
) -> None:
    starts = await open_store(url, server=True)
    before = file_of(admin)
    await rewrite_store(url, serving=False)
    assert file_of(admin) != before
    before = file_of(admin)
    other = await open_store(url, server=True)
    with pytest.raises(StoreRefused, match="would hold up all servers for long"):
        await rewrite_store(url, serving=False)
    assert file_of(admin) == before
    await starts.close()
    await other.close()


RIGHTS = {
    "the owner of the database": 'ALTER DATABASE "{name}" OWNER TO {role}',
    "a maintainer": "GRANT MAINTAIN ON ALL TABLES IN SCHEMA pullstatus TO {role}",
}


@pytest.mark.parametrize("who", RIGHTS)
async def test_who_may_writes_them_anew_and_who_may_not_is_told(
    url: str, admin: Admin, who: str
) -> None:
    if who == "a maintainer" and admin.info.server_version < 170000:
        pytest.skip("there are none before PostgreSQL 17")
    await init_store(url)
    roles.make(admin)
    for grant in roles.grants():
        admin.execute(grant)
    serving, before = roles.named(url), file_of(admin)
    with pytest.raises(StoreRefused, match="another role: as postgres, run `pullstatus rewrite`"):
        await rewrite_store(serving)
    assert file_of(admin) == before
    admin.execute(RIGHTS[who].format(name=admin.info.dbname, role=roles.SERVING))
    await rewrite_store(serving)
    assert file_of(admin) != before
    admin.execute(f'ALTER DATABASE "{admin.info.dbname}" OWNER TO postgres')


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


async def test_a_standby_that_goes_meanwhile_is_told_and_holds_up_nobody(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number a pooler has given to its client."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 0)
    name = pair.primary.create()
    url = f"{pair.url(name)}?commits=thread"
    store = await open_store(url)
    entries = records(1)
    await store.append(append(STATUSES, entries))
    proven: list[bool] = []

    def prove(*known: object) -> None:
        prove_answering(*known)  # type: ignore[arg-type]
        if not proven:
            pair.standby.pause()
        proven.append(True)

    monkeypatch.setattr(rewriting, "prove_answering", prove)
    monkeypatch.setattr(rewriting, "LOOK_S", 0.5)
    try:
        with pytest.raises(StoreUnavailable, match="no standby answers"):
            await asyncio.wait_for(rewrite_store(url), PATIENCE_S)
        assert proven == [True]
        assert await data_of(store, STATUSES) == entries  # nobody holds the table
    finally:
        pair.standby.resume()
    await asyncio.wait_for(rewrite_store(url), PATIENCE_S)
    await store.close()

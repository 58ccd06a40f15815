"""`pullstatus store upgrade` over PostgreSQL: cut or killed anywhere, and beside servers at work.

There is one version so far, so the next one is planted: see next_version.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store import audit_store, init_store, open_store, upgrade_store
from pullstatus.store.postgresql import schema
from tests.faults import next_version
from tests.faults.doors import FAILED, Doors
from tests.faults.next_version import ADDED, OLD, REMOVED, installed
from tests.faults.servers import patient
from tests.faults.test_kill import KILLS, SEED
from tests.faults.verdict import judge
from tests.harness import PATIENCE_S
from tests.postgresql_proxy import MessageProxy, Way
from tests.store.build import STATUSES, append, data_of, records, until
from tools.postgresql import PostgreSQL

STRIDE = 1 if KILLS > 50 else 7  # of the statements of an upgrade, how many go by
NOW, NEXT = OLD[0], REMOVED[0]  # formats that this version knows, and the next one
OLDER = f"UPDATE pullstatus.lane SET seen = now() - interval '5 minutes' WHERE format = {NOW}"


# --- cut and killed -------------------------------------------------------------------------------


async def filled(url: str) -> list[bytes]:
    store = await open_store(url)
    entries = records(5)
    await store.append(append(STATUSES, entries))
    await store.close()
    return entries


async def served(url: str) -> list[bytes] | None:
    """What this version finds in the store; None if it is refused, and told what to do."""
    try:
        store = await open_store(url, create=False)
    except StoreRefused as refusal:
        told = str(refusal)
        assert "install a newer one" in told or "run `pullstatus store upgrade`" in told
        return None
    try:
        await store.append(append(STATUSES, records(1)))
        return await data_of(store, STATUSES)
    finally:
        await store.close()


def formats(url: str) -> tuple[int, int]:
    with psycopg.connect(url.partition("&commits")[0]) as connection:
        [found] = connection.execute(schema.FORMATS).fetchall()
        return found


def outlive(url: str, entries: list[bytes], attempt: Callable[[], object]) -> None:
    """A store outlives an attempt to upgrade it: it is served, and upgraded by the next attempt."""
    with installed(), contextlib.suppress(StoreUnavailable, StoreRefused):
        attempt()
    there = formats(url)
    assert there in (OLD, ADDED, REMOVED)
    old = asyncio.run(served(url))
    with installed():
        new = asyncio.run(served(url))
    assert (old is not None, new is not None) == (there != REMOVED, there != OLD)
    for found in (old, new):
        assert found is None or found[: len(entries)] == entries
    with psycopg.connect(url.partition("&commits")[0], autocommit=True) as connection:
        connection.execute(OLDER)
    with installed():
        assert asyncio.run(upgrade_store(url, post=True)) == list(range(there[0] + 1, NEXT + 1))
        assert asyncio.run(served(url)) is not None
        assert not asyncio.run(audit_store(url, lambda _done, _total: None)).findings
    assert formats(url) == REMOVED


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    """One of this test's own."""
    with PostgreSQL() as found:
        yield found


@pytest.fixture
def proxy(server: PostgreSQL) -> Iterator[MessageProxy]:
    with MessageProxy(server.port) as found:
        yield found


def test_an_upgrade_that_is_cut_anywhere(server: PostgreSQL, proxy: MessageProxy) -> None:
    """At each of its statements, before it arrives or before it is answered; or the server dies."""
    template = server.create()
    entries = asyncio.run(filled(f"{server.url(template)}&commits=thread"))
    with server.connect(template) as connection:
        connection.execute(OLDER)

    def attempt(fault: contextlib.AbstractContextManager[object]) -> None:
        name = server.create(template)
        url = f"{server.tcp_url(name, port=proxy.port)}?commits=thread"

        def upgrade() -> None:
            with fault:
                asyncio.run(upgrade_store(url, post=True))

        outlive(f"{server.url(name)}&commits=thread", entries, upgrade)

    before = proxy.flights
    with contextlib.ExitStack() as nothing:
        attempt(nothing)
    flights = proxy.flights - before
    assert flights > 20
    ways: tuple[Callable[[int], contextlib.AbstractContextManager[object]], ...] = (
        lambda number: cut(proxy, number, Way.TO_SERVER),
        lambda number: cut(proxy, number, Way.TO_CLIENT),
        lambda number: killed(proxy, number, server),
    )
    for place in range(0, flights * len(ways), STRIDE):
        number, way = divmod(place, len(ways))
        attempt(ways[way](number))


@contextlib.contextmanager
def cut(proxy: MessageProxy, number: int, way: Way) -> Iterator[None]:
    proxy.cut_flight(number, way, 0.5)
    yield


@contextlib.contextmanager
def killed(proxy: MessageProxy, number: int, server: PostgreSQL) -> Iterator[None]:
    """The server dies, and is started again."""
    dead = threading.Event()

    def kill() -> None:
        server.kill()
        dead.set()

    proxy.strike(number, kill)
    try:
        yield
    finally:
        assert dead.wait(PATIENCE_S)
        server.start()


def test_a_table_that_somebody_holds_is_waited_for(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a dump does; and in the end it is told, and nothing has happened."""
    monkeypatch.setattr(schema, "_STEP_LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(schema, "_STEP_PAUSE_S", 0.05)
    with postgresql.database() as url, psycopg.connect(url) as dump:
        asyncio.run(init_store(url))
        dump.execute("LOCK TABLE pullstatus.act IN ACCESS SHARE MODE")
        with installed():
            monkeypatch.setattr(schema, "_LOCK_S", 0.3)
            with pytest.raises(StoreUnavailable, match=r"as a dump does; .*do it again"):
                asyncio.run(upgrade_store(url))
            assert formats(url) == OLD
            monkeypatch.setattr(schema, "_LOCK_S", 60)

            async def upgrade_behind_it() -> list[int]:
                upgrading = asyncio.create_task(upgrade_store(url))
                await asyncio.sleep(0.2)
                assert not upgrading.done()
                dump.rollback()
                return await upgrading

            assert asyncio.run(upgrade_behind_it()) == [ADDED[0]]


# --- side by side ---------------------------------------------------------------------------------


def test_two_versions_serve_one_store_until_the_last_step(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    with postgresql.database() as direct:
        url = f"{direct}&commits=thread"
        asyncio.run(init_store(url))
        with Doors(url, tmp_path, SEED, prepare=patient) as doors:
            doors.start(2)
            doors.answered(100)
            with installed():
                assert asyncio.run(upgrade_store(url)) == [ADDED[0]]
            doors.answered(100)
            doors.end("door 2")
            doors.start_again("door 2", next_version.install)
            doors.start_again("door 3", next_version.install)
            asyncio.run(until(lambda: at_work(direct) == {NOW: 2, NEXT: 2}))  # one has ended
            doors.answered(200)
            with installed(), pytest.raises(StoreRefused, match="processes of version"):
                asyncio.run(upgrade_store(url, post=True))
            doors.end("door 1")
            doors.start_again("door 1", next_version.install)
            asyncio.run(until(lambda: at_work(direct) == {NOW: 2, NEXT: 3}))
            with psycopg.connect(direct, autocommit=True) as connection:
                connection.execute(OLDER)
            with installed():
                assert asyncio.run(upgrade_store(url, post=True)) == [NEXT]
            doors.answered(200)
            with pytest.raises(StoreRefused, match=f"knows up to {NOW}: install a newer one"):
                asyncio.run(open_store(url))
            doors.finish()
        with installed():
            verdict = asyncio.run(judge(url, tmp_path, SEED))
    assert verdict.sound, str(verdict)
    assert verdict.report.delivered


def at_work(url: str) -> dict[int, int]:
    """How many have come of each version, by its format."""
    with psycopg.connect(url) as connection:
        counted = "SELECT format, count(*) FROM pullstatus.lane GROUP BY format"
        return dict(connection.execute(counted).fetchall())


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "connected"])
def test_one_that_was_stopped_meanwhile_writes_nothing_more(
    tmp_path: Path, postgresql: PostgreSQL, *, cut: bool
) -> None:
    """A process of the version before that nobody has seen for long, and that goes on then."""
    with postgresql.database() as direct:
        url = f"{direct}&commits=thread"
        asyncio.run(init_store(url))
        with (
            Doors(url, tmp_path, SEED, prepare=patient) as doors,
            psycopg.connect(direct, autocommit=True) as connection,
        ):
            doors.start(1)
            doors.answered(50)
            doors.signal("door 1", signal.SIGSTOP)
            if cut:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'pullstatus' AND datname = current_database()"
                )
            connection.execute(OLDER)
            with installed():
                assert asyncio.run(upgrade_store(url, post=True)) == [ADDED[0], NEXT]
            marks = "SELECT count(*) FROM pullstatus.mark WHERE NOT fence"
            before = connection.execute(marks).fetchone()
            doors.signal("door 1", signal.SIGCONT)
            doors.processes["door 1"].join(PATIENCE_S)
            assert doors.processes["door 1"].exitcode == FAILED, doors.told("door 1")
            assert connection.execute(marks).fetchone() == before

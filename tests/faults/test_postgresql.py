"""A store in PostgreSQL, whatever happens to servers, clients and what is between them.

In `make torture-postgresql` the same happens many times.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from pullstatus.errors import CommitsLost, OutcomeUnknown, StoreUnavailable
from pullstatus.store import Store, open_store
from pullstatus.store.postgresql import log, marks, refusals, session, statements
from pullstatus.store.postgresql.log import Log
from pullstatus.store.postgresql.tables import PostgresTables
from tests.faults import planted_postgresql as planted
from tests.faults.doors import Plant
from tests.faults.servers import FAULTS
from tests.faults.snapshots import costs_of, slower
from tests.faults.test_kill import KILLS, SEED
from tests.faults.torment import torment
from tests.postgresql_proxy import MessageProxy, Way
from tests.store.build import STATUSES, append, data_of, journal_of, pull, records
from tests.store.places import beside
from tests.store.postgresql.conftest import be_patient, until_locked
from tools.postgresql import DEBIAN, PostgreSQL, majors

T = TypeVar("T")

CALM = (40, 120)
STRIDE = 1 if KILLS > 50 else 41  # of the bytes of a commit, how many go by from cut to cut
TIMES = {"kill the primary": 3, "kill clients": 3}


@pytest.fixture(autouse=True)
def nothing_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test plants in this process is gone behind it."""
    for module, name in (
        (marks, "happened"),
        (Log, "_begin_lane"),
        (session, "hear"),
        (session, "SETTINGS"),
        (refusals, "check"),
        (statements, "LOCK"),
        (statements, "STATE"),
        (PostgresTables, "take_writes"),
        (session.Session, "__init__"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))


# --- under load -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_under_load(tmp_path: Path, name: str) -> None:
    """Nothing is lost, doubled, reordered, torn or left open."""
    told = torment(tmp_path, FAULTS[name], SEED, TIMES.get(name, 1), calm=CALM)
    assert not told.found, str(told)
    assert told.happened
    assert told.verdict.report.delivered


@pytest.mark.needs("postgres")
def test_under_load_with_debians(tmp_path: Path) -> None:
    """Another major version than that of the Python package."""
    debians = [major for major, programs in majors().items() if programs.is_relative_to(DEBIAN)]
    told = torment(tmp_path, FAULTS["fail over"], SEED, 1, calm=CALM, major=debians[0])
    assert not told.found, str(told)


@pytest.mark.parametrize("plant", [planted.local, planted.deaf])
def test_what_no_standby_has_is_missed(tmp_path: Path, plant: Plant) -> None:
    """By the judge; and by the stores themselves, as soon as they connect to the new primary."""
    told = torment(tmp_path, FAULTS["strand commits"], SEED, 1, calm=CALM, plant=plant)
    # Batches that are gone are lost; pages that are gone come a second time.
    assert {"lost", "duplicated"} & told.found.keys(), str(told)
    assert told.alarms, str(told)


# --- under a snapshot -----------------------------------------------------------------------------


def test_a_held_snapshot_slows_nothing_down() -> None:
    thirds = asyncio.run(costs_of(150))
    assert not slower(thirds), thirds


@pytest.mark.parametrize(
    ("plant", "what", "lives"),
    [(planted.hot_row, "operations", 150), (planted.from_the_first_on, "forgetting", 250)],
)
def test_what_a_snapshot_keeps_is_not_passed_by_unnoticed(
    plant: Plant, what: str, lives: int
) -> None:
    plant()
    assert what in slower(asyncio.run(costs_of(lives)))


# --- commits that are cut -------------------------------------------------------------------------


@pytest.fixture
def through_a_proxy(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str, MessageProxy]]:
    """URLs of a new database, straight and through a proxy, whose commits are in this process."""
    be_patient(monkeypatch)
    with postgresql.database() as straight, MessageProxy(postgresql.port) as proxy:
        name = str(psycopg.conninfo.conninfo_to_dict(straight)["dbname"])
        url = postgresql.tcp_url(name, port=proxy.port)
        yield f"{straight}&commits=thread", f"{url}?commits=thread", proxy


async def cut_everywhere(
    url: str, proxy: MessageProxy, stride: int, acknowledged: list[bytes]
) -> None:
    """Append with each commit cut somewhere, and put down what was acknowledged."""
    store = await open_store(url)
    try:
        [first] = records(1)
        await store.append(append(STATUSES, [first]))
        acknowledged.append(first)
        sizes = proxy.commits[-1]
        cuts = [
            *((Way.TO_SERVER, size) for size in around(sizes.to_server, stride)),
            *((Way.TO_CLIENT, size) for size in around(sizes.to_client, stride)),
        ]
        for way, size in cuts:
            proxy.cut(way, size)
            [entry] = records(1)
            await store.append(append(STATUSES, [entry]))
            acknowledged.append(entry)
        assert proxy.cuts == len(cuts)
    finally:
        await store.close()


def around(size: int, stride: int) -> list[int]:
    """Numbers of bytes below a size: the ends, and some between."""
    return sorted({*range(0, size, stride), *range(max(0, size - 7), size)})


async def stored(url: str) -> list[bytes]:
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(url)
        stack.push_async_callback(store.close)
        return await data_of(store, STATUSES)


def test_a_commit_cut_at_any_byte_happens_once(
    through_a_proxy: tuple[str, str, MessageProxy],
) -> None:
    straight, url, proxy = through_a_proxy
    acknowledged: list[bytes] = []
    asyncio.run(cut_everywhere(url, proxy, STRIDE, acknowledged))
    assert asyncio.run(stored(straight)) == acknowledged


@pytest.mark.parametrize(
    ("plant", "wrong"),
    [
        (planted.blind, lambda there, acknowledged: len(there) > len(acknowledged)),
        (planted.trusting, lambda there, acknowledged: set(acknowledged) - set(there)),
    ],
)
def test_a_commit_that_is_not_asked_for_is_caught(
    through_a_proxy: tuple[str, str, MessageProxy],
    plant: Plant,
    wrong: Callable[[list[bytes], list[bytes]], bool],
) -> None:
    straight, url, proxy = through_a_proxy
    plant()
    acknowledged: list[bytes] = []
    # A store may notice by itself that it has lost something.
    with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
        asyncio.run(cut_everywhere(url, proxy, 10**6, acknowledged))
    assert wrong(asyncio.run(stored(straight)), acknowledged)


# --- a database that is set back ------------------------------------------------------------------


def copy_of(data: Path, place: Path) -> None:
    subprocess.run(["/bin/cp", "-a", data, place], check=True)


async def hand_out_again(server: PostgreSQL) -> int:
    """Set a database back while a commit is under way; how many records come a second time.

    Raises:
        CommitsLost: it was noticed.
    """
    name, copy = server.create(), server.folder / "copy"
    with MessageProxy(server.port) as proxy:
        store = await open_store(f"{server.tcp_url(name, port=proxy.port)}?commits=thread")
        try:
            await store.append(append(STATUSES, records(3)))
            server.stop()
            await asyncio.to_thread(copy_of, server.data, copy)
            server.start()
            assert (await store.pull(pull(STATUSES))).count == 3
            with proxy.held() as flight:
                appending = asyncio.create_task(store.append(append(STATUSES, records(1))))
                assert await asyncio.to_thread(flight.wait, 60)
                server.kill()
            with pytest.raises(OutcomeUnknown):
                await appending
            shutil.rmtree(server.data)
            copy.rename(server.data)
            server.start()
            return (await store.pull(pull(STATUSES, key="k"))).count
        finally:
            await store.close()


def test_a_database_that_is_set_back_while_a_commit_is_under_way_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "RESOLVE_S", 1.0)
    with PostgreSQL() as server, pytest.raises(CommitsLost):
        asyncio.run(hand_out_again(server))


def test_what_is_handed_out_again_by_one_that_forgets_what_was_answered_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "RESOLVE_S", 1.0)
    planted.forgetful()
    with PostgreSQL() as server:
        assert asyncio.run(hand_out_again(server)) == 3


# --- locks ----------------------------------------------------------------------------------------


async def pull_behind_a_held_append(straight: str, url: str, proxy: MessageProxy) -> int:
    """How many entries a pull brings that waited for the lock of an append; 1 if all is well."""
    feeder, taker = await open_store(url), await open_store(straight)
    try:
        await feeder.append(append(STATUSES, records(1)))
        await taker.pull(pull(STATUSES))
        with proxy.held() as flight:
            appending = asyncio.create_task(feeder.append(append(STATUSES, records(1))))
            assert await asyncio.to_thread(flight.wait, 60)
            # With a key it looks into the mailbox itself, whatever a look without would say.
            pulling = asyncio.create_task(taker.pull(pull(STATUSES, key="k")))
            await waits_for_a_lock(straight)
        assert await appending == 1
        return (await pulling).count
    finally:
        await feeder.close()
        await taker.close()


async def waits_for_a_lock(url: str) -> None:
    """Until somebody does."""
    with beside(url) as connection:
        await until_locked(connection)


def test_what_was_written_while_a_lock_was_waited_for_is_seen(
    through_a_proxy: tuple[str, str, MessageProxy],
) -> None:
    assert asyncio.run(pull_behind_a_held_append(*through_a_proxy)) == 1


def test_to_lock_and_read_in_one_statement_is_caught(
    through_a_proxy: tuple[str, str, MessageProxy],
) -> None:
    planted.lock_and_read_in_one()
    assert asyncio.run(pull_behind_a_held_append(*through_a_proxy)) == 0


def test_without_a_lock_keys_collide_and_nothing_is_doubled(
    postgresql: PostgreSQL,
) -> None:
    """The second line of defence: two who believe in the same place, and one of them repeats."""
    planted.no_lock()

    async def compete(url: str) -> None:
        doors = [await open_store(url) for _ in range(3)]
        for door in doors:
            await door.pull(pull(STATUSES, key="first"))
        entries = records(60)

        async def insist(ask: Callable[[], Awaitable[T]]) -> T:
            while True:
                # Who has collided too often is told that nothing happened.
                with contextlib.suppress(StoreUnavailable):
                    return await ask()

        async def work(door: Store, mine: list[bytes]) -> list[bytes]:
            taken = []
            for entry in mine:
                await insist(lambda: door.append(append(STATUSES, [entry])))  # noqa: B023
                taken.append((await insist(lambda: door.pull(pull(STATUSES, 1)))).data)
            return taken

        taken = await asyncio.gather(
            *[work(door, entries[place::3]) for place, door in enumerate(doors)]
        )
        assert sorted(data for some in taken for data in some if data) == sorted(
            await data_of(doors[0], STATUSES)
        )
        assert sorted(await data_of(doors[0], STATUSES)) == sorted(entries)
        assert len(await journal_of(doors[0], STATUSES)) == len(entries)
        for door in doors:
            await door.close()

    with postgresql.database() as url:
        asyncio.run(compete(f"{url}&commits=thread"))


# --- opening --------------------------------------------------------------------------------------


def test_one_that_is_made_is_made_whole(postgresql: PostgreSQL) -> None:
    """Whatever statement of the making is the last, and whatever is lost of it."""

    async def make(url: str) -> bool:
        store = await open_store(url)
        try:
            return await store.append(append(STATUSES, records(1))) == 1
        finally:
            await store.close()

    with MessageProxy(postgresql.port) as proxy:
        with postgresql.database() as straight:
            name = str(psycopg.conninfo.conninfo_to_dict(straight)["dbname"])
            before = proxy.flights
            asyncio.run(make(f"{postgresql.tcp_url(name, port=proxy.port)}?commits=thread"))
            flights = proxy.flights - before
        for number in range(0, flights, 1 if KILLS > 50 else 4):
            with postgresql.database() as straight:
                name = str(psycopg.conninfo.conninfo_to_dict(straight)["dbname"])
                proxy.cut_flight(number, *((Way.TO_SERVER, 0.5), (Way.TO_CLIENT, 0.5))[number % 2])
                with contextlib.suppress(Exception):
                    asyncio.run(make(f"{postgresql.tcp_url(name, port=proxy.port)}?commits=thread"))
                assert asyncio.run(make(f"{straight}&commits=thread"))

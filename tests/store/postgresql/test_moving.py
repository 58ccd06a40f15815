"""What a store in a database says of its migration is obeyed by every commit, of whichever door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus.errors import StoreFailed, StoreRefused, StoreSealed
from pullstatus.store import Noted, Store, begin_epoch, init_store, open_store
from pullstatus.store.gate import encoded
from pullstatus.store.gathering.operations import Operation
from pullstatus.store.migration import Moved
from pullstatus.store.postgresql import group, look, open_end, statements
from pullstatus.store.postgresql.gate import LaneGate
from pullstatus.store.postgresql.log import Log
from pullstatus.store.postgresql.session import Session
from pullstatus.store.postgresql.tables import PostgresTables
from pullstatus.store.postgresql.writes import Due
from pullstatus.store.transfer import Mark, Migration, Role, Stage
from pullstatus.store.values import Change, Pull, Reader
from tests.postgresql_proxy import MessageProxy
from tests.store.build import (
    EMPTY,
    NOW_MS,
    REPLIES,
    STATUSES,
    append,
    data_of,
    follow_all,
    new_act,
    once,
    parked,
    pull,
    purge,
    records,
    redeliver,
    until,
)
from tests.store.engines import Opener, server
from tests.store.places import beside
from tests.store.postgresql.conftest import until_locked
from tests.store.test_migration import fill, move, rows_of

pytestmark = pytest.mark.anyio

Admin = psycopg.Connection[TupleRow]

COPYING, SEALED = (
    Migration(bytes(16), Role.SOURCE, stage, "there") for stage in (Stage.COPYING, Stage.SEALED)
)
FILLED = Migration(bytes(16), Role.TARGET, Stage.COPYING, "there")


def say(connection: Admin, migration: Migration) -> None:
    connection.execute(statements.SAY, (encoded(migration), 1))


# -- the lock --------------------------------------------------------------------------------------


async def test_a_group_sees_the_seal_that_it_waited_for(
    store: Store, database: str, admin: Admin
) -> None:
    """Its look at the gate is of a moment behind the lock, in one statement with it."""
    await store.append(append(STATUSES, records(1)))
    await store.pull(pull(STATUSES))
    with psycopg.connect(database) as sealing:
        sealing.execute(statements.OWN_GATE)
        appending = asyncio.create_task(store.append(append(STATUSES, records(1))))
        await until_locked(admin)
        say(sealing, SEALED)
        sealing.commit()
    with pytest.raises(StoreSealed):
        await appending


def share_nothing() -> str:
    return "SELECT state, filler FROM pullstatus.transfer"


@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.usefixtures("patient")
async def test_a_seal_waits_for_groups_under_way(
    url: str, admin: Admin, monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """What they bring is there when the seal is; where they share no lock, it comes behind it."""
    await init_store(url)
    if planted:
        monkeypatch.setattr(statements, "GATE", share_nothing())
    name = str(psycopg.conninfo.conninfo_to_dict(url.partition("&commits")[0])["dbname"])
    end = await open_end(url, target=False)
    assert await end.enter(COPYING, expected=None)
    with MessageProxy(server().port) as proxy:
        store = await open_store(f"{server().tcp_url(name, port=proxy.port)}?commits=thread")
        await store.append(append(STATUSES, records(1)))
        with proxy.held() as flight:
            appending = asyncio.create_task(store.append(append(STATUSES, records(1))))
            assert await asyncio.to_thread(flight.wait, 60)
            sealing = asyncio.create_task(end.enter(SEALED, expected=COPYING))
            if planted:
                assert await sealing
            else:
                await until_locked(admin)
            there = len(await data_of(store, STATUSES))
        assert await appending == 1
        assert await sealing
        assert there == 1
        await store.close()
    await end.close()


async def test_a_seal_does_not_wait_for_a_dump(url: str, database: str) -> None:
    """Which has every table open for as long as it takes."""
    await init_store(url)
    end = await open_end(url, target=False)
    with psycopg.connect(database) as dump:
        dump.execute(
            "LOCK TABLE pullstatus.transfer, pullstatus.transfer_turn IN ACCESS SHARE MODE"
        )
        assert await end.enter(COPYING, expected=None)
        assert await end.enter(SEALED, expected=COPYING)
    await end.close()


# -- obedience -------------------------------------------------------------------------------------


async def disobedient(store: Store) -> set[str]:
    """The verbs that a sealed store does not refuse."""
    verbs: dict[str, Callable[[], Awaitable[object]]] = {
        "append": lambda: store.append(append(STATUSES, records(1))),
        "park": lambda: store.park(parked(append(STATUSES, []), [b"bad"])),
        "pull": lambda: store.pull(pull(STATUSES)),
        "keyed": lambda: store.pull(pull(STATUSES, key="k")),
        "once": lambda: store.pull(once(STATUSES, "n", NOW_MS)),
        "reader": lambda: store.pull(Pull(STATUSES, 1, NOW_MS, reader=Reader("r"))),
        "empty": lambda: store.pull(pull(REPLIES)),
        "change": lambda: store.change(Change("y", b"", None), act=new_act()),
        "mark": lambda: store.mark({"a": Noted(1)}),
        "forget": lambda: store.forget(accepted_before_ms=1, now_ms=1),
        "redeliver": lambda: store.redeliver(redeliver(STATUSES, (1, 1))),
        "purge": lambda: purge(store, left_before_ms=NOW_MS + 1),
        "erase": lambda: store.erase(STATUSES, at_ms=1, seqs=[1]),
    }
    found = set()
    for name, verb in verbs.items():
        try:
            await verb()
            found.add(name)
        except StoreSealed:
            continue
    return found


def blind_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "GATE", f"{share_nothing()} WHERE false")


def blind_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "_LOOK", f"{look._LOOK} WHERE false")


def lax_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Log._admitted

    def admitted(log: Log, tables: PostgresTables, group: Sequence[Operation]) -> object:
        if type(group[0]).__name__ in ("Purge", "Forget"):
            log._gate.found = None
        return real(log, tables, group)

    monkeypatch.setattr(Log, "_admitted", admitted)


NOT_LOOKS = {
    *("append", "park", "pull", "keyed", "once", "reader", "change", "mark", "forget", "purge"),
    *("redeliver", "erase"),
}


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (None, set()),
        (blind_groups, NOT_LOOKS),
        (blind_looks, {"empty"}),
        (lax_upkeep, {"forget", "purge"}),
    ],
)
async def test_a_seal_is_obeyed_by_whatever_is_asked(
    opener: Opener,
    monkeypatch: pytest.MonkeyPatch,
    admin: Admin,
    plant: Callable[[pytest.MonkeyPatch], None] | None,
    found: set[str],
) -> None:
    """Through doors that were opened long before, and whatever of them forgets to look is found."""
    store, other = await opener(server=True), await opener()
    await store.append(append(STATUSES, records(3)))
    await store.pull(pull(STATUSES, 1))
    await follow_all(store)
    assert await other.pull(pull(REPLIES)) == EMPTY
    if plant is not None:
        plant(monkeypatch)
    say(admin, SEALED)
    assert await disobedient(other) == found
    if plant is None:
        assert await disobedient(store) == set()
        with pytest.raises(StoreRefused, match="is sealed"):
            await opener(server=True)
        await opener()
        say(admin, COPYING)
        assert await store.append(append(STATUSES, records(1))) == 1


async def test_an_epoch_is_not_begun_where_nothing_may_be_done(url: str, admin: Admin) -> None:
    await init_store(url)
    for said in (SEALED, FILLED):
        say(admin, said)
        with pytest.raises(StoreRefused):
            await begin_epoch(url, new_act("new-epoch"))
    say(admin, SEALED)
    admin.execute("UPDATE pullstatus.meta SET system = 1")  # as in a restored dump
    assert await begin_epoch(url, new_act("new-epoch")) == 2
    await (await open_store(url, server=True)).close()


async def test_a_ready_store_is_taken_by_the_first_commit(url: str, admin: Admin) -> None:
    """Of whichever door; a pull that finds nothing commits nothing."""

    def stage() -> str:
        [(state,)] = admin.execute("SELECT state FROM pullstatus.transfer").fetchall()
        return str(state.decode().partition('"stage":"')[2].partition('"')[0])

    await init_store(url)
    say(admin, Migration(bytes(16), Role.TARGET, Stage.READY, "there"))
    doors = [await open_store(url) for _ in range(3)]
    assert await doors[0].pull(pull(STATUSES, key="k")) == EMPTY
    assert await doors[0].pull(pull(STATUSES)) == EMPTY
    assert stage() == "ready"
    await asyncio.gather(*[door.append(append(STATUSES, records(1))) for door in doors])
    assert stage() == "taken"
    for door in doors:
        await door.append(append(STATUSES, records(1)))
        await door.close()


# -- who fills it ----------------------------------------------------------------------------------


async def test_the_newest_run_is_the_one_that_fills_a_store(url: str) -> None:
    await init_store(url)
    first = await open_end(url, target=True)
    assert await first.enter(FILLED, expected=None)
    await first.replace(Mark, [], [Mark("a", 1, "here")])
    second = await open_end(url, target=True)
    assert await second.enter(FILLED, expected=FILLED)
    with pytest.raises(StoreRefused, match="another run"):
        await first.replace(Mark, [], [Mark("b", 1, "here")])
    ready = Migration(bytes(16), Role.TARGET, Stage.READY, "there")
    assert not await first.enter(ready, expected=FILLED)
    await second.replace(Mark, [], [Mark("b", 1, "here")])
    assert [row.name for row in await second.rows(Mark) if isinstance(row, Mark)] == ["a", "b"]
    assert await second.enter(ready, expected=FILLED)
    with pytest.raises(StoreRefused, match="not being filled"):
        await second.replace(Mark, [], [Mark("c", 1, "here")])
    await first.close()
    await second.close()


async def test_a_server_that_was_there_before_ends_once_the_store_is_filled(
    url: str, admin: Admin
) -> None:
    """What it has read of it then is of another store; a supervisor starts it again."""
    failures: list[BaseException] = []
    early = await open_store(url, server=True, on_failure=failures.append)
    say(admin, FILLED)
    with pytest.raises(StoreSealed, match="being filled"):
        await early.pull(pull(STATUSES))
    assert not failures
    say(admin, Migration(bytes(16), Role.TARGET, Stage.READY, "there"))
    await until(lambda: bool(failures))
    assert isinstance(failures[0], StoreFailed)
    await early.close()
    await (await open_store(url, server=True)).close()


# -- commits without an answer ---------------------------------------------------------------------


@pytest.fixture
def other(tmp_path: Path) -> Iterator[str]:
    with server().database() as url:
        yield f"{url}&commits=thread"


@pytest.mark.parametrize("commits", [True, False])
async def test_what_is_said_is_said_once_though_its_answer_is_lost(
    url: str, other: str, monkeypatch: pytest.MonkeyPatch, *, commits: bool
) -> None:
    """By either end, at each of its steps."""
    await init_store(other)
    await fill(url)
    real, enter = group.second_trip, LaneGate.enter
    cut: list[str] = []
    due = False

    def trip(session: Session, writes: Sequence[Due]) -> None:
        nonlocal due
        if not due:
            real(session, writes)
            return
        due = False
        if commits:
            real(session, writes)
        session.close()
        raise psycopg.OperationalError("the connection was cut")

    def entering(gate: LaneGate, tables: PostgresTables, operation: object) -> bool:
        nonlocal due
        said = str(operation)
        due = said not in cut
        cut.append(said)
        return enter(gate, tables, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(group, "second_trip", trip)
    monkeypatch.setattr(LaneGate, "enter", entering)
    moved = await move(url, other)
    assert moved.switched
    assert len(set(cut)) == 6  # of the target one before it is looked at, and one behind
    assert await rows_of(url) == await rows_of(other)


async def test_commits_are_cut_anywhere_while_a_store_is_moved(url: str, other: str) -> None:
    """Those that fill it, too: whatever is done again is the same."""

    def through(proxy: MessageProxy, url: str) -> str:
        name = psycopg.conninfo.conninfo_to_dict(url.partition("&commits")[0])["dbname"]
        return f"{server().tcp_url(str(name), port=proxy.port)}?commits=thread"

    await init_store(other)
    await fill(url)
    with MessageProxy(server().port) as proxy:
        proxy.cut_at_random(Random(1), 0.4)
        moved: Moved = await move(through(proxy, url), through(proxy, other))
        proxy.cut_at_random(Random(1), 0)
        assert proxy.cuts > 5
    assert moved.switched
    assert await rows_of(url) == await rows_of(other)


# -- many rows -------------------------------------------------------------------------------------


async def test_rows_are_read_and_put_in_steps(
    url: str, other: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them are alike in what they are ordered by; not a trip for each."""
    await init_store(other)
    store = await open_store(url)
    for number in range(3):
        await store.append(append(STATUSES, records(2), NOW_MS + number))
    await store.close()
    admin.execute(
        "INSERT INTO pullstatus.fingerprint_step (accepted_ms, keys) SELECT 7, int8send(n) ||"
        " int8send(n) FROM generate_series(1, 4500) n"
    )
    admin.execute(
        "INSERT INTO pullstatus.fingerprint SELECT n, n, 7 FROM generate_series(1, 4500) n"
    )
    admin.execute(
        "INSERT INTO pullstatus.once SELECT 1, convert_to(n::text, 'UTF8'), n"
        " FROM generate_series(1, 4500) n"
    )
    trips = 0
    real = group.second_trip

    def trip(session: Session, due: Sequence[Due]) -> None:
        nonlocal trips
        trips += 1
        real(session, due)

    monkeypatch.setattr(group, "second_trip", trip)
    await move(url, other)
    assert trips < 30
    assert await rows_of(url) == await rows_of(other)
    with beside(other) as connection:
        question = "SELECT count(*), count(DISTINCT slot) FROM pullstatus.fingerprint"
        assert connection.execute(question).fetchall() == [(4500, 4500)]

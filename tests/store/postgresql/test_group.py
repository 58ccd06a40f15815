"""What a group costs the database, and in which order it locks and reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus.errors import StoreFull, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store import (
    Act,
    Change,
    Count,
    Follow,
    Followed,
    Mailbox,
    Once,
    Page,
    Park,
    Pull,
    RepeatKey,
    Store,
    Tally,
    While,
    audit_store,
    open_store,
)
from pullstatus.store.postgresql import group, look, statements
from pullstatus.store.postgresql.asked import Asked
from pullstatus.store.postgresql.gate import LaneGate
from pullstatus.store.postgresql.log import Log
from pullstatus.store.postgresql.session import Session
from pullstatus.store.postgresql.tables import PostgresTables
from pullstatus.store.postgresql.writes import Due
from pullstatus.store.values import Reader
from pullstatus.store.verbs.state import slot
from tests.store.build import (
    EMPTY,
    NOW_MS,
    OTHERS,
    REPLIES,
    STATUSES,
    acts_of,
    append,
    check_journal,
    data_of,
    drain,
    fingerprinted,
    journal_of,
    page,
    parked,
    pull,
    records,
    repeat_key,
    settings_of,
    ticket,
    until,
)
from tests.store.engines import Opener
from tests.store.postgresql.conftest import log_of, until_locked, writer_of

pytestmark = pytest.mark.anyio

Admin = psycopg.Connection[TupleRow]


def lsn(admin: Admin) -> str:
    [(found,)] = admin.execute("SELECT pg_current_wal_insert_lsn()").fetchall()
    return str(found)


@pytest.mark.usefixtures("patient")
async def test_what_is_locked_is_read_in_the_next_statement(
    opener: Opener, database: str, admin: Admin
) -> None:
    """Else it would be seen as it was before the lock was waited for."""
    store = await opener()
    [first, second] = records(2)
    await store.append(append(STATUSES, [first, second]))
    with psycopg.connect(database) as other:
        other.execute("SELECT FROM pullstatus.mailbox FOR UPDATE")
        waits = asyncio.create_task(store.pull(pull(STATUSES, 1)))
        await until_locked(admin)
        other.execute(  # takes the first, as another lane would
            "INSERT INTO pullstatus.journal SELECT box, 1, 1, 0, 0, '', NULL, 1, '', '', NULL, 1,"
            " NULL, NULL, 1, 0, 0, 0, 0, 0 FROM pullstatus.mailbox WHERE box & 3 = 0"
        )
        other.commit()
    assert await waits == page(2, [second], 0)


@pytest.mark.parametrize(
    "behind",
    [statements.LOCK, statements.STATE, statements.HEADS],
    ids=["locked", "state", "heads"],
)
@pytest.mark.parametrize(
    "operation",
    [
        pull(STATUSES),
        pull(STATUSES, key="k"),
        Pull(STATUSES, 1, NOW_MS, once=Once("n", NOW_MS)),
        Pull(STATUSES, 1, NOW_MS, reader=Reader("r")),
        parked(append(STATUSES, [b"own"]), [b"item"]),
    ],
)
@pytest.mark.usefixtures("patient")
async def test_a_mailbox_that_another_lane_makes_meanwhile_is_none_yet(
    opener: Opener,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    operation: Pull | Park,
    behind: str,
) -> None:
    """Each statement of a trip sees more than the one before it."""
    one, other = await opener(), await opener()
    real = group._questions

    def stopped(
        asked: Asked, gate: LaneGate, tables: PostgresTables
    ) -> Iterator[tuple[str, Sequence[object], Callable[[list[object]], None] | None]]:
        for each in real(asked, gate, tables):
            yield each
            if each[0] == behind and tables._session is log_of(one)._session:
                yield "SELECT pg_advisory_xact_lock_shared(1)", (), None

    monkeypatch.setattr(group, "_questions", stopped)
    admin.execute("SELECT pg_advisory_lock(1)")
    begun = asyncio.ensure_future(writer_of(one).submit(operation))
    await until(lambda: _somebody_waits_for_advice(admin))
    mailbox = operation.mailbox
    await other.append(append(mailbox, [b"of the other"]))
    admin.execute("SELECT pg_advisory_unlock(1)")
    found = await begun
    if isinstance(found, Page):
        assert found.count == 0
    assert (await data_of(other, mailbox))[0] == b"of the other"
    [first, *_] = await drain(one, mailbox)
    assert first.first_seq == 1


def _somebody_waits_for_advice(admin: Admin) -> bool:
    asked = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return bool(admin.execute(asked).fetchall())


async def test_two_lanes_at_one_mailbox_never_contradict_each_other(opener: Opener) -> None:
    one, other = await opener(), await opener()
    accepted = taken = 0

    async def work(store: Store) -> None:
        nonlocal accepted, taken
        for size in (1, 3, 120, 2) * 6:
            count = await store.append(append(STATUSES, records(size)))
            accepted += count
            found = await store.pull(pull(STATUSES, 30))
            taken += found.count

    await asyncio.gather(*[work(store) for store in (one, other) for _ in range(3)])
    taken += sum(each.count for each in await drain(one, STATUSES))
    assert taken == accepted == len(await data_of(other, STATUSES))
    check_journal(await journal_of(other, STATUSES), accepted)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each time that something is sent and waited for, by the lane."""
    told: list[str] = []
    real = psycopg.Connection.pipeline
    execute = psycopg.Connection.execute

    def pipeline(connection: psycopg.Connection[TupleRow]) -> object:
        told.append("pipeline")
        return real(connection)

    def asked(
        connection: Admin, query: str, values: Sequence[object] = (), **more: bool
    ) -> psycopg.Cursor[TupleRow]:
        if connection._pipeline is None:
            told.append(query)
        return execute(connection, query, values, **more)

    for beside in ("tend", "watch"):  # once time has passed, which it may have meanwhile
        monkeypatch.setattr(Log, beside, lambda _log: None)
    monkeypatch.setattr(psycopg.Connection, "pipeline", pipeline)
    monkeypatch.setattr(psycopg.Connection, "execute", asked)
    return told


async def test_usual_operations_take_two_trips(store: Store, trips: list[str]) -> None:
    reader = Reader("r")
    await store.append(append(STATUSES, records(3)))
    await store.append(append(REPLIES, records(3)))
    await store.change(Change("app", b"1", None))
    [setting] = await settings_of(store)
    held = While("app", setting.revision)
    for work in (
        lambda: store.append(append(STATUSES, records(200), key=repeat_key("k"))),
        lambda: store.append(fingerprinted(STATUSES, records(2), [1, 2])),
        lambda: store.pull(pull(STATUSES, 100)),
        lambda: store.pull(pull(STATUSES, 100, key="p")),
        lambda: store.pull(
            Pull(REPLIES, 1, NOW_MS, once=Once("n", NOW_MS), while_set=held, reader=reader)
        ),
        lambda: store.pull(Pull(REPLIES, 1, NOW_MS, while_set=held, reader=Reader("r", 1))),
    ):
        trips.clear()
        answer = await work()
        assert not isinstance(answer, BaseException)
        expected = ["pipeline", "pipeline"]
        # Whoever is a reader for the first time is counted.
        assert [trip for trip in trips if "reader WHERE box" not in trip] == expected


async def test_an_empty_pull_writes_nothing(store: Store, admin: Admin) -> None:
    await store.append(append(STATUSES, records(1)))
    await drain(store, STATUSES)
    await store.pull(pull(OTHERS))
    for _ in range(20):
        before = lsn(admin)
        assert await store.pull(pull(STATUSES)) == EMPTY
        assert await store.pull(pull(OTHERS)) == EMPTY
        if lsn(admin) == before:
            return
    pytest.fail("each time something was written, and not by what the server does beside")


async def test_polls_share_a_look_but_none_that_began_before_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hasattr(store, "_looks")
    looks = store._looks
    asked: list[str] = []
    looked, go = asyncio.Event(), asyncio.Event()
    real = looks._reads.ask

    async def ask(sql: str, *values: str) -> object:
        asked.append(values[0])
        found = await real(sql, *values)
        looked.set()
        await go.wait()
        return found

    monkeypatch.setattr(looks._reads, "ask", ask)
    polls = [asyncio.create_task(store.pull(pull(STATUSES))) for _ in range(50)]
    await asyncio.wait_for(looked.wait(), 60)
    entries = records(1)
    await store.append(append(OTHERS, entries))
    await store.append(append(STATUSES, entries))
    log_of(store)._waiting.clear()
    writer_of(store).waiting.clear()  # as for a process that did not append it
    late = asyncio.create_task(store.pull(pull(STATUSES)))
    await asyncio.sleep(0.05)
    assert len(asked) == 1
    go.set()
    assert await asyncio.gather(*polls) == [EMPTY] * 50
    assert await late == page(1, entries, 0)
    assert len(asked) == 2


async def test_waiting_for_what_others_bring_takes_less_than_a_second(opener: Opener) -> None:
    one, other = await opener(server=True), await opener(server=True)
    came = asyncio.Event()
    end = one.watch(STATUSES, came.set)
    await other.append(append(STATUSES, records(1)))
    await asyncio.wait_for(came.wait(), 60)
    end()
    assert look.WATCH_S < 1


@pytest.fixture
def retried(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Why groups were done again."""
    found: list[BaseException] = []
    real = Log._give_up

    def give_up(log: Log, due_s: float, error: BaseException) -> None:
        found.append(error)
        real(log, due_s, error)

    monkeypatch.setattr(Log, "_give_up", give_up)
    return found


async def test_locks_are_taken_in_one_order(opener: Opener, retried: list[BaseException]) -> None:
    """Groups of many mailboxes in any order, of two lanes: none waits for the other for good."""
    stores = [await opener() for _ in range(2)]
    boxes = [Mailbox(number, Kind.REPLY) for number in range(1, 30)]

    async def work(store: Store, order: Sequence[Mailbox]) -> None:
        for _ in range(5):
            await asyncio.gather(*[store.append(append(box, records(1))) for box in order])
            await asyncio.gather(*[store.pull(pull(box, 1, key="k")) for box in order])

    await asyncio.gather(work(stores[0], boxes), work(stores[1], boxes[::-1]))
    # Two may begin a mailbox at the same moment: the later one begins again, and waits for nobody.
    waited = [error for error in retried if not isinstance(error, psycopg.errors.UniqueViolation)]
    assert [error for error in waited if isinstance(error, psycopg.Error)] == []
    assert group.ordered({3, 1, 2}) == [1, 2, 3]


@pytest.mark.usefixtures("patient")
async def test_tallies_are_counted_in_one_order(
    opener: Opener, admin: Admin, database: str, retried: list[BaseException]
) -> None:
    """Of applications in any order, by two lanes: none waits for the other for good."""
    stores = [await opener() for _ in range(2)]
    numbers = range(1, 30)
    tallies = [Tally(4, hour, (1, 2)) for hour in (9, 7, 8)]

    async def count(store: Store, order: Sequence[int]) -> None:
        asks = Follow(STATUSES, Followed(), 1, None, [])  # in the middle of a group
        counts = [Count(number, tallies, NOW_MS) for number in order]
        await asyncio.gather(*map(store.count, counts), store.follow(asks))

    await count(stores[0], numbers)
    with psycopg.connect(database) as holder:
        holder.execute("SELECT FROM pullstatus.tally WHERE sdkappid = 15 FOR UPDATE")
        counting = asyncio.gather(count(stores[0], numbers), count(stores[1], numbers[::-1]))
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await until(lambda: len(admin.execute(waiting).fetchall()) == 2)
        holder.commit()
    await counting
    assert retried == []
    for number in numbers:
        found = await stores[0].tallies(number, 0, 10)
        assert found == [Tally(4, hour, (3, 6)) for hour in (7, 8, 9)]


async def test_in_a_group_tallies_are_begun_and_added_to_as_one_by_one(store: Store) -> None:
    def counted(series: int, *counts: int, anew: bool = False) -> Awaitable[object]:
        return store.count(Count(1, [Tally(series, 7, counts)], NOW_MS, anew=anew))

    await asyncio.gather(
        store.append(append(STATUSES, records(1))),
        counted(1, 1, anew=True),
        counted(1, 2, 5),
        counted(1, 9, anew=True),
        counted(2, 3),
        counted(2, 9, anew=True),
        counted(2, 0, 0, 4),
    )
    assert await store.tallies(1, 7, 7) == [Tally(1, 7, (3, 5)), Tally(2, 7, (3, 0, 4))]


async def test_a_lock_is_waited_for_before_those_behind_it_are_taken(
    store: Store, admin: Admin, database: str
) -> None:
    for number in range(9, 0, -1):  # so rows lie the other way round
        await store.append(append(Mailbox(number, Kind.REPLY), records(1)))
    boxes = [box for (box,) in admin.execute("SELECT box FROM pullstatus.mailbox ORDER BY box")]
    with psycopg.connect(database) as group_of_all, psycopg.connect(database) as holder:
        holder.execute(statements.LOCK, (boxes[4:5],))
        pid = group_of_all.info.backend_pid
        waits = asyncio.create_task(
            asyncio.to_thread(group_of_all.execute, statements.LOCK, (boxes[::-1],))
        )
        await until(lambda: _waits_for_a_lock(admin, pid))
        free = "SELECT box FROM pullstatus.mailbox ORDER BY box FOR UPDATE SKIP LOCKED"
        assert [box for (box,) in admin.execute(free)] == boxes[5:]
        holder.rollback()
        await waits


def _waits_for_a_lock(admin: Admin, pid: int) -> bool:
    asked = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
    return admin.execute(asked, (pid,)).fetchall() == [("Lock",)]


@pytest.mark.parametrize("odd", ["a\0b", "\ud800", "é\U0010ffff", "'; DROP", "%s %(a)s", "\\x00"])
async def test_any_text_comes_back_as_it_was(store: Store, odd: str) -> None:
    act = Act(odd, odd, odd, odd, NOW_MS, ticket())
    await store.change(Change(odd, odd.encode("utf-8", "replace"), None), act=act)
    assert [row.act for row in await acts_of(store)] == [act]
    [setting] = await settings_of(store)
    assert setting.name == odd
    assert await store.setting(odd) == setting
    await store.append(append(STATUSES, records(2), key=RepeatKey(odd, odd, bytes(16))))
    taken = Pull(STATUSES, 1, NOW_MS, odd, odd, odd, Once(odd, NOW_MS))
    assert (await store.pull(taken)).count == 1
    assert (await store.pull(taken)).repeated
    await store.pull(Pull(STATUSES, 1, NOW_MS, reader=Reader(odd)))
    [row, of_reader] = await journal_of(store, STATUSES)
    assert (row.address, row.key, row.proof, of_reader.reader) == (odd, odd, odd, odd)
    assert len(await store.keyed(STATUSES.sdkappid, odd)) == 1
    assert [state.name async for state in store.readers()] == [odd]


async def test_settings_are_seen_in_order_while_many_write_them(opener: Opener) -> None:
    """None that was written in time is missing, whoever asks since which."""
    doors = [await opener() for _ in range(4)]
    seen: list[int] = []

    async def write(number: int, door: Store) -> None:
        for turn in range(12):
            await door.change(Change(f"{number}/{turn}", b"", None))

    writing = asyncio.gather(*[write(number, door) for number, door in enumerate(doors)])
    while not writing.done():
        since = seen[-1] if seen else 0
        seen += [setting.revision for setting in await settings_of(doors[0], since)]
        await asyncio.sleep(0)
    await writing
    seen += [setting.revision for setting in await settings_of(doors[0], seen[-1])]
    assert seen == list(range(1, 4 * 12 + 1))


@pytest.mark.usefixtures("patient")
async def test_a_condition_holds_until_the_commit(
    opener: Opener, database: str, admin: Admin
) -> None:
    """Who writes a setting waits for groups that rest on it."""
    store, other = await opener(), await opener()
    await store.change(Change("app", b"1", None))
    [setting] = await settings_of(store)
    with psycopg.connect(database) as holds:
        holds.execute("LOCK TABLE pullstatus.setting_turn IN ROW SHARE MODE")
        changing = asyncio.create_task(other.change(Change("app", b"2", b"1")))
        await until_locked(admin)
        assert not changing.done()
        assert [each.value for each in await settings_of(store)] == [b"1"]  # lists go on
    assert await changing
    assert (await settings_of(store))[0].revision > setting.revision


async def test_a_database_that_is_too_large_takes_no_more_entries(url: str) -> None:
    store = await open_store(f"{url}&max-bytes=1000")
    [entry] = records(1)
    await store.append(append(STATUSES, [entry]))
    await until(lambda: not writer_of(store).report.room)
    with pytest.raises(StoreFull, match="max-bytes"):
        await store.append(append(STATUSES, records(1)))
    assert await store.pull(pull(STATUSES, 1)) is not None
    assert (await store.engine()).room is False
    await store.close()


async def test_a_full_disk_is_no_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = group.second_trip

    def full(session: Session, due: Sequence[Due]) -> None:
        raise psycopg.errors.DiskFull("could not extend file")

    with monkeypatch.context() as patch:
        patch.setattr(group, "second_trip", full)
        with pytest.raises(StoreFull):
            await store.append(append(STATUSES, records(1)))
        with pytest.raises(StoreUnavailable):
            await store.append(append(STATUSES, records(1)))
    assert group.second_trip is real
    log_of(store)._full_until_s = 0.0
    await until(lambda: writer_of(store).report.room)
    await store.append(append(STATUSES, records(1)))


_REFUSES = """
    CREATE FUNCTION pullstatus.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'not this' USING ERRCODE = '{state}'; END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON pullstatus.{table}
    DEFERRABLE INITIALLY {when} FOR EACH ROW WHEN (NEW.box = {box})
    EXECUTE FUNCTION pullstatus.refuse()
"""


@pytest.mark.parametrize(
    ("state", "when"),
    [
        ("22003", "IMMEDIATE"),  # a value is out of range
        ("23514", "IMMEDIATE"),  # a check fails
        ("23505", "IMMEDIATE"),  # as if somebody else was faster, again and again
        ("54000", "IMMEDIATE"),  # too large
        ("42501", "IMMEDIATE"),  # a right is missing
        ("42P01", "IMMEDIATE"),  # a table is, of the trigger's
        ("P0001", "DEFERRED"),  # told by COMMIT
    ],
)
@pytest.mark.parametrize("table", ["chunk", "journal"])
async def test_what_the_database_refuses_is_refused_alone(
    store: Store, admin: Admin, url: str, table: str, state: str, when: str
) -> None:
    boxes = [Mailbox(number, Kind.REPLY) for number in range(1, 9)]
    [bad, *good] = boxes
    entries = {box: records(3) for box in boxes}
    await asyncio.gather(*[store.append(append(box, entries[box])) for box in boxes])
    admin.execute(_REFUSES.format(state=state, when=when, table=table, box=slot(bad)))

    async def ask(box: Mailbox) -> object:
        if table == "journal":
            return await store.pull(pull(box))
        return await store.append(append(box, entries[box]))

    before = log_of(store).figures()
    found = await asyncio.gather(*map(ask, boxes), return_exceptions=True)
    after = log_of(store).figures()
    assert [type(each) for each in found] == [StoreUnavailable] + [type(found[1])] * 7
    assert after.operations - before.operations == len(good)
    assert after.commits - before.commits == 3  # of 4, 2 and 1
    for box in good:
        if table == "journal":
            check_journal(await journal_of(store, box), 3)
        assert await data_of(store, box) == entries[box] * (1 if table == "journal" else 2)
    assert await data_of(store, bad) == entries[bad]
    admin.execute(f"DROP TRIGGER refuse ON pullstatus.{table}")
    assert await ask(bad) == (3 if table == "chunk" else page(1, entries[bad], 0))
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_a_value_that_is_refused_is_not_told(store: Store) -> None:
    """Whoever has sent it knows it, and a log need not."""
    with pytest.raises(StoreUnavailable, match=r'"\.\.\." is out of range') as caught:
        await store.append(append(STATUSES, records(1), 1 << 63))
    assert str(1 << 63) not in str(caught.value)


async def test_a_mailbox_that_cannot_be_made_is_refused_alone(store: Store, admin: Admin) -> None:
    boxes = [Mailbox(number, Kind.REPLY) for number in range(1, 9)]
    admin.execute(f"ALTER TABLE pullstatus.mailbox ADD CHECK (box <> {slot(boxes[5])})")
    found = await asyncio.gather(
        *[store.append(append(box, records(1))) for box in boxes], return_exceptions=True
    )
    assert [type(each) for each in found] == [int] * 5 + [StoreUnavailable] + [int] * 2
    assert await data_of(store, boxes[5]) == []

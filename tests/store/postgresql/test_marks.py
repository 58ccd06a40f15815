"""A commit without an answer: what it came to is learned, and what was answered is still there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus import limits
from pullstatus.errors import (
    CommitsLost,
    OutcomeUnknown,
    StoreFailed,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from pullstatus.store import (
    Mailbox,
    PutAside,
    Store,
    audit_store,
    begin_epoch,
    init_store,
    open_store,
)
from pullstatus.store.postgresql import epochs, group, hangs, log, marks, schema, tables
from pullstatus.store.postgresql import session as sessions
from pullstatus.store.postgresql.location import parse_url
from pullstatus.store.postgresql.refusals import Known
from pullstatus.store.postgresql.session import Session, open_session
from pullstatus.store.postgresql.tables import PostgresTables
from pullstatus.store.postgresql.writes import Due
from tests.harness import PATIENCE_S
from tests.store.build import (
    NOW_MS,
    OTHERS,
    PARKED,
    REPLIES,
    STATUSES,
    acts_of,
    append,
    backlog_of,
    data_of,
    entries_of,
    fingerprinted,
    journal_of,
    new_act,
    page,
    parked,
    pull,
    records,
    repeat_key,
    until,
)
from tests.store.engines import Opener, server
from tests.store.postgresql.conftest import log_of, until_locked
from tools.postgresql import Pair

pytestmark = pytest.mark.anyio

Trip = Callable[[Session, Sequence[Due]], None]


def session_of(store: Store) -> Session:
    session = log_of(store)._session
    assert session is not None
    return session


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the next commits end in a lost connection, before or behind the database's part."""
    real = group.second_trip

    def plan(*, commits: bool, times: int = 1) -> None:
        left = times

        def trip(session: Session, due: Sequence[Due]) -> None:
            nonlocal left
            if left:
                left -= 1
                if commits:
                    real(session, due)
                session.close()
                raise psycopg.OperationalError("the connection was cut")
            real(session, due)

        monkeypatch.setattr(group, "second_trip", trip)

    return plan


@pytest.mark.parametrize("commits", [True, False])
async def test_a_cut_commit_happens_once(
    store: Store, cut: Callable[..., None], *, commits: bool
) -> None:
    entries = records(3)
    cut(commits=commits)
    assert await store.append(append(STATUSES, entries)) == 3
    assert await data_of(store, STATUSES) == entries
    cut(commits=commits)
    assert await store.pull(pull(STATUSES, 2)) == page(1, entries[:2], 1)
    assert len(await journal_of(store, STATUSES)) == 1
    assert await store.pull(pull(STATUSES, 2)) == page(3, entries[2:], 0)


async def test_a_commit_that_is_cut_again_and_again_happens_once(
    store: Store, cut: Callable[..., None]
) -> None:
    entries = records(2)
    cut(commits=False, times=4)
    assert await store.append(append(STATUSES, entries)) == 2
    assert await data_of(store, STATUSES) == entries


async def test_one_that_is_fenced_off_can_never_be_committed(
    store: Store, admin: psycopg.Connection[TupleRow]
) -> None:
    """However long its backend hangs before it goes on."""
    await store.append(append(STATUSES, records(1)))
    lane, number = log_of(store)._lane, log_of(store)._number
    assert not marks.happened(session_of(store), lane, number)
    with pytest.raises(psycopg.errors.UniqueViolation):
        admin.execute(
            "INSERT INTO pullstatus.mark VALUES (%s, %s, false, now(), '{}')", (lane, number)
        )


@pytest.mark.usefixtures("patient")
async def test_the_resolver_waits_for_one_that_is_still_under_way(
    store: Store, database: str, admin: psycopg.Connection[TupleRow]
) -> None:
    await store.append(append(STATUSES, records(1)))
    lane, number = log_of(store)._lane, log_of(store)._number
    hangs = psycopg.connect(database)
    hangs.execute(
        "INSERT INTO pullstatus.mark (lane, number, fence, boxes) VALUES (%s, %s, false, '{}')",
        (lane, number),
    )
    asked = asyncio.create_task(asyncio.to_thread(marks.happened, session_of(store), lane, number))
    await until_locked(admin)
    assert not asked.done()
    hangs.commit()
    assert await asked
    hangs.close()


async def test_a_lock_that_the_resolver_waits_for_too_long_is_no_answer(
    store: Store, cut: Callable[..., None], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks again; what it must not do is to take it that nothing happened."""
    [entry] = records(1)
    real, tried = marks.happened, []

    def happened(session: Session, lane: int, number: int, *, server: bool = False) -> bool:
        tried.append(number)
        if len(tried) == 1:
            raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
        return real(session, lane, number, server=server)

    monkeypatch.setattr(marks, "happened", happened)
    cut(commits=True)
    assert await store.append(append(STATUSES, [entry])) == 1
    assert len(tried) == 2
    assert await data_of(store, STATUSES) == [entry]


async def test_a_warning_while_it_commits_leaves_it_open(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a wait for the standby that somebody cancelled."""
    asked = []
    real, trip = marks.happened, group.second_trip

    def warned(session: Session, due: Sequence[Due]) -> None:
        trip(session, due)
        monkeypatch.setattr(group, "second_trip", trip)
        session.connection.execute("DO $$ BEGIN RAISE WARNING 'canceling wait'; END $$")

    def happened(session: Session, lane: int, number: int, *, server: bool = False) -> bool:
        asked.append(number)
        return real(session, lane, number, server=server)

    monkeypatch.setattr(group, "second_trip", warned)
    monkeypatch.setattr(marks, "happened", happened)
    [entry] = records(1)
    assert await store.append(append(STATUSES, [entry])) == 1
    assert len(asked) == 1
    assert await data_of(store, STATUSES) == [entry]


async def test_nobody_is_answered_when_nothing_can_be_learned(
    store: Store, cut: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    [first, second] = records(2)
    await store.append(append(STATUSES, [first]))
    monkeypatch.setattr(log, "RESOLVE_S", 0.3)
    cut(commits=True)
    with monkeypatch.context() as patch:

        def unreachable(*_: object) -> Session:
            raise StoreUnavailable("not there")

        patch.setattr(log, "open_session", unreachable)
        with pytest.raises(OutcomeUnknown):
            await store.append(append(STATUSES, [second]))
    [third] = records(1)
    assert await store.append(append(STATUSES, [third])) == 1  # it goes on
    assert await data_of(store, STATUSES) == [first, second, third]


async def test_what_is_refused_while_there_is_no_server_did_not_happen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_of(store).close()
    monkeypatch.setattr(log, "RESOLVE_S", 10.2)

    def unreachable(*_: object) -> Session:
        raise StoreUnavailable("not there")

    with monkeypatch.context() as patch:
        patch.setattr(log, "open_session", unreachable)
        with pytest.raises(StoreUnavailable):
            await store.append(append(STATUSES, records(1)))
    assert await store.append(append(STATUSES, records(1))) == 1
    assert len(await entries_of(store, STATUSES)) == 1


async def test_commits_that_are_gone_stop_the_store(
    opener: Opener, admin: psycopg.Connection[TupleRow]
) -> None:
    """As when a standby took over that did not have them all."""
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    admin.execute("DELETE FROM pullstatus.mark")
    session_of(store).close()
    with pytest.raises(CommitsLost):
        await store.append(append(STATUSES, records(1)))
    assert [type(failure) for failure in failures] == [CommitsLost]
    with pytest.raises(StoreUnavailable):
        await store.append(append(STATUSES, records(1)))


@pytest.mark.parametrize("commits", [True, False])
async def test_commits_that_are_gone_stop_the_store_behind_one_of_which_nothing_is_known(
    opener: Opener,
    admin: psycopg.Connection[TupleRow],
    cut: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    *,
    commits: bool,
) -> None:
    """However many there were of these, and whether the lane was in what the database is now."""
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    monkeypatch.setattr(log, "RESOLVE_S", 0.0)
    for _ in range(2):
        cut(commits=commits)
        with pytest.raises(OutcomeUnknown):
            await store.append(append(STATUSES, records(1)))
    admin.execute("DELETE FROM pullstatus.mark")
    if commits:
        admin.execute("DELETE FROM pullstatus.lane")
    with pytest.raises(CommitsLost):
        await store.append(append(STATUSES, records(1)))
    assert [type(failure) for failure in failures] == [CommitsLost]


async def away_for_a_day(store: Store, other: Store, admin: psycopg.Connection[TupleRow]) -> None:
    """What the database says of a lane that could not reach it, once another one has tidied."""
    admin.execute("UPDATE pullstatus.lane SET seen = now() - interval '25 hours'")
    lane = log_of(store)._lane
    await asyncio.to_thread(marks.tidy, session_of(other), log_of(other)._lane)
    assert not admin.execute("SELECT FROM pullstatus.lane WHERE lane = %s", (lane,)).fetchall()


async def test_a_lane_that_was_away_for_a_day_goes_on(
    opener: Opener, admin: psycopg.Connection[TupleRow], cut: Callable[..., None]
) -> None:
    """Also if the day began in the middle of its commit, or of one of which it knows nothing."""
    entries = records(3)
    store, other = await opener(server=True), await opener()
    await store.append(append(STATUSES, entries[:1]))
    session_of(store).close()
    await away_for_a_day(store, other, admin)
    assert await store.append(append(STATUSES, entries[1:2])) == 1
    cut(commits=False)
    assert await store.append(append(STATUSES, entries[2:])) == 1  # behind a fence
    session_of(store).close()
    await away_for_a_day(store, other, admin)
    assert (await store.pull(pull(STATUSES))).count == 3
    assert await data_of(store, STATUSES) == entries


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("commits", [True, False])
async def test_a_commit_happens_once_though_its_lane_was_away_for_a_day(
    opener: Opener,
    admin: psycopg.Connection[TupleRow],
    cut: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: bool,
    commits: bool,
) -> None:
    entries = records(2)
    store, other = await opener(server=True), await opener()
    await other.append(append(STATUSES, entries[:1]))
    if before:
        await store.pull(pull(STATUSES, key="k"))
    times = []

    def late(*args: Any) -> Session:  # noqa: ANN401 - those of the real one
        times.append(1)
        monkeypatch.setattr(log, "open_session", open_session)
        admin.execute("UPDATE pullstatus.lane SET seen = now() - interval '25 hours'")
        marks.tidy(session_of(other), log_of(other)._lane)
        return open_session(*args)

    monkeypatch.setattr(log, "open_session", late)
    cut(commits=commits)
    assert await store.append(append(STATUSES, entries[1:])) == 1
    assert times == [1]
    assert await data_of(store, STATUSES) == entries


async def test_a_lane_of_which_nothing_is_left_was_never_there(
    opener: Opener, admin: psycopg.Connection[TupleRow]
) -> None:
    """The database was set back to before it began: whoever tidies leaves its newest mark."""
    store = await opener()
    await store.append(append(STATUSES, records(1)))
    admin.execute("DELETE FROM pullstatus.mark")
    admin.execute("DELETE FROM pullstatus.lane")
    session_of(store).close()
    with pytest.raises(CommitsLost):
        await store.pull(pull(STATUSES, key="k"))


async def test_a_connection_that_is_lost_between_groups_costs_nobody_anything(
    store: Store, admin: psycopg.Connection[TupleRow]
) -> None:
    entries = records(40)
    for entry in entries:
        await store.append(append(STATUSES, [entry]))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pullstatus' AND random() < 0.3"
        )
        assert await store.pull(pull(REPLIES)) == page(0, [], 0)
    assert await data_of(store, STATUSES) == entries


async def test_a_connection_that_is_lost_is_no_line_of_the_drivers(
    database: str,
    admin: psycopg.Connection[TupleRow],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Where no log is kept, as in a command."""
    connection = open_session(parse_url(database), Known()).connection
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    admin.execute("SELECT pg_terminate_backend(%s, 60000)", (connection.info.backend_pid,))

    def ask() -> None:
        with connection.pipeline():
            connection.execute("BEGIN")
            connection.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        ask()
    assert capfd.readouterr() == ("", "")


async def test_repeats_are_answered_behind_a_commit_of_their_own(
    store: Store, admin: psycopg.Connection[TupleRow]
) -> None:
    """What they tell of may be seen here before a standby has it."""
    await store.append(append(STATUSES, records(2)))
    await store.pull(pull(STATUSES, 1, key="k"))

    def count() -> int:
        [(number,)] = admin.execute("SELECT count(*) FROM pullstatus.mark").fetchall()
        return int(number)

    before = count()
    assert (await store.pull(pull(STATUSES, 1, key="k"))).repeated
    assert count() == before + 1
    assert (await store.pull(pull(REPLIES, 1, key="none"))).count == 0
    assert count() == before + 1


async def test_repeats_of_senders_are_acknowledged_behind_a_commit_of_their_own(
    store: Store, admin: psycopg.Connection[TupleRow]
) -> None:
    """By key, by fingerprint, or of what is parked: nothing is new, and a standby may lack it."""

    def count() -> int:
        [(number,)] = admin.execute("SELECT count(*) FROM pullstatus.mark").fetchall()
        return int(number)

    keyed = append(STATUSES, records(2), key=repeat_key("k"))
    printed = fingerprinted(STATUSES, records(1), [1])
    push = parked(fingerprinted(REPLIES, records(1), [2]), [b"bad"])
    for new in (True, False):
        before = count()
        assert await store.append(keyed) == 2 * new
        assert await store.append(printed) == new
        assert await store.park(push) == PutAside(new, new, 0)
        assert count() == before + 3


async def test_marks_of_a_lane_are_removed_but_for_the_newest(
    store: Store, admin: psycopg.Connection[TupleRow]
) -> None:
    await store.append(append(STATUSES, records(1)))
    lane = log_of(store)._lane
    admin.execute(
        "INSERT INTO pullstatus.mark SELECT %s, n, false, now() - interval '1 hour', '{}'"
        " FROM generate_series(2, 1500) n",
        (lane,),
    )
    admin.execute(
        "INSERT INTO pullstatus.lane SELECT n, 'x', 1, n = 1, '2026-01-01', '2026-01-01'"
        " FROM generate_series(1, 2) n"
    )
    admin.execute(
        "INSERT INTO pullstatus.mark SELECT each, n, false, now(), '{}'"
        " FROM generate_series(1, 2) each, generate_series(1, 3) n"
    )
    marks.tidy(session_of(store), lane)
    rows = admin.execute(
        "SELECT lane, min(number), max(number), count(*) FROM pullstatus.mark GROUP BY 1 ORDER BY 1"
    )
    # The first is not old enough; of the server that is gone, the newest says what it committed.
    assert rows.fetchall() == [(1, 3, 3, 1), (lane, 1, 1500, 1001)]
    assert admin.execute("SELECT 1 FROM pullstatus.lane WHERE lane < 3").fetchall() == []


async def test_a_page_of_a_store_that_was_opened_anew_is_known_by_its_epoch(url: str) -> None:
    store = await open_store(url)
    assert (store.epoch, store.created) == (1, True)
    await store.append(append(STATUSES, records(1), NOW_MS))
    await store.close()
    again = await open_store(url)
    assert (again.epoch, again.created) == (1, False)
    assert (await backlog_of(again, STATUSES)) is not None
    await again.close()


async def test_a_server_that_hangs_is_left_for_the_one_that_took_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its kernel keeps the connection open, and it says nothing any more."""
    monkeypatch.setattr(hangs, "HANGS_S", 1.0)
    monkeypatch.setattr(log, "RESOLVE_S", PATIENCE_S)
    monkeypatch.setattr(hangs, "LOOK_S", 0.1)
    with Pair() as pair:
        hung = pair.primary
        store = await open_store(f"{pair.url()}?commits=thread")
        [first, second] = records(2)
        await store.append(append(STATUSES, [first]))
        hung.pause()
        try:
            appending = asyncio.create_task(store.append(append(STATUSES, [second])))
            pair.standby.set(synchronous_standby_names="")
            await asyncio.to_thread(pair.standby.promote)
            assert await appending == 1
        finally:
            hung.resume()
        assert await data_of(store, STATUSES) == [first, second]
        await store.close()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Without the standby, for which nobody waits for long."""
    ended = threading.Event()

    def commit() -> None:
        with server().connect() as connection:
            while not ended.is_set():
                connection.execute("SELECT pg_logical_emit_message(true, 'test', '')")

    committing = threading.Thread(target=commit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hangs, "HANGS_S", 0.5)
        patch.setattr(hangs, "LOOK_S", 0.1)
        patch.setattr(limits, "STORE_WAIT_S", 1)
        patch.setattr(log, "RESOLVE_S", 2.0)
        server().set(synchronous_standby_names="nobody")
        committing.start()  # the server knows once it has somebody wait
        try:
            server().until(f"SELECT EXISTS ({WAITING})")
            yield
        finally:
            ended.set()
            server().set(synchronous_standby_names="")
            committing.join()


WAITING = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def waiting_for_a_standby(admin: psycopg.Connection[TupleRow]) -> int:
    return len(admin.execute(f"{WAITING} AND datname = current_database()").fetchall())


@pytest.mark.parametrize("mailbox", [STATUSES, REPLIES, None])
async def test_without_a_standby_everybody_is_told_in_time(
    opener: Opener,
    admin: psycopg.Connection[TupleRow],
    mailbox: Mailbox | None,
) -> None:
    """Of a commit, of a mailbox that is to be made, and of a connection that is to be set up."""
    store = await opener()
    entries = records(2)
    await store.append(append(STATUSES, entries[:1]))
    with alone():
        if mailbox is None:
            session_of(store).close()
            mailbox = STATUSES
        with pytest.raises((OutcomeUnknown, StoreUnavailable)) as told:
            await asyncio.wait_for(store.append(append(mailbox, entries[1:])), PATIENCE_S)
        for other in (STATUSES, REPLIES, OTHERS, PARKED):
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(store.append(append(other, records(1))), PATIENCE_S)
        assert waiting_for_a_standby(admin) <= 3  # the commit, and one try to connect of each lane
    [entry] = records(1)
    assert await store.append(append(STATUSES, [entry])) == 1
    there = await data_of(store, STATUSES)
    assert there in ([entries[0], entry], [*entries, entry])
    assert there == [entries[0], entry] or told.type is OutcomeUnknown


async def test_a_commit_in_doubt_is_not_done_again_for_a_lock_that_a_new_connection_waits_for(
    opener: Opener,
    database: str,
    admin: psycopg.Connection[TupleRow],
    cut: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is in the way of setting a connection up is not in that of the group."""
    store = await opener()
    entries = records(2)
    await store.append(append(STATUSES, entries[:1]))
    cut(commits=True)
    monkeypatch.setattr(log, "RESOLVE_S", 0.5)
    with psycopg.connect(database) as holder, monkeypatch.context() as patch:
        patch.setattr(sessions, "SETTINGS", {**sessions.SETTINGS, "lock_timeout": "100ms"})
        holder.execute("SELECT FROM pullstatus.lane FOR UPDATE")
        with pytest.raises(OutcomeUnknown):
            await store.append(append(STATUSES, entries[1:]))
    assert await data_of(store, STATUSES) == entries


async def test_a_start_without_a_standby_is_refused_in_time(
    url: str, admin: psycopg.Connection[TupleRow]
) -> None:
    """However often it is tried, one connection is left that waits for a standby."""
    await (await open_store(url)).close()
    with alone():
        for _ in range(3):
            with pytest.raises(StoreRefused, match=r"cannot be used: no standby answers, .* it"):
                await asyncio.wait_for(open_store(url, server=True), PATIENCE_S)
        assert waiting_for_a_standby(admin) <= 1


async def test_a_command_that_only_reads_needs_no_standby(
    url: str, admin: psycopg.Connection[TupleRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it commits says that none answers; and leaves few waiting there, too."""
    monkeypatch.setattr(log, "ALIVE_S", 0.0)
    entries = records(1)
    store = await open_store(url)
    await store.append(append(STATUSES, entries))
    await store.close()
    with alone():
        for _ in range(3):
            store = await open_store(url)
            assert await data_of(store, STATUSES) == entries
            assert (await store.totals()).of[STATUSES.kind].waiting == 1
            with pytest.raises(StoreUnavailable, match=r"no standby answers, .* start it"):
                await asyncio.wait_for(store.change(act=new_act()), PATIENCE_S)
            await store.close()
        assert waiting_for_a_standby(admin) <= 1
        assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_who_makes_a_store_or_begins_an_epoch_without_a_standby_is_refused_in_time(
    url: str, admin: psycopg.Connection[TupleRow]
) -> None:
    """And has changed nothing, so that it is done again."""
    with alone(), pytest.raises(StoreRefused, match=r"no standby answers, .* start it"):
        await asyncio.wait_for(init_store(url), PATIENCE_S)
    assert await init_store(url)
    with alone():
        for _ in range(3):
            with pytest.raises(StoreRefused, match=r"no standby answers, .* start it"):
                await asyncio.wait_for(begin_epoch(url, new_act("new-epoch")), PATIENCE_S)
        assert waiting_for_a_standby(admin) <= 1
    assert await begin_epoch(url, new_act("new-epoch")) == 2


async def test_a_disk_that_is_full_when_a_connection_is_set_up_takes_no_more_entries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(append(STATUSES, records(1)))

    def full(*_: object, **__: object) -> None:
        raise psycopg.errors.DiskFull("could not extend file")

    session_of(store).close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "register", full)
        with pytest.raises(StoreFull):
            await store.append(append(STATUSES, records(1)))
    assert not log_of(store).has_room()
    assert (await store.pull(pull(STATUSES))).count == 1


@pytest.mark.parametrize(
    ("refusal", "failure"),
    [
        (StoreRefused("it is not safe"), StoreFailed),
        (StoreUnavailable("it is not there, yet"), None),
    ],
)
async def test_a_connection_that_is_lost_before_mailboxes_are_made_is_like_any(
    opener: Opener,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Exception,
    failure: type[Exception] | None,
) -> None:
    """A server that is not safe ends the store; one that is not there yet is waited for."""
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    left = [refusal]
    roll_back, session = log.Log._roll_back, session_of(store)

    def lost(self: log.Log) -> None:
        session.close()
        roll_back(self)

    def connect(*args: Any) -> Session:  # noqa: ANN401 - those of the real one
        if left:
            raise left.pop()
        return open_session(*args)

    monkeypatch.setattr(log.Log, "_roll_back", lost)
    monkeypatch.setattr(log, "open_session", connect)
    entries = records(1)
    if failure is None:
        assert await store.append(append(STATUSES, entries)) == 1
        assert await data_of(store, STATUSES) == entries
    else:
        with pytest.raises(failure):
            await store.append(append(STATUSES, entries))
        await until(lambda: [type(each) for each in failures] == [failure])
    assert not left


async def test_a_group_that_is_answered_again_and_again_does_not_hang(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes as a whole: each act on record asks for itself."""
    monkeypatch.setattr(hangs, "HANGS_S", 2.0)
    monkeypatch.setattr(hangs, "LOOK_S", 0.1)
    now_s = 0.0  # goes on by what is meant to take time, and not by a busy machine
    clock = SimpleNamespace(monotonic=lambda: now_s, sleep=time.sleep)
    for module in (hangs, tables, log):
        monkeypatch.setattr(module, "time", clock)
    store = await open_store(url)
    session = session_of(store)
    ask = PostgresTables._ask

    def slowly(asked: PostgresTables, sql: str, *values: object) -> object:
        nonlocal now_s
        now_s += hangs.HANGS_S / 2
        time.sleep(3 * hangs.LOOK_S)  # looked at meanwhile
        return ask(asked, sql, *values)

    monkeypatch.setattr(PostgresTables, "_ask", slowly)
    acts = [new_act(f"{number}") for number in range(8)]
    await asyncio.gather(*[store.change(act=act) for act in acts])
    assert now_s > 2 * hangs.HANGS_S
    assert session_of(store) is session
    assert len(await acts_of(store)) == len(acts)
    await store.close()


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("pg_cancel_backend", "on this server alone: begin another one"),
        ("pg_terminate_backend", "did not say whether the new epoch has begun: begin another one"),
    ],
)
async def test_an_epoch_that_no_standby_has_is_not_said_to_have_begun(
    url: str,
    admin: psycopg.Connection[TupleRow],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    told: str,
) -> None:
    """Its wait ends while nobody answers who did so before."""
    await init_store(url)
    monkeypatch.setattr(epochs, "prove_answering", lambda *_: None)
    with alone():
        beginning = asyncio.create_task(begin_epoch(url, new_act()))
        await until(lambda: waiting_for_a_standby(admin) == 1)
        waits = WAITING.replace("FROM", f"{way}(pid) FROM", 1)
        admin.execute(f"{waits} AND datname = current_database()")
        with pytest.raises(OutcomeUnknown, match=told):
            await beginning
    assert await begin_epoch(url, new_act()) == 3

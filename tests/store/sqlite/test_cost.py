"""What must not grow: work is counted in steps of SQLite's machine, which no busy computer changes.

Others' mailboxes and what is remembered may be many; one commit's work depends on neither.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NoReturn

import apsw
import pytest

from pullstatus.errors import KeyReused, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store import (
    Append,
    Backlog,
    Change,
    Fingerprints,
    Mailbox,
    Pull,
    PutAside,
    Sums,
)
from pullstatus.store.gathering.operations import Changes, Forget, Purge
from pullstatus.store.sqlite import SqliteStore, opening, reading, schema, totals
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.opening import open_log
from pullstatus.store.sqlite.retention import Retention
from pullstatus.store.sqlite.totals import Survey
from pullstatus.store.values import Contents
from pullstatus.store.verbs.state import slot
from tests.store.build import NOW_MS, OTHERS, STATUSES, append, parked, records
from tests.store.engines import Opener
from tests.store.sqlite.conftest import follow

FEW, MANY, MILLION = 3, 20_000, 1_000_000
SLACK = 200  # steps: a tree of many rows is a level or two deeper


class Steps:
    """How many steps statements took so far."""

    count = 0


@contextlib.contextmanager
def counted(connection: apsw.Connection) -> Iterator[Steps]:
    """Count the steps of all that runs on a connection."""
    steps = Steps()

    def add(event: dict[str, dict[str, int]]) -> None:
        steps.count += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, add)
    yield steps
    connection.trace_v2(0)


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"


def remember(connection: apsw.Connection, count: int) -> None:
    """Remember so many records, of a time long ago, and a tenth as many batches and signatures."""
    for share, statement in (
        (1, "INSERT INTO fingerprint SELECT i, 0, :now + i FROM n"),
        (
            1,
            (
                "INSERT INTO fingerprint_step (accepted_ms, keys)"
                " SELECT :now + i, unhex(printf('%016x%016x', i, 0)) FROM n"
            ),
        ),
        (
            10,
            (
                "INSERT INTO repeat_key (scope, key, digest, accepted, accepted_ms)"
                " SELECT :now, i, zeroblob(16), 1, :now + i FROM n"
            ),
        ),
        (10, "INSERT INTO once SELECT i, '1', :now + i FROM n"),
    ):
        connection.execute(
            f"{NUMBERS} {statement}", {"count": max(1, count // share), "now": NOW_MS}
        )
    connection.execute(
        "UPDATE fingerprint_indexed SET through = (SELECT max(id) FROM fingerprint_step)"
    )


def customers(connection: apsw.Connection, count: int) -> None:
    """So many mailboxes, of each one entry that was pulled under the same key."""
    for statement in (
        (
            "INSERT INTO mailbox (id, sdkappid, kind, tail, cursor, handed_out)"
            " SELECT i, i, 0, 1, 1, 1 FROM n"
        ),
        "INSERT INTO chunk SELECT (i << :bits) + 1, 1, :now, 0, zeroblob(8), x'7b7d', NULL FROM n",
        (
            "INSERT INTO journal (key, count, outcome, at_ms, address, pull_key, count_max, proof)"
            " SELECT (i << :bits) + 1, 1, 0, :now, '', 'batch-1', 1, '' FROM n"
        ),
        "INSERT INTO reader SELECT i, 'a', :now, 1, 0, 0, :now, 0, NULL FROM n",
    ):
        connection.execute(
            f"{NUMBERS} {statement}", {"count": count, "bits": schema.SEQ_BITS, "now": NOW_MS}
        )


def mailbox(number: int) -> Mailbox:
    return Mailbox(number, Kind.DELIVERY_STATUS)


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Log]:
    """Stores that remember few and very many, from `NOW_MS` on."""
    logs = {}
    for count in (FEW, MILLION):
        connection = open_writer(tmp_path_factory.mktemp("remembered") / "store.db")
        connection.pragma("synchronous", 0)
        remember(connection, count)
        logs[count] = Log(connection)
    return logs


def test_forgetting_nothing_costs_nothing_whatever_stays(remembered: dict[int, Log]) -> None:
    found = {}
    for count, log in remembered.items():
        with counted(log._connection) as steps:
            [removed] = log.commit([Forget(NOW_MS, NOW_MS // 1000, 500, 1)])
            assert (removed.count, removed.more) == (0, False)  # type: ignore[union-attr]
        found[count] = steps.count
    assert found[MILLION] <= found[FEW] + SLACK


def test_forgetting_reads_what_it_drops_and_no_more(remembered: dict[int, Log]) -> None:
    """Of a million, ten records and ten batches."""
    log = remembered[MILLION]
    with counted(log._connection) as steps:
        [removed] = log.commit([Forget(NOW_MS + 11, 0, 500, 60)])
        assert (removed.count, removed.more) == (20, False)  # type: ignore[union-attr]
    assert steps.count < 20 * 100


def test_a_batch_of_new_records_costs_the_same_whatever_is_remembered(
    remembered: dict[int, Log],
) -> None:
    """Of times that the index does not reach, or has: then each record is looked for in it."""
    found = {}
    for count, log in remembered.items():
        log.commit([append(mailbox(1), records(1))])  # the mailbox is there
        for record_s in (NOW_MS // 1000, 5):
            prints = Fingerprints("a", [(record_s, b"%016d" % n) for n in range(100)])
            with counted(log._connection) as steps:
                log.commit([Append(mailbox(1), records(100), NOW_MS, fingerprints=prints)])
            found[count, record_s] = steps.count
    assert found[MILLION, NOW_MS // 1000] <= found[FEW, NOW_MS // 1000] + SLACK
    assert found[MILLION, 5] <= found[FEW, 5] + 100 * 20


def store_of(folder: Path, count: int) -> Path:
    file = folder / f"{count}.db"
    connection = open_writer(file)
    customers(connection, count)
    connection.close()
    return file


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Stores of few and of many customers."""
    folder = tmp_path_factory.mktemp("customers")
    return {count: store_of(folder, count) for count in (FEW, MANY)}


def test_a_key_that_many_use_costs_no_more(stores: dict[int, Path]) -> None:
    found = {}
    for count, file in stores.items():
        log = open_log(file, server=True)
        with counted(log._connection) as steps:
            [answer] = log.commit([Pull(mailbox(2), 2, NOW_MS, key="batch-1")])
        assert isinstance(answer, KeyReused)  # its page was asked for with another `max`
        found[count] = steps.count
        log.close()
    assert found[MANY] <= found[FEW] + SLACK


def test_a_command_costs_the_server_what_it_changed(stores: dict[int, Path]) -> None:
    """Whether the server commits next or has nothing to do, and however many mailboxes there are.

    Nor does what the server commits cost the command more.
    """
    found = {}
    for count, file in stores.items():
        server, command = open_log(file, server=True), open_log(file, server=False)
        command.commit([append(mailbox(1), records(1))])
        with counted(server._connection) as steps:
            server.commit([append(mailbox(2), records(1))])
        command.commit([append(mailbox(count + 1), records(1))])
        with counted(server._connection) as idle:
            server.notice_others()
        with counted(command._connection) as beside:
            command.commit([append(mailbox(2), records(1))])
        assert server.states.waiting[slot(mailbox(count + 1))] == 1
        found[count] = steps.count, idle.count, beside.count
        server.close()
        command.close()
    assert all(many <= few + SLACK for few, many in zip(found[FEW], found[MANY], strict=True))


def test_what_is_asked_of_one_application_reads_no_other(stores: dict[int, Path]) -> None:
    found = {}
    for count, file in stores.items():
        with contextlib.closing(open_reader(file)) as connection:
            with counted(connection) as backlog:
                assert len(reading.backlog(connection, 2)) == 1
            with counted(connection) as readers:
                assert len(reading.readers(connection, 2, (0, ""), 10)) == 1
        found[count] = backlog.count, readers.count
    assert all(many <= few + SLACK for few, many in zip(found[FEW], found[MANY], strict=True))


def test_totals_cost_what_has_changed(stores: dict[int, Path]) -> None:
    """And not even that where nothing has."""
    with contextlib.closing(open_reader(stores[MANY])) as connection:
        survey = Survey()
        with counted(connection) as first:
            survey.look(connection, 0)
        with counted(connection) as nothing:
            survey.look(connection, 0)
        with counted(connection) as worst:
            _, rows = survey.look(connection, 3)
        survey.tell({slot(mailbox(7)), slot(mailbox(MANY)), slot(mailbox(7000))})
        with counted(connection) as again:
            survey.look(connection, 0)
    assert first.count > MANY
    assert nothing.count < 10
    assert 3 <= len(rows) <= 6
    assert worst.count < first.count / 50
    assert again.count < first.count / 50


@pytest.mark.anyio
async def test_totals_are_summed_beside_the_loop(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a start all mailboxes are."""
    look, threads = Survey.look, list[threading.Thread]()

    def noting(
        self: Survey, connection: apsw.Connection, worst: int
    ) -> tuple[dict[Contents, Sums], list[Backlog]]:
        threads.append(threading.current_thread())
        return look(self, connection, worst)

    monkeypatch.setattr(Survey, "look", noting)
    await (await opener(server=True)).totals()
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.anyio
@pytest.mark.parametrize("asked", ["totals", "behind", "pending"])
@pytest.mark.parametrize("ends", ["before", "at its beginning", "in the middle"])
async def test_a_look_that_comes_to_nothing_leaves_what_it_was_told_to_the_next(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, asked: str, ends: str
) -> None:
    """Else the sums would be stale until each of those mailboxes changes again."""
    store = await opener(server=True)
    assert isinstance(store, SqliteStore)
    await store.append(append(STATUSES, records(1)))
    await store.totals()
    await store.append(append(STATUSES, records(2)))
    await store.append(append(OTHERS, records(1)))

    def fails(*_arguments: object) -> NoReturn:
        raise StoreUnavailable("not now")

    with monkeypatch.context() as patch:
        if ends == "before":  # as one that is given up while it waits for its turn
            patch.setattr(store._reads, "ask", fails)
        elif ends == "at its beginning":
            patch.setattr(totals, "moment", fails)
        else:
            patch.setattr(Survey, "_sum", fails)
        with pytest.raises(StoreUnavailable):
            await (store.totals() if asked == "totals" else getattr(store, asked)(9))
    found = await store.totals()
    assert found.of[STATUSES.kind].waiting == 4
    assert len(await store.behind(9)) == 2


def test_a_sweep_reads_where_something_is_due(stores: dict[int, Path]) -> None:
    """And what it has read once tells until when nothing is."""
    retention = Retention()
    with contextlib.closing(open_writer(stores[MANY])) as connection:
        with counted(connection) as first:
            assert sweep(retention, connection, NOW_MS) == []
        with counted(connection) as nothing:
            assert sweep(retention, connection, NOW_MS) == []
        connection.execute("UPDATE journal SET at_ms = at_ms + 5 WHERE key >> 40 <> 7000")
        retention = Retention()
        sweep(retention, connection, NOW_MS)
        with counted(connection) as one:
            assert sweep(retention, connection, NOW_MS + 3) == [mailbox(7000)]
    assert first.count > MANY
    assert nothing.count < 20
    assert one.count < first.count / 50


def sweep(retention: Retention, connection: apsw.Connection, before_ms: int) -> list[Mailbox]:
    """The mailboxes with rows from before."""
    return [
        box
        for run in retention.to_read(connection, before_ms)
        for box in retention.due(connection, run, before_ms)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_sweep_finds_all_that_is_due(tmp_path: Path, seed: int) -> None:
    """As whoever asks each mailbox does, while they are pulled from, made and removed from."""
    rng = Random(seed)
    log = open_log(store_of(tmp_path, 300), server=True)
    connection, retention = log._connection, Retention()
    now = NOW_MS
    for _ in range(40):
        now += rng.randrange(0, 3000)
        for _ in range(rng.randrange(4)):
            box = mailbox(rng.randrange(1, 500))
            log.commit([append(box, records(2), now), Pull(box, 2, now)])
        before_ms = now - rng.randrange(20_000)
        due = connection.execute(
            "SELECT sdkappid FROM mailbox WHERE (SELECT min(at_ms) FROM journal"
            " WHERE key >> 40 = id) < ? ORDER BY id",
            (before_ms,),
        ).fetchall()
        found = sweep(retention, connection, before_ms)
        assert [(box.sdkappid,) for box in found] == due
        for box in found[:50]:
            follow(log, box)
            log.commit([Purge((box,), before_ms, 100, 60)])
    log.close()


def test_making_room_for_what_is_parked_costs_what_leaves(tmp_path: Path) -> None:
    """However many items stay: at the bound each push makes room for its own."""
    found = {}
    for count in (FEW, MANY):
        log = open_log(store_of(tmp_path, count), server=True)
        items = [b"%016d" % number for number in range(count)]
        log.commit([parked(append(mailbox(9), []), items, count, MILLION)])
        with counted(log._connection) as steps:
            [done] = log.commit([parked(append(mailbox(9), []), [b"new"], count, MILLION)])
        assert done == PutAside(records=0, items=1, expired=1)
        found[count] = steps.count
        log.close()
    assert found[MANY] <= found[FEW] + SLACK


@pytest.mark.parametrize("server", [False, True])
def test_opening_and_a_first_commit_read_no_other_mailbox(
    stores: dict[int, Path], monkeypatch: pytest.MonkeyPatch, server: bool
) -> None:
    """Nor does noticing what others have done to settings."""
    found = {}
    for count, file in stores.items():
        with contextlib.ExitStack() as stack:
            counts: list[Steps] = []

            def opened(path: Path, *, fold: bool) -> apsw.Connection:
                connection = open_writer(path, fold=fold)
                counts.append(stack.enter_context(counted(connection)))  # noqa: B023
                return connection

            with monkeypatch.context() as patch:
                patch.setattr(opening, "open_writer", opened)
                log = open_log(file, server=server)
            log.commit([Pull(mailbox(2), 2, NOW_MS)])
            beside = open_log(file, server=False)
            beside.commit([Changes((Change("a", b"1", None),))])
            log.notice_others()
            beside.commit([Changes((Change("a", None, b"1"),))])
            log.commit([append(mailbox(1), records(1)), Pull(mailbox(1), 2, NOW_MS)])
            beside.close()
            assert slot(mailbox(2)) in log.states.waiting
            assert len(log.states.waiting) == 2
            found[count] = sum(steps.count for steps in counts)
        log.close()
    assert found[MANY] <= found[FEW] + SLACK

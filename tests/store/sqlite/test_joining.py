"""What came record by record is joined into full chunks, and nobody can tell but by the time.

The clock is the test's: it goes on by as much each time somebody looks at it.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec
import pytest

from pullstatus.errors import StoreUnavailable
from pullstatus.store import (
    NO_TICKET,
    Discard,
    Entry,
    Mailbox,
    Outcome,
    Page,
    Reader,
    Tickets,
    open_store,
)
from pullstatus.store.gathering import committer
from pullstatus.store.gathering.operations import Answer, Erase, PackedPage, Purge
from pullstatus.store.gathering.pace import STEP_S
from pullstatus.store.sqlite import engine, joining, reading
from pullstatus.store.sqlite.audit import audit
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.store.sqlite.guarded import GuardedLog
from pullstatus.store.sqlite.joining import BYTES_MAX, DUE_ROWS, LEAST_ROWS, LOOK_ROWS, SMALL_COUNT
from pullstatus.store.sqlite.log import (
    CHECKPOINT_PAGES_IDLE,
    JOIN_PAUSE_S,
    JOIN_PAUSES,
    Log,
)
from pullstatus.store.sqlite.opening import open_guarded, open_log
from pullstatus.store.sqlite.totals import Survey
from pullstatus.store.transfer import Migration, Role, Stage
from tests.store.build import (
    NOW_MS,
    REPLIES,
    STATUSES,
    append,
    connection_of,
    data_of,
    incompressible,
    pull,
    records,
    until,
)
from tests.store.engines import sqlite_url
from tests.store.sqlite.conftest import Clock, follow

ROOT = Path(__file__).parents[3]
LONG_MS = NOW_MS + 10**9  # after all that happens here
ticket = Tickets(os.urandom)


def put(log: Log, entries: Sequence[bytes], mailbox: Mailbox = STATUSES) -> list[Entry]:
    """Append entries one by one, each later than the one before; returns how they are read."""
    state = log.states.draft(mailbox)
    tail = 0 if state is None else state.tail
    found = [
        Entry(seq, NOW_MS + 3 * seq, entry, ticket())
        for seq, entry in enumerate(entries, start=tail + 1)
    ]
    for each in found:
        one = append(mailbox, [each.data], each.accepted_ms)
        log.commit([msgspec.structs.replace(one, ticket=each.ticket)])
    return found


def join(log: Log) -> None:
    """Let as much time pass as joining needs."""
    while log._tables.joins.due:
        log._join_from_s = 0.0
        log.join()


def counts(log: Log, mailbox: Mailbox = STATUSES) -> list[int]:
    """How many entries each chunk of a mailbox has."""
    rows = log._connection.execute(
        "SELECT count FROM chunk WHERE key >> 40 = ? ORDER BY key", (number(log, mailbox),)
    )
    return [count for (count,) in rows]


def number(log: Log, mailbox: Mailbox) -> int:
    state = log.states.draft(mailbox)
    assert state is not None
    return state.number


def kept(log: Log, mailbox: Mailbox = STATUSES, first_seq: int = 1) -> list[Entry]:
    """What can be read, in steps of a few chunks."""
    found: list[Entry] = []
    next_seq: int | None = first_seq
    base = number(log, mailbox) << 40
    while next_seq is not None:
        step, next_seq = reading.entries(
            log._connection, base, next_seq, None, rows_max=2, found_max=2
        )
        found += step
    return found


def page(answer: Answer) -> Page:
    if isinstance(answer, PackedPage):
        return answer.opened()
    assert isinstance(answer, Page)
    return answer


def take(log: Log, count: int, mailbox: Mailbox = STATUSES) -> list[bytes]:
    """The entries of a page that is pulled."""
    [answer] = log.commit([pull(mailbox, count)])
    [row] = log._connection.execute(
        "SELECT key & 0xffffffffff FROM journal WHERE key >> 40 = ? ORDER BY key DESC LIMIT 1",
        (number(log, mailbox),),
    )
    taken = page(answer)
    assert row == (taken.first_seq,)
    found = [each.data for each in kept(log, mailbox, taken.first_seq)][: taken.count]
    assert taken.data == b",".join(found)
    return found


def guarded_of(file: Path) -> GuardedLog:
    """A new file's log as the committer has it; not synced."""
    file.touch(mode=0o600)
    guarded = open_guarded(file, file, server=False, reserve_bytes=0)
    guarded.log._connection.pragma("synchronous", 0)
    return guarded


def sound(log: Log) -> None:
    assert audit(log._connection, lambda _done, _all: None).findings == []


# -- what is joined, and what is not ---------------------------------------------------------------


def test_what_came_singly_becomes_full_chunks_and_stays_what_it_was(log: Log) -> None:
    """Its numbers, its times, its tickets, to the last one; the pages, and the audit."""
    expected = put(log, records(250))
    join(log)
    assert counts(log) == [100, 100, 50]
    assert kept(log) == expected
    assert kept(log, first_seq=130) == expected[129:]
    assert kept(log, first_seq=251) == []
    for start in (0, 70, 140, 210):
        assert take(log, 70) == [each.data for each in expected[start : start + 70]]
    sound(log)


def test_what_comes_later_is_joined_with_what_was_joined(log: Log) -> None:
    """Until that is about full: a chunk that is half full is not written again for a few more."""
    expected: list[Entry] = []
    for _ in range(5):
        expected += put(log, records(DUE_ROWS - 1))
        join(log)
    assert counts(log) == [60] + [1] * (DUE_ROWS - 1)
    expected += put(log, records(200))
    join(log)
    assert counts(log) == [60, 100, 100, DUE_ROWS - 1]
    assert kept(log) == expected
    sound(log)


def test_a_batch_stays_as_it_came(log: Log) -> None:
    """One that is half full or more; what is less is joined."""
    entries = records(40 + SMALL_COUNT)
    put(log, entries[:20])
    log.commit([append(STATUSES, entries[20 : 20 + SMALL_COUNT])])
    put(log, entries[20 + SMALL_COUNT :])
    join(log)
    assert counts(log) == [20, SMALL_COUNT, 20]
    assert [each.data for each in kept(log)] == entries
    for _ in range(DUE_ROWS):
        log.commit([append(REPLIES, records(10))])
    join(log)
    assert counts(log, REPLIES) == [100] + [10] * (DUE_ROWS - 10)


def test_long_entries_are_not_joined_into_great_chunks(log: Log) -> None:
    """Who pulls one of them has all of its chunk opened."""
    entries = [incompressible(BYTES_MAX // LEAST_ROWS - 10, n) for n in range(2 * LEAST_ROWS)]
    put(log, entries)
    put(log, [incompressible(BYTES_MAX // 4, n) for n in range(DUE_ROWS)], REPLIES)
    join(log)
    assert counts(log) == [LEAST_ROWS] * 2
    assert counts(log, REPLIES) == [1] * DUE_ROWS
    assert [each.data for each in kept(log)] == entries


def test_what_has_left_is_not_joined_with_what_waits(log: Log) -> None:
    """So it does not stay for it. Nor is a chunk joined of which a part has left."""
    expected = put(log, records(50))
    take(log, 30)
    join(log)
    assert counts(log) == [1] * 30 + [20]
    take(log, 5)
    expected += put(log, records(DUE_ROWS))
    join(log)
    assert counts(log) == [1] * 30 + [20, DUE_ROWS]
    assert kept(log) == expected
    sound(log)


def test_a_damaged_one_stays_as_it_is_and_spoils_no_other(log: Log) -> None:
    """It is set aside alone, as if nothing had been joined."""
    entries = records(40)
    put(log, entries)
    log._connection.execute("UPDATE chunk SET body = CAST('#' || body AS BLOB) WHERE key & 63 = 21")
    join(log)
    assert counts(log) == [20, 1, 19]
    pages = [page(log.commit([pull(STATUSES, 100)])[0]) for _ in range(2)]
    assert b",".join(each.data for each in pages) == b",".join(entries[:20] + entries[21:])
    [row] = reading.backlog(log._connection)
    assert (row.handed_out, row.quarantined, row.waiting) == (39, 1, 0)
    sound(log)


def test_what_was_erased_stays_as_it_is(log: Log) -> None:
    entries = records(40)
    put(log, entries)
    log.commit([Erase(STATUSES, 1, 100, NOW_MS, ((entries[20],),), frozenset())])
    join(log)
    assert counts(log) == [20, 1, 19]
    assert page(log.commit([pull(STATUSES, 100)])[0]).count == 39
    sound(log)


def test_of_a_joined_chunk_one_can_be_erased(log: Log) -> None:
    """What it held is nowhere in its row, and the others are as they were."""
    expected = put(log, records(40))
    join(log)
    log.commit([Erase(STATUSES, 1, 100, NOW_MS, ((expected[20].data,),), frozenset())])
    assert kept(log) == expected[:20] + expected[21:]
    put(log, records(DUE_ROWS))
    join(log)
    assert counts(log) == [40, DUE_ROWS]
    assert page(log.commit([pull(STATUSES, 100)])[0]).count == 39 + DUE_ROWS
    sound(log)


def test_labels_of_before_are_no_hindrance(log: Log) -> None:
    """Version 0.1.0 wrote none: what it stored has its times, and no tickets."""
    expected = put(log, records(30))
    log._connection.execute("UPDATE chunk SET tickets = NULL WHERE key & 63 < 20")
    join(log)
    assert counts(log) == [30]
    assert kept(log) == [
        msgspec.structs.replace(each, ticket=NO_TICKET) if each.seq < 20 else each
        for each in expected
    ]


# -- when it is done -------------------------------------------------------------------------------


def test_it_waits_for_enough_and_for_its_turn(log: Log, clock: Clock) -> None:
    """A few rows are read as fast, and each time is a sync."""
    put(log, records(DUE_ROWS - 1))
    log.join()
    assert counts(log) == [1] * (DUE_ROWS - 1)
    put(log, records(1))
    log.join()
    assert counts(log) == [DUE_ROWS]
    put(log, records(DUE_ROWS))
    clock.now_s += JOIN_PAUSE_S * 0.9
    log.join()
    assert counts(log) == [DUE_ROWS] + [1] * DUE_ROWS
    clock.now_s += JOIN_PAUSE_S * 0.2
    log.join()
    assert counts(log) == [2 * DUE_ROWS]


def test_a_step_ends_with_its_time_and_takes_a_part_of_it(log: Log, clock: Clock) -> None:
    """However much there is; and of many mailboxes each has its turn."""
    count = 3 * LOOK_ROWS
    put(log, records(count))
    put(log, records(count), REPLIES)
    clock.look_s = STEP_S
    log.join()
    took_s = 2 * STEP_S
    assert sum(counts(log)) + sum(counts(log, REPLIES)) == 2 * count
    done = [100] * (LOOK_ROWS // 100) + [1] * (count - LOOK_ROWS)
    assert sorted([counts(log), counts(log, REPLIES)]) == sorted([done, [1] * count])
    assert log._join_from_s == pytest.approx(clock.now_s + JOIN_PAUSES * took_s)
    log._join_from_s = 0.0
    log.join()
    assert counts(log) == counts(log, REPLIES) == done
    join(log)
    assert counts(log) == counts(log, REPLIES) == [100] * (count // 100)


def test_while_nothing_comes_one_step_follows_the_next_as_soon(log: Log, clock: Clock) -> None:
    """After as long as it took; and it says when that is, to who waits for what comes."""
    assert log.join_in_s() == math.inf
    count = 3 * LOOK_ROWS
    put(log, records(count))
    assert log.join_in_s() == 0
    clock.look_s = STEP_S
    for _ in range(count // LOOK_ROWS + 1):
        wait_s = log.join_in_s()
        assert wait_s <= 2 * STEP_S
        clock.now_s += wait_s
        log.join(idle=True)
    assert log.join_in_s() == math.inf
    assert counts(log) == [100] * (count // 100)


def test_nothing_is_due_that_cannot_be_done(file: Path) -> None:
    """In a file that is sealed, or on a disk that is full: nobody looks in vain again and again."""
    guarded = guarded_of(file)
    put(guarded.log, records(DUE_ROWS))
    guarded.log.gate.found = Migration(bytes(16), Role.SOURCE, Stage.SEALED, "there")
    assert guarded.due_in_s() == math.inf
    guarded.log.gate.found = None
    assert guarded.due_in_s() == 0
    guarded._look_for_room = lambda: False
    guarded.has_room()
    assert guarded.due_in_s() == math.inf
    guarded.close(failed=False)


def test_what_is_joined_while_nothing_comes_is_folded_meanwhile(file: Path) -> None:
    """Else the log would grow as long as there is something to join."""
    guarded = guarded_of(file)
    log, pages = guarded.log, 0
    put(log, [incompressible(1000, number) for number in range(2000)])
    log.checkpoint(0)
    for _ in range(2000 // DUE_ROWS):
        log._join_from_s = 0.0
        guarded.watch()
        pages = max(pages, log._wal_pages)
    assert guarded.due_in_s() == math.inf
    assert 0 < pages < CHECKPOINT_PAGES_IDLE
    assert len(counts(log)) < 50
    guarded.close(failed=False)


def test_a_mailbox_whose_consumer_keeps_up_costs_nothing(log: Log) -> None:
    for _ in range(2 * DUE_ROWS):
        put(log, records(1))
        take(log, 100)
    assert not log._tables.joins.due


def test_it_does_not_count_as_a_commit(log: Log) -> None:
    put(log, records(DUE_ROWS))
    join(log)
    assert (counts(log), log.commits, log.operations) == ([DUE_ROWS], DUE_ROWS, DUE_ROWS)


def test_what_another_process_has_left_is_found_by_a_pull(log: Log, file: Path) -> None:
    """And joined behind its page; but not where it came in batches."""
    expected = put(log, records(119))
    for _ in range(2 * DUE_ROWS):
        log.commit([append(REPLIES, records(60))])
    log.close()
    again = open_log(file, server=True)
    expected += put(again, records(1))
    for mailbox in (STATUSES, REPLIES):
        again.commit([pull(mailbox, 20)])
    again.join()
    assert counts(again) == [1] * 20 + [100]
    assert counts(again, REPLIES) == [60] * 2 * DUE_ROWS
    assert kept(again) == expected
    sound(again)
    again.close()


def test_one_that_fails_leaves_everything_as_it_was(log: Log, file: Path, clock: Clock) -> None:
    """As when another process holds the file; and it is not tried again at once."""
    expected = put(log, records(DUE_ROWS))
    log._connection.set_busy_timeout(0)
    other = apsw.Connection(str(file))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        log.join()
    log.join()
    assert counts(log) == [1] * DUE_ROWS
    other.execute("ROLLBACK")
    clock.now_s += 1
    log.join()
    assert counts(log) == [DUE_ROWS]
    assert kept(log) == expected


@pytest.mark.anyio
async def test_a_store_joins_between_its_commits(file: Path) -> None:
    """And while nothing comes; not where the disk has no room for more."""
    store = await open_store(sqlite_url(file))
    entries = records(60)
    for entry in entries:
        await store.append(append(STATUSES, [entry]))
    rows = "SELECT count(*) FROM chunk"
    await until(lambda: connection_of(store).execute(rows).get <= 60 - 2 * DUE_ROWS)
    assert await data_of(store, STATUSES) == entries
    await store.close()


def open_patiently(*arguments: object, **options: object) -> GuardedLog:
    """Open a log where the committer works, and let that look only when something is due.

    But for the first look after a commit, by which it has been quiet for a while.
    """
    guarded = open_guarded(*arguments, **options)  # type: ignore[arg-type]
    real = guarded.watch

    def watch() -> None:
        real()
        if guarded.log.commits:
            committer.NOTICE_S = 3600.0

    guarded.watch = watch  # type: ignore[method-assign]
    return guarded


@pytest.mark.anyio
@pytest.mark.parametrize("commits", ["thread", "process", "shared"])
async def test_a_store_that_is_left_idle_is_joined(
    log: Log, file: Path, monkeypatch: pytest.MonkeyPatch, commits: str
) -> None:
    """Thousands of records, each step at a look of its own, and nothing comes meanwhile."""
    expected = [each.data for each in put(log, records(3000))]
    log.close()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the process imports this module from here
    monkeypatch.setattr(committer, "NOTICE_S", committer.NOTICE_S)  # whatever is done to it
    monkeypatch.setattr(engine, "open_guarded", open_patiently)
    url, shared = sqlite_url(file, "process"), commits == "shared"
    if commits == "thread":
        url = sqlite_url(file)
    store = await open_store(url, server=shared, shared=shared)
    assert (await store.pull(pull(STATUSES))).count == 100  # which finds that there is something
    with contextlib.closing(open_reader(file)) as reader:
        rows = "SELECT count(*) FROM chunk"
        await until(lambda: reader.execute(rows).get == 100 + 29)
    assert await data_of(store, STATUSES) == expected
    await store.close()


# -- beside others ---------------------------------------------------------------------------------


def test_who_reads_in_steps_meanwhile_reads_each_once(log: Log) -> None:
    """Whatever lies where the next step begins."""
    expected = put(log, records(60))
    base = number(log, STATUSES) << 40
    for rows_max in (1, 30, 7):
        first, next_seq = reading.entries(
            log._connection, base, 1, None, rows_max=rows_max, found_max=100
        )
        assert next_seq == rows_max + 1
        if rows_max == 7:
            join(log)
            assert counts(log) == [60]
        assert first + kept(log, first_seq=next_seq) == expected


def test_a_command_and_a_server_use_what_the_other_has_joined(log: Log, file: Path) -> None:
    """Neither knows of it but by the file."""
    command = Log(open_writer(file))
    expected = [each.data for each in put(log, records(40))]
    found = take(command, 5)
    join(log)
    found += take(command, 5)
    expected += [each.data for each in put(command, records(40))]
    found += take(log, 5)
    join(command)
    found += take(log, 10)
    found += take(command, 30)
    found += take(log, 100)
    assert found == expected
    sound(log)
    command.close()


# -- what depends on when each came ----------------------------------------------------------------


def test_the_oldest_that_waits_is_known_by_its_own_time(log: Log) -> None:
    """Not by that of its chunk, whether all are looked at or sums are kept."""
    expected = put(log, records(40))
    join(log)
    survey = Survey()
    for taken in (0, 1, 20):
        if taken:
            take(log, taken)
        seq = log.states.waiting[next(iter(log.states.waiting))]
        oldest_ms = expected[40 - seq].accepted_ms
        [row] = reading.backlog(log._connection)
        assert row.oldest_ms == oldest_ms
        survey.tell(log.states.changed)
        sums, _ = survey.look(log._connection, 0)
        assert sums[STATUSES.kind].oldest_ms == oldest_ms


@pytest.mark.parametrize("left", [0, 10])
def test_what_waited_too_long_leaves_without_what_is_young(log: Log, left: int) -> None:
    expected = put(log, records(40))
    join(log)
    if left:
        take(log, left)
    for count in (left, 25, 25, 40):
        before_ms = expected[count].accepted_ms if count < 40 else LONG_MS
        due = max(0, count - (40 - log.states.waiting[next(iter(log.states.waiting))]))
        assert log.commit([Discard(STATUSES, Outcome.EXPIRED, LONG_MS, before_ms)]) == [due]
        if count == 25:
            assert [row.waiting for row in reading.backlog(log._connection)] == [15]
    sound(log)


def purge(log: Log, before_ms: int = LONG_MS) -> None:
    follow(log, STATUSES)
    log.commit([Purge((STATUSES,), before_ms, 3200, 9.0)])


@pytest.mark.parametrize("way", ["batch", "singly", "erased"])
def test_what_retention_removes_is_gone_though_others_of_its_chunk_wait(log: Log, way: str) -> None:
    """A chunk that reaches further is cut: what stays keeps its number, its time and its ticket."""
    entries = records(80)
    if way == "batch":
        log.commit([append(STATUSES, entries)])
    else:
        put(log, entries)
        join(log)
    if way == "erased":
        log.commit([Erase(STATUSES, 1, 100, NOW_MS, ((entries[60],),), frozenset())])
    expected = kept(log)
    for taken in (1, 29, 20):
        take(log, taken)
        purge(log)
        left = len(expected) - taken
        expected = expected[taken:]
        assert kept(log) == expected
        assert sum(counts(log)) == left + (way == "erased")
        first_seq = 80 - sum(counts(log)) + 1
        assert log._connection.execute("SELECT min(key) & 0xffffffffff FROM chunk").get == first_seq
        sound(log)
    assert take(log, 100) == [each.data for each in expected]
    purge(log)
    assert counts(log) == []
    sound(log)


def test_a_page_in_a_hand_outlives_the_chunk_that_it_lay_in(log: Log) -> None:
    """A page that comes again by its key does so until it is removed, from a chunk that was cut."""
    expected = [each.data for each in put(log, records(60))]
    join(log)
    by_reader = msgspec.structs.replace(pull(STATUSES, 10), reader=Reader("r", None))
    by_key = pull(STATUSES, 10, key="k")
    held, keyed = (page(log.commit([each])[0]).data for each in (by_reader, by_key))
    assert (held, keyed) == (b",".join(expected[:10]), b",".join(expected[10:20]))
    log._connection.execute("UPDATE journal SET at_ms = at_ms - 1 WHERE reader IS NOT NULL")
    purge(log, NOW_MS)
    assert counts(log) == [50]
    assert page(log.commit([by_reader])[0]).data == held
    assert page(log.commit([by_key])[0]).data == keyed
    purge(log)
    assert counts(log) == [40]
    assert page(log.commit([by_reader])[0]).data == held
    sound(log)


def test_a_damaged_chunk_is_not_cut(log: Log) -> None:
    """As long as it is whole, what of it can be read can be told."""
    entries = records(20)
    log.commit([append(STATUSES, entries)])
    log._connection.execute(
        "UPDATE chunk SET body = CAST(replace(body, ?, ?) AS BLOB)",
        (entries[15], b"#" * len(entries[15])),
    )
    take(log, 10)
    purge(log)
    assert counts(log) == [20]
    assert page(log.commit([pull(STATUSES, 100)])[0]).data == b",".join(entries[10:15])


def test_a_step_looks_at_the_rows_of_a_full_chunk_at_least() -> None:
    """Else one that goes round and round would find no end of what may be joined."""
    assert joining.LOOK_ROWS > 100 >= 2 * SMALL_COUNT

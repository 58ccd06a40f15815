"""Group commit: what arrives while one commit syncs shares the next."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.errors import StoreUnavailable
from pullstatus.store import Page, Store
from pullstatus.store.sqlite import SqliteStore
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.values import Engine
from tests.store.build import (
    REPLIES,
    STATUSES,
    append,
    check_journal,
    data_of,
    journal_of,
    pull,
    records,
    together,
    waiting_in,
)

pytestmark = pytest.mark.anyio

COUNT = 400
FEW = 20
"""Commits: two or three, and more where others have the processor in between."""


async def since(store: Store, before: Engine) -> tuple[int, int]:
    after = await store.engine()
    return after.commits - before.commits, after.operations - before.operations


async def test_a_commit_under_way_counts_for_the_time_that_it_takes(
    store: SqliteStore, file: Path
) -> None:
    """On a slow disk a look at how busy the store is begins and ends within one."""
    await store.append(append(STATUSES, records(1)))
    before_s = await store.commit_s()
    with contextlib.closing(open_writer(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.append(append(STATUSES, records(1))))
        taken_s = before_s
        while not waiting.done() and taken_s <= before_s:
            await asyncio.sleep(0)
            taken_s = await store.commit_s()
        assert not waiting.done()
        other.execute("ROLLBACK")
    await waiting
    assert taken_s > before_s
    assert store.under_way().oldest_s == 0
    assert await store.commit_s() == await store.commit_s() > before_s


async def test_appends_that_come_together_share_a_commit(store: Store) -> None:
    before = await store.engine()
    batches = [records(2) for _ in range(COUNT)]
    await together(store, *[append(STATUSES, batch) for batch in batches])
    commits, operations = await since(store, before)
    assert commits <= FEW
    assert operations == COUNT
    stored = await data_of(store, STATUSES)
    assert stored == [entry for batch in batches for entry in batch]


async def test_appends_that_keep_coming_share_commits(store: Store) -> None:
    """With 50 senders that each wait for their answer, far fewer commits than appends."""

    async def send() -> None:
        for _ in range(8):
            await store.append(append(STATUSES, records(1)))

    before = await store.engine()
    await asyncio.gather(*[send() for _ in range(50)])
    commits, operations = await since(store, before)
    assert operations == 400
    assert commits <= 100
    assert await waiting_in(store, STATUSES) == 400


async def test_pulls_of_a_group_are_ranges_side_by_side(store: Store) -> None:
    """One commit for all; each page is unique, and in the order in which they were asked."""
    entries = records(COUNT * 3)
    await store.append(append(STATUSES, entries))
    before = await store.engine()
    answers = await together(store, *[pull(STATUSES, 1 + number % 4) for number in range(COUNT)])
    commits, operations = await since(store, before)
    assert commits <= FEW
    assert operations == COUNT
    next_seq = 1
    for answer in answers:
        assert isinstance(answer, Page)
        if not answer.count:
            break
        assert answer.first_seq == next_seq
        assert answer.data == b",".join(entries[next_seq - 1 : next_seq - 1 + answer.count])
        next_seq += answer.count
    assert next_seq - 1 == min(len(entries), sum(1 + number % 4 for number in range(COUNT)))
    check_journal(await journal_of(store, STATUSES), next_seq - 1)


async def test_a_pull_sees_what_came_with_it(store: Store) -> None:
    """A keyed pull, that is: a plain one on an empty mailbox is answered without the file."""
    entries = records(2)
    pulled, accepted = await together(store, pull(STATUSES, key="k"), append(STATUSES, entries))
    assert accepted == 2
    assert isinstance(pulled, Page)
    assert pulled.data == b",".join(entries)


async def test_mailboxes_share_a_commit(store: Store) -> None:
    before = await store.engine()
    await together(store, *[append(box, records(1)) for box in (STATUSES, REPLIES) * 50])
    assert (await since(store, before))[0] <= FEW
    assert (await waiting_in(store, STATUSES), await waiting_in(store, REPLIES)) == (50, 50)


async def test_empty_pulls_cost_no_commit(store: Store) -> None:
    """Not with a key either, as it leaves no trace."""
    before = await store.engine()
    await together(store, *[pull(STATUSES, key=key) for key in (None, "k") * 20])
    assert await since(store, before) == (0, 0)


async def test_a_cancelled_caller_harms_nobody(store: Store) -> None:
    """What was handed over is done all the same, and those beside it get their answers."""
    entries = records(3)
    tasks = [asyncio.create_task(store.append(append(STATUSES, [entry]))) for entry in entries]
    await asyncio.sleep(0)
    tasks[1].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], answers[2]] == [1, 1]
    assert isinstance(answers[1], asyncio.CancelledError)
    await store.append(append(STATUSES, []))
    assert await data_of(store, STATUSES) == entries


async def test_too_many_waiting_operations_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those above the bound are told to come again; nothing of theirs is stored."""
    monkeypatch.setattr(limits, "STORE_PENDING_MAX", 10)
    assert isinstance(store, SqliteStore)
    answers = await together(store, *[append(STATUSES, records(1)) for _ in range(25)])
    assert answers[:10] == [1] * 10
    assert all(isinstance(answer, StoreUnavailable) for answer in answers[10:])
    assert len(await data_of(store, STATUSES)) == 10
    assert await store.append(append(STATUSES, records(1))) == 1

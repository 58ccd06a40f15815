"""A backup of a cluster is an embedded store, sound whatever goes on, and another cluster's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store import (
    Change,
    Mailbox,
    Pull,
    Reader,
    audit_store,
    backup_store,
    copying,
    init_store,
    open_store,
    restore_store,
)
from pullstatus.store import migration as moving
from pullstatus.store.jetstream import transfer
from pullstatus.store.jetstream.transfer import Reading
from pullstatus.store.transfer import Copied, Epoch, Row, Standing, Transfer
from pullstatus.store.values import ActRow, JournalRow
from tests.store.build import (
    NOW_MS,
    REPLIES,
    STATUSES,
    acts_of,
    again_of,
    append,
    data_of,
    drain,
    fingerprinted,
    new_act,
    pull,
    purge,
    records,
    repeat_key,
    settings_of,
    ticket,
)
from tests.store.jetstream import scheme
from tests.store.test_migration import Killed, fill, rows_of

pytestmark = pytest.mark.anyio


def quiet(_done: int, _total: int) -> None:
    """Nobody watches."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with scheme.cluster(tmp_path) as found:
        yield found


@pytest.fixture
async def other(tmp_path: Path) -> object:
    with scheme.cluster(tmp_path) as found:
        await init_store(found)
        yield found


async def sound(url: str) -> bool:
    return not (await audit_store(url, quiet)).findings


async def test_all_of_it_is_in_the_file_and_in_another_cluster(
    url: str, other: str, tmp_path: Path
) -> None:
    await fill(url)
    file = tmp_path / "backup.db"
    await backup_store(url, file, quiet)
    before = await rows_of(url)
    assert await rows_of(f"sqlite:///{file}") == before
    assert await restore_store(other, file, act=new_act("restore"), progress=quiet) == 2
    after = await rows_of(other)
    for part in (Epoch, ActRow, Copied):
        assert len(after[part]) > len(before[part])
        assert [row for row in after.pop(part) if row in before[part]] == before.pop(part)
    assert after == before
    assert await sound(other)
    store = await open_store(other)
    assert store.epoch == 2
    [*_, act] = await acts_of(store)
    assert act.act.action == "restore"
    waiting = {row.mailbox: row.waiting for row in await store.backlog()}
    [marked] = [row for row in await again_of(store, STATUSES) if row.act_id == act.act_id]
    assert (marked.count, marked.source_seq) == (waiting[STATUSES], marked.first_seq)
    await store.append(append(STATUSES, records(1)))
    assert await drain(store, STATUSES)
    await store.close()
    assert await sound(other)


async def test_settings_are_told_once_and_in_order_however_far_a_replica_is_behind(
    url: str, other: str, tmp_path: Path
) -> None:
    store = await open_store(url)
    for change in (Change("x", b"0", None), Change("z", b"1", None), Change("x", b"1", b"0")):
        assert await store.change(change)
    await store.close()
    await backup_store(url, tmp_path / "backup.db", quiet)
    scheme._clusters[other].lag = lambda _stream: 100
    await restore_store(other, tmp_path / "backup.db", act=new_act("restore"), progress=quiet)
    store = await open_store(other)
    assert [row.name for row in await settings_of(store)] == ["z", "x"]
    await store.close()


async def test_what_goes_on_meanwhile_is_in_it_or_not_but_never_in_parts(
    url: str, tmp_path: Path
) -> None:
    store = await open_store(url)
    busy = True
    purges = 0  # to come: many in a row would have a backup begin again each time

    async def work() -> None:
        nonlocal purges
        number = 0
        while busy:
            number += 1
            for mailbox in (STATUSES, REPLIES):
                await store.append(append(mailbox, records(3), key=repeat_key(f"{number}")))
                await store.append(fingerprinted(mailbox, records(2), [number, -number]))
                hand = Reader("r", None if number == 1 else 1)
                with contextlib.suppress(Exception):
                    await store.pull(Pull(mailbox, 2, NOW_MS, reader=hand, ticket=ticket()))
                await store.pull(pull(mailbox, 2, key=f"{mailbox.kind}-{number}"))
            if number % 20 == 0 and purges:
                purges -= 1
                await purge(store, left_before_ms=NOW_MS + 1)

    working = asyncio.create_task(work())
    for number in range(6):
        assert await sound(url)
        file = tmp_path / f"{number}.db"
        purges = 3
        await backup_store(url, file, quiet)
        assert await sound(f"sqlite:///{file}")
    busy = False
    await working
    await store.close()


async def test_what_is_removed_while_it_is_read_is_in_no_backup(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(url)
    for _ in range(3):
        await store.append(append(STATUSES, records(3)))
        await store.pull(pull(STATUSES, 2))
    loop, journal, read = asyncio.get_running_loop(), Reading.journal, 0

    def removed(self: Reading, boxes: Sequence[Mailbox]) -> Iterator[Row]:
        nonlocal read
        read += 1
        if read == 1:
            removal = purge(store, left_before_ms=NOW_MS + 1)
            assert asyncio.run_coroutine_threadsafe(removal, loop).result()
        yield from journal(self, boxes)

    monkeypatch.setitem(transfer._PARTS, JournalRow, removed)
    file = tmp_path / "backup.db"
    await backup_store(url, file, quiet)
    assert read > 1
    assert await sound(f"sqlite:///{file}")
    assert await rows_of(f"sqlite:///{file}") == await rows_of(url)
    await store.close()


async def test_a_restore_that_was_cut_off_is_gone_on_with(
    url: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(url)
    file = tmp_path / "backup.db"
    await backup_store(url, file, quiet)
    once = moving.Copy.once

    async def cut_off(self: moving.Copy, progress: object) -> int:
        await once(self, quiet)
        raise StoreUnavailable("cut off")

    monkeypatch.setattr(moving.Copy, "once", cut_off)
    with pytest.raises(StoreUnavailable):
        await restore_store(other, file, act=new_act("restore"), progress=quiet)
    monkeypatch.undo()
    with pytest.raises(StoreRefused, match="being filled"):
        await open_store(other)
    assert await restore_store(other, file, act=new_act("restore"), progress=quiet) == 2
    store = await open_store(other)
    await store.append(append(STATUSES, records(1)))
    await store.close()
    with pytest.raises(StoreRefused, match="filled from backup"):
        await restore_store(other, file, act=new_act("restore"), progress=quiet)


@pytest.mark.parametrize("killed", [False, True])
async def test_what_a_store_takes_just_before_it_is_restored_into_stays(
    url: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    await fill(url)
    file = tmp_path / "backup.db"
    await backup_store(url, file, quiet)
    server = await open_store(other, server=True)
    check = moving.check_empty

    async def overtaken(target: Transfer, advice: str) -> None:
        await check(target, advice)
        assert await server.append(append(STATUSES, [b"accepted"])) == 1

    async def end(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(copying, "check_empty", overtaken)
    if killed:
        monkeypatch.setattr(moving, "check_empty", end)
    with pytest.raises(Killed if killed else StoreRefused):
        await restore_store(other, file, act=new_act("restore"), progress=quiet)
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(StoreRefused, match="is not empty"):
            await restore_store(other, file, act=new_act("restore"), progress=quiet)
    assert await data_of(server, STATUSES) == [b"accepted"]
    assert await server.append(append(STATUSES, records(1))) == 1
    await server.close()


async def test_a_store_that_holds_anything_is_not_restored_into(
    url: str, other: str, tmp_path: Path
) -> None:
    await fill(url)
    file = tmp_path / "backup.db"
    await backup_store(url, file, quiet)
    with pytest.raises(StoreRefused, match="exists already"):
        await backup_store(url, file, quiet)
    with pytest.raises(StoreRefused, match="not empty"):
        await restore_store(url, file, act=new_act("restore"), progress=quiet)
    rows: list[Row] = (await rows_of(other))[Standing]
    assert rows == []

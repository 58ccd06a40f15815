"""Disks that fail, fill up or change what they hold: refused, survived, never passed on."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullstatus.errors import (
    EntriesDamaged,
    InvalidSetting,
    OutcomeUnknown,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    StoreUnavailable,
)
from pullstatus.mailbox.following import Follower
from pullstatus.store import (
    Append,
    Aside,
    Change,
    Discard,
    Erased,
    Mailbox,
    Outcome,
    Page,
    Pull,
    PutAside,
    Reader,
    Store,
    audit_store,
    chunk,
    open_store,
)
from pullstatus.store.sqlite import SqliteStore, log
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.log import Log
from tests.store.build import (
    NOW_MS,
    PARKED,
    REPLIES,
    STATUSES,
    acts_of,
    append,
    connection_of,
    data_of,
    drain,
    entries_of,
    forget,
    incompressible,
    page,
    parked,
    pull,
    records,
    redeliver,
    settings_of,
    together,
    until,
    waiting_in,
    writer_of,
)
from tests.store.engines import Opener

anyio = pytest.mark.anyio


# --- after which no more work is taken ------------------------------------------------------------


def refusals(store: Store) -> list[Callable[[], Any]]:
    """Every verb that writes, and the pull that needs no write."""
    return [
        lambda: store.append(append(STATUSES, records(1))),
        lambda: store.pull(pull(STATUSES)),
        lambda: store.pull(pull(REPLIES)),
        lambda: store.change(Change("a", b"1", None)),
        lambda: forget(store, NOW_MS),
        lambda: store.discard(Discard(STATUSES, Outcome.ERASED, NOW_MS)),
        lambda: store.redeliver(redeliver(STATUSES, (1, 1))),
    ]


@anyio
@pytest.mark.parametrize("error", [OutcomeUnknown, StoreFailed, StoreCorrupt])
async def test_a_failed_commit_is_the_last(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """All of its group get the error, the owner is told once, and nothing is written any more."""
    failures: list[BaseException] = []
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_failure(failure: BaseException) -> None:
        failures.append(failure)
        loop.call_soon_threadsafe(told.set)

    store = await opener(on_failure=on_failure)
    entries = records(2)
    await store.append(append(STATUSES, entries))

    def fail(_log: Log, _group: object) -> list[Any]:
        raise error("injected")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "commit", fail)
        answers = await together(store, append(STATUSES, records(1)), pull(STATUSES, 1))
    assert [type(answer) for answer in answers] == [error, error]
    await asyncio.wait_for(told.wait(), 60)
    for verb in refusals(store) * 2:
        with pytest.raises(StoreUnavailable):
            await verb()
    assert await data_of(store, STATUSES) == entries
    assert [type(failure) for failure in failures] == [error]
    await store.close()
    assert len(failures) == 1


@anyio
async def test_what_already_waits_is_refused_after_a_failure(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was handed over before the failure is written after it, nor left hanging."""
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    assert isinstance(store, SqliteStore)
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def fail(_log: Log, _group: object) -> list[Any]:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        raise OutcomeUnknown("injected")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "commit", fail)
        first = asyncio.create_task(store.append(append(STATUSES, records(1))))
        await begun.wait()
        second = asyncio.create_task(store.append(append(STATUSES, records(1))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(OutcomeUnknown):
            await first
        with pytest.raises(StoreUnavailable):
            await second
    assert len(failures) == 1
    assert await data_of(store, STATUSES) == []


@anyio
async def test_a_mistake_in_one_operation_stops_nobody(opener: Opener) -> None:
    """An error that isn't the disk's is given to its group; the store works on, unchanged."""
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    wrong = Append(STATUSES, ["no bytes"], NOW_MS)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        await store.append(wrong)
    entries = records(1)
    assert await store.append(append(STATUSES, entries)) == 1
    assert await data_of(store, STATUSES) == entries
    assert failures == []


@anyio
async def test_a_failed_checkpoint_is_a_failure(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sync must not be tried again; the append before it was durable, and is acknowledged."""
    failures: list[BaseException] = []
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_failure(failure: BaseException) -> None:
        failures.append(failure)
        loop.call_soon_threadsafe(told.set)

    store = await opener(on_failure=on_failure)

    def fail(_log: Log, _least_pages: int) -> None:
        raise StoreFailed("injected")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "checkpoint", fail)
        assert await store.append(append(STATUSES, records(1))) == 1
        await asyncio.wait_for(told.wait(), 60)
    with pytest.raises(StoreUnavailable):
        await store.append(append(STATUSES, records(1)))
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (apsw.BusyError, StoreUnavailable),
        (apsw.LockedError, StoreUnavailable),
        (apsw.FullError, StoreFull),
        (apsw.CorruptError, StoreCorrupt),
        (apsw.NotADBError, StoreCorrupt),
        (apsw.IOError, StoreFailed),
        (apsw.CantOpenError, StoreFailed),
        (apsw.ReadOnlyError, StoreFailed),
        (apsw.ConstraintError, StoreFailed),
    ],
)
def test_errors_of_sqlite_become_ours(error: type[Exception], expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught, log.translated():
        raise error("injected")
    assert type(caught.value) is expected
    assert isinstance(caught.value.__cause__, error)


@anyio
async def test_reading_verbs_raise_ours_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> apsw.Connection:
        raise apsw.CantOpenError("injected")

    monkeypatch.setattr("pullstatus.store.sqlite.reading.open_reader", fail)
    with pytest.raises(StoreUnavailable):
        await settings_of(store)


# --- a disk that writes no more -------------------------------------------------------------------


class Disk(apsw.VFS):
    """The real disk, but its writes to the log come to an end, and its syncs of it may fail."""

    def __init__(self) -> None:
        self.writes_left: int | None = None
        self.syncs_left: int | None = None
        super().__init__("failing", "")

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return DiskFile(self, name, flags)


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._wal and self._disk.writes_left is not None:
            self._disk.writes_left -= 1
            if self._disk.writes_left < 0:
                if self._disk.writes_left == -1:
                    super().xWrite(data[: len(data) - 1], offset)
                raise apsw.FullError("injected")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._wal and self._disk.syncs_left is not None:
            self._disk.syncs_left -= 1
            if self._disk.syncs_left < 0:
                raise apsw.IOError("injected")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.unregister()


def test_a_disk_that_is_full_at_the_commit_has_not_committed(disk: Disk, file: Path) -> None:
    """Wherever in it the space ends: a crash then doesn't bring it back, and work goes on."""
    entries = [incompressible(9000, each) for each in range(3)]
    for writes in range(100):
        disk.writes_left = None
        for old in file.parent.iterdir():
            old.unlink()
        found = Log(open_writer(str(file), vfs="failing"))
        found.commit([append(STATUSES, records(1))])
        disk.writes_left = writes
        try:
            found.commit([append(STATUSES, entries), pull(STATUSES)])
        except StoreFull:
            disk.writes_left = None
            crashed = file.with_name("crashed.db")
            for suffix in ("", "-wal"):
                shutil.copy(f"{file}{suffix}", f"{crashed}{suffix}")
            after = Log(open_writer(str(crashed)))
            assert after._connection.execute("SELECT tail - cursor FROM mailbox").get == 1
            after.close()
            assert list(found.states.waiting.values()) == [1]
            [accepted, taken] = found.commit([append(STATUSES, entries), pull(STATUSES)])
            assert accepted == 3
            assert isinstance(taken, Page)
            assert taken.count == 4
            found.close()
        else:
            found.close()
            break
    else:
        pytest.fail("the disk was never large enough")
    assert writes >= 4


def test_a_failed_sync_leaves_the_outcome_unknown(disk: Disk, file: Path) -> None:
    """Neither a success nor a refusal would be true: after a crash the commit may be there."""
    found = Log(open_writer(str(file), vfs="failing"))
    found.commit([append(STATUSES, records(1))])
    disk.syncs_left = 0
    with pytest.raises(OutcomeUnknown):
        found.commit([pull(STATUSES)])
    disk.syncs_left = None
    found.close()


@anyio
async def test_a_full_store_takes_no_more_but_lives(opener: Opener) -> None:
    """Appends are refused, nothing of them is stored, pulls go on; with space, all goes on."""
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    assert isinstance(store, SqliteStore)
    entries = records(3)
    await store.append(append(STATUSES, entries))
    inside = connection_of(store)
    pages = inside.pragma("page_count")
    inside.pragma("max_page_count", pages + 4)
    large = [incompressible(16_000)]
    stored = 0
    with contextlib.suppress(StoreFull):
        for _ in range(100):
            await store.append(append(REPLIES, large))
            stored += 1
    assert stored < 5
    for _ in range(3):
        with pytest.raises(StoreFull):
            await store.append(append(REPLIES, large * 10))
    assert len(await data_of(store, REPLIES)) == stored
    assert await waiting_in(store, REPLIES) == stored
    assert await store.pull(pull(STATUSES, 2)) == page(1, entries[:2], 1)
    inside.pragma("max_page_count", 2**31)
    assert await store.append(append(REPLIES, large * 10)) == 10
    assert sum([taken.count for taken in await drain(store, REPLIES)]) == stored + 10
    assert failures == []


@anyio
async def test_a_nearly_full_disk_takes_no_more_but_lets_pull(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends end while there is still room for what pulls write."""
    store = await opener()
    entries = records(3)
    await store.append(append(STATUSES, entries))
    room = True
    monkeypatch.setattr("pullstatus.store.sqlite.opening.has_room", lambda *_: room)
    room = False
    await store.pull(pull(STATUSES, 1))
    await until(lambda: not writer_of(store).report.room)
    with pytest.raises(StoreFull):
        await store.append(append(STATUSES, records(1)))
    assert await store.pull(pull(STATUSES)) == page(2, entries[1:], 0)
    room = True
    await until(lambda: writer_of(store).report.room)
    assert await store.append(append(STATUSES, records(1))) == 1


# --- what is stored is not what was stored --------------------------------------------------------


def damage(file: Path, statement: str, *values: apsw.SQLiteValue) -> None:
    connection = apsw.Connection(str(file))
    connection.execute(statement, values)
    connection.close()


def flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8 % len(value)] ^= 1 << bit % 8
    return bytes(changed)


def taken_and_read(url: str) -> tuple[list[Page], list[tuple[int, bytes]], list[int]]:
    """What pulls hand out of a store until it is empty or stops, and what reading shows of it."""

    async def work() -> tuple[list[Page], list[tuple[int, bytes]], list[int]]:
        pages: list[Page] = []
        store = await open_store(url)
        try:
            seen = [(entry.seq, entry.data) for entry in await entries_of(store, STATUSES)]
            while (taken := await store.pull(Pull(STATUSES, 3, NOW_MS))).count:
                pages.append(taken)
        except (StoreCorrupt, StoreUnavailable):
            seen = []
        finally:
            counts = [
                count
                for row in await store.backlog()
                for count in (row.accepted, row.waiting + row.handed_out + row.quarantined)
            ]
            await store.close()
        return pages, seen, counts

    return asyncio.run(work())


COLUMNS = ("bounds", "body", "checksum", "count")


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    column=st.sampled_from(COLUMNS),
    bit=st.integers(0, 10_000),
    sizes=st.sampled_from([[7], [2, 5], [100], [60, 5]]),  # plain and packed
)
def test_a_damaged_entry_never_leaves(
    tmp_path_factory: pytest.TempPathFactory, column: str, bit: int, sizes: Sequence[int]
) -> None:
    """Whichever bit of a chunk has flipped, a page holds the entries it counts, as they came."""
    file = tmp_path_factory.mktemp("damaged") / "store.db"
    entries = records(sum(sizes))
    found = Log(open_writer(str(file)))
    for size in sizes:
        start = found.states.waiting.get(next(iter(found.states.waiting), -1), 0)
        found.commit([append(STATUSES, entries[start : start + size])])
    found.close()
    connection = apsw.Connection(str(file))
    value = connection.execute(f"SELECT {column} FROM chunk ORDER BY key LIMIT 1").get
    changed = value ^ 1 << bit % 16 if isinstance(value, int) else flipped(value, bit)
    connection.execute(
        f"UPDATE chunk SET {column} = ? WHERE key = (SELECT min(key) FROM chunk)", (changed,)
    )
    connection.close()
    try:
        pages, seen, counts = taken_and_read(f"sqlite:///{file}")
    except StoreCorrupt:
        return  # refused as a whole: nothing left
    for taken in pages:
        expected = entries[taken.first_seq - 1 : taken.first_seq - 1 + taken.count]
        assert taken.data == b",".join(expected)
    assert all(entries[seq - 1] == data for seq, data in seen)
    assert len(set(counts)) == 1


@anyio
@pytest.mark.parametrize("place", range(5))
async def test_a_damaged_entry_is_set_aside_alone(opener: Opener, file: Path, place: int) -> None:
    """Those before and behind it are handed out; it is counted, and the store works on."""
    store = await opener()
    entries = records(5)
    await store.append(append(STATUSES, entries))
    await store.close()
    body = b",".join(entries)
    start = body.index(entries[place])
    damage(file, "UPDATE chunk SET body = ?", body[: start + 5] + b"#" + body[start + 6 :])
    store = await opener()
    pages = await drain(store, STATUSES)
    kept = entries[:place] + entries[place + 1 :]
    assert b",".join(taken.data for taken in pages) == b",".join(kept)
    assert [entry.data for entry in await entries_of(store, STATUSES)] == kept
    [row] = await store.backlog()
    assert (row.accepted, row.handed_out, row.quarantined, row.waiting) == (5, 4, 1, 0)
    await store.append(append(STATUSES, entries[:1]))
    assert (await store.pull(pull(STATUSES))).data == entries[0]


@anyio
@pytest.mark.parametrize("mailbox", [PARKED, Mailbox(PARKED.sdkappid, Aside.PENDING), STATUSES])
async def test_what_was_set_aside_of_items_goes_with_what_lay_beside_them(
    opener: Opener, file: Path, mailbox: Mailbox
) -> None:
    """No erasing by number would look into it any more; of records it does."""
    store = await opener()
    entries = records(5)
    await store.append(append(mailbox, entries))
    await store.close()
    body = b",".join(entries)
    damage(file, "UPDATE chunk SET body = ?", body[:5] + b"#" + body[6:])
    store = await opener()
    await drain(store, mailbox)
    await Follower(store, secrets.token_hex).follow(mailbox.sdkappid)
    left = "SELECT count(*) FROM chunk UNION ALL SELECT count(*) FROM quarantine"
    assert connection_of(store).execute(left).fetchall() == [(1,), (1,)]
    await store.purge(left_before_ms=NOW_MS + 1)
    assert connection_of(store).execute(left).fetchall() == [(0,), (int(mailbox == STATUSES),)]
    await store.close()
    report = await audit_store(f"sqlite:///{file}", lambda _done, _all: None)
    assert report.findings == []


@anyio
async def test_what_an_erasure_sets_aside_of_a_damaged_page_goes_with_it(
    opener: Opener, file: Path
) -> None:
    """A page in a hand goes as a whole, and so does what was set aside of its chunks."""
    store = await opener()
    entries = records(12)
    for part in (entries[:10], entries[10:]):
        await store.append(append(STATUSES, part))
    await store.pull(pull(STATUSES, 5))
    await store.pull(Pull(STATUSES, 7, NOW_MS, reader=Reader("r", None)))
    await Follower(store, secrets.token_hex).follow(STATUSES.sdkappid)
    await store.close()
    damage(file, "UPDATE chunk SET body = zeroblob(length(body)) WHERE count = 2")
    store = await opener()
    await store.remove(STATUSES, 10)
    left = "SELECT count(*) FROM chunk UNION ALL SELECT count(*) FROM quarantine"
    assert connection_of(store).execute(left).fetchall() == [(0,), (0,)]
    await store.close()


def cut(_bounds: bytes, body: bytes) -> bytes:
    return body[:50]


def other_that_opens(bounds: bytes, body: bytes) -> bytes:
    """One bit is another one: nothing of what opens tells."""
    others = (flipped(body, bit) for bit in range(8 * len(body)))
    return next(other for other in others if chunk.readable(bounds, other) is not None)


@pytest.mark.parametrize("how", [cut, other_that_opens])
@anyio
async def test_a_packed_chunk_that_is_damaged_is_set_aside_as_a_whole(
    opener: Opener, file: Path, how: Callable[[bytes, bytes], bytes]
) -> None:
    """What comes before and behind it is handed out; it is counted, kept, and the store works on.

    An erasing by what records hold takes it: nobody knows what was in it.
    """
    store = await opener()
    entries = records(110)
    await store.append(append(STATUSES, entries[:5]))
    await store.append(append(STATUSES, entries[5:105]))
    await store.append(append(STATUSES, entries[105:]))
    await store.close()
    with contextlib.closing(apsw.Connection(str(file))) as connection:
        packed = "SELECT bounds, body FROM chunk WHERE count = 100"
        [(bounds, body)] = connection.execute(packed).fetchall()
    assert isinstance(bounds, bytes)
    assert isinstance(body, bytes)
    damaged = how(bounds, body)
    damage(file, "UPDATE chunk SET body = ? WHERE count = 100", damaged)
    store = await opener()
    kept = entries[:5] + entries[105:]
    assert [entry.data for entry in await entries_of(store, STATUSES)] == kept
    assert b",".join(taken.data for taken in await drain(store, STATUSES)) == b",".join(kept)
    [row] = await store.backlog()
    assert (row.accepted, row.handed_out, row.quarantined, row.waiting) == (110, 10, 100, 0)
    with pytest.raises(InvalidSetting, match="damaged"):
        await store.redeliver(redeliver(STATUSES, (1, 110)))
    assert await store.erase(STATUSES, at_ms=NOW_MS, seqs=[5, 106]) == Erased(0, 2)
    lengths = "SELECT length(body) FROM chunk WHERE count = 100 UNION ALL"
    lengths += " SELECT length(body) FROM quarantine"
    assert connection_of(store).execute(lengths).fetchall() == [(len(damaged),)] * 2
    assert await store.erase(STATUSES, at_ms=NOW_MS, holding=[[b"nowhere"]]) == Erased(0, 0)
    assert connection_of(store).execute(lengths).fetchall() == [(0,), (0,)]
    await store.close()
    report = await audit_store(f"sqlite:///{file}", lambda _done, _all: None)
    assert report.findings == []


@anyio
@pytest.mark.parametrize("size", [1 << 20, 100])
async def test_a_planted_chunk_is_never_handed_out(opener: Opener, file: Path, size: int) -> None:
    """Its checksum holds, so it is taken; that it is no chunk shows where it is opened.

    Nobody is answered then: it has left its mailbox. The store works on, and an audit tells.
    """
    failures: list[BaseException] = []
    store = await opener()
    entries = records(220)
    await store.append(append(STATUSES, entries[:100]))
    await store.append(append(STATUSES, entries[100:200]))
    await store.append(append(STATUSES, entries[200:]))
    await store.close()
    connection = apsw.Connection(str(file))
    [(key, bounds)] = connection.execute("SELECT key, bounds FROM chunk ORDER BY key LIMIT 1")
    body = lz4.block.compress(bytes(size), store_size=False)
    connection.execute(
        "UPDATE chunk SET body = ?, checksum = ? WHERE key = ?",
        (body, chunk.checksum(key, bounds, body), key),
    )
    connection.close()
    store = await opener(on_failure=failures.append)
    assert [entry.data for entry in await entries_of(store, STATUSES)] == entries[100:]
    found = [entry async for entry in store.entries(STATUSES, containing=entries[7])]
    assert found == []
    with pytest.raises(OutcomeUnknown, match="audit"):
        await store.pull(pull(STATUSES, 30, key="k"))
    with pytest.raises(StoreUnavailable, match="damaged"):
        await store.pull(pull(STATUSES, 30, key="k"))
    with pytest.raises(OutcomeUnknown):
        await store.pull(pull(STATUSES, 100))
    assert await store.pull(pull(STATUSES, 70)) == page(131, entries[130:200], 20)
    with pytest.raises(InvalidSetting, match="damaged"):
        await store.redeliver(redeliver(STATUSES, (1, 130)))
    assert failures == []
    await store.close()
    report = await audit_store(f"sqlite:///{file}", lambda _done, _all: None)
    assert [each.problem for each in report.findings] == [
        "100 stored entries are damaged, the first is 1"
    ]


@anyio
async def test_a_damaged_comma_is_mended(opener: Opener, file: Path) -> None:
    """The commas between entries are ours, so losing one loses nothing."""
    store = await opener()
    entries = records(3)
    await store.append(append(STATUSES, entries))
    await store.close()
    damage(file, "UPDATE chunk SET body = ?", b";".join(entries))
    store = await opener()
    assert await store.pull(pull(STATUSES, 2)) == page(1, entries[:2], 1)
    assert await store.pull(pull(STATUSES, 2)) == page(3, entries[2:], 0)


@anyio
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mailbox SET tail = tail + 1 WHERE kind = 0",
        "UPDATE mailbox SET cursor = cursor - 1 WHERE kind = 0",
        "DELETE FROM chunk WHERE key = (SELECT max(key) FROM chunk WHERE key >> 40 = 1)",
        "DELETE FROM journal WHERE key >> 40 = 1",
        "UPDATE journal SET count = count + 1 WHERE key >> 40 = 1",
    ],
)
async def test_a_mailbox_that_contradicts_itself_stops_the_store(
    opener: Opener, file: Path, statement: str
) -> None:
    """When it is used first, before anything is handed out or added; what to do is said.

    Whoever uses others until then is served, and an audit finds it at any time.
    """
    store = await opener()
    for mailbox in (STATUSES, REPLIES):
        await store.append(append(mailbox, records(3)))
        await store.append(append(mailbox, records(3)))
        await store.pull(pull(mailbox, 2))
    await store.close()
    damage(file, statement)
    assert any(
        finding.mailbox == STATUSES for finding in audit_file(file, lambda *_: None).findings
    )
    for server in (False, True):
        for operation in (pull(STATUSES), pull(STATUSES, key="k"), append(STATUSES, records(1))):
            failures: list[BaseException] = []
            store = await opener(server=server, on_failure=failures.append)
            await store.append(append(REPLIES, records(1)))
            assert (await store.pull(pull(REPLIES, 1))).count == 1
            with pytest.raises(StoreCorrupt, match=r"1400006666/.* contradict each other.*audit"):
                await (
                    store.pull(operation)
                    if isinstance(operation, Pull)
                    else store.append(operation)
                )
            assert len(failures) == 1
            assert not store.surely_empty(STATUSES)
            with pytest.raises(StoreUnavailable):
                await store.pull(pull(STATUSES))
            await store.close()
    assert any(
        finding.mailbox == STATUSES for finding in audit_file(file, lambda *_: None).findings
    )


@anyio
async def test_a_missing_chunk_stops_the_store(opener: Opener, file: Path) -> None:
    """A gap in the middle is found by the pull that comes to it, which then hands out nothing."""
    failures: list[BaseException] = []
    store = await opener()
    for _ in range(3):
        await store.append(append(STATUSES, records(2)))
    await store.close()
    damage(file, "DELETE FROM chunk WHERE key = (SELECT min(key) + 2 FROM chunk)")
    store = await opener(on_failure=failures.append)
    assert (await store.pull(pull(STATUSES, 2))).count == 2
    with pytest.raises(StoreCorrupt, match="missing"):
        await store.pull(pull(STATUSES, 2))
    assert len(failures) == 1
    with pytest.raises(StoreUnavailable):
        await store.pull(pull(STATUSES, 2))


@anyio
async def test_a_damaged_count_of_parked_items_lets_room_be_made(
    opener: Opener, file: Path
) -> None:
    """It tells of fewer items than wait; those that are not told of weigh nothing."""
    store = await opener()
    await store.park(parked(append(STATUSES, []), [b"a", b"b", b"c", b"d"]))
    await store.park(parked(append(STATUSES, []), [b"e"]))
    await store.close()
    damage(file, "UPDATE chunk SET count = 1 WHERE count = 4")
    store = await opener()
    assert await store.park(parked(append(STATUSES, []), [b"f"], items_max=1)) == PutAside(0, 1, 5)
    assert await store.append(append(STATUSES, records(1))) == 1


@anyio
async def test_damaged_entries_are_not_redelivered(opener: Opener, file: Path) -> None:
    """The act is refused as a whole, saying why; the store goes on."""
    failures: list[BaseException] = []
    store = await opener()
    entries = records(4)
    await store.append(append(STATUSES, entries))
    await drain(store, STATUSES)
    await store.close()
    body = b",".join(entries)
    damage(file, "UPDATE chunk SET body = ?", body.replace(entries[2], b"#" * len(entries[2])))
    store = await opener(on_failure=failures.append)
    with pytest.raises(EntriesDamaged):
        await store.redeliver(redeliver(STATUSES, (1, 4)))
    assert await acts_of(store) == []
    assert await store.redeliver(redeliver(STATUSES, (1, 2))) == 2
    assert (await store.pull(pull(STATUSES))).data == b",".join(entries[:2])
    assert failures == []

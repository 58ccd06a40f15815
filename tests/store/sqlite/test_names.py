"""A store whose names no longer stand for its files answers nobody, and leaves its file whole."""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from unittest import mock

import apsw
import pytest

from pullstatus.errors import OutcomeUnknown, StoreMoved, StoreRefused, StoreUnavailable
from pullstatus.store import Store, backup_store, open_store
from pullstatus.store.sqlite import pairing
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.guarded import GuardedLog
from pullstatus.store.sqlite.names import Names
from pullstatus.store.sqlite.opening import open_guarded
from tests.store.build import STATUSES, append, pull, records, until
from tests.store.engines import Opener, sqlite_url

pytestmark = pytest.mark.anyio

Act = Callable[[Path], Path]

APPENDS = """
import asyncio, sys
from pathlib import Path
from pullstatus.store import open_store
from tests.store.build import STATUSES, append, records
from tests.store.engines import sqlite_url

async def main() -> None:
    store = await open_store(sqlite_url(Path(sys.argv[1])))
    await store.append(append(STATUSES, records(3)))
    await store.close()

asyncio.run(main())
"""


def log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def index_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-shm")


def remove(file: Path) -> Path:
    """Nothing is left to look at; what the file held is gone, as whoever did that wanted."""
    file.unlink()
    return file


def rename(file: Path) -> Path:
    return file.rename(file.with_name("old.db"))


def replace(file: Path) -> Path:
    """As rsync does, and whoever moves a restored copy there."""
    kept = file.with_name("kept.db")
    shutil.copy(file, file.with_name("new.db"))
    file.rename(kept)
    file.with_name("new.db").rename(file)
    return kept


def give_second_name(file: Path) -> Path:
    file.with_name("second.db").hardlink_to(file)
    return file


def remove_log(file: Path) -> Path:
    log_of(file).unlink()
    return file


def rename_log(file: Path) -> Path:
    log_of(file).rename(file.with_name("old-wal"))
    return file


def replace_log(file: Path) -> Path:
    shutil.copy(log_of(file), file.with_name("new-wal"))
    file.with_name("new-wal").replace(log_of(file))
    return file


def remove_index(file: Path) -> Path:
    """As somebody does who takes it for a lock that was left."""
    index_of(file).unlink()
    return file


def rename_index(file: Path) -> Path:
    index_of(file).rename(file.with_name("old-shm"))
    return file


def replace_index(file: Path) -> Path:
    shutil.copy(index_of(file), file.with_name("new-shm"))
    file.with_name("new-shm").replace(index_of(file))
    return file


def rename_folder(file: Path) -> Path:
    return file.parent.rename(file.parent.with_name("old")) / file.name


def replace_folder(file: Path) -> Path:
    """A copy of all of it in its place, with a log of its own."""
    folder = file.parent
    old = folder.rename(folder.with_name("old"))
    shutil.copytree(old, folder)
    return old / file.name


OF_INDEX = [remove_index, rename_index, replace_index]
ACTS = [
    *OF_INDEX,
    remove,
    rename,
    replace,
    give_second_name,
    remove_log,
    rename_log,
    replace_log,
    rename_folder,
    replace_folder,
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """In a folder of its own, that can be moved."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "store.db"


async def refuses_from_now_on(store: Store, failures: list[BaseException]) -> None:
    """The very next operation is not answered, nor is any that comes later."""
    answers = await asyncio.gather(
        store.append(append(STATUSES, records(1))),
        store.pull(pull(STATUSES, 1)),
        return_exceptions=True,
    )
    for answer in answers:
        assert isinstance(answer, OutcomeUnknown | StoreUnavailable), answer
    with pytest.raises(StoreUnavailable):
        await store.append(append(STATUSES, records(1)))
    assert [type(failure) for failure in failures] == [StoreMoved]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("server", [False, True], ids=["command", "server"])
async def test_nobody_is_answered_after(
    opener: Opener, file: Path, act: Act, *, server: bool
) -> None:
    """And the file holds all that was answered before, wherever it is now."""
    failures: list[BaseException] = []
    store = await opener(server=server, on_failure=failures.append)
    for _ in range(3):
        await store.append(append(STATUSES, records(1)))
    whole = act(file)
    await refuses_from_now_on(store, failures)
    assert "stop the server before" in str(failures[0])
    await store.close()
    if whole.exists():
        alone = whole.with_name("alone.db")  # without any log that may lie beside it
        shutil.copy(whole, alone)
        if act in OF_INDEX:  # somebody else may use the log, so it is left to them
            shutil.copy(log_of(whole), log_of(alone))
        report = audit_file(alone, lambda _done, _total: None)
        assert report.findings == []
        assert report.mailboxes[0].accepted >= 3


def append_three(file: Path) -> None:
    """By a command of its own process."""
    subprocess.run([sys.executable, "-c", APPENDS, str(file)], check=True)


@pytest.mark.parametrize("act", OF_INDEX)
async def test_who_opens_it_without_the_index_is_not_written_over(
    opener: Opener, file: Path, act: Act
) -> None:
    """With an index of its own another process does not see the server's commits, nor it theirs."""
    failures: list[BaseException] = []
    store = await opener(server=True, on_failure=failures.append)
    await store.append(append(STATUSES, records(2)))
    act(file)
    await asyncio.to_thread(append_three, file)
    await refuses_from_now_on(store, failures)
    await store.close()
    again = await opener(server=True)
    assert (await again.backlog())[0].accepted == 5


@pytest.mark.parametrize("act", ACTS)
async def test_it_is_noticed_while_nothing_comes(opener: Opener, file: Path, act: Act) -> None:
    failures: list[BaseException] = []
    await opener(server=True, on_failure=failures.append)
    act(file)
    await until(lambda: bool(failures))
    assert type(failures[0]) is StoreMoved


@pytest.mark.parametrize(
    "error", [apsw.CantOpenError, apsw.BusyError, apsw.IOError, apsw.NotADBError, OSError]
)
async def test_of_what_is_durable_nobody_is_told_that_nothing_happened(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Another program has written to the file, and it cannot be looked at again just then."""
    await (await opener()).close()
    log = open_guarded(file, file, server=False, reserve_bytes=0)
    log.commit([append(STATUSES, records(1))])
    os.utime(file)
    with monkeypatch.context() as patched:
        patched.setattr(pairing, "is_paired", mock.Mock(side_effect=error("injected")))
        with pytest.raises(OutcomeUnknown, match="behind a commit") as told:
            log.commit([append(STATUSES, records(2))])
    assert log.is_final(told.value)
    log.close(failed=True)
    store = await opener()
    assert (await store.pull(pull(STATUSES))).count == 3


async def test_another_log_is_not_removed_at_the_end(opener: Opener, file: Path) -> None:
    """Closing folds the log away by its name, which may be that of another store's by then."""
    store = await opener()
    await store.append(append(STATUSES, records(1)))
    replace_folder(file)
    content = log_of(file).read_bytes()
    assert content
    await store.close()
    assert log_of(file).read_bytes() == content


def by_a_backup(file: Path) -> None:
    shutil.copyfile(file.with_name("backup.db"), file)


def by_nothing(file: Path) -> None:
    os.truncate(file, 0)


def by_zeros(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(bytes(8192))


@pytest.mark.parametrize("act", [by_a_backup, by_nothing, by_zeros])
@pytest.mark.parametrize("server", [False, True], ids=["command", "server"])
async def test_a_file_that_is_written_over_is_left_alone(
    url: str, opener: Opener, file: Path, act: Callable[[Path], None], *, server: bool
) -> None:
    """`cp` over it keeps its inode. Nothing of the old log may get into what was copied there."""
    failures: list[BaseException] = []
    store = await opener(server=server, on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    await backup_store(url, file.with_name("backup.db"), lambda _done, _total: None)
    await store.append(append(STATUSES, records(1)))
    act(file)
    shutil.copyfile(file, file.with_name("written.db"))
    await refuses_from_now_on(store, failures)
    assert "was written over" in str(failures[0])
    await store.close()
    assert filecmp.cmp(file, file.with_name("written.db"), shallow=False)


async def cut(log: Path) -> None:
    os.truncate(log, 0)


async def copy_over(log: Path) -> None:
    """The log of another store, whole."""
    other = log.with_name("other.db")
    store = await open_store(sqlite_url(other))
    await store.append(append(STATUSES, records(1)))
    shutil.copyfile(log_of(other), log)
    await store.close()


@pytest.mark.parametrize("act", [cut, copy_over])
@pytest.mark.parametrize("server", [False, True], ids=["command", "server"])
async def test_a_log_that_is_written_over_is_noticed(
    opener: Opener, file: Path, act: Callable[[Path], Awaitable[None]], *, server: bool
) -> None:
    """It keeps its inode, and what follows is appended where nobody will look for it."""
    failures: list[BaseException] = []
    store = await opener(server=server, on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    await act(log_of(file))
    shutil.copyfile(file, file.with_name("before.db"))
    await refuses_from_now_on(store, failures)
    assert "was written over" in str(failures[0])
    await store.close()
    assert filecmp.cmp(file, file.with_name("before.db"), shallow=False)
    with pytest.raises(StoreRefused, match=r"not all there is|do not belong together"):
        await opener(server=True)


async def test_what_a_hole_in_the_log_reads_as_gets_into_no_file(
    opener: Opener, file: Path
) -> None:
    """Nor where the file has lost its name as well, so that its log would be folded into it."""
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    await cut(log_of(file))
    whole = rename(file)
    shutil.copyfile(whole, file.with_name("before.db"))
    await refuses_from_now_on(store, failures)
    await store.close()
    assert filecmp.cmp(whole, file.with_name("before.db"), shallow=False)


def reading(file: Path) -> apsw.Connection:
    """Another program's. Until it has read, it knows of no log."""
    connection = apsw.Connection(str(file))
    connection.pragma("schema_version")
    return connection


def is_emptied(connection: apsw.Connection, log: Path) -> bool:
    with contextlib.suppress(apsw.BusyError):  # somebody reads
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return log.stat().st_size == 0


async def test_a_log_that_another_program_folds_and_empties_was_not_cut(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = GuardedLog.watch, 0

    def watch(log: GuardedLog) -> None:
        nonlocal looks
        real(log)
        looks += 1

    async def looked() -> None:
        begun = looks + 1  # by then
        await until(lambda: looks > begun)

    monkeypatch.setattr(GuardedLog, "watch", watch)
    failures: list[BaseException] = []
    store = await opener(server=True, on_failure=failures.append)
    stranger = reading(file)
    for _ in range(3):
        await store.append(append(STATUSES, records(1)))
        await until(lambda: is_emptied(stranger, log_of(file)))
        await looked()
    stranger.close()
    await store.append(append(STATUSES, records(1)))
    assert failures == []


async def test_a_command_that_folds_the_log_of_a_server_is_no_stranger(
    opener: Opener, file: Path
) -> None:
    """Nor is another program that does."""
    failures: list[BaseException] = []
    store = await opener(server=True, on_failure=failures.append)
    beside = await opener()
    for _ in range(25):
        await beside.append(append(STATUSES, [b"x" * 16_000] * 60))
    await store.append(append(STATUSES, records(1)))
    stranger = reading(file)
    stranger.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    for _ in range(3):
        await store.append(append(STATUSES, records(1)))
    stranger.close()
    assert failures == []
    await beside.close()
    await store.close()
    again = await opener(server=True)
    assert (await again.backlog())[0].accepted == 1504


async def test_its_own_folding_is_no_overwriting(opener: Opener) -> None:
    failures: list[BaseException] = []
    store = await opener(server=True, on_failure=failures.append)
    for _ in range(25):
        await store.append(append(STATUSES, [b"x" * 16_000] * 60))
    beside = await opener()
    await beside.append(append(STATUSES, records(1)))
    await beside.close()
    await store.pull(pull(STATUSES))
    assert failures == []


async def test_the_lock_of_a_server_is_one_of_its_names(opener: Opener, file: Path) -> None:
    """Without it a second server could start beside the first."""
    failures: list[BaseException] = []
    store = await opener(server=True, on_failure=failures.append)
    await store.append(append(STATUSES, records(2)))
    file.with_name("store.db-server").unlink()
    await refuses_from_now_on(store, failures)


def test_an_index_that_was_cut_is_noticed_before_anybody_reads_it(file: Path) -> None:
    """SQLite reads it as memory, which is the end of its process where there is no file for it."""
    for path in (file, log_of(file), index_of(file)):
        path.write_bytes(bytes(65536))
    names = Names(file, file, server=False)
    names.opened()
    names.check_index()
    os.truncate(index_of(file), 98304)  # it may grow
    names.check_index()
    for size in (65536, 0):
        os.truncate(index_of(file), size)
        with pytest.raises(StoreMoved, match=r"store\.db-shm is no longer"):
            names.check()
        with pytest.raises(StoreMoved, match="cut"):
            names.check_index()
    names.close()


async def test_a_link_that_leads_elsewhere_is_noticed(file: Path) -> None:
    """The name that was given leads to another file: the next one to open it finds that."""
    link = file.with_name("link.db")
    link.symlink_to(file)
    failures: list[BaseException] = []
    store = await open_store(sqlite_url(link), server=True, on_failure=failures.append)
    try:
        await store.append(append(STATUSES, records(1)))
        link.unlink()
        link.symlink_to(file.with_name("other.db"))
        await refuses_from_now_on(store, failures)
    finally:
        await store.close()


@contextlib.contextmanager
def mounted_over(folder: Path) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_mount_over_the_folder_is_noticed(opener: Opener, file: Path) -> None:
    failures: list[BaseException] = []
    store = await opener(server=True, on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    with mounted_over(file.parent):
        await refuses_from_now_on(store, failures)
    await store.close()
    again = await opener(server=True)
    assert (await again.backlog())[0].accepted in (1, 2)


async def test_a_removed_store_is_not_begun_anew_by_the_next_start(
    opener: Opener, file: Path
) -> None:
    """Whoever restarts a server that has ended would serve an empty store, and say all is well."""
    store = await opener(server=True)
    rename(file)
    await store.close()
    for _ in range(2):
        with pytest.raises(StoreRefused, match="it was served"):
            await opener(server=True)
        with pytest.raises(StoreRefused, match="it was served"):
            await opener()
    file.with_name("old.db").rename(file)
    await opener(server=True)

"""The settings that durability rests on are in force, where it counts: on the writer itself."""

import os
import stat
from pathlib import Path

import apsw
import pytest

from pullstatus.errors import InvalidSetting, StoreRefused
from pullstatus.store import open_store
from pullstatus.store.sqlite import connection, schema
from pullstatus.store.sqlite.log import CHECKPOINT_PAGES
from tests.store.build import (
    STATUSES,
    append,
    connection_of,
    data_of,
    incompressible,
    names,
    pull,
    records,
    until,
)
from tests.store.engines import Opener, sqlite_url

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("mmap_size", 0),
        ("wal_autocheckpoint", 0),
        ("page_size", 4096),
    ],
)
async def test_the_writer_has_its_settings(opener: Opener, name: str, value: str | int) -> None:
    """On the connection that commits, when the file is new and when it is opened again."""
    for _ in range(2):
        store = await opener()
        assert connection_of(store).pragma(name) == value
        await store.append(append(STATUSES, records(1)))
        assert connection_of(store).pragma(name) == value
        await store.close()


async def test_a_disk_that_is_full_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(schema, "migrate", full)
    with pytest.raises(StoreRefused, match=f"cannot be opened: no space is left in {tmp_path}"):
        connection.open_writer(tmp_path / "a.db")


async def test_a_setting_that_is_not_taken_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a file system has no shared memory: SQLite says nothing and stays as it was."""
    real = apsw.Connection.pragma

    class Deaf(apsw.Connection):
        def pragma(self, name: str, *value: object, **rest: object) -> object:
            return real(self, name) if name == "journal_mode" else real(self, name, *value)

    monkeypatch.setattr(apsw, "Connection", Deaf)
    with pytest.raises(StoreRefused, match="journal_mode=wal"):
        await open_store(url)


async def test_an_old_sqlite_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, good in [("3.51.2", False), ("3.9.99", False), ("3.51.3", True), ("4.0", True)]:
        monkeypatch.setattr(apsw, "sqlite_lib_version", lambda version=version: version)
        if good:
            await (await open_store(url)).close()
        else:
            with pytest.raises(StoreRefused, match="apsw"):
                await open_store(url)


async def test_every_file_is_its_owners_only(opener: Opener, tmp_path: Path) -> None:
    """It holds keys and telephone numbers; whatever the umask of whoever starts it."""
    before = os.umask(0)
    try:
        store = await opener(server=True)
        await store.append(append(STATUSES, records(1)))
        await store.backlog()
        files = names(tmp_path)
    finally:
        os.umask(before)
    assert files == ["store.db", "store.db-server", "store.db-shm", "store.db-wal"]
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in files} == {0o600}


async def test_a_clean_stop_leaves_one_file(opener: Opener, tmp_path: Path) -> None:
    """After readers were at work too: a copy of the file alone is then a whole copy."""
    store = await opener()
    await store.append(append(STATUSES, records(3)))
    await store.pull(pull(STATUSES, 1))
    await data_of(store, STATUSES)
    await store.close()
    assert names(tmp_path) == ["store.db"]


async def test_the_log_is_folded_away_as_it_grows(opener: Opener, tmp_path: Path) -> None:
    """Without SQLite's own checkpoints it must not grow for ever."""
    store = await opener()
    wal = tmp_path / "store.db-wal"
    sizes = set()
    large = [incompressible(16_384, number) for number in range(60)]
    for _ in range(90):
        await store.append(append(STATUSES, large))
        sizes.add(wal.stat().st_size)
    assert max(sizes) < 2 * CHECKPOINT_PAGES * schema.PAGE_BYTES
    assert (tmp_path / "store.db").stat().st_size > CHECKPOINT_PAGES * schema.PAGE_BYTES


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:x.db", "mysql:///x", "", "store.db"]
)
async def test_what_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="sqlite:///"):
        await open_store(url)


async def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays the same file when the process goes elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///a b.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    await store.append(append(STATUSES, records(1)))
    assert len(await data_of(store, STATUSES)) == 1
    await store.close()
    assert (tmp_path / "a b.db").is_file()


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="does not exist"):
        await open_store(sqlite_url(tmp_path / "none/store.db"), server=True)
    assert names(tmp_path) == []


async def test_the_log_does_not_stay_as_large_as_it_once_was(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a large commit made of it is given back once it is folded and begun anew."""
    kept = 256 * 1024
    monkeypatch.setattr(connection, "WAL_BYTES_KEPT", kept)
    log = file.with_name(f"{file.name}-wal")
    store = await opener()
    # One commit, so all of it is in the log at a time, if only for a moment.
    await store.append(append(STATUSES, [incompressible(16_000, number) for number in range(1000)]))
    await store.append(append(STATUSES, records(1)))
    await until(lambda: log.stat().st_size <= kept)
    large = 2 * CHECKPOINT_PAGES * schema.PAGE_BYTES * 0.9
    await until(lambda: file.stat().st_size > large)


async def test_the_bytes_of_a_store_are_those_of_all_its_files(opener: Opener, file: Path) -> None:
    store = await opener()
    await store.append(append(STATUSES, [b"x" * 16_000] * 10))
    sizes = [path.stat().st_size for path in file.parent.iterdir()]
    assert len(sizes) == 3
    assert min(sizes) > 0
    assert (await store.engine()).bytes == sum(sizes)

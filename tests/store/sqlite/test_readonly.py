"""A store in a folder that cannot be written, such as a backup on its medium, can be read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from pullstatus.errors import StoreRefused
from pullstatus.store import backup_store, open_store, read_store
from pullstatus.store.sqlite import schema
from tests.store.build import (
    STATUSES,
    append,
    data_of,
    journal_of,
    names,
    pull,
    records,
    waiting_in,
)
from tests.store.engines import Opener, sqlite_url

pytestmark = pytest.mark.anyio


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A medium of its own where one can be mounted, else what is told of one."""
    try:
        subprocess.run(["mount", "--bind", folder, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
            yield
        return
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)


@pytest.fixture
async def backup(url: str, opener: Opener, tmp_path: Path) -> Path:
    """Of a store with three records, one of which was pulled."""
    (tmp_path / "medium").mkdir()
    store = await opener()
    await store.append(append(STATUSES, records(3)))
    await store.pull(pull(STATUSES, 1))
    await backup_store(url, tmp_path / "medium" / "b.db", lambda _done, _total: None)
    return tmp_path / "medium" / "b.db"


async def test_everything_is_read_and_nothing_is_written(backup: Path) -> None:
    with read_only(backup.parent):
        store = await open_store(sqlite_url(backup), create=False)
        assert not store.created
        assert await waiting_in(store, STATUSES) == 2
        assert len(await data_of(store, STATUSES)) == 3
        assert len(await journal_of(store, STATUSES)) == 1
        for change in (
            store.append(append(STATUSES, records(1))),
            store.pull(pull(STATUSES)),
        ):
            with pytest.raises(StoreRefused, match="can only be read"):
                await change
        await store.close()
        with pytest.raises(StoreRefused, match="cannot be written by this user"):
            await open_store(sqlite_url(backup), server=True)
    assert names(backup.parent) == ["b.db"]


async def test_what_is_no_store_or_an_older_one_is_said(backup: Path) -> None:
    old = backup.with_name("old.db")
    connection = apsw.Connection(str(old))
    connection.execute(schema.MIGRATIONS[0])
    connection.pragma("application_id", schema.APPLICATION_ID)
    connection.pragma("user_version", 1)
    connection.close()
    letter = backup.with_name("letter")
    letter.write_text("Dear reader, this is no database.\n" * 100)
    with read_only(backup.parent):
        for file, told in ((old, "has format 1.*restore it"), (letter, "damaged or no database")):
            with pytest.raises(StoreRefused, match=told):
                await open_store(sqlite_url(file), create=False)
    with pytest.raises(StoreRefused, match=r"has format 1.*start its server with this version"):
        await read_store(sqlite_url(old))


async def test_commands_that_read(backup: Path) -> None:
    def run(*command: str) -> Result:
        return CliRunner().invoke(main, [*command, "--store", f"sqlite:///{backup}"])

    with read_only(backup.parent):
        for command in (("pulls", "list"), ("app", "list"), ("token", "list"), ("audit",)):
            done = await asyncio.to_thread(run, *command)
            assert (done.exit_code, done.stderr) == (0, ""), command
        done = await asyncio.to_thread(run, "token", "create", "x")
        assert done.exit_code == 1
        assert "cannot be written by this user" in done.stderr

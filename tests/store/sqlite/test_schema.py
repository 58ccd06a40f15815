"""The stored format: ours, not newer, brought up to date in steps that a cut can't split."""

import sqlite3
from pathlib import Path

import apsw
import pytest

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store.sqlite import schema
from pullstatus.store.sqlite.connection import open_writer
from tests.store.build import STATUSES, append, data_of, page, pull, records
from tests.store.engines import Opener

STEP = "CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT; INSERT INTO later VALUES (7);"


def formats(file: Path) -> tuple[int, int]:
    connection = apsw.Connection(str(file))
    found = connection.pragma("application_id"), schema.version(connection)
    connection.close()
    return found


def tables(file: Path) -> set[str]:
    connection = apsw.Connection(str(file))
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    connection.close()
    return found


def add_step(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    monkeypatch.setattr(schema, "VERSION", len(schema.MIGRATIONS))


def test_a_new_file_carries_our_name_and_format(file: Path) -> None:
    open_writer(str(file)).close()
    assert formats(file) == (schema.APPLICATION_ID, schema.VERSION)
    assert len(schema.MIGRATIONS) == schema.VERSION


def test_a_newer_format_is_refused_and_left_alone(file: Path) -> None:
    open_writer(str(file)).close()
    connection = apsw.Connection(str(file))
    connection.pragma("user_version", schema.VERSION + 1)
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreRefused, match="install a newer pullstatus"):
        open_writer(str(file))
    assert file.read_bytes() == before


@pytest.mark.parametrize("application_id", [0, 0x0F055112])
def test_another_programs_database_is_refused_and_left_alone(
    file: Path, application_id: int
) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE theirs (x)")
    connection.execute(f"PRAGMA application_id = {application_id}")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreRefused, match="another program"):
        open_writer(str(file))
    assert file.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.write_bytes(b"not a database, but long enough to be looked at as one\n" * 40)
    before = file.read_bytes()
    with pytest.raises(StoreCorrupt, match="no database"):
        open_writer(str(file))
    assert file.read_bytes() == before


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_every_older_format_becomes_this_one(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """The tables of a file that grew step by step are those of a new one."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
        patch.setattr(schema, "VERSION", version)
        open_writer(str(file)).close()
    assert formats(file) == (schema.APPLICATION_ID, version)
    open_writer(str(file)).close()
    open_writer(str(tmp_path / "new.db")).close()
    assert formats(file) == (schema.APPLICATION_ID, schema.VERSION)
    assert tables(file) == tables(tmp_path / "new.db")


@pytest.mark.anyio
async def test_an_old_store_keeps_what_it_holds(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    store = await opener()
    entries = records(3)
    await store.append(append(STATUSES, entries))
    await store.pull(pull(STATUSES, 1))
    await store.close()
    add_step(monkeypatch, STEP)
    store = await opener()
    assert await data_of(store, STATUSES) == entries
    assert await store.pull(pull(STATUSES)) == page(2, entries[1:], 0)
    assert "later" in tables(file)


@pytest.mark.parametrize("cut", ["SELECT no_such_function();", "INSERT INTO later VALUES (7);"])
def test_a_cut_step_leaves_the_old_format(
    file: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """All of a step or nothing of it; the next start does it again, from its beginning."""
    open_writer(str(file)).close()
    before = formats(file), tables(file)
    with monkeypatch.context() as patch:
        add_step(patch, STEP + cut)
        with pytest.raises(StoreRefused):
            open_writer(str(file))
        assert (formats(file), tables(file)) == before
    add_step(monkeypatch, STEP)
    open_writer(str(file)).close()
    assert formats(file)[1] == before[0][1] + 1


def test_two_that_migrate_at_once_do_a_step_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first's lock, then sees that the step is done."""
    open_writer(str(file)).close()
    add_step(monkeypatch, STEP)
    connection = apsw.Connection(str(file))
    found = schema.version(connection)

    def version(asked: apsw.Connection) -> int:
        """What the second saw before it got the lock."""
        monkeypatch.undo()
        add_step(monkeypatch, STEP)
        open_writer(str(file)).close()
        return found

    monkeypatch.setattr(schema, "version", version)
    schema.migrate(connection)
    assert connection.execute("SELECT count(*) FROM later").get == 1
    connection.close()

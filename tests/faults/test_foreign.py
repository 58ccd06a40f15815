"""Files that come from elsewhere: nothing in them is believed, whoever made or changed them.

A store, or the backup of one, in which somebody has put, changed, swapped, cut off or flipped
something is either as good as a store of ours, or refused by a sentence that says what to do. No
command ends otherwise than its table of statuses says, and none with a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from pullstatus import apps
from pullstatus.apps import Operator, Registry
from pullstatus.cli import main
from pullstatus.cli.statuses import meanings
from pullstatus.errors import PullstatusError, StoreRefused
from pullstatus.mailbox.parking import Item
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.records import Kind
from pullstatus.store import Append, Change, Mailbox, Noted, Pull, Reader, open_store
from pullstatus.store.sqlite.schema import PAGE_BYTES
from tests.harness import Record, replies, statuses
from tests.sealing import masters_of
from tests.store.build import derive_all, names, new_act, parked, redeliver, repeat_key

EXAMPLES = int(os.environ.get("PULLSTATUS_FOREIGN", "40"))
AT_MS = 1_767_000_000_000
SDKAPPID = 1_400_006_666
STATUSES = Mailbox(SDKAPPID, Kind.DELIVERY_STATUS)
REPLIES = Mailbox(SDKAPPID, Kind.REPLY)
NAME = "mailboxes.db"


def encoded(records: list[Record]) -> list[bytes]:
    return [msgspec.json.encode(record) for record in records]


async def fill(url: str) -> None:
    """A store with a row at least in each table, folded into one file."""
    by = Operator("me", AT_MS, secrets.token_hex, "a test")
    store = await open_store(url)
    readable = Change(f"application/{SDKAPPID}", json.dumps(APPLICATION).encode(), None)
    await store.change(readable, act=by.act("app create", sdkappid=SDKAPPID), ticket=by.ticket())
    await apps.create_token(store, "gateway", by=by, sdkappid=SDKAPPID)
    await store.append(Append(STATUSES, encoded(statuses(300)), AT_MS, repeat_key("batch")))
    await store.append(Append(REPLIES, encoded(replies(20)), AT_MS))
    item = Item("tencent", "gateway", AT_MS, "192.0.2.7", "must be digits", b"[{]")
    rest = Append(STATUSES, encoded(statuses(2, first=301)), AT_MS)
    await store.park(parked(rest, [msgspec.json.encode(item)]))
    await store.pull(Pull(STATUSES, 100, AT_MS, "192.0.2.7", "key-1", "random=7 time=1767000000"))
    await store.pull(Pull(STATUSES, 50, AT_MS, "192.0.2.7", reader=Reader("billing")))
    await store.pull(Pull(REPLIES, 5, AT_MS, "192.0.2.7"))
    await store.redeliver(redeliver(STATUSES, (1, 10), act=new_act(at_ms=AT_MS)))
    await store.mark({f"key/{SDKAPPID}/0123456789abcdef": Noted(AT_MS, "192.0.2.7")})
    await store.close()


class Whole(bytes):
    """The bytes of a sound store, which no report of a failure needs."""

    def __repr__(self) -> str:
        return "whole"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A sound store."""
    file = tmp_path_factory.mktemp("whole") / NAME
    asyncio.run(fill(f"sqlite:///{file}?commits=thread"))
    return Whole(file.read_bytes())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that is emptied before each example."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# --- what is done to each file --------------------------------------------------------------------

READING = (
    ("audit",),
    ("app", "list"),
    ("app", "show", str(SDKAPPID)),
    ("token", "list"),
    ("pulls", "list"),
    ("pulls", "show", f"{SDKAPPID}-0-1", "--records"),
    ("acts", "list"),
    ("acts", "verify"),
    ("readers", "list", "--idle"),
    ("parked", "list"),
    ("parked", "show", str(SDKAPPID), "1"),
    ("find", "--sid", "8:7"),
    ("redeliver", "--dry-run", "--sid", "8:7"),
    ("redeliver", "--dry-run", "--from", "2025-12-01", "--to", "2026-02-01"),
)


def run(*command: str) -> Result:
    """Run a command in this process; whatever gets out of it fails the test."""
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    name = " ".join(
        command[: 1 if command[0] in ("audit", "backup", "find", "restore", "redeliver") else 2]
    )
    assert done.exit_code in meanings(name), done.output
    if done.exit_code:
        assert done.stderr.strip(), command
        assert len(done.stderr) < 4000
    return done


async def serve(url: str) -> None:
    """What a server does with a store, up to its upkeep; it may refuse."""
    try:
        store = await open_store(url, server=True)
    except PullstatusError:
        return
    try:
        registry = Registry(store, masters_of(store))
        await registry.refresh()
        await store.backlog()
        for box in (STATUSES, REPLIES):
            for _ in range(5):
                await store.pull(Pull(box, 100, AT_MS, "192.0.2.7"))
        await store.pull(Pull(STATUSES, 50, AT_MS, "192.0.2.7", reader=Reader("billing")))
        await derive_all(store)
        await clean_up(
            store, registry.applications.values(), now_ms=AT_MS + 10**9, retention_days=1
        )
    except PullstatusError:
        pass
    finally:
        await store.close()


def try_all(folder: Path, content: bytes) -> None:
    """Have everything look at a file that came from elsewhere."""
    shutil.rmtree(folder)
    folder.mkdir()
    file = folder / NAME
    store = f"sqlite:///{file}"
    file.write_bytes(content)
    for command in READING:
        run(*command, "--store", store)
    file.write_bytes(content)
    run("restore", str(file), "--store", f"sqlite:///{folder}/restored.db")
    run("backup", str(folder / "copy.db"), "--store", store)
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(content)
    asyncio.run(serve(f"{store}?commits=thread"))


def test_a_sound_file_is_taken_by_all(folder: Path, whole: bytes) -> None:
    """Or the tests of the others would show nothing."""
    (folder / NAME).write_bytes(whole)
    for command in READING:
        assert run(*command, "--store", f"sqlite:///{folder / NAME}").exit_code == 0, command
    try_all(folder, whole)
    assert (folder / "restored.db").exists()
    assert (folder / "copy.db").exists()


# --- at random ------------------------------------------------------------------------------------

PLACES = st.integers(0, 1 << 40)
BYTES = st.tuples(st.just("bytes"), PLACES, st.binary(min_size=1, max_size=8))
FLIP = st.tuples(st.just("flip"), PLACES, st.integers(0, 7))
SWAP = st.tuples(st.just("swap"), PLACES, PLACES)
CUT = st.tuples(st.just("cut"), PLACES, st.just(0))
ZERO = st.tuples(st.just("zero"), PLACES, st.just(0))
VALUES = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-3, 300),
    st.text(max_size=20),
    st.binary(max_size=40),
    st.none(),
    st.floats(allow_nan=False),
)
ROWS = st.tuples(st.just("row"), PLACES, VALUES)
TYPES = st.tuples(st.just("type"), PLACES, VALUES)
SQL = st.tuples(
    st.just("sql"),
    st.just(0),
    st.sampled_from(
        [
            "CREATE TABLE more (x)",
            "CREATE VIEW seen AS SELECT * FROM setting",
            "CREATE INDEX more ON chunk (accepted_ms)",
            "DROP INDEX journal_by_pull_key",
            "DROP TABLE mark",
            "DELETE FROM mailbox",
            "DELETE FROM setting",
            "DELETE FROM epoch",
            "DELETE FROM journal",
            "DELETE FROM act",
            "ALTER TABLE chunk ADD COLUMN more TEXT",
            "ALTER TABLE reader DROP COLUMN given",
            "PRAGMA application_id = 0",
            "PRAGMA user_version = 2",
            "PRAGMA user_version = -5",
            "ANALYZE",
            "CREATE TRIGGER plant AFTER INSERT ON epoch BEGIN DELETE FROM chunk; END",
        ]
    ),
)
CHANGES = st.lists(
    st.one_of(FLIP, BYTES, SWAP, CUT, ZERO, ROWS, TYPES, SQL), min_size=1, max_size=3
)


def changed(folder: Path, content: bytes, changes: list[tuple[str, int, object]]) -> bytes:
    """A file in which all of these were done, as far as they could be."""
    for kind, place, value in changes:
        at = place % len(content) if content else 0
        page = at // PAGE_BYTES * PAGE_BYTES
        if kind == "flip":
            assert isinstance(value, int)
            content = content[:at] + bytes([content[at] ^ 1 << value]) + content[at + 1 :]
        elif kind == "bytes":
            assert isinstance(value, bytes)
            content = content[:at] + value + content[at + len(value) :]
        elif kind == "swap":
            assert isinstance(value, int)
            other = value % len(content) // PAGE_BYTES * PAGE_BYTES
            pages = bytearray(content)
            pages[page : page + PAGE_BYTES] = content[other : other + PAGE_BYTES]
            pages[other : other + PAGE_BYTES] = content[page : page + PAGE_BYTES]
            content = bytes(pages)
        elif kind == "cut":
            content = content[:at]
        elif kind == "zero":
            content = content[:page] + bytes(PAGE_BYTES) + content[page + PAGE_BYTES :]
        else:
            content = _by_sql(folder / "foreign.db", content, kind, place, value)
        if not content:
            break
    return content


def _by_sql(file: Path, content: bytes, kind: str, place: int, value: object) -> bytes:
    """With a value put into a cell, or a statement carried out, by another program."""
    file.write_bytes(content)
    connection = sqlite3.connect(file, isolation_level=None)
    with contextlib.suppress(sqlite3.Error, OverflowError, ZeroDivisionError, UnicodeError):
        if kind == "sql":
            connection.execute(str(value))
        else:
            _set_cell(connection, place, value, typed=kind == "row")
    connection.close()
    for suffix in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    return file.read_bytes()


def _set_cell(connection: sqlite3.Connection, place: int, value: object, *, typed: bool) -> None:
    """Put a value into one row of some table; not `typed`: also where its type cannot be."""
    cells = connection.execute(
        "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c"
        " WHERE m.type = 'table' ORDER BY 1, 2"
    ).fetchall()
    table, column = cells[place % len(cells)]
    connection.execute("PRAGMA writable_schema = ON")
    (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", [table]).fetchone()
    loose = re.sub("STRICT,? *", "", sql).replace("NOT NULL", "")
    change = "UPDATE sqlite_schema SET sql = ? WHERE name = ?"
    reread = "PRAGMA writable_schema = RESET"
    if not typed:
        connection.execute(
            change, [re.sub(r"\b(INTEGER|TEXT|BLOB)\b(?! PRIMARY)", "", loose), table]
        )
        connection.execute(reread)
    keys = "rowid" if place % 2 else column
    first = f"(SELECT min({keys}) FROM {table})"
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {keys} = {first}", [value])
    if not typed:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(change, [sql, table])
        connection.execute(reread)


@given(CHANGES)
@example([("sql", 0, "UPDATE mailbox SET id = -7 WHERE id = 1")])  # whose keys would have no place
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes too long to shrink
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_changed_at_random(
    folder: Path, whole: bytes, changes: list[tuple[str, int, object]]
) -> None:
    """However it was changed."""
    try_all(folder, changed(folder, whole, changes))


# --- by somebody who means it ---------------------------------------------------------------------

AS_IF = "PRAGMA writable_schema = ON;"
PLANTED = {
    "trigger": (
        "CREATE TRIGGER plant AFTER INSERT ON epoch BEGIN DELETE FROM setting; END",
        "trigger plant",
    ),
    "trigger_that_deletes": (
        "CREATE TRIGGER plant AFTER UPDATE ON mailbox BEGIN DELETE FROM chunk; END",
        "trigger plant",
    ),
    "table": ("CREATE TABLE more (x)", "table more"),
    "view": ("CREATE VIEW more AS SELECT * FROM setting", "view more"),
    "view_in_place_of_a_table": (
        "ALTER TABLE mark RENAME TO other; CREATE VIEW mark AS SELECT * FROM other",
        "table mark",
    ),
    "index": ("CREATE INDEX more ON chunk (accepted_ms)", "index more"),
    "index_of_an_expression": (
        "CREATE INDEX more ON chunk (abs(accepted_ms))",
        "index more",
    ),
    "lacking_table": ("DROP TABLE mark", "table mark"),
    "lacking_index": ("DROP INDEX journal_by_pull_key", "index journal_by_pull_key"),
    "column_more": ("ALTER TABLE chunk ADD COLUMN more TEXT", "table chunk"),
    "column_less": ("ALTER TABLE reader DROP COLUMN given", "table reader"),
    "column_of_another_name": (
        "ALTER TABLE reader RENAME COLUMN given TO taken",
        "table reader",
    ),
    "another_default": (
        f"{AS_IF}UPDATE sqlite_schema SET sql = replace(sql, 'DEFAULT 0', 'DEFAULT 9')",
        "table mailbox",
    ),
    "statistics": ("ANALYZE", "table sqlite_stat1"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_more_or_less_than_a_store_is_refused_by_all(
    folder: Path, whole: bytes, name: str
) -> None:
    """Before any of it is carried out: the file stays as it is, and no store is made of it."""
    statement, told = PLANTED[name]
    shutil.rmtree(folder)
    folder.mkdir()
    file = folder / NAME
    file.write_bytes(whole)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(statement)
    planted = file.read_bytes()
    assert planted != whole
    store = f"sqlite:///{file}"
    restored = f"sqlite:///{folder}/restored.db"
    for command in (
        ("restore", str(file), "--store", restored),
        ("backup", str(folder / "copy.db"), "--store", store),
        ("app", "create", "7", "--store", store),
        *((*command, "--store", store) for command in READING),
    ):
        done = run(*command)
        assert done.exit_code == 1, command
        assert told in done.output
        assert "restore a backup" in done.output
    with pytest.raises(StoreRefused, match=told):
        asyncio.run(open_store(f"{store}?commits=thread", server=True))
    assert file.read_bytes() == planted
    assert [name for name in names(folder) if not name.startswith(NAME)] == []


PLANT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TRIGGER plant AFTER UPDATE ON mailbox BEGIN DELETE FROM chunk; END")
connection.commit()
"""


def test_a_trigger_that_comes_while_the_store_is_open_does_nothing(
    folder: Path, whole: bytes
) -> None:
    """Whoever can write the file can destroy it, but has nothing run in our name."""
    file = folder / "open.db"
    file.write_bytes(whole)

    async def work() -> int:
        store = await open_store(f"sqlite:///{file}?commits=thread", server=True)
        try:
            # In a process of its own: whoever closes a file drops this process's locks on it.
            plant = [sys.executable, "-c", PLANT, str(file)]
            await asyncio.to_thread(subprocess.run, plant, check=True, timeout=60)
            page = await store.pull(Pull(REPLIES, 5, AT_MS, "192.0.2.7"))
            return page.count + (await store.pull(Pull(REPLIES, 5, AT_MS, "192.0.2.7"))).count
        finally:
            await store.close()

    assert asyncio.run(work()) == 10


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"SQLite format 3\0", b"no database\n" * 99]
)
def test_what_is_no_backup_becomes_no_store(folder: Path, content: bytes) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "b.db").write_bytes(content)
    done = run("restore", str(folder / "b.db"), "--store", f"sqlite:///{folder}/new.db")
    assert done.exit_code == 1
    assert str(folder / "b.db") in done.stderr
    assert names(folder) == ["b.db"]


APPLICATION: dict[str, object] = {
    "sdkappid": SDKAPPID,
    "appkeys": [{"appkey": "5f" * 16, "created_ms": AT_MS}],
    "created_ms": AT_MS,
}
TOKEN: dict[str, object] = {"name": "gateway", "digest": "5f" * 32, "created_ms": AT_MS}
RULE = {"name": "hotline", "sdkappid": SDKAPPID, "owner": "0f", "to": "95555"}
WRONG_SETTINGS: list[tuple[str, object]] = [
    (f"application/{SDKAPPID}", {}),
    (f"application/{SDKAPPID}", [APPLICATION]),
    (f"application/{SDKAPPID}", APPLICATION | {"allow": ["not a network"]}),
    (f"application/{SDKAPPID}", APPLICATION | {"allow": ["10.0.0.1/8"]}),
    (f"application/{SDKAPPID}", APPLICATION | {"pull_rate_max": -1}),
    (f"application/{SDKAPPID}", APPLICATION | {"waiting_days_max": 10**9}),
    (f"application/{SDKAPPID}", APPLICATION | {"wait_s": 10**9}),
    (f"application/{SDKAPPID}", APPLICATION | {"window_s": 0}),
    (f"application/{SDKAPPID}", APPLICATION | {"name": "a\x1b[2J"}),
    (f"application/{SDKAPPID}", APPLICATION | {"created_ms": 1 << 62}),
    (f"application/{SDKAPPID}", APPLICATION | {"appkeys": [{"appkey": "5f", "created_ms": 0}]}),
    (f"application/{SDKAPPID}", APPLICATION | {"sdkappid": 0}),
    (f"application/{SDKAPPID}", APPLICATION | {"appkeys": [{"master": "0" * 16}]}),
    ("master-key", {"id": "../secret"}),
    ("rewrite-due", "soon"),
    ("routing", [RULE, RULE]),
    ("routing", [RULE | {"conditions": 1}]),
    ("source/other", "name = 1"),
    ("application/7", APPLICATION),
    ("application/0", APPLICATION | {"sdkappid": 0}),
    ("token/other", TOKEN),
    ("token/gateway", TOKEN | {"digest": "5f"}),
    ("token/gateway", TOKEN | {"sdkappid": -1}),
    ("token/-", TOKEN | {"name": "-"}),
    ("tokens", TOKEN),
    ("application", APPLICATION),
]


@pytest.mark.parametrize(("name", "value"), WRONG_SETTINGS)
def test_a_setting_that_nobody_set_is_refused(
    folder: Path, whole: bytes, name: str, value: object
) -> None:
    """By a restore as by the audit: a server would refuse it only once it is in use."""
    shutil.rmtree(folder)
    folder.mkdir()
    file = folder / NAME
    file.write_bytes(whole)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO setting (name, value, revision) VALUES (?, ?, 99)",
            (name, json.dumps(value).encode()),
        )
        connection.commit()
    for command in (
        ("restore", str(file), "--store", f"sqlite:///{folder}/new.db"),
        ("audit", "--store", f"sqlite:///{file}"),
    ):
        done = run(*command)
        assert done.exit_code == 1, command
        assert f"the setting {name} " in done.stderr
    assert not (folder / "new.db").exists()


def test_settings_as_they_are_set_pass(folder: Path, whole: bytes) -> None:
    """Or the tests before would show nothing."""
    apps.read_setting(f"application/{SDKAPPID}", json.dumps(APPLICATION).encode())
    apps.read_setting("token/gateway", json.dumps(TOKEN).encode())
    apps.read_setting("master-key", b'{"id":"0123456789abcdef"}')
    apps.read_setting("rewrite-due", b"true")
    apps.read_setting("routing", json.dumps([RULE]).encode())
    row = b'name="own"\nitems="body"\n[reply]\nnumber="from"\ntext="text"\n'
    apps.read_setting("source/own", row)

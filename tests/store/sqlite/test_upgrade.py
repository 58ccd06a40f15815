"""Older stores: what they hold, a running server of their version; and pulls beside a full disk."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from pullstatus import limits
from pullstatus.errors import ReplayRefused, StoreCorrupt, StoreFull, StoreRefused
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.questions import records_of
from pullstatus.mailbox.tallies import Column
from pullstatus.records import Kind
from pullstatus.store import (
    NO_TICKET,
    Act,
    Again,
    Append,
    Count,
    Fingerprints,
    Followed,
    Mailbox,
    Named,
    Naming,
    Once,
    Outcome,
    Page,
    Pull,
    RepeatKey,
    Span,
    Store,
    open_store,
)
from pullstatus.store.fingerprints import STEP_KEYS_MAX
from pullstatus.store.gathering.operations import Answer, Operation
from pullstatus.store.sqlite import pairing, schema
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.place import ServerLock
from tests.store.build import acts_of, again_of, chain_of, new_act, redeliver, settings_of
from tests.store.engines import sqlite_url

MAILBOX = Mailbox(1400006666, Kind.DELIVERY_STATUS)
REPLIES = Mailbox(1400006666, Kind.REPLY)
OTHERS = Mailbox(1400006667, Kind.DELIVERY_STATUS)
FORMATS = Path(__file__).with_name("formats")


def old_store(path: Path) -> str:
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.execute(schema.MIGRATIONS[0])
    connection.pragma("application_id", schema.APPLICATION_ID)
    connection.pragma("user_version", 1)
    connection.close()
    return sqlite_url(path)


async def opened(url: str) -> None:
    await (await open_store(url)).close()


def test_command_does_not_change_the_format_under_a_running_server(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    url = old_store(path)
    fixes = r"already serves .*wait until it answers .*restart it"
    with ServerLock(path), pytest.raises(StoreRefused, match=fixes):
        asyncio.run(opened(url))
    asyncio.run(opened(url))
    with apsw.Connection(str(path)) as connection:
        assert schema.version(connection) == schema.VERSION


def test_pulls_go_on_when_the_appends_beside_them_find_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shares a commit with an append that doesn't fit is committed without it."""
    commit = Log.commit

    def full(self: Log, group: list[Operation]) -> list[Answer]:
        if any(isinstance(operation, Append) for operation in group):
            raise StoreFull("no space")
        return commit(self, group)

    async def run() -> None:
        store = await open_store(sqlite_url(tmp_path / "store.db"))
        await store.append(Append(MAILBOX, [b"{}"], 1))
        monkeypatch.setattr(Log, "commit", full)
        page, refused = await asyncio.gather(
            store.pull(Pull(MAILBOX, 1, 2)),
            store.append(Append(MAILBOX, [b"{}"], 2)),
            return_exceptions=True,
        )
        assert isinstance(page, Page)
        assert page.data == b"{}"
        assert isinstance(refused, StoreFull)
        await store.close()

    asyncio.run(run())


def fourth_format(path: Path) -> str:
    """A store of version 0.2.0 from before names of sends were kept, with one record."""
    connection = apsw.Connection(str(path))
    connection.execute((FORMATS / "3.sql").read_text(encoding="ascii"))
    connection.pragma("journal_mode", "wal")
    connection.execute(schema.MIGRATIONS[3])
    connection.pragma("user_version", 4)
    connection.close()
    return sqlite_url(path)


def test_a_store_of_the_fourth_format_keeps_names_from_now_on(tmp_path: Path) -> None:
    url = fourth_format(tmp_path / "old.db")

    async def run() -> None:
        store = await open_store(url, server=True)
        [before] = await store.backlog()
        assert before.waiting == 2
        assert await store.named([7]) == []
        names = [Naming([7], b"names")]
        assert await store.count(Count(MAILBOX.sdkappid, [], SECOND_MS, names=names))
        assert await store.named([7]) == [Named(MAILBOX.sdkappid, [7], b"names")]
        assert await store.backlog() == [before]
        await store.close()

    asyncio.run(run())
    assert audit_file(tmp_path / "old.db", lambda _done, _total: None).findings == []


# --- what a store of format 2 holds ---------------------------------------------------------------

SECOND_MS = 1_800_000_000_000  # when all of it came


def second_format(path: Path) -> str:
    """A store that version 0.1.0 wrote; what is in it stands at the head of the dump."""
    return dumped(path, 2)


def third_format(path: Path) -> str:
    """A store of version 0.2.0 from before entries were followed."""
    return dumped(path, 3)


def fifth_format(path: Path) -> str:
    """A store of version 0.2.0 from before a part of a segment was a page."""
    return dumped(path, 5)


def dumped(path: Path, version: int) -> str:
    connection = apsw.Connection(str(path))
    connection.execute((FORMATS / f"{version}.sql").read_text(encoding="ascii"))
    connection.pragma("journal_mode", "wal")
    connection.close()
    return sqlite_url(path)


def definitions(path: Path) -> list[tuple[str, str]]:
    """How every table and index of a file is defined, comments and blanks aside."""
    connection = apsw.Connection(str(path))
    found = connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()
    connection.close()
    return sorted(
        (str(name), " ".join(re.sub(r"--.*", "", str(text)).replace('"', "").split()))
        for name, text in found
    )


@pytest.mark.parametrize("server", [False, True])
def test_a_store_of_the_second_format_is_as_it_was(tmp_path: Path, server: bool) -> None:
    """What waits, what was handed out under which key, and what would be a repeat."""

    async def run() -> None:
        store = await open_store(second_format(tmp_path / "old.db"), server=server)
        body = RepeatKey(f"gateway/{MAILBOX}", "batch", b"digest of a body")
        assert await store.append(Append(MAILBOX, [b"{}"] * 3, SECOND_MS, body)) == 0
        for mailbox, scope, record_s, digest in (
            (REPLIES, f"gateway/{REPLIES}", SECOND_MS // 1000 - 60, b"digest of reply4"),
            (REPLIES, f"gateway/{REPLIES}", 4_000_000_000, b"digest of reply5"),
            (OTHERS, f"other/{OTHERS}", SECOND_MS // 1000 - 60, b"digest of reply4"),
        ):
            prints = Fingerprints(scope, [(record_s, digest)])
            assert await store.append(Append(mailbox, [b"{}"], SECOND_MS, None, prints)) == 0
        assert {row.mailbox: row.waiting for row in await store.backlog()} == {
            MAILBOX: 1,
            REPLIES: 0,
            OTHERS: 0,
        }
        for mailbox, count, data in ((MAILBOX, 2, b'{"n":1},{"n":2}'), (OTHERS, 1, b'{"n":6}')):
            page = await store.pull(Pull(mailbox, count, SECOND_MS, key="batch-1"))
            assert (page.repeated, page.data) == (True, data)
        [row] = [row async for row in store.journal(REPLIES) if row.outcome is Outcome.PULLED]
        assert row.proof == "random=72264 time=1800000000"
        [row] = [row async for row in store.journal(REPLIES) if row.outcome is not Outcome.PULLED]
        assert row.proof == ""
        until_ms = SECOND_MS + limits.SIGNATURE_KEPT_S * 1000
        used = Once("1800000000 72264", until_ms)
        for at_ms in (SECOND_MS, until_ms):
            with pytest.raises(ReplayRefused):
                await store.pull(Pull(REPLIES, 1, at_ms, once=used))
        assert (await store.pull(Pull(MAILBOX, 9, SECOND_MS))).data == b'{"n":3}'
        [setting] = await settings_of(store)
        assert setting.value == b"{}"
        forgotten = await store.forget(accepted_before_ms=SECOND_MS + 1, now_ms=until_ms + 1)
        assert forgotten == 3 + 1 + 1
        await store.close()

    asyncio.run(run())
    assert audit_file(tmp_path / "old.db", lambda _done, _total: None).findings == []


def test_a_great_batch_of_the_second_format_is_forgotten_in_steps(tmp_path: Path) -> None:
    """However many records were accepted in one millisecond."""
    url = second_format(tmp_path / "old.db")
    connection = apsw.Connection(str(tmp_path / "old.db"))
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)"
        " INSERT INTO fingerprint SELECT 7, unhex(printf('%032x', i)), 'gateway', 1 FROM n"
    )
    connection.close()

    async def run() -> int:
        store = await open_store(url)
        forgotten = await store.forget(accepted_before_ms=2, now_ms=2)
        await store.close()
        return forgotten

    asyncio.run(opened(url))
    connection = apsw.Connection(str(tmp_path / "old.db"))
    sizes = connection.execute(
        "SELECT length(keys) / 16 FROM fingerprint_step WHERE accepted_ms = 1"
    ).fetchall()
    assert sizes == [(STEP_KEYS_MAX,)] * 10
    connection.close()
    assert asyncio.run(run()) == 2500


def test_the_acts_of_a_store_of_the_second_format_stay_on_record(tmp_path: Path) -> None:
    """With what they marked. They are chained as they are found."""
    url = second_format(tmp_path / "old.db")
    connection = apsw.Connection(str(tmp_path / "old.db"))
    connection.execute("INSERT INTO audit VALUES (3, 7, 'me', 'restore', 'r', '{}')")
    connection.execute("INSERT INTO audit VALUES (4, 6, 'you', 'redeliver', 'é', '{\"by\":1}')")
    connection.execute("INSERT INTO again VALUES ((1 << 40) + 3, 1, 3, 3)")
    connection.close()

    async def run() -> None:
        store = await open_store(url)
        old = Act("me", "restore", "r", "{}", 7, NO_TICKET)
        older = Act("you", "redeliver", "é", '{"by":1}', 6, NO_TICKET)
        assert await acts_of(store) == chain_of({3: old, 4: older})
        assert await again_of(store, MAILBOX) == [Again(3, 1, 3, 3)]
        new = new_act()
        assert await store.redeliver(redeliver(MAILBOX, (1, 1), act=new)) == 1
        assert await acts_of(store) == chain_of({3: old, 4: older, 5: new})
        await store.close()

    asyncio.run(run())
    assert audit_file(tmp_path / "old.db", lambda _done, _total: None).findings == []


@pytest.mark.parametrize(
    "format_", [old_store, second_format, third_format, fourth_format, fifth_format]
)
def test_an_upgraded_store_is_defined_as_a_new_one(
    tmp_path: Path, format_: Callable[[Path], str]
) -> None:
    asyncio.run(opened(format_(tmp_path / "old.db")))
    asyncio.run(opened(sqlite_url(tmp_path / "new.db")))
    assert definitions(tmp_path / "old.db") == definitions(tmp_path / "new.db")


@pytest.mark.parametrize(
    "row",
    [
        "audit VALUES (3, 7, 'me', 'restore', 'r', CAST(x'ff' AS TEXT))",  # it cannot be chained
        "fingerprint VALUES (1 << 60, zeroblob(16), 'gateway', 1)",
    ],
)
def test_what_nobody_can_have_stored_in_the_second_format_is_one_line(
    tmp_path: Path, row: str
) -> None:
    """The file stays as it was."""
    url = second_format(tmp_path / "old.db")
    connection = apsw.Connection(str(tmp_path / "old.db"))
    connection.execute(f"INSERT INTO {row}")
    with pytest.raises(StoreCorrupt, match="nobody has ever stored"):
        asyncio.run(open_store(url))
    assert schema.version(connection) == 2
    connection.close()


@pytest.mark.parametrize("server", [False, True])
def test_where_the_new_format_fails_the_version_before_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: bool
) -> None:
    """It reads `user_version` as the number of a format, all of it."""
    path = tmp_path / "old.db"
    url = second_format(path)
    steps = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*steps[:-1], "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(StoreRefused, match="nowhere"):
        asyncio.run(open_store(url, server=server))
    with apsw.Connection(str(path)) as connection:
        assert connection.pragma("user_version") == 2
    connection.close()
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    asyncio.run(opened(url))
    with apsw.Connection(str(path)) as connection:
        assert pairing.UserVersion.parse(connection.pragma("user_version")).pair is not None
    connection.close()


# --- what a store of format 3 holds ---------------------------------------------------------------


def test_a_store_of_the_third_format_is_followed_from_what_it_still_has(tmp_path: Path) -> None:
    """What was removed before was never counted; all else is, and copies are found as ever."""

    async def run() -> None:
        store = await open_store(third_format(tmp_path / "old.db"), server=True)
        [row] = await store.backlog()
        assert (row.purged, row.followed) == (2, Followed(2, 2, 0))
        assert await store.behind(9) == [row]
        assert await store.purge(left_before_ms=SECOND_MS + 10) == 0
        await Follower(store, secrets.token_hex).work()
        [row] = await store.backlog()
        assert row.followed == Followed(5, 5, 0)
        assert await store.spans(MAILBOX) == [Span(3, 3)]
        [tally] = await store.tallies(MAILBOX.sdkappid, 0, 1 << 40)
        assert tally.counts[Column.SUCCESS] == 2
        for number in (2, 3, 4):
            [found] = await records_of(store, MAILBOX, f"86138{number:08d}")
            assert f'"sid":"8:{number}"'.encode() in found
        assert await records_of(store, MAILBOX, "8613800000001") == []
        assert await store.purge(left_before_ms=SECOND_MS + 10) == 1
        assert (await store.pull(Pull(MAILBOX, 9, SECOND_MS))).count == 2
        await store.close()

    asyncio.run(run())
    assert audit_file(tmp_path / "old.db", lambda _done, _total: None).findings == []


# --- what a store of format 5 holds ---------------------------------------------------------------


def test_segments_of_the_fifth_format_are_made_anew(tmp_path: Path) -> None:
    """Until then all is found by reading it; nothing is counted twice."""

    async def run() -> None:
        store = await open_store(fifth_format(tmp_path / "old.db"), server=True)
        [row] = await store.backlog()
        assert (row.purged, row.accepted, row.followed) == (2, 7, Followed(2, 6, 1))
        assert await store.spans(MAILBOX) == []
        await all_are_found(store)
        assert await store.purge(left_before_ms=SECOND_MS + 10) == 0
        await Follower(store, secrets.token_hex).work()
        [row] = await store.backlog()
        assert row.followed == Followed(7, 7, 1)
        assert await store.spans(MAILBOX) == [Span(3, 5)]
        tallies = await store.tallies(MAILBOX.sdkappid, 0, 1 << 40)
        assert sum(tally.counts[Column.SUCCESS] for tally in tallies) == 4
        await all_are_found(store)
        assert await store.named([7]) == [Named(MAILBOX.sdkappid, [7], b"names")]
        assert await store.purge(left_before_ms=SECOND_MS + 10) == 1
        await store.close()

    async def all_are_found(store: Store) -> None:
        for number in (2, 3, 4, 6, 7):
            [entry] = await records_of(store, MAILBOX, f"86138{number:08d}")
            assert f'"sid":"8:{number}"'.encode() in entry

    asyncio.run(run())
    assert audit_file(tmp_path / "old.db", lambda _done, _total: None).findings == []

"""A file is not used without its log, nor with that of another file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from pullstatus.errors import StoreRefused
from pullstatus.store import backup_store, open_store, restore_store
from pullstatus.store.sqlite import pairing
from pullstatus.store.sqlite.audit import audit_file
from pullstatus.store.sqlite.pairing import NO_PAIR, UserVersion
from tests.store.build import (
    NOW_MS,
    STATUSES,
    append,
    connection_of,
    incompressible,
    names,
    new_act,
    pull,
    records,
)
from tests.store.engines import Opener, sqlite_url

pytestmark = pytest.mark.anyio


def log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def no_progress(_done: int, _total: int) -> None:
    pass


def as_killed(file: Path, name: str) -> Path:
    """Copies of file and log as they are now, in a folder of their own: what a kill leaves."""
    folder = file.with_name(name)
    folder.mkdir()
    for found in (file, log_of(file)):
        shutil.copy(found, folder)
    return folder / file.name


def remainders(file: Path) -> list[int]:
    """How many records the mailboxes of a file hold that is opened as by a server."""
    return [row.accepted for row in audit_file(file, no_progress).mailboxes]


async def test_a_log_that_cannot_be_opened_is_not_taken_for_lost(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever believes that makes a store without it, of a file whose newest commits are there."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    killed = as_killed(file, "killed")
    real = apsw.VFSFile

    def refuse(vfs: str, name: str, flags: list[int]) -> apsw.VFSFile:
        """As for a log of another user, or without a descriptor to spare."""
        if name.endswith("-wal"):
            raise apsw.CantOpenError("unable to open database file")
        return real(vfs, name, flags)

    with monkeypatch.context() as patched:
        patched.setattr(apsw, "VFSFile", refuse)
        with pytest.raises(StoreRefused, match="-wal is there and cannot be opened"):
            audit_file(killed, no_progress)
        with pytest.raises(StoreRefused, match="-wal is there and cannot be opened"):
            await open_store(sqlite_url(killed))
    assert remainders(killed) == [3]


@pytest.mark.parametrize("server", [False, True], ids=["command", "server"])
@pytest.mark.parametrize("folded", [False, True])
async def test_a_file_without_its_log_is_refused(
    opener: Opener, file: Path, *, server: bool, folded: bool
) -> None:
    """From the first record on, by servers, commands and audit; with its log it is fine."""
    store = await opener(server=server)
    if folded:
        for _ in range(12):
            await store.append(
                append(STATUSES, [incompressible(16_000, each) for each in range(60)])
            )
    await store.append(append(STATUSES, records(3)))
    killed = as_killed(file, "killed")
    whole = remainders(killed)
    for left in ("removed", "emptied"):
        copy = as_killed(file, left)
        if left == "removed":
            log_of(copy).unlink()
        else:
            os.truncate(log_of(copy), 0)
        for role in (True, False):
            with pytest.raises(StoreRefused, match="not all there is"):
                await open_store(sqlite_url(copy), server=role)
        [finding] = audit_file(copy, no_progress).findings
        assert "not all there is" in finding.problem
    again = await open_store(sqlite_url(killed), server=True)
    await again.close()
    assert remainders(killed) == whole


@pytest.mark.parametrize("checkpointed", [False, True])
async def test_a_fold_that_was_cut_off_is_finished_by_whoever_opens_next(
    opener: Opener, file: Path, checkpointed: bool
) -> None:
    """A command, too: it is the last to close, and leaves a file that is all there is."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    connection = apsw.Connection(str(file))
    pairing._commit(connection, needs_log=True)
    if checkpointed:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    killed = as_killed(file, "killed")
    connection.close()
    command = await open_store(sqlite_url(killed))
    await command.append(append(STATUSES, records(2)))
    await command.close()
    assert not log_of(killed).exists()
    assert remainders(killed) == [5]
    assert audit_file(killed, no_progress).findings == []
    await (await open_store(sqlite_url(killed), server=True)).close()


@pytest.mark.parametrize("appends", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("server", [False, True], ids=["command", "server"])
async def test_a_fold_that_is_cut_off_beside_it_is_finished_by_whoever_closes_last(
    opener: Opener, file: Path, *, server: bool, checkpointed: bool, appends: bool
) -> None:
    """Who folds is killed while another has the store open: that one leaves all there is."""
    await (await opener(server=True)).close()
    store = await open_store(sqlite_url(file), server=server)
    await store.append(append(STATUSES, records(3)))
    killed = apsw.Connection(str(file))
    pairing._commit(killed, needs_log=True)
    if checkpointed:
        killed.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    killed.close()  # as one that is not the last: it folds nothing
    if appends:
        await store.append(append(STATUSES, records(2)))
    await store.close()
    assert not log_of(file).exists()
    assert remainders(file) == [5 if appends else 3]
    assert audit_file(file, no_progress).findings == []
    await (await open_store(sqlite_url(file), server=True)).close()


async def test_who_cannot_finish_a_fold_that_was_cut_off_leaves_the_log(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens it next does."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    killed = apsw.Connection(str(file))
    pairing._commit(killed, needs_log=True)
    killed.close()

    def full(_connection: apsw.Connection, **_said: object) -> int | None:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(pairing, "_commit", full)
        await store.close()
    assert log_of(file).exists()
    await (await open_store(sqlite_url(file), server=True)).close()
    assert not log_of(file).exists()
    assert remainders(file) == [3]


@pytest.mark.parametrize("work", [pairing.fold, pairing.begin, pairing.settle])
async def test_no_two_processes_fold_at_once(
    opener: Opener,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[apsw.Connection], None],
) -> None:
    """Or the pair of one would begin the log over a file that says the pair of the other."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    with contextlib.closing(apsw.Connection(str(file))) as other, contextlib.ExitStack() as alone:
        pairing._commit(other, needs_log=True)
        before = other.pragma("user_version")
        alone.enter_context(pairing._alone(other))
        waits: list[int] = []

        def wait(_s: float) -> None:
            waits.append(other.pragma("user_version"))
            if len(waits) == 3:
                alone.close()

        monkeypatch.setattr(time, "sleep", wait)
        work(other)
        assert waits == [before] * 3
        assert other.pragma("user_version") != before
        assert pairing.find_problem(other) is None


async def test_who_folds_again_and_again_is_not_taken_for_another_file(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two reads of every look that does not hold it off, as on a machine that is busy."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    read, folds = pairing._stored, 0

    def overtaken(opened: apsw.VFSFile | None) -> UserVersion:
        nonlocal folds
        stored = read(opened)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return stored
        finally:
            os.close(folder)
        folds += 1
        pairing.fold(other)
        return stored

    with (
        contextlib.closing(apsw.Connection(str(file))) as other,
        contextlib.closing(apsw.Connection(str(file))) as one,
    ):
        monkeypatch.setattr(pairing, "_stored", overtaken)
        assert pairing.is_paired(one)
        assert pairing.find_problem(one) is None
        assert folds == 2


async def test_whoever_keeps_the_folder_to_himself_stops_nobody(
    opener: Opener, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can who may list it."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    waits: list[float] = []
    with contextlib.closing(apsw.Connection(str(file))) as other, pairing._alone(other):
        monkeypatch.setattr(time, "sleep", waits.append)
        pairing.fold(other)
        assert len(waits) == pairing.ALONE_MAX
        assert pairing.find_problem(other) is None


async def test_what_sqlite_does_not_wait_for_by_itself_is_tried_again(
    url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where several commands make a store at once, or another program folds its log."""
    held_up: list[str] = []

    class Contended(apsw.Connection):
        def pragma(  # type: ignore[override]
            self, name: str, *value: str | int
        ) -> object:
            if name == "journal_mode" and value:
                self._hold_up(name)
            return super().pragma(name, *value)

        def wal_checkpoint(
            self, dbname: str | None = None, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE
        ) -> tuple[int, int]:
            self._hold_up(f"checkpoint {mode}")
            return super().wal_checkpoint(dbname, mode)

        def _hold_up(self, what: str) -> None:
            if what not in held_up:
                held_up.append(what)
                raise apsw.BusyError(what)

    monkeypatch.setattr(apsw, "Connection", Contended)
    store = await open_store(url)
    assert held_up == [
        "journal_mode",
        f"checkpoint {apsw.SQLITE_CHECKPOINT_NOOP}",
        f"checkpoint {apsw.SQLITE_CHECKPOINT_PASSIVE}",
    ]
    await store.append(append(STATUSES, records(3)))
    await store.close()
    assert audit_file(file, no_progress).findings == []


async def test_a_file_whose_log_is_lost_can_be_restored_from(opener: Opener, file: Path) -> None:
    """What is left of it is not lost, too."""
    store = await opener(server=True)
    some = [incompressible(16_000, each) for each in range(60)]
    for _ in range(12):
        await store.append(append(STATUSES, some))
    await store.append(append(STATUSES, records(1)))  # so that nothing is being folded any more
    copy = as_killed(file, "killed")
    log_of(copy).unlink()
    target = file.with_name("rest.db")
    await restore_store(f"sqlite:///{target}", copy, act=new_act("restore"), progress=no_progress)
    assert 0 < remainders(target)[0] <= 721
    await (await open_store(sqlite_url(target), server=True)).close()


async def test_a_log_of_another_file_is_refused(url: str, opener: Opener, file: Path) -> None:
    """A backup or an older copy that was put in the place of a file whose log stayed there."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    backup = file.with_name("backup.db")
    await backup_store(url, backup, no_progress)
    await store.append(append(STATUSES, records(3)))
    for content in ("backup", "other"):
        copy = as_killed(file, content)
        if content == "other":
            other = await open_store(sqlite_url(copy.parent / "other.db"), server=True)
            await other.append(append(STATUSES, records(1)))
            await other.close()
            shutil.copy(copy.parent / "other.db", copy)
        else:
            shutil.copy(backup, copy)
        before = copy.read_bytes(), log_of(copy).read_bytes()
        for role in (True, False):
            with pytest.raises(StoreRefused, match="do not belong together"):
                await open_store(sqlite_url(copy), server=role)
        [finding] = audit_file(copy, no_progress).findings
        assert "do not belong together" in finding.problem
        assert (copy.read_bytes(), log_of(copy).read_bytes()) == before
        log_of(copy).unlink()
        await (await open_store(sqlite_url(copy), server=True)).close()


async def test_whoever_folds_the_log_leaves_a_file_that_is_all_there_is(
    opener: Opener, file: Path
) -> None:
    """Another program that opens a store after a kill and closes it, and no clean stop of ours."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    copy = as_killed(file, "killed")
    stranger = apsw.Connection(str(copy))
    assert stranger.execute("SELECT tail FROM mailbox").get == 3
    stranger.close()
    assert names(copy.parent) == ["store.db"]
    again = await open_store(sqlite_url(copy), server=True)
    assert (await again.backlog())[0].accepted == 3
    await again.close()


async def test_a_log_that_grew_over_many_foldings_is_still_the_one(
    opener: Opener, file: Path
) -> None:
    """Each folding begins it anew with another number."""
    store = await opener(server=True)
    some = [incompressible(16_000, each) for each in range(60)]
    for _ in range(60):
        await store.append(append(STATUSES, some))
        await store.pull(pull(STATUSES))
    for number in range(3):
        copy = as_killed(file, f"killed{number}")
        again = await open_store(sqlite_url(copy), server=True)
        assert (await again.backlog())[0].accepted == 3600
        await again.close()


async def test_a_reader_in_the_way_of_folding_does_no_harm(opener: Opener, file: Path) -> None:
    """Somebody reads when the log is begun, and goes on: the file is not named its log then."""
    await (await opener(server=True)).close()
    reader = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM mailbox").fetchall()
    store = await opener(server=True)
    for _ in range(12):
        await store.append(append(STATUSES, [incompressible(16_000, each) for each in range(60)]))
    copy = as_killed(file, "killed")
    again = await open_store(sqlite_url(copy), server=True)
    assert (await again.backlog())[0].accepted == 720
    await again.close()
    reader.close()


async def test_one_that_was_cut_off_while_folding_is_settled(opener: Opener, file: Path) -> None:
    """Between its two commits, with the log that says so and after a folding of that."""
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    connection = connection_of(store)
    pairing._commit(connection, needs_log=True)
    copy = as_killed(file, "killed")
    again = await open_store(sqlite_url(copy), server=True)
    assert (await again.backlog())[0].accepted == 3
    await again.close()
    assert remainders(copy) == [3]
    await (await open_store(sqlite_url(copy))).close()


COMMAND = """
import asyncio, os, signal, sys
from pullstatus.store import open_store
from tests.store.build import NOW_MS, STATUSES, append, records

async def main():
    store = await open_store(sys.argv[1])
    await store.append(append(STATUSES, records(2)))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_command_that_was_killed_leaves_a_log_that_belongs(file: Path) -> None:
    for expected in (2, 4):
        killed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", COMMAND, f"sqlite:///{file}"
        )
        assert await killed.wait() == -signal.SIGKILL
        assert log_of(file).stat().st_size
        assert remainders(file) == [expected]
    await (await open_store(sqlite_url(file), server=True)).close()
    assert remainders(file) == [4]


async def test_a_backup_or_a_restored_store_names_no_log(
    url: str, opener: Opener, file: Path
) -> None:
    store = await opener(server=True)
    await store.append(append(STATUSES, records(3)))
    backup = file.with_name("backup.db")
    await backup_store(url, backup, no_progress)
    connection = apsw.Connection(str(backup), flags=apsw.SQLITE_OPEN_READONLY)
    assert UserVersion.parse(connection.pragma("user_version")).pair == NO_PAIR
    assert pairing.find_problem(connection) is None
    connection.close()


@pytest.mark.parametrize(
    "stored",
    [
        UserVersion(3, None, needs_log=False),
        UserVersion(3, NO_PAIR, needs_log=False),
        UserVersion(3, 1, needs_log=True),
        UserVersion(255, (1 << 21) - 1, needs_log=True),
        UserVersion(0, 0x1234, needs_log=False),
    ],
)
def test_a_user_version_is_read_as_it_was_written(stored: UserVersion) -> None:
    assert UserVersion.parse(stored.number()) == stored
    assert 0 <= stored.number() < 2**31


def test_a_format_without_any_of_it_is_a_user_version() -> None:
    """Formats 1 and 2 wrote their number, and nothing else."""
    assert UserVersion.parse(2) == UserVersion(2, None, needs_log=False)


async def test_an_audit_says_of_what_state_it_is(url: str, opener: Opener, file: Path) -> None:
    """It cannot know whether there is a newer one; whoever reads it may."""
    store = await opener(server=True)
    empty = audit_file(file, no_progress)
    assert (empty.epoch, empty.newest_ms, empty.log) == (1, None, True)
    await store.append(append(STATUSES, records(2), NOW_MS))
    await store.pull(pull(STATUSES, 1, NOW_MS + 5000))
    live = audit_file(file, no_progress)
    assert (live.epoch, live.newest_ms, live.log) == (1, NOW_MS + 5000, True)
    assert live.served_ms is not None
    assert abs(live.served_ms - file.with_name("store.db-server").stat().st_mtime * 1000) < 2
    await backup_store(url, file.with_name("b.db"), no_progress)
    backup = audit_file(file.with_name("b.db"), no_progress)
    assert (backup.newest_ms, backup.log, backup.served_ms) == (NOW_MS + 5000, False, None)
    target = f"sqlite:///{file.with_name('new.db')}"
    args = {"act": new_act("restore"), "progress": no_progress}
    await restore_store(target, file.with_name("b.db"), **args)  # type: ignore[arg-type]
    assert audit_file(file.with_name("new.db"), no_progress).epoch == 2

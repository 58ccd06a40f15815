"""The disk fills up under load: refuse what comes in, hand out what is there, lose nothing.

On a small file system of its own (a tmpfs) where this process may mount one. Where it may not, the
server is told by child/sitecustomize.py how many bytes are free, which shows the same refusal; a
disk without a single free block is then a limit on the size of its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Protocol

import pytest

from pullstatus import limits
from tests.faults.load import Load, Mix, doomed
from tests.harness import PATIENCE_S, REPLY, STATUS, Program, statuses
from tests.sim.checker import Seen, Verb

SEED = os.environ.get("PULLSTATUS_SEED", "1")
CHILD = Path(__file__).with_name("child")
DISK_BYTES = limits.STORE_RESERVE_BYTES + 64 * 1024 * 1024


class Room(Protocol):
    """A disk whose free space a test decides on."""

    folder: Path
    environment: dict[str, str]

    def leave(self, free_bytes: int) -> None:
        """Have this many bytes free, as good as it goes."""


class SmallDisk:
    """A tmpfs, and a file that takes what is to be taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}

    def leave(self, free_bytes: int) -> None:
        """Grow or shrink the ballast."""
        ballast = self.folder / "ballast"
        ballast.touch()
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        size = ballast.stat().st_size + free - free_bytes
        with ballast.open("r+b") as file:
            if size < ballast.stat().st_size:
                file.truncate(max(size, 0))
                return
            with contextlib.suppress(OSError):  # the server takes some of it at the same time
                os.posix_fallocate(file.fileno(), 0, size)
            if not free_bytes:
                file.seek(0, os.SEEK_END)
                with contextlib.suppress(OSError):
                    while os.write(file.fileno(), bytes(4096)):
                        pass


class PretendedDisk:
    """A folder on some disk, and a server that believes what it is told about that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PYTHONPATH": str(CHILD), "FAULTS": str(folder)}

    def leave(self, free_bytes: int) -> None:
        """Say so."""
        draft = self.folder / "draft"
        draft.write_text(str(free_bytes), encoding="ascii")
        draft.replace(self.folder / "free")


@contextlib.contextmanager
def a_room(place: Path) -> Iterator[Room]:
    """A small disk, or the pretence of one."""
    folder = place / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield PretendedDisk(folder)
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with a_room(tmp_path) as found:
        yield found


@pytest.fixture
def pretended(tmp_path: Path) -> Room:
    return PretendedDisk(tmp_path)


def test_nearly_full_disk_under_load(room: Room) -> None:
    """Batches get 503 and Retry-After while pulls go on, and are taken again once there is room."""
    refuse_and_recover(room)


def test_nearly_full_disk_by_its_word_under_load(pretended: Room) -> None:
    """As above where nothing can be mounted, so that this way of testing is tested itself."""
    refuse_and_recover(pretended)


def count(load: Load, verb: Verb, outcome: Seen, since: int) -> int:
    """How many operations from a place of the history on had an outcome."""
    return sum(
        operation.verb is verb and operation.outcome is outcome
        for operation in load.history[since:]
    )


async def until(load: Load, verb: Verb, outcome: Seen, wanted: int) -> None:
    """Wait for so many more operations of an outcome; fail, rather than wait for ever."""
    since = len(load.history)
    async with asyncio.timeout(PATIENCE_S):
        while count(load, verb, outcome, since) < wanted:
            await load.answered(1)


def refuse_and_recover(room: Room) -> None:
    room.leave(limits.STORE_RESERVE_BYTES + 32 * 1024 * 1024)
    program = Program(room.folder, environment=room.environment)
    load = Load(program, Random(SEED), Mix(feeders=6, pullers=2))

    async def fault() -> None:
        await until(load, Verb.INGEST, Seen.OK, 100)
        room.leave(limits.STORE_RESERVE_BYTES - 1024 * 1024)
        await until(load, Verb.INGEST, Seen.FAIL, 50)
        since = len(load.history)
        await until(load, Verb.PULL, Seen.OK, 100)
        assert count(load, Verb.INGEST, Seen.OK, since) == 0
        room.leave(limits.STORE_RESERVE_BYTES + 32 * 1024 * 1024)
        await until(load, Verb.INGEST, Seen.OK, 100)

    with program:
        asyncio.run(load.live(fault))
        assert not any(
            operation.verb is Verb.PULL and operation.outcome is not Seen.OK
            for operation in load.history
        )
        check_refusal(program, room)
        load.settle()


def check_refusal(program: Program, room: Room) -> None:
    """What a refused sender, a puller and a monitor see of it."""
    app = program.create_app()
    program.feed(app, statuses(3))
    room.leave(limits.STORE_RESERVE_BYTES - 1024 * 1024)
    program.until(lambda: program.metrics()["pullstatus_accepting"] == 0)
    token = program.create_token("monitor", app=app)
    program.until(lambda: program.post(f"/callbacks/{token}", b"[]").http_status != 401)
    for answer in (
        program.ingest(app, STATUS, statuses(1, first=9)),
        program.post(f"/callbacks/{token}", statuses(1, first=9)),
    ):
        assert answer.http_status == 503
        assert int(answer.header("retry-after") or 0) > 0
    assert program.pull(app, max=2).data == statuses(2)
    assert program.http.get("/readyz").status_code == 200
    room.leave(limits.STORE_RESERVE_BYTES + 32 * 1024 * 1024)
    program.until(lambda: program.metrics()["pullstatus_accepting"] == 1)
    program.feed(app, statuses(1, first=9))
    assert program.drain(app) == [*statuses(1, first=3), *statuses(1, first=9)]
    assert program.drain(app, REPLY) == []


def test_disk_without_a_free_block_under_load(room: Room) -> None:
    """Something else takes the last block: what cannot be kept is refused, with nothing done.

    The reserve is ours, but nobody can keep another program from eating it. With space back the
    same process goes on.
    """
    if not isinstance(room, SmallDisk):
        limit_the_files(room)
        return
    room.leave(limits.STORE_RESERVE_BYTES + 32 * 1024 * 1024)
    program = Program(room.folder)
    load = Load(program, Random(SEED))

    async def fault() -> None:
        await load.answered(200)
        room.leave(0)
        await until(load, Verb.INGEST, Seen.FAIL, 50)
        since = len(load.history)
        await load.answered(100)
        assert count(load, Verb.INGEST, Seen.OK, since) == 0
        room.leave(limits.STORE_RESERVE_BYTES + 32 * 1024 * 1024)
        await until(load, Verb.INGEST, Seen.OK, 50)
        await until(load, Verb.PULL, Seen.OK, 50)

    with program:
        asyncio.run(load.live(fault))
        assert Seen.UNKNOWN not in {operation.outcome for operation in load.history}
        load.settle()


def test_limit_on_the_size_of_files_under_load(pretended: Room) -> None:
    """A write that fails for any other reason ends the process; the next one finds it all."""
    limit_the_files(pretended)


def limit_the_files(room: Room) -> None:
    program = Program(room.folder)
    load = Load(program, Random(SEED))

    async def fault() -> None:
        assert program.process is not None
        await load.answered(200)
        size = (room.folder / "mailboxes.db-wal").stat().st_size
        for number in program.processes():
            resource.prlimit(number, resource.RLIMIT_FSIZE, (size, size))
        status = await asyncio.to_thread(program.process.wait, PATIENCE_S)
        assert status == 70, program.log()[-2000:]

    with doomed(program):
        asyncio.run(load.live(fault))
    with program:
        load.settle()

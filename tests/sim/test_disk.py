"""The crash disk is as bad as it says, and no worse."""

import contextlib
import gc
from random import Random

import apsw
import pytest

from tests.sim.disk import NEVER, VFS_NAME, CallKind, Disk, Fault, Inode, PowerCut

CRASHES = 200


def opened(disk: Disk) -> apsw.Connection:
    connection = apsw.Connection(disk.path(), vfs=VFS_NAME)
    connection.pragma("journal_mode", "wal")
    return connection


def make_table(disk: Disk) -> None:
    connection = opened(disk)
    connection.execute("CREATE TABLE t (x)")
    connection.close()


def crashed(inode: Inode) -> list[bytes]:
    return [bytes(inode.crashed(Random(seed))) for seed in range(CRASHES)]


def test_what_was_synced_survives() -> None:
    inode = Inode()
    inode.write(b"old" * 1000, 0)
    inode.sync()
    assert set(crashed(inode)) == {b"old" * 1000}


def test_unsynced_writes_survive_whole_torn_or_not_at_all() -> None:
    inode = Inode(b"a" * 8192)
    inode.write(b"b" * 8192, 0)
    found = crashed(inode)
    assert b"a" * 8192 in found
    assert b"b" * 8192 in found
    torn = [image for image in found if 0 < image.count(b"b") < 8192]
    assert torn
    assert all(
        image[at : at + 512] in {b"a" * 512, b"b" * 512}
        for image in torn
        for at in range(0, 8192, 512)
    )


def test_unsynced_writes_survive_out_of_order() -> None:
    inode = Inode(b"a" * 1024)
    inode.write(b"b" * 512, 0)
    inode.write(b"c" * 512, 512)
    assert b"a" * 512 + b"c" * 512 in crashed(inode)


def test_a_file_may_have_grown_without_its_data() -> None:
    inode = Inode(b"a" * 512)
    inode.write(b"b" * 1024, 512)
    found = crashed(inode)
    assert {512, 1536} == {len(image) for image in found}
    tails = {image[512:1024] for image in found if len(image) == 1536}
    assert bytes(512) in tails
    assert b"b" * 512 in tails
    assert len(tails) > 2  # rubbish


def test_an_unsynced_truncation_may_not_have_happened() -> None:
    inode = Inode(b"a" * 2048)
    inode.truncate(0)
    assert set(crashed(inode)) == {b"a" * 2048, b""}


def test_names_survive_in_order_and_for_certain_once_synced() -> None:
    disk = Disk()
    disk.make("a")
    disk.sync_names()
    disk.make("b")
    disk.remove("a")
    found = {tuple(sorted(disk.crash(Random(seed)).names)) for seed in range(CRASHES)}
    assert found == {("a",), ("a", "b"), ("b",)}


def test_a_database_lives_on_it_and_its_synced_commits_survive() -> None:
    disk = Disk()
    connection = opened(disk)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (7)")
    found = disk.crash(Random(1))
    connection.close()
    assert opened(found).execute("SELECT x FROM t").get == 7


@pytest.mark.parametrize("left", range(12))
def test_after_a_cut_nothing_changes(left: int) -> None:
    disk = Disk()
    connection = opened(disk)
    connection.execute("CREATE TABLE t (x)")
    disk.left = left
    inserts = "INSERT INTO t VALUES (randomblob(9000));" * 12
    with pytest.raises(PowerCut):
        connection.execute(inserts)
    before = [bytes(inode.content) for inode in disk.names.values()]
    for statement in ("INSERT INTO t VALUES (1)", "PRAGMA wal_checkpoint"):
        with contextlib.suppress(PowerCut, apsw.Error):
            connection.execute(statement)
    assert disk.dark
    disk.crash(Random(left))
    del connection
    gc.collect()
    assert [bytes(inode.content) for inode in disk.names.values()] == before


def test_a_cut_falls_into_every_write() -> None:
    """Counting down from the number of calls leaves no call out."""
    for left in range(NEVER):
        disk = Disk()
        disk.left = left
        try:
            make_table(disk)
        except PowerCut:
            disk.abandoned = True
            continue
        break
    else:
        raise AssertionError
    assert left > 10


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("read", apsw.IOError),
        ("write", apsw.IOError),
        ("sync", apsw.IOError),
        ("open", apsw.CantOpenError),
    ],
)
def test_calls_fail_once_or_for_good(kind: CallKind, error: type[apsw.Error]) -> None:
    for forever in (False, True):
        disk = Disk()
        opened(disk).close()
        disk.fault = Fault(kind, 1, forever=forever)
        for attempt in range(2):
            if forever or attempt == 0:
                with pytest.raises(error):
                    make_table(disk)
            else:
                make_table(disk)
        assert disk.fault.fired >= 1
        disk.abandoned = True


def test_a_failed_sync_can_make_the_kernel_forget() -> None:
    disk = Disk()
    connection = opened(disk)
    connection.execute("CREATE TABLE t (x)")
    connection.pragma("synchronous", 2)
    disk.fault = Fault("sync", 1, forgets=True)
    with pytest.raises(apsw.IOError):
        connection.execute("INSERT INTO t VALUES (1)")
    inode = disk.names["store.db-wal"]
    assert not inode.pending
    assert len(inode.durable) < len(inode.content)


def test_a_full_disk_takes_what_fits() -> None:
    disk = Disk()
    connection = opened(disk)
    disk.capacity_bytes = sum(len(inode.content) for inode in disk.names.values()) + 100
    with pytest.raises(apsw.FullError):
        connection.execute("CREATE TABLE t (x)")
    assert sum(len(inode.content) for inode in disk.names.values()) == disk.capacity_bytes
    disk.capacity_bytes = None
    connection.execute("CREATE TABLE t (x)")


def test_a_copy_is_what_a_killed_process_leaves() -> None:
    """What was written but not synced is seen by the next process, and still not certain."""
    disk = Disk()
    disk.make("a").write(b"x" * 512, 0)
    other = disk.copy()
    assert other.names["a"].content == b"x" * 512
    assert {tuple(other.crash(Random(seed)).names) for seed in range(CRASHES)} == {(), ("a",)}


def test_syncs_can_be_ignored() -> None:
    disk = Disk()
    disk.ignores_sync = True
    make_table(disk)
    assert not any(inode.durable for inode in disk.names.values())
    assert disk.crash(Random(0)).ignores_sync

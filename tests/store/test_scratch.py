"""Stores that are thrown away: nothing of them stays, even if whoever made one was killed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from pullstatus.errors import StoreRefused
from pullstatus.store.scratch import scratch_store
from pullstatus.store.sqlite.location import parse_url


def test_what_a_killed_process_has_left_in_a_place_is_removed(tmp_path: Path) -> None:
    """Of this purpose, by its name; a link is no folder, and what it leads to is somebody's."""
    theirs = tmp_path / "theirs"
    left = tmp_path / "pullstatus-backup-abc_12xy"
    others = [
        tmp_path / name for name in ("theirs", "pullstatus-backup-old", "pullstatus-demo-abc_12xy")
    ]
    for folder in (left, *others):
        folder.mkdir()
        (folder / "mailboxes.db").write_text("half")
    link = tmp_path / "pullstatus-backup-abc_12xz"
    link.symlink_to(theirs)
    with scratch_store("backup", tmp_path):
        assert not left.exists()
    assert set(tmp_path.iterdir()) == {*others, link}
    assert all((folder / "mailboxes.db").exists() for folder in others)


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    with scratch_store("backup", tmp_path):
        [first] = tmp_path.iterdir()
        with scratch_store("backup", tmp_path):
            assert first.exists()
            assert len(list(tmp_path.iterdir())) == 2
        assert list(tmp_path.iterdir()) == [first]
        shutil.rmtree(first)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_store_is_free_for_the_store(tmp_path: Path) -> None:
    """Else it waits for that at each opening and closing."""
    with scratch_store("backup", tmp_path) as url:
        folder = parse_url(url).path.parent
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_where_there_are_no_locks_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    left = tmp_path / "pullstatus-backup-abc_12xy"
    left.mkdir()
    with scratch_store("backup", tmp_path):
        assert left.exists()
    assert list(tmp_path.iterdir()) == [left]


def test_a_place_that_was_named_is_told_when_it_is_missing(tmp_path: Path) -> None:
    """A cluster's backup makes its store there, and TMPDIR has nothing to do with it."""
    missing = tmp_path / "none"
    with pytest.raises(StoreRefused) as told, scratch_store("backup", missing):
        pass
    assert f"in {missing} (No such file or directory); name a folder" in str(told.value)

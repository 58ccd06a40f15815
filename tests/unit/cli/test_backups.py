"""A folder of backups."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from pullstatus.cli.backups import backup_in, clear, prune
from pullstatus.mailbox import done

DAY_MS = 86_400_000


def test_names_sort_by_time_and_only_such_files_go(tmp_path: Path) -> None:
    backups = [backup_in(tmp_path, DAY_MS * day) for day in (20_000, 20_001, 20_030)]
    assert backups == sorted(backups)
    assert backups[0].name == "pullstatus-20241004T000000Z.db"
    others = [
        tmp_path / name for name in ("monday.db", "pullstatus-20241004T000000Z.db-master-key")
    ]
    for path in [*backups, *others]:
        path.touch()
    assert prune(backups[-1], 2) == backups[:1]
    assert prune(backups[-1], 2) == []
    assert sorted(tmp_path.iterdir()) == sorted([*backups[1:], *others])


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_what_was_just_made_stays_though_a_clock_was_ahead(tmp_path: Path, keep: int) -> None:
    store, folder = tmp_path / "mailboxes.db", tmp_path / "backups"
    CliRunner().invoke(main, ["app", "create", "1400006666", "--store", f"sqlite:///{store}"])
    folder.mkdir()
    ahead = [backup_in(folder, DAY_MS * day) for day in (100_000, 100_001, 100_002)]
    for path in ahead:
        path.touch()
    told = json.loads(backup("--into", str(folder), "--keep", str(keep), store=store).stdout)
    gone = len(ahead) + 1 - keep
    assert told["removed"] == [str(path) for path in ahead[:gone]]
    assert sorted(folder.iterdir()) == sorted([Path(told["backup"]), *ahead[gone:]])


def backup(*arguments: str, store: Path) -> Result:
    return CliRunner().invoke(main, ["backup", *arguments, "--store", f"sqlite:///{store}"])


def test_a_new_backup_lets_the_oldest_go_once_it_is_sound(tmp_path: Path) -> None:
    store, folder = tmp_path / "mailboxes.db", tmp_path / "backups"
    CliRunner().invoke(main, ["app", "create", "1400006666", "--store", f"sqlite:///{store}"])
    folder.mkdir()
    old = backup_in(folder, DAY_MS)
    old.touch()
    missing = backup("--into", str(folder), "--keep", "1", store=tmp_path / "none.db")
    assert missing.exit_code == 1
    assert old.exists()
    told = json.loads(backup("--into", str(folder), "--keep", "1", store=store).stdout)
    assert told["removed"] == [str(old)]
    assert list(folder.iterdir()) == [Path(told["backup"])]
    assert Path(told["backup"]).stat().st_size == told["bytes"]


def test_a_backup_that_the_store_takes_no_note_of_is_one_of_those_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in a folder that its user only reads, or one that is sealed to be moved."""
    store, folder = tmp_path / "mailboxes.db", tmp_path / "backups"
    CliRunner().invoke(main, ["app", "create", "1400006666", "--store", f"sqlite:///{store}"])
    folder.mkdir()
    assert backup(str(tmp_path / "first.db"), store=store).exit_code == 0
    monkeypatch.setattr("pullstatus.store.sqlite.engine.can_only_be_read", lambda _path: True)
    for day in range(1, 4):
        monkeypatch.setattr("pullstatus.cli.soundness.wall_ms", lambda day=day: DAY_MS * day)
        made = backup("--into", str(folder), "--keep", "2", store=store)
        assert made.exit_code == 3
        assert "the backup is whole, but the store takes no note of it" in made.stderr
        assert Path(json.loads(made.stdout)["backup"]).exists()
    assert sorted(folder.iterdir()) == [backup_in(folder, DAY_MS * day) for day in (2, 3)]


def test_a_store_that_was_moved_away_is_not_backed_up(tmp_path: Path) -> None:
    """By its name the copy would be the newest there is, of what is long out of date."""
    store, folder, new = (tmp_path / name for name in ("mailboxes.db", "backups", "new.db"))
    CliRunner().invoke(main, ["app", "create", "1400006666", "--store", f"sqlite:///{store}"])
    folder.mkdir()
    shutil.copy2(f"{store}-master-key", f"{new}-master-key")
    ends = ("--from", f"sqlite:///{store}", "--to", f"sqlite:///{new}")
    assert CliRunner().invoke(main, ["migrate", *ends]).exit_code == 0
    refused = backup("--into", str(folder), "--keep", "1", store=store)
    assert refused.exit_code == 1
    assert f"was moved to sqlite:///{new}: use that one instead" in refused.stderr
    assert list(folder.iterdir()) == []


def test_what_to_write_is_said_once(tmp_path: Path) -> None:
    store = tmp_path / "mailboxes.db"
    for arguments in ([], ["a.db", "--into", str(tmp_path)], ["a.db", "--keep", "3"]):
        refused = backup(*arguments, store=store)
        assert refused.exit_code == 2
        assert "--into" in refused.output


def two_stores(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A folder for backups, and two stores of the same name."""
    stores = [tmp_path / name / "mailboxes.db" for name in ("mine", "hers")]
    for number, store in enumerate(stores, start=1400006666):
        store.parent.mkdir()
        CliRunner().invoke(main, ["app", "create", str(number), "--store", f"sqlite:///{store}"])
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder, stores


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_backups_of_another_store_stay(tmp_path: Path, keep: int) -> None:
    """And those of ours go, by which version they ever were made; what cannot be read stays."""
    folder, stores = two_stores(tmp_path)
    made: list[list[Path]] = []
    for store in stores:
        made.append([backup_in(folder, DAY_MS * (len(made) + 2 * day)) for day in range(1, 4)])
        for path in made[-1]:
            assert backup(str(path), store=store).exit_code == 0
    odd = backup_in(folder, DAY_MS * 9)
    odd.write_bytes(b"no backup")
    told = json.loads(backup("--into", str(folder), "--keep", str(keep), store=stores[0]).stdout)
    gone = made[0][: max(0, 4 - keep)]
    assert told["removed"] == [str(path) for path in gone]
    stays = {*made[0], *made[1], odd, Path(told["backup"])} - set(gone)
    assert set(folder.iterdir()) == stays


def test_who_removes_beside_another_loses_no_good_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have made one, and each is to leave one alone: one of them stays, and both are told."""
    folder, [store, _] = two_stores(tmp_path)
    old, first, second = (backup_in(folder, DAY_MS * day) for day in (1, 2, 3))
    for path in (old, first, second):
        assert backup(str(path), store=store).exit_code == 0
    unlink = Path.unlink
    within: list[list[Path]] = []

    def beside(path: Path, *, missing_ok: bool = False) -> None:
        if not within:
            within.append(prune(second, 1))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", beside)
    assert prune(first, 1) == [old, second]
    assert within == [[]]
    assert prune(second, 1) == []
    assert list(folder.iterdir()) == [first]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("options", [[], ["--keep", "2"]])
def test_what_killed_backups_have_left_is_removed(tmp_path: Path, options: list[str]) -> None:
    """But not what somebody is at, nor what is none of ours by its name."""
    folder, [store, _] = two_stores(tmp_path)
    old, at_it = (backup_in(folder, DAY_MS * day).name for day in (1, 2))
    mine = {f"{old}.part", f"{old}.part-journal", f"{old}.part-lock"}
    stays = {f"{at_it}.part", f"{at_it}.part-lock", "monday.db.part", f"{old}.partly"}
    for name in mine | stays:
        (folder / name).write_text("half")
    with (folder / f"{at_it}.part-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = backup("--into", str(folder), *options, store=store)
        assert told.exit_code == 0, told.output
        made = json.loads(told.stdout)["backup"]
        assert left_in(folder) == stays | {Path(made).name}
    assert f"removed {old}.part, of a backup that was ended" in told.stderr
    clear(folder)
    assert left_in(folder) == {"monday.db.part", f"{old}.partly", Path(made).name}


KILLED = """
import os, signal
from pullstatus.cli import main
from pullstatus.store.sqlite import copies
copies._check_sound = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_what_a_backup_leaves_that_is_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    folder, [store, _] = two_stores(tmp_path)
    arguments = ["backup", "--into", str(folder), "--store", f"sqlite:///{store}"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert {path.suffix for path in folder.iterdir()} == {".part", ".part-lock"}
    told = backup("--into", str(folder), store=store)
    assert [str(path) for path in folder.iterdir()] == [json.loads(told.stdout)["backup"]]


def test_what_cannot_be_removed_is_told_and_in_nobodys_way(tmp_path: Path) -> None:
    folder, [store, _] = two_stores(tmp_path)
    left = folder / f"{backup_in(folder, DAY_MS).name}.part"
    left.mkdir()
    told = backup("--into", str(folder), store=store)
    assert told.exit_code == 0
    assert f"{left.name} cannot be removed" in told.stderr
    assert left.is_dir()


def test_backup_that_somebody_else_removes_at_once_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, [store, _] = two_stores(tmp_path)
    old = backup_in(folder, DAY_MS)
    old.touch()
    note = done.note

    async def remove_all(*arguments: object) -> None:
        await note(*arguments)  # type: ignore[arg-type]
        for path in folder.iterdir():
            path.unlink()

    monkeypatch.setattr(done, "note", remove_all)
    told = backup("--into", str(folder), "--keep", "1", store=store)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["removed"] == []

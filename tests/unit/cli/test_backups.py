"""A folder of backups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from pullstatus.cli.backups import backup_in, prune

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


def test_what_to_write_is_said_once(tmp_path: Path) -> None:
    store = tmp_path / "mailboxes.db"
    for arguments in ([], ["a.db", "--into", str(tmp_path)], ["a.db", "--keep", "3"]):
        refused = backup(*arguments, store=store)
        assert refused.exit_code == 2
        assert "--into" in refused.output

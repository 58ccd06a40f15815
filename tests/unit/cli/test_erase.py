"""What `erase` ends with where not all of it could go."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pullstatus import apps
from pullstatus.cli import main
from pullstatus.cli.statuses import LEFT
from pullstatus.errors import EntriesLeft
from pullstatus.mailbox import erasing


@pytest.mark.parametrize("whose", [("--number", "+8613800138000"), ("--sdkappid", "7")])
def test_what_is_left_has_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: tuple[str, str]
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise EntriesLeft("what is counted is made anew again and again")

    store = ("--store", f"sqlite:///{tmp_path}/store.db?commits=thread")
    assert CliRunner().invoke(main, ["app", "create", "7", *store]).exit_code == 0
    monkeypatch.setattr(erasing, "erase_number", fail)
    monkeypatch.setattr(apps, "erase_application", fail)
    done = CliRunner().invoke(main, ["erase", *whose, "--reason", "asked", "--yes", *store])
    assert (done.exit_code, done.stdout) == (LEFT, "")
    assert "made anew again and again" in done.stderr

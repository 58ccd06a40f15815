"""`pullstatus reindex`: what is derived of records is made anew, beside a running server."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from pullstatus.mailbox.following import Follower
from pullstatus.store import Append, Mailbox, open_store
from tests.harness import App, Program, status, statuses
from tests.store.build import pull

SDKAPPID = 1400006666
NOW_MS = 1_800_000_000_000
EVER = ("--from", "2020-01-01", "--to", "2030-01-01")


def counts(program: Program, app: App) -> Any:  # noqa: ANN401 - JSON
    return program.cli("stats", str(app.sdkappid), "--from", "2h", "--json")["all"]


def test_what_is_derived_is_made_anew(shared: Program, app: App) -> None:
    """Counts and what is found stay, and it is on record; going on drops nothing."""
    number = str(app.sdkappid)
    shared.feed(app, [*statuses(120), status(777, sid="8:777")])
    shared.pull(app)
    before = counts(shared, app)
    assert before["receipts"] == 121
    done = shared.cli("reindex", "--sdkappid", number, "--reason", "a test")
    assert done["records"] in range(122)  # a server may have followed some of them meanwhile
    [found] = shared.cli("find", "--sid", "8:777", "--app", number, "--json")
    assert found["first"] == 121
    assert shared.cli("reindex", "--sdkappid", number, "--resume") == {"records": 0}
    assert counts(shared, app) == before
    acts = shared.cli("acts", "list", "--sdkappid", number, "--json")
    assert ("reindex", "a test") in [(act["action"], act["reason"]) for act in acts]
    assert shared.cli("audit", "--json")["sound"]


def test_an_application_that_there_is_not_is_not_made_anew(shared: Program) -> None:
    done = CliRunner().invoke(main, ["reindex", "--sdkappid", "7", "--store", shared.store])
    assert done.exit_code == 1
    assert "application 7 does not exist" in done.output


class Damaged:
    """A store of three records, two of which were followed; its file can be damaged."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "damaged.db"
        self.run("app", "create", str(SDKAPPID))
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        store = await open_store(f"sqlite:///{self._file}?file-system=any&commits=thread")
        entries = [msgspec.json.encode(status(number)) for number in range(3)]
        await store.append(Append(Mailbox(SDKAPPID, 0), entries[:2], NOW_MS))
        await Follower(store, secrets.token_hex).work()
        await store.append(Append(Mailbox(SDKAPPID, 0), entries[2:], NOW_MS))
        await store.close()

    def remove_one(self) -> None:
        """What left is removed, as by retention."""
        asyncio.run(self._remove_one())

    async def _remove_one(self) -> None:
        store = await open_store(f"sqlite:///{self._file}?file-system=any&commits=thread")
        await store.pull(pull(Mailbox(SDKAPPID, 0), 1, at_ms=NOW_MS))
        await store.purge(left_before_ms=NOW_MS + 1)
        await store.close()

    def bend(self, statement: str) -> None:
        connection = apsw.Connection(str(self._file))
        connection.execute(statement)
        connection.close()

    def run(self, *arguments: str) -> Result:
        url = f"sqlite:///{self._file}?file-system=any"
        done = CliRunner().invoke(main, [*arguments, "--store", url])
        assert isinstance(done.exception, SystemExit | None), done.exc_info
        return done

    def receipts(self) -> int:
        told = json.loads(self.run("stats", str(SDKAPPID), *EVER, "--json").stdout)
        assert isinstance(told["all"]["receipts"], int)
        return told["all"]["receipts"]


@pytest.mark.parametrize("bend", ["accepted_ms | 1 << 48", "1 << 62", "-accepted_ms"])
def test_a_time_that_is_none_is_a_finding_and_no_traceback(tmp_path: Path, bend: str) -> None:
    damaged = Damaged(tmp_path)
    damaged.bend(f"UPDATE chunk SET accepted_ms = {bend}")
    for _ in range(2):
        done = damaged.run("audit", "--json")
        assert done.exit_code == 1
        problems = json.loads(done.stdout)["problems"]
        assert {problem["mailbox"] for problem in problems} == {f"{SDKAPPID}/delivery-statuses"}
        assert any("a time that is none" in problem["problem"] for problem in problems)
        assert damaged.run("stats", str(SDKAPPID), *EVER).exit_code == 0
        assert damaged.run("reindex").exit_code == 0


def test_what_a_damaged_tally_says_to_do_heals_it(tmp_path: Path) -> None:
    """Of each hour, whatever it counts; and nobody stands still for it until then."""
    damaged = Damaged(tmp_path)
    damaged.bend("INSERT INTO tally VALUES (0, 99, 2027011516, x'00')")  # by a platform's token
    damaged.bend(f"INSERT INTO tally VALUES ({SDKAPPID}, 17, 2027011516, x'00')")  # sends
    damaged.bend(f"INSERT INTO tally VALUES ({SDKAPPID}, 0, 2027011509, x'00')")  # of no entry
    damaged.bend("UPDATE tally SET counts = x'ffff'")
    done = damaged.run("stats", str(SDKAPPID), *EVER)
    assert done.exit_code == 1
    assert "run `pullstatus reindex`" in done.output
    done = damaged.run("audit", "--json")
    assert done.exit_code == 1
    problems = json.loads(done.stdout)["problems"]
    assert {problem["mailbox"] for problem in problems} == {f"{SDKAPPID}/delivery-statuses", None}
    assert all("run `pullstatus reindex`" in problem["problem"] for problem in problems)
    assert damaged.run("reindex", "--resume").exit_code == 0  # as a server follows
    assert damaged.run("reindex").exit_code == 0
    assert json.loads(damaged.run("audit", "--json").stdout)["problems"] == []
    assert damaged.receipts() == 3


def test_a_damaged_tally_of_an_hour_of_which_some_is_removed_counts_what_is_left(
    tmp_path: Path,
) -> None:
    damaged = Damaged(tmp_path)
    damaged.remove_one()
    assert damaged.receipts() == 3
    damaged.bend("UPDATE tally SET counts = x'ffff'")
    assert damaged.run("reindex", "--sdkappid", str(SDKAPPID)).exit_code == 0
    assert json.loads(damaged.run("audit", "--json").stdout)["problems"] == []
    assert damaged.receipts() == 2

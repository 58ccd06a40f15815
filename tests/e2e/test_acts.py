"""`pullstatus acts`: what every command of an operator, and the server, leaves on record."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from pullstatus.apps import tally
from tests.e2e.test_cli import FIXED_KEY, bad, good, on_a_terminal, run
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    App,
    Program,
    clean_environment,
    status,
    statuses,
)

PHONE, TEXT = "13800138000", "meet me at noon"
OTHER_KEY = "0123456789abcdef0123456789abcdef"


def test_every_command_is_listed_newest_first_and_tells_no_secret(tmp_path: Path) -> None:
    """Not even one that is in a customer's name, in a file of applications or in a backup's."""
    rows = tmp_path / "apps.ndjson"
    rows.write_text(json.dumps({"sdkappid": 8, "name": f"{PHONE} {TEXT}", "appkey": FIXED_KEY}))
    good(tmp_path, "app", "create", "7", "--appkey", FIXED_KEY, "--name", f"{PHONE} {TEXT}")
    good(tmp_path, "app", "import", str(rows))
    good(tmp_path, "app", "set", "7", "--rate", "5", "--name", f"{TEXT} {FIXED_KEY}")
    good(tmp_path, "app", "disable", "8")
    good(tmp_path, "app", "rotate-key", "7", "--appkey", OTHER_KEY)
    good(tmp_path, "app", "drop-key", "7", "--ends-with", FIXED_KEY[-4:])
    secret = good(tmp_path, "token", "create", "carrier", "--sdkappid", "7")["token"]
    good(tmp_path, "token", "revoke", "carrier")
    bad(tmp_path, "app", "create", "7")
    good(tmp_path, "app", "delete", "7", "--erase")
    listed = good(tmp_path, "acts", "list", "--json")
    assert [row["action"] for row in listed[::-1]] == [
        *("app create", "app import", "app set", "app disable", "app rotate-key", "app drop-key"),
        *("token create", "token revoke", "app delete"),
    ]
    assert [row["act"] for row in listed] == list(range(9, 0, -1))
    assert {row["actor"] for row in listed} == {getpass.getuser()}
    assert listed[0]["detail"] == {"sdkappid": 7, "erase": True}
    hashes = "[0-9a-f]{64}"  # in which anything may be
    told = re.sub(hashes, "", json.dumps(listed))
    table = re.sub(hashes, "", on_a_terminal(tmp_path, "acts list"))
    for canary in (PHONE, TEXT, FIXED_KEY, FIXED_KEY[-4:], OTHER_KEY, OTHER_KEY[-4:], secret):
        assert canary not in told
        assert canary not in table
    assert "sdkappid 7, erase on" in table

    def acts(*options: str) -> list[int]:
        return [row["act"] for row in json.loads(run(tmp_path, "acts", "list", *options).stdout)]

    assert acts("--sdkappid", "8") == [4, 2]
    assert acts("--actor", "nobody") == []
    assert acts("--actor", getpass.getuser(), "--limit", "2") == [9, 8]
    assert acts("--to", "1h") == []
    assert acts("--from", "1h", "--sdkappid", "7") == [9, 8, 7, 6, 5, 3, 1]


def test_what_was_done_to_what_an_application_is_read_by_is_among_its_acts(tmp_path: Path) -> None:
    for number in ("7", "8"):
        good(tmp_path, "app", "create", number)
    good(tmp_path, "token", "create", "carrier", "--sdkappid", "7")
    good(tmp_path, "token", "set", "carrier", "--unsigned")
    pair = good(tmp_path, "secret", "create", "--app", "7")["secret_id"]
    good(tmp_path, "secret", "disable", pair)
    good(tmp_path, "secret", "set", pair, "--app", "8")
    good(tmp_path, "secret", "enable", pair)
    good(tmp_path, "token", "revoke", "carrier")

    def acts(number: str) -> list[str]:
        return [row["action"] for row in good(tmp_path, "acts", "list", "--sdkappid", number)][::-1]

    assert acts("7")[1:] == [
        *("token create", "token set", "secret create", "secret disable", "secret set"),
        "token revoke",
    ]
    assert acts("8")[1:] == ["secret set", "secret enable"]


def test_redelivery_erasure_and_restore_are_on_record(tmp_path: Path) -> None:
    """And an act stays in a backup, so that a restored store tells all of it."""
    program = Program(tmp_path)
    with program:
        app = program.create_app()
        program.feed(app, statuses(3))
        page = program.pull(app, max=2)
        name = page.header("pullstatus-pull-id")
        assert name is not None
        done = program.cli("redeliver", "--pull", name, "--reason", "their disk was full")
        assert program.cli("pulls", "show", name)["again"] == []
    number = str(app.sdkappid)
    program.cli("app", "delete", number, "--erase")
    program.cli("backup", str(tmp_path / "backup.db"))
    store = ["--store", f"sqlite:///{tmp_path}/restored.db"]
    assert run(tmp_path, "restore", str(tmp_path / "backup.db"), *store).exit_status == 0
    restored, deleted, redelivered, *_ = good(tmp_path, "acts", "list", *store)
    assert (restored["action"], restored["detail"]) == ("restore", {"epoch": 2})
    assert (deleted["action"], deleted["detail"]["erase"]) == ("app delete", True)
    assert redelivered["act"] == done["act"]
    assert redelivered["reason"] == "their disk was full"
    assert redelivered["detail"].pop("newest_ms") > 0
    assert redelivered["detail"] == {
        "by": f"pull {name}",
        "count": 2,
        "mailboxes": [f"{number}/delivery-statuses"],
    }
    assert good(tmp_path, "audit", *store)["sound"]
    named = good(tmp_path, "acts", "list", "--sdkappid", number, *store)
    assert [row["action"] for row in named] == ["app delete", "redeliver", "app create"]


@pytest.mark.parametrize("more", ["", " --json", " > found"])
def test_whoever_sits_at_a_terminal_is_asked_before_a_redelivery(tmp_path: Path, more: str) -> None:
    """However what is found is to be shown."""
    program = Program(tmp_path)
    with program:
        app = program.create_app()
        program.feed(app, statuses(2))
        program.drain(app)
    command = f"{COMMAND} redeliver --from 1h --to 0s --reason r --store {program.store}{more}"
    for answer, copied in (("n", 0), ("y", 2)):
        spawn = "import pty, sys; sys.exit(pty.spawn(['sh', '-c', sys.argv[1]]) >> 8)"
        done = subprocess.run(
            [sys.executable, "-c", spawn, command],
            cwd=tmp_path,
            env=clean_environment(),
            input=f"{answer}\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "[y/N]" in done.stdout, done
        assert done.returncode == (1 if answer == "n" else 0)
        [row] = good(tmp_path, "app", "list", "--store", program.store, "--json")
        assert row["waiting"] == copied


def test_a_redelivery_that_cannot_be_told_is_told_to_be_done(tmp_path: Path) -> None:
    """Else whoever runs it again has the customer get the records once more."""
    program = Program(tmp_path)
    with program:
        app = program.create_app()
        program.feed(app, statuses(2))
        program.drain(app)
    words = ("--from", "1h", "--to", "0s", "--reason", "r", "--store", program.store)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, "redeliver", *words],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    row, *_ = good(tmp_path, "acts", "list", "--store", program.store)
    assert row["action"] == "redeliver"
    assert done.returncode == 1
    assert f"Act {row['act']} was done" in done.stderr
    assert "acts list" in done.stderr


def test_a_redelivery_of_which_nothing_is_left_is_none(tmp_path: Path) -> None:
    """Nor is a reason for what is only looked at kept anywhere: it is refused."""
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, [status(1, mobile=PHONE)])
        name = program.pull(app).header("pullstatus-pull-id")
        assert name is not None
        store = ("--store", program.store)
        assert "--records" in bad(
            tmp_path, "pulls", "show", name, "--reason", "a", *store, exit_status=2
        )
        program.cli("erase", "--number", f"+86{PHONE}", "--reason", "she asked", "--yes")
        done = run(tmp_path, "redeliver", "--pull", name, "--reason", "their disk was full", *store)
        assert done.exit_status == 1
        assert "all of it was erased" in done.stderr
        told = json.loads(done.stdout)
        assert (told["redelivered"], told["act"], told["damaged"]) == (0, None, [])


# --- acts verify ----------------------------------------------------------------------------------


def tampered(folder: Path, statement: str) -> None:
    connection = apsw.Connection(str(folder / "pullstatus.db"))
    connection.execute(statement)
    connection.close()


def recorded(folder: Path) -> list[dict[str, Any]]:
    """A store with four acts; its rows, oldest first."""
    for number in "6789":
        good(folder, "app", "create", number)
    return list(good(folder, "acts", "list")[::-1])


def test_acts_are_proven_by_their_hashes(tmp_path: Path) -> None:
    rows = recorded(tmp_path)
    newest = {"act": 4, "hash": rows[3]["hash"]}
    sound = {"sound": True, "acts": 4, "newest": newest, "problems": []}
    assert good(tmp_path, "acts", "verify") == sound
    for row in rows:
        assert good(tmp_path, "acts", "verify", "--hash", row["hash"].upper()) == sound
        at = ("--at", str(row["act"]))
        assert good(tmp_path, "acts", "verify", "--hash", row["hash"], *at) == sound
    for command in ("acts verify", "acts list --sdkappid 9"):
        told = on_a_terminal(tmp_path, command, columns=200)
        assert f"Newest: act 4, hash {newest['hash']}" in told
    assert "Sound: 4 acts" in on_a_terminal(tmp_path, "acts verify")


@pytest.mark.parametrize(
    ("statement", "acts"),
    [
        ("UPDATE act SET detail = replace(detail, '7', '8') WHERE id = 2", [2]),
        ("UPDATE act SET actor = 'somebody else'", [1, 2, 3, 4]),
        ("DELETE FROM act WHERE id = 3", [4]),
        ("DELETE FROM act WHERE id IN (1, 2)", [3]),
        ("UPDATE act SET id = -id WHERE id = 1", [-1]),
        (
            "INSERT INTO act SELECT 5, NULL, 7, actor, action, '', detail, hash FROM act LIMIT 1",
            [5],
        ),
    ],
)
def test_what_was_done_to_the_record_is_told_with_where(
    tmp_path: Path, statement: str, acts: list[int]
) -> None:
    recorded(tmp_path)
    tampered(tmp_path, statement)
    done = run(tmp_path, "acts", "verify", "--json")
    told = json.loads(done.stdout)
    assert done.exit_status == 1
    assert not told["sound"]
    assert [problem["act"] for problem in told["problems"]] == acts
    for problem in told["problems"]:
        assert problem["problem"] in done.stderr
        assert f"act {problem['act']} is not what was recorded" in problem["problem"]
        assert (
            f"hash {problem['expected']} was expected, it has {problem['found']}"
            in (problem["problem"])
        )
    assert run(tmp_path, "audit").exit_status == 1
    assert run(tmp_path, "backup", str(tmp_path / "copy.db")).exit_status == 1


def test_a_hash_that_was_kept_tells_what_the_rows_cannot(tmp_path: Path) -> None:
    """The newest are cut off, or the whole chain was made anew."""
    rows = recorded(tmp_path)
    kept = rows[3]["hash"]

    def wrong(*options: str) -> str:
        done = run(tmp_path, "acts", "verify", "--hash", kept, *options)
        assert done.exit_status == 1
        [problem] = json.loads(done.stdout)["problems"]
        assert problem["expected"] == kept
        assert problem["problem"] in done.stderr
        return str(problem["problem"])

    assert "act 3 has not the hash that was kept" in wrong("--at", "3")
    tampered(tmp_path, "DELETE FROM act WHERE id > 2")
    assert good(tmp_path, "acts", "verify")["newest"] == {"act": 2, "hash": rows[1]["hash"]}
    assert good(tmp_path, "acts", "verify", "--hash", rows[1]["hash"])["sound"]
    assert "no act has the hash that was kept" in wrong()
    assert "act 4 is not there, and the newest act is 2" in wrong("--at", "4")
    for number in "89":  # somebody goes on as if nothing had been
        good(tmp_path, "app", "disable", number)
    assert good(tmp_path, "acts", "verify")["acts"] == 4
    assert "act 4 has not the hash that was kept" in wrong("--at", "4")
    tampered(tmp_path, "DELETE FROM act")
    assert good(tmp_path, "acts", "verify")["newest"] is None
    assert "there is no act" in wrong("--at", "4")


@pytest.mark.parametrize("options", [["--hash", "12"], ["--hash", "x" * 64], ["--at", "3"]])
def test_what_is_no_hash_is_refused(tmp_path: Path, options: list[str]) -> None:
    recorded(tmp_path)
    bad(tmp_path, "acts", "verify", *options, exit_status=2)


def test_backup_and_restore_keep_the_chain(tmp_path: Path) -> None:
    rows = recorded(tmp_path)
    good(tmp_path, "backup", str(tmp_path / "backup.db"))
    good(tmp_path, "app", "disable", "9")
    later = good(tmp_path, "acts", "verify")["newest"]
    store = ["--store", f"sqlite:///{tmp_path}/restored.db"]
    shutil.copy(tmp_path / "pullstatus.db-master-key", tmp_path / "restored.db-master-key")
    assert run(tmp_path, "restore", str(tmp_path / "backup.db"), *store).exit_status == 0
    kept = ["--hash", rows[3]["hash"], "--at", "4"]
    assert good(tmp_path, "acts", "verify", *kept, *store)["acts"] == 5
    done = run(tmp_path, "acts", "verify", "--hash", later["hash"], *store)
    assert done.exit_status == 1
    assert "or this store is restored from an older backup" in done.stderr


# --- the server's own -----------------------------------------------------------------------------


def test_failed_tries_go_on_record_when_the_server_stops(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with program:
        app = program.create_app()
        before = len(program.cli("acts", "list"))
        stranger = App(app.sdkappid, "0" * 32)
        for _ in range(3):
            assert program.post(*stranger.request()).result == 1001
        assert program.pull(app).result == 0
        assert program.post("/callbacks/pst_canary", b"[]").http_status == 401
        assert len(program.cli("acts", "list")) == before
    rows = program.cli("acts", "list")
    assert [(row["actor"], row["action"]) for row in rows[:2]] == [("server", "failed tries")] * 2
    told = [row["detail"] for row in rows[: len(rows) - before]]
    for detail in told:
        assert detail.pop("since")[:2] == "20"
    assert told == [
        {"what": "signature", "sdkappid": app.sdkappid, "tries": 3, "addresses": 1},
        {"what": "token", "sdkappid": None, "tries": 1, "addresses": 1},
    ]
    assert "127.0.0.1" not in str(rows)
    mine = program.cli("acts", "list", "--sdkappid", str(app.sdkappid), "--actor", "server")
    assert [row["act"] for row in mine] == [rows[0]["act"]]
    assert program.cli("acts", "verify")["sound"]
    with program:
        assert program.pull(app).result == 0
    assert len(program.cli("acts", "list")) == len(rows), "nobody failed"


def test_failed_tries_go_on_record_by_the_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path)
    app = program.create_app()
    monkeypatch.setattr(tally, "HOUR_MS", 50)  # some pass while it runs

    async def play() -> None:
        async with program.inside(upkeep_every_s=0.02), program.client() as client:
            for hour in range(3):
                target, body = App(app.sdkappid, "0" * 32).request()
                answer = await client.post(target, content=body)
                assert answer.json()["result"] == 1001
                async with asyncio.timeout(PATIENCE_S):
                    while len(await asyncio.to_thread(failed)) <= hour:  # noqa: ASYNC110 - a store
                        await asyncio.sleep(0.01)

    def failed() -> list[dict[str, Any]]:
        return list(program.cli("acts", "list", "--actor", "server"))

    asyncio.run(play())
    rows = failed()
    assert len(rows) == 3
    assert {(row["detail"]["sdkappid"], row["detail"]["tries"]) for row in rows} == {
        (app.sdkappid, 1)
    }
    assert program.cli("audit")["sound"]

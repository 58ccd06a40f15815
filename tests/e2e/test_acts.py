"""`pullstatus acts list`: what every command of an operator leaves on record."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

from tests.e2e.test_cli import FIXED_KEY, bad, good, on_a_terminal, run
from tests.harness import Program, statuses

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
    told = json.dumps(listed)
    table = on_a_terminal(tmp_path, "acts list")
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
    assert acts("--from", "1h", "--sdkappid", "7") == [9, 7, 6, 5, 3, 1]


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
    assert redelivered["detail"] == {
        "by": f"pull {name}",
        "count": 2,
        "mailboxes": [f"{number}/delivery-statuses"],
    }
    assert good(tmp_path, "audit", *store)["sound"]
    named = good(tmp_path, "acts", "list", "--sdkappid", number, *store)
    assert [row["action"] for row in named] == ["app delete", "redeliver", "app create"]

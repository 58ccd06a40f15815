"""Commands about rules of routing: their order, what is wrong with them, what they would do."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from pullstatus.store import Change, open_store
from tests.e2e.test_cli import bad, good, on_a_terminal, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the default store has application 7 and a platform's token."""
    good(tmp_path, "app", "create", "7")
    good(tmp_path, "token", "create", "smsc")
    return tmp_path


def places(folder: Path) -> list[str]:
    return [each["name"] for each in good(folder, "route", "list")]


def wrong(folder: Path) -> dict[str, str]:
    return {each["name"]: each["wrong"] for each in good(folder, "route", "list")}


def test_rules_are_made_moved_and_removed_each_on_record(folder: Path) -> None:
    shop = good(folder, "route", "add", "shop", "--sdkappid", "7", "--to-prefix", "1069")
    assert (shop["place"], shop["sdkappid"], shop["conditions"]) == (1, 7, {"to_prefix": "1069"})
    good(folder, "route", "add", "noise", "--drop", "--from-prefix", "8613800138000", "--at", "1")
    good(folder, "route", "add", "last", "--park", "--token", "smsc", "--source", "kannel")
    assert places(folder) == ["noise", "shop", "last"]
    assert good(folder, "route", "move", "last", "--at", "1")["place"] == 1
    good(folder, "route", "move", "noise", "--at", "3")
    assert places(folder) == ["last", "shop", "noise"]
    assert good(folder, "route", "remove", "last", "--reason", "gone") == {"removed": "last"}
    assert places(folder) == ["shop", "noise"]
    acts = good(folder, "acts", "list", "--json")
    told = [act for act in acts if act["action"].startswith("route")]
    assert [act["action"] for act in told][:2] == ["route remove", "route move"]
    assert told[0]["reason"] == "gone"
    assert "8613800138000" not in json.dumps(acts)
    assert good(folder, "audit", "--json")["sound"]


def test_what_cannot_be_is_refused_and_nothing_changes(folder: Path) -> None:
    good(folder, "route", "add", "shop", "--sdkappid", "7", "--to-prefix", "1069")
    for arguments, text, status in (
        (["add", "a", "--to", "1"], "--sdkappid, --park and --drop", 2),
        (["add", "a", "--park", "--drop", "--to", "1"], "--sdkappid, --park and --drop", 2),
        (["add", "a", "--sdkappid", "7"], "what it is for", 1),
        (["add", "a", "--sdkappid", "8", "--to", "1"], "application 8 does not exist", 1),
        (["add", "a", "--sdkappid", "0", "--to", "1"], "an sdkappid is a number", 1),
        (["add", "a", "--park", "--to", "+1"], "plus or 00", 1),
        (["add", "a", "--drop", "--to-prefix", "\uff11\uff10"], "with the digits 0 to 9", 1),
        (["add", "a", "--drop", "--to", "1\u0660"], "with the digits 0 to 9", 1),
        (["add", "shop", "--park", "--to", "1"], "a rule named shop exists", 1),
        (["add", "a", "--park", "--to", "1", "--at", "3"], "from 1 to 2", 1),
        (["move", "shop", "--at", "2"], "from 1 to 1", 1),
        (["move", "other", "--at", "1"], "route list", 1),
        (["remove", "other"], "route list", 1),
        (["test"], "tell something", 2),
    ):
        assert text in bad(folder, "route", *arguments, exit_status=status)
    assert places(folder) == ["shop"]


def test_what_is_wrong_with_a_rule_is_told(folder: Path) -> None:
    """One for whoever had the number before feeds nobody."""
    good(folder, "route", "add", "shop", "--sdkappid", "7", "--to-prefix", "1069")
    good(folder, "route", "add", "same", "--park", "--to", "10691", "--token", "smsc")
    good(folder, "route", "add", "other", "--park", "--token", "smsc")
    assert wrong(folder) == {
        "shop": "",
        "same": "never reached: shop takes all of it",
        "other": "",
    }
    good(folder, "route", "add", "mistyped", "--park", "--source", "kanel")
    good(folder, "route", "add", "ours", "--park", "--source", "kannel")
    assert (wrong(folder)["mistyped"], wrong(folder)["ours"]) == ("no source is named kanel", "")
    good(folder, "app", "delete", "7")
    good(folder, "token", "revoke", "smsc")
    assert "does not exist" in wrong(folder)["shop"]
    assert wrong(folder)["other"] == "no token is named smsc"
    good(folder, "app", "create", "7")
    assert "another owner" in wrong(folder)["shop"]
    tested = run(folder, "route", "test", "--to", "10691")
    assert tested.exit_status == 1
    assert json.loads(tested.stdout)["result"] == "parked"


def test_where_a_record_would_go_is_told_with_what_each_rule_says(folder: Path) -> None:
    good(folder, "route", "add", "shop", "--sdkappid", "7", "--to-prefix", "1069")
    good(folder, "route", "add", "noise", "--drop", "--source", "kannel")
    told = good(folder, "route", "test", "--to", "+10691", "--source", "kannel")
    assert (told["result"], told["sdkappid"], told["why"]) == ("routed", 7, "rule shop matches it")
    assert [(each["name"], each["takes"]) for each in told["rules"]] == [
        ("shop", True),
        ("noise", False),
    ]
    assert good(folder, "route", "test", "--source", "kannel")["result"] == "dropped"
    good(folder, "token", "create", "own", "--sdkappid", "7")
    own = good(folder, "route", "test", "--token", "own", "--source", "kannel")
    assert (own["result"], own["sdkappid"], own["rules"]) == ("routed", 7, [])
    text = on_a_terminal(folder, "route test --to 10691")
    assert "It is routed to 7: rule shop matches it." in text
    assert "to_prefix 1069" in on_a_terminal(folder, "route list", columns=160)


def test_a_recorded_request_is_tested_report_by_report(folder: Path) -> None:
    good(folder, "route", "add", "shop", "--sdkappid", "7", "--to", "1", "--source", "native")
    replies = [{"mobile": "13800138000", "to": to, "text": "a"} for to in "12"]
    body = json.dumps(replies)
    (folder / "asked").write_text(
        f"POST / HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}", newline=""
    )
    asked = ("route", "test", "--token", "smsc", "--source", "native", "--request", "asked")
    tested = run(folder, *asked)
    assert tested.exit_status == 1
    assert [each["result"] for each in json.loads(tested.stdout)] == ["routed", "parked"]
    for wrong in (
        ("--source", "other", "--request", "asked"),
        ("--source", "native", "--request", "no"),
    ):
        assert "Error: " in bad(folder, "route", "test", *wrong)
    for given in (("--to", "1"), ("--source", "native", "--id", "1")):
        assert "needs --source" in bad(
            folder, "route", "test", *given, "--request", "asked", exit_status=2
        )


def told(folder: Path, *words: str) -> list[tuple[str, int | None]]:
    """What `route test` tells, and its status says of that."""
    ran = run(folder, "route", "test", *words)
    assert ran.stdout, ran
    found = json.loads(ran.stdout)
    rows = found if isinstance(found, list) else [found]
    fails = any(row["result"] in ("parked", "refused") for row in rows)
    assert ran.exit_status == fails, ran
    return [(row["result"], row["sdkappid"]) for row in rows]


def test_what_the_server_refuses_is_told_to_be_refused(folder: Path) -> None:
    """A token that is none, has ended, or is for an application that is gone or another one's."""
    good(folder, "route", "add", "all", "--sdkappid", "7", "--source", "kannel")
    good(folder, "app", "create", "8")
    good(folder, "token", "create", "own", "--sdkappid", "8")
    good(folder, "token", "create", "short", "--expires", "2099-01-01")
    asked = ("--source", "kannel", "--token")
    assert told(folder, *asked, "own") == [("routed", 8)]
    assert told(folder, *asked, "short") == [("routed", 7)]
    end(folder, "short")
    good(folder, "app", "delete", "8")
    for name in ("own", "short", "other"):
        assert told(folder, *asked, name) == [("refused", None)], name
        request(folder, "GET /in/TOKEN/kannel?dlr=1&id=1&to=8613800000000")
        assert told(folder, *asked, name, "--request", "asked") == [("refused", None)], name
    good(folder, "app", "create", "8")
    assert told(folder, *asked, "own") == [("refused", None)]
    assert "another owner" in run(folder, "route", "test", *asked, "own").stdout


def end(folder: Path, token: str) -> None:
    """Have a token end in the past, as if it had been made long ago."""

    async def work() -> None:
        store = await open_store(f"sqlite:///{folder / 'pullstatus.db'}")
        try:
            setting = await store.setting(f"token/{token}")
            assert setting is not None
            assert setting.value is not None
            value = json.loads(setting.value) | {"not_after_ms": 1}
            encoded = json.dumps(value).encode()
            assert await store.change(Change(setting.name, encoded, setting.value))
        finally:
            await store.close()

    asyncio.run(work())


def request(folder: Path, first_line: str, body: str = "") -> None:
    (folder / "asked").write_text(
        f"{first_line} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}", newline=""
    )


def test_items_that_cannot_be_read_are_tested_too(folder: Path) -> None:
    """Whole requests, and items beside others; what is read and can be no record, as well."""
    good(folder, "route", "add", "shop", "--sdkappid", "7", "--source", "native")
    good(folder, "route", "add", "noise", "--drop", "--source", "kannel")
    good(folder, "token", "create", "own", "--sdkappid", "7")
    request(folder, "GET /in/TOKEN/kannel?foo=bar")
    for token, whose in (("smsc", None), ("own", 7)):
        asked = ("--token", token, "--request", "asked", "--source")
        assert told(folder, *asked, "kannel") == [("parked", whose)]
    reply = {"mobile": "13800138000", "to": "1", "text": "a"}
    for token, whose in (("smsc", None), ("own", 7)):
        asked = ("--token", token, "--request", "asked", "--source")
        request(folder, "POST /", json.dumps([reply, 7, reply | {"mobile": {}}]))
        results = told(folder, *asked, "native")
        assert results[0] == ("routed", 7)
        assert results.count(("parked", whose)) + results.count(("parked", 7)) >= 2
        assert len(results) == 3
    own = ("--token", "own", "--request", "asked", "--source", "native")
    request(folder, "POST /", "{")
    assert told(folder, *own) == [("parked", 7)]
    request(folder, "POST /", "[]")
    assert told(folder, *own) == []


def test_request_of_a_method_that_the_source_has_not_is_read_as_a_server_does(
    folder: Path,
) -> None:
    request(folder, "GET /?a=1")
    asked = ("--token", "smsc", "--request", "asked", "--source", "native")
    done = run(folder, "route", "test", *asked)
    assert "methods of native has POST" in done.stderr
    assert [each["result"] for each in json.loads(done.stdout)] == ["parked"]


def test_rules_go_with_their_store(folder: Path) -> None:
    good(folder, "route", "add", "shop", "--sdkappid", "7", "--to-prefix", "1069")
    assert run(folder, "backup", "copy.db").exit_status == 0
    shutil.copy(folder / "pullstatus.db-master-key", folder / "restored.db-master-key")
    restored = run(folder, "restore", "copy.db", "--store", "sqlite:///restored.db")
    assert restored.exit_status == 0, restored
    assert good(folder, "route", "list", "--store", "sqlite:///restored.db") == good(
        folder, "route", "list"
    )

"""`pullstatus parked ...` beside a running server."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pullstatus.cli import main
from tests.harness import REPLY, App, Program, reply, status

OK = b'{"result":0,"errmsg":"OK"}'


@pytest.fixture
def secret(shared: Program, app: App) -> str:
    token = shared.create_token(f"parked-{app.sdkappid}", app=app)
    shared.until(lambda: shared.post(f"/callbacks/{token}", b"").http_status == 200)
    return token


def test_parked_items_are_listed_shown_and_dropped(shared: Program, app: App, secret: str) -> None:
    """Nothing of what they say is told but by --reveal, which is on record."""
    number = str(app.sdkappid)
    bad = status(2, mobile="13877700077x", description="canary")
    assert shared.post(f"/callbacks/{secret}", [status(1), bad, {}]).content == OK
    assert shared.post(f"/callbacks/{secret}", {"text": "canary"}).content == OK
    listed = shared.cli("parked", "list", "--sdkappid", number)
    assert [(row["item"], row["index"], row["kind"], row["member"]) for row in listed] == [
        (1, 1, "delivery-statuses", "mobile"),
        (2, 2, "delivery-statuses", "nationcode"),
        (3, None, "replies", "nationcode"),
    ]
    assert listed[0]["token"] == f"parked-{number}"
    assert listed[0]["reason"] == "must be a string of 1 to 20 digits"
    shown = shared.cli("parked", "show", number, "1")
    assert shown == listed[0]
    told = repr((listed, shown, shared.cli("acts", "list"), shared.metrics()))
    assert "canary" not in told
    assert "13877700077" not in told
    revealed = shared.cli("parked", "show", number, "1", "--reveal", "--reason", "ticket 7")
    assert "13877700077x" in revealed["data"]
    assert "canary" in revealed["data"]
    [act] = shared.cli("acts", "list", "--sdkappid", number, "--limit", "1")
    assert (act["action"], act["reason"]) == ("parked show", "ticket 7")
    assert act["detail"] == {"sdkappid": app.sdkappid, "item": 1}

    assert shared.cli("parked", "retry", number, "--all") == {
        "items": 0,
        "records": 0,
        "left": 3,
        "pending": 0,
    }
    dropped = shared.cli("parked", "drop", number, "2")
    assert dropped == {"items": 1, "records": 0, "left": 2}
    rows = shared.cli("parked", "list", "--sdkappid", number)
    assert sorted(row["item"] for row in rows) == [1, 3]
    assert shared.cli("parked", "drop", number, "--all")["left"] == 0
    assert shared.cli("parked", "list", "--sdkappid", number) == []
    assert shared.pull(app).data == [status(1)]


def test_reply_in_a_charset_that_nothing_names_is_read_by_the_one_that_is_said(
    shared: Program, app: App, secret: str
) -> None:
    number = str(app.sdkappid)
    text = "\u9000\u8ba2\uff0c\u8c22\u8c22"
    body = json.dumps(reply(1, text=text), ensure_ascii=False).encode("gb18030")
    assert shared.http.post(f"/callbacks/{secret}", content=body).content == OK
    [parked] = shared.cli("parked", "list", "--sdkappid", number)
    assert (parked["kind"], parked["member"]) == ("replies", "text")
    assert shared.pull(app, REPLY).data == []
    retry = ("parked", "retry", number, "--all")
    assert shared.cli(*retry)["left"] == 1
    assert shared.cli(*retry, "--charset", "iso-2022-kr")["left"] == 1
    assert shared.cli(*retry, "--charset", "gb18030")["records"] == 1
    assert shared.pull(app, REPLY).data == [reply(1, text=text)]
    [act] = shared.cli("acts", "list", "--sdkappid", number, "--limit", "1")
    assert act["detail"]["charset"] == "gb18030"
    for name in ("utf-8", "no-such", "gb18030; x"):
        refused = CliRunner().invoke(main, [*retry, "--charset", name, "--store", shared.store])
        assert refused.exit_code == 2


def test_parked_items_are_routed_to_another_application(
    shared: Program, app: App, secret: str
) -> None:
    """One that is labelled as compressed, and is not, reads there; the other is parked there."""
    other = shared.create_app()
    number, to = str(app.sdkappid), str(other.sdkappid)
    labelled = {"Content-Encoding": "gzip"}
    path = f"/callbacks/{secret}"
    assert shared.http.post(path, headers=labelled, json=[status(1)]).content == OK
    assert shared.post(path, [{"sid": "no more"}]).content == OK
    refused = CliRunner().invoke(
        main, ["parked", "route", number, "--to", to, "--store", shared.store]
    )
    assert refused.exit_code == 2
    assert "name the items, or say --all" in refused.output
    routed = shared.cli("parked", "route", number, "1", "--to", to, "--reason", "wrong token")
    assert routed == {"items": 1, "records": 1, "left": 1, "parked": 0, "pending": 0}
    routed = shared.cli("parked", "route", number, "--all", "--to", to)
    assert routed == {"items": 1, "records": 0, "left": 0, "parked": 1, "pending": 0}
    [item] = shared.cli("parked", "list", "--sdkappid", to)
    assert (item["item"], item["token"]) == (1, f"parked-{number}")
    assert shared.pull(other).data == [status(1)]
    assert shared.pull(app).data == []
    for concerned in (number, to):
        acts = shared.cli("acts", "list", "--sdkappid", concerned)
        assert [act["reason"] for act in acts if act["action"] == "parked route"] == [
            "",
            "wrong token",
        ]
    told = shared.cli("audit", "--json")
    assert told["sound"]
    [row] = [row for row in told["mailboxes"] if row["mailbox"] == f"{number}/parked"]
    assert (row["accepted"], row["waiting"], row["routed"]) == (2, 0, 2)


def test_application_with_parked_items_is_not_deleted_by_mistake(shared: Program) -> None:
    app = shared.create_app()
    token = shared.create_token("of-parked", app=app)
    shared.until(lambda: shared.post(f"/callbacks/{token}", reply(1, text=7)).http_status == 200)
    assert shared.post(f"/callbacks/{token}", b"null").content == OK
    assert shared.pull(app, REPLY).data == [reply(1, text="7")]
    arguments = ["app", "delete", str(app.sdkappid), "--store", shared.store]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "1 items are parked" in refused.output
    assert shared.cli("app", "delete", str(app.sdkappid), "--erase")["erased"] == 1

"""Parts of messages that were parked: they are joined when they leave, as they would have been."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from pullstatus.receipts.joining import MISSING
from tests.e2e.test_inbound import register
from tests.harness import REPLY, App, Program, with_limits

AT_ONCE = with_limits(PENDING_NAME_S=0)  # a name is not waited for
OVERDUE = with_limits(PENDING_PARTS_S=1)
TEXT = "你好世界".encode()
CUT = 4  # inside a character
OWN = """
name = "acme"
title = "Acme"
methods = ["GET", "POST"]
items = "request"
[reply]
when = "said"
number = "from"
to = "to"
text = "said"
part = { reference = "ref", count = "of", number = "nr" }
"""


@pytest.fixture
def program(tmp_path: Path, environment: dict[str, str], each_store: str | None) -> Program:
    """A server over each engine."""
    return Program(tmp_path, environment=environment, store=each_store, command=AT_ONCE)


def come(program: Program, address: str) -> None:
    answer = program.http.get(f"/in/{address}")
    assert answer.status_code == 200, answer.content


def reply_in_parts(token: str) -> list[str]:
    """As Kannel sends them, each decoded by itself nothing."""
    return [
        f"{token}/kannel?text={quote(text)}&from=%2B8613800000001&to=777&id=K{number}"
        f"&charset=UTF-8&udh={quote(bytes([5, 0, 3, 7, 2, number]))}"
        for number, text in enumerate([TEXT[:CUT], TEXT[CUT:]], start=1)
    ]


def test_parts_that_were_nobodys_are_one_record(program: Program) -> None:
    """A reply by a rule, and receipts of a message by its registration: one part has failed."""
    with program:
        app, token = program.create_app(), program.create_token("platform")
        for part in reply_in_parts(token):
            come(program, part)
        for number, state in enumerate(["delivered", "failed"]):
            come(
                program,
                f"{token}/vonage?msisdn=8613800000001&to=1069&messageId=R{number}"
                f"&status={state}&err-code=0",
            )
        program.until(lambda: len(program.cli("parked", "list", "--sdkappid", "0")) == 4)
        register(program, app, {"sid": "long", "ids": ["R0", "R1"]})
        program.cli("route", "add", "all", "--sdkappid", str(app.sdkappid), "--to-prefix", "777")
        told = program.cli("parked", "retry", "0", "--all")
        assert told == {"items": 4, "records": 0, "left": 0, "pending": 4}
        assert [row["text"] for row in wait_for(program, app)] == [TEXT.decode()]
        [row] = program.pull(app).data
        assert (row["sid"], row["report_status"]) == ("long", "FAIL")
        assert program.cli("audit")["sound"]


@pytest.mark.parametrize("verb", ["retry", "route"])
def test_parts_of_a_source_that_was_not_known_are_one_record(
    program: Program, tmp_path: Path, verb: str
) -> None:
    """Those of two steps, too: one is read now, the other, which comes with a kill, later."""
    file = tmp_path / "acme.toml"
    file.write_text(OWN, encoding="utf-8")
    with program:
        app = program.create_app()
        other = program.create_app() if verb == "route" else app
        to = ["--to", str(other.sdkappid)] if verb == "route" else []
        token = program.create_token("own", app=app)
        for number in (1, 2, 3):
            come(program, f"{token}/acme?from=8613800000001&to=777&said={number}&{ref(number)}")
        program.cli("source", "add", str(file))
        told = program.cli("parked", verb, str(app.sdkappid), "1", "3", *to)
        assert (told["items"], told["records"], told["left"], told["pending"]) == (2, 0, 1, 2)
        program.kill()
    with program:
        assert program.pull(other, REPLY).data == []
        told = program.cli("parked", verb, str(app.sdkappid), "2", *to)
        assert (told["items"], told["left"], told["pending"]) == (1, 0, 1)
        assert [row["text"] for row in wait_for(program, other)] == ["123"]
        assert program.cli("audit")["sound"]


def test_a_part_whose_others_never_come_is_delivered_marked(program: Program) -> None:
    with program:
        app, token = program.create_app(), program.create_token("platform")
        [first, _] = reply_in_parts(token)
        come(program, first.replace(quote(TEXT[:CUT]), "begun"))
        program.cli("route", "add", "all", "--sdkappid", str(app.sdkappid), "--to-prefix", "777")
        assert program.cli("parked", "retry", "0", "--all")["pending"] == 1
    program.command = OVERDUE
    with program:
        assert [row["text"] for row in wait_for(program, app)] == [f"begun{MISSING}"]


def ref(number: int) -> str:
    return f"ref=7&of=3&nr={number}"


def wait_for(program: Program, app: App) -> list[dict[str, object]]:
    """The replies, once there are some."""
    return program.until(lambda: program.pull(app, REPLY).data)

"""`pullstatus source ...`: rows of operators, tried before they are used."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pullstatus import limits
from pullstatus.cli import main
from tests.harness import Program, status

ROW = """
name = "own"
items = "body.items"
[status]
when = "state"
number = "phone"
id = "id"
state = "state"
states = { ok = "SUCCESS", wait = "INTERMEDIATE" }
[reply]
unless = "state"
number = "phone"
text = "said"
[answer]
content_type = "application/json"
body = '{"fine":true}'
reply = "<thanks/>"
reply_type = "text/xml"
"""
BODY = (
    '{"items":[{"phone":"+8613800000001","id":"7","state":"OK"},'
    '{"phone":"8613800000001","id":"7","state":"wait"},'
    '{"phone":"8613800000001","id":"8","state":"odd"},'
    '{"phone":"8613800000001","said":"好的"}]}'
)


CHUNKED = "POST /in/x/own HTTP/1.1\nTransfer-Encoding: chunked"


@pytest.fixture
def row(tmp_path: Path) -> Path:
    file = tmp_path / "own.toml"
    file.write_text(ROW, encoding="utf-8")
    return file


def check(row: Path, request: str) -> Result:
    file = row.with_name("request")
    file.write_text(request, encoding="utf-8")
    return CliRunner().invoke(main, ["source", "check", str(row), str(file)])


def test_a_row_may_begin_with_a_byte_order_mark(row: Path) -> None:
    """As editors of Windows write it."""
    request = f"POST /in/x/own HTTP/1.1\nContent-Type: application/json\n\n{BODY}\n"
    told = json_of(check(row, request))
    row.write_text(ROW, encoding="utf-8-sig")
    assert json_of(check(row, request)) == told


@pytest.mark.parametrize(
    "request_text",
    [
        f"POST /in/x/own HTTP/1.1\nContent-Type: application/json\n\n{BODY}\n",
        f"curl -H 'Content-Type: application/json' \\\n  --data-raw '{BODY}' https://a.test/in/x/own",
    ],
)
def test_a_recorded_request_is_shown_as_it_would_be_stored(row: Path, request_text: str) -> None:
    done = check(row, request_text)
    told = json_of(done)
    [status] = told["stored"]["delivery-statuses"]
    assert (status["nationcode"], status["mobile"], status["sid"]) == ("86", "13800000001", "7")
    [reply] = told["stored"]["replies"]
    assert reply["text"] == "好的"
    assert told["intermediate"] == 1
    assert told["parked"] == [
        {"index": 2, "member": "state", "reason": "is a state that its source does not know"}
    ]
    assert told["answer"] == {
        "status": 200,
        "content_type": "application/json",
        "body": '{"fine":true}',
    }
    assert done.exit_code == 1  # something would be parked


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_body_in_chunks_is_what_they_hold(
    row: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.time()  # of arrival for both, since the records have no time of their own
    monkeypatch.setattr("pullstatus.cli.source.time.time", lambda: now_s)
    data = BODY.encode()
    chunks = [data[start : start + 50] for start in range(0, len(data), 50)]
    lines = [*CHUNKED.split("\n"), ""]
    written = "".join(f"{line}{end}" for line in lines).encode()
    for chunk in chunks:
        written += f"{len(chunk):X};a=b{end}".encode() + chunk + end.encode()
    file = row.with_name("request")
    file.write_bytes(written + f"0{end}{end}".encode())
    told = CliRunner().invoke(main, ["source", "check", str(row), str(file)])
    assert json_of(told) == json_of(check(row, f"POST /in/x/own HTTP/1.1\n\n{BODY}"))


def test_an_encoded_body_is_parked_as_a_server_does(row: Path) -> None:
    for request in (
        f"POST /in/x/own HTTP/1.1\nContent-Encoding: gzip\n\n{BODY}",
        f"curl -H 'Content-Encoding: gzip' --data-raw '{BODY}' https://a.test/in/x/own",
    ):
        told = json_of(check(row, request))
        assert told["stored"] == {"delivery-statuses": [], "replies": []}
        assert [each["reason"] for each in told["parked"]] == ["must come without Content-Encoding"]
    plain = check(row, f"POST /in/x/own HTTP/1.1\nContent-Encoding: identity\n\n{BODY}")
    assert len(json_of(plain)["parked"]) == 1


def test_a_method_that_a_source_does_not_name_is_read_as_a_server_does(row: Path) -> None:
    done = check(row, "GET /in/x/own?phone=861&state=ok HTTP/1.1\n\n")
    assert done.stderr.strip() == (
        "The request is a GET, and methods of own has POST: a server reads it all the same."
    )
    told = json_of(done)
    assert [each["reason"] for each in told["parked"]] == [
        "must have a body, which what stands in the address is not"
    ]
    own = ROW.replace('items = "body.items"', 'items = "request"\nmethods = ["GET"]')
    row.write_text(own, encoding="utf-8")
    done = check(row, "POST /in/x/own?phone=%2B8613800000001&id=a:7&state=ok HTTP/1.1\n\n")
    assert "The request is a POST" in done.stderr
    assert [each["sid"] for each in json_of(done)["stored"]["delivery-statuses"]] == ["a:7"]


def test_records_of_ours_are_read_as_such(row: Path) -> None:
    """And not by the keys, which are for a platform's token."""
    file = row.with_name("request")
    record = status(7, description="as it came", ext="mine")
    file.write_text(f"POST / HTTP/1.1\n\n{json.dumps([record, {'sid': 7}])}", encoding="utf-8")
    told = json_of(CliRunner().invoke(main, ["source", "check", "tencent", str(file)]))
    assert told["stored"] == {"delivery-statuses": [record], "replies": []}
    assert [each["index"] for each in told["parked"]] == [1]


def test_what_replies_are_answered_is_shown(row: Path) -> None:
    told = json_of(check(row, 'POST / HTTP/1.1\n\n{"items":[{"phone":"+861","said":"a"}]}'))
    assert told["answer"] == {"status": 200, "content_type": "text/xml", "body": "<thanks/>"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('items = "body.items"', 'items = "xml"', 'items must be "request", "body"'),
        ('number = "phone"', 'numero = "phone"', "numero"),
        ('ok = "SUCCESS"', 'OK = "SUCCESS"', "status.states must be in small letters"),
        ('ok = "SUCCESS"', 'ok = "GOOD"', "$.status.states"),
        ('name = "own"', 'name = "Own"', "name must be 1 to 32 small letters"),
        ('name = "own"', 'name = "own"\nsignature = "rot13"', "signature must be one of"),
        ("[status]", "[status", "not TOML"),
    ],
)
def test_a_row_that_cannot_be_says_which_member_and_what_to_do(
    row: Path, before: str, after: str, said: str
) -> None:
    row.write_text(ROW.replace(before, after, 1), encoding="utf-8")
    done = check(row, "GET / HTTP/1.1\n\n")
    assert done.exit_code == 1
    assert said in done.output


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        ("", "must begin"),
        ("PUT / HTTP/1.1\n\n", "must begin"),
        (f"{CHUNKED}\n\n{BODY}", "does not lie in whole chunks"),
        (f"{CHUNKED}\n\n2\n{BODY}", "does not lie in whole chunks"),
        (f"{CHUNKED}\n\n{len(BODY):x}\n{BODY}", "does not lie in whole chunks"),
        (f"{CHUNKED}\nContent-Length: 7\n\n{BODY}", "takes chunked alone"),
        (f"{CHUNKED.replace('chunked', 'gzip, chunked')}\n\n{BODY}", "takes chunked alone"),
        (f"{CHUNKED}\n{CHUNKED.partition(chr(10))[2]}\n\n0\n\n", "Transfer-Encoding twice"),
        ("curl 'https://a.test", "do not end"),
        ("curl --data @file https://a.test", "not the name of a file"),
        ("curl --proxy b https://a.test", "--proxy is not known here"),
    ],
)
def test_a_request_that_cannot_be_read_says_why(row: Path, request_text: str, said: str) -> None:
    done = check(row, request_text)
    assert (done.exit_code, said in done.output) == (1, True), done.output


def test_rows_of_operators_are_added_shown_and_removed(
    tmp_path: Path, row: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path)
    added = program.cli("source", "add", str(row), "--reason", "a new gateway")
    assert (added["source"], added["ours"]) == ("own", False)
    assert {"own", "kannel"} <= {each["source"] for each in program.cli("source", "list")}
    [act] = program.cli("acts", "list", "--limit", "1")
    assert (act["action"], act["detail"]) == ("source add", {"name": "own"})
    assert run(program, "show", "own").output == ROW
    assert 'name = "kannel"' in run(program, "show", "kannel").output
    assert "--replace takes its place" in run(program, "add", str(row)).output
    row.write_text(ROW.replace("wait", "later"), encoding="utf-8")
    assert run(program, "add", str(row), "--replace").exit_code == 0
    assert "later" in run(program, "show", "own").output
    other = row.with_name("other.toml")
    other.write_text(ROW.replace('"own"', '"kannel"'), encoding="utf-8")
    assert "is a source of pullstatus itself" in run(program, "add", str(other)).output
    other.write_text(ROW.replace('"own"', '"other"'), encoding="utf-8")
    monkeypatch.setattr(limits, "SOURCES_MAX", 1)
    assert "at most 1 sources" in run(program, "add", str(other)).output
    assert run(program, "remove", "own").exit_code == 0
    for command in ("remove", "show"):
        assert "no source that was added has this name" in run(program, command, "own").output


def run(program: Program, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["source", *arguments, "--store", program.store])


def json_of(done: Result) -> dict[str, Any]:
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def test_what_came_by_each_token_is_listed(tmp_path: Path) -> None:
    """Counted by a server, and there once it has ended."""
    program = Program(tmp_path)
    with program:
        app = program.create_app()
        token = program.create_token("gateway", app=app)
        key = tmp_path / "key"
        key.write_text("akey", encoding="utf-8")
        number = str(app.sdkappid)
        signed = ("token", "create", "signed", "--sdkappid", number, "--signature-key-file")
        secret = program.cli(*signed, str(key))["token"]
        sms = "text={text}&from=%2B8613800000001&to=1069&id={text}"
        for text in ("one", "two", "one"):
            path = f"/in/{token}/kannel?{sms.format(text=text)}"
            assert program.http.get(path).status_code == 200
        assert program.http.get(f"/in/{token}/kannel?nothing=1").status_code == 200
        assert program.http.post(f"/in/{secret}/twilio", data={"a": "b"}).status_code == 401
        before_ms = time.time_ns() // 1_000_000 - 60_000
    listed = {
        (row["source"], row["token"]): row
        for row in program.cli("source", "list")
        if row["token"] is not None
    }
    assert listed.keys() == {("kannel", "gateway"), ("twilio", "signed")}
    row = listed["kannel", "gateway"]
    assert (row["day"], row["repeats"], row["parked"], row["refused"]) == (2, 1, 1, 0)
    assert row["hour"] <= 2, "it may have turned meanwhile"
    assert datetime.fromisoformat(row["last_record"]).timestamp() * 1000 > before_ms
    row = listed["twilio", "signed"]
    assert (row["day"], row["refused"], row["last_record"]) == (0, 1, None)
    program.cli("token", "revoke", "gateway")
    assert "gateway" not in {row["token"] for row in program.cli("source", "list") if row["day"]}

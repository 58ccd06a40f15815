"""Callbacks of a gateway that signs: what its key did not sign is refused, and not stored."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest
from click.testing import CliRunner

from pullstatus.cli import main
from pullstatus.receipts.signatures import Signed, sign
from tests.harness import REPLY, STATUS, App, Program

KEY = "12345678901234567890123456789012"
FORM = "application/x-www-form-urlencoded"
BODY = "MessageStatus=delivered&To=%2B8613800000001&MessageSid=SM{}&From=%2B15005550006"


def signature(url: str, body: str, key: str = KEY) -> str:
    """As Twilio makes it: see `test_signatures.py` for what its own package has made."""
    text = url + "".join(name + value for name, value in sorted(parse_qsl(body)))
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), hashlib.sha1)).decode()


def post(program: Program, path: str, body: str, signed: str | None) -> int:
    headers = {"content-type": FORM}
    if signed is not None:
        headers["x-twilio-signature"] = signed
    return program.http.post(path, content=body.encode(), headers=headers).status_code


def create_token(program: Program, app: App, folder: Path, *more: str) -> str:
    key = folder / "key"
    key.write_text(KEY + "\n")
    made = program.cli(
        *("token", "create", f"twilio-{app.sdkappid}", "--sdkappid", str(app.sdkappid)),
        *("--signature-key-file", str(key), *more),
    )
    assert made["signed"] is True
    return str(made["token"])


def test_what_its_key_did_not_sign_is_refused(shared: Program, app: App, tmp_path: Path) -> None:
    token = create_token(shared, app, tmp_path)
    path = f"/in/{token}/twilio"
    url = str(shared.http.base_url).rstrip("/") + path
    first = BODY.format(1)
    good = signature(url, first)
    refused = [
        post(shared, path, first, None),
        post(shared, path, BODY.format(2), good),
        post(shared, f"{path}?sid=7", first, good),
        post(shared, path, first, signature(url, first, "another")),
        post(shared, f"/in/{token}/kannel?dlr=1&from=%2B8613800000001&id=1", "", None),
        post(shared, f"/in/{token}/no-such-source", first, good),
        post(shared, f"/callbacks/{token}", "[]", None),
    ]
    assert refused == [401] * len(refused)
    for _ in range(2):
        assert post(shared, path, first, good) == 200
    assert [status["sid"] for status in shared.pull(app, STATUS).data] == ["SM1"]
    assert shared.cli("parked", "list", "--sdkappid", str(app.sdkappid)) == []


@pytest.mark.parametrize(
    ("scheme", "good", "bad"),
    [
        ("huawei", "status=DELIVRD&to=%2B8613800000001&smsMsgId=", "status=UNDELIV"),
        ("plivo", "Status=delivered&To=8613800000001&MessageUUID=", "Status=failed"),
    ],
)
def test_what_is_checked_is_what_is_read(
    shared: Program, app: App, tmp_path: Path, scheme: str, good: str, bad: str
) -> None:
    """Beside a good signature nothing says another thing: in the query, the body or a header."""
    path = f"/in/{create_token(shared, app, tmp_path)}/{scheme}"
    url = str(shared.http.base_url).rstrip("/") + path

    def send(body: str, query: str = "", *, sent: str = "", first: str = "") -> int:
        unsigned = Signed("POST", url + query, {"content-type": FORM}, body.encode())
        told = sign(scheme, unsigned, KEY, now_s=1_764_320_400, nonce="n").headers
        names = [name for name in told if name != "content-type"]
        headers = [(name, "x") for name in names if first == name] + [*told.items()]
        headers = [(first, "text/plain")] * (first == "content-type") + headers
        to = path + (query if sent != "?" else f"?{bad}")
        content = (sent if sent not in ("", "?") else body).encode()
        return shared.http.post(to, content=content, headers=headers).status_code

    signing = "x-sdk-date" if scheme == "huawei" else "x-plivo-signature-v3-nonce"
    refused = [
        send(good + "1", sent="?"),
        send(good + "2", sent=f"{bad}&{good}2"),
        send(good + "3", sent=f"{good}3&{bad}"),
        send(good + "4", first=signing),
        send(good + "5", first="content-type"),
        send(f"{good}6", f"?{bad}", sent=bad),
    ]
    assert [each in (400, 401) for each in refused] == [True] * len(refused), refused
    assert shared.pull(app, STATUS).data == []
    assert send(f"{good}7&{bad}") == 200
    assert [row["report_status"] for row in shared.pull(app, STATUS).data] == ["SUCCESS"]
    assert shared.cli("parked", "list", "--sdkappid", str(app.sdkappid)) == []


def test_another_key_is_good_at_once_and_so_is_none(
    shared: Program, app: App, tmp_path: Path
) -> None:
    token = create_token(shared, app, tmp_path)
    name, path = f"twilio-{app.sdkappid}", f"/in/{token}/twilio"
    url = str(shared.http.base_url).rstrip("/") + path
    other = tmp_path / "other"
    other.write_text("another")
    assert shared.cli("token", "set", name, "--signature-key-file", str(other))["signed"] is True
    body = BODY.format(3)
    assert post(shared, path, body, signature(url, body, "another")) == 200
    assert shared.cli("token", "set", name, "--unsigned")["signed"] is False
    assert post(shared, path, BODY.format(4), None) == 200


RECEIPT = {"sid": "SM1", "mobile": "13800138000", "report_status": "FAIL"}
REPLIED = {"id": "1", "mobile": "13800138000", "reply_time": "2026-11-29 08:00:00", "text": "TD"}
YUNPIAN = ("--signature-scheme", "yunpian")

OWN_ROWS = {
    "own-unsigned": 'items = "body"',
    "own-form": 'items = ["form.sms_status", "request"]\nsignature = "yunpian"',
    "own-body": 'items = "body"\nsignature = "yunpian"',
    "own-records": 'items = "body"\nsignature = "yunpian"\nrecords = true',
}
READS = """
[status]
when = "report_status"
number = "mobile"
id = "sid"
state = "report_status"
states = { success = "SUCCESS", fail = "FAIL" }

[reply]
when = "text"
unless = "report_status"
number = "mobile"
id = "id"
text = "text"
"""


def proven(reply: dict[str, str], key: str = KEY) -> dict[str, str]:
    """A reply of Yunpian, signed as its page has it."""
    text = ",".join([*(reply[name] for name in sorted(reply)), key])
    return {**reply, "_sign": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}


def field(name: str, value: object, *, encodings: int = 1) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    for _ in range(encodings):
        text = quote(text, safe="")
    return f"{name}={text}"


def stored(program: Program, app: App) -> list[object]:
    """All that is there of an application: records of both kinds, and what is parked."""
    parked = program.cli("parked", "list", "--sdkappid", str(app.sdkappid))
    return [*program.pull(app, STATUS).data, *program.pull(app, REPLY).data, *parked]


@pytest.fixture(scope="module")
def own_rows(shared: Program, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Rows that an operator has added, which read what Yunpian sends.

    The server may have them: tests of other files come between where workers take some of each
    other's.
    """
    for name, how in OWN_ROWS.items():
        row = tmp_path_factory.mktemp("rows") / f"{name}.toml"
        row.write_text(f'name = "{name}"\n{how}\n{READS}', encoding="utf-8")
        shared.cli("source", "add", "--replace", str(row))
    return [*OWN_ROWS]


@pytest.mark.parametrize("scheme", ["", "huawei", "plivo", "sinch", "twilio", "vonage"])
def test_a_key_of_another_gateway_takes_nothing_of_what_yunpian_does_not_sign(
    shared: Program, app: App, tmp_path: Path, own_rows: list[str], scheme: str
) -> None:
    more = ("--signature-scheme", scheme) if scheme else ()
    token = create_token(shared, app, tmp_path, *more)
    bodies = [
        field("sms_status", [RECEIPT]),
        field("sms_status", [{**RECEIPT, "report_status": "NEW"}]),
        field("sms_status", []),
        field("sms_reply", REPLIED),
        field("sms_status", "["),
        "",
    ]
    for source in ("yunpian", "tencent", "kannel", *own_rows):
        path = f"/in/{token}/{source}"
        answers = [shared.http.post(path, json=sent).status_code for sent in ([RECEIPT], REPLIED)]
        for body in bodies:
            answers += [
                post(shared, path, body, None),
                post(shared, f"{path}?{body}", "", None),
                shared.http.get(f"{path}?{body}").status_code,
            ]
        assert answers == [401] * len(answers), source
    assert stored(shared, app) == []


def test_a_key_that_says_of_no_gateway_proves_what_is_signed(
    shared: Program, app: App, tmp_path: Path
) -> None:
    """As those of stores that were written before keys said it."""
    path = f"/in/{create_token(shared, app, tmp_path)}"
    signed = signature(str(shared.http.base_url).rstrip("/") + f"{path}/twilio", BODY.format(5))
    assert post(shared, f"{path}/twilio", BODY.format(5), signed) == 200
    assert post(shared, f"{path}/yunpian", field("sms_reply", proven(REPLIED)), None) == 200
    assert post(shared, f"{path}/yunpian", field("sms_status", [RECEIPT]), None) == 401
    assert len(stored(shared, app)) == 2


def test_a_key_of_yunpian_takes_its_receipts_and_what_is_signed_of_its_replies(
    shared: Program, app: App, tmp_path: Path
) -> None:
    token = create_token(shared, app, tmp_path, *YUNPIAN)
    path = f"/in/{token}/yunpian"
    odd = {**RECEIPT, "report_status": "NEW", "text": "what it may say"}
    assert post(shared, path, field("sms_status", [RECEIPT, odd]), None) == 200
    assert post(shared, path, field("sms_status", []), None) == 200
    assert post(shared, path, field("sms_reply", proven(REPLIED)), None) == 200
    another = proven({**REPLIED, "id": "2"})
    assert post(shared, f"{path}?shop=1", field("sms_reply", another, encodings=2), None) == 200
    assert [row["sid"] for row in shared.pull(app, STATUS).data] == ["SM1"]
    assert [row["text"] for row in shared.pull(app, REPLY).data] == ["TD", "TD"]
    [parked] = shared.cli("parked", "list", "--sdkappid", str(app.sdkappid))
    assert parked["kind"] == "delivery-statuses"
    url = str(shared.http.base_url).rstrip("/") + f"/in/{token}/twilio"
    assert (
        post(shared, f"/in/{token}/twilio", BODY.format(6), signature(url, BODY.format(6))) == 401
    )
    tokens = {row["name"]: row for row in shared.cli("token", "list")}
    assert tokens[f"twilio-{app.sdkappid}"]["signature_scheme"] == "yunpian"
    name = ("token", "set", f"twilio-{app.sdkappid}")
    made = shared.cli(*name, "--signature-key-file", str(tmp_path / "key"))
    assert made["signature_scheme"] == "yunpian", "another key is for the same gateway"


WRITINGS = {
    "as it is": field("sms_reply", REPLIED),
    "with another key": field("sms_reply", proven(REPLIED, "another")),
    "changed": field("sms_reply", {**proven(REPLIED), "text": "HELP"}),
    "among receipts": field("sms_status", [RECEIPT, REPLIED]),
    "with an object as its state": field(
        "sms_status", [{**REPLIED, "report_status": {"a": 1}, "sid": "1"}]
    ),
    "with nothing as its state": field("sms_status", [{**REPLIED, "report_status": None}]),
    "with an empty state": field("sms_status", [{**REPLIED, "report_status": ""}]),
    "with a blank and one more encoding": field(
        "sms_status", ' [{"te%78t":"TD","mobile":"13800138000","id":"1"}]'
    ),
    "encoded three times": field("sms_status", [REPLIED], encodings=3),
    "escaped": field("sms_status", '[{"te\\u0078t":"TD","mobile":"13800138000"}]'),
    "with a mark of the order of bytes": field("sms_status", "\ufeff" + json.dumps([REPLIED])),
    "beside a signed one": "&".join(
        [field("sms_reply", proven(REPLIED)), field("sms_status", [REPLIED])]
    ),
    "before a signed one": f"{field('sms_reply', REPLIED)}&{field('sms_reply', proven(REPLIED))}",
    "cut off": field("sms_status", json.dumps([REPLIED])[:-1]),
    "two that are no list": field("sms_status", f'{{"a":1}},{json.dumps(REPLIED)}'),
    "of no kind": field("sms_status", [RECEIPT, {"odd": 1}]),
    "a text": field("sms_status", ["&text=TD&mobile=13800138000&id=1"]),
    "under a name that is not read": field("sms", REPLIED),
}


@pytest.mark.parametrize("how", WRITINGS)
def test_no_reply_of_yunpian_gets_in_unsigned_however_it_is_written(
    shared: Program, app: App, tmp_path: Path, own_rows: list[str], how: str
) -> None:
    """Nor does what may be read as one later: it is refused, and not parked."""
    token = create_token(shared, app, tmp_path, *YUNPIAN)
    body = WRITINGS[how]
    for source in ("yunpian", "own-form", "own-body", "own-records"):
        path = f"/in/{token}/{source}"
        assert post(shared, path, body, None) == 401, source
        if source in ("yunpian", "own-form"):  # others read bodies alone
            assert post(shared, f"{path}?{body}", "", None) == 401, source
    assert stored(shared, app) == []


def test_no_reply_of_yunpian_gets_in_unsigned_as_a_body(
    shared: Program, app: App, tmp_path: Path, own_rows: list[str]
) -> None:
    token = create_token(shared, app, tmp_path, *YUNPIAN)
    record = {"mobile": "13800138000", "nationcode": "86", "text": "TD", "sign": "", "time": 1}
    form = '{"text":"TD","mobile":"1","x":"&report_status=FAIL&sid=1&mobile=13800138000'
    for source in ("yunpian", *own_rows):
        path = f"/in/{token}/{source}"
        for sent in (REPLIED, [REPLIED], record, [record], [REPLIED, proven(REPLIED)]):
            assert shared.http.post(path, json=sent).status_code == 401, (source, sent)
        zipped = gzip.compress(field("sms_reply", REPLIED).encode())
        headers = {"content-type": FORM, "content-encoding": "gzip"}
        assert shared.http.post(path, content=zipped, headers=headers).status_code == 401
        assert post(shared, path, form, None) == 401, "it would be read again as JSON"
    assert stored(shared, app) == []


def test_a_token_that_was_revoked_just_now_is_unknown(
    shared: Program, app: App, tmp_path: Path
) -> None:
    """It has no key any more, and nothing is no key."""
    token = create_token(shared, app, tmp_path)
    path = f"/in/{token}/twilio"
    url = str(shared.http.base_url).rstrip("/") + path
    first, second = BODY.format(7), BODY.format(8)
    assert post(shared, path, first, signature(url, first)) == 200
    shared.cli("token", "revoke", f"twilio-{app.sdkappid}")
    headers = {"content-type": FORM, "x-twilio-signature": signature(url, second, "")}
    answer = shared.http.post(path, content=second.encode(), headers=headers)
    assert (answer.status_code, answer.json()["title"]) == (401, "Unknown token")
    assert [row["sid"] for row in shared.pull(app, STATUS).data] == ["SM7"]


def test_a_scheme_is_said_with_a_key(shared: Program, app: App) -> None:
    for command in (("create", f"no-key-{app.sdkappid}"), ("set", "any", "--unsigned")):
        arguments = ["token", *command, *YUNPIAN, "--store", shared.store]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2
        assert "--signature-key-file" in done.stderr

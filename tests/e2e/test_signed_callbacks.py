"""Callbacks of a gateway that signs: what its key did not sign is refused, and not stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from pullstatus.receipts.signatures import Signed, sign
from tests.harness import STATUS, App, Program

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


def create_token(program: Program, app: App, folder: Path) -> str:
    key = folder / "key"
    key.write_text(KEY + "\n")
    made = program.cli(
        *("token", "create", f"twilio-{app.sdkappid}", "--sdkappid", str(app.sdkappid)),
        *("--signature-key-file", str(key)),
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

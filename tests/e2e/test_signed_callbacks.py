"""Callbacks of a gateway that signs: what its key did not sign is refused, and not stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path
from urllib.parse import parse_qsl

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

"""The vectors that the protocol's document prints, computed anew from the text around them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "reference" / "protocol.md").read_text("utf-8")
APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
SECRET = b"Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
SENT_S = 1_620_734_188
LIMIT_FIRST = '{"Limit": 100, "SmsSdkAppId": "1400006666"}'
APP_FIRST = '{"SmsSdkAppId":"1400006666","Limit":100}'
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
SMS = "sms.tencentcloudapi.com"
LOCAL = "127.0.0.1:8080"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def printed(mark: str, column: int) -> str:
    """A cell of the one table row that holds `mark`."""
    (row,) = [line for line in TEXT.splitlines() if line.startswith("|") and mark in line]
    return row.split("|")[column].strip().strip("`")


@pytest.mark.parametrize(
    ("row", "signed"),
    [
        ("(published) | `c13e", "&random=7226249334&time=1457336869"),
        ("(published) | `ecab", "&random=7226249334&time=1457336869&mobile=13788888888"),
        (
            "(published) | `be66",
            "&random=7226249334&time=1457336869&mobile=13788888888,13788888889",
        ),
        ("`012345` | |", "&random=012345&time=1457336869"),
        ("`12345` | |", "&random=12345&time=1457336869"),
        ("`0` | |", "&random=0&time=1457336869"),
        ("`9223372036854775807` | |", "&random=9223372036854775807&time=1457336869"),
        ("time 1457336869000", "&random=7226249334&time=1457336869000"),
        ("`rand=` for `random=`", "&rand=7226249334&time=1457336869"),
        ("`&mobile=` with nothing", "&random=7226249334&time=1457336869&mobile="),
        ("a blank behind the appkey", " &random=7226249334&time=1457336869"),
    ],
)
def test_v5(row: str, signed: str) -> None:
    assert printed(row, 3) == sha256(f"appkey={APPKEY}{signed}")


def tc3(
    host: str,
    *,
    service: str = "sms",
    content_type: str = JSON,
    body: str = LIMIT_FIRST,
    at_s: int = SENT_S,
    method: str = "POST",
    query: str = "",
    action: str = "",
) -> str:
    """What section 11.2 says."""
    signed = {"content-type": content_type, "host": host}
    if action:
        signed["x-tc-action"] = action.lower()
    block = "".join(f"{name}:{value}\n" for name, value in sorted(signed.items()))
    canonical = f"{method}\n/\n{query}\n{block}\n{';'.join(sorted(signed))}\n{sha256(body)}"
    day = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
    scope = f"{day}/{service}/tc3_request"
    key = b"TC3" + SECRET
    for part in (day, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"TC3-HMAC-SHA256\n{at_s}\n{scope}\n{sha256(canonical)}"
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.parametrize(
    ("row", "signature"),
    [
        ("| headers `content-type;host` |", tc3(SMS)),
        ("content-type;host;x-tc-action", tc3(SMS, action="PullSmsSendStatus")),
        ("timestamp 1620750600", tc3(SMS, at_s=1_620_750_600)),
        (f"| `{LOCAL}` | |", tc3(LOCAL)),
        ("Node: host `127.0.0.1`", tc3("127.0.0.1", service="127", body=APP_FIRST)),
        ("Node: host `localhost`", tc3("localhost", service="localhost:8080", body=APP_FIRST)),
        (
            "| Java, .NET: service",
            tc3(LOCAL, service="127", content_type=f"{JSON}; charset=utf-8", body=APP_FIRST),
        ),
        ("Python, unsigned payload", tc3(LOCAL, body="UNSIGNED-PAYLOAD")),
        (
            "Python, GET",
            tc3(
                LOCAL,
                method="GET",
                query="Limit=100&SmsSdkAppId=1400006666",
                content_type=FORM,
                body="",
            ),
        ),
    ],
)
def test_tc3(row: str, signature: str) -> None:
    assert printed(row, 3) == signature


def test_hashes_of_bodies() -> None:
    assert f"`{sha256(LIMIT_FIRST)}`" in TEXT
    assert f"`{sha256(APP_FIRST)}`" in TEXT


@pytest.mark.parametrize(("method", "algorithm"), [("HmacSHA256", "sha256"), ("HmacSHA1", "sha1")])
def test_v1(method: str, algorithm: str) -> None:
    (text,) = re.findall(r"`(POST127\.0\.0\.1.*)`", TEXT)
    signed = text.replace("HmacSHA256", method).encode()
    assert f"`{base64.b64encode(hmac.digest(SECRET, signed, algorithm)).decode()}`" in TEXT

"""Calls of API 3.0 to the server's application without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import structlog

from pullstatus.apps import Grant, LivePair, SecretPair
from pullstatus.wire.api3 import signing
from tests.harness import Answer
from tests.sealing import KEYRING
from tests.unit.server.asgi import APP, Served

NOW_S: Final = 1_800_000_000
ID, KEY = f"AKID{'I' * 32}", "k" * 32
HOST: Final = "mailbox.test"
PULL: Final[dict[str, object]] = {"SmsSdkAppId": str(APP.sdkappid), "Limit": 10}

BODY: Final = json.dumps(PULL).encode()
QUESTION: Final = (
    b'{"SmsSdkAppId":"%d","PhoneNumber":"+8613800000001","BeginTime":%d,"Offset":0,"Limit":"10"}'
    % (APP.sdkappid, NOW_S - 60)
)
HOURS: Final = (
    b'{"SmsSdkAppId":"%d","BeginTime":"2027011500","EndTime":2027011523,"Limit":0,"Offset":0}'
    % APP.sdkappid
)
FORM: Final = {"host": HOST, "content-type": "application/x-www-form-urlencoded"}
SETTING: Final = b'{"sdkappid":%d,"appkeys":[],"created_ms":0}' % APP.sdkappid
PAIR: Final = msgspec.json.encode(
    KEYRING.seal_pair(
        SecretPair(ID, (Grant(APP.sdkappid, ""),), 0, "0" * 16, KEY), lambda size: "0" * 2 * size
    )
)

Headers = dict[str, str]


def served(*, unsigned_payload: bool = False, v1: bool = False) -> Served:
    """A server that knows one pair, which may read its one application."""
    made = Served(now_ms=lambda: NOW_S * 1000)
    grants = (Grant(APP.sdkappid, ""),)
    pair = SecretPair(ID, grants, 0, "0" * 16, unsigned_payload=unsigned_payload, v1=v1)
    made.registry.pairs[ID] = LivePair(pair, KEY)
    return made


def signed(
    action: str,
    body: bytes,
    *,
    key: str = KEY,
    secret_id: str = ID,
    at_s: int = NOW_S,
    version: str = "2021-01-11",
    query: str = "",
    method: str = "POST",
    more: Headers | None = None,
) -> Headers:
    """The headers of a call, `more` among them."""
    form = "application/x-www-form-urlencoded" if method == "GET" else "application/json"
    sent = {
        "host": HOST,
        "content-type": form,
        "x-tc-action": action,
        "x-tc-version": version,
        "x-tc-timestamp": str(at_s),
    }
    sent |= more or {}
    encoded = {name.encode(): value.encode() for name, value in sent.items()}
    request = signing.Request(method, query.encode(), encoded, body)
    return sent | {"authorization": signing.sign(request, secret_id, key).decode()}


def form(
    text: str,
    action: str,
    method: str = "HmacSHA256",
    *,
    key: str = KEY,
    secret_id: str = ID,
) -> bytes:
    """A form that is signed by version 1, with these parameters among others."""
    parameters = dict(part.partition("=")[::2] for part in text.split("&") if part)
    parameters |= {"Action": action, "Version": "2021-01-11", "Timestamp": str(NOW_S)}
    parameters |= {"SecretId": secret_id, "SignatureMethod": method}
    encoded = {
        name: value.encode("utf-8", "replace").decode() for name, value in parameters.items()
    }
    signature = signing.sign_v1("POST", HOST.encode(), encoded, key)
    return urlencode(encoded | {"Signature": signature}).encode()


async def say(
    to: Served, headers: Headers, body: bytes, method: str = "POST", query: str = ""
) -> Answer | None:
    """Make a call; None: it is not answered."""
    return await to.ask(method, f"/?{query}", body, list(headers.items()))


def call(
    to: Served, action: str = "PullSmsSendStatus", members: object = PULL, **more: str
) -> tuple[Answer | None, Sequence[Any]]:
    """Make a signed call, with more headers; and what was logged."""
    body = json.dumps(members).encode()
    headers = signed(
        action, body, more={name.replace("_", "-"): value for name, value in more.items()}
    )
    with structlog.testing.capture_logs() as logged:
        return asyncio.run(say(to, headers, body)), logged


def response(answer: Answer | None) -> dict[str, Any]:
    """What is in the envelope that every SDK needs."""
    assert answer is not None
    assert answer.http_status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    [(name, told)] = answer.json.items()
    assert name == "Response"
    assert len(told["RequestId"]) == 36
    return dict(told)


def code(answer: Answer | None) -> str:
    """The code of its error; "" if it worked."""
    return str(response(answer).get("Error", {}).get("Code", ""))

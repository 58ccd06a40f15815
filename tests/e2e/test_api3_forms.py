"""Requests of API 3.0 as each of its SDKs lays them on the wire, byte for byte, to a real server.

The signatures are of one second of 2021, at which this server's clock stands, and of a key that
documents show. The forms of Java, .NET, PHP, Go and Ruby are taken from the sources of their SDKs
and HTTP clients: what is signed, the order of headers, blanks. Those of Node and Python were sent
by them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from pullstatus import limits
from tests.harness import STATUS, App, Program, Wire, status

SIGNED_S: Final = 1_620_734_188
NUMBER: Final = 1_400_006_666
ID, KEY = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"

_THEN: Final = f"""
from pullstatus import clock
assert clock.wall_ms() > {SIGNED_S}_000
clock.wall_ms = lambda: {SIGNED_S}_123
from pullstatus.cli import main
main(prog_name="pullstatus")
"""

pytestmark = pytest.mark.anew  # its server sets a clock that modules take as they are loaded

BODY: Final = '{"SmsSdkAppId":"1400006666","Limit":100}'
QUERY: Final = "SmsSdkAppId=1400006666&Limit=100"
V1: Final = (
    "SmsSdkAppId=1400006666&Limit=100&Action=PullSmsSendStatus&RequestClient=%s&Nonce=11886"
    "&Timestamp=1620734188&Version=2021-01-11&SecretId=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"
    "&Region=ap-guangzhou&SignatureMethod=%s&Signature=%s"
)


def credential(service: str, names: str = "content-type;host") -> str:
    return f"Credential={ID}/2021-05-11/{service}/tc3_request, SignedHeaders={names}, Signature="


def request(first: str, *lines: str, body: str = "") -> bytes:
    return "\r\n".join([f"{first} HTTP/1.1", *lines, "", body]).encode()


TC3: Final = "TC3-HMAC-SHA256"
SIZE: Final = f"Content-Length: {len(BODY)}"
HOST: Final = "Host: 127.0.0.1:8080"
FORM: Final = "Content-Type: application/x-www-form-urlencoded"

POST_PORT = "4842f9ac0339dbc56a5e36f777a5fffc489d0fbc5c0af09336828e3b954e8438"
GET_PORT = "51f4a4758feebf4be7040897efda7363f4cb1ee6f99535d5434954a8672ec3c2"


def v1_of_java() -> str:
    return V1 % (
        "SDK_JAVA_3.1.322",
        "HmacSHA256",
        "fpTd%2FhlvfUrLwzcicL8hwiLwiLTkP4JhivBsR6uxl9M%3D",
    )


def v1_of_net() -> str:
    return V1 % ("SDK_NET_3.0.0", "HmacSHA256", "1X6dip9qJJzh72lyblqCh9RRw6YeV805rU8e1zksoa0%3D")


def v1_of_php(signature: str) -> str:
    return V1 % ("SDK_PHP_3.0.462", "HmacSHA1", signature)


def v1_of_go() -> str:
    """Without a region: sent as one of none, and not signed."""
    return (
        "Action=PullSmsSendStatus&Limit=100&Nonce=11886&Region=&RequestClient=SDK_GO_1.0.1000"
        f"&SecretId={ID}&Signature=6Hx%2FjrS3Z5uNIRUMK7eOSelWBnIGC37a8DFXTtlhIrM%3D"
        "&SignatureMethod=HmacSHA256&SmsSdkAppId=1400006666&Timestamp=1620734188&Version=2021-01-11"
    )


def v1_of_ruby() -> str:
    """With a line feed behind the signature, as its base64 has it."""
    return V1 % (
        "SDK_RUBY_3.0.800",
        "HmacSHA256",
        "p8AcUPsxfMi1cC%2BZfoShDVdkQNecAd5azeOsaMoh0KA%3D%0A",
    )


FORMS: Final[dict[str, bytes]] = {
    "Java": request(
        "POST /",
        HOST,
        f"Authorization: {TC3} {credential('127')}{POST_PORT}",
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "X-TC-RequestClient: SDK_JAVA_3.1.322",
        "X-TC-Region: ap-guangzhou",
        "Content-Type: application/json; charset=utf-8",
        SIZE,
        "Connection: Keep-Alive",
        "Accept-Encoding: gzip",
        "User-Agent: okhttp/3.12.13",
        body=BODY,
    ),
    "Java, GET": request(
        f"GET /?{QUERY}",
        FORM,
        HOST,
        f"Authorization: {TC3} {credential('127')}{GET_PORT}",
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "X-TC-RequestClient: SDK_JAVA_3.1.322",
        "Connection: Keep-Alive",
        "Accept-Encoding: gzip",
        "User-Agent: okhttp/3.12.13",
    ),
    "Java, v1, GET": request(
        f"GET /?{v1_of_java()}",
        HOST,
        "Connection: Keep-Alive",
        "Accept-Encoding: gzip",
        "User-Agent: okhttp/3.12.13",
    ),
    ".NET": request(
        "POST /",
        HOST,
        f"Authorization: {TC3}  {credential('127')}{POST_PORT}",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "X-TC-Region: ",
        "X-TC-RequestClient: SDK_NET_3.0.0",
        "X-TC-Action: PullSmsSendStatus",
        "Content-Type: application/json; charset=utf-8",
        SIZE,
        body=BODY,
    ),
    ".NET, GET": request(
        f"GET /?{QUERY}",
        HOST,
        f"Authorization: {TC3}  {credential('127')}"
        "c9a19cecefb989983fb2ee52902853b154912c702341bd5a5004030d750d163e",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "X-TC-Region: ap-guangzhou",
        "X-TC-RequestClient: SDK_NET_3.0.0",
        "X-TC-Action: PullSmsSendStatus",
        f"{FORM}; charset=utf-8",
        "Content-Length: 0",
    ),
    ".NET, v1": request(
        "POST /?",
        HOST,
        f"{FORM}; charset=utf-8",
        f"Content-Length: {len(v1_of_net())}",
        body=v1_of_net(),
    ),
    "PHP": request(
        "POST /",
        HOST,
        "User-Agent: GuzzleHttp/7",
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-RequestClient: SDK_PHP_3.0.462",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "X-TC-Region: ap-guangzhou",
        "Content-Type: application/json",
        f"Authorization: {TC3} {credential('127')}"
        "d8378c04798a06501b9e01e0169f786d5f0d9c90156c48ed0a2802fe086ce7c0",
        SIZE,
        body=BODY,
    ),
    "PHP, GET": request(
        f"GET /?{QUERY}",
        HOST,
        "User-Agent: GuzzleHttp/7",
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-RequestClient: SDK_PHP_3.0.462",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        FORM,
        f"Authorization: {TC3} {credential('127')}{GET_PORT}",
    ),
    "PHP, v1": request(
        "POST /",
        HOST,
        "User-Agent: GuzzleHttp/7",
        FORM,
        f"Content-Length: {len(v1_of_php('dHlBz2mo%2FDB%2FVQRcBv08yXh5s%2BE%3D'))}",
        body=v1_of_php("dHlBz2mo%2FDB%2FVQRcBv08yXh5s%2BE%3D"),
    ),
    "PHP, v1, GET": request(
        f"GET /?{v1_of_php('fhqdz6SwD53d3KnXtvEWIfynfZw%3D')}", HOST, "User-Agent: GuzzleHttp/7"
    ),
    "Go": request(
        "POST /",
        HOST,
        "User-Agent: Go-http-client/1.1",
        SIZE,
        f"Authorization: {TC3} {credential('sms')}"
        "66b73af4d502d2db8aba0ecaa1a3e316ff95d3f2850cc812e35873323529966a",
        "Content-Type: application/json",
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-Language: zh-CN",
        "X-TC-Region: ap-guangzhou",
        "X-TC-RequestClient: SDK_GO_1.0.1000",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "Accept-Encoding: gzip",
        body=BODY,
    ),
    "Go, GET": request(
        "GET /?Limit=100&SmsSdkAppId=1400006666",
        HOST,
        "User-Agent: Go-http-client/1.1",
        f"Authorization: {TC3} {credential('sms')}"
        "b14e51182b069b7272ff9cabda98aa9b8c5a830508d560a2b7e58411e450680a",
        FORM,
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-Language: zh-CN",
        "X-TC-RequestClient: SDK_GO_1.0.1000",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "Accept-Encoding: gzip",
    ),
    "Go, v1, no region": request(
        "POST /",
        HOST,
        "User-Agent: Go-http-client/1.1",
        f"Content-Length: {len(v1_of_go())}",
        FORM,
        "Accept-Encoding: gzip",
        body=v1_of_go(),
    ),
    "Ruby, v1": request(
        "POST /",
        "Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
        "Accept: */*",
        "User-Agent: Ruby",
        FORM,
        HOST,
        f"Content-Length: {len(v1_of_ruby())}",
        body=v1_of_ruby(),
    ),
    "Python, unsigned payload": request(
        "POST /",
        HOST,
        "User-Agent: python-requests/2.32.5",
        "Accept-Encoding: gzip, deflate",
        "Accept: */*",
        "Connection: keep-alive",
        "Content-Type: application/json",
        "X-TC-Content-SHA256: UNSIGNED-PAYLOAD",
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-RequestClient: SDK_PYTHON_3.1.195",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        "X-TC-Region: ap-guangzhou",
        f"Authorization: {TC3} {credential('sms')}"
        "9f7de9e7d3ef8a0a82fc9e5041a41a157195653112a19be4f0d2cc303e9cdda3",
        SIZE,
        body=BODY,
    ),
    "newer documents": request(
        "POST /",
        f"Authorization: {TC3} {credential('sms', 'content-type;host;x-tc-action')}"
        "b2e6166eab022f9e1bd4e458353b0864732debaa427c1aaeffdb530ff5bd0cfc",
        "Content-Type: application/json",
        HOST,
        "X-TC-Action: PullSmsSendStatus",
        "X-TC-Timestamp: 1620734188",
        "X-TC-Version: 2021-01-11",
        SIZE,
        body=BODY,
    ),
}


@pytest.fixture(scope="module")
def then(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server whose clock stands at the second that these requests were signed in."""
    folder = tmp_path_factory.mktemp("then")
    program = Program(folder, command=(sys.executable, "-c", _THEN))
    program.cli("app", "create", str(NUMBER))
    key = folder / "key"
    key.write_text(KEY)
    given = ("--secret-id", ID, "--secret-key-file", str(key))
    program.cli("secret", "create", "--app", str(NUMBER), *given, "--v1", "--unsigned-payload")
    with program:
        yield program


def ask(program: Program, asked: bytes) -> dict[str, Any]:
    """What a request is answered, in the envelope that all SDKs need."""
    with Wire(program.host, program.port) as wire:
        wire.send(asked)
        answer = wire.read()
    assert answer.http_status == 200
    assert answer.header("content-type") == "application/json"
    [(name, response)] = json.loads(answer.content).items()
    assert name == "Response"
    assert response["RequestId"]
    return dict(response)


@pytest.mark.parametrize("form", FORMS)
def test_every_sdk_is_understood(then: Program, form: str) -> None:
    """And a byte that is not as it was signed is not."""
    then.ingest(App(NUMBER, ""), STATUS, [status(1, sid="8:form")])
    asked = FORMS[form]
    changed = asked.replace(b"1400006666", b"1400006667")
    if "unsigned" not in form:
        assert code_of(ask(then, changed)) == "AuthFailure.SignatureFailure"
    answered = ask(then, asked)
    assert "Error" not in answered, answered
    [record] = answered["PullSmsSendStatusSet"]
    assert record["SerialNo"] == "8:form"


def test_what_is_left_unsigned_is_said(then: Program) -> None:
    """An unsigned body may be changed by anybody, but not its headers; and that takes a key that
    allows it."""
    asked = FORMS["Python, unsigned payload"]
    changed = asked.replace(b'"Limit":100', b'"Limit":1  ')
    assert "Error" not in ask(then, changed)
    other_type = asked.replace(b"application/json", b"application/jsom")
    assert code_of(ask(then, other_type)) == "AuthFailure.SignatureFailure"


def test_blanks_around_a_value_are_no_part_of_it(then: Program) -> None:
    lines = FORMS["newer documents"].split(b"\r\n")
    blanks = [line.replace(b": ", b": \t", 1) + b" \t" if b": " in line else line for line in lines]
    assert "Error" not in ask(then, b"\r\n".join(blanks))


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (limits.API3_QUERY_BYTES_MAX, "AuthFailure.InvalidAuthorization"),
        (limits.API3_QUERY_BYTES_MAX + 1, "RequestSizeLimitExceeded"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_query_has_a_bound_of_its_own(then: Program, method: str, size: int, code: str) -> None:
    head = (HOST, "X-TC-Action: PullSmsSendStatus", "X-TC-Version: 2021-01-11", "Content-Length: 0")
    assert code_of(ask(then, request(f"{method} /?{'x' * size}", *head))) == code


def code_of(response: dict[str, Any]) -> Any:  # noqa: ANN401 - of JSON
    return response["Error"]["Code"]

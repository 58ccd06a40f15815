"""What the environment says about proxies and certificates, and that nothing else leaves us.

Values of every shape that desktops, containers and corporate images have been seen to set.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from pullstatus import (
    AnswerLost,
    AsyncClient,
    CertificateRefused,
    Client,
    ClientError,
    InvalidArgument,
    InvalidEnvironment,
    Kind,
    NotConnected,
    Page,
    PullstatusError,
)
from tests.unit.client.conftest import APPKEY, SDKAPPID, Hands

FAR = "https://sms.example"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
EMPTY_PAGE = b'{"result":0,"errmsg":"ok","type":1,"count":0,"data":[]}'

Pull = Callable[..., Page[Any]]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *(name.lower() for name in VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["sync", "async"])
def pull(request: pytest.FixtureRequest) -> Pull:
    """Makes a client, pulls a page of replies, closes it."""

    def sync(base_url: str, **options: Any) -> Page[Any]:  # noqa: ANN401 - the client's own
        with Client(base_url, SDKAPPID, APPKEY, **options) as client:
            return client.pull(Kind.REPLY)

    def asynchronous(base_url: str, **options: Any) -> Page[Any]:  # noqa: ANN401 - as above
        async def run() -> Page[Any]:
            async with AsyncClient(base_url, SDKAPPID, APPKEY, **options) as client:
                return await client.pull(Kind.REPLY)

        return asyncio.run(run())

    return sync if request.param == "sync" else asynchronous


class _Service(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(EMPTY_PAGE)))
        self.end_headers()
        self.wfile.write(EMPTY_PAGE)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., HTTPServer]]:
    """Starts services; `seen` of each has the targets that it was asked for."""
    servers: list[HTTPServer] = []

    def start(context: ssl.SSLContext | None = None) -> HTTPServer:
        server = HTTPServer(("127.0.0.1", 0), _Service)
        server.seen = []  # type: ignore[attr-defined]
        if context is not None:
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        # Without threads a client that fails its handshake ends the answering of that connection
        # only; a server that polls seldom would make the end of each test slow.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


# --- proxies --------------------------------------------------------------------------------------

UNUSABLE = [
    "socks://127.0.0.1:7890/",
    "socks4://127.0.0.1:7890",
    "ftp://127.0.0.1:7890",
    "tcp://10.0.0.1:3128",
    "http://",
    "http://[::1",
    "http://a b:3128",
    "http://proxy.example:port",
    "http://proxy.example:99999",
    "http://\u2488.example",
    "://",
    "\x7f",
    "proxy.example:port",
    "http://user:se@cret:word@",
]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", UNUSABLE, ids=repr)
def test_proxy_of_no_use_is_named_and_its_value_kept_back(
    pull: Pull, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidEnvironment) as caught:
        pull(FAR, attempts_max=1)
    assert variable in str(caught.value)
    assert "NO_PROXY" in caught.value.fix
    assert "cret" not in str(caught.value)
    assert not caught.value.may_have_consumed


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:7890", "socks5h://127.0.0.1:7890"])
def test_socks_without_its_package_is_said(
    pull: Pull, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(
        InvalidEnvironment, match=r"^ALL_PROXY names a SOCKS proxy.*socksio"
    ) as told:
        pull(FAR)
    assert told.value.fix.startswith("install it, unset it, or name"), "it is written rightly"


@pytest.mark.parametrize("value", [*UNUSABLE, "http://127.0.0.1:1"], ids=repr)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_reached_whatever_proxy_is_named(
    pull: Pull,
    serve: Callable[..., HTTPServer],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    host: str,
) -> None:
    for variable in ("HTTP_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.setenv(variable, value)
    assert len(pull(f"http://{host}:{serve().server_port}")) == 0


NO_PROXY = [
    ("sms.example", True),
    (".example", True),
    ("*.example", True),
    ("SMS.Example.", True),
    ("other.example, sms.example", True),
    ("other.example sms.example", True),
    ("*", True),
    ("sms.example:80", True),
    ("http://sms.example", True),
    ("sms.example:81", False),
    ("ms.example", False),
    ("[::1]", False),
    ("localhost,127.0.0.1,[::1]", False),
    ("fe80::/10", False),
    ("10.0.0.0/8,,", False),
    ("[", False),
    ("http://[::1", False),
    ("sms.example:port", False),
    ("\u2488", False),
]


@pytest.mark.parametrize(("value", "direct"), NO_PROXY)
def test_no_proxy_of_every_shape(
    pull: Pull,
    serve: Callable[..., HTTPServer],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    direct: bool,
) -> None:
    """Without an exception the proxy is asked; with one, nobody is there."""
    proxy = serve()
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("NO_PROXY", value)
    if direct:
        with pytest.raises(NotConnected):
            pull("http://sms.example", attempts_max=1)
        assert proxy.seen == []  # type: ignore[attr-defined]
    else:
        assert len(pull("http://sms.example")) == 0
        assert proxy.seen[0].startswith("http://sms.example/v5/")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("base_url", "value", "direct"),
    [
        ("http://192.0.2.7", "192.0.2.0/24", True),
        ("http://192.0.2.7", "192.0.2.7", True),
        ("http://192.0.2.7", "2.7", False),
        ("http://[2001:db8::1]", "[2001:db8::1]", True),
        ("http://[2001:db8::1]", "2001:db8::/32", True),
        ("http://[2001:db8::1]", "fe80::/10", False),
        ("http://[::1]:9", "", True),
        ("http://127.9.9.9:9", "", True),
    ],
)
def test_addresses_are_excepted_alone_and_by_network(
    monkeypatch: pytest.MonkeyPatch, base_url: str, value: str, direct: bool
) -> None:
    from pullstatus.client.route import _proxy_for

    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("NO_PROXY", value)
    assert (_proxy_for(httpx.URL(base_url), {}) is None) is direct


# --- certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_certificates_that_are_not_there_are_named(
    pull: Pull, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "absent" / "file.pem"))
    with pytest.raises(InvalidEnvironment, match=rf"what {variable} names cannot be used"):
        pull(FAR)


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\x00"])
def test_a_file_that_holds_no_certificate_is_named(
    pull: Pull, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "odd.pem"
    file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(InvalidEnvironment, match="what SSL_CERT_FILE names cannot be used"):
        pull(FAR)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def encrypted(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_unknown_certificate_is_refused_at_once_and_the_variable_named(
    pull: Pull,
    serve: Callable[..., HTTPServer],
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Repeating cannot help, so there is no pause; with SSL_CERT_FILE it works."""
    port = serve(encrypted(authority, "127.0.0.1")).server_port

    def never(_s: float) -> None:
        pytest.fail("a certificate does not get better")

    with pytest.raises(CertificateRefused, match="SSL_CERT_FILE") as caught:
        pull(f"https://127.0.0.1:{port}", sleep=never)
    assert not caught.value.may_have_consumed
    assert isinstance(caught.value.__cause__, httpx.ConnectError)

    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    assert len(pull(f"https://127.0.0.1:{port}")) == 0


def test_certificate_of_another_name_is_told_from_an_unknown_one(
    pull: Pull,
    serve: Callable[..., HTTPServer],
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    port = serve(encrypted(authority, "sms.example")).server_port
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(CertificateRefused, match="base_url must name the host"):
            pull(f"https://{host}:{port}")


# --- whatever is raised below ---------------------------------------------------------------------

UNFORESEEN = [
    RuntimeError("Event loop is closed"),
    OSError(24, "Too many open files"),
    ValueError("odd"),
    UnicodeError("odd"),
    httpx.InvalidURL("odd"),
    httpx.StreamError("odd"),
    httpx.TooManyRedirects("odd"),
    OverflowError("timeout is too large"),
    MemoryError(),
    KeyError("odd"),
]


@pytest.mark.parametrize("raised", UNFORESEEN, ids=repr)
def test_only_our_own_tree_leaves(client: Hands, raised: Exception) -> None:
    """What is not known to come before the request may have come after: in doubt."""
    client.over(raised)
    with pytest.raises(AnswerLost, match=type(raised).__name__) as caught:
        client.pull(Kind.REPLY)
    assert caught.value.may_have_consumed
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_what_ends_a_program_or_task_is_no_failure_of_a_call(raised: BaseException) -> None:
    def end(_request: httpx.Request) -> httpx.Response:
        raise raised

    with (
        Client(FAR, SDKAPPID, APPKEY, transport=httpx.MockTransport(end)) as client,
        pytest.raises(type(raised)),
    ):
        client.pull(Kind.REPLY)


ODD_URLS = [
    "",
    "http://",
    "http:///path",
    "[::1",
    "http://[::1",
    "http://::1",
    "sms.example",
    "ftp://sms.example",
    "http://sms.example:port",
    "http://sms.example:99999",
    "http://sms example",
    "http://sms.example\n",
    "\thttp://sms.example",
    "http://sms.example/\x00",
    "http://user:secret@sms.example",
    "http://user@sms.example",
    "http://sms.example?a=1",
    "http://sms.example#a",
    "http://sms.example?",
    "http://sms.example/#",
    "http://\ud800.example",
    "http://sms..example",
    "http://.example",
    f"http://{'a' * 64}.example",
    "http://\u2488.example",
    None,
    b"http://sms.example",
    httpx.URL("http://sms.example"),
    8080,
]


@pytest.mark.parametrize("base_url", ODD_URLS, ids=repr)
@pytest.mark.parametrize("colour", [Client, AsyncClient])
def test_odd_addresses_are_invalid_arguments(colour: Any, base_url: Any) -> None:  # noqa: ANN401 - wrong types too
    with pytest.raises(InvalidArgument, match="base_url") as caught:
        colour(base_url, SDKAPPID, APPKEY)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://b\u00fccher.example",
        "http://[2001:db8::1]:80/a/",
        "http://sms.example.",
        f"http://{'a' * 63}.example",
        "http://sms_1.example",
    ],
)
def test_unusual_addresses_are_taken(base_url: str) -> None:
    with Client(base_url, SDKAPPID, APPKEY):
        pass


ODD_ARGUMENTS: list[tuple[str, dict[str, object]]] = [
    ("sdkappid must be an int, or its digits", {"sdkappid": "14OOOO6666"}),
    ("sdkappid must be an int, or its digits", {"sdkappid": ""}),
    ("sdkappid must be an int, or its digits", {"sdkappid": "-1"}),
    ("sdkappid must be an int, or its digits", {"sdkappid": "\u0661"}),
    ("sdkappid must be an int, or its digits", {"sdkappid": "1" * 5000}),
    ("sdkappid must be from 1", {"sdkappid": "0"}),
    ("sdkappid must be an int, not a bytes", {"sdkappid": b"1400006666"}),
    ("sdkappid must be an int, not a bool", {"sdkappid": True}),
    ("sdkappid must be an int", {"sdkappid": None}),
    ("sdkappid must be from 1", {"sdkappid": 0}),
    ("appkey must be a str", {"appkey": b"0" * 32}),
    ("appkey must be a str", {"appkey": None}),
    ("appkey has control", {"appkey": "0\x00"}),
    ("appkey has control", {"appkey": "0\ud800"}),
    ("appkey has a blank", {"appkey": "0 "}),
    ("timeout_s", {"timeout_s": "30"}),
    ("timeout_s", {"timeout_s": 0}),
    ("timeout_s", {"timeout_s": float("nan")}),
    ("timeout_s", {"timeout_s": float("inf")}),
    ("timeout_s", {"timeout_s": None}),
    ("attempts_max must be an int", {"attempts_max": "5"}),
    ("attempts_max must be 1 or more", {"attempts_max": 0}),
]


@pytest.mark.parametrize(("said", "changes"), ODD_ARGUMENTS, ids=repr)
@pytest.mark.parametrize("colour", [Client, AsyncClient])
def test_arguments_of_other_types_are_invalid_arguments(
    colour: Any,  # noqa: ANN401 - called with wrong types
    said: str,
    changes: dict[str, Any],
) -> None:
    arguments = {"base_url": FAR, "sdkappid": SDKAPPID, "appkey": APPKEY} | changes
    with pytest.raises(InvalidArgument, match=said):
        colour(**arguments)


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("kind must be", {"kind": "reply"}),
        ("kind must be", {"kind": 2}),
        ("kind must be", {"kind": None}),
        ("max must be an int", {"kind": 0, "max": "10"}),
        ("max must be from 1 to 100", {"kind": 0, "max": 101}),
        ("key must be", {"kind": 0, "key": 7}),
        ("key must be", {"kind": 0, "key": "a b"}),
    ],
)
def test_a_pull_with_odd_arguments_sends_nothing(
    client: Hands, said: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        client.pull(**options)
    assert client.requests == []


def test_a_closed_client_says_so(client: Hands) -> None:
    closed = Client(FAR, SDKAPPID, APPKEY)
    closed.close()
    closed.close()
    with pytest.raises(InvalidArgument, match="the client is closed"):
        closed.pull(Kind.REPLY)

    async def run() -> None:
        other = AsyncClient(FAR, SDKAPPID, APPKEY)
        await other.aclose()
        await other.aclose()
        with pytest.raises(InvalidArgument, match="the client is closed"):
            await other.pull(Kind.REPLY)

    asyncio.run(run())


@pytest.mark.parametrize("options", [{}, {"state": "file"}, {"reader": "r"}], ids=str)
def test_a_client_that_was_closed_elsewhere_says_so(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """In another event loop, or in the process that this one was forked from."""
    if "state" in options:
        options = {"state": tmp_path / "file"}
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=EMPTY_PAGE)

    transport = httpx.MockTransport(answer)
    other = AsyncClient(FAR, SDKAPPID, APPKEY, transport=transport, **options)
    asyncio.run(other.aclose())
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="the client is closed"):
            asyncio.run(other.pull(Kind.REPLY))
        asyncio.run(other.aclose())
    closed = Client(FAR, SDKAPPID, APPKEY, transport=transport, **options)
    closed.close()
    closed._connections.process = -1
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="the client is closed"):
            closed.pull(Kind.REPLY)
        closed.close()
    assert asked == []


def test_the_tree_is_one() -> None:
    assert issubclass(InvalidEnvironment, InvalidArgument)
    assert issubclass(CertificateRefused, NotConnected)
    assert issubclass(ClientError, PullstatusError)

"""Heads that two programs could read in two ways are refused, each by its name."""

from __future__ import annotations

import pytest

from pullstatus import limits
from pullstatus.server.head import refusal

HOST = (b"host", b"mailbox.test")


def refused(
    *headers: tuple[bytes, bytes],
    target: bytes = b"/x",
    version: str = "1.1",
    method: bytes = b"GET",
) -> tuple[int, str] | None:
    found = refusal(method, target, version, headers, limits.HEADER_BYTES_MAX + 1)
    return None if found is None else (found.http_status, found.detail)


@pytest.mark.parametrize(
    "host",
    [
        b"mailbox.test",
        b"mailbox.test:8080",
        b"10.0.0.7:80",
        b"[2001:db8::1]:443",
        b"[::1]",
        b"a_service-1",
        b"xn--nxasmq6b:",
        b"",
    ],
)
def test_host_of_real_clients_passes(host: bytes) -> None:
    assert refused((b"host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        b"a b",
        b"a,b c",
        b"a/b",
        b"user@a",
        b"a:b",
        b"a:80:80",
        b"[::1",
        b"::1",
        b"a\xe4",
        b"a\n",
        b"a?",
    ],
)
def test_host_that_is_none_is_refused(host: bytes) -> None:
    assert refused((b"host", host)) == (400, "Host must be a name or an address, and a port")


def test_host_comes_once() -> None:
    assert refused() == (400, "send Host")
    assert refused(version="1.0") is None, "a balancer that looks after us does not send it"
    assert refused(HOST, HOST) == (400, "send Host once")
    assert refused(HOST, HOST, version="1.0") == (400, "send Host once")


CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("codings", "version", "fix"),
    [
        ([b"gzip, chunked"], "1.1", "Transfer-Encoding must be chunked, and nothing else"),
        ([b"chunked, chunked"], "1.1", "Transfer-Encoding must be chunked, and nothing else"),
        ([b"identity"], "1.1", "Transfer-Encoding must be chunked, and nothing else"),
        ([b""], "1.1", "Transfer-Encoding must be chunked, and nothing else"),
        ([b"xchunked"], "1.1", "Transfer-Encoding must be chunked, and nothing else"),
        ([b"chunked", b"chunked"], "1.1", "send Transfer-Encoding once"),
        ([b"gzip", b"chunked"], "1.1", "send Transfer-Encoding once"),
        ([b"chunked"], "1.0", "Transfer-Encoding needs HTTP/1.1"),
    ],
)
def test_end_of_a_body_is_plain(codings: list[bytes], version: str, fix: str) -> None:
    headers = [(b"transfer-encoding", coding) for coding in codings]
    assert refused(HOST, *headers, version=version) == (400, fix)


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"chunked "])
def test_chunks_pass(coding: bytes) -> None:
    assert refused(HOST, (b"transfer-encoding", coding)) is None


def test_chunks_have_no_length() -> None:
    both = refused(HOST, CHUNKED, (b"content-length", b"3"))
    assert both == (400, "send Content-Length or Transfer-Encoding, not both")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"authorization", "Authorization"),
        (b"content-encoding", "Content-Encoding"),
        (b"content-length", "Content-Length"),
        (b"content-type", "Content-Type"),
        (b"idempotency-key", "Idempotency-Key"),
        (b"x-tc-action", "X-TC-Action"),
        (b"x-tc-content-sha256", "X-TC-Content-Sha256"),
        (b"x-tc-timestamp", "X-TC-Timestamp"),
        (b"x-tc-token", "X-TC-Token"),
        (b"x-tc-version", "X-TC-Version"),
        (b"pullstatus-reader", "each Pullstatus header"),
        (b"pullstatus-ack", "each Pullstatus header"),
        (b"pullstatus-wait", "each Pullstatus header"),
        (b"pullstatus-canary", "each Pullstatus header"),
    ],
)
def test_what_is_said_once_is_not_said_again(name: bytes, told: str) -> None:
    """Also not in the same words: who put the second one there is not who put the first."""
    assert refused(HOST, (name, b"1"), (name, b"1")) == (400, f"send {told} once")
    assert refused(HOST, (name, b"1"), (b"x", b"2"), (name, b"3")) == (400, f"send {told} once")
    assert refused(HOST, (name, b"1")) is None


def test_lists_of_a_proxy_and_what_is_only_sent_back_may_come_in_pieces() -> None:
    names = (b"x-forwarded-for", b"via", b"accept", b"cookie", b"forwarded", b"x-tc-traceid")
    assert refused(HOST, *[(name, b"1") for name in names * 2]) is None


@pytest.mark.parametrize(
    ("target", "version", "method", "status"),
    [
        (b"/x#y", "1.1", b"GET", 400),
        (b"/x", "0.9", b"GET", 400),
        (b"/x", "2.0", b"GET", 400),
        (b"http://mailbox.test/x", "1.1", b"GET", 404),
        (b"*", "1.1", b"OPTIONS", 404),
        (b"/x", "1.1", b"CONNECT", 405),
        (b"/" + b"x" * limits.QUERY_BYTES_MAX, "1.1", b"GET", 414),
        (b"/in/" + b"x" * limits.CALLBACK_QUERY_BYTES_MAX, "1.1", b"GET", 414),
    ],
)
def test_first_line_is_plain(target: bytes, version: str, method: bytes, status: int) -> None:
    found = refused(HOST, target=target, version=version, method=method)
    assert found is not None
    assert found[0] == status


def test_a_long_query_at_the_address_of_api_3_is_refused_there() -> None:
    fits = b"/?" + b"x" * (limits.API3_QUERY_BYTES_MAX + 1)
    assert refused(HOST, target=fits) is None
    assert refused(HOST, target=fits.ljust(limits.CALLBACK_QUERY_BYTES_MAX + 1)) is not None


def test_headers_have_a_bound() -> None:
    fits = [(b"x%d" % number, b"1") for number in range(limits.HEADERS_MAX - 1)]
    assert refused(HOST, *fits) is None
    many = refused(HOST, *fits, (b"y", b"1"))
    large = refused(HOST, (b"x", b"1" * limits.HEADER_BYTES_MAX))
    assert many is not None
    assert many == large
    assert many[0] == 431

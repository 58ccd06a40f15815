"""Whom a proxy speaks for is the same by headers alone as by uvicorn's middleware over a scope."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from pullstatus.server.forwarded import Client, client_of
from pullstatus.server.head import Header

PROXIES = ["10.0.0.1", "192.0.2.0/24"]
ADDRESSES = st.sampled_from(
    ["10.0.0.1", "192.0.2.7", "198.51.100.9", "198.51.100.9:80", "[2001:db8::1]:80", "no", "", "é"]
)
SAID = st.lists(ADDRESSES, max_size=3).map(lambda told: ", ".join(told).encode("latin-1"))
HEADERS = st.lists(
    st.tuples(st.sampled_from([b"x-forwarded-for", b"x-forwarded-proto", b"accept"]), SAID),
    max_size=3,
)
PEERS = st.none() | st.tuples(ADDRESSES.filter(bool), st.just(40_000))
PROXY = ("10.0.0.1", 40_000)


async def nobody(*_: object) -> None:
    """An application that answers nothing."""


@given(HEADERS, PEERS)
@example([(b"x-forwarded-for", b"198.51.100.9, 192.0.2.7")], PROXY)
@example([(b"x-forwarded-for", b"198.51.100.9"), (b"x-forwarded-for", b"10.0.0.1")], PROXY)
@example([(b"x-forwarded-for", b"192.0.2.7, 10.0.0.1")], PROXY)
@example([(b"x-forwarded-for", b"")], PROXY)
def test_it_is_who_uvicorn_says(headers: list[Header], peer: Client) -> None:
    proxied: Any = ProxyHeadersMiddleware(nobody, trusted_hosts=PROXIES)
    scope = {"type": "http", "scheme": "http", "client": peer, "headers": headers}
    asyncio.run(proxied(scope, nobody, nobody))
    assert client_of(proxied, headers, peer) == scope["client"]
    assert client_of(nobody, headers, peer) == peer

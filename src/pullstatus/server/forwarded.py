"""Whom a request comes from that a proxy has passed on, where there is no scope of it yet.

uvicorn's middleware says so of a scope: by the proxies that are trusted, the last address that is
none of theirs. This says the same of headers.
"""

from __future__ import annotations

from collections.abc import Iterable

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from pullstatus.server.head import Header

Client = tuple[str, int] | None
"""An address and a port; None: the system does not tell."""


def client_of(application: object, headers: Iterable[Header], peer: Client) -> Client:
    """Whom a request comes from.

    Args:
        application: what would be given the scope; without the middleware no proxy is trusted.
        peer: who has sent it.
    """
    if peer is None or not isinstance(application, ProxyHeadersMiddleware):
        return peer
    proxies = application.trusted_hosts
    if peer[0] not in proxies:
        return peer
    told = b", ".join(value for name, value in headers if name == b"x-forwarded-for")
    host, port = proxies.get_trusted_client_address(told.decode("latin-1"))
    return (host, port) if host else peer

"""One name for a service, however its address is spelt, to know it again by."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

PORTS: Final = {"http": 80, "https": 443}

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def service_name(url: str) -> str:
    """The name of the service at an address.

    Not for calling it, nor does it hold a password. Whether http and https, or a proxy and what is
    behind it, are one service can't be told from their addresses: they are two.

    Raises:
        ValueError: it is no http or https address.
    """
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise ValueError("neither http nor https")
    host = (parts.hostname or "").removesuffix(".")
    host = "localhost" if host in _LOOPBACK else f"[{host}]" if ":" in host else host
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    place = host if port == PORTS[parts.scheme] else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"

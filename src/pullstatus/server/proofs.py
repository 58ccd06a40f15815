"""Whether a gateway has signed a request with its token's key, over the URL that it knows us by."""

from __future__ import annotations

from pullstatus.receipts.signatures import Signed, fault
from pullstatus.server.http import Scope, header


def unproven(scope: Scope, body: bytes, scheme: str, key: str, public_url: str) -> str | None:
    """What is wrong with a request's signature; None: it is good.

    Args:
        scheme: one of `signatures.SCHEMES`.
        key: what the gateway signs with.
        public_url: where gateways reach this server, without the path of a request; "": where the
            request says that it was sent, which is another place behind most proxies.
    """
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in reversed(scope["headers"])
    }
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    base = public_url.rstrip("/") or f"{scope['scheme']}://{_host(scope)}"
    url = base + (path + b"?" + query if query else path).decode("latin-1")
    return fault(scheme, Signed(scope["method"], url, headers, body), key)


def _host(scope: Scope) -> str:
    return (header(scope, b"host") or b"").decode("latin-1")

"""Whether a gateway has signed a request with its token's key, over the URL that it knows us by.

Where a scheme signs replies alone, what was read is proven, and not what was sent: whatever a
stranger wrote, and however it was read, a reply is stored with its signature or not at all.
"""

from __future__ import annotations

from typing import Final

from pullstatus.receipts import Unread
from pullstatus.receipts.reports import Report, Reports
from pullstatus.receipts.signatures import Signed, fault, fault_of_reply
from pullstatus.records import Kind
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


def unproven_reports(reports: Reports, scheme: str, key: str, *, receipts: bool) -> str | None:
    """What is wrong with what a request says, where replies alone are signed; None: nothing.

    Args:
        scheme: one of `signatures.SCHEMES`.
        key: what the gateway signs with.
        receipts: take those, which nobody signs. What is not known to be one is none: it may be
            read as a reply one day.
    """
    said: list[Report | Unread] = [*reports.reports, *reports.unread]
    if not receipts and not said:
        return _UNSIGNED
    for each in said:
        if each.index is None:  # it is not JSON alone, and may be read again as something else
            return "what it says must be JSON, where its source has it"
        if receipts and each.kind is Kind.DELIVERY_STATUS:
            continue
        wrong = fault_of_reply(scheme, each.raw, key)
        if wrong is not None:
            return wrong if receipts else f"{wrong}; {_UNSIGNED}"
    return None


_UNSIGNED: Final = (
    "what is not signed needs a token whose key is known to be of a gateway that does not sign it:"
    " `token set ... --signature-scheme`"
)


def _host(scope: Scope) -> str:
    return (header(scope, b"host") or b"").decode("latin-1")

"""Durable mailboxes for SMS delivery statuses and replies.

Gateways append records; each application pulls its own, up to 100 at a time, with the signed call
that clients of Tencent Cloud SMS already make. What was pulled is never returned again, and stays
readable for a retention time.

These are the public names, all for those who pull. They are loaded at their first use, since the
server and most commands need none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pullstatus.client.counts import Statistics
    from pullstatus.client.drivers import AsyncBatches, AsyncClient, Batches, Client
    from pullstatus.client.errors import (
        AnswerLost,
        AnswerMalformed,
        AnswerUnreadable,
        AttemptLate,
        BatchRefused,
        CallInvalid,
        CallRefused,
        CertificateRefused,
        ClientError,
        ClockSkewed,
        GatewayFailed,
        InvalidArgument,
        InvalidEnvironment,
        KeyExpired,
        NoAnswer,
        NotAcknowledged,
        NotConnected,
        NotPermitted,
        ReaderUnsupported,
        ServiceFailed,
        SignatureRefused,
        StateFailed,
        TooFrequent,
        UnknownSdkappid,
        WrongAddress,
    )
    from pullstatus.client.pages import Batch, Page
    from pullstatus.client.records import DeliveryStatus, Reply
    from pullstatus.errors import PullstatusError
    from pullstatus.records import Kind

    __version__: str

__all__ = [
    "AnswerLost",
    "AnswerMalformed",
    "AnswerUnreadable",
    "AsyncBatches",
    "AsyncClient",
    "AttemptLate",
    "Batch",
    "BatchRefused",
    "Batches",
    "CallInvalid",
    "CallRefused",
    "CertificateRefused",
    "Client",
    "ClientError",
    "ClockSkewed",
    "DeliveryStatus",
    "GatewayFailed",
    "InvalidArgument",
    "InvalidEnvironment",
    "KeyExpired",
    "Kind",
    "NoAnswer",
    "NotAcknowledged",
    "NotConnected",
    "NotPermitted",
    "Page",
    "PullstatusError",
    "ReaderUnsupported",
    "Reply",
    "ServiceFailed",
    "SignatureRefused",
    "StateFailed",
    "Statistics",
    "TooFrequent",
    "UnknownSdkappid",
    "WrongAddress",
]

_PLACES = {
    "AsyncBatches": "client.drivers",
    "AsyncClient": "client.drivers",
    "Batch": "client.pages",
    "Batches": "client.drivers",
    "Client": "client.drivers",
    "DeliveryStatus": "client.records",
    "Kind": "records",
    "Page": "client.pages",
    "PullstatusError": "errors",
    "Reply": "client.records",
    "Statistics": "client.counts",
}


if not TYPE_CHECKING:  # or a checker would believe every name to be there

    def __getattr__(name: str) -> object:
        if name == "__version__":
            value = import_module(f"{__name__}.version").VERSION
        elif name in __all__:
            place = _PLACES.get(name, "client.errors")
            value = getattr(import_module(f"{__name__}.{place}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What a service says about itself on `GET /`: who it is, and what it can do beyond the old call.

    {"name": "pullstatus", "version": "0.2.0", "features": ["idempotency-key", ...], ...}

Asking takes nothing out of a mailbox, so a client can know what an answer that gets lost means
before it makes its first call. Source: protocol.md section 7.3.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from pullstatus.errors import InvalidBody
from pullstatus.json import check_json
from pullstatus.wire.v5.pull import PULL_PATH

__all__ = ["ABOUT_PATH", "Feature", "about", "read_features"]

ABOUT_PATH: Final = "/"

_NAME: Final = "pullstatus"


class Feature(StrEnum):
    """What a client may rely on, by the name that stands in `features`."""

    IDEMPOTENCY_KEY = "idempotency-key"
    """A pull with an `Idempotency-Key` that has brought a page brings the same one again."""

    READER = "reader"
    """The page that a pull with a `Pullstatus-Reader` has brought comes again until it is
    acknowledged."""

    WAIT = "wait"
    """A pull with a `Pullstatus-Wait` of an empty mailbox is answered when something has come."""


class _About(msgspec.Struct):
    name: str = ""
    features: list[str] = []


_decode: Final = msgspec.json.Decoder(_About).decode


def about(version: str) -> bytes:
    """Our own answer: a constant, and nothing of where or for whom it runs."""
    return msgspec.json.encode(
        {
            "name": _NAME,
            "version": version,
            "features": [feature.value for feature in Feature],
            "pull": PULL_PATH,
            "metrics": "/metrics",
        }
    )


def read_features(content: bytes) -> frozenset[str]:
    """What whoever answered can do: none for anybody but us, whatever it says."""
    try:
        check_json(content)
        found = _decode(content)
    except (msgspec.MsgspecError, InvalidBody, RecursionError):
        return frozenset()
    return frozenset(found.features) if found.name == _NAME else frozenset()

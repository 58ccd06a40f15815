"""A gateway's request, whatever it speaks."""

from __future__ import annotations

import msgspec

__all__ = ["Request"]


class Request(msgspec.Struct, frozen=True):
    """One callback, as it came.

    method        GET, POST ...
    query         what stands behind the question mark, undecoded
    content_type  the header's value, "" without one
    body          the whole of it
    arrived_s     when it arrived, Unix seconds
    """

    method: str
    query: bytes
    content_type: str
    body: bytes
    arrived_s: int

"""The formats of callbacks, a row of `FORMATS` each.

A format says how a sender's requests are read, what it takes for "accepted", and what it looks for
in a refusal. Who sends, for which application, and how much, is not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from pullstatus.receipts import Receipts
from pullstatus.receipts.sifting import sift_in_steps
from pullstatus.steps import Steps

__all__ = ["FORMATS", "Format", "Request"]


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


class Format(msgspec.Struct, frozen=True):
    """How one kind of sender speaks.

    methods  those that it sends
    read     the receipts of a request, with what could not be read, in steps
    alone    some parts of a request, as they are read again without the others
    answer   the JSON that says that so many records were taken
    refusal  from the detail of a refusal to the members that go beside those of RFC 9457
    """

    methods: tuple[str, ...]
    read: Callable[[Request], Steps[Receipts]]
    alone: Callable[[bytes], bytes]
    answer: Callable[[int], bytes]
    refusal: Callable[[str], Mapping[str, object]]


FORMATS: Final = {
    "tencent": Format(
        methods=("POST",),
        read=lambda request: sift_in_steps(request.body, request.arrived_s),
        alone=lambda part: b"[" + part + b"]",
        answer=lambda _count: b'{"result":0,"errmsg":"OK"}',
        # Its senders look for these two; anything but 0 makes them try again.
        refusal=lambda detail: {"result": 1, "errmsg": detail},
    ),
}
"""By name."""

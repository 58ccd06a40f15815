"""A gateway's request, whatever it speaks."""

from __future__ import annotations

import functools
from email.message import Message
from typing import Final

import msgspec

from pullstatus.receipts.text import BINARY, coding_named, decoded

__all__ = ["Request", "charset_of", "recoded"]


class Request(msgspec.Struct, frozen=True):
    """One callback, as it came.

    method            GET, POST ...
    query             what stands behind the question mark, undecoded
    content_type      the header's value, "" without one
    body              the whole of it
    arrived_s         when it arrived, Unix seconds
    content_encoding  the header's value, "" without one
    """

    method: str
    query: bytes
    content_type: str
    body: bytes
    arrived_s: int
    content_encoding: str = ""

    @property
    def encoded(self) -> bool:
        """Whether its body is not what it says, but an encoding of that, which nothing reads."""
        return self.content_encoding not in ("", "identity")


def recoded(request: Request) -> bytes:
    """Its body in UTF-8, where its content type names another charset."""
    charset = charset_of(request.content_type)
    return decoded(request.body, charset).encode() if charset else request.body


@functools.lru_cache(maxsize=64)
def charset_of(content_type: str) -> str:
    """The charset that a content type names; "": none, UTF-8, or none that is known."""
    if len(content_type) > _CHARS_MAX or "charset" not in content_type.lower():
        return ""
    message = Message()
    message["Content-Type"] = content_type
    try:
        charset = str(message.get_param("charset", ""))
    except (TypeError, ValueError):  # pieces of it, as RFC 2231 has them, that do not go together
        return ""
    coding = coding_named(charset)
    return "" if coding in _PLAIN else coding


_CHARS_MAX: Final = 1000
"""Of a content type that is looked into: the time that this takes grows with their square."""

_PLAIN: Final = ("", "ascii", "utf-8", BINARY)

"""The v5 answer, to the byte. HTTP status is 200 for each of them.

`data` arrives as bytes that were encoded when the records came in; nothing is encoded again here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pullstatus.json import ascii_json
from pullstatus.records import Kind

__all__ = ["CONTENT_TYPE", "failure", "success"]

CONTENT_TYPE: Final = b"application/json"
"""Exactly so. With a charset behind it, an official client takes errors for empty successes."""

_HEADS: Final = tuple(b'{"result":0,"errmsg":"ok","type":%d,"count":' % kind for kind in Kind)
_EMPTY: Final = tuple(head + b'0,"data":[]}' for head in _HEADS)


def success(kind: Kind, count: int, data: bytes) -> bytes:
    """Return the answer to a pull that worked, an empty one included.

    Args:
        kind: what was asked for; sent as `type`.
        count: how many records `data` holds.
        data: the encoded records, joined by commas; b"" for none.
    """
    if count == 0:
        return _EMPTY[kind]
    return b'%b%d,"data":[%b]}' % (_HEADS[kind], count, data)


def failure(result: int, errmsg: str) -> bytes:
    """Return the answer to a call that failed: the code and the reason, nothing else.

    Half a surrogate pair in `errmsg` becomes "?", rather than a failure within a failure.
    """
    text = errmsg.encode("utf-8", "replace").decode()
    return b'{"result":%d,"errmsg":%b}' % (result, ascii_json(msgspec.json.encode(text)))

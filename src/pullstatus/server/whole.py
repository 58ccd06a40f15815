"""A request that came whole in one read, as nearly all do, read without a parser.

Pure. What is usual is read here and means what the parser would say, to the byte; of whatever is
not, nothing is said, and the parser has the only word. So nothing is refused here.

Usual is a POST of HTTP/1.1 to a plain path, with a length, whose headers are in plain text and ask
nothing of the connection. A client says the same headers again and again, so what they mean is
remembered by their bytes. Calls to `/` are signed in their headers, so of those the lines are.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

from pullstatus import limits
from pullstatus.server.head import Header, refusal

_LINE: Final = re.compile(
    rb"POST (/|(?:/[A-Za-z0-9._~-]+)+)(?:\?([A-Za-z0-9._~!$&'()*+,;=:@%/-]+))? HTTP/1\.1\r\n"
)
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([!-~][ -~]*)")
_END: Final = b"\r\n\r\n"

# What the parser or uvicorn acts upon, beside the length, unless it says what holds anyhow.
_ACTED_UPON: Final = frozenset(
    {b"connection", b"expect", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
_ANYHOW: Final = (b"connection", b"keep-alive")


class Whole(NamedTuple):
    """A usual request.

    Attributes:
        path, query: of its target.
        headers: names in lower case and values, in their order.
        forwarded: they say whom it comes from, who may be believed or not.
        body: all of it.
    """

    path: bytes
    query: bytes
    headers: tuple[Header, ...]
    forwarded: bool
    body: bytes


def read_whole(data: bytes) -> Whole | None:
    """The request that `data` is, if it is one usual request and nothing else."""
    line = _LINE.match(data, 0, limits.USUAL_HEAD_BYTES)  # beyond it nothing is looked at
    if line is None:
        return None
    begin = line.end()
    end = data.find(_END, begin, limits.USUAL_HEAD_BYTES)
    if end < 0:
        return None
    path, query = line.groups(b"")
    known = (_head if path == b"/" else _known_head)(data[begin:end])
    if known is None:
        return None
    headers, body_bytes, forwarded = known
    begin = end + len(_END)
    if len(data) - begin != body_bytes:
        return None
    return Whole(path, query, headers, forwarded, data[begin:])


def _head(text: bytes) -> tuple[tuple[Header, ...], int, bool] | None:
    """Headers, the length of the body, and whether they say whom it comes from, if they are usual.

    By the lines that say them.
    """
    headers = []
    for line in text.split(b"\r\n"):
        header = _field(line)
        if header is None:
            return None
        headers.append(header)
    known = dict(headers)
    length = known.get(b"content-length", b"")
    if len(length) > 9 or not length.isdigit():
        return None
    if refusal(b"POST", b"/", "1.1", headers, len(text)) is not None:
        return None
    return tuple(headers), int(length), not _FORWARDED.isdisjoint(known)


_known_head: Final = functools.lru_cache(maxsize=limits.USUAL_HEADS_KNOWN)(_head)


@functools.lru_cache(maxsize=limits.USUAL_LINES_KNOWN)
def _field(line: bytes) -> Header | None:
    """The header that a line says, if it is usual."""
    field = _FIELD.fullmatch(line)
    if field is None or line[-1:] == b" ":
        return None
    name, value = field[1].lower(), field[2]
    if name in _ACTED_UPON and (name, value.lower()) != _ANYHOW:
        return None
    return name, value

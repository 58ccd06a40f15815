r"""A recorded request of a gateway, out of a file: as it stood on the wire, or as curl's arguments.

POST /in/TOKEN/yunpian HTTP/1.1            curl 'https://sms.example.com/in/TOKEN/kannel?dlr=1'
    Content-Type: application/json             curl -H 'Content-Type: application/json' \
                                                   --data '[...]' https://...
[...]
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes

from pullstatus import limits
from pullstatus.cli.output import say
from pullstatus.errors import InvalidSetting
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import Source

__all__ = ["parse", "recorded", "warn_of_method"]

_READ: Final = ("content-type", "content-length", "content-encoding", "transfer-encoding")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?(?:\r?\n|\Z)")
_LINE_END: Final = re.compile(rb"\r?\n")
FORM: Final = "application/x-www-form-urlencoded"
_METHODS: Final = ("GET", "POST")
_FIX: Final = "the request must begin as on the wire, `GET /...` or `POST /...`, or with `curl`"
_SWITCHES: Final = frozenset(
    ("-s", "-S", "-sS", "-i", "-v", "-k", "-L", "-f", "--silent", "--include", "--location")
)


def recorded(file: str, arrived_s: int) -> Request:
    """The request that a file holds; "-": standard input.

    Raises:
        InvalidSetting: it cannot be read, or holds none; what to do is said.
    """
    most = limits.INGEST_BODY_BYTES_MAX
    try:
        if file == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(most + 1)
    except OSError as error:
        raise InvalidSetting(f"the request cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise InvalidSetting(f"the request must have at most {most} bytes")
    return parse(data, arrived_s)


def warn_of_method(source: Source, request: Request) -> None:
    """Say so where a source does not name a request's method: a server reads it all the same."""
    if request.method not in source.methods:
        say(
            f"The request is a {request.method}, and methods of {source.name} has"
            f" {', '.join(source.methods)}: a server reads it all the same.",
            err=True,
        )


def parse(data: bytes, arrived_s: int) -> Request:
    """The request that is written so.

    Raises:
        InvalidSetting: there is none.
    """
    data = data.lstrip()
    if data[:4] == b"curl" and data[4:5].isspace():
        return _curl(data[4:], arrived_s)
    return _wire(data, arrived_s)


def _wire(data: bytes, arrived_s: int) -> Request:
    head, body = data, b""
    for end in (b"\r\n\r\n", b"\n\n"):
        before, found, behind = data.partition(end)
        if found and len(before) < len(head):
            head, body = before, behind
    first, *fields = head.decode("latin-1").splitlines() or [""]
    words = first.split(" ")
    if len(words) < 2 or words[0] not in _METHODS:
        raise InvalidSetting(_FIX)
    said = _said(fields)
    return Request(
        method=words[0],
        query=words[1].partition("?")[2].encode("latin-1"),
        content_type=said["content-type"],
        body=_body(body, said["content-length"], said["transfer-encoding"]),
        arrived_s=arrived_s,
        content_encoding=said["content-encoding"],
    )


def _said(fields: Sequence[str]) -> dict[str, str]:
    """The headers that say how to read a request, by name; "" for one that is not there."""
    said = dict.fromkeys(_READ, "")
    for field in fields:
        name, _, value = field.partition(":")
        name = name.strip().lower()
        if said.get(name):
            raise InvalidSetting(f"the request has {name.title()} twice, which a server refuses")
        if name in said:
            said[name] = value.strip()
    return said


def _body(data: bytes, size: str, coding: str) -> bytes:
    """The body that lies in `data`."""
    if coding:
        if size or coding.lower() != "chunked":
            raise InvalidSetting(
                "the request has a Transfer-Encoding that a server refuses: it takes chunked"
                " alone, without Content-Length"
            )
        return _of_chunks(data)
    if size.isdecimal():
        return data[: int(size[:20])]
    return data.removesuffix(b"\n").removesuffix(b"\r")  # an editor's, at the end of a file


def _of_chunks(data: bytes) -> bytes:
    """What chunks hold, joined; lines may end as an editor ends them."""
    pieces: list[bytes] = []
    while (size := _CHUNK.match(data)) is not None:
        end = size.end() + int(size[1], 16)
        if end == size.end():
            return b"".join(pieces)
        pieces.append(data[size.end() : end])
        behind = _LINE_END.match(data, end)
        if behind is None:
            break
        data = data[behind.end() :]
    raise InvalidSetting(
        "the request's body does not lie in whole chunks: leave out Transfer-Encoding if it is"
        " written without them"
    )


def _curl(data: bytes, arrived_s: int) -> Request:
    try:
        words = shlex.split(data.decode(errors="surrogateescape"))
    except ValueError as error:
        raise InvalidSetting(f"curl's arguments do not end: {error}") from None
    method, address, as_query = "", "", False
    fields: list[str] = []
    pieces: list[bytes] = []
    given = iter([each for each in words if each.strip()])
    for word in given:
        name, _, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in _SWITCHES:
            continue
        if name in ("-G", "--get"):
            as_query = True
            continue
        if not name.startswith("-"):
            address = word
            continue
        value = value or next(given, "")
        if name in ("-X", "--request"):
            method = value
        elif name in ("-H", "--header"):
            fields.append(value)
        elif name in ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii"):
            if value.startswith("@"):
                raise InvalidSetting(f"{name} must hold the body itself, not the name of a file")
            pieces.append(_bytes(value))
        elif name == "--data-urlencode":
            field, sign, said = value.partition("=")
            escaped = quote_from_bytes(_bytes(said if sign else value), safe="").encode()
            pieces.append(_bytes(field) + b"=" + escaped if sign else escaped)
        elif name not in ("-u", "--user", "-o", "--output", "-A", "--user-agent", "--url"):
            raise InvalidSetting(f"curl's argument {name[:40]} is not known here; leave it out")
        address = value if name == "--url" else address
    body = b"&".join(pieces)
    query = _bytes(address.partition("?")[2])
    if as_query:
        query, body = b"&".join(each for each in (query, body) if each), b""
    method = method or ("POST" if body else "GET")
    if method not in _METHODS or not address:
        raise InvalidSetting(_FIX)
    headers = _said(fields)  # curl itself says the length, and writes chunks
    content_type = headers["content-type"] or (FORM if body else "")
    return Request(method, query, content_type, body, arrived_s, headers["content-encoding"])


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")

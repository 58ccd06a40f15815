r"""A recorded request of a gateway, out of a file: as it stood on the wire, or as curl's arguments.

POST /in/TOKEN/yunpian HTTP/1.1            curl 'https://sms.example.com/in/TOKEN/kannel?dlr=1'
    Content-Type: application/json             curl -H 'Content-Type: application/json' \
                                                   --data '[...]' https://...
[...]
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes

from pullstatus import limits
from pullstatus.errors import InvalidSetting
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import Source

__all__ = ["check_method", "parse", "recorded"]

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


def check_method(source: Source, request: Request) -> None:
    """Refuse a request that a source does not send.

    Raises:
        InvalidSetting: it is of another method.
    """
    if request.method not in source.methods:
        raise InvalidSetting(
            f"the request is a {request.method}, and methods of {source.name} has"
            f" {', '.join(source.methods)}"
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
    content_type, size = "", None
    for field in fields:
        name, _, value = field.partition(":")
        if name.strip().lower() == "content-type":
            content_type = value.strip()
        elif name.strip().lower() == "content-length" and value.strip().isdecimal():
            size = int(value[:20])
    if size is None:  # an editor ends a file with a line of its own
        body = body.removesuffix(b"\n").removesuffix(b"\r")
    query = words[1].partition("?")[2].encode("latin-1")
    return Request(words[0], query, content_type, body[:size], arrived_s)


def _curl(data: bytes, arrived_s: int) -> Request:
    try:
        words = shlex.split(data.decode(errors="surrogateescape"))
    except ValueError as error:
        raise InvalidSetting(f"curl's arguments do not end: {error}") from None
    method, content_type, address, as_query = "", "", "", False
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
            field, _, said = value.partition(":")
            content_type = said.strip() if field.lower() == "content-type" else content_type
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
    return Request(method, query, content_type or (FORM if body else ""), body, arrived_s)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")

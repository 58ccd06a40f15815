"""Our own format: an array of records, or one record on a line (NDJSON)."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, InvalidBody, InvalidRecord
from pullstatus.receipts import Receipts
from pullstatus.records import (
    Kind,
    decode_in_steps,
    decode_lines_in_steps,
    encode_all,
    encode_in_steps,
    read_rows,
)
from pullstatus.steps import Steps

__all__ = ["check_count", "check_size", "lines", "read_in_steps", "read_usual"]


def read_in_steps(body: bytes, kind: Kind, ndjson: bool) -> Steps[Receipts]:  # noqa: FBT001 the request's Content-Type
    """Read 1 to `limits.INGEST_RECORDS_MAX` records of one kind.

    Args:
        ndjson: one record on a line, ended by LF or CR LF; empty lines are skipped. Otherwise the
            body is one JSON array.

    Returns:
        The entries in order, without fingerprints: a repeat is known by its Idempotency-Key.

    Raises:
        BodyTooLarge: too many bytes or records.
        InvalidBody: no JSON, not an array, or empty.
        InvalidRecord: one record breaks a rule; its 0-based place and the member are named.
    """
    check_size(body)
    rows = None if ndjson else read_rows(body, kind)
    if rows:
        check_count(len(rows))
        return Receipts(kind, (yield from encode_in_steps(rows)))
    yield
    if ndjson:
        found = lines(body)
        check_count(len(found))
        records, extras = yield from decode_lines_in_steps(found, kind)
    else:
        records, extras = yield from decode_in_steps(body, kind, limits.INGEST_RECORDS_MAX)
        check_count(len(records))
    return Receipts(kind, (yield from encode_in_steps(records, extras)))


def read_usual(body: bytes, kind: Kind) -> Receipts | None:
    """The same of a usual array, at once; None: it is none, `read_in_steps` has the last word."""
    rows = read_rows(body, kind)
    if not rows or len(rows) > limits.INGEST_RECORDS_MAX:
        return None
    try:
        return Receipts(kind, encode_all(rows))
    except InvalidRecord:
        return None


_BLANKS: Final = b" \t\r\n"
# Where it is matched, a line that is not empty is to come. Possessive: linear whatever comes.
_LINE: Final = re.compile(rb"[ \t\r\n]*+([^\n]++)")


def lines(body: bytes) -> list[bytes]:
    """Lines that are not empty, as far as to one more than there may be.

    Not splitlines: it also cuts at a lone CR, which JSON takes for white space.
    """
    found = _LINE.finditer(body.rstrip(_BLANKS))
    return [line[1] for line in islice(found, limits.INGEST_RECORDS_MAX + 1)]


def check_size(body: bytes) -> None:
    """Refuse a body of more than `limits.INGEST_BODY_BYTES_MAX` bytes (BodyTooLarge)."""
    if len(body) > limits.INGEST_BODY_BYTES_MAX:
        raise BodyTooLarge(f"the body must have at most {limits.INGEST_BODY_BYTES_MAX} bytes")


def check_count(count: int) -> None:
    """Refuse an empty batch (InvalidBody) and one that is too long (BodyTooLarge)."""
    if count == 0:
        raise InvalidBody("the body must hold at least one record")
    if count > limits.INGEST_RECORDS_MAX:
        raise BodyTooLarge(f"the body must hold at most {limits.INGEST_RECORDS_MAX} records")

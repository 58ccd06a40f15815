"""Our own format: an array of records, or one record on a line (NDJSON)."""

from __future__ import annotations

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, InvalidBody
from pullstatus.receipts import Receipts
from pullstatus.records import Kind, decode_array, decode_lines, encode_all, encode_array

__all__ = ["read_batch"]


def read_batch(body: bytes, kind: Kind, ndjson: bool) -> Receipts:  # noqa: FBT001 the request's Content-Type
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
    entries = None if ndjson else encode_array(body, kind)
    if entries is not None:
        check_count(len(entries))
        return Receipts(kind, entries)
    if ndjson:
        # Not splitlines: it also cuts at a lone CR, which JSON takes for white space.
        lines = [line for line in body.split(b"\n") if line.strip(b" \t\r")]
        check_count(len(lines))
        records, extras = decode_lines(lines, kind)
    else:
        records, extras = decode_array(body, kind)
        check_count(len(records))
    return Receipts(kind, encode_all(records, extras))


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

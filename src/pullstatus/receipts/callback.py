r"""Tencent's own callback bodies, so that its event settings can point at us unchanged.

    [ {delivery status}, ... ]   always an array, also for one
    { reply }                    always one object, never an array

Tencent repeats a push that it takes for failed, without any request key. So each record gets a
fingerprint. Carriers report more than once for one `sid`, hence a delivery status is the same one
only if outcome and time agree too; a reply has no id at all and is the same one only if its whole
body is.

Source: Tencent Cloud SMS, status and reply callbacks; protocol.md section 10.
"""

from __future__ import annotations

from hashlib import blake2b

from pullstatus.errors import InvalidBody
from pullstatus.receipts import Receipts
from pullstatus.receipts.batch import check_count, check_size
from pullstatus.records import (
    DeliveryStatus,
    Kind,
    Reply,
    decode,
    decode_array,
    encode_all,
    receive_time_s,
)

__all__ = ["read_callback"]


def read_callback(body: bytes) -> Receipts:
    """Read the body of a delivery-status callback or of a reply callback.

    Returns:
        The entries in order, each with its fingerprint.

    Raises:
        BodyTooLarge: too many bytes or records.
        InvalidBody: neither an array nor an object, or an empty array.
        InvalidRecord: one record breaks a rule; its 0-based place and the member are named.
    """
    check_size(body)
    start = body.lstrip(b" \t\r\n")[:1]
    if start == b"{":
        reply, extra = decode(body, Kind.REPLY)
        entries = encode_all([reply], [extra])
        assert isinstance(reply, Reply)
        return Receipts(Kind.REPLY, entries, [(reply.time, _digest(entries[0]))])
    if start == b"[":
        statuses, extras = decode_array(body, Kind.DELIVERY_STATUS)
        check_count(len(statuses))
        entries = encode_all(statuses, extras)
        return Receipts(Kind.DELIVERY_STATUS, entries, [_fingerprint(s) for s in statuses])
    raise InvalidBody("the body must be a JSON array of delivery statuses, or one reply object")


def _fingerprint(status: object) -> tuple[int, bytes]:
    assert isinstance(status, DeliveryStatus)
    # `sid` is the only one that may hold a line feed, so it comes last.
    text = f"{status.mobile}\n{status.report_status}\n{status.user_receive_time}\n{status.sid}"
    return receive_time_s(status), _digest(text.encode())


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()

r"""Tencent's own callback bodies, so that its event settings can point at us unchanged.

    [ {delivery status}, ... ]   always an array, also for one
    { reply }                    always one object, never an array

Tencent repeats a push that it takes for failed, without any request key. So each record gets a
fingerprint. Carriers report more than once for one `sid`, hence a delivery status is the same one
only if outcome and time agree too; a reply has no id at all and is the same one only if its whole
body is. A record that tells no time gets that of its arrival, which is left out of its fingerprint:
the repeat arrives later. Of such a reply it is so for minutes: see `brief`.

Source: Tencent Cloud SMS, status and reply callbacks; protocol.md section 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, InvalidBody, InvalidRecord
from pullstatus.receipts import Receipts
from pullstatus.receipts.brief import known_briefly
from pullstatus.receipts.repair import Repaired, repair
from pullstatus.receipts.text import NO_CHARSET, NO_SIGN
from pullstatus.records import (
    AT_ONCE_BYTES,
    Kind,
    Reply,
    decode,
    decode_in_steps,
    encode,
    encode_all,
    encode_in_steps,
    read_rows,
    utc8_s,
)
from pullstatus.steps import Steps

__all__ = ["read_in_steps", "read_strictly"]

_TOGETHER = 100  # records of one step
_UNDATED_S = 0  # in the fingerprint of a record with the time of its arrival


def read_in_steps(body: bytes, now_s: int) -> Steps[Receipts]:
    """Read the body of a delivery-status callback or of a reply callback.

    What can be mended is, see `repair`; a body that needs none is taken exactly as it is. It may
    hold any number of records: its bytes are bounded at the door.

    Args:
        now_s: when it arrived, in Unix seconds: the time of a record that tells none.

    Returns:
        The entries in order, each with its fingerprint.

    Raises:
        InvalidBody: neither an array nor an object, or an empty array.
        InvalidRecord: one record breaks a rule; its 0-based place and the member are named.
    """
    try:
        return (yield from read_strictly(body))
    except (InvalidBody, InvalidRecord) as error:
        fault = error  # and not on within this: it would be the context of what comes
    try:
        repaired = yield from repair(body, now_s)
        if repaired.body == body:
            raise fault
        return (yield from _read(repaired, now_s))
    finally:
        del fault  # its traceback leads back here


def read_strictly(body: bytes) -> Steps[Receipts]:
    """Read a body that needs no repair; otherwise as `read_in_steps`."""
    return (yield from _read(Repaired(body), 0))


def _read(repaired: Repaired, now_s: int) -> Steps[Receipts]:
    body, undated = repaired.body, repaired.undated
    start = body.lstrip(b" \t\r\n")[:1]
    if start == b"{":
        return _read_reply(repaired, now_s)
    if start == b"[":
        return (yield from _read_statuses(body, undated, repaired.count))
    raise InvalidBody("the body must be a JSON array of delivery statuses, or one reply object")


def _read_statuses(body: bytes, undated: frozenset[int], mended: int) -> Steps[Receipts]:
    rows = read_rows(body, Kind.DELIVERY_STATUS) if len(body) <= AT_ONCE_BYTES else None
    if rows:
        entries = yield from encode_in_steps(rows)
    else:
        try:
            rows, extras = yield from decode_in_steps(
                body, Kind.DELIVERY_STATUS, limits.CALLBACK_PARTS_MAX
            )
        except BodyTooLarge as error:
            raise InvalidBody(str(error)) from None
        if not rows:
            raise InvalidBody("the body must hold at least one record")
        entries = yield from encode_in_steps(rows, extras)
    fingerprints: list[tuple[int, bytes]] = []
    for first in range(0, len(rows), _TOGETHER):
        fingerprints += _fingerprints(rows[first : first + _TOGETHER], first, undated)
        yield
    return Receipts(Kind.DELIVERY_STATUS, entries, fingerprints, mended)


def _read_reply(repaired: Repaired, now_s: int) -> Receipts:
    reply, extra = decode(repaired.body, Kind.REPLY)
    [entry] = encode_all([reply], [extra])
    assert isinstance(reply, Reply)
    if repaired.foreign and NO_SIGN in reply.text:
        raise InvalidRecord("text", NO_CHARSET)
    if not repaired.undated:
        fingerprint = (reply.time, _digest(entry))
    else:
        timeless = encode(msgspec.structs.replace(reply, time=0), extra)
        fingerprint = (_UNDATED_S, known_briefly(_digest(timeless), now_s))
    return Receipts(Kind.REPLY, [entry], [fingerprint], repaired.count)


def _fingerprints(
    statuses: Sequence[Any], first: int, undated: frozenset[int]
) -> list[tuple[int, bytes]]:
    """Of delivery statuses, or rows that have their members; `first` is the place of the first."""
    seconds = {
        received: utc8_s(received) for received in {row.user_receive_time for row in statuses}
    }
    found = []
    for status in statuses:
        received = status.user_receive_time
        hashing = _BEGUN.copy()
        # `sid` is the only member that may hold a line feed, so it comes last.
        text = f"{status.mobile}\n{status.report_status}\n{received}\n{status.sid}"
        hashing.update(text.encode())
        found.append((seconds[received], hashing.digest()))
    if undated:
        for place, status in enumerate(statuses):
            if first + place in undated:
                text = f"{status.mobile}\n{status.report_status}\n\n{status.sid}"
                found[place] = (_UNDATED_S, _digest(text.encode()))
    return found


_BEGUN = blake2b(digest_size=16)


def _digest(data: bytes) -> bytes:
    hashing = _BEGUN.copy()  # in two thirds of the time of making one
    hashing.update(data)
    return hashing.digest()

"""What is asked without taking anything out: the records of one number, and counts of hours.

Nothing can be lost here, so whatever a repeat can mend is repeated.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias

import msgspec

from pullstatus import limits
from pullstatus.client.arguments import check_max
from pullstatus.client.counts import Statistics
from pullstatus.client.errors import InvalidArgument, NotPermitted
from pullstatus.client.exchange import Flow
from pullstatus.client.faces import Question
from pullstatus.client.flow import Puller
from pullstatus.client.records import DeliveryStatus, Record
from pullstatus.records import Kind
from pullstatus.records.hours import nearest_hour
from pullstatus.wire.v5.codes import Result

__all__ = ["Moment", "find", "statistics"]

Moment: TypeAlias = datetime | float
"""A time with a zone, or Unix seconds."""

_MOBILE: Final = re.compile(rf"[0-9]{{1,{limits.MOBILE_DIGITS_MAX}}}")
_NATIONCODE: Final = re.compile(rf"\+?([0-9]{{1,{limits.NATIONCODE_DIGITS_MAX}}})")

_LOOK_BACK_S: Final = limits.HANDED_OUT_RETENTION_DAYS * 86_400


def find(
    puller: Puller,
    kind: Kind,
    mobile: str,
    nationcode: str,
    since: Moment | None,
    until: Moment | None,
    count_max: int,
    sid: str | None,
) -> Flow[tuple[Record, ...]]:
    """The records of one number; the arguments are those of `Client.find`."""
    check_max(count_max)
    now_s = puller.clock()
    from_s = now_s - _LOOK_BACK_S if since is None else _unix_s("since", since)
    to_s = now_s if until is None else _unix_s("until", until)
    if from_s > to_s:
        raise InvalidArgument("since must not be after until")
    number, sid = _number(nationcode, mobile), _check_sid(sid)
    # Records have whole seconds; the default may be one that has just begun.
    first_s, last_s = int(from_s) if since is None else math.ceil(from_s), int(to_s)
    if first_s > last_s:
        return ()
    question = Question(kind, *number, first_s, last_s, count_max, sid)
    found = yield from puller.inquire(kind.path, partial(puller.face.find, question))
    if sid is None:
        return tuple(found)
    # The service may not know that one can ask for it.
    return tuple(one for one in found if isinstance(one, DeliveryStatus) and one.sid == sid)


def statistics(puller: Puller, since: Moment, until: Moment | None) -> Flow[Statistics]:
    """What was counted; the arguments are those of `Client.statistics`."""
    from_s = _unix_s("since", since)
    to_s = puller.clock() if until is None else _unix_s("until", until)
    if from_s >= to_s:
        raise InvalidArgument("since must be before until")
    # An hour that ends at `until` is the last one, not the one that begins there.
    first = nearest_hour(int(from_s * 1000))
    hours = first, max(first, nearest_hour(math.ceil(to_s * 1000) - 1))
    face = puller.face
    counted = yield from puller.inquire("statistics", partial(face.receipts, *hours))
    try:
        sends = yield from puller.inquire("statistics", partial(face.sends, *hours))
    except NotPermitted as error:
        if error.result != Result.NOT_SUPPORTED:
            raise
        return counted  # nobody has told the service of any
    return msgspec.structs.replace(counted, **msgspec.structs.asdict(sends))


def _unix_s(name: str, moment: object) -> float:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise InvalidArgument(f"{name} has no time zone: give one, or Unix seconds")
        moment = moment.timestamp()
    if not isinstance(moment, int | float) or isinstance(moment, bool):
        raise InvalidArgument(f"{name} must be a datetime with a time zone, or Unix seconds")
    # Written so that NaN is refused, too.
    if not 0 <= moment <= limits.REPLY_TIME_S_MAX:
        raise InvalidArgument(f"{name} must be a time from 1970 to 9999, in seconds")
    return moment


def _number(nationcode: object, mobile: object) -> tuple[str, str]:
    code = _NATIONCODE.fullmatch(nationcode) if isinstance(nationcode, str) else None
    if code is None:
        raise InvalidArgument('nationcode must be a calling code in digits, such as "86"')
    if not isinstance(mobile, str) or _MOBILE.fullmatch(mobile) is None:
        raise InvalidArgument("mobile must be the number in digits, without its calling code")
    return code[1], mobile


def _check_sid(sid: object) -> str | None:
    if sid is None:
        return None
    if (
        not isinstance(sid, str)
        or not 0 < len(sid) <= limits.SID_CHARS_MAX
        or any("\ud800" <= c <= "\udfff" for c in sid)  # no JSON has those
    ):
        raise InvalidArgument(f"sid must be a str of 1 to {limits.SID_CHARS_MAX} characters")
    return sid

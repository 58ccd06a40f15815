"""Answers of API 3.0, to the byte. HTTP status is 200 for each of them.

Records are stored under the names of the old call, and each version has names of its own: a page is
decoded and encoded again, by plain types, since what is stored was checked when it came in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from pullstatus.json import ascii_json
from pullstatus.records import Kind
from pullstatus.records.numbers import e164
from pullstatus.records.values import utc8, utc8_s
from pullstatus.wire.api3.requests import Version

__all__ = ["CONTENT_TYPE", "failure", "page", "receipts", "sends"]

CONTENT_TYPE: Final = b"application/json"
"""Exactly so. With a charset behind it, an official client takes errors for empty successes."""


def page(version: Version, kind: Kind, entries: bytes, request_id: str) -> bytes:
    """Return the answer to a pull, or a question by number, that worked; also without records.

    Args:
        entries: the records as they are stored, joined by commas; b"" for none.
    """
    records = _PAGES[version, kind](entries) if entries else b"[]"
    return b'{"Response":{"%b":%b,"RequestId":"%b"}}' % (
        _SETS[kind],
        ascii_json(records),
        request_id.encode(),
    )


def sends(requests: int, accepted: int, billed: int, request_id: str) -> bytes:
    """Return what `SendStatusStatistics` answers: SMS handed in, taken, and parts billed."""
    counts = {"FeeCount": billed, "RequestCount": requests, "RequestSuccessCount": accepted}
    return _encode({"SendStatusStatistics": counts, "RequestId": request_id})


def receipts(accepted: int | None, success: int, failed: Sequence[int], request_id: str) -> bytes:
    """Return what `CallbackStatusStatistics` answers.

    Args:
        accepted: SMS that were taken; None: nobody has told, and it is said that there were as many
            as receipts, since shares of less would be over 1.
        success, failed: receipts, by what they say; those of failures by their class.
    """
    status = success + sum(failed)
    counts = {
        "CallbackCount": status,
        "RequestSuccessCount": status if accepted is None else accepted,
        "CallbackFailCount": sum(failed),
        "CallbackSuccessCount": success,
    }
    counts |= dict(zip(_CLASSES, failed, strict=True))
    return _encode({"CallbackStatusStatistics": counts, "RequestId": request_id})


def failure(error_code: str, message: str, request_id: str) -> bytes:
    """Return the answer to a call that failed.

    Half a surrogate pair in `message` becomes "?", rather than a failure within a failure.
    """
    text = message.encode("utf-8", "replace").decode()
    return _encode({"Error": {"Code": str(error_code), "Message": text}, "RequestId": request_id})


_CLASSES: Final = (
    "InternalErrorCount",
    "InvalidNumberCount",
    "ShutdownErrorCount",
    "BlackListCount",
    "FrequencyLimitCount",
)
"""What the classes of failure are called, in their order."""


def _encode(response: dict[str, object]) -> bytes:
    return ascii_json(msgspec.json.encode({"Response": response}))


# --- records --------------------------------------------------------------------------------------

_SETS: Final = (b"PullSmsSendStatusSet", b"PullSmsReplyStatusSet")


class _Status(msgspec.Struct, gc=False):
    """A delivery status, as far as this face tells of it."""

    user_receive_time: str = ""
    nationcode: str = ""
    mobile: str = ""
    report_status: str = ""
    errmsg: str = ""
    sid: str = ""
    ext: str = ""


class _Reply(msgspec.Struct, gc=False):
    """A reply."""

    nationcode: str = ""
    mobile: str = ""
    text: str = ""
    sign: str = ""
    time: int = 0
    extend: str = ""


class _Status2021(msgspec.Struct, gc=False):
    UserReceiveTime: int
    CountryCode: str
    SubscriberNumber: str
    PhoneNumber: str
    SerialNo: str
    ReportStatus: str
    Description: str
    SessionContext: str


class _Status2019(msgspec.Struct, gc=False):
    UserReceiveTime: str
    UserReceiveUnixTime: int
    NationCode: str
    PurePhoneNumber: str  # with "+" and code: the names are the wrong way round, here and there
    PhoneNumber: str
    SerialNo: str
    ReportStatus: str
    Description: str


class _Reply2021(msgspec.Struct, gc=False):
    ExtendCode: str
    CountryCode: str
    SubscriberNumber: str
    PhoneNumber: str
    SignName: str
    ReplyContent: str
    ReplyTime: int


class _Reply2019(msgspec.Struct, gc=False):
    ExtendCode: str
    NationCode: str
    PhoneNumber: str
    Sign: str
    ReplyContent: str
    ReplyTime: str
    ReplyUnixTime: int


_decode_statuses: Final = msgspec.json.Decoder(list[_Status]).decode
_decode_replies: Final = msgspec.json.Decoder(list[_Reply]).decode
_encode_list: Final = msgspec.json.Encoder().encode


def _statuses_2021(entries: bytes) -> bytes:
    statuses = _decode_statuses(b"[%b]" % entries)
    received_s = _received_s(statuses)
    return _encode_list(
        [
            _Status2021(
                received_s[one.user_receive_time],
                one.nationcode,
                one.mobile,
                e164(one.nationcode, one.mobile),
                one.sid,
                one.report_status,
                one.errmsg,
                one.ext,
            )
            for one in statuses
        ]
    )


def _statuses_2019(entries: bytes) -> bytes:
    statuses = _decode_statuses(b"[%b]" % entries)
    received_s = _received_s(statuses)
    return _encode_list(
        [
            _Status2019(
                one.user_receive_time,
                received_s[one.user_receive_time],
                one.nationcode,
                e164(one.nationcode, one.mobile),
                one.mobile,
                one.sid,
                one.report_status,
                one.errmsg,
            )
            for one in statuses
        ]
    )


def _replies_2021(entries: bytes) -> bytes:
    return _encode_list(
        [
            _Reply2021(
                one.extend,
                one.nationcode,
                one.mobile,
                e164(one.nationcode, one.mobile),
                one.sign,
                one.text,
                one.time,
            )
            for one in _decode_replies(b"[%b]" % entries)
        ]
    )


def _replies_2019(entries: bytes) -> bytes:
    return _encode_list(
        [
            _Reply2019(
                one.extend,
                one.nationcode,
                e164(one.nationcode, one.mobile),
                one.sign,
                one.text,
                _utc8(one.time),
                one.time,
            )
            for one in _decode_replies(b"[%b]" % entries)
        ]
    )


_PAGES: Final[dict[tuple[Version, Kind], Callable[[bytes], bytes]]] = {
    (Version.V2021, Kind.DELIVERY_STATUS): _statuses_2021,
    (Version.V2021, Kind.REPLY): _replies_2021,
    (Version.V2019, Kind.DELIVERY_STATUS): _statuses_2019,
    (Version.V2019, Kind.REPLY): _replies_2019,
}


def _received_s(statuses: Sequence[_Status]) -> dict[str, int]:
    """The times of some, which came together: many of them in the same second."""
    return {received: _unix_s(received) for received in {one.user_receive_time for one in statuses}}


def _unix_s(received: str) -> int:
    """A time that was checked when it came in; 0 of one that an older version may have let in.

    And of one before 1970: the SDKs of Go, .NET and C++ read it as unsigned, and fail at the whole
    page, whose records are gone by then.
    """
    try:
        return max(0, utc8_s(received))
    except ValueError:
        return 0


def _utc8(time_s: int) -> str:
    try:
        return utc8(time_s)
    except OverflowError:  # the last hours of the year 9999
        return "9999-12-31 23:59:59"

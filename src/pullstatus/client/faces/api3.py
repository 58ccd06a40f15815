"""API 3.0: an action in a header, a signature with a secret key, records under other names.

Records are given back under the names of the old call, so that whoever works on them need not know
which face they came over. The code of a receipt is its `Description` here, and nothing tells the
text for people: `description` is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from pullstatus.client.counts import Sends, Statistics
from pullstatus.client.faces import Call, NotDue, Question, Sent, T, counts
from pullstatus.client.records import Record, read_record
from pullstatus.client.route import check_address
from pullstatus.json import ascii_json
from pullstatus.records import Kind
from pullstatus.records.numbers import e164
from pullstatus.records.values import utc8
from pullstatus.wire.api3.signing import Request, sign

__all__ = ["Api3"]

VERSION: Final = "2021-01-11"
REGION: Final = "ap-guangzhou"
"""Where the official service has its queues. Ours asks for none."""

_SIGNED: Final = (b"content-type", b"host", b"x-tc-action", b"x-tc-traceid")
"""The usual two would give all equal calls of a second one signature, which strict applications
take once."""

_PULLS: Final = ("PullSmsSendStatus", "PullSmsReplyStatus")
_SETS: Final = ("PullSmsSendStatusSet", "PullSmsReplyStatusSet")

_RECEIPTS: Final = {
    "receipts": "CallbackCount",
    "delivered": "CallbackSuccessCount",
    "failed_carrier": "InternalErrorCount",
    "failed_number": "InvalidNumberCount",
    "failed_handset": "ShutdownErrorCount",
    "failed_blacklist": "BlackListCount",
    "failed_frequency": "FrequencyLimitCount",
}
_SENDS: Final = {
    "requests": "RequestCount",
    "accepted": "RequestSuccessCount",
    "billed": "FeeCount",
}

_NUMBER: Final = {"nationcode": "CountryCode", "mobile": "SubscriberNumber"}
_NAMES: Final[tuple[Mapping[str, str], Mapping[str, str]]] = (
    {
        "user_receive_time": "UserReceiveTime",
        **_NUMBER,
        "report_status": "ReportStatus",
        "errmsg": "Description",
        "description": "",
        "sid": "SerialNo",
        "ext": "SessionContext",
    },
    {
        **_NUMBER,
        "text": "ReplyContent",
        "sign": "SignName",
        "time": "ReplyTime",
        "extend": "ExtendCode",
    },
)
"""Names of the old call, in its order, and those of this one; "" for what it does not have."""


class Api3:
    """See `Face`."""

    def __init__(self, base_url: str, sdkappid: int, secret_id: str, secret_key: str) -> None:
        self.sdkappid = sdkappid
        self._secret_id = secret_id
        self._secret_key = secret_key
        self._host = _host_of(base_url)

    def pull(self, kind: Kind, count_max: int, sent: Sent) -> Call[list[Record]]:
        """See `Face`."""
        return self._call(_PULLS[kind], {"Limit": count_max}, sent, partial(_read_records, kind))

    def find(self, question: Question, sent: Sent) -> Call[list[Record]]:
        """See `Face`."""
        parameters = {
            "PhoneNumber": e164(question.nationcode, question.mobile),
            "BeginTime": question.from_s,
            "EndTime": question.to_s,
            "Offset": 0,
            "Limit": question.count_max,
        }
        if question.sid is not None:
            parameters["SerialNo"] = question.sid
        action = f"{_PULLS[question.kind]}ByPhoneNumber"
        return self._call(action, parameters, sent, partial(_read_records, question.kind))

    def receipts(self, first_hour: int, last_hour: int, sent: Sent) -> Call[Statistics]:
        """See `Face`."""
        return self._count("CallbackStatusStatistics", first_hour, last_hour, sent, _read_receipts)

    def sends(self, first_hour: int, last_hour: int, sent: Sent) -> Call[Sends]:
        """See `Face`."""
        return self._count("SendStatusStatistics", first_hour, last_hour, sent, _read_sends)

    def _count(
        self,
        action: str,
        first_hour: int,
        last_hour: int,
        sent: Sent,
        read: Callable[[dict[str, Any]], T],
    ) -> Call[T]:
        parameters = {
            "BeginTime": str(first_hour),
            "EndTime": str(last_hour),
            "Limit": 0,
            "Offset": 0,
        }
        return self._call(action, parameters, sent, read)

    def _call(
        self,
        action: str,
        parameters: Mapping[str, object],
        sent: Sent,
        read: Callable[[dict[str, Any]], T],
    ) -> Call[T]:
        content = ascii_json(msgspec.json.encode({"SmsSdkAppId": str(self.sdkappid), **parameters}))
        headers = {
            "Host": self._host,
            "Content-Type": "application/json",
            "X-TC-Action": action,
            "X-TC-Version": VERSION,
            "X-TC-Region": REGION,
            "X-TC-Timestamp": str(sent.now_s),
            "X-TC-TraceId": sent.random,
        }
        named = {name.lower().encode(): value.encode() for name, value in headers.items()}
        unsigned = Request("POST", b"", named, content)
        signed = sign(unsigned, self._secret_id, self._secret_key, signed=_SIGNED)
        headers["Authorization"] = signed.decode()
        return Call("/", content, headers, partial(_read, read))


def _host_of(base_url: str) -> str:
    """What the `Host` header has to say, since that is signed: the name that is connected to.

    Raises:
        InvalidArgument: the name is none that can be looked up.
    """
    return check_address(base_url).netloc.decode("ascii")


def _read(read: Callable[[dict[str, Any]], T], _text: bytes, members: dict[str, Any]) -> T:
    response = members.get("Response")
    if not isinstance(response, dict):
        raise NotDue("it is not the JSON object that is due")
    return read(response)


def _read_records(kind: Kind, response: dict[str, Any]) -> list[Record]:
    found = response.get(_SETS[kind])
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise NotDue(f"{_SETS[kind]} must be an array of records")
    return [_record(record, kind) for record in found]


def _read_receipts(response: dict[str, Any]) -> Statistics:
    return Statistics(**counts(response.get("CallbackStatusStatistics"), _RECEIPTS))


def _read_sends(response: dict[str, Any]) -> Sends:
    return Sends(**counts(response.get("SendStatusStatistics"), _SENDS))


def _record(sent: dict[str, Any], kind: Kind) -> Record:
    """One record under the names of the old call; what that does not know keeps its name."""
    names = _NAMES[kind]
    known = {old: sent.get(new, "") for old, new in names.items()}
    if kind is Kind.DELIVERY_STATUS:
        known["user_receive_time"] = _utc8(known["user_receive_time"])
        if not known["ext"]:
            del known["ext"]  # as the old call does
    others = {name: value for name, value in sent.items() if name not in names.values()}
    whole = _whole(known["nationcode"], known["mobile"])
    if whole is not None and others.get("PhoneNumber") == whole:
        del others["PhoneNumber"]  # which says nothing more
    record = known | others
    return read_record(ascii_json(msgspec.json.encode(record)), record, kind)


def _whole(nationcode: object, mobile: object) -> str | None:
    """What a number is as a whole; None of what is none."""
    if isinstance(nationcode, str) and isinstance(mobile, str):
        return e164(nationcode, mobile)
    return None


def _utc8(time_s: object) -> object:
    """A time in the form of the old call, or whatever else was sent."""
    if not isinstance(time_s, int) or isinstance(time_s, bool):
        return time_s
    try:
        return utc8(time_s)
    except OverflowError:
        return time_s

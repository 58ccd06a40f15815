"""The old call: an appkey, one plain signature, and records in the form in which they are kept."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec

from pullstatus.client.counts import Sends, Statistics
from pullstatus.client.faces import Call, NotDue, Question, Sent, counts
from pullstatus.client.loose import integer
from pullstatus.client.records import Record, read_record
from pullstatus.records import Kind
from pullstatus.wire.v5.pull import pull_request
from pullstatus.wire.v5.query import query_request
from pullstatus.wire.v5.statistics import RECEIPTS_PATH, SENDS_PATH, statistics_request

__all__ = ["V5"]

_decode_data: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

_RECEIPTS: Final = {
    "receipts": "status",
    "delivered": "status_success",
    "failed_carrier": "status_fail_0",
    "failed_number": "status_fail_1",
    "failed_handset": "status_fail_2",
    "failed_blacklist": "status_fail_3",
    "failed_frequency": "status_fail_4",
}
_SENDS: Final = {"requests": "request", "accepted": "success", "billed": "bill_number"}


class V5:
    """See `Face`."""

    def __init__(self, sdkappid: int, appkey: str) -> None:
        self.sdkappid = sdkappid
        self._appkey = appkey

    def pull(self, kind: Kind, count_max: int, sent: Sent) -> Call[list[Record]]:
        """See `Face`."""
        target, content = pull_request(
            self.sdkappid, self._appkey, kind, count_max, sent.random, sent.now_s
        )
        return Call(target, content, {}, partial(_read_records, kind))

    def find(self, question: Question, sent: Sent) -> Call[list[Record]]:
        """See `Face`."""
        target, content = query_request(
            self.sdkappid,
            self._appkey,
            question.kind,
            question.nationcode,
            question.mobile,
            question.from_s,
            question.to_s,
            question.count_max,
            sent.random,
            sent.now_s,
            sid=question.sid,
        )
        return Call(target, content, {}, partial(_read_records, question.kind))

    def receipts(self, first_hour: int, last_hour: int, sent: Sent) -> Call[Statistics]:
        """See `Face`."""
        return Call(*self._count(RECEIPTS_PATH, first_hour, last_hour, sent), {}, _read_receipts)

    def sends(self, first_hour: int, last_hour: int, sent: Sent) -> Call[Sends]:
        """See `Face`."""
        return Call(*self._count(SENDS_PATH, first_hour, last_hour, sent), {}, _read_sends)

    def _count(self, path: str, first_hour: int, last_hour: int, sent: Sent) -> tuple[str, bytes]:
        return statistics_request(
            path, self.sdkappid, self._appkey, first_hour, last_hour, sent.random, sent.now_s
        )


def _read_records(kind: Kind, text: bytes, members: dict[str, Any]) -> list[Record]:
    """The records of an answer."""
    _check_success(members)
    data = members.get("data")
    if data is None and not integer(members.get("count")):
        return []  # some servers leave it out when there is nothing
    if not isinstance(data, list) or not all(isinstance(record, dict) for record in data):
        raise NotDue("data must be an array of records")
    parts = _decode_raws(_decode_data(text)["data"])
    return [
        read_record(bytes(part), record, kind) for part, record in zip(parts, data, strict=True)
    ]


def _read_receipts(_text: bytes, members: dict[str, Any]) -> Statistics:
    _check_success(members)
    return Statistics(**counts(members.get("data"), _RECEIPTS))


def _read_sends(_text: bytes, members: dict[str, Any]) -> Sends:
    _check_success(members)
    return Sends(**counts(members.get("data"), _SENDS))


def _check_success(members: dict[str, Any]) -> None:
    if integer(members.get("result", members.get("ErrorCode"))) != 0:
        raise NotDue("it is not the JSON object that is due")

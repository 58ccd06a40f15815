"""Counts of some hours: `POST /v5/tlssmssvr/pullsendstatus` and `.../pullcallbackstatus`.

What was sent, and what carriers reported of it. Reading goes as in `pull`, with other members where
that has its page:

    parse_statistics  sdkappid, random, a JSON object, sig, time
      (admission)     who calls, `check_time`, whether they may
    request.hours     begin_date and end_date

Pages show `errmsg` in answers, and a real one had `msg`: both are sent. Source: protocol.md section
9.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from pullstatus import limits
from pullstatus.json import ascii_json
from pullstatus.records.hours import unix_hours
from pullstatus.wire.v5.signature import sign
from pullstatus.wire.v5.signed import (
    SignedRequest,
    bad,
    read_body,
    read_integer,
    read_query,
    read_sig,
    read_time,
)

__all__ = [
    "RECEIPTS_PATH",
    "SENDS_PATH",
    "StatisticsRequest",
    "failure",
    "parse_statistics",
    "receipts",
    "sends",
    "statistics_request",
]

SENDS_PATH: Final = "/v5/tlssmssvr/pullsendstatus"
RECEIPTS_PATH: Final = "/v5/tlssmssvr/pullcallbackstatus"

_NOTHING: Final = msgspec.Raw()


class StatisticsRequest(SignedRequest, frozen=True):
    """A call for counts as it was sent, unproven.

    begin_raw  `begin_date` as JSON text, unread until `hours`
    end_raw    `end_date` likewise
    """

    begin_raw: bytes
    end_raw: bytes

    def hours(self) -> tuple[int, int]:
        """Return the first and the last hour, as `records.hours` has them (check 16).

        Raises:
            Refused: 1004, one is no hour of the calendar, they are the wrong way round, or they are
                more than `limits.STATISTICS_DAYS_MAX` days apart.
        """
        first, begins = _read_hour("begin_date", self.begin_raw)
        last, ends = _read_hour("end_date", self.end_raw)
        if ends < begins:
            raise bad("end_date must not be before begin_date")
        if ends - begins > limits.STATISTICS_DAYS_MAX * 24:
            raise bad(
                f"end_date must be at most {limits.STATISTICS_DAYS_MAX} days after begin_date"
            )
        return first, last


class _Body(msgspec.Struct, frozen=True):
    # Raw: each has its own place in the order of checks, and its own answer.
    sig: msgspec.Raw = _NOTHING
    time: msgspec.Raw = _NOTHING
    begin_date: msgspec.Raw = _NOTHING
    end_date: msgspec.Raw = _NOTHING


_decode_body: Final[Callable[[bytes], _Body]] = msgspec.json.Decoder(_Body).decode


def parse_statistics(query: bytes, body: bytes) -> StatisticsRequest:
    """Read a call for counts as far as its signature goes (checks 4 to 8), as `parse_pull` does.

    Raises:
        Refused: as by `parse_pull`.
    """
    sdkappid, random = read_query(query)
    members = read_body(body, _decode_body)
    sig = read_sig(bytes(members.sig))
    time, time_text = read_time(bytes(members.time))
    return StatisticsRequest(
        sdkappid, random, sig, time, time_text, bytes(members.begin_date), bytes(members.end_date)
    )


def _read_hour(member: str, token: bytes) -> tuple[int, int]:
    """Return an hour as it is written, and counted."""
    hour = read_integer(token, -1)
    hours = unix_hours(hour)
    if hours is None:
        raise bad(f"{member} must be an hour of the calendar in UTC+8, an integer yyyymmddhh")
    return hour, hours


# --- answers --------------------------------------------------------------------------------------


def sends(requests: int, accepted: int, billed: int) -> bytes:
    """Return what `pullsendstatus` answers: SMS handed in, taken, and parts that are billed."""
    return _success({"request": requests, "success": accepted, "bill_number": billed})


def receipts(accepted: int | None, success: int, failed: Sequence[int]) -> bytes:
    """Return what `pullcallbackstatus` answers.

    Args:
        accepted: SMS that were taken; None: nobody has told, and it is said that there were as many
            as receipts, since shares of less would be over 1.
        success, failed: receipts, by what they say; those of failures by their class.
    """
    status = success + sum(failed)
    counts = {
        "success": status if accepted is None else accepted,
        "status": status,
        "status_success": success,
        "status_fail": sum(failed),
    }
    return _success(counts | {f"status_fail_{n}": count for n, count in enumerate(failed)})


def failure(result: int, errmsg: str) -> bytes:
    """Return the answer to a call for counts that failed."""
    text = errmsg.encode("utf-8", "replace").decode()
    return _encode({"result": int(result), "errmsg": text, "msg": text})


def _success(data: dict[str, int]) -> bytes:
    return _encode({"result": 0, "errmsg": "OK", "msg": "OK", "data": data})


def _encode(answer: dict[str, object]) -> bytes:
    return ascii_json(msgspec.json.encode(answer))


def statistics_request(
    path: str,
    sdkappid: int,
    appkey: str,
    first_hour: int,
    last_hour: int,
    random: str,
    time: int,
) -> tuple[str, bytes]:
    """Build a signed call for counts: the other side of `parse_statistics`, for clients.

    Args:
        path: which of the two.
        first_hour, last_hour: `yyyymmddhh` in UTC+8, both included.

    Returns:
        The path with its query, and the body.
    """
    address = f"{path}?sdkappid={sdkappid}&random={quote(random, safe='')}"
    body = {
        "sig": sign(appkey, random, time),
        "time": time,
        "begin_date": first_hour,
        "end_date": last_hour,
    }
    return address, msgspec.json.encode(body)

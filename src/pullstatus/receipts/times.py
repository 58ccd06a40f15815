"""Times as gateways write them, which have no zone more often than not. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Final

from pullstatus import limits
from pullstatus.records import UTC8, utc8_s

AHEAD_S_MAX: Final = 86_400  # a clock without its zone is at most 14 hours off
WIRE_SHAPE: Final = "%Y-%m-%d %H:%M:%S"

_UNIX_START: Final = datetime(1970, 1, 1, 8)  # noqa: DTZ001 - in UTC+8, as all here that has no zone
_END_S: Final = (datetime.max - _UNIX_START) // timedelta(seconds=1)  # noqa: DTZ901
_NUMBER: Final = re.compile(r"([0-9]{1,19})(?:\.[0-9]*)?")
_COMPACT: Final = re.compile(r"[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?")


# Reports come soon after the fact, so most of them share their second with another one.
@functools.lru_cache(maxsize=4096)
def wire_time(moment_s: int) -> str:
    """Unix seconds as a time of the wire."""
    return (_UNIX_START + timedelta(seconds=min(moment_s, _END_S))).isoformat(" ", "seconds")


def plausible(moment_s: int | None, now_s: int) -> int | None:
    """Unix seconds of a time that can be: after 1970, and not over a day ahead of `now_s`."""
    return moment_s if moment_s is not None and 0 < moment_s <= now_s + AHEAD_S_MAX else None


_BEHIND_S: Final[dict[tzinfo, int]] = {UTC8: 0, UTC: 8 * 3600}


def moment_s(text: str, zone: tzinfo = UTC8) -> int | None:
    """Unix seconds of a date or a number; None if it is none.

    Args:
        zone: of a date that does not say where: `UTC8` or `UTC`.
    """
    try:
        return utc8_s(text) + _BEHIND_S[zone]
    except ValueError:  # not in the wire's shape
        pass
    if _COMPACT.fullmatch(text):  # which as a number is no time of a report
        return read_date(text, "%Y%m%d%H%M%S"[: len(text) - 2], zone)
    if number := _NUMBER.fullmatch(text):
        found = int(number[1])
        while found > limits.REPLY_TIME_S_MAX:  # in milliseconds, or smaller ones yet
            found //= 1000
        return found
    text = text.replace("/", "-")
    date_s = read_date(text, None, zone)
    return read_date(text, WIRE_SHAPE, zone) if date_s is None else date_s  # without its zeros


def read_date(text: str, shape: str | None = None, zone: tzinfo = UTC8) -> int | None:
    """Unix seconds of a date of this shape, or of ISO 8601; None if it is none."""
    if not text:
        return None
    try:
        date = datetime.strptime(text, shape) if shape else datetime.fromisoformat(text)  # noqa: DTZ007
        if date.tzinfo is None:
            date = date.replace(tzinfo=zone)
        date = date.astimezone(UTC8).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return (date - _UNIX_START) // timedelta(seconds=1)


_SMPP: Final = re.compile(r"([0-9]{10}(?:[0-9]{2})?)(?:[0-9]([0-9]{2})([+-]))?")


def _smpp(text: str) -> int | None:
    """Ten or twelve digits from the year on, in UTC+8; or with tenths and quarters of an hour."""
    shaped = _SMPP.fullmatch(text)
    if shaped is None:
        return None
    digits, quarters, sign = shaped.groups()
    found = read_date(digits, "%y%m%d%H%M%S" if len(digits) == 12 else "%y%m%d%H%M")
    if found is None or sign is None:
        return found
    east_s = int(quarters) * 900 * (1 if sign == "+" else -1)
    return found + 8 * 3600 - east_s


def _rfc2822(text: str) -> int | None:
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # -0000 is a zone, too (RFC 2822, 3.3), of which Python tells none
            date = date.replace(tzinfo=UTC if "-0000" in text else UTC8)
        return int(date.timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


TIMES: Final[dict[str, Callable[[str], int | None]]] = {
    "utc8": moment_s,
    "utc": lambda text: moment_s(text, UTC),
    "smpp": _smpp,
    "rfc2822": _rfc2822,
}
"""Unix seconds of a time as a gateway writes it, by the name of the form; None: it tells none.

`utc8` and `utc` read numbers of seconds or milliseconds, compact dates, dates and ISO 8601, and
differ in the zone of what names none.
"""

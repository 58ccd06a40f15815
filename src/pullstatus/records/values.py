"""The two records, as values that are valid or not built, and the rules for their members.

Source: protocol.md section 6.
"""

from __future__ import annotations

import enum
import functools
import re
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidRecord

__all__ = ["DeliveryStatus", "Extra", "Kind", "Record", "Reply", "receive_time_s"]


class Kind(enum.IntEnum):
    """What a mailbox holds. The number is the wire's `type`."""

    DELIVERY_STATUS = 0
    REPLY = 1

    @property
    def path(self) -> str:
        """The kind in an address: "delivery-statuses" or "replies"."""
        return _PATHS[self]

    @property
    def label(self) -> str:
        """The kind in a sentence: "delivery status" or "reply"."""
        return _LABELS[self]


_PATHS: Final = ("delivery-statuses", "replies")
_LABELS: Final = ("delivery status", "reply")


# Names of our own: they are read for every record.
_NATIONCODE_DIGITS_MAX: Final = limits.NATIONCODE_DIGITS_MAX
_MOBILE_DIGITS_MAX: Final = limits.MOBILE_DIGITS_MAX
_SID_CHARS_MAX: Final = limits.SID_CHARS_MAX
_REPLY_TIME_S_MAX: Final = limits.REPLY_TIME_S_MAX


class DeliveryStatus(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, weakref=False
):
    """Whether one SMS to one number arrived.

    user_receive_time  when the handset got it, or for FAIL when the receipt came:
                       "YYYY-MM-DD hh:mm:ss", UTC+8
    nationcode         calling code, digits only
    mobile             the number without it: digits, a leading "+" is tolerated
    report_status      "SUCCESS" or "FAIL"
    errmsg             the carrier's code, opaque: "DELIVRD", "MK:0001", "-37"
    description        the same for people, "" when there is none
    sid                what the send call returned, opaque, 1 to 64 characters
    ext                the sender's own session text; "" is left out on the wire

    Raises:
        InvalidRecord: a member has the wrong type or breaks its rule.
    """

    user_receive_time: str
    nationcode: str
    mobile: str
    report_status: str
    errmsg: str
    description: str
    sid: str
    ext: str = ""

    def __post_init__(self) -> None:
        # One expression for the common case; it runs for every record that enters. A false or a
        # stumble is only a suspicion: _explain_status decides, and finds the words.
        nationcode, mobile, sid = self.nationcode, self.mobile, self.sid
        try:
            # join, because it stumbles over what is no string.
            texts = "".join((nationcode, mobile, self.errmsg, self.description, sid, self.ext))  # noqa: FLY002
            if (
                (texts.isascii() or _is_plain(nationcode, mobile, texts))
                and self.report_status in _REPORT_STATUSES
                and nationcode.isdigit()
                and len(nationcode) <= _NATIONCODE_DIGITS_MAX
                and mobile.isdigit()
                and len(mobile) <= _MOBILE_DIGITS_MAX
                and 0 < len(sid) <= _SID_CHARS_MAX
            ):
                utc8_s(self.user_receive_time)
                return
        except (TypeError, ValueError, AttributeError):
            pass
        _explain_status(self)


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, weakref=False):
    """What a person wrote back.

    nationcode  calling code, digits only
    mobile      the number without it: digits, a leading "+" is tolerated
    text        what was written, any Unicode
    sign        the SMS signature it belongs to, without its brackets
    time        Unix seconds; the only member of either record that is a number
    extend      channel extension code, "" when not used; always on the wire

    Raises:
        InvalidRecord: a member has the wrong type or breaks its rule.
    """

    nationcode: str
    mobile: str
    text: str
    sign: str
    time: int
    extend: str = ""

    def __post_init__(self) -> None:
        nationcode, mobile, time = self.nationcode, self.mobile, self.time
        try:
            texts = "".join((nationcode, mobile, self.text, self.sign, self.extend))  # noqa: FLY002
            if (
                (texts.isascii() or _is_plain(nationcode, mobile, texts))
                and nationcode.isdigit()
                and len(nationcode) <= _NATIONCODE_DIGITS_MAX
                and mobile.isdigit()
                and len(mobile) <= _MOBILE_DIGITS_MAX
                and type(time) is int
                and 0 <= time <= _REPLY_TIME_S_MAX
            ):
                return
        except (TypeError, ValueError, AttributeError):
            pass
        _explain_reply(self)


Record: TypeAlias = DeliveryStatus | Reply
Extra: TypeAlias = dict[str, msgspec.Raw]
"""Members we do not know, in the order they came: name to compact JSON text."""


# --- the rules, one by one ------------------------------------------------------------------------

_REPORT_STATUSES: Final = frozenset({"SUCCESS", "FAIL"})
_parse_time: Final = datetime.fromisoformat
_TIME_SHAPE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_UNIX_START_UTC8: Final = _parse_time("1970-01-01 08:00:00")
_SECOND: Final = timedelta(seconds=1)


def receive_time_s(status: DeliveryStatus) -> int:
    """Return `user_receive_time` in Unix seconds; the wire's zone is UTC+8, without summer time."""
    return utc8_s(status.user_receive_time)


# Receipts come soon after the fact, so most of them share their second with another one.
@functools.lru_cache(maxsize=4096)
def utc8_s(received: str) -> int:
    """Return a time of the wire in Unix seconds; ValueError: it is no "YYYY-MM-DD hh:mm:ss"."""
    # fromisoformat reads more shapes than ours; of those with 19 characters only ours has these
    # marks at 7, 10, 13 and 16. Python 3.14 began to take 24:00:00.
    if len(received) != 19 or received[7::3] != "- ::" or received[11:13] == "24":
        raise ValueError
    return (_parse_time(received) - _UNIX_START_UTC8) // _SECOND


def _is_plain(nationcode: str, mobile: str, texts: str) -> bool:
    """Both are ASCII, and `texts` has no lone surrogate (which raises a ValueError)."""
    texts.encode()
    return nationcode.isascii() and mobile.isascii()


def _explain_status(status: DeliveryStatus) -> None:
    _check_receive_time(status.user_receive_time)
    _check_number(status.nationcode, status.mobile)
    _check_report_status(status.report_status)
    _check_text("errmsg", status.errmsg)
    _check_text("description", status.description)
    _check_text("sid", status.sid)
    if not 0 < len(status.sid) <= _SID_CHARS_MAX:
        raise InvalidRecord("sid", f"must have 1 to {_SID_CHARS_MAX} characters")
    _check_text("ext", status.ext)


def _explain_reply(reply: Reply) -> None:
    _check_number(reply.nationcode, reply.mobile)
    _check_text("text", reply.text)
    _check_text("sign", reply.sign)
    _check_time(reply.time)
    _check_text("extend", reply.extend)


def _check_receive_time(value: object) -> None:
    shape = 'must be a string "YYYY-MM-DD hh:mm:ss"'
    if not isinstance(value, str) or not _TIME_SHAPE.fullmatch(value):
        raise InvalidRecord("user_receive_time", shape)
    try:
        utc8_s(value)
    except ValueError:
        raise InvalidRecord("user_receive_time", shape + " that exists in the calendar") from None


def _check_report_status(value: object) -> None:
    if not isinstance(value, str) or value not in _REPORT_STATUSES:
        raise InvalidRecord("report_status", 'must be "SUCCESS" or "FAIL"')


def _check_time(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRecord("time", "must be an integer number of Unix seconds")
    if not 0 <= value <= _REPLY_TIME_S_MAX:
        raise InvalidRecord("time", "must be in Unix seconds, not negative and not milliseconds")


def _check_number(nationcode: object, mobile: object) -> None:
    digits_max = _NATIONCODE_DIGITS_MAX
    if not _is_digits(nationcode, digits_max):
        raise InvalidRecord("nationcode", f'must be a string of 1 to {digits_max} digits, no "+"')
    digits_max = _MOBILE_DIGITS_MAX
    if not _is_digits(mobile.removeprefix("+") if isinstance(mobile, str) else None, digits_max):
        raise InvalidRecord("mobile", f"must be a string of 1 to {digits_max} digits")


def _is_digits(value: object, digits_max: int) -> bool:
    return (
        isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= digits_max
    )


def _check_text(member: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidRecord(member, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRecord(member, "must not hold half a surrogate pair") from None

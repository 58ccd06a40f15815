"""The two records, as values that are valid or not built, and the rules for their members.

A member is described once, here: its name, type, bounds, whether it must be there, the check that
names what is wrong with it, and what the reference says of it. `MEMBERS` has that for the codec,
for the columns of files and databases, and for the tables of the reference.

Source: protocol.md section 6.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final, Literal, TypeAlias, get_type_hints

import msgspec
from msgspec.structs import astuple

from pullstatus import limits
from pullstatus.errors import InvalidRecord

__all__ = [
    "MEMBERS",
    "UTC8",
    "DeliveryStatus",
    "Extra",
    "Kind",
    "Member",
    "Record",
    "Reply",
    "utc8_s",
]


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


# --- the rules, one by one ------------------------------------------------------------------------

_REPORT_STATUSES: Final = ("SUCCESS", "FAIL")
_parse_time: Final = datetime.fromisoformat
# Of these the reference makes patterns, so they are written as any dialect reads them.
_TIME_SHAPE: Final = re.compile(
    r"(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
    r"-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r" ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
)
_NATIONCODE_SHAPE: Final = re.compile(rf"[0-9]{{1,{_NATIONCODE_DIGITS_MAX}}}")
_MOBILE_SHAPE: Final = re.compile(rf"\+?[0-9]{{1,{_MOBILE_DIGITS_MAX}}}")
UTC8: Final = timezone(timedelta(hours=8))
"""The wire's zone, which knows no summer time."""

_UNIX_START_UTC8: Final = _parse_time("1970-01-01 08:00:00")
_SECOND: Final = timedelta(seconds=1)


# Receipts come soon after the fact, so most of them share their second with another one.
@functools.lru_cache(maxsize=4096)
def utc8_s(received: str) -> int:
    """Return a time of the wire in Unix seconds; ValueError: it is no "YYYY-MM-DD hh:mm:ss"."""
    # fromisoformat reads more shapes than ours; of those with 19 characters only ours has these
    # marks at 7, 10, 13 and 16. Python 3.14 began to take 24:00:00.
    if len(received) != 19 or received[7::3] != "- ::" or received[11:13] == "24":
        raise ValueError
    return (_parse_time(received) - _UNIX_START_UTC8) // _SECOND


def utc8(time_s: int) -> str:
    """The other way of `utc8_s`; OverflowError: it is of no year from 1 to 9999."""
    return str(_UNIX_START_UTC8 + timedelta(seconds=time_s))


def _is_plain(nationcode: str, mobile: str, texts: str) -> bool:
    """Both are ASCII, and `texts` has no lone surrogate (which raises a ValueError)."""
    texts.encode()
    return nationcode.isascii() and mobile.isascii()


def _check_receive_time(member: str, value: object) -> None:
    fix = 'must be a string "YYYY-MM-DD hh:mm:ss" that exists in the calendar'
    if not isinstance(value, str) or not _TIME_SHAPE.fullmatch(value):
        raise InvalidRecord(member, fix)
    try:
        utc8_s(value)
    except ValueError:
        raise InvalidRecord(member, fix) from None


def _check_report_status(member: str, value: object) -> None:
    if not isinstance(value, str) or value not in _REPORT_STATUSES:
        raise InvalidRecord(member, 'must be "SUCCESS" or "FAIL"')


def _check_time(member: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRecord(member, "must be an integer number of Unix seconds")
    if not 0 <= value <= _REPLY_TIME_S_MAX:
        raise InvalidRecord(member, "must be in Unix seconds, not negative and not milliseconds")


def _check_nationcode(member: str, value: object) -> None:
    if not isinstance(value, str) or not _NATIONCODE_SHAPE.fullmatch(value):
        fix = f'must be a string of 1 to {_NATIONCODE_DIGITS_MAX} digits, no "+"'
        raise InvalidRecord(member, fix)


def _check_mobile(member: str, value: object) -> None:
    if not isinstance(value, str) or not _MOBILE_SHAPE.fullmatch(value):
        raise InvalidRecord(member, f"must be a string of 1 to {_MOBILE_DIGITS_MAX} digits")


def _check_sid(member: str, value: object) -> None:
    _check_text(member, value)
    if not (isinstance(value, str) and 0 < len(value) <= _SID_CHARS_MAX):
        raise InvalidRecord(member, f"must have 1 to {_SID_CHARS_MAX} characters")


def _check_text(member: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidRecord(member, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRecord(member, "must not hold half a surrogate pair") from None


# --- the records ----------------------------------------------------------------------------------


class Says(msgspec.Struct, frozen=True):
    """What stands beside the type of a member.

    text    what the reference says of it
    check   raises an InvalidRecord if a value, of whatever type, breaks the member's rule
    bounds  what a decoder can check of it. Not in the type: it would be checked twice
    values  the only values that it may have, if they can be counted
    shape   what its text matches as a whole, if that is said by an expression
    """

    text: str
    check: Callable[[str, Any], None]
    bounds: msgspec.Meta | None = None
    values: tuple[str, ...] = ()
    shape: re.Pattern[str] | None = None


_Nationcode: TypeAlias = Annotated[
    str,
    Says(
        "calling code, digits only, without `+`",
        _check_nationcode,
        msgspec.Meta(min_length=1, max_length=_NATIONCODE_DIGITS_MAX),
        shape=_NATIONCODE_SHAPE,
    ),
]
_Mobile: TypeAlias = Annotated[
    str,
    Says(
        "the number without it, digits only; a leading `+` is tolerated",
        _check_mobile,
        msgspec.Meta(min_length=1, max_length=_MOBILE_DIGITS_MAX),
        shape=_MOBILE_SHAPE,
    ),
]


class DeliveryStatus(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, weakref=False
):
    """Whether one SMS to one number arrived. A member with a default is left out when empty.

    Raises:
        InvalidRecord: a member has the wrong type or breaks its rule.
    """

    user_receive_time: Annotated[
        str,
        Says(
            "`YYYY-MM-DD hh:mm:ss`, UTC+8 (6.3): when the handset got it; for `FAIL` when the"
            " receipt came (C). Never an ISO form: C# rewrites those",
            _check_receive_time,
            shape=_TIME_SHAPE,
        ),
    ]
    nationcode: _Nationcode
    mobile: _Mobile
    report_status: Annotated[
        str, Says("`SUCCESS` or `FAIL`", _check_report_status, values=_REPORT_STATUSES)
    ]
    errmsg: Annotated[str, Says("the carrier's code (section 15), any text", _check_text)]
    description: Annotated[str, Says('the same for people; `""` if unknown (C)', _check_text)]
    sid: Annotated[
        str,
        Says(
            "what the send call returned, opaque",
            _check_sid,
            msgspec.Meta(min_length=1, max_length=_SID_CHARS_MAX),
        ),
    ]
    ext: Annotated[str, Says("the sender's session text; left out when empty (C)", _check_text)] = (
        ""
    )

    def __post_init__(self) -> None:
        # One expression for the common case; it runs for every record that enters. A false or a
        # stumble is only a suspicion: _explain decides, and finds the words.
        nationcode, mobile, sid = self.nationcode, self.mobile, self.sid
        try:
            # join, because it stumbles over what is no string.
            texts = "".join(astuple(self))
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
        _explain(self, Kind.DELIVERY_STATUS)


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, weakref=False):
    """What a person wrote back. A member with a default may be missing; it is always sent.

    Raises:
        InvalidRecord: a member has the wrong type or breaks its rule.
    """

    nationcode: _Nationcode
    mobile: _Mobile
    text: Annotated[str, Says("what the person wrote; any Unicode", _check_text)]
    sign: Annotated[str, Says("the SMS signature it belongs to, without brackets", _check_text)]
    time: Annotated[
        int,
        Says(
            "**number**, Unix seconds: the only member of either kind that is no string",
            _check_time,
            msgspec.Meta(ge=0, le=_REPLY_TIME_S_MAX),
        ),
    ]
    extend: Annotated[
        str,
        Says(
            'channel extension code; sent as `""` when not used, since `null` breaks Java (V)',
            _check_text,
        ),
    ] = ""

    def __post_init__(self) -> None:
        nationcode, mobile, time = self.nationcode, self.mobile, self.time
        try:
            # Every member but the number: a test holds it against `MEMBERS`.
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
        _explain(self, Kind.REPLY)


Record: TypeAlias = DeliveryStatus | Reply
Extra: TypeAlias = dict[str, msgspec.Raw]
"""Members we do not know, in the order they came: name to compact JSON text."""


def _explain(record: Record, kind: Kind) -> None:
    for member in MEMBERS[kind]:
        member.check(member.name, getattr(record, member.name))


# --- the description, for others ------------------------------------------------------------------


class Member(msgspec.Struct, frozen=True):
    """A member of a record, as its class describes it.

    name      as on the wire
    type      str or int
    required  whether a record without it is refused
    omitted   whether it is left out on the wire when empty
    text      what the reference says of it, Markdown
    check     as `Says` has it
    row       its type with all that a decoder can check by itself; what is more goes the long way
    shape     as `Says` has it
    """

    name: str
    type: type[str | int]
    required: bool
    omitted: bool
    text: str
    check: Callable[[str, Any], None]
    row: Any
    shape: re.Pattern[str] | None


def _members(record_type: type[Record]) -> tuple[Member, ...]:
    hints = get_type_hints(record_type, include_extras=True)
    return tuple(
        _member(field, hints[field.name], omits=record_type.__struct_config__.omit_defaults)
        for field in msgspec.structs.fields(record_type)
    )


def _member(field: msgspec.structs.FieldInfo, hint: Any, *, omits: bool) -> Member:  # noqa: ANN401 - what get_type_hints gives
    [says] = [part for part in hint.__metadata__ if isinstance(part, Says)]
    row = Annotated[hint.__origin__, says.bounds] if says.bounds else hint.__origin__
    if says.values:
        row = Literal[says.values]
    return Member(
        name=field.name,
        type=hint.__origin__,
        required=field.required,
        omitted=omits and not field.required,
        text=says.text,
        check=says.check,
        row=row,
        shape=says.shape,
    )


TYPES: Final[tuple[type[DeliveryStatus], type[Reply]]] = (DeliveryStatus, Reply)
"""The record of each kind."""

MEMBERS: Final = tuple(_members(record_type) for record_type in TYPES)
"""The members of each kind, in the documented order."""

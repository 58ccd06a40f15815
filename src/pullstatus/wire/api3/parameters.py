"""What a call of API 3.0 says beside what it is signed with: parameters, as JSON text.

The SDKs write integers as such or as text, as it comes. Those of a form or a query are texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from pullstatus import limits
from pullstatus.errors import ActionRefused, InvalidBody
from pullstatus.json import NO_JSON, check_json, integer
from pullstatus.records.hours import unix_hours
from pullstatus.wire.api3.codes import Code

__all__ = [
    "FORM",
    "integer_of",
    "invalid",
    "is_milliseconds",
    "media_type",
    "read_hour",
    "read_json",
    "read_pairs",
    "read_seconds",
    "text",
]

FORM: Final = b"application/x-www-form-urlencoded"
"""The media type of a form; whatever else a body says it is, it is read as JSON."""

_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_str: Final = msgspec.json.Decoder(str).decode


def media_type(headers: Mapping[bytes, bytes]) -> bytes:
    """What a request says its body is, in lower case and without a charset."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def read_json(body: bytes) -> Mapping[str, msgspec.Raw]:
    """Parameters of a JSON object; of a name that is there twice the last counts."""
    try:
        check_json(body)
    except InvalidBody as error:
        raise _unreadable(f"{error}: send one JSON object") from None
    try:
        return _decode_members(body)
    except msgspec.ValidationError:
        raise _unreadable("the body must be one JSON object") from None
    except NO_JSON:
        raise _unreadable("the body is not JSON: send one JSON object") from None


def read_pairs(sent: bytes) -> dict[str, str]:
    """Parameters of a form or a query, decoded; of a name that is there twice the first counts."""
    try:
        pairs = parse_qsl(
            sent.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=limits.API3_PARAMETERS_MAX,
        )
    except ValueError:
        raise _unreadable(
            f"parameters must be name=value, in UTF-8 and at most {limits.API3_PARAMETERS_MAX}"
        ) from None
    return dict(reversed(pairs))


def text(token: bytes) -> str | None:
    """The text that a parameter is; None if it is none."""
    return _decode_str(token) if token[:1] == b'"' else None


def integer_of(token: bytes) -> int | None:
    """The integer that a number means, or a text of digits."""
    if token[:1] != b'"':
        return integer(token)
    if token[1:-1].isdigit():
        return integer(token[1:-1])
    digits = _decode_str(token)
    return integer(digits.encode()) if digits.isascii() and digits.isdigit() else None


def read_seconds(name: str, token: bytes, code: Code) -> int:
    """Return a time in Unix seconds; `code` is what it is refused with if it is none."""
    time_s = integer_of(token)
    if time_s is None or time_s < 0:
        raise ActionRefused(code, f"{name} must be an integer of Unix seconds")
    if is_milliseconds(time_s):
        raise ActionRefused(code, f"{name} is in milliseconds: send seconds")
    return time_s


def read_hour(name: str, token: bytes, code: Code) -> tuple[int, int]:
    """Return an hour as it is written, and counted; `code` as for `read_seconds`."""
    hour = integer_of(token)
    hours = None if hour is None else unix_hours(hour)
    if hour is None or hours is None:
        raise ActionRefused(code, f"{name} must be an hour of the calendar in UTC+8, yyyymmddhh")
    return hour, hours


def invalid(message: str) -> ActionRefused:
    """Return a refusal of a parameter that is ill-typed or out of range."""
    return ActionRefused(Code.INVALID_VALUE, message)


def _unreadable(message: str) -> ActionRefused:
    return ActionRefused(Code.UNREADABLE, message)


def is_milliseconds(time_s: int) -> bool:
    """Whether what should be seconds is milliseconds by mistake."""
    return 10**12 <= time_s < 10**13  # 13 digits

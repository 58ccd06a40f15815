"""What came out of a mailbox, whoever kept it: typed, and complete.

`pullstatus.records` has what may enter a mailbox, and refuses all else. Here it is the other way
round: the records of a page are gone from the service, so nothing that it sent may be the reason
to drop one. A member that is missing or of another type reads as "", 0 or None; what was really
sent is in `members`, and to the byte in `json`.

A record is no dict. For `json.dumps` or a row of a database give `record.members`, or
`dict(record)`, which is the same. FastAPI takes records as they are, and pydantic takes their
classes as types of fields: as an object of these members. Its `repr` leaves out who it is about and
what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Self, TypeAlias

import msgspec

from pullstatus.records import MEMBERS, UTC8, Kind

__all__ = ["DeliveryStatus", "Record", "Reply", "read_record"]


class _Pulled(msgspec.Struct, frozen=True, weakref=False, kw_only=True):
    json: bytes = b"{}"

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Every member as it was sent, by name: `dict(record)` is what a JSON encoder takes."""
        return iter(self.members.items())

    def __repr__(self) -> str:
        """Which record it is, without personal data: logs and tracebacks show it."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown}, ...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self._SHOWN]

    _SHOWN: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:  # noqa: ANN401 - pydantic's own, by whom alone it is called
        from pydantic_core import (  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
            core_schema,
        )

        return core_schema.no_info_plain_validator_function(
            cls._validated,
            json_schema_input_schema=core_schema.dict_schema(core_schema.str_schema()),
            serialization=core_schema.plain_serializer_function_ser_schema(
                dict, return_schema=core_schema.dict_schema(core_schema.str_schema())
            ),
        )

    @classmethod
    def _validated(cls, value: object) -> Self:
        """A record, or the members of one, that somebody hands to pydantic."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise ValueError("must be a record, or its members by name")  # noqa: TRY004 - its rule
        found = read_record(msgspec.json.encode(value), value, Kind(_TYPES.index(cls)))
        assert isinstance(found, cls)
        return found

    @property
    def members(self) -> dict[str, Any]:
        """Every member as it was sent, unknown ones included; a new dict each time."""
        decoded = msgspec.json.decode(self.json)
        assert isinstance(decoded, dict)
        return decoded


class DeliveryStatus(_Pulled, frozen=True, weakref=False, kw_only=True):
    """Whether one SMS to one number arrived.

    Attributes:
        user_receive_time: when the handset got it, or for FAIL when the receipt came:
            "YYYY-MM-DD hh:mm:ss" in UTC+8. `received_at` is the same, parsed.
        nationcode: calling code, digits only.
        mobile: the number without it.
        report_status: "SUCCESS" or "FAIL". `delivered` is the same as a bool.
        errmsg: the carrier's code, opaque: "DELIVRD", "MK:0001", "-37".
        description: the same for people, "" when there is none.
        sid: what the send call returned, opaque.
        ext: the sender's own session text, "" when there is none.
        json: the record as it was sent, JSON in bytes.
    """

    user_receive_time: str = ""
    nationcode: str = ""
    mobile: str = ""
    report_status: str = ""
    errmsg: str = ""
    description: str = ""
    sid: str = ""
    ext: str = ""

    _SHOWN: ClassVar[tuple[str, ...]] = ("report_status", "errmsg", "user_receive_time", "sid")

    @property
    def delivered(self) -> bool:
        """Whether it arrived."""
        return self.report_status == "SUCCESS"

    @property
    def received_at(self) -> datetime | None:
        """`user_receive_time` as an aware time in UTC+8.

        None if it is no such time, or one that UTC has none for, as in the first hours of the year
        1: whatever stores times in UTC would fail of it.
        """
        try:
            at = datetime.strptime(self.user_receive_time, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC8)
            at.astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        return at


class Reply(_Pulled, frozen=True, weakref=False, kw_only=True):
    """What a person wrote back.

    Attributes:
        nationcode: calling code, digits only.
        mobile: the number without it.
        text: what was written, any Unicode.
        sign: the SMS signature it belongs to, without its brackets.
        time: Unix seconds. `replied_at` is the same, parsed.
        extend: channel extension code, "" when not used.
        json: the record as it was sent, JSON in bytes.
    """

    nationcode: str = ""
    mobile: str = ""
    text: str = ""
    sign: str = ""
    time: int = 0
    extend: str = ""

    _SHOWN: ClassVar[tuple[str, ...]] = ("sign", "time", "extend")

    @property
    def replied_at(self) -> datetime | None:
        """`time` as an aware time in UTC+8; None if it was not sent, or is no such time."""
        try:
            return datetime.fromtimestamp(self.time, UTC).astimezone(UTC8) if self.time else None
        except (ValueError, OverflowError, OSError):
            return None


Record: TypeAlias = DeliveryStatus | Reply

_TYPES: Final[tuple[type[Record], ...]] = (DeliveryStatus, Reply)


def read_record(json: bytes, members: dict[str, Any], kind: Kind) -> Record:
    """The record of this kind that `members`, decoded from `json`, make."""
    found: dict[str, Any] = {}
    for member in MEMBERS[kind]:
        value = members.get(member.name)
        if value is not None:
            found[member.name] = _integer(value) if member.type is int else _text(value)
    return _TYPES[kind](json=json, **found)


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _integer(value: object) -> int:
    to_integer: Callable[[Any], int] = int
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return to_integer(value)
    except (ValueError, OverflowError):
        return 0

"""What a sender reports of its sends: how many SMS were asked for, taken, and billed as how many.

An array of items, or an item on a line (NDJSON), of either form:

    {"hour":2026112812,"request":100,"success":98,"bill_number":120}    counts of an hour
    {"hour":2026112812,"result":0,"fee":2}                              one send of that hour
    {"sid":"2:7f3a","id":"1730012345"}                                  the name of a send

The names are those of the wire: `pullsendstatus` answers the counts, and a send call each `result`
(0: it was taken) and `fee` (the parts that it is billed as). So whoever sends can pass on what it
was answered; members beside these are passed over.

One send may have both: what is counted, and by which `id` a gateway knows what the sender knows by
`sid`. A send in parts has `ids`, one for each of them in their order. Beside these it may have
`ext`, and `nationcode` with `mobile`, for receipts that do not tell them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Final, NamedTuple

import msgspec

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, InvalidBody, InvalidRecord
from pullstatus.json import NO_JSON, check_in_steps, integer, survey
from pullstatus.receipts.batch import check_count, check_size, lines
from pullstatus.records import AT_ONCE_BYTES, MEMBERS, Kind
from pullstatus.records.hours import unix_hours
from pullstatus.steps import Steps

__all__ = ["Registered", "Sends", "Sent", "read_sends_in_steps"]


class Sent(NamedTuple):
    """What was sent in an hour.

    Attributes:
        requests: SMS that were asked for, one for each number.
        accepted: of these, those that were taken.
        billed: the parts that these are billed as.
    """

    requests: int
    accepted: int
    billed: int


class Registered(NamedTuple):
    """By what a gateway knows an SMS.

    Attributes:
        sid: what its sender knows it by.
        ids: the gateway's, of each part in their order; one if it has one part.
        ext: the sender's session text; empty: none.
        nationcode, mobile: to whom it went; both empty: not told.
    """

    sid: str
    ids: tuple[str, ...]
    ext: str = ""
    nationcode: str = ""
    mobile: str = ""


class Sends(NamedTuple):
    """What a report says.

    Attributes:
        items: how many it had.
        hours: the sums of each hour, `yyyymmddhh`.
        names: by what gateways know them, in order.
    """

    items: int
    hours: Mapping[int, Sent]
    names: Sequence[Registered] = ()


def read_sends_in_steps(body: bytes, ndjson: bool, now_hour: int) -> Steps[Sends]:  # noqa: FBT001 the request's Content-Type
    """Read 1 to `limits.INGEST_RECORDS_MAX` items.

    Args:
        ndjson: one item on a line, as of `batch.read_in_steps`.
        now_hour: the hour of now, after which nothing can have been sent.

    Raises:
        BodyTooLarge: too many bytes or items.
        InvalidBody: no JSON, not an array, or empty.
        InvalidRecord: one item breaks a rule; its 0-based place and the member are named.
    """
    check_size(body)
    usual = None if ndjson else _usual(body)
    if usual is not None:
        return usual
    yield
    yield from check_in_steps(body)
    items = _lined(body) if ndjson else (yield from _array(body))
    sums: dict[int, Sent] = defaultdict(lambda: Sent(0, 0, 0))
    names: list[Registered] = []
    last = unix_hours(now_hour)
    assert last is not None
    for index, item in enumerate(items):
        try:
            members = _members(item)
            if (name := _name(members)) is not None:
                names.append(name)
            if name is None or not members.keys().isdisjoint(_COUNTED):
                hour, sent = _read(members, last)
                sums[hour] = Sent(*map(sum, zip(sums[hour], sent, strict=True)))
        except InvalidRecord as error:
            raise error.at(index) from None
        if index % _AT_ONCE == 0:
            yield
    return Sends(len(items), dict(sums), tuple(names))


# --- names alone, all at once ---------------------------------------------------------------------

_RULES: Final = {member.name: member for member in MEMBERS[Kind.DELIVERY_STATUS]}
_Row: Final = msgspec.defstruct(  # of a send in one part, with nothing beside its name
    "_Row",
    [
        ("sid", _RULES["sid"].row),
        ("id", Annotated[str, msgspec.Meta(min_length=1, max_length=limits.GATEWAY_ID_CHARS_MAX)]),
        ("ext", Annotated[str, msgspec.Meta(max_length=limits.EXT_CHARS_MAX)], ""),
        ("nationcode", _RULES["nationcode"].row, ""),
        ("mobile", _RULES["mobile"].row, ""),
    ],
    forbid_unknown_fields=True,
    gc=False,
)
_MEMBERS: Final = [attrgetter(name) for name in _Row.__struct_fields__]
_decode_rows: Final[Callable[[bytes], Sequence[msgspec.Struct]]] = msgspec.json.Decoder(
    list[_Row]  # type: ignore[valid-type]
).decode


def _usual(body: bytes) -> Sends | None:
    """What an array of names says; None: it is not usual, and is read item by item."""
    if len(body) > AT_ONCE_BYTES:
        return None
    try:
        rows = _decode_rows(body)
    except NO_JSON:
        return None
    if not 0 < len(rows) <= limits.INGEST_RECORDS_MAX:
        return None
    sids, ids, exts, nationcodes, mobiles = ([*map(member, rows)] for member in _MEMBERS)
    numbers = "".join(nationcodes) + "".join(mobiles)
    if numbers and not (
        numbers.isdigit() and numbers.isascii() and all(nationcodes) and all(mobiles)
    ):
        return None
    return Sends(
        len(rows),
        {},
        tuple(map(Registered, sids, zip(ids, strict=True), exts, nationcodes, mobiles)),
    )


# --- item by item ---------------------------------------------------------------------------------

_AT_ONCE: Final = 50
_COUNTED: Final = frozenset({"hour", "request", "success", "bill_number", "result", "fee"})

_Members = dict[str, msgspec.Raw]
_decode: Final[Callable[[bytes], _Members]] = msgspec.json.Decoder(_Members).decode
_decode_array: Final[Callable[[bytes], list[msgspec.Raw]]] = msgspec.json.Decoder(
    list[msgspec.Raw]
).decode
_decode_string: Final[Callable[[bytes], str]] = msgspec.json.Decoder(str).decode


def _array(body: bytes) -> Steps[list[bytes]]:
    shape = yield from survey(body, limits.INGEST_RECORDS_MAX)
    if shape.parts > limits.INGEST_RECORDS_MAX and body.lstrip(b" \t\r\n").startswith(b"["):
        raise BodyTooLarge(f"the body must hold at most {limits.INGEST_RECORDS_MAX} records")
    try:
        items = [bytes(item) for item in _decode_array(body)]
    except msgspec.ValidationError:
        raise InvalidBody("the body must be a JSON array") from None
    except (msgspec.DecodeError, RecursionError):
        raise InvalidBody("the body is not JSON") from None
    check_count(len(items))
    return items


def _lined(body: bytes) -> list[bytes]:
    items = lines(body)
    check_count(len(items))
    return items


def _members(item: bytes) -> _Members:
    try:
        return _decode(item)
    except msgspec.ValidationError:
        raise InvalidRecord("record", "must be a JSON object") from None
    except NO_JSON:
        raise InvalidRecord("record", "is not JSON") from None


def _read(members: _Members, last: int) -> tuple[int, Sent]:
    hour = _hour(members, last)
    if "request" in members and "result" in members:
        raise InvalidRecord("result", "is of one send, and does not go with request")
    if "result" in members:
        return hour, _one(members)
    if "request" not in members:
        raise InvalidRecord(
            "request", "is missing: an item has request, success and bill_number, or result and fee"
        )
    requests, accepted = _count(members, "request"), _count(members, "success")
    if accepted > requests:
        raise InvalidRecord("success", "must not be more than request")
    return hour, Sent(requests, accepted, _count(members, "bill_number"))


def _name(members: _Members) -> Registered | None:
    """What an item registers; None: nothing, since it has no gateway's id."""
    if "id" not in members and "ids" not in members:
        return None
    if "request" in members:
        raise InvalidRecord("id" if "id" in members else "ids", "does not go with request")
    if "sid" not in members:
        raise InvalidRecord("sid", "is missing: what the sender knows the SMS by")
    of = ["sid", "ext"]
    if "nationcode" in members or "mobile" in members:
        of += ["nationcode", "mobile"]
    found = {member: _text(members, member) for member in of}
    for member, value in found.items():
        _CHECKS[member](member, value)
    if len(found["ext"]) > limits.EXT_CHARS_MAX:
        raise InvalidRecord("ext", f"must have at most {limits.EXT_CHARS_MAX} characters")
    return Registered(ids=_ids(members), **found)


_CHECKS: Final = {name: member.check for name, member in _RULES.items()}


def _ids(members: _Members) -> tuple[str, ...]:
    if "ids" not in members:
        return (_id("id", bytes(members["id"])),)
    if "id" in members:
        raise InvalidRecord("ids", "is of all parts, and does not go with id")
    try:
        parts = _decode_array(bytes(members["ids"]))
    except msgspec.DecodeError:
        raise InvalidRecord("ids", "must be an array, of an id for each part") from None
    if not 0 < len(parts) <= limits.MESSAGE_PARTS_MAX:
        raise InvalidRecord("ids", f"must have 1 to {limits.MESSAGE_PARTS_MAX} ids")
    ids = tuple(_id("ids", bytes(part)) for part in parts)
    if len(set(ids)) < len(ids):
        raise InvalidRecord("ids", "must have each id once")
    return ids


def _id(member: str, token: bytes) -> str:
    """An id, which some gateways answer as a number: its digits then."""
    found = token.decode() if token.isdigit() else _string(member, token)
    if not 0 < len(found) <= limits.GATEWAY_ID_CHARS_MAX:
        raise InvalidRecord(member, f"must have 1 to {limits.GATEWAY_ID_CHARS_MAX} characters")
    return found


def _text(members: _Members, member: str) -> str:
    """A string; one that is not there, or null, is empty."""
    token = bytes(members.get(member, b"null"))
    return "" if token == b"null" else _string(member, token)


def _string(member: str, token: bytes) -> str:
    try:
        return _decode_string(token)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRecord(member, "must be a string") from None


def _one(members: _Members) -> Sent:
    result = integer(bytes(members["result"]))
    if result is None:
        raise InvalidRecord("result", "must be an integer: 0 if the SMS was taken")
    if result != 0:
        return Sent(1, 0, 0)
    return Sent(1, 1, _count(members, "fee"))


def _hour(members: _Members, last: int) -> int:
    hour = integer(bytes(members.get("hour", b"")))
    hours = None if hour is None else unix_hours(hour)
    if hour is None or hours is None:
        raise InvalidRecord("hour", "must be an hour of the calendar in UTC+8, as 2026112812")
    if hours > last:
        raise InvalidRecord("hour", "must not be one that is yet to come")
    if hours < last - limits.TALLIES_DAYS * 24:
        raise InvalidRecord("hour", f"must not be before the last {limits.TALLIES_DAYS} days")
    return hour


def _count(members: _Members, member: str) -> int:
    count = integer(bytes(members.get(member, b"")))
    if count is None or not 0 <= count <= limits.SENDS_COUNT_MAX:
        raise InvalidRecord(member, f"must be an integer from 0 to {limits.SENDS_COUNT_MAX}")
    return count

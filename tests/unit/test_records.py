"""Records: valid or not built, encoded once, read back unchanged."""

import contextlib
import json
import re
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import InvalidBody, InvalidRecord, PullstatusError
from pullstatus.json import check_json, integer
from pullstatus.records import (
    MEMBERS,
    DeliveryStatus,
    Extra,
    Kind,
    Record,
    Reply,
    decode,
    decode_array,
    decode_lines_in_steps,
    encode,
    encode_all,
    read_rows,
    utc8_s,
)
from pullstatus.steps import done

STATUS: dict[str, Any] = {
    "user_receive_time": "2015-10-17 08:03:04",
    "nationcode": "86",
    "mobile": "13800000000",
    "report_status": "SUCCESS",
    "errmsg": "DELIVRD",
    "description": "delivered",
    "sid": "8:aIt9bcbZHdse7kBZuqi20170104",
}
REPLY: dict[str, Any] = {
    "nationcode": "86",
    "mobile": "13800000000",
    "text": "TD",
    "sign": "Example",
    "time": 1457336869,
    "extend": "",
}
SAMPLES = {Kind.DELIVERY_STATUS: STATUS, Kind.REPLY: REPLY}
TYPES: dict[Kind, type[DeliveryStatus] | type[Reply]] = {
    Kind.DELIVERY_STATUS: DeliveryStatus,
    Kind.REPLY: Reply,
}


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def with_raw(sample: dict[str, Any], member: str, raw: bytes) -> bytes:
    """The sample as JSON, with this JSON text for one member."""
    members = {name: compact(value) for name, value in sample.items()} | {member: raw}
    return b"{" + b",".join(compact(name) + b":" + text for name, text in members.items()) + b"}"


def complaint(data: bytes, kind: Kind) -> InvalidRecord:
    with pytest.raises(InvalidRecord) as caught:
        decode(data, kind)
    return caught.value


# --- kinds ----------------------------------------------------------------------------------------


def test_kind_is_the_wire_type() -> None:
    """0 is delivery statuses and 1 is replies; path and label name them."""
    assert [(k.value, k.path, k.label) for k in Kind] == [
        (0, "delivery-statuses", "delivery status"),
        (1, "replies", "reply"),
    ]


# --- valid or not built ---------------------------------------------------------------------------

GOOD = [
    (Kind.DELIVERY_STATUS, "user_receive_time", "2024-02-29 23:59:59"),
    (Kind.DELIVERY_STATUS, "user_receive_time", "1970-01-01 00:00:00"),
    (Kind.DELIVERY_STATUS, "nationcode", "1"),
    (Kind.DELIVERY_STATUS, "nationcode", "1242"),
    (Kind.DELIVERY_STATUS, "mobile", "+13800000000"),
    (Kind.DELIVERY_STATUS, "mobile", "0"),
    (Kind.DELIVERY_STATUS, "report_status", "FAIL"),
    (Kind.DELIVERY_STATUS, "errmsg", ""),
    (Kind.DELIVERY_STATUS, "errmsg", "MOBILE BLACK"),
    (Kind.DELIVERY_STATUS, "errmsg", "-37"),
    (Kind.DELIVERY_STATUS, "description", ""),
    (Kind.DELIVERY_STATUS, "description", "号码不存在"),
    (Kind.DELIVERY_STATUS, "sid", "x" * limits.SID_CHARS_MAX),
    (Kind.DELIVERY_STATUS, "sid", "号" * limits.SID_CHARS_MAX),
    (Kind.DELIVERY_STATUS, "ext", "session 1"),
    (Kind.REPLY, "text", ""),
    (Kind.REPLY, "text", 'a "quoted" \\ \x00\x1b[31m\u202e<script>=cmd() 😀 \x7f\u2028'),
    (Kind.REPLY, "sign", "腾讯云"),
    (Kind.REPLY, "time", 0),
    (Kind.REPLY, "time", limits.REPLY_TIME_S_MAX),
    (Kind.REPLY, "extend", "01"),
]


@pytest.mark.parametrize(("kind", "member", "value"), GOOD)
def test_good_value_is_built_decoded_and_given_back(kind: Kind, member: str, value: object) -> None:
    """What a rule allows comes out as it went in, built directly or decoded."""
    built = TYPES[kind](**SAMPLES[kind] | {member: value})
    data = encode(built)
    assert data.isascii()
    assert json.loads(data)[member] == value
    assert decode(data, kind) == (built, None)
    assert decode(with_raw(SAMPLES[kind], member, compact(value)), kind) == (built, None)


NOT_TEXT: tuple[object, ...] = (None, 1, 1.5, True, [], {}, ["x"])
BAD: list[tuple[Kind, str, object]] = [
    *[
        (Kind.DELIVERY_STATUS, "user_receive_time", value)
        for value in (
            "",
            "2015-10-17",
            "2015-10-17T08:03:04",
            "2015-10-17 08:03:04Z",
            "2015-10-17 08:03:04+08:00",
            "2015-10-17  8:03:04",
            " 2015-10-17 08:03:04",
            "2015-10-17 08:03:04\n",
            "2015-10-17 08:03",
            "2015-10-17 08:03+08",
            "2015-10-17 08+08:00",
            "2015-10-17 080304.5",
            "2015-W42-6 08:03:04",
            "2015-02-29 08:03:04",
            "2015-13-01 08:03:04",
            "2015-00-10 08:03:04",
            "0000-01-01 00:00:00",
            "2015-10-17 24:00:00",
            "2015-10-17 23:59:60",
            "٢٠١٥-10-17 08:03:04",
            "2015-10-17 08:03:0\ud800",
        )
    ],
    *[
        (kind, "nationcode", value)
        for kind in Kind
        for value in ("", "+86", "8 6", "abc", "٨٦", "8" * (limits.NATIONCODE_DIGITS_MAX + 1))
    ],
    *[
        (kind, "mobile", value)
        for kind in Kind
        for value in (
            *("", "+", "++1", "138-0000", "1 2", "abc", "1+", "１３８", "=cmd()"),
            "1" * (limits.MOBILE_DIGITS_MAX + 1),
        )
    ],
    *[
        (Kind.DELIVERY_STATUS, "report_status", value)
        for value in ("", "success", "FAILED", "SUCCESS ", "0")
    ],
    (Kind.DELIVERY_STATUS, "sid", ""),
    (Kind.DELIVERY_STATUS, "sid", "x" * (limits.SID_CHARS_MAX + 1)),
    (Kind.DELIVERY_STATUS, "errmsg", "\ud800"),
    (Kind.DELIVERY_STATUS, "ext", "\udc00x"),
    (Kind.REPLY, "text", "half \ud83d"),
    (Kind.REPLY, "sign", "\ud83d\ud83d"),
    *[
        (Kind.REPLY, "time", value)
        for value in (-1, 1457336869000, 2**63, 2**64, 10**30, 1.5, True, "1457336869", None)
    ],
    *[
        (kind, member, value)
        for kind in Kind
        for member in SAMPLES[kind]
        for value in NOT_TEXT
        if (kind, member) != (Kind.REPLY, "time")
        if not (member == "extend" and value is None)
    ],
    *[(Kind.DELIVERY_STATUS, "ext", value) for value in NOT_TEXT if value is not None],
]


@pytest.mark.parametrize(("kind", "member", "value"), BAD)
def test_bad_value_is_refused_by_name(kind: Kind, member: str, value: object) -> None:
    """A record that breaks a rule isn't built, and the error names the member, not the value."""
    with pytest.raises(InvalidRecord) as caught:
        TYPES[kind](**SAMPLES[kind] | {member: value})
    assert caught.value.member == member
    assert caught.value.index is None
    if isinstance(value, str) and not value.isprintable() and "\n" not in value:
        return  # half a surrogate pair: from the wire, that is no JSON at all
    error = complaint(with_raw(SAMPLES[kind], member, compact(value)), kind)
    assert error.member == member
    if isinstance(value, str) and len(value) > 2:
        assert value not in str(error)


@pytest.mark.parametrize("value", [None, b"x", 0])
@pytest.mark.parametrize("member", ["ext", "errmsg", "mobile", "user_receive_time"])
def test_wrong_type_is_refused_when_built_directly(member: str, value: object) -> None:
    """A caller's None, bytes or number is refused as well as a peer's."""
    with pytest.raises(InvalidRecord) as caught:
        DeliveryStatus(**STATUS | {member: value})
    assert caught.value.member == member


@pytest.mark.parametrize(
    ("kind", "member"),
    [(kind, member.name) for kind in Kind for member in MEMBERS[kind] if member.type is str],
)
def test_every_text_is_checked_when_built_directly(kind: Kind, member: str) -> None:
    """The fast check forgets none of them: neither what is no text nor what no UTF-8 can say."""
    for value in ("\ud800", 1):
        with pytest.raises(InvalidRecord) as caught:
            TYPES[kind](**SAMPLES[kind] | {member: value})
        assert caught.value.member == member


def test_subclass_of_str_is_a_string() -> None:
    """Enumerations of strings are common in callers' code."""

    class Text(str):
        __slots__ = ()

    assert DeliveryStatus(**STATUS | {"errmsg": Text("DELIVRD")}) == DeliveryStatus(**STATUS)
    assert Reply(**REPLY | {"text": Text("TD")}) == Reply(**REPLY)


def test_records_are_frozen() -> None:
    """What was valid when it was built stays so."""
    with pytest.raises(AttributeError):
        DeliveryStatus(**STATUS).sid = ""  # type: ignore[misc]
    assert hash(Reply(**REPLY)) == hash(Reply(**REPLY))


@pytest.mark.parametrize(
    ("kind", "member"),
    [(kind, member) for kind in Kind for member in SAMPLES[kind] if member != "extend"],
)
def test_missing_member_is_named(kind: Kind, member: str) -> None:
    """All members but ext and extend are required."""
    sample = {name: value for name, value in SAMPLES[kind].items() if name != member}
    error = complaint(compact(sample), kind)
    assert (error.member, error.index) == (member, None)
    assert "missing" in str(error)


def _is_time(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", text, re.ASCII):
        return False
    try:
        datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return False
    # strptime knows leap seconds, as a 61st and 62nd; our clock has none.
    return text[17:] < "60"


time_like = st.one_of(
    st.from_regex(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", fullmatch=True),
    st.datetimes().map(lambda moment: str(moment.replace(microsecond=0))),
    st.text("0123456789-: TWZ+.,", min_size=19, max_size=19),
    st.from_regex(r"[0-9W-]{10} [0-9:.,+-]{8}", fullmatch=True),
)


@given(time_like)
def test_receive_time_is_one_shape_and_in_the_calendar(text: str) -> None:
    """Exactly YYYY-MM-DD hh:mm:ss that exists passes, whatever else the parser could read."""
    try:
        DeliveryStatus(**STATUS | {"user_receive_time": text})
    except InvalidRecord as error:
        assert error.member == "user_receive_time"  # noqa: PT017
        assert not _is_time(text)
    else:
        assert _is_time(text)


@pytest.mark.parametrize(
    ("received", "unix_s"),
    [
        ("2019-10-08 17:18:37", 1570526317),
        ("2021-05-11 19:56:28", 1620734188),
        ("1970-01-01 08:00:00", 0),
        ("1970-01-01 07:59:59", -1),
    ],
)
def test_receive_time_is_utc_plus_8(received: str, unix_s: int) -> None:
    """API 3.0's pages show the same instants both ways (protocol.md 6.3)."""
    assert utc8_s(received) == unix_s


# --- encoding -------------------------------------------------------------------------------------


def test_delivery_status_is_compact_and_in_documented_order() -> None:
    """Seven members, all strings, no blanks; an empty ext is left out."""
    expected = (
        b'{"user_receive_time":"2015-10-17 08:03:04","nationcode":"86","mobile":"13800000000",'
        b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered",'
        b'"sid":"8:aIt9bcbZHdse7kBZuqi20170104"}'
    )
    assert encode(DeliveryStatus(**STATUS)) == expected
    assert encode(DeliveryStatus(**STATUS, ext="")) == expected
    assert encode(DeliveryStatus(**STATUS, ext="s")) == expected[:-1] + b',"ext":"s"}'


def test_reply_is_compact_and_always_has_extend() -> None:
    """time is the only number, extend is "" when not used."""
    del (rest := dict(REPLY))["extend"]
    assert encode(Reply(**rest)) == (
        b'{"nationcode":"86","mobile":"13800000000","text":"TD","sign":"Example",'
        b'"time":1457336869,"extend":""}'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("退订", rb'"\u9000\u8BA2"'),
        ("é", rb'"\u00E9"'),
        ("a😀b", rb'"a\uD83D\uDE00b"'),
        ("\uffff\U0010ffff", rb'"\uFFFF\uDBFF\uDFFF"'),
        ("\x00\x7f", b'"\\u0000\x7f"'),
        ('"\\\n', rb'"\"\\\n"'),
        ("\\u4e2d", rb'"\\u4e2d"'),
    ],
)
def test_text_is_escaped_to_upper_case_ascii(text: str, expected: bytes) -> None:
    """Not ASCII is spelled \\uXXXX in upper case, beyond the BMP as a surrogate pair."""
    data = encode(Reply(**REPLY | {"text": text}))
    assert b'"text":' + expected + b"," in data
    assert json.loads(data)["text"] == text


@pytest.mark.parametrize("ext", [None, ""])
def test_null_and_empty_ext_are_absent(ext: str | None) -> None:
    """Some senders always send ext; on the wire it is there only with a text."""
    record, extra = decode(compact(STATUS | {"ext": ext}), Kind.DELIVERY_STATUS)
    assert (record, extra) == (DeliveryStatus(**STATUS), None)
    assert b"ext" not in encode(record)


def test_null_extend_is_empty() -> None:
    """null crashes the Java client, so it never leaves."""
    record, _ = decode(compact(REPLY | {"extend": None}), Kind.REPLY)
    assert json.loads(encode(record))["extend"] == ""


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("char", ["x", "退", "é", '"'])
def test_record_size_is_bounded_as_encoded(kind: Kind, char: str) -> None:
    """The bound counts what is stored; one byte less than it passes, one more doesn't."""
    member = "text" if kind is Kind.REPLY else "description"
    width = len(encode(Reply(**REPLY | {"text": char}))) - len(
        encode(Reply(**REPLY | {"text": ""}))
    )
    empty = len(encode(TYPES[kind](**SAMPLES[kind] | {member: ""})))
    count = (limits.RECORD_BYTES_MAX - empty) // width
    fits = TYPES[kind](**SAMPLES[kind] | {member: char * count})
    over = TYPES[kind](**SAMPLES[kind] | {member: char * (count + 1)})
    assert encode_all([fits]) == [encode(fits)]
    assert limits.RECORD_BYTES_MAX - width < len(encode(fits)) <= limits.RECORD_BYTES_MAX
    with pytest.raises(InvalidRecord, match=r"^record must fit"):
        encode(over)
    with pytest.raises(InvalidRecord, match=r"^record 1: record must fit"):
        encode_all([fits, over, over])


def test_a_batch_is_encoded_like_its_records() -> None:
    """encode_all(records) is [encode(record), ...], with extra members and without."""
    records = [Reply(**REPLY), Reply(**REPLY | {"text": "好\n"}), Reply(**REPLY)]
    extras: list[Extra | None] = [None, {"a": msgspec.Raw(b"1")}, {}]
    assert encode_all(records) == [encode(record) for record in records]
    assert encode_all(records, extras) == [
        encode(record, extra) for record, extra in zip(records, extras, strict=True)
    ]
    assert encode_all([]) == []


# --- unknown members ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"null", b"null"),
        (b"1.000000000000000000000000000001", b"1.000000000000000000000000000001"),
        (b"123456789012345678901234567890", b"123456789012345678901234567890"),
        (b"-0.0", b"-0.0"),
        (b"1E5", b"1E5"),
        (b'[ 1 , {"a b" : [ ]} ]', b'[1,{"a b":[]}]'),
        ('"中😀"'.encode(), rb'"\u4E2D\uD83D\uDE00"'),
        (rb'"\u0000\/"', rb'"\u0000\/"'),
        (b"[" * 14 + b"]" * 14, b"[" * 14 + b"]" * 14),
    ],
)
@pytest.mark.parametrize("kind", Kind)
def test_unknown_members_are_kept_unchanged(kind: Kind, raw: bytes, kept: bytes) -> None:
    """They follow the known ones, with the very digits that came."""
    for name in (b'"nationCode"', '"中"'.encode(), b'""'):
        data = b"{" + name + b": " + raw + b" ," + compact(SAMPLES[kind])[1:]
        record, extra = decode(data, kind)
        assert record == TYPES[kind](**SAMPLES[kind])
        assert extra == {json.loads(name): msgspec.Raw(kept)}
        encoded = encode(record, extra)
        assert encoded.isascii()
        assert encoded.startswith(encode(record)[:-1] + b',"')
        assert encoded.endswith(b'":' + kept + b"}")
        assert decode(encoded, kind) == (record, extra)


def test_unknown_members_keep_their_order() -> None:
    """As they came, after all known ones."""
    data = b'{"z":1,' + compact(STATUS)[1:-1] + b',"a":2,"m":3}'
    record, extra = decode(data, Kind.DELIVERY_STATUS)
    assert encode(record, extra) == compact(STATUS)[:-1] + b',"z":1,"a":2,"m":3}'


@pytest.mark.parametrize("raw", [b"1e999", b"[-1e400]", b"9" * 5000, b'{"a":' + b"9" * 5000 + b"}"])
def test_unknown_member_that_nobody_can_read_is_refused(raw: bytes) -> None:
    """Kept members must be readable by those who pull, and their names aren't echoed."""
    error = complaint(with_raw(STATUS, "secretname", raw), Kind.DELIVERY_STATUS)
    assert "not documented" in str(error)
    assert "secretname" not in str(error)


def test_unknown_members_count_for_the_size() -> None:
    """The bound is for the whole record."""
    record, extra = decode(with_raw(STATUS, "a", compact("x" * 17000)), Kind.DELIVERY_STATUS)
    with pytest.raises(InvalidRecord, match="must fit"):
        encode(record, extra)
    many = STATUS | {f"a{i}": 0 for i in range(4000)}
    assert "members that are not documented" in str(complaint(compact(many), Kind.DELIVERY_STATUS))


def test_unknown_members_are_bounded_in_number() -> None:
    """Each costs as much as many records; carriers add two or three."""
    most = {f"a{i}": i for i in range(limits.UNKNOWN_MEMBERS_MAX)}
    record, extra = decode(compact(STATUS | most), Kind.DELIVERY_STATUS)
    assert json.loads(encode(record, extra)) == STATUS | most
    error = complaint(compact(STATUS | most | {"one": 1}), Kind.DELIVERY_STATUS)
    assert str(limits.UNKNOWN_MEMBERS_MAX) in str(error)


# --- JSON as far as we accept it ------------------------------------------------------------------

NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"[",
    b"[}",
    b"nul",
    b"NaN",
    b"Infinity",
    b"'x'",
    b"[1,]",
    b"01",
    b"+1",
    b"// c\n[]",
    b"[]x",
    b"[][]",
    b"\x00",
    b"\xef\xbb\xbf[]",
    "[]".encode("utf-16"),
    "[]".encode("utf-16-le"),
    "[]".encode("utf-32"),
    b'["\xff"]',
    b'["\xc0\xaf"]',
    b'["\xed\xa0\x80"]',
    b'["\x01"]',
    b"[" * 17 + b"]" * 17,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"]" * 100,
    b'[{"\\"' + b'\\"' * 1000,
]


@pytest.mark.parametrize("data", NOT_JSON)
@pytest.mark.parametrize("kind", Kind)
def test_what_is_no_json_is_an_invalid_body(kind: Kind, data: bytes) -> None:
    """BOM, UTF-16, bad UTF-8, NaN, trailing bytes and deep nesting are refused, all alike."""
    for read in (decode, decode_array):
        with pytest.raises(PullstatusError) as caught:
            read(data, kind)
        assert isinstance(caught.value, InvalidBody | InvalidRecord)
    with pytest.raises(InvalidBody):
        decode_array(data, kind)


@pytest.mark.parametrize("half", [rb"\ud800", rb"\udc00x", rb"\uD83D\uD83D", rb"\ud83d\n"])
@pytest.mark.parametrize("member", ["text", "mobile", "unknown"])
def test_half_a_surrogate_pair_is_an_invalid_body(member: str, half: bytes) -> None:
    """No text can hold it, wherever it stands; the error says what may be wrong."""
    data = with_raw(REPLY, member, b'"%b"' % half)
    readers: list[Callable[[], object]] = [
        lambda: decode(data, Kind.REPLY),
        lambda: decode_array(b"[%b]" % data, Kind.REPLY),
        lambda: done(decode_lines_in_steps([data], Kind.REPLY)),
    ]
    for read in readers:
        with pytest.raises(InvalidBody, match="is not JSON, or holds half a surrogate pair"):
            read()


@pytest.mark.parametrize("data", [b"null", b"{}", b'"x"', b"1", b"true"])
def test_a_batch_is_an_array(data: bytes) -> None:
    with pytest.raises(InvalidBody, match="array"):
        decode_array(data, Kind.REPLY)


@pytest.mark.parametrize("data", [b"null", b"[]", b'"x"', b"1", b"true"])
def test_a_record_is_an_object(data: bytes) -> None:
    """Whatever else stands in a record's place is refused, with that place."""
    assert complaint(data, Kind.REPLY).member == "record"
    with pytest.raises(InvalidRecord, match=r"^record 1: record must be a JSON object"):
        decode_array(b"[%b,%b]" % (compact(REPLY), data), Kind.REPLY)
    with pytest.raises(InvalidRecord, match=r"^record 1: record must be a JSON object"):
        done(decode_lines_in_steps([compact(REPLY), data], Kind.REPLY))


def test_the_first_bad_record_is_named() -> None:
    """The index counts from 0, however many are bad."""
    batch = [STATUS, STATUS, STATUS | {"mobile": "x"}, STATUS | {"sid": ""}]
    readers: list[Callable[[], object]] = [
        lambda: decode_array(compact(batch), Kind.DELIVERY_STATUS),
        lambda: done(
            decode_lines_in_steps([compact(status) for status in batch], Kind.DELIVERY_STATUS)
        ),
    ]
    for read in readers:
        with pytest.raises(InvalidRecord) as caught:
            read()
        assert (caught.value.index, caught.value.member) == (2, "mobile")


def test_duplicate_members_the_last_one_wins() -> None:
    """The fast way and the careful way agree on it."""
    plain = compact(REPLY)[:-1] + b',"text":"last"}'
    unusual = b'{"text":5,"new":1,' + compact(REPLY)[1:-1] + b',"text":"last","new":2}'
    assert decode(plain, Kind.REPLY) == (Reply(**REPLY | {"text": "last"}), None)
    assert decode(unusual, Kind.REPLY) == (
        Reply(**REPLY | {"text": "last"}),
        {"new": msgspec.Raw(b"2")},
    )


@pytest.mark.parametrize("token", [b"1457336869", b"1457336869.0", b"1.457336869e9"])
def test_reply_time_may_be_an_integral_float(token: bytes) -> None:
    """Some JSON writers have only floats; a string is not a number, though."""
    assert decode(with_raw(REPLY, "time", token), Kind.REPLY) == (Reply(**REPLY), None)
    assert complaint(with_raw(REPLY, "time", b'"%b"' % token), Kind.REPLY).member == "time"


def test_depth_counts_brackets_outside_strings_only() -> None:
    """Sixteen levels pass, seventeen don't, and brackets in a text are text."""
    check_json(b"[" * 16 + b"]" * 16)
    check_json(b'[{"a":"' + b"[" * 1000 + b'\\"[{\\\\"}]')
    check_json(b"[" + b"[]," * 1000 + b"{}]")
    with pytest.raises(InvalidBody, match="16 levels"):
        check_json(b"[" * 17 + b"]" * 17)
    assert decode(compact(REPLY | {"text": "[{" * 500}), Kind.REPLY)[0] == Reply(
        **REPLY | {"text": "[{" * 500}
    )


nested = st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=60,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(nested, st.integers(0, 15))
def test_depth_is_counted_right(value: object, more: int) -> None:
    """check_json agrees with a recursive count for any document."""
    for _ in range(more):
        value = [value, "]}"]
    data = json.dumps(value).encode()
    if depth(value) <= limits.JSON_DEPTH_MAX:
        check_json(data)
    else:
        with pytest.raises(InvalidBody):
            check_json(data)


@pytest.mark.parametrize(
    ("token", "value"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"-1", -1),
        (b"100", 100),
        (b"3.0", 3),
        (b"3.000", 3),
        (b"1e2", 100),
        (b"1.5e1", 15),
        (b"100e-2", 1),
        (b"999999999999999999", 10**18 - 1),
        (b"9223372036854775807", 2**63 - 1),
        (b"9223372036854775808", None),
        (b"-9223372036854775808", -(2**63)),
        (b"1.5", None),
        (b"1.0000000000000000000000001", None),
        (b"1e-1", None),
        (b"1e18", 10**18),
        (b"1e19", None),
        (b"1e999", None),
        (b"1e99999999999999999999999", None),
        (b"9" * 5000, None),
        (b"0." + b"0" * 5000, None),
        (b"true", None),
        (b"null", None),
        (b"NaN", None),
        (b"Infinity", None),
        (b'"1"', None),
        (b"[1]", None),
        (b"", None),
    ],
)
def test_integer_is_exact_and_bounded(token: bytes, value: int | None) -> None:
    """Integral numbers of 64 bits and nothing else, without arithmetic on long ones."""
    assert integer(token) == value


@pytest.mark.parametrize("member", [*REPLY, "CANARY"])
@pytest.mark.parametrize("raw", [b'["CANARY"]', b"1e999", b'"CANARY', b"[" * 20])
def test_refusals_never_echo_what_was_sent(member: str, raw: bytes) -> None:
    """Neither the text nor a traceback above it holds anything of the input."""
    data = with_raw(REPLY, member, raw)
    readers: list[Callable[[], object]] = [
        lambda: decode(data, Kind.REPLY),
        lambda: decode_array(b"[%b]" % data, Kind.REPLY),
        lambda: done(decode_lines_in_steps([data], Kind.REPLY)),
    ]
    for read in readers:
        try:
            read()
        except PullstatusError as error:
            assert "CANARY" not in "".join(traceback.format_exception_only(error))  # noqa: PT017
            assert error.__suppress_context__ or error.__context__ is None  # noqa: PT017
        else:
            assert (member, raw) == ("CANARY", b'["CANARY"]')


# --- properties -----------------------------------------------------------------------------------

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
digits = st.text("0123456789", min_size=1, max_size=limits.NATIONCODE_DIGITS_MAX)
mobiles = st.from_regex(r"\+?[0-9]{1,20}", fullmatch=True)
statuses = st.builds(
    DeliveryStatus,
    st.datetimes().map(lambda moment: moment.replace(microsecond=0).isoformat(" ")),
    digits,
    mobiles,
    st.sampled_from(["SUCCESS", "FAIL"]),
    any_text,
    any_text,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    any_text,
)
replies = st.builds(
    Reply, digits, mobiles, any_text, any_text, st.integers(0, limits.REPLY_TIME_S_MAX), any_text
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
unknown = st.dictionaries(
    any_text.filter(lambda name: name not in {*STATUS, *REPLY, "ext"}), json_values, max_size=3
)


@given(statuses | replies, unknown)
def test_decode_gives_back_what_encode_took(record: Record, members: dict[str, object]) -> None:
    """decode(encode(x)) == x, in ASCII, and any JSON reader sees the same."""
    kind = Kind.REPLY if isinstance(record, Reply) else Kind.DELIVERY_STATUS
    plain = encode(record)
    assert plain.isascii()
    assert decode(plain, kind) == (record, None)
    expected = msgspec.structs.asdict(record)
    for member in MEMBERS[kind]:
        if member.omitted and not expected[member.name]:
            del expected[member.name]
    assert json.loads(plain) == expected
    # Any way of writing the same JSON leads to the same entry.
    for ensure_ascii in (True, False):
        data = json.dumps(members | expected, ensure_ascii=ensure_ascii, indent=1).encode()
        read, extra = decode(data, kind)
        entry = encode(read, extra)
        assert entry.isascii()
        assert json.loads(entry) == members | expected
        assert read == record
        assert decode(entry, kind) == (read, extra)


@given(st.lists(statuses, max_size=4), st.lists(replies, max_size=4))
def test_batches_decode_to_what_was_encoded(
    some: list[DeliveryStatus], others: list[Reply]
) -> None:
    """An array and lines of the same entries read alike."""
    pairs: list[tuple[Kind, list[Record]]] = [
        (Kind.DELIVERY_STATUS, [*some]),
        (Kind.REPLY, [*others]),
    ]
    for kind, records in pairs:
        entries = encode_all(records)
        assert decode_array(b"[" + b",".join(entries) + b"]", kind) == (records, None)
        assert done(decode_lines_in_steps(entries, kind)) == (records, None)


json_like = st.lists(
    st.sampled_from(
        [
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b":",
            b'"',
            b"\\",
            b"\\u",
            b"d800",
            b"1",
            b"1e999",
            b"null",
            b"\xff",
            b"\xe4\xb8\xad",
            b"\n",
            b'"mobile":',
            b'"time":',
            b'"extend":null',
            b"NaN",
            compact(STATUS),
            compact(REPLY),
            b'"a":[{}]',
            compact(REPLY)[:-1] + b",",
        ]
    )
).map(b"".join)


@given(st.binary() | json_like, st.sampled_from(Kind))
def test_any_bytes_are_read_or_refused(data: bytes, kind: Kind) -> None:
    """Nothing but our errors ever comes out of the decoders."""
    for read in (decode, decode_array):
        with contextlib.suppress(InvalidBody, InvalidRecord):
            read(data, kind)
    with contextlib.suppress(InvalidBody, InvalidRecord):
        done(decode_lines_in_steps(data.split(b"\n"), kind))


@given(st.sampled_from(Kind), st.data())
def test_any_member_value_is_taken_or_refused_by_name(kind: Kind, data: st.DataObject) -> None:
    """A refusal is always about the member that was changed."""
    member = data.draw(st.sampled_from([*SAMPLES[kind]]))
    value = data.draw(json_values)
    body = with_raw(SAMPLES[kind], member, json.dumps(value).encode())
    try:
        record, extra = decode(body, kind)
    except InvalidRecord as error:
        assert error.member == member  # noqa: PT017
    else:
        assert extra is None
        assert getattr(record, member) == ("" if value is None else value)


@given(st.sampled_from(Kind), st.data())
def test_an_array_is_encoded_at_once_as_record_by_record_or_not_at_all(
    kind: Kind, data: st.DataObject
) -> None:
    """What the quick way takes, the careful way takes too, and makes the same of it."""
    good: st.SearchStrategy[Record] = replies if kind is Kind.REPLY else statuses
    bodies = [encode(record) for record in data.draw(st.lists(good, max_size=3))]
    sample = SAMPLES[kind]
    member = data.draw(st.sampled_from([*sample]))
    value = data.draw(json_values | mobiles | st.sampled_from(["\u0663", "\U0001d11e", 1.0, 1e9]))
    raw = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode()
    bodies.insert(data.draw(st.integers(0, len(bodies))), with_raw(sample, member, raw))
    array = b"[" + b",".join(bodies) + b"]"
    if (rows := read_rows(array, kind)) is not None:
        assert encode_all(rows) == encode_all(*decode_array(array, kind))


@given(st.lists(statuses, min_size=1, max_size=4), st.lists(replies, min_size=1, max_size=4))
def test_an_array_of_usual_records_is_encoded_at_once(
    some: list[DeliveryStatus], others: list[Reply]
) -> None:
    for kind, records in ((Kind.DELIVERY_STATUS, [*some]), (Kind.REPLY, [*others])):
        entries = encode_all(records)
        rows = read_rows(b"[" + b",".join(entries) + b"]", kind)
        assert (rows and encode_all(rows)) == entries or any(
            "+" in record.mobile for record in records
        )
    assert read_rows(b"[]", Kind.REPLY) is None

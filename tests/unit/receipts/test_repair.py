"""What is mended in callbacks, case by case, and that nothing else is touched."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import InvalidBody, InvalidRecord
from pullstatus.json import mend_text
from pullstatus.receipts.repair import repair
from pullstatus.receipts.tencent import read_in_steps
from pullstatus.records import Kind, decode, decode_array, encode_all
from pullstatus.steps import done

CORPUS = Path(__file__).parents[2] / "corpus" / "v5"
STATUS: dict[str, Any] = json.loads((CORPUS / "delivery_statuses_callback.json").read_bytes())[0]
REPLY: dict[str, Any] = json.loads((CORPUS / "reply_callback.json").read_bytes())
NOW_S = 1_767_571_200
NOW = "2026-01-05 08:00:00"  # the same, in UTC+8
DAY_S = 86_400
MISSING = object()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def with_member(record: dict[str, Any], member: str, value: object) -> dict[str, Any]:
    changed = record | {member: value}
    return {name: value for name, value in changed.items() if value is not MISSING}


def read_one(record: dict[str, Any]) -> dict[str, Any]:
    """What a callback of this one record puts into the mailbox."""
    body = compact(record if "text" in record else [record])
    [entry] = done(read_in_steps(body, NOW_S)).entries
    read: dict[str, Any] = json.loads(entry)
    return read


# --- members --------------------------------------------------------------------------------------

MENDED: list[tuple[dict[str, Any], str, object, object]] = [
    (STATUS, "user_receive_time", " 2015-10-17 08:03:04\t", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", "2015-10-17T08:03:04", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", "2015-10-17T00:03:04Z", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", "2015-10-17 02:03:04+02:00", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", "2015-10-17 08:03:04.000", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", "2015/10/7 8:03:04", "2015-10-07 08:03:04"),
    (STATUS, "user_receive_time", "20151017080304", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", 1445040184, "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", "1445040184", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", 1445040184000, "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", "1445040184.9", "2015-10-17 08:03:04"),
    (STATUS, "user_receive_time", NOW_S + DAY_S, "2026-01-06 08:00:00"),
    (STATUS, "user_receive_time", NOW_S + DAY_S + 1, NOW),
    (STATUS, "user_receive_time", "2601050800", NOW),  # YYMMDDhhmm, or the year 2052
    (STATUS, "user_receive_time", "", NOW),
    (STATUS, "user_receive_time", None, NOW),
    (STATUS, "user_receive_time", MISSING, NOW),
    (STATUS, "user_receive_time", 0, NOW),
    (STATUS, "user_receive_time", "0", NOW),
    (STATUS, "user_receive_time", "0000-00-00 00:00:00", NOW),
    (STATUS, "user_receive_time", "0001-01-01T00:00:00Z", NOW),
    (STATUS, "user_receive_time", "9999-12-31T23:59:59-12:00", NOW),
    (STATUS, "user_receive_time", "2015-02-30 00:00:00", NOW),
    (STATUS, "user_receive_time", "yesterday", NOW),
    (STATUS, "user_receive_time", limits.REPLY_TIME_S_MAX, NOW),
    (STATUS, "user_receive_time", 10**18, "2001-09-09 09:46:40"),
    (STATUS, "user_receive_time", 10**40, NOW),
    (STATUS, "report_status", "success", "SUCCESS"),
    (STATUS, "report_status", " Fail ", "FAIL"),
    (STATUS, "nationcode", 86, "86"),
    (STATUS, "nationcode", "+86", "86"),
    (STATUS, "nationcode", " 86", "86"),
    (STATUS, "nationcode", "+0086", "86"),
    (STATUS, "nationcode", " 0086", "0086"),  # which the strict reader takes as it is
    (STATUS, "nationcode", "0044148", "44148"),
    (STATUS, "mobile", 13800000000, "13800000000"),
    (STATUS, "mobile", "13800000000\r\n", "13800000000"),
    (STATUS, "mobile", "\u300013800000000 ", "13800000000"),
    (STATUS, "mobile", " +13800000000", "+13800000000"),
    (STATUS, "mobile", "138-0000-0000", "13800000000"),
    (STATUS, "mobile", " 138 0000 0000 ", "13800000000"),
    (STATUS, "mobile", "+86 138-0000-0000", "+8613800000000"),
    (STATUS, "errmsg", None, ""),
    (STATUS, "errmsg", MISSING, ""),
    (STATUS, "errmsg", -37, "-37"),
    (STATUS, "errmsg", 0.25, "0.25"),
    (STATUS, "description", None, ""),
    (STATUS, "description", MISSING, ""),
    (STATUS, "description", 4, "4"),
    (STATUS, "sid", 8, "8"),
    (STATUS, "sid", 123456789012345678901234567890, "123456789012345678901234567890"),
    (STATUS, "ext", 5, "5"),
    (REPLY, "time", "1457336869", 1457336869),
    (REPLY, "time", " 1457336869 ", 1457336869),
    (REPLY, "time", "0", 0),
    (REPLY, "time", 1457336869000, 1457336869),
    (REPLY, "time", "1457336869000", 1457336869),
    (REPLY, "time", 1457336869.75, 1457336869),
    (REPLY, "time", "2016-03-07 15:47:49", 1457336869),
    (REPLY, "time", "2016-03-07T07:47:49Z", 1457336869),
    (REPLY, "time", "", NOW_S),
    (REPLY, "time", None, NOW_S),
    (REPLY, "time", MISSING, NOW_S),
    (REPLY, "time", -1, NOW_S),
    (REPLY, "time", "later", NOW_S),
    (REPLY, "text", None, ""),
    (REPLY, "text", 1, "1"),
    (REPLY, "sign", None, ""),
    (REPLY, "sign", MISSING, ""),
    (REPLY, "extend", 7, "7"),
    (REPLY, "extend", None, ""),
    (REPLY, "nationcode", 1, "1"),
    (REPLY, "mobile", " 13800000000", "13800000000"),
    (REPLY, "mobile", "138 0000-0000", "13800000000"),
]


@pytest.mark.parametrize(("record", "member", "sent", "read"), MENDED)
def test_member_is_mended_and_no_other(
    record: dict[str, Any], member: str, sent: object, read: object
) -> None:
    assert read_one(with_member(record, member, sent)) == record | {member: read}


@pytest.mark.parametrize(
    ("record", "member", "value"),
    [
        (STATUS, "sid", None),
        (STATUS, "sid", MISSING),
        (STATUS, "sid", ""),
        (STATUS, "report_status", "UNKNOWN"),
        (STATUS, "report_status", None),
        (STATUS, "report_status", True),
        (STATUS, "report_status", MISSING),
        (STATUS, "mobile", "138--000"),
        (STATUS, "mobile", "-138-000"),
        (STATUS, "mobile", "(138) 000"),
        (STATUS, "mobile", None),
        (STATUS, "mobile", ["1"]),
        (STATUS, "mobile", 13.5),
        (STATUS, "nationcode", "++86"),
        (STATUS, "nationcode", MISSING),
        (STATUS, "user_receive_time", True),
        (STATUS, "user_receive_time", {}),
        (STATUS, "description", []),
        (REPLY, "time", False),
        (REPLY, "text", MISSING),
        (REPLY, "text", {"a": 1}),
        (REPLY, "mobile", MISSING),
    ],
)
def test_what_would_be_a_guess_is_refused_by_name(
    record: dict[str, Any], member: str, value: object
) -> None:
    sent = with_member(record, member, value)
    body = compact([STATUS, sent] if record is STATUS else sent)
    with pytest.raises(InvalidRecord) as caught:
        done(read_in_steps(body, NOW_S))
    assert (caught.value.member, caught.value.index) == (member, 1 if record is STATUS else None)
    assert isinstance(caught.value.__context__, InvalidRecord | None), "others quote what was sent"


def test_repairs_in_one_body_leave_the_other_records_alone() -> None:
    odd = STATUS | {"description": None, "extra": 1.50}
    raw = compact(odd).replace(b"1.5", b"1.50")
    receipts = done(read_in_steps(b"[" + compact(STATUS) + b"," + raw + b"]", NOW_S))
    assert receipts.repaired == 1
    assert receipts.entries[0] == compact(STATUS)
    assert receipts.entries[1].endswith(b',"extra":1.50}'), "an unknown member stays as it is"


# --- repeats --------------------------------------------------------------------------------------


def test_repeat_of_a_status_without_a_time_is_known_whenever_it_comes() -> None:
    undated = STATUS | {"user_receive_time": ""}
    body = compact([undated])
    first, later = done(read_in_steps(body, NOW_S)), done(read_in_steps(body, NOW_S + 5000))
    assert first.entries != later.entries
    assert first.fingerprints == later.fingerprints
    other = compact([undated | {"sid": "other"}])
    assert done(read_in_steps(other, NOW_S)).fingerprints != first.fingerprints


@pytest.mark.parametrize("time", [None, "x"])
def test_repeat_of_a_reply_without_a_time_is_known_for_minutes(time: str | None) -> None:
    body = compact(REPLY | {"time": time})
    first = done(read_in_steps(body, NOW_S)).fingerprints or []
    assert known(first, done(read_in_steps(body, NOW_S + 300)).fingerprints or [])
    assert not known(first, done(read_in_steps(body, NOW_S + 1800)).fingerprints or [])
    other = compact(REPLY | {"time": time, "mobile": "1"})
    assert not known(first, done(read_in_steps(other, NOW_S)).fingerprints or [])


def known(first: list[tuple[int, bytes]], later: list[tuple[int, bytes]]) -> bool:
    """Whether all of the later ones are repeats."""
    digests = {digest[at : at + 16] for _, digest in first for at in range(0, len(digest), 16)}
    return {digest[:16] for _, digest in later} <= digests


def test_mended_record_is_the_same_as_the_one_that_was_meant() -> None:
    meant = done(read_in_steps(compact([STATUS]), NOW_S))
    odd = STATUS | {"report_status": "success", "mobile": " 13800000000", "nationcode": 86}
    assert done(read_in_steps(compact([odd]), NOW_S)).fingerprints == meant.fingerprints


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb"see you \ud83d", "see you \ufffd"),
        (rb"\ude00 you", "\ufffd you"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ud83d\ude00\ude00", "\U0001f600\ufffd"),
        (rb"\ud83dx\ude00", "\ufffdx\ufffd"),
        (rb"\\ud83d\ude00", "\\ud83d\ufffd"),
        (rb"\\\ud83d\\", "\\\ufffd\\"),
        (b"cut \xe4\xbd", "cut \ufffd"),
        (b"\xff", "\ufffd"),
        (b"see you \xed\xa0\xbd\xed\xb8\x80", "see you \U0001f600"),
        (b"\xed\xa0\xbd\xed\xb8\x80" * 2 + b"\xe6\x94\xb6\xe5", "\U0001f600" * 2 + "\u6536\ufffd"),
        (b"\xed\xa0\xbd you", "\ufffd\ufffd\ufffd you"),
        ("\u6536\u5230".encode() + b"\xe4\xbd", "\u6536\u5230\ufffd"),
        (b"a\nb\tc\x00", "a\nb\tc\x00"),
        ("\ufeff".encode(), "\ufeff"),
    ],
)
def test_text_that_no_unicode_can_hold_is_replaced(sent: bytes, read: str) -> None:
    body = compact(REPLY).replace(b'"TD"', b'"' + sent + b'"')
    [entry] = done(read_in_steps(body, NOW_S)).entries
    assert json.loads(entry) == REPLY | {"text": read}


@pytest.mark.parametrize("charset", ["gb18030", "big5", "euc-kr"])
@pytest.mark.parametrize("text", ["\u9000\u8a02", "TD, \u6211\u8981\u9000! " * 50])
def test_reply_in_a_charset_that_nothing_names_is_not_read(charset: str, text: str) -> None:
    """Its text would be lost, and what it was in is not told by its bytes."""
    if charset == "gb18030":
        text = text.replace("\u8a02", "\u8ba2")
    body = json.dumps(REPLY | {"text": text}, ensure_ascii=False).encode(charset)
    with pytest.raises(InvalidRecord, match="text must be UTF-8, or in the charset"):
        done(read_in_steps(body, NOW_S))
    named = json.dumps(REPLY | {"sign": text}, ensure_ascii=False).encode(charset)
    [entry] = done(read_in_steps(named, NOW_S)).entries
    assert json.loads(entry)["text"] == REPLY["text"], "what the person wrote is whole"


def test_delivery_status_in_another_charset_is_read_without_its_words() -> None:
    """What became of the SMS is whole, and a sender of these would have all of them put aside."""
    status = STATUS | {"description": "\u7528\u6237\u5173\u673a"}
    body = json.dumps([status], ensure_ascii=False).encode("gb18030")
    [entry] = done(read_in_steps(body, NOW_S)).entries
    read = json.loads(entry)
    assert "\ufffd" in read.pop("description")
    assert read == {name: value for name, value in STATUS.items() if name != "description"}


@pytest.mark.parametrize("place", ["value", "name", "unknown"])
def test_half_a_surrogate_is_replaced_wherever_it_stands(place: str) -> None:
    member = {
        "value": b'"ext":"\\udc00"',
        "name": b'"\\udc00":1',
        "unknown": b'"x":{"y":["\\udc00"]}',
    }[place]
    body = b"[" + compact(STATUS)[:-1] + b"," + member + b"}]"
    [entry] = done(read_in_steps(body, NOW_S)).entries
    mended = compact(STATUS)[:-1] + b"," + member.replace(b"udc00", b"ufffd") + b"}"
    assert entry.lower() == mended.lower()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_byte_order_mark_is_read(encoding: str) -> None:
    record = STATUS | {"description": "\u6536\u5230"}
    text = json.dumps([record], ensure_ascii=False)
    body = ("\ufeff" if encoding == "utf-16-be" else "") + text
    [entry] = done(read_in_steps(body.encode(encoding), NOW_S)).entries
    assert json.loads(entry) == record


# --- whatever comes -------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ODD = st.one_of(
    ANY_JSON,
    st.sampled_from([MISSING, "", " ", "0", "\ud800", "1e5", "success"]),
    st.dates().map(str),
    st.datetimes().map(str),
    st.integers(-(10**20), 10**20).map(str),
)


def odd(record: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The record with one or two members that may be anything."""
    change = st.tuples(st.sampled_from([*record, "ext", "extend", "new"]), ODD)
    return st.lists(change, min_size=1, max_size=2).map(
        lambda changes: _with_members(record, changes)
    )


def _with_members(record: dict[str, Any], changes: list[tuple[str, object]]) -> dict[str, Any]:
    for member, value in changes:
        record = with_member(record, member, value)
    return record


@given(st.lists(odd(STATUS), max_size=3) | odd(REPLY), st.integers(0, limits.REPLY_TIME_S_MAX))
@example([STATUS | {"user_receive_time": None}], limits.REPLY_TIME_S_MAX)
def test_whatever_is_read_is_a_valid_record(body: object, now_s: int) -> None:
    """Nothing but a refusal is ever raised, and what is read could have been sent as it is."""
    with contextlib.suppress(InvalidBody, InvalidRecord):
        receipts = done(read_in_steps(compact(body), now_s))
        assert len(receipts.fingerprints or []) == len(receipts.entries)
        for entry in receipts.entries:
            decode(entry, receipts.kind)


def test_a_string_without_an_end_is_read_once() -> None:
    """Not once from each of its quotes: that would hold the server for an hour."""
    body = b'[\n"' + b'\\"' * 300_000
    began_s = time.process_time()
    done(repair(body, NOW_S))
    small_s = time.process_time() - began_s
    assert small_s < 20  # of a processor; with a pass for each quote it is minutes


@given(st.binary(max_size=200), st.binary(max_size=20), st.integers(0, 200))
def test_bytes_in_the_middle_of_a_body_raise_nothing_else(
    tail: bytes, inside: bytes, place: int
) -> None:
    for whole in (compact([STATUS]), compact(REPLY)):
        for body in (whole[:place] + inside + whole[place:], whole[:place] + tail):
            with contextlib.suppress(InvalidBody, InvalidRecord):
                done(read_in_steps(body, NOW_S))
            done(repair(body, NOW_S))


VALID_STATUS = st.fixed_dictionaries(
    {
        "user_receive_time": st.datetimes().map(lambda at: at.isoformat(" ", "seconds")),
        "nationcode": st.from_regex(r"[0-9]{1,6}", fullmatch=True),
        "mobile": st.from_regex(r"\+?[0-9]{1,19}", fullmatch=True),
        "report_status": st.sampled_from(["SUCCESS", "FAIL"]),
        "errmsg": st.text(max_size=20),
        "description": st.text(max_size=20),
        "sid": st.text(min_size=1, max_size=64),
    },
    optional={"ext": st.text(max_size=9) | st.none(), "new": ANY_JSON},
)


@given(st.lists(VALID_STATUS, min_size=1, max_size=3))
def test_what_the_strict_reader_takes_is_read_as_ever(batch: list[dict[str, Any]]) -> None:
    body = compact(batch)
    try:
        records, extras = decode_array(body, Kind.DELIVERY_STATUS)
    except (InvalidRecord, InvalidBody):
        return  # NaN and the like in a new member
    receipts = done(read_in_steps(body, NOW_S))
    assert receipts.entries == encode_all(records, extras)
    assert receipts.repaired == 0


@given(st.lists(VALID_STATUS, min_size=1, max_size=3))
def test_repair_changes_nothing_in_what_is_valid(batch: list[dict[str, Any]]) -> None:
    """So one odd record never changes what is read of its neighbours."""
    body = compact(batch)
    try:
        meant = decode_array(body, Kind.DELIVERY_STATUS)
    except (InvalidRecord, InvalidBody):
        return
    repaired = done(repair(body, NOW_S))
    assert decode_array(repaired.body, Kind.DELIVERY_STATUS) == meant
    assert not repaired.undated


@given(st.text())
def test_text_that_can_be_read_is_not_mended(text: str) -> None:
    for data in (compact(text), json.dumps(text, ensure_ascii=False).encode()):
        assert mend_text(data) == data

"""Of a callback is read what can be read, whatever stands beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.sifting import sift_in_steps
from pullstatus.receipts.tencent import read_in_steps
from pullstatus.records import Kind
from pullstatus.steps import done

CORPUS = Path(__file__).parents[2] / "corpus" / "v5"
STATUS = json.loads((CORPUS / "delivery_statuses_callback.json").read_bytes())[0]
REPLY = (CORPUS / "reply_callback.json").read_bytes()
NOW_S = 1_767_571_200


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def push(*parts: bytes) -> bytes:
    return b"[" + b",".join(parts) + b"]"


GOOD = [compact(STATUS | {"sid": str(number)}) for number in range(99)]
NESTED = [compact(STATUS | {"sid": str(n), "fee": [{"a": 1}, {"b": "},{"}]}) for n in range(99)]

# What it is -> the member at fault; None: it is no object that could have one.
BAD = {
    compact(STATUS | {"mobile": "abc"}): "mobile",
    compact(STATUS | {"report_status": "MAYBE"}): "report_status",
    compact(STATUS | {"sid": ""}): "sid",
    compact({name: value for name, value in STATUS.items() if name != "sid"}): "sid",
    compact(STATUS | {"description": "x" * limits.RECORD_BYTES_MAX}): "record",
    compact(STATUS | {"nationcode": [1]}): "nationcode",
    REPLY: "report_status",
    b"{}": "nationcode",
    b"null": "record",
    b"1": "record",
    b'"},{"': "record",
    b"[]": "record",
    b'{"a":%s1%s}' % (b"[" * 20, b"]" * 20): None,
    b'{"a":NaN}': None,
    b"NaN": None,
    b"{'sid':'1'}": None,
    b'{"sid":"1",}': None,
    b'{"sid":"1"': None,  # its brace is missing
    b'"sid":"1"}': None,
    b'{"sid":"a"b","mobile":"1"}': None,  # a quote that was not escaped
    b'{"sid":"a}': None,
    b'{"sid":"\xff\xfe{"': None,
    b'{"sid":"1"}}': None,
    b'{"sid"="1"}': None,
}


@pytest.mark.parametrize("good", [GOOD, NESTED])
@pytest.mark.parametrize(("bad", "member"), BAD.items())
def test_one_bad_part_among_good_ones_is_the_only_one_unread(
    good: list[bytes], bad: bytes, member: str | None
) -> None:
    """Of each kind, at each place of a push of 100: its neighbours are as without it."""
    alone = done(read_in_steps(push(*good), NOW_S))
    for place in (0, 1, 50, 98, 99):
        receipts = done(sift_in_steps(push(*good[:place], bad, *good[place:]), NOW_S))
        assert receipts.entries == alone.entries
        assert receipts.fingerprints == alone.fingerprints
        [unread] = receipts.unread
        assert bad in unread.raw.removesuffix(b"]") + b"]"
        assert len(unread.raw) <= len(bad) + len(b"]")
        assert (unread.index, unread.kind) == (place, Kind.DELIVERY_STATUS)
        if member is not None:
            assert unread.member == member


@given(st.lists(st.sampled_from([*BAD, *GOOD[:5]]), max_size=30))
def test_parts_are_read_or_unread_each_by_itself(parts: list[bytes]) -> None:
    """However many are bad: each good one is read, and nothing of a bad one is left out."""
    receipts = done(sift_in_steps(push(*parts), NOW_S))
    assert len(receipts.entries) == sum(part in GOOD for part in parts)
    left = b" ".join(unread.raw for unread in receipts.unread)
    assert all(part in left for part in parts if part not in GOOD)
    assert [unread.index for unread in receipts.unread] == sorted(
        {unread.index for unread in receipts.unread if unread.index is not None}
    )


def test_wholly_good_callback_is_read_as_ever() -> None:
    for body in (push(*GOOD), push(*NESTED), REPLY, REPLY.replace(b"1457336869", b'"x"')):
        assert done(sift_in_steps(body, NOW_S)) == done(read_in_steps(body, NOW_S))


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b",".join(GOOD),  # cut behind a record
        push(*GOOD) + b"]",
        push(*GOOD, b""),
        b"[" + b"\r\n".join(GOOD) + b"]",
        b"[" + b",\n".join(GOOD) + b",\n]",
        b"\xef\xbb\xbf[" + b",".join(GOOD),
    ],
)
def test_array_that_is_no_json_loses_no_record(body: bytes) -> None:
    receipts = done(sift_in_steps(body, NOW_S))
    assert (receipts.entries, receipts.unread) == (GOOD, ())


def test_array_that_was_cut_keeps_what_was_whole() -> None:
    body = push(*GOOD)
    for size in range(1, len(GOOD[0]) + len(GOOD[1]) + 2):
        receipts = done(sift_in_steps(body[:size], NOW_S))
        *whole, rest = body[1:size].split(b"}")
        assert receipts.entries == GOOD[: len(whole)]
        left = list(filter(None, [rest.strip(b", ")]))
        assert [unread.raw.rstrip(b",") for unread in receipts.unread] == left


def test_parts_in_another_encoding_are_read_too() -> None:
    body = push(*GOOD, b"{}").decode().encode("utf-16")
    receipts = done(sift_in_steps(body, NOW_S))
    assert receipts.entries == GOOD
    assert [unread.raw for unread in receipts.unread] == [b"{}"]


def test_what_a_string_says_is_never_a_record() -> None:
    """Quotes within a string are escaped, so no text passes for a record beside a broken part."""
    forged = compact(STATUS | {"sid": "forged"}).decode()
    texts = [f"}},{forged},{{", f"],[{forged}", f"\n{forged}\n"]
    parts = [compact(STATUS | {"description": text, "sid": "true"}) for text in texts]
    for broken in (b'{"sid":"a"b"}', b'{"sid":"a}', b'{"sid":"1"', b"NaN"):
        for place in range(len(parts) + 1):
            receipts = done(sift_in_steps(push(*parts[:place], broken, *parts[place:]), NOW_S))
            assert all(json.loads(entry)["sid"] == "true" for entry in receipts.entries)
            assert len(receipts.entries) == len(parts)


@pytest.mark.parametrize(
    ("body", "kind", "member"),
    [
        (b"result=0", None, None),
        (b"null", None, None),
        (b"\x1f\x8b\x08\x00", None, None),
        (REPLY[:-1], Kind.REPLY, None),
        (REPLY.replace(b'"text"', b'"txt"'), Kind.REPLY, "text"),
        (b"{}", Kind.REPLY, "nationcode"),
    ],
)
def test_body_that_is_none_is_unread_as_a_whole(
    body: bytes, kind: Kind | None, member: str | None
) -> None:
    receipts = done(sift_in_steps(body, NOW_S))
    [unread] = receipts.unread
    assert (unread.raw, unread.kind, unread.member, unread.index) == (body, kind, member, None)
    assert (receipts.entries, receipts.fingerprints) == ([], [])


@pytest.mark.parametrize("body", [b"", b" \r\n", b"[]", b"[ ]", b"\xef\xbb\xbf", b"[,]"])
def test_of_nothing_nothing_is_unread(body: bytes) -> None:
    """Some senders try an address with an empty body before they use it."""
    assert done(sift_in_steps(body, NOW_S)) == Receipts(Kind.DELIVERY_STATUS, [], [])


def test_reason_names_the_fix_and_says_nothing_that_was_sent() -> None:
    secret = "13800138000x"
    for bad in (compact(STATUS | {"mobile": secret}), b'{"mobile":"13800138000x'):
        [unread] = done(sift_in_steps(push(bad), NOW_S)).unread
        assert secret[:8] not in unread.reason
        assert "must" in unread.reason


SHORT = b'{"nationcode":"86","mobile":"1","report_status":"FAIL","sid":"%d"}'  # to be repaired
MANY = 12_000


@pytest.mark.parametrize("places", [(), (0,), (MANY - 1,), (0, 150, 3999, 7000)])
def test_push_of_any_number_of_records_is_read(places: tuple[int, ...]) -> None:
    """As good ones among few are: the bad ones alone are unread, each by itself."""
    parts = [SHORT % number for number in range(MANY)]
    for place in places:
        parts[place] = b"{}"
    receipts = done(sift_in_steps(push(*parts), NOW_S))
    assert len(receipts.entries) == MANY - len(places)
    assert [unread.index for unread in receipts.unread] == list(places)
    assert {unread.raw for unread in receipts.unread} <= {b"{}"}
    sids = [int(json.loads(entry)["sid"]) for entry in receipts.entries]
    assert sids == [number for number in range(MANY) if number not in places]


def test_push_with_bad_parts_everywhere_is_parked_in_few_items() -> None:
    """Of what is behind a thousand only good runs are read; the others are whole for a retry."""
    bad, run = limits.INGEST_RECORDS_MAX, [GOOD[0]] * 100
    receipts = done(sift_in_steps(push(*[b"{}"] * bad, *run, b"[]", *run, b"1", *run), NOW_S))
    *alone, rest = receipts.unread
    assert [unread.raw for unread in alone] == [b"{}"] * bad
    assert (rest.index, rest.raw) == (bad + 100, push(b"[]", *run, b"1", *run[:98])[1:-1])
    assert "retry" in rest.reason
    assert receipts.entries == [*run, *run[:2]]
    again = done(sift_in_steps(push(rest.raw), NOW_S))
    assert (len(again.entries), [unread.raw for unread in again.unread]) == (198, [b"[]", b"1"])


@pytest.mark.parametrize(
    "body",
    [b'["[' * 400_000, b"[" + b"{}," * 349_000 + b"{}]", "[1]".encode("utf-16").ljust(1024 * 1024)],
)
def test_body_of_any_content_within_its_bytes_is_read_or_unread(body: bytes) -> None:
    """However it grows when it is mended, or is put between brackets to be read."""
    receipts = done(sift_in_steps(body[: limits.INGEST_BODY_BYTES_MAX], NOW_S))
    assert receipts.unread
    assert len(receipts.unread) <= limits.INGEST_RECORDS_MAX + 1


@given(st.binary() | st.binary().map(lambda tail: b"[" + tail) | st.binary().map(REPLY.__add__))
def test_any_bytes_are_read_or_unread(body: bytes) -> None:
    """Nothing is refused, and nothing disappears."""
    receipts = done(sift_in_steps(body, NOW_S))
    assert (
        receipts.entries or receipts.unread or not body.strip(b" \t\r\n[],\xef\xbb\xbf\xfe\xff\0")
    )
    assert all(isinstance(unread, Unread) for unread in receipts.unread)

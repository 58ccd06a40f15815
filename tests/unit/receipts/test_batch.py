"""Our own format: arrays and NDJSON, taken or refused as a whole."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, InvalidBody, InvalidRecord
from pullstatus.receipts import Receipts
from pullstatus.receipts.batch import read_in_steps
from pullstatus.records import Kind
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


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


ENTRY = compact(STATUS)


def statuses(body: bytes, *, ndjson: bool = False) -> Receipts:
    return done(read_in_steps(body, Kind.DELIVERY_STATUS, ndjson))


def test_array_keeps_its_order_and_has_no_fingerprints() -> None:
    """Entries stand as they came; the Idempotency-Key recognises repeats here."""
    batch = [STATUS | {"sid": str(n)} for n in range(5)]
    receipts = statuses(json.dumps(batch, indent=2).encode())
    assert receipts == Receipts(Kind.DELIVERY_STATUS, [compact(status) for status in batch], None)


@pytest.mark.parametrize(
    "body",
    [
        ENTRY + b"\n" + ENTRY,
        ENTRY + b"\n" + ENTRY + b"\n",
        ENTRY + b"\r\n" + ENTRY + b"\r\n",
        b"\n\n  \r\n\t\n" + ENTRY + b"\n\r\n " + ENTRY + b" \n\n",
    ],
)
def test_ndjson_takes_blank_lines_and_crlf(body: bytes) -> None:
    """One record on a line; what is blank is no record."""
    assert statuses(body, ndjson=True).entries == [ENTRY, ENTRY]


def test_replies_are_read_as_replies() -> None:
    """The kind decides what a record must be."""
    with pytest.raises(InvalidRecord, match=r"^record 0: text is missing"):
        done(read_in_steps(b"[" + ENTRY + b"]", Kind.REPLY, ndjson=False))


@pytest.mark.parametrize(
    ("body", "ndjson"),
    [(b"[]", False), (b" [ ] ", False), (b"", True), (b"\n \r\n\t", True)],
)
def test_empty_batch_is_refused(body: bytes, ndjson: bool) -> None:
    with pytest.raises(InvalidBody, match="at least one record"):
        statuses(body, ndjson=ndjson)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        ENTRY,
        ENTRY + b"\n" + ENTRY,
        b"[" + ENTRY,
        b"[" + ENTRY + b"]x",
        b"[" + ENTRY + b",]",
        b"\xef\xbb\xbf[" + ENTRY + b"]",
        ("[" + ENTRY.decode() + "]").encode("utf-16"),
        b"[" + ENTRY.replace(b"delivered", b"\xff") + b"]",
        b"[" * 100_000,
        b"null",
    ],
)
def test_what_is_no_array_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidBody):
        statuses(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (ENTRY + ENTRY, "record 0 is not JSON"),
        (ENTRY + b"\n{", "record 1 is not JSON"),
        (b"\n" + ENTRY + b"\n\n" + ENTRY + b",", "record 1 is not JSON"),
        (ENTRY + b"\r" + ENTRY, "record 0 is not JSON"),
        (json.dumps(STATUS, indent=1).encode(), "record 0 is not JSON"),
        (b'"\xff"', "record 0 is not UTF-8"),
        (ENTRY + b"\n\xef\xbb\xbf" + ENTRY, "record 1 must be UTF-8 without a byte order mark"),
    ],
)
def test_ndjson_holds_exactly_one_json_value_a_line(body: bytes, text: str) -> None:
    """No second record behind the first, none over two lines."""
    with pytest.raises(InvalidBody, match=f"^{text}"):
        statuses(body, ndjson=True)


def test_ndjson_line_that_is_an_array_is_refused() -> None:
    with pytest.raises(InvalidRecord, match=r"^record 1: record must be a JSON object$"):
        statuses(ENTRY + b"\n[" + ENTRY + b"]", ndjson=True)


@pytest.mark.parametrize("place", [0, 1, 99])
@pytest.mark.parametrize("ndjson", [False, True])
@pytest.mark.parametrize(
    ("member", "value"),
    [("sid", ""), ("mobile", "x"), ("mobile", 1), ("description", "x" * 70_000), ("errmsg", None)],
)
def test_one_bad_record_refuses_all(place: int, ndjson: bool, member: str, value: object) -> None:
    """The whole batch is refused, naming the first bad one from 0 and never its content."""
    batch = [STATUS] * 100
    batch[place] = STATUS | {member: value}
    lines = [compact(status) for status in batch]
    body = b"\n".join(lines) if ndjson else b"[" + b",".join(lines) + b"]"
    with pytest.raises(InvalidRecord) as caught:
        statuses(body, ndjson=ndjson)
    assert caught.value.index == place
    assert caught.value.member == ("record" if member == "description" else member)
    assert "xxxx" not in str(caught.value)


def test_unknown_members_are_kept_in_their_record() -> None:
    """One record with more than we know doesn't change its neighbours."""
    more = STATUS | {"fee": 1.50, "tags": ["a", {"b": None}]}
    assert statuses(compact([STATUS, more, STATUS])).entries == [ENTRY, compact(more), ENTRY]
    body = b"\n".join([ENTRY, compact(more), ENTRY])
    assert statuses(body, ndjson=True).entries == [ENTRY, compact(more), ENTRY]


def test_nesting_is_bounded_over_the_whole_body() -> None:
    """Sixteen levels of JSON, counted from the outside."""
    for levels, ndjson in ((14, False), (15, True)):
        body = ENTRY[:-1] + b',"a":' + b"[" * levels + b"]" * levels + b"}"
        deeper = ENTRY[:-1] + b',"a":' + b"[" * (levels + 1) + b"]" * (levels + 1) + b"}"
        opening, end = (b"", b"") if ndjson else (b"[", b"]")
        assert len(statuses(opening + body + end, ndjson=ndjson).entries) == 1
        with pytest.raises(InvalidBody, match="16 levels"):
            statuses(opening + deeper + end, ndjson=ndjson)


@pytest.mark.parametrize("ndjson", [False, True])
def test_record_count_is_bounded(ndjson: bool) -> None:
    """A thousand pass, one more doesn't."""
    opening, comma, end = (b"", b"\n", b"") if ndjson else (b"[", b",", b"]")
    body = opening + comma.join([ENTRY] * limits.INGEST_RECORDS_MAX) + end
    assert len(statuses(body, ndjson=ndjson).entries) == limits.INGEST_RECORDS_MAX
    body = opening + comma.join([ENTRY] * (limits.INGEST_RECORDS_MAX + 1)) + end
    with pytest.raises(BodyTooLarge, match="1000 records"):
        statuses(body, ndjson=ndjson)


def test_body_size_is_bounded() -> None:
    """White space counts."""
    body = b"[" + ENTRY + b"]"
    fits = body.ljust(limits.INGEST_BODY_BYTES_MAX)
    assert statuses(fits).entries == [ENTRY]
    with pytest.raises(BodyTooLarge, match="1048576 bytes"):
        statuses(fits + b" ")


@given(st.binary(), st.sampled_from(Kind), st.booleans())
def test_any_bytes_are_read_or_refused(body: bytes, kind: Kind, ndjson: bool) -> None:
    """Nothing but our errors ever comes out."""
    with contextlib.suppress(InvalidBody, InvalidRecord, BodyTooLarge):
        done(read_in_steps(body, kind, ndjson))


@given(st.integers(0, 2 * len(ENTRY) + 2))
def test_a_batch_that_was_cut_is_refused(size: int) -> None:
    """No prefix of an array is an array."""
    body = b"[" + ENTRY + b"," + ENTRY + b"]"
    with pytest.raises(InvalidBody):
        statuses(body[:size])

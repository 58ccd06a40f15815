"""Tencent's callback bodies: an array of delivery statuses, or one reply; repeats recognised."""

import contextlib
import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import InvalidBody, InvalidRecord
from pullstatus.receipts import Receipts, tencent
from pullstatus.receipts.tencent import read_in_steps
from pullstatus.records import Kind
from pullstatus.steps import done

CORPUS = Path(__file__).parents[2] / "corpus" / "v5"
STATUSES = (CORPUS / "delivery_statuses_callback.json").read_bytes()
FAIL = (CORPUS / "delivery_status_fail_callback.json").read_bytes()
REPLY = (CORPUS / "reply_callback.json").read_bytes()
STATUS: dict[str, Any] = json.loads(STATUSES)[0]

NOW_S = 1_767_571_200  # 2026-01-05 08:00:00 in UTC+8
NOW = "2026-01-05 08:00:00"


def read(body: bytes, now_s: int = NOW_S) -> Receipts:
    return done(read_in_steps(body, now_s))


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def fingerprint(status: dict[str, Any]) -> tuple[int, bytes]:
    [found] = read(compact([status])).fingerprints or []
    return found


def test_documented_delivery_statuses_are_read() -> None:
    """Both documented examples, byte for byte, with the time in UTC+8 and a 16 byte digest."""
    for body, text in (
        (STATUSES, b"13800000000\nSUCCESS\n2015-10-17 08:03:04\n8:aIt9bcbZHdse7kBZuqi20170104"),
        (FAIL, b"13800000000\nFAIL\n2015-10-17 08:03:04\n8:yoIn07HUWbhiPfrmTOF20180329"),
    ):
        assert read(body) == Receipts(
            Kind.DELIVERY_STATUS,
            [body[1:-1]],
            [(1445040184, blake2b(text, digest_size=16).digest())],
        )


def test_a_usual_array_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the careful way reads it, to the byte; that one is not even asked."""
    statuses = [
        STATUS | {"mobile": f"{13_800_000_000 + n}", "ext": "é"[: n % 2], "sid": f"8:{n}\n"}
        for n in range(250)
    ]
    body = compact(statuses)
    with monkeypatch.context() as patched:
        patched.setattr(tencent, "AT_ONCE_BYTES", 0)
        careful = read(body)
    monkeypatch.setattr(tencent, "decode_in_steps", None)
    assert read(body) == careful
    assert len(careful.fingerprints or []) == 250


def test_documented_reply_is_read() -> None:
    """One object; its fingerprint covers the whole of it."""
    digest = blake2b(REPLY, digest_size=16).digest()
    assert read(REPLY) == Receipts(Kind.REPLY, [REPLY], [(1457336869, digest)])


def test_many_statuses_in_one_push_keep_their_order() -> None:
    """Up to a hundred come at once; each has its own fingerprint, in the same order."""
    batch = [STATUS | {"sid": str(n)} for n in range(100)]
    receipts = read(compact(batch))
    assert receipts.entries == [compact(status) for status in batch]
    assert receipts.fingerprints == [fingerprint(status) for status in batch]
    assert len(set(receipts.fingerprints)) == 100


def test_ext_and_unknown_members_are_kept() -> None:
    """Pages since 2021 show ext, and new members may come any day."""
    body = compact([STATUS | {"ext": "session", "fee": 2}])
    assert read(body).entries == [body[1:-1]]
    body = REPLY[:-1] + b',"port":"10690"}'
    assert read(body).entries == [body]


@pytest.mark.parametrize(
    ("member", "value", "same"),
    [
        ("sid", "other", False),
        ("mobile", "13800000001", False),
        ("report_status", "FAIL", False),
        ("user_receive_time", "2015-10-17 08:03:05", False),
        ("description", "other", True),
        ("errmsg", "other", True),
        ("ext", "other", True),
        ("new", 1, True),
    ],
)
def test_delivery_status_is_the_same_by_id_outcome_and_time(
    member: str, value: object, same: bool
) -> None:
    """Carriers report more than once for a sid; only a repeat of the same report is a repeat."""
    assert (fingerprint(STATUS | {member: value}) == fingerprint(STATUS)) is same


def test_fingerprint_parts_cannot_run_into_each_other() -> None:
    """A sid may hold anything, line feeds and our own marks included."""
    odd = STATUS | {"sid": "1\nSUCCESS\n2015-10-17 08:03:04\n1"}
    assert fingerprint(odd) != fingerprint(STATUS | {"sid": "1"})


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (b"\r\n " + REPLY.replace(b",", b" ,\t"), True),
        (REPLY.replace(b'"TD"', rb'"\u0054D"'), True),
        (REPLY.replace(b',"extend":""', b""), True),
        (REPLY.replace(b'"TD"', b'"td"'), False),
        (REPLY.replace(b"1457336869", b"1457336870"), False),
        (REPLY.replace(b'"Example"', b'"Other"'), False),
        (REPLY[:-1] + b',"port":1}', False),
    ],
)
def test_reply_is_the_same_only_as_a_whole(body: bytes, same: bool) -> None:
    """Replies have no id; equal texts from one phone are legal, so everything must agree."""
    receipts = read(body)
    assert (receipts.fingerprints == read(REPLY).fingerprints) is same


@pytest.mark.parametrize("body", [b"", b" ", b"null", b'"x"', b"1", b"result=0"])
def test_other_shapes_are_refused_saying_what_is_due(body: bytes) -> None:
    with pytest.raises(InvalidBody, match="array of delivery statuses, or one reply object"):
        read(body)


def test_empty_array_is_refused() -> None:
    with pytest.raises(InvalidBody, match="at least one record"):
        read(b"[]")


def test_delivery_status_outside_an_array_is_refused() -> None:
    """An object is a reply; the first member that a reply lacks is named."""
    with pytest.raises(InvalidRecord, match=r"^text is missing; a reply must have it"):
        read(STATUSES[1:-1])


def test_reply_inside_an_array_is_refused() -> None:
    with pytest.raises(InvalidRecord, match=r"^record 0: report_status is missing"):
        read(b"[" + REPLY + b"]")


@pytest.mark.parametrize("mobile", ["", "138--000", "abc", "+", "<script>"])
def test_phone_must_be_digits(mobile: str) -> None:
    """One bad record among good ones refuses all, with its place."""
    body = compact([STATUS, STATUS | {"mobile": mobile}, STATUS])
    with pytest.raises(InvalidRecord) as caught:
        read(body)
    assert (caught.value.index, caught.value.member) == (1, "mobile")
    assert not mobile or mobile == "+" or mobile not in str(caught.value)


def test_controls_in_a_text_come_out_unchanged() -> None:
    r"""\u0000, escapes and marks are text, and leave as JSON escapes."""
    text = "\x00\x1b[31m\u202e=cmd()<script>\U0001f600"
    [entry] = read(compact(json.loads(REPLY) | {"text": text})).entries
    assert entry.isascii()
    assert json.loads(entry)["text"] == text


def test_text_over_the_limit_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="16384 bytes"):
        read(REPLY.replace(b"TD", b"x" * 70_000))


def test_count_is_not_bounded() -> None:
    """The bytes are, at the door; a sender drops whatever is refused."""
    many = 2 * limits.INGEST_RECORDS_MAX
    assert len(read(compact([STATUS] * many)).entries) == many


@given(st.binary() | st.binary().map(lambda tail: b"[" + tail) | st.binary().map(REPLY.__add__))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing but our errors ever comes out."""
    with contextlib.suppress(InvalidBody, InvalidRecord):
        read(body)


@given(st.integers(0, len(REPLY) - 1))
def test_a_body_that_was_cut_is_refused(size: int) -> None:
    with pytest.raises((InvalidBody, InvalidRecord)):
        read(REPLY[:size])


@given(st.integers(0, len(REPLY) - 1))
def test_a_body_that_was_cut_is_refused_behind_a_mark_too(size: int) -> None:
    with pytest.raises((InvalidBody, InvalidRecord)):
        read(b"\xef\xbb\xbf" + REPLY[:size])

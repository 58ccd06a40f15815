"""A reply with neither an id nor a time is a repeat for minutes; all else as long as ever."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.receipts.reports import Report, Whose, fingerprint, receipts_of
from pullstatus.receipts.tencent import read_in_steps
from pullstatus.records import Kind
from pullstatus.steps import done

NOW_S = 1_767_000_000
PHONE = "+8613800000001"
BRIEF = Report(Kind.REPLY, b"TD", 0, number=PHONE, text="TD")
SECONDS = st.integers(0, 2**33)


def is_repeat(report: Report, apart_s: int, at_s: int = NOW_S, other: bytes | None = None) -> bool:
    """Whether it is known that long after it came first, be it by other bytes."""
    later = report if other is None else Report(report.kind, other, 0, PHONE)
    order, digest = fingerprint(report, "acme", at_s)
    order_then, digest_then = fingerprint(later, "acme", at_s + apart_s)
    known = [digest[at : at + 16] for at in range(0, len(digest), 16)]
    return order == order_then and digest_then[:16] in known


@given(SECONDS, st.integers(0, limits.BRIEF_REPEAT_S))
def test_a_brief_reply_is_a_repeat_within_minutes(at_s: int, apart_s: int) -> None:
    assert is_repeat(BRIEF, apart_s, at_s)
    assert is_repeat(BRIEF, -apart_s, at_s)  # by another server's clock
    assert not is_repeat(BRIEF, apart_s, at_s, b"yes")


@given(SECONDS, st.integers(2 * limits.BRIEF_REPEAT_S, limits.INGEST_REPEAT_S))
def test_a_brief_reply_is_another_one_after_that(at_s: int, apart_s: int) -> None:
    assert not is_repeat(BRIEF, apart_s, at_s)


@pytest.mark.parametrize(
    "report",
    [
        Report(Kind.REPLY, b"TD", 0, number=PHONE, id="7"),
        Report(Kind.REPLY, b"TD", 0, number=PHONE, at_s=NOW_S),
        Report(Kind.DELIVERY_STATUS, b"s", 0, number=PHONE, sid="ours"),
        Report(Kind.DELIVERY_STATUS, b"s", 0, number=PHONE, id="7"),
    ],
)
@given(SECONDS, st.integers(0, limits.INGEST_REPEAT_S))
def test_all_else_is_a_repeat_whenever_it_comes(report: Report, at_s: int, apart_s: int) -> None:
    assert fingerprint(report, "acme", at_s) == fingerprint(report, "acme", at_s + apart_s)


def test_a_record_has_the_fingerprint_of_its_report() -> None:
    """What waits for other parts is known as it would have been at the door."""
    receipts = receipts_of(Kind.REPLY, "acme", [(BRIEF, Whose())], NOW_S)
    assert receipts.fingerprints == [fingerprint(BRIEF, "acme", NOW_S)]


def test_a_reply_of_tencent_without_a_time_is_brief() -> None:
    said = {"mobile": "13800000000", "nationcode": "86", "text": "TD", "sign": "", "extend": ""}
    body = json.dumps(said).encode()
    [[first]] = [done(read_in_steps(body, NOW_S)).fingerprints or []]
    for apart_s, is_known in ((limits.BRIEF_REPEAT_S, True), (2 * limits.BRIEF_REPEAT_S, False)):
        [[later]] = [done(read_in_steps(body, NOW_S + apart_s)).fingerprints or []]
        assert (later[1][:16] in (first[1][:16], first[1][16:32], first[1][32:])) is is_known

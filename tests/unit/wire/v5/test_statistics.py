"""A call for counts: what is read, what is refused, and what is answered, to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.errors import Refused
from pullstatus.records.hours import written
from pullstatus.wire.v5 import statistics
from pullstatus.wire.v5.statistics import (
    RECEIPTS_PATH,
    SENDS_PATH,
    parse_statistics,
    statistics_request,
)
from tests.harness import verify

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
TIME = 1457336869
QUERY = b"sdkappid=1400006666&random=7226249334"
MEMBERS: dict[str, Any] = {
    "sig": "c13e54f047ed75e821e698730c72d030dc30e5b510b3f8a0fb6fb7605283d7df",
    "time": TIME,
    "begin_date": 2016090800,
    "end_date": 2016090823,
}
"""The body of the documented example."""


def body_with(**members: object) -> bytes:
    return json.dumps(MEMBERS | members).encode()


def refusal(**members: object) -> Refused:
    request = parse_statistics(QUERY, body_with(**members))
    with pytest.raises(Refused) as caught:
        request.hours()
    return caught.value


def test_documented_request_is_read() -> None:
    request = parse_statistics(QUERY, body_with())
    assert verify(request.sig, (APPKEY,), request.random, request.time_text)
    assert request.hours() == (2016090800, 2016090823)


@pytest.mark.parametrize("hour", ["2016090823", 2016090823.0])
def test_hours_may_be_digits_in_a_text(hour: object) -> None:
    assert parse_statistics(QUERY, body_with(end_date=hour)).hours() == (2016090800, 2016090823)


@pytest.mark.parametrize("member", ["begin_date", "end_date"])
@pytest.mark.parametrize(
    "hour",
    [
        None,
        True,
        "",
        "x",
        [],
        0,
        -1,
        20160908,
        2016090824,
        2016023000,
        2016130800,
        2015022900,
        201609080000,
        10**18,
        "9" * 30,
        2016090800.5,
        "2016-09-08",
    ],
)
def test_what_is_no_hour_of_the_calendar_is_1004_naming_the_member(
    member: str, hour: object
) -> None:
    refused = refusal(**{member: hour})
    assert refused.result == 1004
    assert refused.errmsg.startswith(f"{member} must be an hour")


def test_hours_that_are_missing_are_1004() -> None:
    request = parse_statistics(QUERY, json.dumps({"sig": "x", "time": 1}).encode())
    with pytest.raises(Refused, match="begin_date must be an hour") as caught:
        request.hours()
    assert caught.value.result == 1004


def test_end_may_be_the_begin_and_not_before() -> None:
    request = parse_statistics(QUERY, body_with(end_date=2016090800))
    assert request.hours() == (2016090800, 2016090800)
    refused = refusal(end_date=2016090723)
    assert (refused.result, refused.errmsg) == (1004, "end_date must not be before begin_date")


def test_span_is_32_days() -> None:
    request = parse_statistics(QUERY, body_with(end_date=2016101000))
    assert request.hours() == (2016090800, 2016101000)
    refused = refusal(end_date=2016101001)
    assert refused.result == 1004
    assert refused.errmsg == "end_date must be at most 32 days after begin_date"


def test_answers_are_the_documented_ones_with_a_msg() -> None:
    assert statistics.sends(101, 100, 120) == (
        b'{"result":0,"errmsg":"OK","msg":"OK",'
        b'"data":{"request":101,"success":100,"bill_number":120}}'
    )
    assert json.loads(statistics.receipts(100, 80, (2, 2, 2, 2, 2))) == {
        "result": 0,
        "errmsg": "OK",
        "msg": "OK",
        "data": {
            "success": 100,
            "status": 90,
            "status_success": 80,
            "status_fail": 10,
            "status_fail_0": 2,
            "status_fail_1": 2,
            "status_fail_2": 2,
            "status_fail_3": 2,
            "status_fail_4": 2,
        },
    }
    assert statistics.failure(1030, "é\ud800") == (
        b'{"result":1030,"errmsg":"\\u00E9?","msg":"\\u00E9?"}'
    )


def test_who_never_told_of_sends_has_as_many_as_receipts() -> None:
    assert json.loads(statistics.receipts(None, 3, (0, 1, 0, 0, 0)))["data"]["success"] == 4
    assert json.loads(statistics.receipts(0, 3, (0, 1, 0, 0, 0)))["data"]["success"] == 0


@given(st.integers(0, 2**40), st.lists(st.integers(0, 2**40), min_size=5, max_size=5))
def test_sums_are_those_of_their_parts(success: int, failed: list[int]) -> None:
    data = json.loads(statistics.receipts(None, success, failed))["data"]
    assert data["status"] == data["status_success"] + data["status_fail"]
    assert data["status_fail"] == sum(data[f"status_fail_{number}"] for number in range(5))


@given(st.integers(0, 60_000_000), st.integers(0, 32 * 24), st.sampled_from([SENDS_PATH, "/x"]))
def test_what_a_client_builds_the_server_reads(begin: int, more: int, path: str) -> None:
    first, last = written(begin), written(begin + more)
    built, body = statistics_request(path, 1400006666, APPKEY, first, last, "1 2", TIME)
    address, _, query = built.partition("?")
    assert address == path
    request = parse_statistics(query.encode(), body)
    assert verify(request.sig, [APPKEY], "1 2", request.time_text)
    assert request.hours() == (first, last)


def test_paths_are_the_documented_ones() -> None:
    assert SENDS_PATH == "/v5/tlssmssvr/pullsendstatus"
    assert RECEIPTS_PATH == "/v5/tlssmssvr/pullcallbackstatus"


@given(
    st.sampled_from(["begin_date", "end_date"]),
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**64), 2**64), st.text(max_size=12), st.floats()
    ),
)
def test_any_hour_is_read_or_1004(member: str, value: object) -> None:
    text = body_with(**{member: value}).replace(b"NaN", b"0").replace(b"Infinity", b"0")
    try:
        first, last = parse_statistics(QUERY, text).hours()
        assert first <= last
    except Refused as refused:
        assert refused.result == 1004  # noqa: PT017
        assert refused.errmsg.isascii()  # noqa: PT017

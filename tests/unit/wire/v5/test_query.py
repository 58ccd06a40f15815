"""A question about one number: what is read, what is refused, and in which order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.errors import Refused
from pullstatus.records import Kind
from pullstatus.wire.v5.query import QUERY_PATH, Question, parse_query, query_request
from tests.harness import verify

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
TIME = 1457336869
QUERY = b"sdkappid=1400006666&random=7226249334"
MEMBERS: dict[str, Any] = {
    "begin_time": 1464624000,
    "end_time": 1464706800,
    "max": 10,
    "mobile": "13788888888",
    "nationcode": "86",
    "sig": "c13e54f047ed75e821e698730c72d030dc30e5b510b3f8a0fb6fb7605283d7df",
    "time": TIME,
    "type": 1,
}
"""The body of the documented example."""

ASKED = Question(Kind.REPLY, "8613788888888", 1464624000, 1464706800, 10)


def body_with(**raw: str | None) -> bytes:
    """The documented body, with this JSON text for some members; None leaves one out."""
    parts = {name: json.dumps(value) for name, value in MEMBERS.items()} | raw
    said = (f'"{name}":{text}' for name, text in parts.items() if text is not None)
    return f"{{{','.join(said)}}}".encode()


def asked(**raw: str | None) -> Question:
    return parse_query(QUERY, body_with(**raw)).question()


def refusal(**raw: str | None) -> Refused:
    request = parse_query(QUERY, body_with(**raw))
    with pytest.raises(Refused) as caught:
        request.question()
    return caught.value


def test_documented_request_is_read() -> None:
    request = parse_query(QUERY, body_with())
    assert (request.sdkappid, request.random, request.time) == (1400006666, "7226249334", TIME)
    assert verify(request.sig, (APPKEY,), request.random, request.time_text)  # without the number
    assert request.question() == ASKED


@pytest.mark.parametrize(
    ("nationcode", "mobile", "digits"),
    [
        ('"86"', '"+8613788888888"', "8613788888888"),
        ('"86"', '"008613788888888"', "8613788888888"),
        ('"+86"', '"13788888888"', "8613788888888"),
        ('"0086"', '"+8613788888888"', "8613788888888"),
        ("86", "13788888888", "8613788888888"),
        ('"86"', '"+13788888888"', "8613788888888"),  # a plus that senders put before a mobile
        ('"86"', r'"\u00313788888888"', "8613788888888"),
        ('"1"', '"2025550100"', "12025550100"),
        ('"1"', '"+12025550100"', "12025550100"),
        ('"39"', '"06"', "3906"),
    ],
)
def test_number_is_calling_code_and_mobile_however_they_are_written(
    nationcode: str, mobile: str, digits: str
) -> None:
    assert asked(nationcode=nationcode, mobile=mobile).digits == digits


BAD_NUMBERS = [
    None,
    "null",
    "true",
    "[]",
    "{}",
    '""',
    '"+"',
    '" 1"',
    '"1 "',
    '"1x"',
    '"1-2"',
    "-1",
    "1.5",
    "1e3",
    '"++1"',
    '"１３"',
    '"' + "1" * 21 + '"',
    "1" * 5000,
]


@pytest.mark.parametrize("raw", BAD_NUMBERS)
@pytest.mark.parametrize("member", ["mobile", "nationcode"])
def test_what_is_no_number_is_1016_naming_the_member(member: str, raw: str | None) -> None:
    refused = refusal(**{member: raw})
    assert refused.result == 1016
    assert refused.errmsg.startswith(f"{member} ")


def test_calling_codes_are_short() -> None:
    assert refusal(nationcode='"1234567"').result == 1016


@pytest.mark.parametrize("raw", ["0", '"1464624000"', "1464624000.0", "1.4e9"])
def test_times_are_integers_however_they_are_written(raw: str) -> None:
    assert asked(begin_time=raw).from_s == int(float(raw.strip('"')))
    assert asked(begin_time="0", end_time=raw).to_s == int(float(raw.strip('"')))


@pytest.mark.parametrize("member", ["begin_time", "end_time"])
@pytest.mark.parametrize(
    "raw", [None, "null", "true", '""', '"x"', "-1", '"-1"', "1.5", "1e999", "[]", "9" * 20]
)
def test_times_that_are_none_are_1004_naming_the_member(member: str, raw: str | None) -> None:
    refused = refusal(**{member: raw})
    assert refused.result == 1004
    assert refused.errmsg.startswith(f"{member} must")


@pytest.mark.parametrize("member", ["begin_time", "end_time"])
@pytest.mark.parametrize("raw", ["1464624000000", '"1464624000000"', "1000000000000"])
def test_milliseconds_are_named(member: str, raw: str) -> None:
    refused = refusal(**{member: raw})
    assert refused.result == 1004
    assert refused.errmsg == f"{member} is in milliseconds: send seconds"


def test_times_may_be_equal_and_not_the_wrong_way_round() -> None:
    assert asked(begin_time="7", end_time="7").to_s == 7
    refused = refusal(begin_time="8", end_time="7")
    assert refused.result == 1004
    assert "begin_time" in refused.errmsg


@pytest.mark.parametrize("raw", ['"13788888888"', "13788888888"])
def test_number_in_the_place_of_the_begin_asks_for_all(raw: str) -> None:
    """One client sends it so, and would never get an answer else."""
    assert asked(begin_time=raw).from_s is None
    assert asked(begin_time='"+8613788888888"', mobile='"+8613788888888"').from_s is None


@pytest.mark.parametrize(
    ("member", "raw"),
    [("type", "2"), ("type", None), ("max", "0"), ("max", "101"), ("max", None), ("max", "true")],
)
def test_type_and_max_are_those_of_a_pull(member: str, raw: str | None) -> None:
    refused = refusal(**{member: raw})
    assert refused.result == 1004
    assert refused.errmsg.startswith(f"{member} must")
    assert asked(type='"0"', max="100.0") == Question(
        Kind.DELIVERY_STATUS, ASKED.digits, ASKED.from_s, ASKED.to_s, 100
    )


@pytest.mark.parametrize(
    ("raw", "sid"),
    [(None, None), ("null", None), ('""', None), ('"8:a"', "8:a"), (r'"\u0038:a"', "8:a")],
)
def test_sid_narrows_the_question(raw: str | None, sid: str | None) -> None:
    assert asked(sid=raw).sid == sid


@pytest.mark.parametrize("raw", ["7", "true", "[]", '"' + "x" * 65 + '"'])
def test_sid_that_is_none_is_1004(raw: str) -> None:
    refused = refusal(sid=raw)
    assert refused.result == 1004
    assert refused.errmsg.startswith("sid must")


def test_checks_come_in_the_documented_order() -> None:
    """The number, the begin, the end, their order, type, max, sid: the first that fails."""
    bad: dict[str, str | None] = {
        "nationcode": "[]",
        "mobile": "[]",
        "begin_time": "[]",
        "end_time": "[]",
        "type": "[]",
        "max": "[]",
        "sid": "[]",
    }
    for member in list(bad):
        if member == "begin_time":
            bad["mobile"] = '"1"'
        assert refusal(**bad).errmsg.startswith(f"{member} ")
        bad[member] = {"begin_time": "0", "end_time": "1", "type": "0", "max": "1"}.get(
            member, '"1"' if member in {"nationcode", "mobile"} else None
        )


@given(
    st.sampled_from(Kind),
    st.from_regex(r"[1-9][0-9]{0,2}", fullmatch=True),
    st.from_regex(r"[1-9][0-9]{3,14}", fullmatch=True),
    st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)).map(sorted),
    st.integers(1, 100),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
)
def test_what_a_client_builds_the_server_reads(
    kind: Kind, nationcode: str, mobile: str, times: list[int], count: int, sid: str | None
) -> None:
    begin, end = times
    path, body = query_request(
        1400006666, APPKEY, kind, nationcode, mobile, begin, end, count, "1 2", TIME, sid=sid
    )
    address, _, query = path.partition("?")
    assert address == QUERY_PATH == "/v5/tlssmssvr/pullstatus4mobile"
    request = parse_query(query.encode(), body)
    assert verify(request.sig, [APPKEY], "1 2", request.time_text)
    from_s = None if str(begin) == mobile else begin
    assert request.question() == Question(kind, nationcode + mobile, from_s, end, count, sid)


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.text("+0123456789", max_size=24),
    st.lists(st.integers(), max_size=2),
)


@given(st.dictionaries(st.sampled_from([*MEMBERS, "sid"]), values))
def test_any_members_are_read_or_refused(members: dict[str, object]) -> None:
    """Nothing but Refused ever comes out, with a known code and an ASCII text."""
    try:
        question = parse_query(QUERY, json.dumps(MEMBERS | members).encode()).question()
        assert question.digits.isascii()
        assert question.digits.isdigit()
        assert 0 <= (question.from_s or 0) <= question.to_s
        assert 1 <= question.count_max <= 100
    except Refused as refused:
        assert refused.result in {1003, 1004, 1016}  # noqa: PT017
        assert refused.errmsg.isascii()  # noqa: PT017


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_query(QUERY, body)
    assert caught.value.result in {1003, 1004}

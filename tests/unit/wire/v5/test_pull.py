"""A pull request: what is read, what is refused with which code, and in which order."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import Refused
from pullstatus.records import Kind
from pullstatus.wire.v5 import pull, signed
from pullstatus.wire.v5.pull import PULL_PATH, PullRequest, parse_pull, pull_request, read_proof
from pullstatus.wire.v5.signed import UNKNOWN_SDKAPPID, check_time
from tests.harness import verify

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
TIME = 1457336869
QUERY = b"sdkappid=1400006666&random=7226249334"
BODY = (Path(__file__).parents[3] / "corpus" / "v5" / "pull_request.json").read_bytes()
MEMBERS: dict[str, Any] = json.loads(BODY)


def body_with(member: str, raw: bytes | None) -> bytes:
    """The documented body, with this JSON text for one member; None leaves it out."""
    parts = {name: json.dumps(value).encode() for name, value in MEMBERS.items()}
    if raw is None:
        del parts[member]
    else:
        parts[member] = raw
    return b"{" + b",".join(b'"%b":%b' % (n.encode(), raw) for n, raw in parts.items()) + b"}"


def refusal(query: bytes = QUERY, body: bytes = BODY) -> Refused:
    with pytest.raises(Refused) as caught:
        parse_pull(query, body)
    return caught.value


def page_refusal(body: bytes) -> Refused:
    request = parse_pull(QUERY, body)
    with pytest.raises(Refused) as caught:
        request.page()
    return caught.value


def test_documented_request_is_read() -> None:
    """The worked example, down to its signature."""
    request = parse_pull(QUERY, BODY)
    assert (request.sdkappid, request.random) == (1400006666, "7226249334")
    assert (request.time, request.time_text) == (TIME, "1457336869")
    assert request.sig == MEMBERS["sig"]
    assert request.page() == (Kind.REPLY, 10)
    assert verify(request.sig, (APPKEY,), request.random, request.time_text)


# --- the query ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        b"random=7226249334&sdkappid=1400006666",
        b"sdkappid=1400006666&random=7226249334&",
        b"&&x=1&sdkappid=1400006666&y&random=7226249334",
        b"sdkappid=1400006666&random=7226249334&random=0&sdkappid=2",
        b"sdkappid=001400006666&random=7226249334",
        b"sdkappid=00000000000001400006666&random=7226249334",
        b"%73dkappid=14%300006666&random=7226%3249334",
    ],
)
def test_query_in_any_order_and_spelling(query: bytes) -> None:
    """Both orders occur, the first of two wins, and percent-encoding means the same."""
    request = parse_pull(query, BODY)
    assert (request.sdkappid, request.random) == (1400006666, "7226249334")


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"random=1",
        b"sdkappid&random=1",
        b"sdkappid=&random=1",
        b"sdkappid=x&random=1",
        b"sdkappid=-1&random=1",
        b"sdkappid=+1&random=1",
        b"sdkappid=1.0&random=1",
        b"sdkappid=1_0&random=1",
        b"sdkappid=%20140&random=1",
        b"sdkappid=140%00&random=1",
        b"sdkappid=%D9%A1&random=1",
        "sdkappid=١&random=1".encode(),
        b"sdkappid=\xff&random=1",
        b"SDKAPPID=1&random=1",
        b"sdkappid=&sdkappid=1&random=1",
    ],
)
def test_sdkappid_missing_or_not_decimal_is_60012(query: bytes) -> None:
    assert refusal(query).result == 60012


@pytest.mark.parametrize(
    ("digits", "sdkappid"),
    [
        (b"0", 0),
        (b"0000000000000", 0),
        (b"2147483647", limits.SDKAPPID_MAX),
        (b"2147483648", UNKNOWN_SDKAPPID),
        (b"99999999999", UNKNOWN_SDKAPPID),
        (b"9" * 1900, UNKNOWN_SDKAPPID),
    ],
)
def test_sdkappid_too_large_to_exist_is_left_to_be_unknown(digits: bytes, sdkappid: int) -> None:
    """It is decimal, so it isn't refused here; 1019 comes in its turn."""
    assert parse_pull(b"random=1&sdkappid=" + digits, BODY).sdkappid == sdkappid


@pytest.mark.parametrize(
    ("raw", "random"),
    [
        (b"0", "0"),
        (b"000000", "000000"),
        (b"012345", "012345"),
        (b"9223372036854775807", "9223372036854775807"),
        (b"9" * 64, "9" * 64),
        (b"1+2", "1+2"),
        (b"1%2B2", "1+2"),
        (b"1%202", "1 2"),
        (b"a=b", "a=b"),
        (b"%zz%", "%zz%"),
        ("中".encode() * 64, "中" * 64),
        (b"%E4%B8%AD" * 64, "中" * 64),
    ],
)
def test_random_is_text_kept_character_for_character(raw: bytes, random: str) -> None:
    """Zeros count, plus is plus, and no number is ever made of it."""
    assert parse_pull(b"sdkappid=1&random=" + raw, BODY).random == random


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"&random=1",
        b"9" * 65,
        "中".encode() * 65,
        b"%E4%B8%AD" * 65,
        b"\xff",
        b"%FF",
        b"%C0%AF",
    ],
)
def test_random_empty_long_or_no_text_is_1004(raw: bytes) -> None:
    refused = refusal(b"sdkappid=1&random=" + raw)
    assert refused.result == 1004
    assert "random" in refused.errmsg


def test_random_missing_is_1004() -> None:
    assert refusal(b"sdkappid=1").result == 1004


# --- the body -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"x",
        b"[]",
        b"null",
        b'"text"',
        b"1",
        b"true",
        b"[" + BODY + b"]",
        BODY[:-1],
        BODY + b"x",
        BODY + BODY,
        BODY.replace(b'"', b"'"),
        b"// comment\n" + BODY,
        BODY.replace(b"10", b"010"),
        BODY.replace(b"10", b"+10"),
        BODY.replace(b"10", b"NaN"),
        BODY.replace(b"10", b"-Infinity"),
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
        BODY.decode().encode("utf-16-be"),
        BODY.decode().encode("utf-32"),
        body_with("x", b'"\xff"'),
        body_with("x", b'"\xc0\xaf"'),
        body_with("x", b'"\xed\xa0\x80"'),
        body_with("x", rb'"\ud800"'),
        body_with("x", rb'"\udc00\ud800"'),
        body_with("x", b"[" * 16 + b"]" * 16),
        body_with("x", b"[" * 100_000),
        body_with("x", b"[" * 100_000 + b"]" * 100_000),
        b"[" * 100_000,
        b"sig=1&time=2",
    ],
)
def test_what_is_no_json_object_is_1004(body: bytes) -> None:
    """Nothing else is looked at: an array, BOM, UTF-16, deep nesting and half pairs are alike."""
    assert refusal(body=body).result == 1004


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(MEMBERS, indent=4).encode(),
        b"\r\n\t " + BODY + b" \n",
        BODY[:-1] + b',"tel":null,"msg":"","extend":"","ext":"","begin_time":0}',
        BODY[:-1] + b',"x":1e999,"y":' + b"9" * 5000 + b"}",
        BODY[:-1] + b',"x":' + b"[" * 15 + b"]" * 15 + b"}",
        BODY[:-1] + rb',"x":"\ud83d\ude00 \\ud800 []{}"}',
        BODY[:-1] + b',"x":"' + b"[" * 100 + b'"}',
        b'{"sig":0,"time":null,"max":[],"type":{},' + BODY[1:],
        BODY.replace(b'"sig"', rb'"s\u0069g"'),
        BODY.replace(b": 1457336869", b': "1457336869"'),
        BODY.replace(b": 10,", b': "10",').replace(b": 1}", b': "1"}'),
        BODY.replace(b": 10,", b": 10.0,").replace(b": 1}", b": 1.0}"),
    ],
)
def test_what_real_clients_do_is_accepted(body: bytes) -> None:
    """White space, unknown members, doubled members, integers as strings or floats."""
    request = parse_pull(QUERY, body)
    assert (request.sig, request.time, request.time_text) == (MEMBERS["sig"], TIME, "1457336869")
    assert request.page() == (Kind.REPLY, 10)


@pytest.mark.parametrize("raw", [None, b'""', b"null", b"[]", b'["a"]', b"{}", b"1", b"true"])
def test_sig_missing_empty_or_no_string_is_1003(raw: bytes | None) -> None:
    """protocol.md 4 step 7; it wins over the catalogue where a list would be 1004."""
    assert refusal(body=body_with("sig", raw)).result == 1003


@pytest.mark.parametrize(
    ("raw", "sig"),
    [
        (b'"x"', "x"),
        (rb'"\u0063"', "c"),
        ('"签"'.encode(), "签"),
        (b'"' + b"C" * 64 + b'"', "C" * 64),
        (b'"' + b"a" * 60 + rb"\u0061" + b'"', "a" * 61),
        (b'"' + b"a" * 58 + rb"\u0061" + b'"', "a" * 59),  # 64 characters as they are sent
        (b'"' + b"a" * 60_000 + b'"', "a" * 60_000),
    ],
)
def test_sig_is_any_text_here(raw: bytes, sig: str) -> None:
    """What isn't 64 hex digits fails to verify later, with 1001."""
    request = parse_pull(QUERY, body_with("sig", raw))
    assert request.sig == sig
    assert not verify(request.sig, (APPKEY,), request.random, request.time_text)


@pytest.mark.parametrize(
    ("raw", "time", "text"),
    [
        (b"0", 0, "0"),
        (b"1457336869000", 1457336869000, "1457336869000"),
        (b'"1457336869"', TIME, "1457336869"),
        (b'"01457336869"', TIME, "01457336869"),
        (rb'"\u0031457336869"', TIME, "1457336869"),
        (b"1457336869.0", TIME, "1457336869"),
        (b"1.457336869e9", TIME, "1457336869"),
        (b"9223372036854775807", 2**63 - 1, "9223372036854775807"),
    ],
)
def test_time_is_read_with_the_text_that_is_signed(raw: bytes, time: int, text: str) -> None:
    """A string is signed as its digits stand, a float as the integer it means."""
    request = parse_pull(QUERY, body_with("time", raw))
    assert (request.time, request.time_text) == (time, text)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"-1",
        b"-0",
        b"1457336869.5",
        b"1e999",
        b"9223372036854775808",
        b"9" * 20,
        b"9" * 5000,
        b'"' + b"9" * 5000 + b'"',
        b'" 1457336869"',
        b'"1457336869 "',
        b'"+1457336869"',
        b'"-1457336869"',
        b'"1457336869.0"',
        b'"1e9"',
        b'"1_000"',
        b'"0x10"',
        rb'"1457336869\u0000"',
        rb'"1457336869\u0080\u0000"',
        '"١٤٥"'.encode(),
        '"１４"'.encode(),
    ],
)
def test_time_that_is_no_integer_is_1004(raw: bytes | None) -> None:
    """Strict digits also keep hash length extension out, since time ends the signed text."""
    refused = refusal(body=body_with("time", raw))
    assert refused.result == 1004
    assert "time" in refused.errmsg


def test_checks_come_in_the_documented_order() -> None:
    """sdkappid, random, the object, sig, time: the first that fails is answered."""
    assert refusal(b"", b"").result == 60012
    assert "random" in refusal(b"sdkappid=1", b"").errmsg
    assert "JSON" in refusal(body=b"[]").errmsg
    assert refusal(body=b'{"time":"x","type":7}').result == 1003
    assert "time" in refusal(body=b'{"sig":"x","type":7}').errmsg
    assert parse_pull(QUERY, b'{"sig":"x","time":0,"type":7}').sig == "x"


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [-600, -1, 0, 1, 600])
def test_time_within_ten_minutes_passes(ahead_s: int) -> None:
    """The documents refuse more than ten minutes, so exactly ten pass, either way."""
    check_time(parse_pull(QUERY, BODY), TIME - ahead_s)


@pytest.mark.parametrize(
    ("now_s", "words"),
    [
        (TIME + 601, "601 s behind server time 1457337470"),
        (TIME - 601, "601 s ahead of server time 1457336268"),
        (0, "ahead of server time 0"),
    ],
)
def test_time_beyond_ten_minutes_is_1021(now_s: int, words: str) -> None:
    """The text says by how much and what the server's time is: the caller is authenticated."""
    with pytest.raises(Refused) as caught:
        check_time(parse_pull(QUERY, BODY), now_s)
    assert caught.value.result == 1021
    assert words in caught.value.errmsg


def test_milliseconds_are_1021_and_named() -> None:
    """The signature of the vector is right; only the unit is wrong."""
    body = body_with("time", b"1457336869000").replace(
        MEMBERS["sig"].encode(), b"87c73d5dc7d9aafc9a41d48551e5bb65399a8b4088b824099e8ecb9df7988802"
    )
    request = parse_pull(QUERY, body)
    assert verify(request.sig, (APPKEY,), request.random, request.time_text)
    with pytest.raises(Refused) as caught:
        check_time(request, TIME)
    assert caught.value.result == 1021
    assert "milliseconds" in caught.value.errmsg
    assert str(TIME) in caught.value.errmsg


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"0", Kind.DELIVERY_STATUS),
        (b"1", Kind.REPLY),
        (b'"0"', Kind.DELIVERY_STATUS),
        (b'"1"', Kind.REPLY),
        (b"1.0", Kind.REPLY),
        (rb'"\u0031"', Kind.REPLY),
    ],
)
def test_type_is_0_or_1(raw: bytes, kind: Kind) -> None:
    assert parse_pull(QUERY, body_with("type", raw)).page() == (kind, 10)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"null",
        b"true",
        b"false",
        b"2",
        b"-1",
        b"0.5",
        b'""',
        b'" 1"',
        b'"+1"',
        b'"x"',
        b"[]",
        b"1e999",
        b"9" * 5000,
        b'"' + b"9" * 5000 + b'"',
        b"{}",
    ],
)
def test_other_types_are_1004(raw: bytes | None) -> None:
    refused = page_refusal(body_with("type", raw))
    assert refused.result == 1004
    assert refused.errmsg.startswith("type ")


@pytest.mark.parametrize(
    ("raw", "count"),
    [(b"1", 1), (b"100", 100), (b'"10"', 10), (b"10.0", 10), (b"1e2", 100), (b'"007"', 7)],
)
def test_max_is_1_to_100(raw: bytes, count: int) -> None:
    assert parse_pull(QUERY, body_with("max", raw)).page() == (Kind.REPLY, count)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"null",
        b"true",
        b"0",
        b"-1",
        b"101",
        b"1000",
        b"2147483648",
        b"1.5",
        b"1e999",
        b"[]",
        b"9" * 19,
        b"9" * 20,
        b"9" * 5000,
        b'"9999999999999999999999"',
        b'"101"',
        b'"-1"',
        b'"1.0"',
        b'""',
        b'" 1"',
        '"１"'.encode(),
        b"-10",
        b'"ten"',
        b"{}",
    ],
)
def test_other_max_is_1004_naming_the_limit(raw: bytes | None) -> None:
    """Not clamped: who asks for 500 and gets 100 takes the queue for drained."""
    refused = page_refusal(body_with("max", raw))
    assert refused.result == 1004
    assert refused.errmsg == "max must be an integer from 1 to 100"


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "body"),
    [
        (b"sdkappid=CANARY&random=1", BODY),
        (b"sdkappid=1&random=" + b"CANARY" * 20, BODY),
        (QUERY, b"CANARY"),
        (QUERY, b'["CANARY"]'),
        (QUERY, body_with("sig", b'["CANARY"]')),
        (QUERY, body_with("time", b'"CANARY"')),
        (QUERY, body_with("x", b'"CANARY\xff"')),
    ],
)
def test_refusals_never_echo_what_was_sent(query: bytes, body: bytes) -> None:
    """Plain ASCII texts of our own, with no exception behind them that holds more."""
    refused = refusal(query, body)
    assert "CANARY" not in refused.errmsg
    assert refused.errmsg.isascii()
    assert refused.__cause__ is None
    assert refused.__suppress_context__ or refused.__context__ is None


# --- the other side, and properties ---------------------------------------------------------------

randoms = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)


@given(
    st.integers(0, limits.SDKAPPID_MAX),
    st.sampled_from(Kind),
    st.integers(1, 100),
    randoms,
    st.integers(0, 2**63 - 1),
)
def test_what_a_client_builds_the_server_reads(
    sdkappid: int, kind: Kind, count: int, random: str, time: int
) -> None:
    """pull_request and parse_pull are two sides of one wire."""
    path, body = pull_request(sdkappid, APPKEY, kind, count, random, time)
    assert path.isascii()
    address, _, query = path.partition("?")
    assert address == PULL_PATH == "/v5/tlssmssvr/pullstatus"
    request = parse_pull(query.encode(), body)
    assert (request.sdkappid, request.random, request.time) == (sdkappid, random, time)
    assert request.page() == (kind, count)
    assert verify(request.sig, [APPKEY], request.random, request.time_text)


def test_client_request_is_the_documented_one() -> None:
    path, body = pull_request(1400006666, APPKEY, Kind.REPLY, 10, "7226249334", TIME)
    assert path == "/v5/tlssmssvr/pullstatus?sdkappid=1400006666&random=7226249334"
    assert json.loads(body) == MEMBERS
    assert b" " not in body


fragments = st.lists(
    st.sampled_from(
        [
            b"{",
            b"}",
            b"[",
            b"]",
            b'"',
            b"\\",
            b"\\ud800",
            b",",
            b":",
            b'"sig":',
            b'"time":',
            b'"max":',
            b'"type":',
            b"1457336869",
            b'"x"',
            b"1e999",
            b"-",
            b".",
            b"null",
            b"\xff",
            BODY,
            BODY[:-1] + b",",
            b" ",
            b"%",
            b"&",
            b"=",
            b"sdkappid=1",
            b"random=2",
            b"%e4",
        ]
    )
).map(b"".join)
any_bytes = st.binary() | fragments


@given(any_bytes | st.just(QUERY), any_bytes | st.just(BODY))
def test_any_bytes_are_read_or_refused(query: bytes, body: bytes) -> None:
    """Nothing but Refused ever comes out, with a known code and an ASCII text."""
    try:
        request = parse_pull(query, body)
        assert isinstance(request, PullRequest)
        assert 0 < len(request.random) <= 64
        assert request.sig
        assert 0 <= request.time < 2**63
        assert request.time_text.isascii()
        assert request.time_text.isdigit()
        assert int(request.time_text) == request.time
        check_time(request, TIME)
        kind, count = request.page()
        assert kind in Kind
        assert 1 <= count <= 100
    except Refused as refused:
        assert refused.result in {1003, 1004, 1021, 60012}  # noqa: PT017
        assert refused.errmsg.isascii()  # noqa: PT017


@given(st.integers(0, len(BODY) - 1))
def test_a_body_that_was_cut_is_1004(size: int) -> None:
    """No prefix of an object is an object."""
    assert refusal(body=BODY[:size]).result == 1004


def outcome(query: bytes, body: bytes) -> object:
    """All that a request comes to, be it a refusal."""
    try:
        read = parse_pull(query, body)
        return read.sdkappid, read.random, read.sig, read.time, read.time_text, read.page()
    except Refused as error:
        return error.result, error.errmsg


member_values = st.one_of(
    st.integers(-2, 10**20),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.none(),
    st.booleans(),
    st.just([]),
)


@given(
    st.sampled_from([*MEMBERS, "more"]),
    member_values,
    st.text("0123456789&=%+ random\u00e9", max_size=12),
)
def test_the_quick_way_reads_what_the_careful_way_reads(
    member: str, value: object, random: str
) -> None:
    query = f"sdkappid=1400006666&random={random}".encode()
    body = json.dumps(MEMBERS | {member: value}).encode()
    quick = outcome(query, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pull, "_decode_plain", lambda _body: msgspec.json.decode(b"?"))
        patch.setattr(signed, "_USUAL_QUERY", re.compile(rb"(?!)"))
        assert outcome(query, body) == quick


@pytest.mark.parametrize(
    "random", ["7226249334", "0", "a b", " time=9", "random=1 time=2", "\n", "中"]
)
def test_what_the_journal_says_of_a_pull_is_what_was_signed(random: str) -> None:
    request = parse_pull(f"sdkappid=1&random={quote(random)}".encode(), BODY)
    assert read_proof(request.proof) == (random, TIME)


def test_pulls_of_one_signature_have_one_nonce_and_others_have_others() -> None:
    nonces = {
        parse_pull(f"sdkappid=1&random={random}".encode(), b'{"sig":"x","time":%d}' % time).nonce
        for random in ("1", "11", "1%201")
        for time in (1, 11, 111)
    }
    assert len(nonces) == 9


@pytest.mark.parametrize("proof", ["", "random=1", "random=1 time=", "random=1 time=x", "key=1"])
def test_the_proof_of_another_face_is_none_of_ours(proof: str) -> None:
    assert read_proof(proof) == ("", 0)

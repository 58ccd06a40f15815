"""What `pullstatus verify` finds out: each known mistake is named."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pullstatus.errors import Refused
from pullstatus.wire.v5.mismatch import explain, explain_request, signed_text
from pullstatus.wire.v5.pull import PullRequest, parse_pull
from pullstatus.wire.v5.signature import fitting

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
RANDOM, TIME = "7226249334", "1457336869"
RIGHT = "c13e54f047ed75e821e698730c72d030dc30e5b510b3f8a0fb6fb7605283d7df"


def sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("sig", [RIGHT, RIGHT.upper()])
def test_right_signature_has_no_findings(sig: str) -> None:
    assert explain(sig, APPKEY, RANDOM, TIME, now_s=int(TIME) + 600) == []


@pytest.mark.parametrize(
    ("sig", "said"),
    [
        # The documented vectors of known faults.
        ("cf37255e4a03017c73739d92ceacdb4de55ade059193f925891660f6f00104ec", "blank after the app"),
        ("87c73d5dc7d9aafc9a41d48551e5bb65399a8b4088b824099e8ecb9df7988802", "milliseconds"),
        ("b34a0740b5456168a2c39a1d0f19af9e36f979f665538ee5ec7586395f751918", "rand= in place"),
        ("7e843ec0475b2782508a07824bfd150a750e19d4fa5297d721fed46892ca971d", "empty &mobile="),
        ("ecab4881ee80ad3d76bb1da68387428ca752eb885e52621a3129dcf4d9bc4fd4", "mobile at its end"),
        # And others.
        (sha(f"appkey={APPKEY}\n&random={RANDOM}&time={TIME}"), "line end after the appkey"),
        (sha(f"appkey={APPKEY}\r\n&random={RANDOM}&time={TIME}"), "line end after the appkey"),
        (sha(f'appkey="{APPKEY}"&random={RANDOM}&time={TIME}'), "quotes around the appkey"),
        (sha(f"appkey={APPKEY.upper()}&random={RANDOM}&time={TIME}"), "other letters"),
        (sha(f"appkey={APPKEY}&random={RANDOM}&time={int(TIME) - 1}"), "1 s earlier"),
        (sha(f"appkey={APPKEY}&time={TIME}&random={RANDOM}"), "time before random"),
        (sha(f"appkey={APPKEY}random={RANDOM}time={TIME}"), "no & between"),
        (sha(f"appkey={APPKEY} &random={RANDOM}&time={TIME}000"), "appkey and time in milli"),
        (RIGHT[:-1], "63 characters"),
        ("wT5U8EftdegoLmmHMMctEw==", "24 characters"),
        ("", "0 characters"),
        ("z" * 64, "hexadecimal"),
        ("0" * 64, "no known mistake"),
    ],
)
def test_mistake_is_named(sig: str, said: str) -> None:
    [finding] = explain(sig, APPKEY, RANDOM, TIME, mobiles=["13788888888"], now_s=int(TIME))
    assert said in finding.mistake
    assert finding.fix
    assert APPKEY not in finding.mistake + finding.fix


@pytest.mark.parametrize(
    ("random", "signed", "said"),
    [
        ("012345", "12345", "without its leading zeros"),
        ("000000", "0", "without its leading zeros"),
        ("12345", "012345", "zeros in front, 6 digits"),
        ("123456789", "0123456789", "zeros in front, 10 digits"),
        ("12345", "", "an empty random"),
    ],
)
def test_random_that_was_made_a_number_is_named(random: str, signed: str, said: str) -> None:
    """Characters count: 012345 and 12345 sign differently."""
    sig = sha(f"appkey={APPKEY}&random={signed}&time={TIME}")
    [finding] = explain(sig, APPKEY, random, TIME)
    assert said in finding.mistake


def test_random_is_tried_with_zeros_up_to_ten_digits() -> None:
    """Beyond, no client makes one: that of 32 bits has ten at most."""
    sig = sha(f"appkey={APPKEY}&random=01234567890&time={TIME}")
    for random in ("1234567890", "123456789", "1"):
        assert not any("zeros" in one.mistake for one in explain(sig, APPKEY, random, TIME))


@pytest.mark.parametrize(
    ("time", "signed", "said"),
    [
        (f"{TIME}000", TIME, "time in seconds, while the body has milliseconds"),
        (TIME, f"{TIME}.0", "fraction"),
    ],
)
def test_time_of_another_unit_is_named(time: str, signed: str, said: str) -> None:
    sig = sha(f"appkey={APPKEY}&random={RANDOM}&time={signed}")
    assert said in explain(sig, APPKEY, RANDOM, time)[0].mistake


def test_calls_that_send_sign_their_mobiles() -> None:
    mobiles = ["13788888888", "13788888889"]
    sig = "be66bb4aeb54701ed0637d0996a0b75111d5b8eda9b3a71bdc579a3d26f3edfb"
    assert sha(signed_text(APPKEY, RANDOM, TIME, mobiles)) == sig
    assert explain(sig, APPKEY, RANDOM, TIME, mobiles=mobiles, sends=True) == []
    [finding] = explain(RIGHT, APPKEY, RANDOM, TIME, mobiles=mobiles, sends=True)
    assert "no mobile" in finding.mistake


@pytest.mark.parametrize(
    ("time", "now_s", "said"),
    [
        (TIME, int(TIME) + 601, "601 s behind"),
        (TIME, int(TIME) - 601, "601 s ahead"),
        (f"{TIME}000", int(TIME), "in milliseconds"),
        ("soon", int(TIME), "not an integer"),
    ],
)
def test_clock_is_looked_at_besides(time: str, now_s: int, said: str) -> None:
    sig = sha(signed_text(APPKEY, RANDOM, time))
    [finding] = explain(sig, APPKEY, RANDOM, time, now_s=now_s)
    assert said in finding.mistake


def test_server_far_from_a_time_is_told_in_whole_numbers() -> None:
    [finding] = explain(RIGHT, APPKEY, RANDOM, TIME, now_s=10**400)
    assert "behind the server's clock" in finding.mistake


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000, "\u00b2"])
def test_number_that_is_none_is_a_finding(digits: str) -> None:
    """Python reads no integer of over 4,300 digits, and some digits are none of a number."""
    assert explain(RIGHT, APPKEY, digits, TIME, now_s=None)
    found = explain(RIGHT, APPKEY, RANDOM, digits, now_s=int(TIME))
    assert "time is not an integer" in [one.mistake for one in found]


# --- a whole request ------------------------------------------------------------------------------

SIGNED = st.one_of(st.just(RANDOM), st.text(max_size=70))
QUERIES = st.one_of(
    SIGNED.map(lambda random: f"sdkappid=1&random={quote(random, safe='')}".encode()),
    SIGNED.map(lambda random: f"random={quote(random)}&sdkappid=0{1}&random=2".encode()),
    st.binary(max_size=30).map(lambda random: b"sdkappid=1&random=" + random),
    st.sampled_from([b"", b"random=7", b"sdkappid=x&random=7", b"sdkappid=1", b"%73dkappid=1"]),
)
DIGITS = st.one_of(st.just(TIME), st.text("0123456789", min_size=1, max_size=70))
TIMES = st.one_of(
    DIGITS,
    DIGITS.map('"{}"'.format),
    DIGITS.map("{}.0".format),
    st.sampled_from(["1.5", "-1", "-0", "1e3", "true", "null", '""', '" 1"', "[]", '"\\u0031"']),
)


def read_or_refused(query: bytes, body: bytes) -> PullRequest | Refused:
    try:
        return parse_pull(query, body)
    except Refused as error:
        return error


@given(QUERIES, TIMES, st.booleans())
@example(b"sdkappid=1&random=a+b", TIME, True)
@example(b"sdkappid=1&random=", TIME, True)
@example(b"sdkappid=1&random=" + b"7" * 65, TIME, True)
@example(b"sdkappid=1&random=7", f"{TIME}.0", True)
@example(b"sdkappid=1&random=7", "1" * 20, True)
@example(b"sdkappid=1&random=7", "0123", True)
def test_what_the_server_takes_has_no_findings_and_nothing_else(
    query: bytes, time: str, fits: bool
) -> None:
    """One reader: what `verify` says of a request is what the server would."""
    body = b'{"sig":"%b","time":%b}' % (RIGHT.encode(), time.encode())
    read = read_or_refused(query, body)
    if isinstance(read, Refused):
        [finding] = explain_request(query, body, APPKEY)
        assert finding.mistake.endswith(str(int(read.result)))
        assert finding.fix == read.errmsg
        return
    if fits:
        sig = sha(signed_text(APPKEY, read.random, read.time_text))
        body = body.replace(RIGHT.encode(), sig.encode())
    read = parse_pull(query, body)
    taken = fitting(read.sig, [APPKEY], read.random, read.time_text) is not None
    assert (explain_request(query, body, APPKEY) == []) == taken
    assert taken or not fits


@pytest.mark.parametrize(
    "numbers",
    [
        b'"mobile":"13788888888"',
        b'"mobile":13788888888',
        b'"tel":{"mobile":"13788888888"}',
        b'"tel":[{"nationcode":"86","mobile":13788888888}]',
        b'"mobile":"13788888888","tel":[1e400]',
        b'"mobile":"13788888888","tel":[{}]',
    ],
)
def test_numbers_of_a_body_count(numbers: bytes) -> None:
    sig = sha(f"appkey={APPKEY}&random=7&time={TIME}&mobile=13788888888")
    body = b'{"sig":"%b","time":%b,%b}' % (sig.encode(), TIME.encode(), numbers)
    query = b"sdkappid=1&random=7"
    assert explain_request(query, body, APPKEY, sends=True) == []
    [finding] = explain_request(query, body, APPKEY)
    assert "mobile at its end" in finding.mistake
    [finding] = explain_request(query, body, APPKEY, mobiles=["1"], sends=True)
    assert "no known mistake" in finding.mistake


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"{", b'{"sig":7,"time":1}', b"\xff"])
def test_body_that_the_server_cannot_read_is_a_finding(body: bytes) -> None:
    [finding] = explain_request(b"sdkappid=1&random=7", body, APPKEY)
    assert "cannot be read" in finding.mistake
    assert finding.fix

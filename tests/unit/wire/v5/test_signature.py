"""The v5 signature, against every documented and recomputed vector (protocol.md 13)."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.wire.v5.signature import sign
from tests.harness import verify

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
RANDOM = "7226249334"
TIME = 1457336869
DOCUMENTED = "c13e54f047ed75e821e698730c72d030dc30e5b510b3f8a0fb6fb7605283d7df"


@pytest.mark.parametrize(
    ("random", "time", "sig"),
    [
        (RANDOM, TIME, DOCUMENTED),
        ("012345", TIME, "e9810c26903c5ad3d320b8f98ee33dc8cda4bf799024e6997b5417d226762998"),
        ("12345", TIME, "1939dd2bc607ecbf9d8efaf74bbcca692b11993e023ccba83563d5d0d803fd64"),
        ("0", TIME, "230724f270bfe3738d32f9c7bac79a7dce3ce759821bc8e4f9f0257b13896ab3"),
        (
            "9223372036854775807",
            TIME,
            "4c61748adbccdfdedfb6502ebe2c152d8030b4fcc261f6d2a5070e55a918b0f1",
        ),
        (
            RANDOM,
            1457336869000,
            "87c73d5dc7d9aafc9a41d48551e5bb65399a8b4088b824099e8ecb9df7988802",
        ),
    ],
)
def test_sign_matches_the_vectors(random: str, time: int, sig: str) -> None:
    """random is signed character for character; time as its digits, given either way."""
    assert sign(APPKEY, random, time) == sig
    assert sign(APPKEY, random, str(time)) == sig
    assert verify(sig, (APPKEY,), random, time)
    assert verify(sig, (APPKEY,), random, str(time))
    assert verify(sig.upper(), (APPKEY,), random, time)


def test_documented_request_verifies() -> None:
    """The worked example of the documents."""
    body = json.loads(
        (Path(__file__).parents[3] / "corpus" / "v5" / "pull_request.json").read_bytes()
    )
    assert verify(body["sig"], [APPKEY], RANDOM, body["time"])


@pytest.mark.parametrize(
    ("text", "sig"),
    [
        (
            f"appkey={APPKEY}&random={RANDOM}&time={TIME}&mobile=13788888888",
            "ecab4881ee80ad3d76bb1da68387428ca752eb885e52621a3129dcf4d9bc4fd4",
        ),
        (
            f"appkey={APPKEY}&random={RANDOM}&time={TIME}&mobile=13788888888,13788888889",
            "be66bb4aeb54701ed0637d0996a0b75111d5b8eda9b3a71bdc579a3d26f3edfb",
        ),
        (
            f"appkey={APPKEY}&random={RANDOM}&time={TIME}&mobile=",
            "7e843ec0475b2782508a07824bfd150a750e19d4fa5297d721fed46892ca971d",
        ),
        (
            f"appkey={APPKEY}&rand={RANDOM}&time={TIME}",
            "b34a0740b5456168a2c39a1d0f19af9e36f979f665538ee5ec7586395f751918",
        ),
        (
            f"appkey={APPKEY} &random={RANDOM}&time={TIME}",
            "cf37255e4a03017c73739d92ceacdb4de55ade059193f925891660f6f00104ec",
        ),
    ],
)
def test_other_signed_texts_do_not_verify_for_a_pull(text: str, sig: str) -> None:
    """Not with mobiles, not with the misspelt name, not with a blank behind the appkey."""
    assert hashlib.sha256(text.encode()).hexdigest() == sig
    assert not verify(sig, (APPKEY,), RANDOM, TIME)


def test_blank_behind_the_appkey_is_part_of_it() -> None:
    """Appkeys aren't trimmed: a copy-paste fault gives another signature."""
    sig = sign(APPKEY + " ", RANDOM, TIME)
    assert sig == "cf37255e4a03017c73739d92ceacdb4de55ade059193f925891660f6f00104ec"


@pytest.mark.parametrize(
    "sig",
    [
        "",
        DOCUMENTED[:-1],
        DOCUMENTED + "0",
        DOCUMENTED[:-1] + "g",
        DOCUMENTED[:-2] + "  ",
        " " + DOCUMENTED,
        DOCUMENTED[:62] + "  " + DOCUMENTED[62:],
        " ".join(DOCUMENTED[i : i + 2] for i in range(0, 64, 2)),
        "0x" + DOCUMENTED[2:],
        "é" * 64,
        "０" * 64,
        "\x00" * 64,
        "f" * 64,
        "f" * 60_000,
    ],
)
def test_what_is_not_the_64_hex_digits_does_not_verify(sig: str) -> None:
    """Wrong, malformed and foreign alike are simply false."""
    assert not verify(sig, (APPKEY,), RANDOM, TIME)


def test_every_live_key_is_tried() -> None:
    """While a key is being changed, the old and the new one both work."""
    other = "0" * 32
    assert verify(DOCUMENTED, (other, APPKEY), RANDOM, TIME)
    assert verify(DOCUMENTED, iter([APPKEY, other]), RANDOM, TIME)
    assert not verify(DOCUMENTED, (other,), RANDOM, TIME)


def test_no_key_never_verifies() -> None:
    """Not even the signature made with the dummy that stands in for a key."""
    assert not verify(DOCUMENTED, (), RANDOM, TIME)
    assert not verify(sign("0" * 32, RANDOM, TIME), (), RANDOM, TIME)


@given(
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    st.integers(0, 2**63 - 1),
)
def test_what_was_signed_verifies_and_nothing_else(appkey: str, random: str, time: int) -> None:
    """verify(sign(x)) holds for any random, and breaks with another random or time."""
    sig = sign(appkey, random, time)
    assert verify(sig, (appkey,), random, time)
    assert not verify(sig, (appkey,), random + "0", time)
    assert not verify(sig, (appkey,), random, time + 1)
    assert not verify(sig, (APPKEY,), random, time) or appkey == APPKEY

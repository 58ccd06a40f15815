"""Text of an SMS, and the header of its parts."""

from __future__ import annotations

import encodings
from encodings.aliases import aliases

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.receipts.parts import Part, headed
from pullstatus.receipts.text import CODINGS, coding_named, coding_of, decoded, decoded_together


@pytest.mark.parametrize(
    ("data", "coding", "text"),
    [
        (bytes.fromhex("001b65411102"), "gsm7", "@€A_$"),
        (bytes.fromhex("1b281b291b2f1b3c1b3d1b3e1b401b14"), "gsm7", "{}\\[~]|^"),
        (b"\x1bA\x1b", "gsm7", "A"),  # an escape of nothing, and one at the end
        (bytes.fromhex("7f7b1e60804d"), "gsm7", "àäß¿\ufffdM"),
        (bytes.fromhex("1018"), "gsm7", "ΔΣ"),
        (bytes.fromhex("90004f60d83dde00"), "ucs2", "退你😀"),
        (b"\xd8\x3d", "ucs2", "\ufffd"),
        ("退订".encode("gb18030"), "gb18030", "退订"),
        (b"caf\xe9", "latin1", "café"),
        (b"+2D3eAA- +2AA-", "utf-7", "😀 \ufffd"),
        (b"caf\xe9", "utf8", "caf\ufffd"),
        (b"\xed\xa0\xbd\xed\xb8\x80\xff", "utf8", "\U0001f600\ufffd"),
        (b"\x00\xff", "binary", "00ff"),
    ],
)
def test_bytes_become_text_by_their_coding(data: bytes, coding: str, text: str) -> None:
    assert decoded(data, coding) == text


@given(data=st.binary(max_size=160), coding=st.sampled_from(CODINGS), number=st.integers(0, 255))
def test_nothing_is_refused(data: bytes, coding: str, number: int) -> None:
    decoded(data, coding)
    assert coding_of(number) in CODINGS
    part, text = headed(data)
    assert data.endswith(text)
    assert part is None or part.count <= 255


NAMED = sorted(filter(None, map(coding_named, sorted(aliases))))


@given(data=st.binary(max_size=60), coding=st.sampled_from(NAMED))
def test_any_text_can_be_said_in_utf_8(data: bytes, coding: str) -> None:
    decoded(data, coding).encode()


def test_names_of_charsets_take_no_room() -> None:
    """Python remembers each that it looks for, and strangers write them."""
    known: dict[str, object] = vars(encodings)["_cache"]
    coding_named("latin-1")
    before = len(known)
    names = [f"x-sms-{number}{'x' * length}" for number in range(10) for length in (0, 15_000)]
    for charset in (*names, "Latin_1", "lAtin 1", "latin..1", f"latin{'-' * 5}1", "encodings.gbk"):
        assert coding_named(charset) in ("", "iso8859-1")
    assert len(known) == before


@pytest.mark.parametrize(
    ("number", "coding"),
    [
        (0, "gsm7"),
        (3, "latin1"),
        (8, "ucs2"),
        (4, "binary"),
        (15, "gb18030"),
        (0x18, "ucs2"),
        (0x14, "binary"),
        (0xF0, "gsm7"),
        (0xF5, "binary"),
        (0x60, "utf8"),
    ],
)
def test_numbers_of_codings(number: int, coding: str) -> None:
    assert coding_of(number, "gsm7" if number == 0 else "utf8") == coding


@pytest.mark.parametrize(
    ("charset", "coding"),
    [
        ("8-BIT", "binary"),
        ("8bit", "binary"),
        ("Binary", "binary"),
        ("UTF-16BE", "utf-16-be"),
        *((name, "utf-16") for name in ("UTF-16", "UCS-2", "ISO-10646-UCS-2", "iso_10646_ucs_2")),
        ("latin1", "iso8859-1"),
        ("ISO_8859-1:1987", "iso8859-1"),
        *((name, "ascii") for name in ("ANSI_X3.4-1968", "ISO_646.irv:1991")),
        ("GB2312-80", "gb2312"),
        ("windows.1252", "cp1252"),
        ("ISO8859.1", "iso8859-1"),
        ("utf-8-sig", "utf-8-sig"),
        *((name, "") for name in ("", "X-SMS", "rot13", "hex", "idna", "\0", "\ud800")),
    ],
)
def test_names_of_charsets(charset: str, coding: str) -> None:
    assert coding_named(charset) == coding


@pytest.mark.parametrize("codec", ["utf-16-be", "utf-16"])
def test_utf_16_is_in_the_order_that_its_mark_says_and_else_in_that_of_the_network(
    codec: str,
) -> None:
    assert decoded("你好".encode(codec), coding_named("UTF-16")) == "你好"


@pytest.mark.parametrize(
    ("coding", "text"),
    [
        ("ucs2", "a😀b"),
        ("utf8", "a你😀b"),
        ("gb18030", "你好😀"),
        ("sjis", "あいう"),
        ("gsm7", "1\x1be"),
        ("binary", "00ff"),
    ],
)
def test_what_was_cut_within_a_character_is_whole_together(coding: str, text: str) -> None:
    codec = {"ucs2": "utf-16-be", "utf8": "utf-8", "sjis": "shift_jis"}.get(coding, coding)
    data = text.encode("latin-1" if coding in ("gsm7", "binary") else codec)
    for place in range(len(data) + 1):
        assert decoded_together([data[:place], data[place:]], coding) == decoded(data, coding)


def test_where_bytes_are_missing_what_is_behind_them_is_read_all_the_same() -> None:
    pieces = [b"\x4f", "你好😀".encode("utf-16-be")]
    assert decoded_together(pieces, "ucs2") == "\ufffd你好😀"
    high, low = b"\xd8\x3d", b"\xde\x00"
    assert decoded_together([high], "ucs2") == "\ufffd"
    assert decoded_together([high, high, low], "ucs2") == "\ufffd😀"


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("0500032a0301", Part("42", 3, 1)),
        ("060804012a0302", Part("298", 3, 2)),
        ("0700032a03010504", None),  # its last element is cut off
        ("0b05040b8423f00003070202", Part("7", 2, 2)),  # behind the ports of an application
        ("00", None),
    ],
)
def test_headers_of_parts(header: str, part: Part | None) -> None:
    found, text = headed(bytes.fromhex(header) + b"text")
    assert found == part
    assert text == (b"text" if part else bytes.fromhex(header) + b"text")


def test_a_part_that_cannot_be_of_several_waits_for_nothing() -> None:
    alone = [Part("1", 1, 1), Part("1", 0, 1), Part("1", 2, 3), Part("1", 2, 0), Part("1", 256, 1)]
    assert all(each.alone for each in alone)
    assert not Part("1", 2, 2).alone
    assert not Part("1", 255, 255).alone

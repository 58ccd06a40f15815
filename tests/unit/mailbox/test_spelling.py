"""How a number or a `sid` may be written in what nobody could read."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus

import pytest

from pullstatus.mailbox.erasing import Number, parse_number
from pullstatus.mailbox.spelling import forms, is_found

DIGITS = "8613800138000"
GIVEN = (Number(DIGITS), parse_number("13800138000", "86"), parse_number(f"00{DIGITS}"))

WRITTEN = [
    "8613800138000",
    "+8613800138000",
    "008613800138000",
    "13800138000",
    "013800138000",
    "+86 138 0013 8000",
    "+86-138-0013-8000",
    "+86.138.0013.8000",
    "86/138/0013/8000",
    "(+86)13800138000",
    "+86 (138) 0013-8000",
    "+86 (0)138 0013 8000",
    "+86 (0) 138-0013-8000",
    "0 0-86 138 0013 8000",
    "(0138) 0013 8000",
    "+86\t138\t0013\t8000",
]


def escaped(text: str) -> str:
    """As JSON may write it: each character by its number."""
    return "".join(f"\\u{ord(each):04x}" for each in text)


WAYS = {
    "plain": lambda text: f"<to>{text}</to>",
    "behind a blank": lambda text: f"to {text} ",
    "query": lambda text: f"id=1&to={quote(text, safe='')}&st=X",
    "form": lambda text: f"id=1&to={quote_plus(text)}&st=X",
    "plus for a plus": lambda text: f"to={text.replace(' ', '+')}",
    "query, behind a blank": lambda text: f"to=%20{quote(text, safe='')}%20",
    "form in a form": lambda text: f"data={quote_plus('to=' + quote_plus(text))}",
    "json": lambda text: json.dumps({"to": text}),
    "json, escaped": lambda text: f'{{"to":"{escaped(text)}"}}',
    "json, behind an escape": lambda text: f'{{"to":"\\u0020{text}\\n"}}',
    "json in json": lambda text: json.dumps(f'{{"to":"{escaped(" " + text)}"}}'),
    "json in a form": lambda text: f"data={quote_plus(json.dumps({'to': ' ' + text}))}",
    "escaped json in a form": lambda text: "data=" + quote_plus(f'{{"to":"{escaped(text)}"}}'),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", WRITTEN)
def test_a_number_is_in_it_however_it_is_written(text: str, way: str) -> None:
    written = WAYS[way](text)
    for number in GIVEN:
        assert number.is_in(written.encode()), written
        assert number.is_in(written.encode("utf-16-le")), written


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "text",
    [
        "18613800138000",
        "+86138001380001",
        "+8613800138001",
        "86138\n00138000",
        "861380013800",
        "113800138000",
        "13800, 138000",
        "0000138001380",
    ],
)
def test_what_is_no_such_number_is_not(text: str, way: str) -> None:
    written = WAYS[way](text)
    for number in GIVEN:
        assert not number.is_in(written.encode()), written


@pytest.mark.parametrize("sid", ["8:abc", "8:a b+c", 'a"b/c\\d', "é:1"])
@pytest.mark.parametrize("way", WAYS)
def test_a_sid_is_found_however_it_is_written(sid: str, way: str) -> None:
    if way == "plus for a plus" and "+" in sid:
        return  # nobody can tell what it was
    pattern = re.compile(b"%b(?![0-9A-Za-z])" % re.escape(sid.encode()))
    assert is_found(pattern, WAYS[way](sid).encode(), "")


@pytest.mark.parametrize(
    "piece", [b"%25", b"\\\\", b"\\u005c", b"0 ", b"(0", b"86 1380013800 ", b"+%"]
)
def test_no_bytes_take_long(piece: bytes) -> None:
    """Nor much room, whatever is escaped in them how often."""
    raw = piece * (1 << 16)
    assert len(forms(raw)) < 32
    assert all(len(form) <= len(raw) for form in forms(raw))
    assert not GIVEN[0].is_in(raw)


def test_bytes_that_are_nothing_are_as_they_came() -> None:
    assert forms(b"") == [b""]
    assert forms(b"%zz\\u12\\") == [b"%zz\\u12\\"]
    assert b"\xff" in forms(b"%ff")
    assert forms(b"\\ud83d") == [b"\\ud83d", b"\xed\xa0\xbd"]

"""Whatever comes: each parser reads it or refuses it by name, in a time that its size explains."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import PARSERS, Parser

SLOW_S = 3.0
"""Of processor time, for as much as reaches a parser at most. All take far less, and one whose time
grows with the square of what comes takes far more."""

each = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
PARTS = st.sampled_from(
    [
        *(bytes([byte]) for byte in b"\0\n\t\"',;\\{}[]:=&%/+T \xff"),
        *(b"\r\n", b"\\ud800", b"%00", b"..", b"-1", b"1e400", b"9" * 30, b"NaN", b"null"),
        *(b"\xef\xbb\xbf", b"\xff\xfe", "\u202e\U0001f600".encode()),
    ]
)


@st.composite
def changed(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds, with some of its bytes taken out, put in, repeated or replaced."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        part = draw(PARTS | st.binary(max_size=4) | st.just(data[at : at + size] * 2))
        data = data[:at] + part + data[at + size :]
    return data


def read(parser: Parser, data: bytes) -> float:
    """Give a parser something; returns the processor time that it took."""
    began = time.thread_time()
    with contextlib.suppress(*parser.refusals):
        parser.read(data)
    return time.thread_time() - began


@each
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_comes_is_read_or_refused_by_name(parser: Parser, data: st.DataObject) -> None:
    read(parser, data.draw(changed(parser.seeds) | st.binary(max_size=200)))


@each
def test_what_is_usual_is_read_or_refused_by_name(parser: Parser) -> None:
    for seed in parser.seeds:
        read(parser, seed)


REPEATED = (b"[", b'{"a":', b'"\\', b"\\ud800", b"9", b" ", b",", b"&a=", b"%41", b"\n", b"a:b\r\n")


@each
def test_the_time_it_takes_grows_with_what_comes_and_no_faster(parser: Parser) -> None:
    for part in (*REPEATED, *parser.seeds):
        for begin in (b"", parser.seeds[0][:-1]):
            data = (begin + part * (parser.bytes_max // max(1, len(part))))[: parser.bytes_max]
            assert read(parser, data) < SLOW_S, (parser.name, part)

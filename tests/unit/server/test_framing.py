"""How much may stand around a body, to the byte."""

from __future__ import annotations

from typing import Final

import pytest

from pullstatus import limits
from pullstatus.server.framing import Framing

FREE: Final = limits.HEADER_BYTES_MAX + limits.CALLBACK_QUERY_BYTES_MAX


def test_what_is_no_body_is_bounded_over_reads() -> None:
    framing = Framing()
    assert framing.fits(FREE - 1)
    assert framing.fits(1)
    assert not framing.fits(1)


def test_body_counts_as_none_and_brings_room() -> None:
    framing = Framing()
    assert framing.fits(FREE)
    framing.body(10)
    assert framing.fits(10 + 10 * limits.FRAMING_BYTES_PER_BYTE_MAX)
    assert not framing.fits(1)


def test_body_of_any_size_fits() -> None:
    framing = Framing()
    for _ in range(10):
        framing.body(FREE)
        assert framing.fits(FREE)


def test_next_request_has_the_whole_bound_from_the_next_read_on() -> None:
    framing = Framing()
    framing.body(50)
    framing.whole()
    assert framing.fits(10 * FREE)
    assert framing.fits(FREE)
    assert not framing.fits(1)


def test_body_that_began_in_the_read_of_another_brings_its_room() -> None:
    framing = Framing()
    framing.body(50)
    framing.whole()
    framing.body(10)
    assert framing.fits(5 * FREE)
    assert framing.body_bytes == 10
    assert framing.fits(FREE + 10 * limits.FRAMING_BYTES_PER_BYTE_MAX)
    assert not framing.fits(1)


@pytest.mark.parametrize("size", [1, 7, 32])
def test_chunks_beyond_the_free_ones_are_of_some_size_on_average(size: int) -> None:
    framing = Framing()
    count = 0
    while framing.chunk():
        framing.body(size)
        count += 1
    due = limits.CHUNKS_FREE / (1 - size / limits.CHUNK_BYTES_MIN)
    assert due - 2 < count < due + 2


def test_chunks_of_some_size_have_no_bound_and_a_new_body_begins_anew() -> None:
    framing = Framing()
    for _ in range(3):
        for _ in range(5 * limits.CHUNKS_FREE):
            assert framing.chunk()
            framing.body(limits.CHUNK_BYTES_MIN)
        framing.whole()
    assert all(framing.chunk() for _ in range(limits.CHUNKS_FREE))
    assert not framing.chunk()


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_body_in_chunks_fits_whatever_their_size(chunk: int) -> None:
    framing = Framing()
    for _ in range(5 * FREE // chunk):
        framing.body(chunk)
        assert framing.fits(len(f"{chunk:x}\r\n\r\n") + chunk)

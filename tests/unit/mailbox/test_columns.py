"""Texts of one shape: read as they were, one by one, in little room."""

from __future__ import annotations

import uuid

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pullstatus.mailbox.columns import Column, column, reader, texts_at

_ALIKE = st.tuples(
    st.sampled_from(["", "2:", "A0", "\0", "号"]),
    st.lists(st.from_regex(r"[0-9a-f]{4}-[0-9A-F]{3}", fullmatch=True), min_size=1, max_size=9),
    st.sampled_from(["", "-x", "%s"]),
).map(lambda each: [f"{each[0]}{text}{each[2]}" for text in each[1]])


@example(["1\0", "2\0"])
@example(["\1a", "\0a"])
@given(st.one_of(_ALIKE, st.lists(st.text(max_size=6), min_size=1, max_size=9)))
def test_texts_are_read_as_they_were(texts: list[str]) -> None:
    stored = msgspec.msgpack.encode(column(texts))
    found = msgspec.msgpack.decode(stored, type=Column)
    read = reader(found)
    assert [read(place) for place in range(len(texts))] == texts
    assert texts_at(found, range(len(texts))[::-1]) == texts[::-1]


@pytest.mark.parametrize(
    ("texts", "digits"),
    [
        ([f"8:{number:016x}" for number in range(1 << 60, (1 << 60) + 40)], 40),
        ([str(uuid.UUID(int=number << 64 | 3)).upper() for number in range(0xA0, 0xE0)], 576),
        ([f"138{number * 79190019 % 10**8:08d}" for number in range(40)], 160),
        (["all alike"] * 40, 0),
        (["f" * 300 + str(number) for number in range(9)], 5),
    ],
)
def test_what_is_alike_is_kept_once(texts: list[str], digits: int) -> None:
    """And half a byte for each digit that is not."""
    found = column(texts)
    assert (len(found.digits), sum(map(len, found.texts)) <= 320) == (digits, True)
    assert [reader(found)(place) for place in range(len(texts))] == texts

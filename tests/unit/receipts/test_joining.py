"""Parts of messages are joined whatever becomes of them on their way."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.receipts.joining import MISSING, UNKNOWN, Piece, is_whole, join, sorted_out
from pullstatus.receipts.reports import Report, State
from pullstatus.records import Kind

if TYPE_CHECKING:
    from _typeshed import TraceFunction

PARTS = 4


def text(
    number: int,
    said: str = "",
    key: str = "a",
    seq: int = 0,
    *,
    data: bytes = b"",
    coding: str = "",
) -> Piece:
    said = said or f"<{number}>"
    report = Report(Kind.REPLY, b"%d" % number, text=said, data=data, coding=coding)
    return Piece((key,), PARTS, number, report, seq)


def receipt(number: int, state: State = State.SUCCESS, at_s: int = 0, seq: int = 0) -> Piece:
    said = f"{state}/{number}"
    report = Report(Kind.DELIVERY_STATUS, b"%d" % number, id=said, at_s=at_s, state=state)
    return Piece(("a",), PARTS, number, report, seq)


whole = st.permutations(range(1, PARTS + 1))


@given(order=whole, again=st.lists(st.integers(1, PARTS)))
def test_a_text_is_the_same_in_any_order_and_however_often_its_parts_come(
    order: list[int], again: list[int]
) -> None:
    [message] = sorted_out(text(number) for number in [*order, *again])
    joined = join(message)
    assert is_whole(message)
    assert joined.text == "<1><2><3><4>"
    assert joined.raw == b"1,2,3,4"
    assert joined.part is None


@given(st.sets(st.integers(1, PARTS), min_size=1, max_size=PARTS - 1))
def test_what_is_missing_of_a_text_is_marked_and_the_rest_is_in_order(came: set[int]) -> None:
    pieces = [text(number) for number in came]
    assert not is_whole(pieces)
    found = join(pieces).text
    parts = [f"<{number}>" for number in sorted(came)]
    assert found.replace(MISSING, "") == "".join(parts)
    assert MISSING * 2 not in found
    runs = [number for number in range(1, PARTS + 1) if number not in came]
    assert found.count(MISSING) == sum(number - 1 not in runs for number in runs)


def test_a_character_that_was_cut_is_whole_and_half_of_one_is_no_other() -> None:
    """In any order, where both parts are there; of the other coding each is by itself."""
    pieces = [
        text(number, "\ufffd", data=data, coding=coding)
        for number, data, coding in (
            (2, b"\xde\x00\xd8\x3d", "utf-16-be"),
            (1, b"\x00a\xd8\x3d", "utf-16-be"),
            (4, b"\x00ff", "binary"),
            (3, b"\xde\x01", "utf-16-be"),
        )
    ]
    joined = join(pieces)
    assert joined.text == "a😀😁006666"
    assert (joined.data, joined.coding) == (b"", "")
    assert join([each for each in pieces if each.number != 2]).text == (
        f"a\ufffd{MISSING}\ufffd006666"
    )


@given(
    order=whole,
    states=st.lists(st.sampled_from([State.SUCCESS, State.FAIL]), min_size=PARTS, max_size=PARTS),
    came=st.integers(1, PARTS),
)
def test_a_message_has_arrived_only_if_every_part_has(
    order: list[int], states: list[State], came: int
) -> None:
    """And the first part that has not decides."""
    pieces = [receipt(number, states[number - 1], number) for number in order[:came]]
    joined = join(pieces)
    failed = [piece.report for piece in pieces if piece.report.state is State.FAIL]
    assert is_whole(pieces) == (came == PARTS)
    assert (joined.state is State.SUCCESS) == (is_whole(pieces) and not failed)
    if failed:
        assert joined.id == failed[0].id
    elif not is_whole(pieces):
        assert joined.errmsg == UNKNOWN
        assert f"{came} of {PARTS}" in joined.description
    else:
        assert joined.id == f"SUCCESS/{PARTS}"  # the newest


def test_what_failed_after_it_had_arrived_has_failed() -> None:
    pieces = [receipt(number) for number in range(1, PARTS + 1)]
    [message] = sorted_out([pieces[0], receipt(1, State.FAIL), *pieces[1:]])
    assert join(message).state is State.FAIL


def test_a_reference_that_comes_again_begins_a_new_message() -> None:
    """The older one has lost a part; none of the newer one's is taken for it."""
    old = [text(number, f"old {number}") for number in (1, 2)]
    new = [text(number, f"new {number}") for number in (1, 2, 3, 4)]
    messages = [join(message) for message in sorted_out([*old, *new])]
    assert [joined.text for joined in messages] == [
        f"old 1old 2{MISSING}",
        "new 1new 2new 3new 4",
    ]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, PARTS), st.sampled_from("xy"))))
def test_each_piece_is_of_one_message(story: list[tuple[str, int, str]]) -> None:
    pieces = [text(number, said, key, seq) for seq, (key, number, said) in enumerate(story)]
    messages = sorted_out(pieces)
    assert sorted(piece.seq for message in messages for piece in message) == [*range(len(story))]
    for message in messages:
        assert len({piece.key for piece in message}) == 1
        assert [piece.seq for piece in message] == sorted(piece.seq for piece in message)


def one_by_one(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """The same by its words: each message is looked at, from the newest on."""
    messages: list[list[Piece]] = []
    for piece in pieces:
        for message in reversed(messages):
            same = [each for each in message if each.number == piece.number]
            if message[0].key == piece.key and all(
                each.report.text == piece.report.text for each in same
            ):
                message.append(piece)
                break
        else:
            messages.append([piece])
    return messages


@given(
    st.lists(st.tuples(st.sampled_from("aab"), st.integers(1, PARTS), st.sampled_from("uvwxyz")))
)
def test_a_piece_is_of_the_newest_message_that_can_have_it(
    story: list[tuple[str, int, str]],
) -> None:
    pieces = [text(number, said, key, seq) for seq, (key, number, said) in enumerate(story)]
    assert sorted_out(pieces) == one_by_one(pieces)


MANY = limits.PENDING_ITEMS_MAX
FLOODS = {
    "first parts that differ": ([text(1, f"{at}") for at in range(MANY)], MANY),
    "first parts that differ, and then others": (
        [text(1 + at // (MANY // 4), f"{at}") for at in range(MANY)],
        MANY // 4,
    ),
    "one part": ([text(1)] * MANY, 1),
    "receipts of one message": ([receipt(1 + at % PARTS) for at in range(MANY)], 1),
}


@pytest.mark.parametrize("name", FLOODS)
def test_no_flood_of_one_reference_takes_the_square_of_its_pieces(name: str) -> None:
    """Whoever can send SMS can send it, and everybody waits for it."""
    pieces, messages = FLOODS[name]
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        found = sorted_out(pieces)
    finally:
        sys.settrace(before)
    assert lines <= 40 * MANY
    assert len(found) == messages

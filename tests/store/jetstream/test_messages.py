"""What messages hold comes back as it was put there, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.errors import StoreDamaged, StoreRefused
from pullstatus.store import NO_TICKET, Mailbox, Outcome
from pullstatus.store.chunk import label, pack, placed
from pullstatus.store.jetstream.messages import (
    FORM,
    MARKED_FORM,
    AgainMessage,
    Box,
    Chunk,
    Commit,
    Note,
    Row,
    chunks_of,
    opened,
    parts_of,
    sealed,
)
from pullstatus.store.jetstream.wire import OP_BYTES, Message
from pullstatus.store.values import JournalRow
from pullstatus.store.verbs.tables import ChunkRow
from tests.store.build import NOW_MS, STATUSES, incompressible

OP = b"o" * 16
SUBJECT = "s.0.1.c"


def message(data: bytes, subject: str = SUBJECT, sequence: int = 7) -> Message:
    return Message(subject, sequence, data)


def commit() -> Commit:
    row = JournalRow(STATUSES, 1, 2, Outcome.PULLED, NOW_MS, "192.0.2.1", "k\ud800", 2, "p")
    return Commit(6, 3, [Box(0, 5, 2)], [Row.of(row, 4)], [Note(0, 1, acked_ms=NOW_MS)])


def test_a_value_comes_back_from_where_it_was_put() -> None:
    data = sealed(OP, SUBJECT, commit())
    assert data[:OP_BYTES] == OP
    assert opened(message(data), Commit) == commit()


@given(at=st.integers(0), bit=st.integers(0, 7))
def test_a_message_with_a_flipped_bit_is_none(at: int, bit: int) -> None:
    data = bytearray(sealed(OP, SUBJECT, commit()))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(StoreDamaged):
        opened(message(bytes(data)), Commit)


@pytest.mark.parametrize("size", [0, 1, 16, 24, 25, 60])
def test_a_message_that_was_cut_is_none(size: int) -> None:
    with pytest.raises(StoreDamaged):
        opened(message(sealed(OP, SUBJECT, commit())[:size]), Commit)


def test_a_message_that_lies_elsewhere_or_is_another_is_none() -> None:
    with pytest.raises(StoreDamaged):
        opened(message(sealed(OP, SUBJECT, commit()), "s.0.2.c"), Commit)
    with pytest.raises(StoreDamaged):
        opened(message(sealed(OP, SUBJECT, AgainMessage(1, 1, 1, 1))), Commit)


def test_what_a_later_version_wrote_is_told_apart_from_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pullstatus.store.jetstream.messages.FORM", MARKED_FORM + 1)
    data = sealed(OP, SUBJECT, commit())
    monkeypatch.undo()
    with pytest.raises(StoreRefused, match="later version") as refused:
        opened(message(data), Commit)
    assert not isinstance(refused.value, StoreDamaged)


def test_a_commit_that_tells_of_a_mark_is_for_nobody_who_would_lose_it() -> None:
    """Who does not know of marks knows one form, and takes another for a later version's."""
    plain = commit()
    marked = Commit(6, 3, [Box(0, 5, 2, followed=5, tallied=5)])
    assert sealed(OP, SUBJECT, plain)[OP_BYTES] == FORM
    data = sealed(OP, SUBJECT, marked)
    assert data[OP_BYTES] == MARKED_FORM
    assert opened(message(data), Commit) == marked


def test_a_journal_row_is_told_without_what_is_purged_of_it() -> None:
    row = JournalRow(STATUSES, 11, 10, Outcome.EXPIRED, NOW_MS, "", None, 0, "", NO_TICKET)
    stored = Row.of(row, 4)
    assert stored.journal_row(STATUSES.sdkappid, 10) == row
    cut = stored.journal_row(STATUSES.sdkappid, 14)
    assert (cut.mailbox, cut.first_seq, cut.count) == (Mailbox(STATUSES.sdkappid, 0), 15, 6)


def chunk(first_seq: int, size: int) -> Chunk:
    packed = pack([incompressible(size, first_seq)])
    row = ChunkRow(first_seq, 1, *placed(first_seq, packed))
    return Chunk(row, NOW_MS, label([NO_TICKET]), 1)


@pytest.mark.parametrize("size", [1, 1000, 1001, 3000])
def test_a_chunk_lies_in_as_many_messages_as_it_needs(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is found among others, however many of their messages are missing before and behind."""
    monkeypatch.setattr("pullstatus.store.jetstream.messages.PART_BYTES_MAX", 1000)
    subject = "s.0.1.0.log"
    stored = [chunk(1, 3000), chunk(2, size), chunk(3, 3000)]
    messages = [
        message(sealed(OP, subject, part), subject, sequence)
        for sequence, part in enumerate([part for each in stored for part in parts_of(each)], 10)
    ]
    assert max(len(each.data) for each in messages) < 1200
    [found] = chunks_of(messages[1:-1])
    assert (found.row, found.accepted_ms, found.label) == (stored[1].row, NOW_MS, stored[1].label)
    assert found.sequences == tuple(range(13, 13 + len(parts_of(stored[1]))))
    assert found.at == 13
    assert [each.row for each in chunks_of(messages)] == [each.row for each in stored]

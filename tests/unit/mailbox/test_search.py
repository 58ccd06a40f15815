"""Searching while others work, and beside many copies."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from pullstatus.mailbox import search
from pullstatus.mailbox.following import Follower
from pullstatus.records import Kind
from pullstatus.store import Again, Append, Backlog, JournalRow, Mailbox, Pull, open_store
from tests.harness import status

pytestmark = pytest.mark.anyio
COUNT = 100_000


async def test_mailbox_that_appears_meanwhile_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search is of what there was when it looked, whatever comes between two of its questions."""
    store = await open_store(f"sqlite:///{tmp_path}/store.db?file-system=any&commits=thread")
    backlog = store.backlog
    entry = json.dumps(status(7), separators=(",", ":")).encode()

    async def and_another(sdkappid: int | None = None) -> list[Backlog]:
        found = await backlog(sdkappid)
        if sdkappid is not None:
            return found
        new = Mailbox(len(await backlog()) + 1, Kind.DELIVERY_STATUS)
        await store.append(Append(new, [entry], 0))
        return found

    monkeypatch.setattr(store, "backlog", and_another)
    for known in range(3):
        assert len(await search.by_sid(store, str(status(7)["sid"]))) == known
    await store.close()


@pytest.mark.parametrize("later", [True, False])
async def test_what_is_removed_while_it_is_searched_for_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """It is told neither with the pull that took a later one, nor as what waits."""
    store = await open_store(f"sqlite:///{tmp_path}/store.db?file-system=any&commits=thread")
    mailbox = Mailbox(7, Kind.DELIVERY_STATUS)
    entry = json.dumps(status(7), separators=(",", ":")).encode()
    await store.append(Append(mailbox, [entry] * 4, 0))
    await store.pull(Pull(mailbox, 2, 0))
    if later:
        await store.pull(Pull(mailbox, 1, 5))
    await Follower(store, secrets.token_hex).follow(7)
    journal = store.journal

    async def overtaken(mailbox: Mailbox) -> AsyncIterator[JournalRow]:
        assert await store.purge(left_before_ms=1) == 2
        async for row in journal(mailbox):
            yield row

    monkeypatch.setattr(store, "journal", overtaken)
    found = await search.by_sid(store, str(status(7)["sid"]))
    told = {each.first_seq: each.row and each.row.first_seq for each in found}
    assert told == {3: 3 if later else None, 4: None}
    await store.close()


class Looked(Sequence[Again]):
    """Ranges of two copies each, with one entry between them that is none; counts looks."""

    looks = 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, place: int) -> Again:  # type: ignore[override]
        self.looks += 1
        return Again(3 * place + 11, 2, 5, 1)

    def __iter__(self) -> Iterator[Again]:
        return map(self.__getitem__, range(COUNT))


def test_copy_is_told_by_few_looks_however_many_there_are() -> None:
    copies = Looked()
    for seq, source in ((1, None), (10, None), (11, 5), (12, 6), (13, None)):
        assert search.source_of(seq, copies) == source
    last = 3 * (COUNT - 1) + 11
    copies.looks = 0
    assert [search.source_of(last + n, copies) for n in range(3)] == [5, 6, None]
    assert copies.looks < 3 * 20


def test_copies_of_copies_are_followed_to_the_first() -> None:
    copies = [Again(3, 2, 1, 1), Again(5, 1, 4, 2), Again(7, 1, 5, 3), Again(9, 1, 6, 4)]
    originals = {seq: search.original_of(seq, copies) for seq in range(1, 10)}
    assert {seq: first for seq, first in originals.items() if first} == {
        3: 1,
        4: 2,
        5: 2,
        7: 2,
        9: 6,
    }


def test_damaged_copies_end() -> None:
    """Whatever they say to be copies of: of themselves, or of one another."""
    assert search.original_of(5, [Again(5, 1, 5, 1)]) is None
    assert search.original_of(5, [Again(4, 1, 5, 1), Again(5, 1, 4, 2)]) == 4

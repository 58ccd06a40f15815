"""Sums of all mailboxes, and the worst of them, by blocks: the same as over all rows."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pullstatus.records import Kind
from pullstatus.store import Backlog, Mailbox
from pullstatus.store.verbs.sums import BlockSums, worst_of
from tests.store.build import sums_of, worst_in

BLOCK = 2  # mailboxes of one kind in a block

changes = st.lists(
    st.tuples(
        st.integers(1, 7),
        st.sampled_from(Kind),
        st.integers(0, 3),  # that wait
        st.integers(1, 9),  # since when
    ),
    max_size=300,
)


def put(sums: BlockSums, rows: Mapping[Mailbox, Backlog], block: int, kind: Kind) -> None:
    """Tell what a block sums up to."""
    numbers = range(block * BLOCK, block * BLOCK + BLOCK)
    mine = [rows[box] for box in (Mailbox(number, kind) for number in numbers) if box in rows]
    own = sums_of(mine)[kind]
    counts = [getattr(own, name) for name in own.__struct_fields__ if name != "oldest_ms"]
    sums.put(block, kind, own.oldest_ms, max(row.waiting for row in mine), counts)


@given(changes, st.integers(0, 3))
def test_blocks_know_the_sums_and_the_worst_of_all(
    story: list[tuple[int, Kind, int, int]], count: int
) -> None:
    """However often each has changed, and if nothing waits any more."""
    sums, rows = BlockSums(), dict[Mailbox, Backlog]()
    for number, kind, waiting, since_ms in story:
        mailbox = Mailbox(number, kind)
        oldest_ms = since_ms if waiting else None
        rows[mailbox] = Backlog(mailbox, 5, 5 - waiting, waiting, oldest_ms=oldest_ms)
        put(sums, rows, number // BLOCK, kind)
        if number % 3 == 0:
            assert sums.worst(count) == sums.worst(count)
    assert sums.totals() == sums_of(list(rows.values()))
    blocks = sums.worst(count)
    assert len(blocks) <= 2 * count
    of_blocks = [row for row in rows.values() if row.mailbox.sdkappid // BLOCK in blocks]
    assert measures(worst_of(of_blocks, count), count) == measures(
        worst_in(list(rows.values()), count), count
    )


def measures(rows: list[Backlog], count: int) -> tuple[list[int | None], list[int]]:
    """The ages of the oldest and the sizes of the fullest; which of equal ones is told is open."""
    oldest = sorted(row.oldest_ms or 0 for row in rows)[:count]
    return list(oldest), sorted((row.waiting for row in rows), reverse=True)[:count]

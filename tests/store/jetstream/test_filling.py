"""A store is filled in commits that nodes take, and nothing of what was there before stays."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from pullstatus.records.hours import HOUR_MS
from pullstatus.store import Act, chunk
from pullstatus.store.fingerprints import KEY
from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.engine import JetStreamStore
from pullstatus.store.jetstream.messages import PART_BYTES_MAX, ChunkPart, opened
from pullstatus.store.transfer import (
    Batch,
    Copied,
    Hand,
    Key,
    Mark,
    Migration,
    Names,
    Nonce,
    Part,
    Prints,
    Role,
    Row,
    SetAside,
    Stage,
    Standing,
    Stored,
    Tallied,
    key_of,
)
from pullstatus.store.values import JournalRow, Outcome, Setting
from tests.store.build import NOW_MS, STATUSES, chain_of, incompressible, ticket
from tests.store.jetstream import scheme

pytestmark = pytest.mark.anyio

MANY = 600
COPYING = Migration(bytes(16), Role.TARGET, Stage.COPYING, "peer")


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[JetStreamStore]:
    with scheme.cluster(tmp_path) as url:
        await scheme.init(url, partitions=None)
        end = await scheme.open_end(url, target=True)
        assert await end.enter(COPYING, expected=None)
        await end.replace(Standing, [], [Standing(STATUSES, MANY, 0, *(0,) * 7)])
        yield end
        await end.close()


async def rows_of(end: JetStreamStore, part: Part) -> list[Row]:
    found: list[Row] = []
    while step := await end.rows(part, key_of(found[-1]) if found else None, [STATUSES]):
        found += step
    return found


def stored(kind: type[Stored], seq: int, entry: bytes) -> Stored:
    _, bounds, body = chunk.placed(0, chunk.plain([entry]))
    return kind(STATUSES, seq, 1, NOW_MS, bounds, body, None, True)


LARGE = incompressible(3 * PART_BYTES_MAX + 1)
NUMBERS = range(1, MANY + 1)
FEW = range(1, 16)  # more of `LARGE` than go into one commit
KEYS = [
    KEY.pack((NOW_MS // 1000 + number * HOUR_MS // 1000) << 16, number) for number in range(1100)
]
STEPS: dict[str, Sequence[Row]] = {
    "settings": [Setting(f"{number:04}", b"1", number, ticket()) for number in NUMBERS],
    "acts": chain_of({n: Act("me", "do", "", "{}", NOW_MS, ticket()) for n in NUMBERS}),
    "marks": [Mark(f"{number:04}", number, "here") for number in NUMBERS],
    "tallies of many days": [
        Tallied(STATUSES.sdkappid, 3, 24 * (n // 2) + n % 2, (1, 2)) for n in range(2 * 1100)
    ],
    "chunks": [stored(Stored, number, b"%d" % number) for number in NUMBERS],
    "large chunks": [stored(Stored, number, LARGE) for number in FEW],
    "chunks set aside": [stored(SetAside, number, b"%d" % number) for number in NUMBERS],
    "large chunks set aside": [stored(SetAside, number, LARGE) for number in FEW],
    "pulls": [
        JournalRow(*(STATUSES, n, 1, Outcome.PULLED, NOW_MS, "", f"key {n}", 1, ""), ticket())
        for n in NUMBERS
    ],
    "copies": [Copied(STATUSES, number, 1, 1, number) for number in NUMBERS],
    "readers": [Hand(STATUSES, f"{n:04}", *(NOW_MS, 0, n, 1, NOW_MS, 1)) for n in NUMBERS],
    "pages": [
        Hand(STATUSES, f"{n:04}", *(NOW_MS, 0, n, 1, NOW_MS, 1), kept=True, page=[b"1"])
        for n in NUMBERS
    ],
    "large pages": [
        Hand(STATUSES, f"{n:04}", *(NOW_MS, 0, n, 1, NOW_MS, 1), kept=True, page=[LARGE])
        for n in FEW
    ],
    "batches": [Batch("scope", f"{n:04}", bytes(16), 1, NOW_MS) for n in NUMBERS],
    "fingerprints": [Prints(NOW_MS, key) for key in KEYS[:MANY]],
    "fingerprints of many hours": [
        Prints(NOW_MS, b"".join(KEYS[at : at + 250])) for at in range(0, 1100, 250)
    ],
    "nonces": [Nonce(STATUSES.sdkappid, f"{number:04}", NOW_MS) for number in NUMBERS],
    "names": [Names(number, STATUSES.sdkappid, (number,), b"1") for number in NUMBERS],
}


@pytest.mark.parametrize("what", STEPS)
async def test_a_step_is_put_and_dropped_in_as_many_commits_as_it_takes(
    target: JetStreamStore, what: str
) -> None:
    """The bus in memory takes no more at once than nodes do."""
    rows = STEPS[what]
    part = type(rows[0])
    for _ in range(2):  # a run that was cut off may put what is there
        await target.replace(part, [], rows)
        assert await rows_of(target, part) == rows
    if part is not JournalRow:
        await target.replace(part, rows[::2], [])
        assert await rows_of(target, part) == rows[1::2]
        await target.replace(part, rows[1::2], [])
        assert await rows_of(target, part) == []


async def test_a_page_that_was_given_very_often_is_put(target: JetStreamStore) -> None:
    row = JournalRow(*(STATUSES, 1, 1, Outcome.PULLED, NOW_MS, "", None, 1, ""), ticket())
    for given in (3, 10_000_000, 10_000_001):
        told = [
            JournalRow(
                *(STATUSES, row.first_seq, 1, row.outcome, NOW_MS, "", None, 1, "", row.ticket),
                *("reader", given),
            )
        ]
        await target.replace(JournalRow, [], told)
        assert await rows_of(target, JournalRow) == told


def bodies_in(end: JetStreamStore) -> list[bytes]:
    """What lies there of chunks of the mailbox, a part of one in each message."""
    place, bus = scheme.LAYOUT.application(STATUSES.sdkappid), scheme.bus_of(end.name)
    newest = bus.newest(place.stream)
    found = snapshots.all_of(bus, place.stream, f"{place.prefix}.{STATUSES.holds}.>", newest)
    return sorted(opened(message, ChunkPart).body for message in found)


@pytest.mark.parametrize("kind", [Stored, SetAside])
@pytest.mark.parametrize("parts", [(1, 1, 1), (3, 3, 3), (3, 1, 2), (1, 3, 1)])
async def test_nothing_stays_of_what_is_put_again(
    target: JetStreamStore, kind: type[Stored], parts: Sequence[int]
) -> None:
    """As by each pass when it is erased meanwhile: of the newest chunk, too, and of all of them."""
    now: dict[Key, Stored] = {}
    steps = itertools.product(parts, ((1, 2, 3), (3,), (2, 3), (1,), (1, 3)))
    for number, (count, seqs) in enumerate(steps):
        size = (count - 1) * PART_BYTES_MAX + 10
        rows = [stored(kind, seq, incompressible(size, 3 * number + seq)) for seq in seqs]
        await target.replace(kind, [], rows)
        now |= {key_of(row): row for row in rows}
        assert await rows_of(target, kind) == list(now.values())
        bodies = [row.body for row in now.values()]
        assert bodies_in(target) == sorted(
            body[at : at + PART_BYTES_MAX]
            for body in bodies
            for at in range(0, len(body), PART_BYTES_MAX)
        )
    await target.replace(kind, list(now.values()), [])
    assert bodies_in(target) == []

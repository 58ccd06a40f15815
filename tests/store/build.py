"""Short ways to say what a test does to a store, and what it then sees there."""

import asyncio
import base64
import itertools
import os
import random
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import apsw
import lz4.block

from pullstatus import limits
from pullstatus.mailbox.following import Follower
from pullstatus.records import Kind
from pullstatus.store import (
    Act,
    ActRow,
    Again,
    Append,
    Aside,
    Backlog,
    Entry,
    Fingerprints,
    Follow,
    Followed,
    JournalRow,
    Mailbox,
    Named,
    Once,
    Outcome,
    Page,
    Park,
    Pull,
    Redeliver,
    RepeatKey,
    Setting,
    Store,
    Sums,
    Tickets,
    While,
)
from pullstatus.store.acts import NOTHING_BEFORE, chained
from pullstatus.store.gathering.thread import ThreadChannel
from pullstatus.store.gathering.writer import Writer
from pullstatus.store.sqlite import SqliteStore
from pullstatus.store.sqlite.guarded import GuardedLog
from pullstatus.store.values import Chunk, Contents

NOW_MS = 1_800_000_000_000
REPEAT_MS = limits.INGEST_REPEAT_S * 1000
PULL_KEY_MS = limits.PULL_KEY_S * 1000

STATUSES = Mailbox(1_400_006_666, Kind.DELIVERY_STATUS)
REPLIES = Mailbox(1_400_006_666, Kind.REPLY)
OTHERS = Mailbox(1_400_006_667, Kind.DELIVERY_STATUS)
PARKED = Mailbox(STATUSES.sdkappid, Aside.PARKED)
PENDING = Mailbox(STATUSES.sdkappid, Aside.PENDING)
RESTED = f"application/{STATUSES.sdkappid}"

_numbers = itertools.count(1)


def records(count: int) -> list[bytes]:
    """Records that are like no others, of several lengths, with commas inside."""
    return [
        b'{"n":%d,"pad":"%s"}' % (number, b"x" * (number % 7))
        for number in itertools.islice(_numbers, count)
    ]


def incompressible(size: int, number: int = 1) -> bytes:
    """An entry that takes about as much room as it is long, the same one for each number."""
    return base64.b85encode(random.Random(number).randbytes(size))[:size]


def packed_chunk(entries: Sequence[bytes]) -> Chunk:
    """A packed chunk, whatever is in it."""
    bounds = b"\x01" + struct.pack(f"<{len(entries)}H", *map(len, entries))
    return Chunk(len(entries), bounds, lz4.block.compress(b",".join(entries), store_size=False))


def append(
    mailbox: Mailbox, entries: list[bytes], at_ms: int = NOW_MS, *, key: RepeatKey | None = None
) -> Append:
    return Append(mailbox, entries, at_ms, key)


def repeat_key(key: str, body: bytes = b"body", scope: str = "gateway/1") -> RepeatKey:
    return RepeatKey(scope, key, body.ljust(16, b"."))


def fingerprinted(
    mailbox: Mailbox,
    entries: list[bytes],
    numbers: list[int],
    at_ms: int = NOW_MS,
    scope: str = "a",
) -> Append:
    """An append whose entries have fingerprints; equal numbers are equal records to the sender."""
    items = [(NOW_MS // 1000 - number, b"%016d" % number) for number in numbers]
    return Append(mailbox, entries, at_ms, fingerprints=Fingerprints(scope, items))


ticket = Tickets(os.urandom)


def new_act(action: str = "redeliver", detail: str = "{}", at_ms: int = NOW_MS) -> Act:
    """An act like no other."""
    return Act("me", action, "lost", detail, at_ms, ticket())


def redeliver(
    mailbox: Mailbox,
    *ranges: tuple[int, int],
    act: Act | None = None,
    while_set: While | None = None,
) -> Redeliver:
    """A step of an act, of one of its own if none is given."""
    return Redeliver(mailbox, list(ranges), NOW_MS, act or new_act(), while_set, ticket())


def chain_of(acts: Mapping[int, Act]) -> list[ActRow]:
    """These acts by their numbers, as rows that are chained."""
    rows: list[ActRow] = []
    before = NOTHING_BEFORE
    for act_id, act in acts.items():
        before = chained(before, act_id, act)
        rows.append(ActRow(act_id, act, before))
    return rows


async def acts_of(store: Store, *, newest_first: bool = False) -> list[ActRow]:
    return [row async for row in store.acts(newest_first=newest_first)]


def parked(
    appended: Append,
    items: list[bytes],
    items_max: int = 100,
    bytes_max: int = 10_000,
    kind: Aside = Aside.PARKED,
) -> Park:
    """What is no record yet, put aside beside an append; equal items are equal to the sender."""
    mailbox = Mailbox(appended.mailbox.sdkappid, kind)
    prints = Fingerprints(f"a/{mailbox.sdkappid}", [(0, item[:16].ljust(16)) for item in items])
    return Park(appended, mailbox, items, prints, items_max, bytes_max)


PROOF = "random=7226249334 time=1800000000"


def pull(
    mailbox: Mailbox, count_max: int = 100, at_ms: int = NOW_MS, key: str | None = None
) -> Pull:
    return Pull(mailbox, count_max, at_ms, "192.0.2.1", key, PROOF)


def once(
    mailbox: Mailbox,
    nonce: str,
    until_ms: int = NOW_MS,
    at_ms: int = NOW_MS,
    key: str | None = None,
) -> Pull:
    return Pull(mailbox, 1, at_ms, "192.0.2.1", key, PROOF, Once(nonce, until_ms))


def page(first_seq: int, entries: list[bytes], waiting: int, *, repeated: bool = False) -> Page:
    return Page(first_seq, len(entries), b",".join(entries), waiting, repeated)


EMPTY = Page(0, 0, b"", 0)


async def forget(store: Store, before_ms: int) -> int:
    """Forget all that is remembered from before."""
    return await store.forget(accepted_before_ms=before_ms, now_ms=before_ms)


async def follow_all(store: Store, sdkappid: int | None = None) -> None:
    """Move the mark of every mailbox to its tail, with nothing derived."""
    for row in await store.backlog(sdkappid):
        if not row.mailbox.aside and row.followed.through < row.accepted:
            await store.follow(Follow(row.mailbox, row.followed, row.accepted, None, []))


async def derive_all(store: Store) -> None:
    """As a server's follower does, with what is derived of records."""
    await Follower(store, lambda size: os.urandom(size).hex()).work()


async def purge(store: Store, *, left_before_ms: int) -> int:
    """Remove what left before, once it is followed: nothing goes before that."""
    await follow_all(store)
    return await store.purge(left_before_ms=left_before_ms)


async def remove(store: Store, mailbox: Mailbox, through: int) -> int:
    """Remove what has left up to a number, once it is followed: nothing goes before that."""
    await follow_all(store, mailbox.sdkappid)
    return await store.remove(mailbox, through)


async def together(store: Store, *operations: Append | Pull) -> list[object]:
    """What operations are answered that arrive at once; their errors are among the answers."""
    return await asyncio.gather(
        *[
            store.append(operation) if isinstance(operation, Append) else store.pull(operation)
            for operation in operations
        ],
        return_exceptions=True,
    )


async def entries_of(store: Store, mailbox: Mailbox, first_seq: int = 1) -> list[Entry]:
    return [entry async for entry in store.entries(mailbox, first_seq)]


async def data_of(store: Store, mailbox: Mailbox) -> list[bytes]:
    return [entry.data async for entry in store.entries(mailbox)]


async def waiting_in(store: Store, mailbox: Mailbox) -> int:
    """Entries between cursor and tail."""
    row = await backlog_of(store, mailbox)
    return 0 if row is None else row.waiting


async def settings_of(store: Store, since: int = 0) -> list[Setting]:
    return [setting async for setting in store.settings(since)]


async def again_of(store: Store, mailbox: Mailbox) -> list[Again]:
    return [again async for again in store.again(mailbox)]


async def oldest_of(store: Store) -> int | None:
    """When the oldest entry that waits anywhere was accepted."""
    rows = await store.backlog()
    return min((row.oldest_ms for row in rows if row.oldest_ms is not None), default=None)


async def journal_of(
    store: Store, mailbox: Mailbox, first_seq: int = 1, *, newest_first: bool = False
) -> list[JournalRow]:
    return [row async for row in store.journal(mailbox, first_seq, newest_first=newest_first)]


async def backlog_of(store: Store, mailbox: Mailbox) -> Backlog | None:
    return next(
        (row for row in await store.backlog(mailbox.sdkappid) if row.mailbox == mailbox), None
    )


def sums_of(rows: Sequence[Backlog]) -> dict[Contents, Sums]:
    """How mailboxes stand together, by what they hold."""
    counts = [name for name in Sums.__struct_fields__ if name not in ("mailboxes", "oldest_ms")]
    found: dict[Contents, Sums] = {}
    for kind in (*Kind, *Aside):
        mine = [row for row in rows if row.mailbox.kind is kind]
        found[kind] = Sums(
            min((row.oldest_ms for row in mine if row.oldest_ms is not None), default=None),
            len(mine),
            *[sum(_count(row, name) for row in mine) for name in counts],
        )
    return found


def worst_in(rows: Sequence[Backlog], count: int) -> list[Backlog]:
    """The worst of some mailboxes, by each of both measures; of equal ones the first."""
    waiting = [row for row in rows if row.waiting and not row.mailbox.aside]
    oldest = sorted(waiting, key=lambda row: (row.oldest_ms or 0, row.mailbox))[:count]
    fullest = sorted(waiting, key=lambda row: (-row.waiting, row.mailbox))[:count]
    return [row for row in sorted(rows, key=lambda row: row.mailbox) if row in oldest + fullest]


def _count(row: Backlog, name: str) -> int:
    found: int | Followed = getattr(row, name)
    return found.through if isinstance(found, Followed) else found


async def drain(store: Store, mailbox: Mailbox, count_max: int = 100) -> list[Page]:
    """Pull until an empty page, which is not among them."""
    pages = []
    while (taken := await store.pull(pull(mailbox, count_max))).count:
        pages.append(taken)
    return pages


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for what gives no signal when it comes true."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while not condition():
        assert loop.time() - started < within_s
        await asyncio.sleep(0.005)


def check_journal(
    rows: list[JournalRow], cursor: int, purged: int = 0, erased: Collection[int] = ()
) -> None:
    """Journal rows must say, without gap or overlap, where everything went that left.

    `erased` are the numbers of entries that were, which a page passes over.
    """
    next_seq = purged + 1
    for row in rows:
        assert row.first_seq == next_seq
        assert row.count >= 1
        pulled = row.outcome is Outcome.PULLED and not row.mailbox.aside
        passed = sum(row.first_seq <= seq < row.first_seq + row.count for seq in erased)
        assert row.count - passed <= row.count_max or not pulled
        next_seq += row.count
    assert next_seq == cursor + 1
    assert len({row.pull_id for row in rows}) == len(rows)


def by_application(found: Sequence[Named]) -> list[Named]:
    """Blocks of names whose order among applications is told by no engine."""
    return sorted(found, key=lambda block: block.sdkappid)


def by_all(found: Sequence[Named]) -> list[Named]:
    """The same, in no order at all."""
    return sorted(found, key=lambda block: (block.sdkappid, block.slots, block.body))


def writer_of(store: Store) -> Writer:
    """Where operations of an embedded store gather; it knows what is in memory."""
    assert isinstance(store, SqliteStore)
    return store._writer


def connection_of(store: Store) -> apsw.Connection:
    """The connection of a store whose engine is in this process."""
    assert isinstance(store, SqliteStore)
    channel = store._writer._channel
    assert isinstance(channel, ThreadChannel)
    log = channel._committer._log
    assert isinstance(log, GuardedLog)
    return log.log._connection

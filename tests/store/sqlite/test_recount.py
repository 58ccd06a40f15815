"""Statistics over whole histories, against a reader who has counted along.

Whatever happens to records after they were accepted, in whatever order, and wherever the follower
is: what was counted of an hour stays. Only what was damaged before anybody has counted it is
counted as that, and nothing is told of what a former owner of the number was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pullstatus.apps import Application, Operator
from pullstatus.apps.values import application_setting
from pullstatus.errors import StoreDamaged
from pullstatus.json import ascii_json
from pullstatus.mailbox import reindexing
from pullstatus.mailbox.erasing import Number, erase_number
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.parking import Item
from pullstatus.mailbox.statistics import counted
from pullstatus.mailbox.tallies import Column
from pullstatus.records import Kind
from pullstatus.records.hours import hour_of
from pullstatus.store import (
    Act,
    Append,
    Aside,
    Change,
    Count,
    Discard,
    Mailbox,
    Outcome,
    Park,
    Pull,
    Redeliver,
    Store,
    Tally,
    Unpark,
    backup_store,
    open_store,
    restore_store,
)
from pullstatus.store.migration import move_store
from tests.harness import reply, status

BOXES = Mailbox(7, Kind.DELIVERY_STATUS), Mailbox(7, Kind.REPLY)
PARKED = Mailbox(7, Aside.PARKED)
BEGIN_MS = 1_767_283_200_000
HOUR_MS = 3_600_000
CODES = {
    "DELIVRD": Column.SUCCESS,
    "MB:1": 0,
    "MK:0001": 1,
    "UNDELIV": 2,
    "MX:0012": 3,
    "TE:0003": 4,
}

_tickets = itertools.count(1)


def no_progress(_done: int, _total: int) -> None:
    """Nobody looks."""


class History:
    """A store, what was done to it, and what its statistics have to be.

    Attributes:
        counts: of each hour and column.
        untold: of each entry that is not followed yet: mailbox and number -> hour and column.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "0.db"
        self.now_ms = BEGIN_MS
        self.counts: Counter[tuple[int, int]] = Counter()
        self.untold: dict[tuple[Mailbox, int], tuple[int, int]] = {}
        self._accepted: Counter[Mailbox] = Counter()
        self._parked = 0
        self._damaged = self._is_set_back = False
        self._owners = 0
        self._originals: dict[Mailbox, set[int]] = {box: set() for box in BOXES}

    async def open(self) -> None:
        self.store: Store = await open_store(
            f"sqlite:///{self._file}?commits=thread&file-system=any"
        )

    def by(self) -> Operator:
        return Operator("me", self.now_ms, lambda size: next(_tickets).to_bytes(size).hex())

    async def append(self, box: Mailbox, codes: list[str]) -> None:
        await self.store.append(self._append(box, codes))

    def _append(self, box: Mailbox, codes: list[str]) -> Append:
        entries = []
        for code in codes:
            number = next(_tickets) % 3
            outcome = "SUCCESS" if code == "DELIVRD" else "FAIL"
            record = (
                reply(number)
                if box.kind is Kind.REPLY
                else status(number, errmsg=code, report_status=outcome)
            )
            entries.append(ascii_json(json.dumps(record, separators=(",", ":")).encode()))
            column = Column.REPLIES if box.kind is Kind.REPLY else CODES[code]
            self._accepted[box] += 1
            seq = self._accepted[box]
            self._originals[box].add(seq)
            self.untold[box, seq] = hour_of(self.now_ms), column
            self.counts[hour_of(self.now_ms), column] += 1
        return Append(box, entries, self.now_ms, ticket=self._ticket())

    async def park(self, box: Mailbox) -> None:
        """Two items that nobody could read, an hour before one of them can be."""
        item = Item("tencent", "carrier", self.now_ms, "192.0.2.1", "it is none", b"{}")
        entries = [msgspec.json.encode(item)] * 2
        nothing = Append(box, [], self.now_ms, ticket=self._ticket())
        await self.store.park(Park(nothing, PARKED, entries, None, 99, 9999))
        self.now_ms += HOUR_MS
        became = [Outcome.PULLED, Outcome.EXPIRED]
        read = [self._append(box, ["MK:0001"])]
        first_seq = self._parked + 1
        await self.store.unpark(Unpark(PARKED, first_seq, became, read, [], self.now_ms, None))
        self._parked += 2

    async def pull(self, box: Mailbox) -> None:
        await self.store.pull(Pull(box, 3, self.now_ms, ticket=self._ticket()))

    async def redeliver(self, box: Mailbox) -> None:
        await self.pull(box)
        act = Act("me", "redeliver", "", "{}", self.now_ms, self._ticket())
        rows = [row async for row in self.store.journal(box) if row.outcome is Outcome.PULLED]
        there = {entry.seq async for entry in self.store.entries(box)}
        due = [
            (seq, 1)
            for row in rows
            for seq in range(row.first_seq, row.first_seq + row.count)
            if seq in self._originals[box] & there
        ]
        if due:
            self._accepted[box] += await self.store.redeliver(
                Redeliver(box, due, self.now_ms, act, ticket=self._ticket())
            )

    async def expire(self, box: Mailbox) -> None:
        await self.store.discard(Discard(box, Outcome.EXPIRED, self.now_ms, ticket=self._ticket()))

    async def erase(self, _box: Mailbox) -> None:
        await erase_number(
            self.store, Number("8613800000001", 2), by=self.by(), progress=no_progress
        )
        self._told()

    async def purge(self, box: Mailbox) -> None:
        await self.pull(box)
        await self.store.purge(left_before_ms=self.now_ms + 1)

    async def follow(self, _box: Mailbox) -> None:
        await Follower(self.store, self.by().random_hex).work()
        self._told()

    async def reindex(self, _box: Mailbox) -> None:
        await reindexing.reindex(self.store, by=self.by(), progress=no_progress)
        self._told()

    async def damage(self, box: Mailbox) -> None:
        """One chunk; what of it was not followed is counted as damaged from then on."""
        before = {entry.seq async for entry in self.store.entries(box)}
        await self.store.close()
        connection = apsw.Connection(str(self._file))
        connection.execute(
            "UPDATE chunk SET body = zeroblob(length(body)) WHERE key ="
            " (SELECT max(c.key) FROM chunk c JOIN mailbox m ON c.key >> 40 = m.id"
            " WHERE m.sdkappid = ? AND m.kind = ?)",
            (box.sdkappid, box.holds),
        )
        connection.close()
        await self.open()
        self._damaged = True
        lost = before - {entry.seq async for entry in self.store.entries(box)}
        for seq in lost:
            if (box, seq) in self.untold:
                hour, column = self.untold.pop((box, seq))
                self.counts[hour, column] -= 1
                self.counts[hour, Column.REPLIES if box.holds else 0] += 1
                self.counts[hour, Column.UNREADABLE] += 1

    async def restore(self, _box: Mailbox) -> None:
        if self._damaged:  # there is no backup of such a store
            return
        copy = self._folder / f"{next(_tickets)}.backup"
        await backup_store(f"sqlite:///{self._file}", copy, no_progress)
        await self.store.close()
        self._file = self._folder / f"{next(_tickets)}.db"
        act = Act("me", "restore", "", "{}", self.now_ms, self._ticket())
        await restore_store(f"sqlite:///{self._file}", copy, act=act, progress=no_progress)
        await self.open()

    async def migrate(self, _box: Mailbox) -> None:
        target = self._folder / f"{next(_tickets)}.db"
        act = Act("me", "migrate", "", "{}", self.now_ms, self._ticket())
        await self.store.close()
        await move_store(
            f"sqlite:///{self._file}",
            f"sqlite:///{target}",
            act=act,
            phase=lambda _what: contextlib.nullcontext(no_progress),
            damaged=BOXES,
            prove_setting=lambda _name, _value: None,
            accept=lambda _names: None,
        )
        self._file = target
        await self.open()

    async def set_back(self, _box: Mailbox) -> None:
        """The clock, by an hour; but of a number that changed hands that mixes the hours."""
        if not self._owners:
            self.now_ms -= HOUR_MS
            self._is_set_back = True

    async def recreate(self, _box: Mailbox) -> None:
        """The number is somebody else's, from the next hour on."""
        if self._is_set_back:
            return
        self._owners += 1
        former = (self._accepted[BOXES[0]], self._accepted[BOXES[1]])
        owned = Application(7, (), self.now_ms, owner=str(self._owners), former=former)
        setting = await self.store.setting(application_setting(7))
        change = Change(
            application_setting(7),
            msgspec.json.encode(owned),
            None if setting is None else setting.value,
        )
        assert await self.store.change(change)
        self.now_ms += HOUR_MS
        self.counts.clear()
        self._told()

    async def check(self) -> None:
        """Right after whatever it was, and once all is followed."""
        found = await counted(self.store, 7, 0, 9_999_999_999)
        told: Counter[tuple[int, int]] = Counter()
        for hour, each in found.hourly().items():
            columns = [*each.failed, each.success, each.replies, each.unreadable]
            told.update({(hour, column): count for column, count in enumerate(columns)})
        assert +told == +self.counts

    def _told(self) -> None:
        self.untold.clear()

    def _ticket(self) -> bytes:
        return next(_tickets).to_bytes(16)


WAYS = (
    *("pull", "redeliver", "expire", "erase", "purge", "follow", "reindex"),
    *("restore", "migrate", "damage", "park", "recreate", "set_back"),
)
BOX = st.sampled_from((BOXES[0], *BOXES))
APPEND = st.tuples(
    st.just("append"), BOX, st.lists(st.sampled_from(sorted(CODES)), min_size=1, max_size=5)
)
HOUR = st.tuples(st.just("hour"), BOX, st.none())
WAY = st.tuples(st.sampled_from(WAYS), BOX, st.none())
# What happens to records, between records that come, in one hour and the next.
STEPS = st.lists(st.tuples(APPEND, WAY, st.one_of(WAY, HOUR)), min_size=2, max_size=6).map(
    lambda rounds: [step for each in rounds for step in each]
)


async def play(folder: Path, steps: list[tuple[str, Mailbox, list[str] | None]]) -> None:
    history = History(folder)
    await history.open()
    for name, box, codes in steps:
        if name == "hour":
            history.now_ms += HOUR_MS
        elif codes is not None:
            await history.append(box, codes)
        else:
            await getattr(history, name)(box)
        await history.check()
    await history.follow(BOXES[0])
    await history.check()
    await history.store.close()


ALL = sorted(CODES)
REMOVED_THEN_REINDEXED = [
    ("append", BOXES[0], ALL),
    ("follow", BOXES[0], None),
    ("purge", BOXES[0], None),
    ("hour", BOXES[0], None),
    ("append", BOXES[0], ALL),
    ("follow", BOXES[0], None),
    ("reindex", BOXES[0], None),
]


@settings(max_examples=25, deadline=None)
@given(STEPS)
@example(REMOVED_THEN_REINDEXED)
def test_what_was_counted_stays_whatever_happens(
    steps: list[tuple[str, Mailbox, list[str] | None]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder), steps))


def test_what_was_damaged_before_it_was_counted_is_counted_as_that(tmp_path: Path) -> None:
    """In its hour, so that the sums stay those of all that was accepted; later damage is not."""

    async def play() -> None:
        history = History(tmp_path)
        await history.open()
        for box in BOXES:
            await history.append(box, ["DELIVRD"] * 3)
            await history.follow(box)
            history.now_ms += HOUR_MS
            await history.append(box, ["MK:0001"] * 2)
            await history.damage(box)
            await history.check()
            await history.pull(box)
            await history.check()
            await history.follow(box)
            await history.damage(box)
            await history.check()
        await history.reindex(BOXES[0])
        await history.check()
        await history.store.close()

    asyncio.run(play())


def test_what_is_added_to_a_damaged_tally_does_not_make_it_sound(tmp_path: Path) -> None:
    """It says that it is damaged until it is begun anew."""
    file = tmp_path / "store.db"
    hour = 2_026_010_203

    async def play() -> None:
        url = f"sqlite:///{file}?commits=thread&file-system=any"
        store = await open_store(url)
        await store.count(Count(7, [Tally(17, hour, (1,))], BEGIN_MS))
        await store.close()
        with contextlib.closing(apsw.Connection(str(file))) as connection:
            connection.execute("UPDATE tally SET counts = x'ffff'")
        store = await open_store(url)
        await store.count(Count(7, [Tally(17, hour, (1,))], BEGIN_MS))
        with pytest.raises(StoreDamaged):
            await store.tallies(7, hour, hour)
        assert await store.tallies(7, hour, hour, whole=False) == [Tally(17, hour, ())]
        await store.count(Count(7, [Tally(17, hour, (5,))], BEGIN_MS, anew=True))
        assert await store.tallies(7, hour, hour) == [Tally(17, hour, (5,))]
        await store.close()

    asyncio.run(play())


@pytest.mark.parametrize("box", BOXES)
def test_what_is_followed_while_a_damaged_tally_is_begun_anew_is_counted_in_it(
    tmp_path: Path, box: Mailbox
) -> None:
    """Of an hour of which something is removed only that tally tells it."""

    async def play() -> None:
        history = History(tmp_path)
        await history.open()
        await history.append(box, ["DELIVRD"] * 5)
        await history.follow(box)
        await history.purge(box)  # three of them
        await history.store.close()
        with contextlib.closing(apsw.Connection(str(tmp_path / "0.db"))) as connection:
            connection.execute("UPDATE tally SET counts = x'ffff'")
        await history.open()
        count, tries = history.store.count, 0

        async def overtaken(operation: Count) -> bool:
            nonlocal tries
            tries += 1
            if tries < 4:
                # Of the other mailbox, too, which there was not at first.
                await history.append(BOXES[tries % 2], ["DELIVRD"] * tries)
                await history.follow(box)
            return await count(operation)

        history.store.count = overtaken  # type: ignore[method-assign]
        await history.reindex(box)
        history.counts[
            hour_of(history.now_ms), Column.REPLIES if box.holds else Column.SUCCESS
        ] -= 3
        await history.check()
        assert tries == 4
        await history.store.close()

    asyncio.run(play())

"""How many reports came in, and what they said: counted by the hour in which each was accepted.

That hour never changes, so what was counted once stays as it is: a receipt that comes late counts
when it comes, a copy by redelivery does not count again. The rules are those of `tallies`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.errors import SendsNotReported, StoreDamaged, StoreUnavailable
from pullstatus.mailbox.following import READ_COUNT, Piece, found_by_nothing, let_others, read
from pullstatus.mailbox.names import namings
from pullstatus.mailbox.owners import Owners, read_owner
from pullstatus.mailbox.search import copies_of
from pullstatus.mailbox.standing import of_records, standing_now
from pullstatus.mailbox.tallies import (
    EVER,
    LAST_HOUR,
    WIDTH,
    Column,
    sends_series,
    sends_tally,
    set_back_of,
)
from pullstatus.receipts.sends import Sends
from pullstatus.records import Kind
from pullstatus.records.hours import hour_of, written
from pullstatus.records.outcomes import CLASSES
from pullstatus.store import Backlog, Count, Naming, RepeatKey, Store, Tally


class Statistics(msgspec.Struct, frozen=True):
    """What was counted of an application in some hours.

    Attributes:
        success: delivery statuses of SMS that arrived.
        failed: those of all others, by their class, 0 to 4 (`records.outcomes`).
        replies: what people wrote back.
        unreadable: of all these, what was damaged before it could be read. Such a delivery status
            is counted as a failure of class 0.
        requests, accepted, billed: SMS that were to be sent, those that were taken for it, and the
            parts that these are billed as. None: the application has never reported its sends.
    """

    success: int
    failed: tuple[int, ...]
    replies: int
    unreadable: int
    requests: int | None = None
    accepted: int | None = None
    billed: int | None = None

    @property
    def receipts(self) -> int:
        """All delivery statuses."""
        return self.success + sum(self.failed)

    def sends(self) -> tuple[int, int, int]:
        """`requests`, `accepted` and `billed`, for whoever asks for nothing else.

        Raises:
            SendsNotReported: the application has never reported any.
        """
        if self.requests is None or self.accepted is None or self.billed is None:
            raise SendsNotReported
        return self.requests, self.accepted, self.billed


async def count_sends(
    store: Store,
    live: LiveApplication,
    sends: Sends,
    *,
    sender: str,
    now_ms: int,
    ticket: bytes,
    key: str | None = None,
    body: bytes = b"",
) -> bool:
    """Count what a sender reports of its sends, and keep their names; durable as a whole on return.

    Args:
        sender: the name of who reports; keys are told apart by it.
        ticket: what the store knows this by; see `store.Tickets`.
        key: the sender's Idempotency-Key, with the `body` it came with: the same report sent again
            within `limits.INGEST_REPEAT_S` is acknowledged again and counted once.

    Returns:
        whether it was counted, and not a repeat.

    Raises:
        KeyReused: the key came before with another body.
        SettingChanged: the application is no longer as `live` knows it; nothing happened.
        StoreUnavailable: nothing happened; trying again can help.
        OutcomeUnknown: it may have happened; do not answer.
    """
    application = live.application
    repeat_key = None
    if key is not None:
        scope = "/".join(filter(None, (sender, f"{application.sdkappid}/sends", application.owner)))
        repeat_key = RepeatKey(scope, key, hashlib.blake2b(body, digest_size=16).digest())
    series = sends_series(application.owner)
    hours = [(hour, sends_tally(*sent)) for hour, sent in sorted(sends.hours.items())]
    if hours:
        hours.append((EVER, sends_tally(1, 0, 0)))
    names: list[Naming] = []
    for naming in namings(sends.names, application.owner):
        names.append(naming)
        if not len(names) % _TURN:
            await let_others()
    return await store.count(
        Count(
            application.sdkappid,
            [Tally(series, hour, counts) for hour, counts in hours],
            now_ms,
            repeat_key,
            live.while_set,
            ticket,
            names,
        )
    )


_TURN: Final = 16  # blocks of names after which others have their turn


class Counted:
    """What was counted of an application in a run of hours."""

    def __init__(self, tallies: Mapping[int, Sequence[int]], *, reports_sends: bool) -> None:
        """Of each hour, `yyyymmddhh`, in which there was anything, its tally."""
        self._tallies = tallies
        self._reports_sends = reports_sends

    def total(self) -> Statistics:
        """Of all hours together."""
        return self._sum(self._tallies)

    def hourly(self) -> dict[int, Statistics]:
        """Of each hour, in order; one in which nothing came is left out."""
        return {hour: self._sum([hour]) for hour in sorted(self._tallies)}

    def daily(self) -> dict[int, Statistics]:
        """Of each day, `yyyymmdd`, in order; the first and the last may be parts of one."""
        days = groupby(sorted(self._tallies), lambda hour: hour // 100)
        return {day: self._sum(list(hours)) for day, hours in days}

    def _sum(self, hours: Collection[int]) -> Statistics:
        tally = [sum(self._tallies[hour][column] for hour in hours) for column in range(WIDTH)]
        return Statistics(
            tally[Column.SUCCESS],
            tuple(tally[failure] for failure in CLASSES),
            tally[Column.REPLIES],
            tally[Column.UNREADABLE],
            tally[Column.REQUESTS] if self._reports_sends else None,
            tally[Column.ACCEPTED] if self._reports_sends else None,
            tally[Column.BILLED] if self._reports_sends else None,
        )


async def statistics(store: Store, sdkappid: int, first_hour: int, last_hour: int) -> Statistics:
    """What was counted of an application from one hour to another, both included.

    Exact at the moment of asking. What a former owner of the number was sent is not counted.

    Args:
        first_hour, last_hour: `yyyymmddhh` in UTC+8.
    """
    return (await counted(store, sdkappid, first_hour, last_hour)).total()


async def counted(store: Store, sdkappid: int, first_hour: int, last_hour: int) -> Counted:
    """The same, hour by hour."""
    owners = await read_owner(store, sdkappid)
    owner = owners.of(sdkappid)
    # In the hour in which a number changed hands a tally does not tell whose an entry is.
    changed = hour_of(owner.created_ms) if owner is not None and any(owner.former) else 0
    series = sends_series("" if owner is None else owner.owner)
    sums: dict[int, list[int]] = defaultdict(lambda: [0] * WIDTH)

    def add(hour: int, columns: Iterable[int], counts: Sequence[int]) -> None:
        if first_hour <= hour <= last_hour and any(counts):
            for column, count in zip(columns, counts, strict=False):
                sums[hour][column] += count

    told, untold, standing = await _told_and_untold(store, sdkappid, first_hour, last_hour, owners)
    for tally in told:
        if tally.series == series or (tally.series in _SERIES and tally.hour > changed):
            add(tally.hour, range(WIDTH), tally.counts)
    for tally in untold:
        add(tally.hour, range(WIDTH), tally.counts)
    if changed and first_hour <= changed:
        for row in standing:
            for tally in await _of_change(store, row, owners.former(row.mailbox), changed):
                add(tally.hour, range(WIDTH), tally.counts)
    reports = await store.tallies(sdkappid, EVER, EVER)
    return Counted(sums, reports_sends=any(tally.series == series for tally in reports))


_SERIES: Final = frozenset(map(int, Kind))


async def _told_and_untold(
    store: Store, sdkappid: int, first_hour: int, last_hour: int, owners: Owners
) -> tuple[list[Tally], list[Tally], list[Backlog]]:
    """Tallies, what is added to them once all is followed, and how mailboxes stood then."""
    for _ in range(limits.OVERTAKEN_MAX):
        before = await of_records(store, sdkappid)
        told = await store.tallies(sdkappid, first_hour, last_hour)
        standing = await of_records(store, sdkappid)
        if [row.followed for row in before] != [row.followed for row in standing]:
            continue
        untold: list[Tally] = []
        for row in standing:
            untold += await _untold(store, row, owners.former(row.mailbox))
        now = {row.mailbox: row for row in await of_records(store, sdkappid)}
        if all(_is_kept(row, now[row.mailbox]) for row in standing):
            return told, untold, standing
    raise StoreUnavailable("what was counted is just being made anew; ask again")


def _is_kept(before: Backlog, now: Backlog) -> bool:
    """Whether all that was behind the mark is there still; else it was not read whole."""
    return now.followed.turn == before.followed.turn and now.purged <= before.followed.tallied


async def _untold(store: Store, row: Backlog, former: range) -> list[Tally]:
    """What entries add to tallies that no tally tells, just as the follower will count them.

    Args:
        former: where entries are that were a former owner's.
    """
    mailbox, told_seq = row.mailbox, row.followed.tallied
    first_seq = max(told_seq + 1, former.stop)
    if first_seq > row.accepted:
        return []
    copies = await copies_of(store, mailbox, first_seq)
    piece = Piece(mailbox, first_seq, told_seq, found_by_nothing, copies)
    # What is nowhere, at the end, is counted by nobody; the follower says that it is missing.
    with contextlib.suppress(StoreDamaged):
        await read(store, piece, row.accepted, let_others)
    return piece.tallies()


async def _of_change(store: Store, row: Backlog, former: range, changed: int) -> list[Tally]:
    """What was followed, and its tally tells not, just as the follower has counted it.

    Args:
        former: where entries are that were a former owner's.
        changed: the hour whose tally tells nothing, as no tally before it does.
    """
    known = await store.tallies(row.mailbox.sdkappid, changed, LAST_HOUR, whole=False)
    # Up to the hour from which a clock was set back, an entry may stand behind those of later ones.
    last_hour = max(changed, set_back_of(row.mailbox, known))
    for _ in range(limits.OVERTAKEN_MAX):
        first_seq, last_seq = max(row.purged + 1, former.stop), row.followed.tallied
        if first_seq > last_seq:
            return []
        copies = await copies_of(store, row.mailbox, first_seq)
        piece = Piece(row.mailbox, first_seq, first_seq - 1, found_by_nothing, copies)
        with contextlib.suppress(StoreDamaged):
            while piece.through < last_seq and _latest(piece) <= last_hour:
                await read(store, piece, min(last_seq, piece.through + READ_COUNT), let_others)
        row = await standing_now(store, row.mailbox)
        if row.purged < first_seq or not piece.missing:
            return [tally for tally in piece.tallies() if tally.hour <= changed]
    raise StoreUnavailable("what was counted is just being removed; ask again")


def _latest(piece: Piece) -> int:
    return written(max([*piece.counts, *piece.missing], default=0))

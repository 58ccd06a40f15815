"""The writing verbs of a store whose operations are gathered: what goes through the writer.

Long work goes in small commits, with pauses for everyone else's.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from pullstatus.store.gathering.operations import (
    NOT_COUNTED,
    Changes,
    Erase,
    Forget,
    Mark,
    Purge,
    Removed,
    Upkeep,
    adds,
)
from pullstatus.store.gathering.pace import STEP_S, Pace
from pullstatus.store.gathering.writer import Submits
from pullstatus.store.values import (
    NO_TICKET,
    Act,
    Append,
    Backlog,
    Change,
    Count,
    Discard,
    Erased,
    Follow,
    Health,
    Mailbox,
    Noted,
    Park,
    PutAside,
    Redeliver,
    Release,
    Unfollow,
    Unpark,
)
from pullstatus.store.window import Gone, UnderWay

STEP_REMOVED = 3200  # of what is removed in one commit, however fast: as much as 32 full chunks
STEP_MAILBOXES = 64  # from which a commit removes in turn
STEP_CHUNKS = 32  # that one commit erases in
STEP_MARKS = 500  # noted in one commit
STEP_PAUSE_S = 0.02  # everybody else's turn, when it is erased and noted

BEYOND: Final = (1 << 40) - 1  # a number that no entry has


class GatheredStore(ABC):
    """A store with a writer; see `pullstatus.store.Store` for what each verb promises.

    Attributes:
        created: whether opening it has made the store.
        epoch: 1, and one more with every restore.
        revision: of the setting that was written last, when it was opened.
    """

    def __init__(self, writer: Submits, *, created: bool) -> None:
        """Take over `writer`; whoever inherits closes it."""
        self.created = created
        self.epoch = 1
        self.revision = 0
        self._writer = writer

    @abstractmethod
    def _check_room(self) -> None:
        """Refuse what adds entries while there is hardly room for what pulls need.

        Raises:
            StoreFull: there is none.
        """

    @abstractmethod
    async def _due_for_purge(self, left_before_ms: int) -> list[Mailbox]:
        """The mailboxes that something left before."""

    @abstractmethod
    async def backlog(self, sdkappid: int | None = None) -> list[Backlog]:
        """See `Store.backlog`."""

    async def append(self, operation: Append, gone: Gone | None = None) -> int:
        """See `Store.append`. Refused while there is hardly room for what pulls need."""
        self._check_room()
        return await self._writer.submit(operation, gone)

    async def park(self, operation: Park, gone: Gone | None = None) -> PutAside:
        """See `Store.park`. Refused when `append` is."""
        self._check_room()
        return await self._writer.submit(operation, gone)

    async def unpark(self, operation: Unpark) -> int:
        """See `Store.unpark`. Refused when `append` is, if anything is to be stored."""
        if adds(operation):
            self._check_room()
        return await self._writer.submit(operation)

    async def change(
        self, *changes: Change, act: Act | None = None, ticket: bytes = NO_TICKET
    ) -> bool:
        """See `Store.change`."""
        return await self._writer.submit(Changes(changes, act, ticket))

    async def mark(self, times: Mapping[str, Noted]) -> None:
        """See `Store.mark`."""
        pairs = sorted(times.items())
        for start in range(0, len(pairs), STEP_MARKS):
            if start:
                await asyncio.sleep(STEP_PAUSE_S)
            await self._writer.submit(Mark(tuple(pairs[start : start + STEP_MARKS])))

    async def redeliver(self, operation: Redeliver) -> int:
        """See `Store.redeliver`. Refused as `append` is: copies need room, too."""
        self._check_room()
        return await self._writer.submit(operation)

    async def release(self, operation: Release) -> int:
        """See `Store.release`."""
        return await self._writer.submit(operation)

    async def discard(self, operation: Discard) -> int:
        """See `Store.discard`."""
        return await self._writer.submit(operation)

    async def forget(self, *, accepted_before_ms: int, now_ms: int, hours_before: int = 0) -> int:
        """See `Store.forget`."""
        total = 0
        pace = self._pace()
        due = Forget(accepted_before_ms, now_ms, STEP_REMOVED, STEP_S, hours_before)
        while (step := await self._step(pace, due)).more:
            total += step.count
            await self._pause(pace)
        return total + step.count

    async def erase(
        self,
        mailbox: Mailbox,
        *,
        at_ms: int,
        holding: Sequence[Sequence[bytes]] = (),
        seqs: Collection[int] = (),
        through: int | None = None,
        counted: bool = False,
    ) -> Erased:
        """See `Store.erase`."""
        meant = tuple(map(tuple, holding)), frozenset(seqs)
        rows = await self.backlog(mailbox.sdkappid)
        tail = next((row.accepted for row in rows if row.mailbox == mailbox), 0)
        waiting = left = 0
        next_seq = 1 if holding else min(meant[1], default=0)
        while next_seq:
            step = await self._writer.submit(
                Erase(mailbox, next_seq, STEP_CHUNKS, at_ms, *meant, through, counted)
            )
            waiting += step.waiting
            left += step.left
            if step.next_seq == NOT_COUNTED:
                return Erased(waiting, left, not_counted=True)
            if not step.next_seq:
                break
            next_seq = step.next_seq if step.next_seq <= tail else BEYOND
            await asyncio.sleep(STEP_PAUSE_S)
        return Erased(waiting, left)

    async def purge(self, *, left_before_ms: int) -> int:
        """See `Store.purge`."""
        due = await self._due_for_purge(left_before_ms)
        return await self._remove(due, left_before_ms)

    async def remove(self, mailbox: Mailbox, through: int) -> int:
        """See `Store.remove`."""
        return await self._remove([mailbox], 0, through)

    async def _remove(
        self, mailboxes: Sequence[Mailbox], left_before_ms: int, through: int | None = None
    ) -> int:
        total = 0
        pace = self._pace()
        due = deque(mailboxes)
        while due:
            abreast = tuple(due.popleft() for _ in range(min(len(due), STEP_MAILBOXES)))
            step = await self._step(
                pace, Purge(abreast, left_before_ms, STEP_REMOVED, STEP_S, through)
            )
            total += step.count
            due += step.mailboxes
            if due:
                await self._pause(pace)
        return total

    async def purge_rest(self, sdkappid: int) -> None:
        """See `Store.purge_rest`. An embedded store, or a database, leaves nothing."""
        del sdkappid

    async def follow(self, operation: Follow) -> bool:
        """See `Store.follow`. Not refused when `append` is: what is to be removed waits for it."""
        return await self._writer.submit(operation)

    async def unfollow(self, operation: Unfollow) -> bool:
        """See `Store.unfollow`."""
        return await self._writer.submit(operation)

    async def count(self, operation: Count) -> bool:
        """See `Store.count`. Refused when `append` is."""
        self._check_room()
        return await self._writer.submit(operation)

    def following(self) -> AbstractAsyncContextManager[bool]:
        """See `Store.following`. An embedded store is served by one process."""
        return contextlib.nullcontext(True)  # noqa: FBT003

    async def commit_s(self) -> float:
        """See `Store.commit_s`."""
        writer = self._writer
        return writer.report.figures.commit_s + writer.under_way().oldest_s

    def under_way(self) -> UnderWay:
        """See `Store.under_way`."""
        return self._writer.under_way()

    def health(self) -> Health | None:
        """See `Store.health`."""
        return None

    def _pace(self) -> Pace:
        return Pace(asyncio.get_running_loop().time(), self._writer.report.figures.operations)

    async def _step(self, pace: Pace, operation: Upkeep) -> Removed:
        pace.begin_step(asyncio.get_running_loop().time())
        return await self._writer.submit(operation)

    async def _pause(self, pace: Pace) -> None:
        """Everybody else's turn after a step of upkeep."""
        now_s = asyncio.get_running_loop().time()
        await asyncio.sleep(pace.pause_s(now_s, self._writer.report.figures.operations))

"""How many parked items of number 0 may wait: so many of each token, whatever others bring.

    PARKED of number 0    a b a a b a a        where three of each may wait
                          '-' leaves                 the oldest of those of the token that has more;
                          b a b a a                  what stands before them and stays goes to the
                                                     tail, since a cursor never moves back

An application's items are kept within their bound by the commit that parks them. Number 0's belong
to tokens that know nothing of one another, so that commit parks them all, and of one that has more
than it may the oldest leave in a turn of the server, a moment later. None is refused for what
others have parked, and none leaves for it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from pullstatus import limits
from pullstatus.apps import Operator
from pullstatus.apps.operator import SERVER, RandomHex
from pullstatus.apps.values import NOBODY
from pullstatus.errors import SettingChanged, StoreDamaged
from pullstatus.mailbox.parking import decode_item, parked_mailbox
from pullstatus.mailbox.standing import standing_of
from pullstatus.records.hours import DAY_MS, HOUR_MS
from pullstatus.store import Act, Backlog, Outcome, Store, Unpark

__all__ = ["Bounds"]

_STEP_ITEMS: Final = 100  # of one commit, which everybody else waits for
_STEP_BYTES: Final = 4 * 1024 * 1024
_MAILBOX: Final = parked_mailbox(NOBODY)


class _Brought(msgspec.Struct):
    """What matters here of an item, as it is stored: see `parking.Item`."""

    token: str


_decode: Final = msgspec.json.Decoder(_Brought).decode


class _Waiting(NamedTuple):
    """An item that waits; one that is damaged is no token's."""

    seq: int
    token: str | None = None
    size: int = 0


class Bounds:
    """What keeps them; each item is read for it once in a process."""

    def __init__(self, store: Store, random_hex: RandomHex) -> None:
        """To be told the time; any number of processes may do this beside each other."""
        self._store = store
        self._random_hex = random_hex
        self._waiting = deque[_Waiting]()
        self._items = Counter[str]()
        self._bytes = Counter[str]()
        self._came = 0  # of how many it is known that they are within the bounds
        self._last_act: Act | None = None

    async def keep(self, now_ms: int) -> int:
        """Let leave what is beyond them; returns how many items did.

        Where nothing has come, nothing is read.

        Raises:
            StoreUnavailable: some are left for the next time, for which this is to be called again.
        """
        row = await standing_of(self._store, _MAILBOX)
        if row is None or row.accepted == self._came:
            return 0
        await self._look(row)
        count = 0
        beyond = self._beyond()
        try:
            for step in self._steps(beyond):
                count += await self._let_go(step, beyond, now_ms)
        except (SettingChanged, StoreDamaged):  # with the next turn; its own calls are told
            return count
        self._came = row.accepted
        return count

    async def _look(self, row: Backlog) -> None:
        """Know what waits: forget what has left, and read what came."""
        first, last = row.accepted - row.waiting + 1, row.accepted
        while self._waiting and self._waiting[0].seq < first:
            gone = self._waiting.popleft()
            if gone.token is not None:
                self._items[gone.token] -= 1
                self._bytes[gone.token] -= gone.size
        next_seq = self._waiting[-1].seq + 1 if self._waiting else first
        async for entry in self._store.entries(_MAILBOX, next_seq):
            if entry.seq > last:
                break
            self._pass_damaged(next_seq, entry.seq)
            next_seq = entry.seq + 1
            token, size = _decode(entry.data).token, len(entry.data)
            self._waiting.append(_Waiting(entry.seq, token, size))
            self._items[token] += 1
            self._bytes[token] += size
        self._pass_damaged(next_seq, last + 1)

    def _pass_damaged(self, first: int, end: int) -> None:
        self._waiting.extend(map(_Waiting, range(first, end)))

    def _beyond(self) -> set[int]:
        """The numbers of those that are to leave."""
        items, size = self._items.copy(), self._bytes.copy()

        def has_more(token: str) -> bool:
            much = items[token] > limits.PARKED_ITEMS_MAX or size[token] > limits.PARKED_BYTES_MAX
            return much and items[token] > 1  # the newest stays, however long it is

        having = {token for token in items if has_more(token)}
        beyond: set[int] = set()
        for each in self._waiting:
            if not having:
                break
            if each.token in having:
                beyond.add(each.seq)
                items[each.token] -= 1
                size[each.token] -= each.size
                if not has_more(each.token):
                    having.remove(each.token)
        return beyond

    def _steps(self, beyond: set[int]) -> Iterator[list[_Waiting]]:
        """What waits, from the head to the last that leaves, in steps that nobody notices."""
        last = max(beyond, default=0)
        step: list[_Waiting] = []
        size = 0
        for each in self._waiting:
            if each.seq > last:
                break
            step.append(each)
            size += 0 if each.seq in beyond else each.size
            if len(step) == _STEP_ITEMS or size >= _STEP_BYTES:
                yield step
                step, size = [], 0
        if step:
            yield step

    async def _let_go(self, step: Sequence[_Waiting], beyond: set[int], now_ms: int) -> int:
        """Let a step's items leave, with copies of those that stay; returns how many have none."""
        stays = [each.seq for each in step if each.seq not in beyond]
        entries = await self._store.entries_at(_MAILBOX, stays) if stays else []
        found = {entry.seq: decode_item(entry.data) for entry in entries}
        outcomes: list[Outcome] = []
        back: list[bytes] = []
        for each in step:
            item = found.get(each.seq)
            if each.seq in beyond:
                outcomes.append(Outcome.EXPIRED)
            elif item is None:
                outcomes.append(Outcome.QUARANTINED)
            elif item.at_ms < now_ms - limits.PARKED_DAYS * DAY_MS:
                outcomes.append(Outcome.EXPIRED)  # its copy would have its days anew, for ever
            else:
                outcomes.append(Outcome.PUT_BACK)
                number = item.number or each.seq
                back.append(msgspec.structs.replace(item, number=number).encoded())
        by = Operator(SERVER, now_ms, self._random_hex)
        act = self._act(by) if back else None
        await self._store.unpark(
            Unpark(_MAILBOX, step[0].seq, outcomes, [], back, now_ms, act, ticket=by.ticket())
        )
        return outcomes.count(Outcome.EXPIRED)

    def _act(self, by: Operator) -> Act:
        """The act that copies are of: one for an hour, as there may be some each second."""
        act = self._last_act
        if act is None or by.now_ms - act.at_ms >= HOUR_MS:
            self._last_act = act = by.act("parked put back", sdkappid=NOBODY)
        return act
